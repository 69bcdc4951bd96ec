"""The Laplace approximation. Oracle: the closed-form posterior of a linear model with normal noise and prior."""

import pickle

import numpy as np
import pytest
import torch
from scipy import stats

from torchmin_nb import full_batch, laplace, minimize
from torchmin_nb.errors import (
    ArgumentError,
    ArgumentTypeError,
    ClosureError,
    CovarianceWarning,
    MemoryBudgetError,
    NotAMinimumError,
)

SIGMA, TAU = 0.3, 2.5
GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(30, 4, generator=GENERATOR, dtype=torch.float64)
Y = X @ torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
Y = Y + SIGMA * torch.randn(30, generator=GENERATOR, dtype=torch.float64)
PRECISION = X.T @ X / SIGMA**2 + TAU * torch.eye(4, dtype=torch.float64)
COVARIANCE = torch.linalg.inv(PRECISION)
MAP = COVARIANCE @ (X.T @ Y) / SIGMA**2
NEW = torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64)


def parameters(values=MAP, dtype=torch.float64):
    """Two tensors, so that the order of the entries matters."""
    whole = values.to(dtype)
    return torch.nn.Parameter(whole[:3].clone()), torch.nn.Parameter(whole[3:].clone())


def line(a, b, x=X):
    return x.to(a) @ torch.cat([a, b])


def likelihood(a, b):
    """The negative log-likelihood, with its constants."""
    return 0.5 * ((line(a, b) - Y) / SIGMA).square().sum() + 15 * np.log(2 * np.pi * SIGMA**2)


def fitted(**options):
    a, b = parameters()
    return laplace(lambda: likelihood(a, b), [("a", a), ("b", b)], TAU, **options), a, b


EXACT = [{}, {"form": "low-rank", "rank": 4}]


@pytest.mark.parametrize("options", EXACT)
def test_linear_models_are_exact(options):
    found, a, b = fitted(**options)
    np.testing.assert_allclose(found.matrix, COVARIANCE, rtol=1e-8)
    prediction = found.predict(lambda: line(a, b, NEW))
    np.testing.assert_allclose(prediction.value, NEW @ MAP, rtol=1e-12)
    np.testing.assert_allclose(prediction.covariance, NEW @ COVARIANCE @ NEW.T, rtol=1e-8)
    np.testing.assert_allclose(prediction.variance, torch.diag(NEW @ COVARIANCE @ NEW.T), rtol=1e-8)
    errors = torch.cat(list(found.standard_deviations().values()))
    np.testing.assert_allclose(errors, torch.diag(COVARIANCE).sqrt(), rtol=1e-8)
    assert found.distance < 1e-6


@pytest.mark.parametrize("options", EXACT)
def test_the_evidence_is_the_density_of_the_data(options):
    """y is normal with mean 0 and covariance σ² + X Xᵀ/τ."""
    marginal = SIGMA**2 * np.eye(30) + (X @ X.T).numpy() / TAU
    expected = stats.multivariate_normal(np.zeros(30), marginal).logpdf(Y.numpy())
    assert fitted(**options)[0].log_evidence == pytest.approx(expected, rel=1e-10)


def test_the_scale_of_a_mean_squared_error():
    a, b = parameters()
    found = laplace(lambda: (line(a, b) - Y).square().mean(), [a, b], TAU, scale=2 * SIGMA**2 / 30)
    np.testing.assert_allclose(found.matrix, COVARIANCE, rtol=1e-8)


@pytest.mark.parametrize("form", ["dense", "diagonal", "low-rank"])
def test_gauss_newton_of_residuals(form):
    a, b = parameters()
    ggn = laplace(lambda: (line(a, b) - Y) / SIGMA, [a, b], TAU, curvature="ggn", form=form)
    hessian = laplace(lambda: likelihood(a, b), [a, b], TAU, form=form)
    np.testing.assert_allclose(ggn.matrix, hessian.matrix, rtol=1e-8)
    assert ggn.loss == pytest.approx(hessian.loss - 15 * np.log(2 * np.pi * SIGMA**2))


@pytest.mark.parametrize("form", ["dense", "diagonal", "low-rank"])
@pytest.mark.parametrize("curvature", ["hessian", "ggn"])
def test_full_batches(form, curvature):
    a, b = parameters()
    residuals = lambda batch: (line(a, b, batch[0]) - batch[1]) / SIGMA  # noqa: E731
    one = residuals if curvature == "ggn" else lambda batch: 0.5 * residuals(batch).square().sum()
    closure = full_batch(one, list(zip(X.split(7), Y.split(7), strict=True)), reduction="sum")
    found = laplace(closure, [a, b], TAU, form=form, curvature=curvature)
    whole = laplace(lambda: likelihood(a, b), [a, b], TAU, form=form)
    np.testing.assert_allclose(found.matrix, whole.matrix, rtol=1e-8)


