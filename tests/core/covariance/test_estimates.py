"""Standard errors by the delta method. Oracles: formulas derived by hand, SciPy's quantiles, Monte Carlo, NIST."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy import stats

from torchmin_nb import LeastSquaresWrapper, MinimizeWrapper, curve_fit
from torchmin_nb.errors import ArgumentError, ArgumentTypeError, ClosureError, CovarianceWarning
from torchmin_nb.nist import NIST

T = torch.linspace(0, 3, 20, dtype=torch.float64)
Y = 2 * T + 1 + 0.3 * torch.cos(17 * T)
TIGHT = dict(ftol=1e-14, xtol=1e-14, gtol=1e-14)


def line(dtype=torch.float64):
    """A fitted line, its parameters, and its covariance."""
    slope, offset = (torch.nn.Parameter(torch.zeros((), dtype=dtype)) for _ in range(2))
    optimizer = LeastSquaresWrapper([("slope", slope), ("offset", offset)], "lm")
    optimizer.step(lambda: slope * T.to(dtype) + offset - Y.to(dtype))
    return slope, offset, optimizer.covariance(lambda: slope * T.to(dtype) + offset - Y.to(dtype))


def test_a_ratio_by_hand():
    """Var(b/a) = (b/a)² (Var a/a² + Var b/b² − 2 Cov/(a b))."""
    slope, offset, covariance = line()
    a, b = slope.item(), offset.item()
    (aa, ab), (_, bb) = covariance.matrix
    expected = abs(b / a) * np.sqrt(aa / a**2 + bb / b**2 - 2 * ab / (a * b))
    for function in (
        lambda: offset / slope,
        lambda slope, offset: offset / slope,
        lambda offset, slope: offset / slope,
    ):
        estimate = covariance.of(function)
        assert estimate.value.item() == pytest.approx(b / a)
        assert estimate.standard_error.item() == pytest.approx(expected, rel=1e-12)
        assert estimate.value.shape == estimate.standard_error.shape == ()
    assert repr(estimate) == "0.509 ± 0.060"


def test_a_nonlinear_function_by_monte_carlo():
    _, _, covariance = line()
    estimate = covariance.of(lambda slope, offset: torch.stack([torch.exp(slope / 5), slope * offset]))
    means = np.array([float(value) for value in covariance.values.values()])
    draws = np.random.default_rng(0).multivariate_normal(means, covariance.matrix, 200_000)
    drawn = np.stack([np.exp(draws[:, 0] / 5), draws[:, 0] * draws[:, 1]])
    errors = estimate.standard_error.numpy()
    np.testing.assert_allclose(
        np.cov(drawn) / np.outer(errors, errors), estimate.covariance / np.outer(errors, errors), atol=0.03
    )
    np.testing.assert_allclose(estimate.variance, np.diag(estimate.covariance), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_identity_gives_the_covariance(dtype):
    slope, offset, covariance = line(dtype)
    estimate = covariance.of(lambda: torch.stack([slope, offset]))
    np.testing.assert_allclose(estimate.covariance, covariance.matrix, rtol=1e-10)
    errors = [error.item() for error in covariance.standard_errors().values()]
    np.testing.assert_allclose(estimate.standard_error, errors, rtol=1e-10)
    assert estimate.value.dtype is torch.float64


@pytest.mark.parametrize("name", ["Misra1a", "Thurber"])
def test_certified_standard_deviations(name):
    problem = NIST[name]
    b = torch.nn.Parameter(torch.tensor(problem.starts[1], dtype=torch.float64))
    optimizer = LeastSquaresWrapper([("b", b)], dict(method="lm", x_scale="jac", **TIGHT))
    optimizer.step(lambda: problem.residuals(b))
    estimate = optimizer.covariance().of(lambda b: b)
    np.testing.assert_allclose(estimate.standard_error, problem.deviations, rtol=1e-6)


def test_bands_of_a_line_by_the_textbook():
    """ŷ ± t s √(1/m + (x − x̄)²/Σ(xᵢ − x̄)²), and with 1 + … for a new measurement."""
    slope, offset, covariance = line()
    x = torch.tensor([-1.0, 1.5, 9.0], dtype=torch.float64)
    residuals = (slope * T + offset - Y).detach()
    s = np.sqrt(float(residuals @ residuals) / 18)
    assert covariance.residual_deviation == pytest.approx(s)
    assert covariance.degrees_of_freedom == 18
    share = (1 / 20 + (x - T.mean()) ** 2 / ((T - T.mean()) ** 2).sum()).numpy()
    for level in (0.95, 0.5):
        t = stats.t.ppf((1 + level) / 2, 18)
        bands = covariance.bands(lambda x: slope * x + offset, x, level=level, sigma=s)
        np.testing.assert_allclose(bands.high - bands.value, t * s * np.sqrt(share), rtol=1e-9)
        np.testing.assert_allclose(bands.value - bands.low, t * s * np.sqrt(share), rtol=1e-9)
        np.testing.assert_allclose(bands.new_high - bands.value, t * s * np.sqrt(1 + share), rtol=1e-9)
        np.testing.assert_allclose(bands.value - bands.new_low, t * s * np.sqrt(1 + share), rtol=1e-9)
    fit = curve_fit(lambda x, a, b: a * x + b, T, Y)
    again = fit.bands(x, level=0.5)
    np.testing.assert_allclose(again.new_high, bands.new_high, rtol=1e-6)
    np.testing.assert_allclose(again.high, bands.high, rtol=1e-6)


def test_bands_of_known_deviations_are_normal():
    fit = curve_fit(lambda x, a, b: a * x + b, T, Y, sigma=0.3, absolute_sigma=True)
    bands = fit.bands([0.0])
    assert fit.covariance.degrees_of_freedom is None
    assert bands.new_low is None
    assert ((bands.high - bands.value) / bands.standard_error).item() == pytest.approx(stats.norm.ppf(0.975))
    assert fit.bands([0.0], sigma=0.3).new_low is not None


def test_bands_of_functions_with_any_arguments():
    fit = curve_fit(lambda x, *b: b[0] + b[1] * x[0] * x[1], (T, T.cos()), Y, [0.0, 0.0])
    bands = fit.bands((T, T.cos()))
    np.testing.assert_allclose(bands.value, fit((T, T.cos())))


def test_bands_need_data():
    with pytest.warns(CovarianceWarning):
        fit = curve_fit(lambda x, a, b: a * x + b, [0.0, 1.0], [1.0, 2.0])
    with pytest.raises(ArgumentError, match="2 data for 2 parameters"):
        fit.bands([0.0])


@pytest.mark.parametrize(("given", "match"), [({"level": 95}, "between 0 and 1"), ({"sigma": -1.0}, "negative")])
def test_arguments_of_bands(given, match):
    *_, covariance = line()
    with pytest.raises(ArgumentError, match=match):
        covariance.bands(lambda x, slope: slope * x, T, **given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_undetermined_directions_where_they_enter(dtype):
    """Only the sum of the first two parameters matters; units far apart."""
    b = torch.nn.Parameter(torch.tensor([1.0, 1.0, 0.0], dtype=dtype))
    t, y = T.to(dtype), Y.to(dtype)
    optimizer = LeastSquaresWrapper([("b", b)], "trf")
    optimizer.step(lambda: (b[0] + 1e3 * b[1]) * t + b[2] - y)
    with pytest.warns(CovarianceWarning, match="only 2 of 3"):
        covariance = optimizer.covariance(lambda: (b[0] + 1e3 * b[1]) * t + b[2] - y)
    parts = lambda: torch.stack([b[0], b[1], b[2], b[0] + 1e3 * b[1], b[2] ** 2, b[0] + b[2]])  # noqa: E731
    estimate = covariance.of(parts)
    assert estimate.standard_error.isinf().tolist() == [True, True, False, False, False, True]
    *_, known = line()
    more = np.sqrt(18 / 17)  # the residual variance counts three parameters, not two
    errors = known.standard_errors()
    assert estimate.standard_error[3].item() == pytest.approx(more * errors["slope"].item(), rel=1e-3)
    assert estimate.standard_error[2].item() == pytest.approx(more * errors["offset"].item(), rel=1e-3)
    assert np.isinf(estimate.covariance[0]).all()
    assert estimate.covariance[2, 3] == pytest.approx(more**2 * known.matrix[0, 1], rel=1e-3)
    bands = covariance.bands(lambda x: b[0] * x + b[2], T[:1])
    assert bands.high.isfinite().all()  # at x = 0 the undetermined slope does not enter


def test_loss_covariances_and_approximate_ones():
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    closure = lambda: 0.5 * (x[0] - 1) ** 2 + 2 * (x[1] + 1) ** 2  # noqa: E731
    optimizer = MinimizeWrapper([x], "BFGS")
    optimizer.step(closure)
    assert optimizer.covariance(closure).of(lambda: x.sum()).variance.item() == pytest.approx(1.25)
    approximate = optimizer.covariance()
    expected = approximate.matrix.sum()
    assert approximate.of(lambda: x.sum()).variance.item() == pytest.approx(expected)


def test_a_covariance_that_is_nearly_singular_loses_no_digits():
    """A polynomial of degree 7: its coefficients are correlated to 1 − 1e-9, its values are determined well."""
    powers = torch.arange(8, dtype=torch.float64)
    b = torch.nn.Parameter(torch.zeros(8, dtype=torch.float64))
    design = (T + 10)[:, None] ** powers
    optimizer = LeastSquaresWrapper([b], dict(method="lm", x_scale="jac"))
    optimizer.step(lambda: design / design.norm(dim=0) @ b - Y)
    estimate = optimizer.covariance().of(lambda: design / design.norm(dim=0) @ b)
    basis = np.linalg.qr(np.vander(T.numpy() - 1.5, 8))[0]
    leverage = (basis**2).sum(axis=1)
    s = optimizer.covariance().residual_deviation
    np.testing.assert_allclose(estimate.standard_error, s * np.sqrt(leverage), rtol=1e-4)


def test_fixed_entries_have_no_error():
    a, b = (torch.nn.Parameter(torch.ones((), dtype=torch.float64)) for _ in range(2))
    optimizer = LeastSquaresWrapper([{"params": [("a", a)]}, {"params": [("b", b)], "bounds": (1.0, 1.0)}], "trf")
    optimizer.step(lambda: a * T + b - Y)
    covariance = optimizer.covariance()
    estimate = covariance.of(lambda: torch.stack([a, b, a + b]))
    assert estimate.standard_error[1] == 0
    assert estimate.standard_error[2] == pytest.approx(estimate.standard_error[0])


def test_nothing_is_changed_and_the_values_are_those_of_the_covariance():
    slope, offset, covariance = line()
    value = covariance.of(lambda: slope * 3 + offset).value
    slope.grad = torch.ones((), dtype=torch.float64)
    with torch.no_grad():
        slope += 5
    moved, state = slope.item(), torch.get_rng_state()
    for function in (lambda: slope * 3 + offset, lambda slope, offset: slope * 3 + offset):
        assert covariance.of(function).value == value
    assert slope.item() == moved
    assert slope.grad == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_modules_and_many_outputs():
    model = torch.nn.Linear(2, 3).double()
    inputs = torch.stack([T, T.cos()], dim=1)
    optimizer = LeastSquaresWrapper(model.named_parameters(), "lm")
    optimizer.step(lambda: model(inputs) - Y[:, None])
    covariance = optimizer.covariance()
    estimate = covariance.of(lambda: model(inputs))
    assert estimate.value.shape == (20, 3)
    bands = covariance.bands(model, inputs)
    assert torch.equal(bands.standard_error, estimate.standard_error)
    design = np.column_stack([inputs.numpy(), np.ones(20)])
    leverage = np.diag(design @ np.linalg.inv(design.T @ design) @ design.T)
    expected = covariance.residual_deviation * np.sqrt(leverage)
    np.testing.assert_allclose(estimate.standard_error, expected[:, None].repeat(3, 1), rtol=1e-6)
    assert "and 20 more" in repr(estimate)
    assert "and 20 more" in repr(bands)
    assert "<pre>" in estimate._repr_html_()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_are_not_connected_with_the_parameters(copied):
    slope, _, covariance = line()
    again = copied(covariance)
    assert again.of(lambda slope: slope).variance == covariance.of(lambda: slope).variance
    with pytest.raises(ArgumentError, match=r"was loaded.*slope, offset"):
        again.of(lambda: slope)


def test_functions_that_cannot_be_used():
    slope, _, covariance = line()
    with pytest.raises(ArgumentError, match=r"argument 'rate', which is not a parameter \(slope, offset\)"):
        covariance.of(lambda rate: rate)
    with pytest.raises(ClosureError, match="does not depend on the parameters"):
        covariance.of(lambda: slope.detach())
    with pytest.raises(ClosureError, match="does not depend on the parameters"):
        covariance.of(lambda: torch.ones(2, requires_grad=True) * 2)
    with pytest.raises(ArgumentTypeError, match="must return a tensor"):
        covariance.of(lambda: slope.item())
    with pytest.raises(ArgumentTypeError, match="callable"):
        covariance.of(slope)
    with pytest.raises(ClosureError, match="not finite"):
        covariance.of(lambda: slope / 0)
    assert covariance.of(lambda: slope.expand(0)).value.shape == (0,)
