"""Covariances: NIST's certified standard deviations, scipy's curve_fit, and closed forms."""

import numpy as np
import pytest
import scipy.optimize
import torch

from tests.core.scipys import LEAST_SQUARES_METHODS
from torchmin_nb import LeastSquaresWrapper, MinimizeWrapper
from torchmin_nb.errors import ArgumentError, ClosureWarning, CovarianceWarning, NotAMinimumError
from torchmin_nb.nist import NIST

TIGHT = dict(ftol=1e-14, xtol=1e-14, gtol=1e-14)
T = torch.linspace(0, 3, 30, dtype=torch.float64)
Y = 2 * torch.exp(-1.3 * T) + 0.5 + 0.05 * torch.cos(17 * T)


def decay(b):
    return b[0] * torch.exp(-b[1] * T.to(b)) + b[2] - Y.to(b)


def parameter(values, dtype=torch.float64):
    return torch.nn.Parameter(torch.tensor(values, dtype=dtype))


def fitted(args="trf", residuals=decay, start=(1.0, 1.0, 0.0)):
    b = parameter(start)
    optimizer = LeastSquaresWrapper([("b", b)], args)
    optimizer.step(lambda: residuals(b))
    return optimizer, b


@pytest.mark.parametrize("method", LEAST_SQUARES_METHODS)
@pytest.mark.parametrize("problem", NIST.values(), ids=NIST)
def test_certified_standard_deviations(problem, method):
    optimizer, b = fitted(dict(method=method, x_scale="jac", **TIGHT), problem.residuals, problem.starts[1])
    covariance = optimizer.covariance()
    np.testing.assert_allclose(covariance.standard_errors()["b"].numpy(), problem.deviations, rtol=2e-6)
    again = optimizer.covariance(lambda: problem.residuals(b))
    np.testing.assert_allclose(again.matrix, covariance.matrix, rtol=1e-9)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("loss", ["linear", "soft_l1", "huber", "cauchy", "arctan"])
def test_the_same_as_curve_fit(loss, absolute):
    def model(t, a, rate, offset):
        return a * np.exp(-rate * t) + offset

    sigma = np.full(30, 0.05)
    args = dict(method="trf", loss=loss, **TIGHT)
    _, expected = scipy.optimize.curve_fit(
        model, T.numpy(), Y.numpy(), [1, 1, 0], sigma, absolute_sigma=absolute, **args
    )
    optimizer, b = fitted(args, lambda b: decay(b) / 0.05)
    for covariance in (
        optimizer.covariance(absolute_sigma=absolute),
        optimizer.covariance(lambda: decay(b) / 0.05, absolute_sigma=absolute),
    ):
        np.testing.assert_allclose(covariance.matrix, expected, rtol=1e-3)
    errors = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(covariance.correlation, expected / np.outer(errors, errors), atol=1e-3)
    np.testing.assert_array_equal(np.diag(covariance.correlation), 1)


def test_errors_have_the_names_and_shapes_of_the_parameters():
    layer = torch.nn.Linear(2, 1).double()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    targets = inputs.sum(1, keepdim=True) + 0.1 * torch.randn(20, 1, generator=generator, dtype=torch.float64)
    for params, names in ((layer.named_parameters(), ["weight", "bias"]), (layer.parameters(), ["0", "1"])):
        optimizer = LeastSquaresWrapper(params, "lm")
        optimizer.step(lambda: layer(inputs) - targets)
        covariance = optimizer.covariance()
        errors = covariance.standard_errors()
        assert list(errors) == names
        assert [error.shape for error in errors.values()] == [(1, 2), (1,)]
        assert f"{names[0]}[0, 1]" in repr(covariance)
    design = np.column_stack([inputs.numpy(), np.ones(20)])
    variance = 2 * optimizer.result.cost / 17
    np.testing.assert_allclose(covariance.matrix, variance * np.linalg.inv(design.T @ design), rtol=1e-8)


def test_frozen_parameters_have_no_name_and_fixed_ones_no_error():
    a, frozen, offset = parameter(1.0), torch.ones(2), parameter(0.5)
    groups = [
        {"params": [("a", a), ("frozen", frozen)]},
        {"params": [("offset", offset)], "bounds": (0.5, 0.5)},
    ]
    optimizer = LeastSquaresWrapper(groups, "trf")
    optimizer.step(lambda: a * T + offset - Y)
    covariance = optimizer.covariance()
    assert list(covariance.standard_errors()) == ["a", "offset"]
    assert covariance.standard_errors()["offset"].item() == 0
    variance = 2 * optimizer.result.cost / 29
    assert covariance.matrix[0, 0] == pytest.approx(variance / float(T @ T))
    assert covariance.correlation.tolist() == [[1, 0], [0, 1]]