def test_a_diagonal_problem_in_the_diagonal_form():
    x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    curvature = torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64)
    for form in ("dense", "diagonal"):
        found = laplace(lambda: 0.5 * (curvature * x**2).sum(), [x], 2.0, form=form)
        np.testing.assert_allclose(found.matrix, np.diag([1 / 6, 1 / 3, 1 / 2]), rtol=1e-12, atol=1e-15)
        assert found.effective_parameters == pytest.approx(4 / 6 + 1 / 3)
        assert found.log_evidence == pytest.approx(0.5 * np.log(8 / 36))


def test_the_diagonal_form_takes_the_diagonal_of_the_precision():
    np.testing.assert_allclose(fitted(form="diagonal")[0].matrix, np.diag(1 / torch.diag(PRECISION)), rtol=1e-10)


def test_low_rank_keeps_the_prior_in_the_other_directions():
    """With k directions of n, the variance lies between the exact one and that of the prior, and falls with k."""
    variances = [np.diag(fitted(form="low-rank", rank=k)[0].matrix) for k in (1, 2, 3, 4)]
    for more, less in zip(variances[1:], variances, strict=False):
        assert (more <= less + 1e-12).all()
    assert (variances[0] < 1 / TAU + 1e-12).all()
    values, vectors = np.linalg.eigh((X.T @ X / SIGMA**2).numpy())
    top = vectors[:, -1:]
    np.testing.assert_allclose(
        fitted(form="low-rank", rank=1)[0].matrix,
        np.eye(4) / TAU - top @ top.T * (1 / TAU - 1 / (TAU + values[-1])),
        rtol=1e-6,
        atol=1e-8,
    )


@pytest.mark.parametrize("form", ["dense", "diagonal", "low-rank"])
def test_small_priors_lose_no_digits(form):
    """1e-9 in units of the curvature: 1/τ − (1/τ − 1/(τ + λ)) would have lost half of them."""
    x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    curvature = torch.tensor([4.0, 1.0, 3.0], dtype=torch.float64)
    found = laplace(lambda: 0.5 * (curvature * x**2).sum(), [x], 1e-9, form=form)
    np.testing.assert_allclose(np.diag(found.matrix), 1 / (curvature + 1e-9), rtol=1e-12)
    np.testing.assert_allclose(found.standard_deviations()["0"], (curvature + 1e-9).rsqrt(), rtol=1e-12)


@pytest.mark.parametrize("form", ["dense", "diagonal", "low-rank"])
def test_draws_have_the_distribution(form):
    found = fitted(form=form, **({"rank": 2} if form == "low-rank" else {}))[0]
    draws = found.samples(40_000, torch.Generator().manual_seed(0))
    assert draws["a"].shape == (40_000, 3)
    rows = torch.cat([draws["a"], draws["b"]], dim=1).numpy()
    np.testing.assert_allclose(rows.mean(0), MAP, atol=0.01)
    errors = np.sqrt(np.diag(found.matrix))
    np.testing.assert_allclose(
        np.cov(rows.T) / np.outer(errors, errors), found.matrix / np.outer(errors, errors), atol=0.03
    )
    again = found.samples(3)
    assert torch.equal(again["a"], found.samples(3)["a"])


def test_predictions_from_draws():
    found, a, b = fitted()
    drawn, linear = found.predict(lambda: line(a, b, NEW), samples=4000), found.predict(lambda: line(a, b, NEW))
    np.testing.assert_allclose(drawn.value, linear.value, atol=0.02)
    np.testing.assert_allclose(drawn.covariance, linear.covariance, atol=0.1 * float(linear.variance.max()))
    np.testing.assert_allclose(drawn.variance, np.diag(drawn.covariance), rtol=1e-10)


def test_one_draw_has_no_variance():
    found, a, b = fitted()
    with pytest.raises(ArgumentError, match="at least 2"):
        found.predict(lambda: line(a, b), samples=1)


def test_bands_are_normal():
    found, a, b = fitted()
    bands = found.bands(lambda x: line(a, b, x), NEW, level=0.9, sigma=SIGMA)
    variance = torch.diag(NEW @ COVARIANCE @ NEW.T)
    np.testing.assert_allclose(bands.high - bands.value, stats.norm.ppf(0.95) * variance.sqrt(), rtol=1e-8)
    np.testing.assert_allclose(
        bands.value - bands.new_low, stats.norm.ppf(0.95) * (variance + SIGMA**2).sqrt(), rtol=1e-8
    )


def test_priors_for_each_tensor_and_each_entry():
    a, b = parameters()
    each = torch.tensor([1.0, 1.0, 1.0, 5.0], dtype=torch.float64)
    with pytest.warns(CovarianceWarning, match="not at the maximum"):
        found = [laplace(lambda: likelihood(a, b), [a, b], prior) for prior in ([1.0, 5.0], each)]
    expected = torch.linalg.inv(X.T @ X / SIGMA**2 + torch.diag(each))
    for one in found:
        np.testing.assert_allclose(one.matrix, expected, rtol=1e-8)


def test_the_best_prior_precision_has_the_most_evidence():
    found, a, b = fitted()
    best = found.best_prior_precision()
    with pytest.warns(CovarianceWarning):
        evidence = [
            laplace(lambda: likelihood(a, b), [a, b], tau).log_evidence for tau in (best / 1.1, best, best * 1.1)
        ]
    assert evidence[1] > max(evidence[0], evidence[2])


def test_the_best_prior_precision_of_refits_is_that_of_the_marginal_likelihood():
    tau = 1.0
    for _ in range(30):
        mean = torch.linalg.solve(X.T @ X / SIGMA**2 + tau * torch.eye(4), X.T @ Y / SIGMA**2)
        a, b = parameters(mean)
        tau = laplace(lambda: likelihood(a, b), [a, b], tau).best_prior_precision()  # noqa: B023

    def marginal(log_tau):
        covariance = SIGMA**2 * torch.eye(30, dtype=torch.float64) + X @ X.T / log_tau.exp()
        return -torch.distributions.MultivariateNormal(torch.zeros(30, dtype=torch.float64), covariance).log_prob(Y)

    expected = minimize(marginal, torch.zeros((), dtype=torch.float64), "BFGS", tol=1e-10).x.exp()
    assert tau == pytest.approx(float(expected), rel=1e-4)


def test_fixed_entries_have_no_variance():
    a, b = parameters()
    groups = [{"params": [("a", a)]}, {"params": [("b", b)], "bounds": (b.item(), b.item())}]
    found = laplace(lambda: likelihood(a, b), groups, TAU)
    np.testing.assert_allclose(found.matrix[:3, :3], torch.linalg.inv(PRECISION[:3, :3]), rtol=1e-8)
    assert not found.matrix[3].any()
    assert found.standard_deviations()["b"].item() == 0
    assert (found.samples(5)["b"] == b).all()


def test_float32_parameters():
    a, b = parameters(dtype=torch.float32)
    for options in EXACT:
        found = laplace(lambda: 0.5 * ((line(a, b) - Y.float()) / SIGMA).square().sum(), [a, b], TAU, **options)
        np.testing.assert_allclose(found.matrix, COVARIANCE, rtol=1e-4, atol=1e-6)
        assert found.samples(2)["0"].dtype is torch.float32


def test_not_a_maximum():
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    loss = lambda: x[0] ** 2 - 0.5 * x[1] ** 2  # noqa: E731
    for form in ("dense", "diagonal", "low-rank"):
        with pytest.raises(NotAMinimumError, match=r"larger prior_precision, or, .*curvature='ggn'"):
            laplace(loss, [x], 0.9, form=form)
    assert laplace(loss, [x], 2.0).matrix[1, 1] == pytest.approx(1)


def test_a_gradient_that_is_not_small():
    x = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    with pytest.warns(CovarianceWarning, match=r"1\.7 standard deviations"):
        found = laplace(lambda: (x**2).sum(), [x], 1.0)
    assert found.distance == pytest.approx(np.sqrt(3))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"prior_precision": 0.0}, "positive"),
        ({"prior_precision": float("nan")}, "positive"),
        ({"prior_precision": [1.0, 2.0, 3.0]}, r"shape \(3,\)"),
        ({"prior_precision": "one"}, "number or a tensor"),
        ({"prior_precision": 10**400}, "number or a tensor"),
        ({"scale": "mean"}, "scale"),
        ({"scale": 0.0}, "scale"),
        ({"scale": float("inf")}, "scale"),
        ({"form": "kron"}, "dense, diagonal, low-rank"),
        ({"curvature": "fisher"}, "hessian, ggn"),
        ({"rank": 3}, "low-rank"),
        ({"form": "low-rank", "rank": 0}, "rank"),
    ],
)
def test_arguments(options, match):
    a, b = parameters()
    with pytest.raises(ArgumentError, match=match):
        laplace(lambda: likelihood(a, b), [a, b], **options)