def test_directions_the_data_do_not_determine():
    b = parameter([1.0, 1.0, 0.0])
    optimizer = LeastSquaresWrapper([("b", b)], "trf")
    optimizer.step(lambda: (b[0] + b[1]) * T + b[2] - Y)
    with pytest.warns(CovarianceWarning, match=r"only 2 of 3 .*: b\[0\], b\[1\] trade off"):
        covariance = optimizer.covariance()
    assert covariance.undetermined.tolist() == [True, True, False]
    errors = covariance.standard_errors()["b"]
    assert errors[:2].isinf().all()
    _, expected = np.polyfit(T.numpy(), Y.numpy(), 1, cov="unscaled")
    variance = 2 * optimizer.result.cost / (30 - 3)
    assert errors[2].item() == pytest.approx(np.sqrt(variance * expected[1, 1]), rel=1e-6)
    assert "∞" in repr(covariance)
    assert np.isnan(covariance.correlation[0, 1])


def test_a_parameter_that_does_nothing():
    used, unused = parameter(1.0), parameter([7.0])
    optimizer = LeastSquaresWrapper([used, unused], "trf")
    with pytest.warns(ClosureWarning, match="does not depend on parameter 1 of shape"):
        optimizer.step(lambda: used * T - Y)
    with pytest.warns(CovarianceWarning, match=r": 1\[0\] trade"):
        covariance = optimizer.covariance()
    assert covariance.undetermined.tolist() == [False, True]


def test_a_parameter_on_its_bound_is_named():
    b = parameter([1.0, 1.0, 0.7])
    optimizer = LeastSquaresWrapper([("b", b)], dict(method="dogbox", bounds=([0, 0, 0.6], np.inf)))
    optimizer.step(lambda: decay(b))
    with pytest.warns(CovarianceWarning, match=r"on its bound: b\[2\]"):
        optimizer.covariance()


def test_what_covariance_needs():
    optimizer = LeastSquaresWrapper([b := parameter([1.0, 1.0, 0.0])], "trf", max_evaluations=3)
    with pytest.raises(ArgumentError, match=r"covariance\(closure\)"):
        optimizer.covariance()
    optimizer.step(lambda: decay(b))
    with pytest.raises(ArgumentError, match=r"covariance\(closure\)"):
        optimizer.covariance()
    assert optimizer.covariance(lambda: decay(b)).matrix.shape == (3, 3)
    exact, c = fitted("lm", lambda b: b - 1, (3.0, 4.0))
    with pytest.raises(ArgumentError, match="absolute_sigma=True"):
        exact.covariance()
    np.testing.assert_allclose(exact.covariance(lambda: c - 1, absolute_sigma=True).matrix, np.eye(2))
    with pytest.raises(KeyError):
        exact.covariance(lambda: {}["mine"])


def test_a_covariance_leaves_the_run_as_it_was():
    optimizer, b = fitted()
    before, calls = b.detach().clone(), optimizer.history.totals.nfev
    optimizer.covariance(lambda: decay(b))
    assert torch.equal(before, b)
    assert optimizer.history.totals.nfev == calls


def _of_residuals(net):
    return LeastSquaresWrapper(net.parameters(), dict(method="trf", max_nfev=3)), lambda: net(T[:, None])[:, 0] - Y


def _of_loss(curvature):
    def made(net):
        def closure():
            net.zero_grad()
            loss = (net(T[:, None])[:, 0] - Y).pow(2).sum()
            loss.backward()
            return loss

        return MinimizeWrapper(net.parameters(), "BFGS", curvature=curvature), closure

    return made


@pytest.mark.parametrize(
    "made",
    [_of_residuals, _of_loss("autograd"), _of_loss("finite-difference")],
    ids=["residuals", "autograd", "finite-difference"],
)
def test_a_covariance_leaves_parameters_gradients_buffers_and_random_numbers(made):
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(1, affine=False), torch.nn.Linear(1, 1)).double()
    optimizer, closure = made(net)
    optimizer.step(closure)
    gradients = [p.grad for p in net.parameters()]
    state, random = [value.clone() for value in net.state_dict().values()], torch.get_rng_state()
    values = [gradient.clone() for gradient in gradients]
    optimizer.covariance(lambda: closure() + 0 * torch.rand(()))
    assert all(map(torch.equal, state, net.state_dict().values()))
    assert all(p.grad is gradient for p, gradient in zip(net.parameters(), gradients, strict=True))
    assert all(map(torch.equal, values, gradients))
    assert torch.equal(random, torch.get_rng_state())


# Losses


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_negative_log_likelihood(dtype):
    """Normal distribution: Var(μ) = σ²/m, Var(ln σ) = 1/(2m), no correlation."""
    generator = torch.Generator().manual_seed(3)
    sample = (5 + 2 * torch.randn(400, generator=generator, dtype=torch.float64)).to(dtype)
    mean, log_sigma = parameter(4.0, dtype), parameter(0.0, dtype)

    def negative_log_likelihood():
        return (0.5 * ((sample - mean) / log_sigma.exp()) ** 2 + log_sigma).sum()

    optimizer = MinimizeWrapper([("mean", mean), ("log_sigma", log_sigma)], "trust-exact")
    optimizer.step(negative_log_likelihood)
    covariance = optimizer.covariance(negative_log_likelihood)
    errors = covariance.standard_errors()
    sigma = sample.std(correction=0).item()
    assert errors["mean"].item() == pytest.approx(sigma / 20, rel=1e-3)
    assert errors["log_sigma"].item() == pytest.approx(np.sqrt(1 / 800), rel=1e-3)
    assert abs(covariance.correlation[0, 1]) < 1e-3
    assert errors["mean"].dtype == torch.float64
    per_sample = optimizer.covariance(lambda: negative_log_likelihood() / 400, scale=1 / 400)
    np.testing.assert_allclose(per_sample.matrix, covariance.matrix, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B"])
def test_the_inverse_hessian_a_method_has_built_up_only_without_a_closure(method):
    b = parameter([3.0, 1.0])
    exact = np.linalg.inv([[2.0, 0.5], [0.5, 2.0]])

    def loss():
        return (b[0] - 1) ** 2 + 0.5 * b[0] * b[1] + b[1] ** 2

    optimizer = MinimizeWrapper([b], method)
    optimizer.step(loss)
    np.testing.assert_allclose(optimizer.covariance().matrix, exact, atol=0.2)
    np.testing.assert_allclose(optimizer.covariance(loss).matrix, exact, rtol=1e-10)
    np.testing.assert_allclose(optimizer.covariance(loss, scale=3.0).matrix, 3 * exact, rtol=1e-10)
    other = MinimizeWrapper([b], "CG")
    other.step(loss)
    with pytest.raises(ArgumentError, match=r"covariance\(closure\)"):
        other.covariance()


def test_half_a_sum_of_squares_has_the_covariance_of_a_linear_fit():
    optimizer, b = fitted("lm", lambda b: b[0] * T + b[1] - Y, (0.0, 0.0))
    variance = 2 * optimizer.result.cost / 28
    minimizer = MinimizeWrapper([b], "BFGS")
    covariance = minimizer.covariance(lambda: 0.5 * (b[0] * T + b[1] - Y).square().sum(), scale=variance)
    np.testing.assert_allclose(covariance.matrix, optimizer.covariance().matrix, rtol=1e-9)


def test_no_covariance_where_the_loss_is_not_at_a_minimum():
    b = parameter([0.0, 0.0])
    optimizer = MinimizeWrapper([b], "BFGS")
    with pytest.raises(NotAMinimumError, match="negative eigenvalue"):
        optimizer.covariance(lambda: b[0] ** 2 - b[1] ** 2)
    with pytest.warns(CovarianceWarning, match=r"0\[1\]"):
        covariance = optimizer.covariance(lambda: b[0] ** 2 + b[1] ** 4)
    np.testing.assert_allclose(covariance.matrix, [[0.5, 0], [0, 0]])


def test_scales_far_apart_are_no_deficiency():
    optimizer, _ = fitted("lm", lambda b: 1e-9 * b[0] * T + 1e9 * b[1] - Y, (0.0, 0.0))
    covariance = optimizer.covariance()
    assert not covariance.undetermined.any()
    plain, _ = fitted("lm", lambda b: b[0] * T + b[1] - Y, (0.0, 0.0))
    factor = np.array([1e9, 1e-9])
    np.testing.assert_allclose(covariance.matrix, plain.covariance().matrix * np.outer(factor, factor), rtol=1e-6)


# Words


def test_values_and_errors_are_rounded_together():
    problem = NIST["Misra1a"]
    optimizer, _ = fitted(dict(method="lm", **TIGHT), problem.residuals, problem.starts[1])
    assert repr(optimizer.covariance()).splitlines()[2:] == [
        "b[0]       238.9 ± 2.7",
        "b[1]       5.502e-04 ± 7.3e-06",
    ]
    html = optimizer.covariance()._repr_html_()
    assert "<td>238.9</td><td>± 2.7</td>" in html


def test_long_tables_are_cut():
    b = parameter([0.0] * 100)
    target = torch.linspace(0, 1, 200, dtype=torch.float64)
    optimizer = LeastSquaresWrapper([("<b>", b)], "trf")
    optimizer.step(lambda: torch.cat([b, b]) - target)
    covariance = optimizer.covariance()
    assert "and 60 more" in repr(covariance)
    html = covariance._repr_html_()
    assert "&lt;b&gt;[0]" in html
    assert "<b>" not in html


@pytest.mark.parametrize("wrapper", [LeastSquaresWrapper, MinimizeWrapper])
def test_what_a_run_of_other_parameters_left_is_no_covariance(wrapper):
    b = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    optimizer = wrapper([b])
    residuals = wrapper is LeastSquaresWrapper
    optimizer.step(lambda: torch.cat([b - 3, b]) if residuals else ((b - 3) ** 2).sum())
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))]})
    with pytest.raises(ArgumentError, match=r"for the 3 parameters.*covariance\(closure\)"):
        optimizer.covariance()