def test_closures_that_cannot_be_used():
    a, b = parameters()
    with pytest.raises(ClosureError, match="nan"):
        laplace(lambda: likelihood(a, b) * float("nan"), [a, b])
    with pytest.raises(ArgumentTypeError, match="callable"):
        laplace(likelihood(a, b), [a, b])
    with pytest.raises(ArgumentTypeError, match="params must be tensors"):
        laplace(lambda: likelihood(a, b), [1.0])


def test_gauss_newton_refuses_a_loss():
    a, b = parameters()
    with pytest.raises(ClosureError, match="returned one number"):
        laplace(lambda: likelihood(a, b), [a, b], curvature="ggn")
    with pytest.raises(ClosureError, match="nan"):
        laplace(lambda: line(a, b) * float("nan"), [a, b], curvature="ggn")
    with pytest.raises(ClosureError, match="do not depend"):
        laplace(lambda: torch.ones(3), [a, b], curvature="ggn")


@pytest.mark.parametrize("form", ["dense", "diagonal", "low-rank"])
def test_without_curvature_the_prior_remains(form):
    x = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    found = laplace(lambda: 0 * (x**2).sum(), [x], 2.0, form=form)
    np.testing.assert_allclose(found.matrix, np.eye(4) / 2, atol=1e-15)
    assert found.log_evidence == found.effective_parameters == 0
    assert found.samples(2)["0"].shape == (2, 4)


def test_a_prior_without_a_best_precision():
    x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    with pytest.warns(CovarianceWarning):
        found = laplace(lambda: 0 * x.sum(), [x])
    with pytest.warns(CovarianceWarning, match="no maximum"):
        found.best_prior_precision()


def test_the_scale_may_be_any_number():
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    for scale in (0.5, torch.tensor(0.5), np.float32(0.5)):
        np.testing.assert_allclose(laplace(lambda: (x**2).sum(), [x], scale=scale).matrix, np.eye(2) / 5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_gradients_are_switched_off(mode):
    a, b = parameters()
    with mode():
        found = laplace(lambda: likelihood(a, b), [a, b], TAU)
        variance = found.predict(lambda: line(a, b, NEW)).variance
    np.testing.assert_allclose(variance, torch.diag(NEW @ COVARIANCE @ NEW.T), rtol=1e-8)


def test_a_dense_matrix_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr("torchmin_nb.core.curvature.products.available_bytes", lambda: 4 * 8 * 99**2)
    x = torch.nn.Parameter(torch.zeros(100, dtype=torch.float64))
    with pytest.raises(MemoryBudgetError, match=r"100 parameters .*form='low-rank' or 'diagonal'"):
        laplace(lambda: (x**2).sum(), [x])
    assert laplace(lambda: (x**2).sum(), [x], form="diagonal").matrix[0, 0] == pytest.approx(1 / 3)
    assert laplace(lambda: (x**2).sum(), [x], form="low-rank", rank=100).matrix[0, 0] == pytest.approx(1 / 3)


def test_nothing_is_changed():
    a, b = parameters()
    a.grad, state = torch.ones(3, dtype=torch.float64), torch.get_rng_state()
    for form in ("dense", "low-rank"):
        found = laplace(lambda: likelihood(a, b), [a, b], TAU, form=form)
        found.predict(lambda: line(a, b), samples=3)
        found.samples(2)
    assert torch.equal(torch.cat([a, b]), MAP)
    assert a.grad.sum() == 3
    assert b.grad is None
    assert torch.equal(torch.get_rng_state(), state)


def test_predictions_are_those_at_the_values_after_the_parameters_have_moved():
    found, a, b = fitted()
    with torch.no_grad():
        a += 1
    np.testing.assert_allclose(found.predict(lambda: line(a, b, NEW)).value, NEW @ MAP)
    assert torch.equal(a, MAP[:3] + 1)


def test_it_is_pickled_without_the_model():
    found, a, b = fitted()
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_allclose(
        again.predict(lambda a, b: line(a, b, NEW)).variance, found.predict(lambda: line(a, b, NEW)).variance
    )
    with pytest.raises(ArgumentError, match="was loaded"):
        again.predict(lambda: line(a, b))


def test_what_is_shown():
    found = fitted()[0]
    assert "a[0]" in repr(found)
    assert "of which the data determine 3.9" in repr(found)
    assert "<table" in found._repr_html_()
