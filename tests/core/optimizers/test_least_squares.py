"""Least squares: NIST's certified answers, plain SciPy with an analytic Jacobian, and the manners of any run."""

import warnings

import numpy as np
import pytest
import scipy
import scipy.optimize
import torch

from tests.core.scipys import LEAST_SQUARES_METHODS
from torchmin_nb import LeastSquaresWrapper, Status
from torchmin_nb.core.autodiff.jacobian import DenseJacobian, JacobianGraph
from torchmin_nb.core.objective.robust_loss import Cost
from torchmin_nb.core.parameters.flat import FlatParameters
from torchmin_nb.errors import (
    ArgumentError,
    ArgumentTypeError,
    ClosureError,
    ClosureWarning,
    InconsistentClosureError,
    MemoryBudgetError,
    NonFiniteStartError,
    SecondDerivativeError,
    StartWarning,
    UnknownMethodError,
    UnknownOptionError,
)
from torchmin_nb.nist import NIST

ALL = list(LEAST_SQUARES_METHODS)
TRUST = [name for name, spec in LEAST_SQUARES_METHODS.items() if spec.operator]
LOSSES = ["soft_l1", "huber", "cauchy", "arctan"]
TIGHT = dict(ftol=1e-14, xtol=1e-14, gtol=1e-14)
UNMANAGED = {
    ("MGH09", 0, "dogbox"): "runs along the valley to the local minimum at infinity until max_nfev",
    ("MGH09", 0, "lm"): "runs along the valley to the local minimum at infinity until max_nfev",
    ("Thurber", 0, "dogbox"): "ends in another local minimum",
}


def parameter(values, dtype=torch.float64):
    return torch.nn.Parameter(torch.tensor(values, dtype=dtype))


def rosenbrock(b):
    return torch.stack([1 - b[0], 10 * (b[1] - b[0] ** 2)])


def walled(b):
    """Rosenbrock's residuals with nothing beyond b0 = 0.5."""
    return torch.where(b[0] > 0.5, torch.full_like(b, torch.nan), torch.stack([b[0] - 2, 10 * (b[1] - b[0] ** 2)]))


def curve(outliers=False):
    """y = 2·exp(−1.3 t) + 0.5 with a little noise, and a few outliers."""
    t = torch.linspace(0, 3, 40, dtype=torch.float64)
    y = 2 * torch.exp(-1.3 * t) + 0.5 + 0.01 * torch.cos(17 * t)
    if outliers:
        y[::9] += 3
    return lambda b: b[0] * torch.exp(-b[1] * t.to(b)) + b[2] - y.to(b)


def as_numpy(residuals):
    """The residual function and its exact Jacobian, for SciPy."""
    return (
        lambda z: residuals(torch.tensor(z)).numpy(),
        lambda z: torch.autograd.functional.jacobian(residuals, torch.tensor(z)).numpy(),
    )


def run(residuals, start, args="trf", *, dtype=torch.float64, **kwargs):
    b = parameter(start, dtype)
    optimizer = LeastSquaresWrapper([b], args, **kwargs)
    optimizer.step(lambda: residuals(b))
    return optimizer, b


# NIST


@pytest.mark.parametrize("problem", NIST.values(), ids=NIST)
def test_the_certified_residual_sum_comes_out_of_the_bundled_data(problem):
    f = problem.residuals(torch.tensor(problem.certified, dtype=torch.float64))
    assert float(f @ f) == pytest.approx(problem.residual_sum, rel=1e-10)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("index", [0, 1], ids=["start1", "start2"])
@pytest.mark.parametrize("problem", NIST.values(), ids=NIST)
def test_certified_parameters(problem, index, method):
    args = dict(method=method, x_scale="jac", **TIGHT)
    with np.errstate(all="ignore"):
        optimizer, b = run(problem.residuals, problem.starts[index], args)
    result = optimizer.result
    off = np.abs(b.detach().numpy() / np.array(problem.certified) - 1).max()
    if (problem.name, index, method) in UNMANAGED:
        assert off > 0.1
        return
    assert off < 1e-6
    assert 2 * result.cost == pytest.approx(problem.residual_sum, rel=1e-9)
    assert result.success


def test_marquardt_reaches_mgh09_from_afar_without_scaling_by_the_jacobian():
    problem = NIST["MGH09"]
    optimizer, _ = run(problem.residuals, problem.starts[0], dict(method="lm", x_scale=1.0, max_nfev=2000, **TIGHT))
    assert 2 * optimizer.result.cost == pytest.approx(problem.residual_sum, rel=1e-9)


# SciPy


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("problem", NIST.values(), ids=NIST)
def test_the_same_run_as_scipys(problem, method):
    fun, jac = as_numpy(problem.residuals)
    plain = scipy.optimize.least_squares(fun, problem.starts[1], jac, method=method, x_scale="jac")
    optimizer, _ = run(problem.residuals, problem.starts[1], dict(method=method, x_scale="jac"))
    result = optimizer.result
    assert (result.nfev, result.njev, result.status) == (plain.nfev, plain.njev, plain.status)
    assert result.message == plain.message
    np.testing.assert_allclose(result.x, plain.x, rtol=1e-7)
    np.testing.assert_allclose(result.residuals, plain.fun, rtol=1e-6, atol=1e-6 * np.abs(plain.fun).max())
    np.testing.assert_allclose(result.jac, plain.jac, rtol=1e-5, atol=1e-6 * np.abs(plain.jac).max())
    assert result.cost == result.fun == pytest.approx(plain.cost)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("method", TRUST)
def test_robust_losses_as_scipys(method, loss):
    residuals = curve(outliers=True)
    fun, jac = as_numpy(residuals)
    given = dict(method=method, loss=loss, f_scale=0.1)
    plain = scipy.optimize.least_squares(fun, [1.0, 1.0, 0.0], jac, **given)
    optimizer, b = run(residuals, [1.0, 1.0, 0.0], given)
    result = optimizer.result
    assert (result.nfev, result.njev) == (plain.nfev, plain.njev)
    assert result.cost == pytest.approx(plain.cost, rel=1e-9)
    assert optimizer.history[-1].loss == pytest.approx(plain.cost, rel=1e-9)
    assert optimizer.history[-1].grad_norm_inf == pytest.approx(np.abs(plain.grad).max(), rel=0.1, abs=1e-9)
    np.testing.assert_allclose(result.x, plain.x, rtol=1e-6)
    np.testing.assert_allclose(b.detach().numpy(), [2, 1.3, 0.5], rtol=0.1)


def test_a_robust_loss_may_be_a_callable():
    def cauchy(z):
        return np.array([np.log1p(z), 1 / (1 + z), -1 / (1 + z) ** 2])

    named, _ = run(curve(outliers=True), [1.0, 1.0, 0.0], dict(loss="cauchy", f_scale=0.1))
    own, _ = run(curve(outliers=True), [1.0, 1.0, 0.0], dict(loss=cauchy, f_scale=0.1))
    np.testing.assert_allclose(own.result.x, named.result.x, rtol=1e-8)
    with pytest.raises(ArgumentError, match=r"shape \(3, 40\)"):
        run(curve(), [1.0, 1.0, 0.0], dict(loss=lambda z: z))


@pytest.mark.parametrize("loss", ["linear", *LOSSES])
def test_the_weights_of_a_cost_are_its_derivatives(loss):
    f = np.array([-3.0, -0.4, 0.01, 0.29, 0.31, 5.0])
    cost, step = Cost(loss, 0.3), 1e-6
    slopes = [(cost.value(f + step * unit) - cost.value(f - step * unit)) / (2 * step) for unit in np.eye(6)]
    np.testing.assert_allclose(cost.weighted(f), slopes, rtol=1e-6, atol=1e-8)
    inlying = np.array([0.01, -0.1])
    bends = (cost.weighted(inlying + step) - cost.weighted(inlying - step)) / (2 * step)
    np.testing.assert_allclose(cost.curvature(inlying) ** 2, bends, rtol=1e-6)


@pytest.mark.parametrize("method", TRUST)
def test_bounds_as_scipys(method):
    fun, jac = as_numpy(rosenbrock)
    low, high = [-np.inf, 1.5], [np.inf, np.inf]
    plain = scipy.optimize.least_squares(fun, [-1.2, 2.0], jac, bounds=(low, high), method=method)
    for bounds in ((low, high), scipy.optimize.Bounds(low, high)):
        optimizer, b = run(rosenbrock, [-1.2, 2.0], dict(method=method, bounds=bounds))
        assert optimizer.result.nfev == plain.nfev
        np.testing.assert_allclose(optimizer.result.x, plain.x, rtol=1e-9)
        np.testing.assert_array_equal(optimizer.result.active_mask, plain.active_mask)
    first, second = parameter(-1.2), parameter(2.0)
    grouped = LeastSquaresWrapper([{"params": [first]}, {"params": [second], "bounds": (1.5, None)}], method)
    grouped.step(lambda: rosenbrock(torch.stack([first, second])))
    np.testing.assert_allclose(grouped.result.x, plain.x, rtol=1e-9)
    with pytest.raises(ArgumentError, match="one place"):
        LeastSquaresWrapper([{"params": [b], "bounds": (0, 9)}], dict(method=method, bounds=(0, 9)))


@pytest.mark.parametrize("method", ALL)
def test_fixed_variables_and_scales(method):
    fun, jac = as_numpy(lambda z: curve()(torch.stack([z[0], z[1], torch.tensor(0.5, dtype=z.dtype)])))
    plain = scipy.optimize.least_squares(fun, [1.0, 1.0], jac, method=method)
    a, rate, offset = parameter(1.0), parameter(1.0), parameter(0.1)
    groups = [{"params": [a], "scale": 2.0}, {"params": [rate]}, {"params": [offset], "bounds": (0.5, 0.5)}]
    optimizer = LeastSquaresWrapper(groups, method)
    optimizer.step(lambda: curve()(torch.stack([a, rate, offset])))
    result = optimizer.result
    assert offset.item() == 0.5
    np.testing.assert_allclose(result.x, [*plain.x, 0.5], rtol=1e-6)
    assert result.jac.shape == (40, 3)
    np.testing.assert_allclose(result.jac[:, :2], plain.jac, atol=1e-6)
    np.testing.assert_allclose(result.jac[:, 2], np.ones(40))


def test_where_all_is_fixed_there_is_one_point():
    b = parameter([1.0, 2.0])
    optimizer = LeastSquaresWrapper([{"params": [b], "bounds": (1.5, 1.5)}], "dogbox")
    assert float(optimizer.step(lambda: rosenbrock(b))) == pytest.approx(0.5 * (0.25 + 100 * 0.5625))
    assert optimizer.result.success
    assert optimizer.result.x.tolist() == [1.5, 1.5]


@pytest.mark.parametrize("method", TRUST)
def test_a_start_outside_its_bounds_is_clipped(method):
    with pytest.warns(StartWarning, match="clipped"):
        optimizer, _ = run(rosenbrock, [-1.2, 0.0], dict(method=method, bounds=([-np.inf, 1.5], np.inf)))
    assert optimizer.result.x[1] == pytest.approx(1.5, abs=1e-6)


# Jacobians


def graph_of(residuals, tensors):
    flat = FlatParameters(tensors)
    return JacobianGraph(residuals.reshape(-1), flat), flat


@pytest.mark.parametrize(("m", "n"), [(200, 3), (5, 40), (700, 300), (1, 1)])
def test_dense_jacobians_are_exact(m, n):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(m, n, generator=generator, dtype=torch.float64)
    b = parameter(torch.linspace(-1, 1, n).tolist())
    graph, flat = graph_of(torch.tanh(weights @ b), [b])
    dense = DenseJacobian(m, n, flat.eps)
    exact = ((1 - torch.tanh(weights @ b) ** 2)[:, None] * weights).detach().numpy()
    np.testing.assert_allclose(dense.build(graph, lambda: None), exact, rtol=1e-12, atol=1e-14)
    assert dense.by_columns == (3 * n < m)
    assert dense.vectorised
    v, u = np.linspace(1, 2, n), np.linspace(-1, 1, m)
    v_, u_ = torch.from_numpy(v), torch.from_numpy(u)
    np.testing.assert_allclose(graph.product(v_), exact @ v, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(graph.adjoint(u_), exact.T @ u, rtol=1e-12, atol=1e-12)


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, b):
        ctx.save_for_backward(b)
        return b**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


class Detached(torch.autograd.Function):
    """Its backward loses the graph of its argument: silently zero when differentiated."""

    @staticmethod
    def forward(ctx, b):
        ctx.save_for_backward(b)
        return b**2

    @staticmethod
    def backward(ctx, grad):
        return (2 * ctx.saved_tensors[0] * grad).detach()


def distance(b):
    """√(b² + 1), by an operation whose second derivative torch does not have."""
    return torch.cdist(torch.cat([b, b.new_zeros(1)])[None], b.new_tensor([[0.0, 1.0]])).reshape(-1)


@pytest.mark.parametrize(
    ("function", "root", "slope", "error"),
    [
        (OnceDifferentiable.apply, 2**0.5, 2 * 2**0.5, InconsistentClosureError),
        (Detached.apply, 2**0.5, 2 * 2**0.5, InconsistentClosureError),
        (distance, 3**0.5, 3**0.5 / 2, SecondDerivativeError),
    ],
)
def test_operations_whose_backward_has_no_derivative_are_met_by_rows(function, root, slope, error):
    t = torch.linspace(0.5, 2, 12, dtype=torch.float64)
    optimizer, b = run(lambda b: function(b) * t - 2 * t, [1.0], "lm")
    assert b.item() == pytest.approx(root)
    np.testing.assert_allclose(optimizer.result.jac[:, 0], slope * t.numpy())
    with pytest.raises(error, match="jacobian='dense'"):
        run(lambda b: function(b) * t - 2 * t, [1.0], jacobian="operator")


def test_operations_that_vmap_refuses_are_met_one_by_one():
    def residuals(b):
        return torch.cat([b * float(b.detach().sum() > -99) + k for k in range(5)]) * Looped.apply(b).repeat(5)

    optimizer, _ = run(residuals, [1.0, 2.0], "trf")
    exact = torch.autograd.functional.jacobian(
        lambda b: torch.cat([b + k for k in range(5)]) * (b**2).repeat(5), torch.tensor(optimizer.result.x)
    )
    np.testing.assert_allclose(optimizer.result.jac, exact.numpy(), atol=1e-12)


class Looped(torch.autograd.Function):
    """Its backward reads numbers, which vmap cannot."""

    @staticmethod
    def forward(ctx, b):
        ctx.save_for_backward(b)
        return b**2

    @staticmethod
    def backward(ctx, grad):
        return torch.stack([2 * b * float(g.detach()) for b, g in zip(ctx.saved_tensors[0], grad, strict=True)])


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (-3, 3)], ids=["open", "bounded"])
@pytest.mark.parametrize("method", TRUST)
def test_operators_find_what_dense_jacobians_find(method, bounds):
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(60, 8, generator=generator, dtype=torch.float64)
    target = torch.tanh(weights @ torch.linspace(-0.5, 0.5, 8, dtype=torch.float64)) + 0.01

    def residuals(b):
        return torch.tanh(weights @ b) ** 3 + torch.tanh(weights @ b) - target - target**3

    args = dict(method=method, tr_solver="lsmr", bounds=bounds)
    dense, _ = run(residuals, [0.1] * 8, args, jacobian="dense")
    products, b = run(residuals, [0.1] * 8, args, jacobian="operator")
    np.testing.assert_allclose(products.result.x, dense.result.x, rtol=1e-6, atol=1e-8)
    assert products.result.nfev == dense.result.nfev
    assert "jac" not in products.result
    assert products.history[-1].nhvp > 0 == dense.history[-1].nhvp
    np.testing.assert_allclose(b.grad.numpy(), products.result.grad, atol=1e-12)


def test_robust_losses_with_operators():
    args = dict(loss="soft_l1", f_scale=0.1, tr_solver="lsmr", ftol=1e-13, xtol=1e-13, gtol=1e-13)
    dense, _ = run(curve(outliers=True), [1.0, 1.0, 0.0], args, jacobian="dense")
    products, _ = run(curve(outliers=True), [1.0, 1.0, 0.0], args, jacobian="operator")
    np.testing.assert_allclose(products.result.x, dense.result.x, rtol=1e-5)


def test_an_operator_reads_leaves_at_its_own_point():
    """p**4 saves the leaf itself: after a rejected trial its graph would read the trial's values."""
    optimizer, _ = run(lambda b: torch.stack([b[0] ** 4 - 1, b[1] ** 4 - 16, b.sum() - 3]), [3.0, 0.2],
                       dict(tr_solver="lsmr"), jacobian="operator")  # fmt: skip
    np.testing.assert_allclose(np.abs(optimizer.result.x), [1, 2], rtol=1e-5)


def test_auto_takes_products_where_the_array_would_not_fit():
    big, _ = run(curve(), [1.0, 1.0, 0.0], memory_budget=1000)
    assert big.history[-1].nhvp > 0
    small, _ = run(curve(), [1.0, 1.0, 0.0], memory_budget=10**6)
    assert small.history[-1].nhvp == 0
    np.testing.assert_allclose(big.result.x, small.result.x, rtol=1e-4)
    for args, kwargs in (("lm", {}), (dict(tr_solver="exact"), {}), ("trf", dict(jacobian="dense"))):
        with pytest.raises(MemoryBudgetError, match="40 residuals by 3 parameters"):
            run(curve(), [1.0, 1.0, 0.0], args, memory_budget=1000, **kwargs)


def test_twenty_thousand_variables():
    """Broyden's tridiagonal equations, as in SciPy's documentation; the dense Jacobian would take 3.2 GB."""

    def broyden(x):
        f = (3 - x) * x + 1
        return f - torch.cat([x.new_zeros(1), x[:-1]]) - 2 * torch.cat([x[1:], x.new_zeros(1)])

    x = torch.nn.Parameter(-torch.ones(20_000, dtype=torch.float64))
    optimizer = LeastSquaresWrapper([x])
    cost = optimizer.step(lambda: broyden(x))
    assert float(cost) < 1e-15
    assert optimizer.result.nfev < 15


# Precision


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("name", ["Misra1a", "Thurber", "Eckerle4"])
def test_float32_parameters(name, method):
    problem = NIST[name]
    optimizer, b = run(problem.residuals, problem.starts[1], dict(method=method, x_scale="jac"), dtype=torch.float32)
    assert optimizer.result.success
    assert b.dtype == torch.float32
    assert 2 * optimizer.result.cost == pytest.approx(problem.residual_sum, rel=1e-2)
    np.testing.assert_allclose(b.detach().numpy(), problem.certified, rtol=2e-2)
    assert optimizer.result.nfev < 60


@pytest.mark.parametrize("method", ALL)
def test_float32_fits_small_residuals_to_its_own_precision(method):
    """A gradient tolerance that fits residuals of one ends a fit of residuals of 1e-3 early."""
    t = torch.linspace(0, 1, 20)
    b = parameter([1.0, 0.5], torch.float32)
    optimizer = LeastSquaresWrapper([b], method)
    optimizer.step(lambda: 4e-3 * (b[0] * torch.exp(-b[1] * t) - 2 * torch.exp(-3 * t)))
    np.testing.assert_allclose(optimizer.result.x, [2, 3], rtol=2e-4)


def test_mixed_precision_and_shapes():
    weight, offset = parameter([[1.0], [2.0]], torch.float32), parameter(0.3)
    t = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(2, 12)
    optimizer = LeastSquaresWrapper([weight, offset], "lm")
    cost = optimizer.step(lambda: weight * t + offset - (3 * t + 1))
    assert cost.dtype == torch.float32
    np.testing.assert_allclose(optimizer.result.x, [3, 3, 1], rtol=1e-5)
    assert optimizer.result.residuals.shape == (24,)


def test_frozen_and_tied_parameters():
    layer, other = torch.nn.Linear(1, 1).double(), torch.nn.Linear(1, 1).double()
    other.weight = layer.weight
    other.bias.requires_grad_(False)
    model = torch.nn.ModuleList([layer, other])
    frozen = other.bias.item()
    t = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    optimizer = LeastSquaresWrapper(model.parameters(), "dogbox")
    optimizer.step(lambda: layer(t) + other(t) - (4 * t + 1))
    assert optimizer.result.jac.shape == (9, 2)
    assert layer.weight.item() == pytest.approx(2)
    assert other.bias.item() == frozen
    assert layer.bias.item() == pytest.approx(1 - frozen)


def test_a_parameter_the_residuals_ignore_stays():
    used, unused = parameter([5.0]), parameter([7.0])
    t = torch.ones(4, dtype=torch.float64)
    optimizer = LeastSquaresWrapper([used, unused], "trf")
    with pytest.warns(ClosureWarning, match=r"does not depend on parameter 1 of shape \(1,\)"):
        optimizer.step(lambda: used * t - 2)
    assert (used.item(), unused.item()) == (pytest.approx(2), 7)


# Events


@pytest.mark.parametrize("jacobian", ["dense", "operator"])
@pytest.mark.parametrize("method", ALL)
def test_iterations_are_the_accepted_points(method, jacobian):
    if jacobian == "operator" and method == "lm":
        pytest.skip("lm needs a dense Jacobian")
    calls, seen = [0], []
    b = parameter([-1.2, 1.0])

    def closure():
        calls[0] += 1
        return rosenbrock(b)

    def callback(iteration):
        seen.append((iteration.index, b.detach().clone().numpy()))

    optimizer = LeastSquaresWrapper(
        [b], method, jacobian=jacobian, callbacks=callback, keep_parameters=True, start_check=False
    )
    optimizer.step(closure)
    history, result = optimizer.history, optimizer.result
    assert history.index.tolist() == list(range(len(history)))
    assert result.nit == history[-1].index
    assert len(history) <= result.njev <= len(history) + 1  # lm may be asked once more, at the end
    assert calls[0] == history.totals.nfev <= result.nfev
    assert (np.diff(history.loss) < 0).all()
    for (index, values), iteration, x in zip(seen, history, history.parameters, strict=True):
        assert index == iteration.index
        np.testing.assert_array_equal(values, x)
        exact = torch.autograd.functional.jacobian(rosenbrock, torch.tensor(x)).numpy()
        f = rosenbrock(torch.tensor(x)).numpy()
        assert iteration.loss == pytest.approx(0.5 * f @ f)
        assert iteration.grad_norm == pytest.approx(np.linalg.norm(exact.T @ f), abs=1e-12)
        assert (iteration.trust_radius is None) == (method == "lm" or index == 0)
    steps = np.linalg.norm(np.diff(history.parameters, axis=0), axis=1)
    np.testing.assert_allclose(history.step_norm[1:], steps)
    assert history[0].step_norm is None
    assert history[-1].grad_norm_inf == pytest.approx(result.optimality, abs=1e-12)


def test_trials_are_evaluations():
    b = parameter([-1.2, 1.0])
    optimizer = LeastSquaresWrapper([b], "trf", keep_evaluations=True)

    def closure():
        optimizer.record(first=b[0])
        return rosenbrock(b)

    optimizer.step(closure)
    history = optimizer.history
    assert len(history.evaluations) == history.totals.nfev > len(history)
    assert history[-1].metrics["first"] == pytest.approx(1)


@pytest.mark.parametrize("method", ALL)
def test_scipys_own_callback_in_both_forms(method):
    seen = []

    def rich(intermediate_result):
        seen.append(intermediate_result)

    optimizer, _ = run(rosenbrock, [-1.2, 1.0], dict(method=method, callback=rich))
    assert [state.nit for state in seen] == list(range(1, optimizer.result.nit + 1))
    assert seen[-1].fun.shape == (2,)
    assert seen[-1].cost == optimizer.history[-1].loss

    def bare(x):
        seen.append(x)
        raise StopIteration

    optimizer, b = run(rosenbrock, [-1.2, 1.0], dict(method=method, callback=bare))
    assert optimizer.result.status == 99
    np.testing.assert_array_equal(seen[-1], optimizer.result.x)
    assert optimizer.result.nit == 1
    np.testing.assert_array_equal(b.detach().numpy(), optimizer.result.x)

    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(rosenbrock, [-1.2, 1.0], dict(method=method, callback=broken))


# Endings


def best_of(optimizer, residuals):
    losses = [e.loss for e in optimizer.history.evaluations]
    f = residuals(torch.tensor(optimizer.result.x))
    assert float(0.5 * f @ f) == pytest.approx(min(losses))
    assert optimizer.result.fun == optimizer.result.cost == pytest.approx(min(losses))
    np.testing.assert_allclose(optimizer.result.residuals, f.numpy())


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize(
    ("keywords", "status", "success"),
    [
        (dict(max_evaluations=7), 102, False),
        (dict(target_loss=0.5), 104, True),
        (dict(callbacks=lambda iteration: iteration.index == 3), 99, False),
        (dict(max_seconds=1e-9), 103, False),
    ],
)
def test_runs_we_end_leave_the_best_point(method, keywords, status, success):
    b = parameter([-1.2, 1.0])
    optimizer = LeastSquaresWrapper([b], method, keep_evaluations=True, **keywords)
    optimizer.step(lambda: rosenbrock(b))
    assert (optimizer.result.status, optimizer.result.success) == (status, success)
    np.testing.assert_array_equal(b.detach().numpy(), optimizer.result.x)
    assert optimizer.history.status == status
    if status != 103:
        best_of(optimizer, rosenbrock)
        assert "jac" not in optimizer.result


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt()])
def test_errors_of_the_closure_leave_the_best_point(method, error):
    b = parameter([-1.2, 1.0])
    optimizer = LeastSquaresWrapper([b], method, keep_evaluations=True)

    def closure():
        if len(optimizer._objective.observer.history.evaluations) == 6:
            raise error
        return rosenbrock(b)

    with pytest.raises(type(error)):
        optimizer.step(closure)
    assert optimizer.result.status == (106 if isinstance(error, KeyboardInterrupt) else 107)
    best_of(optimizer, rosenbrock)


@pytest.mark.parametrize("method", ALL)
def test_scipys_own_limit_on_evaluations(method):
    optimizer, _ = run(rosenbrock, [-1.2, 1.0], dict(method=method, max_nfev=5))
    assert (optimizer.result.status, optimizer.result.scipy_status) == (Status.MAX_EVALUATIONS, 0)
    assert not optimizer.result.success
    assert optimizer.result.nfev <= 6


@pytest.mark.parametrize("method", ALL)
def test_trials_that_are_not_finite_make_the_method_step_back(method):
    optimizer, b = run(walled, [-1.2, 1.0], method)
    assert b[0].item() == pytest.approx(0.5, abs=1e-3)
    assert b[0].item() <= 0.5
    assert optimizer.result.success
    assert np.isfinite(optimizer.history.loss).all()


@pytest.mark.parametrize("method", ALL)
def test_squares_that_overflow_are_not_finite_either(method):
    optimizer, b = run(lambda b: torch.exp(b * b) - torch.tensor([2.0, 3.0], dtype=torch.float64), [0.01, 0.02], method)
    np.testing.assert_allclose(np.abs(b.detach().numpy()), np.sqrt(np.log([2, 3])), rtol=1e-5)
    assert optimizer.result.success


@pytest.mark.parametrize("method", ALL)
def test_nothing_begins_where_residuals_or_jacobian_are_not_finite(method):
    with pytest.raises(NonFiniteStartError, match="loss is nan"):
        run(walled, [0.7, 1.0], method)
    with pytest.raises(NonFiniteStartError, match="Jacobian"):
        run(torch.sqrt, [0.0, 1.0], method)


@pytest.mark.parametrize("jacobian", ["dense", "operator"])
def test_a_jacobian_that_breaks_later_ends_the_run(jacobian):
    def residuals(b):
        return b if b[0] > 1 else b + torch.sqrt((b - b.detach()).abs())

    optimizer, _ = run(residuals, [2.0], jacobian=jacobian)
    assert optimizer.result.status == 108
    assert optimizer.result.x[0] < 1


# Refusals


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ("newton", UnknownMethodError, "trf, dogbox, lm"),
        (dict(method=3), ArgumentTypeError, "trf"),
        (3, ArgumentTypeError, "least_squares_args"),
        (dict(fltol=1), UnknownOptionError, "ftol"),
        (dict(method="lm", tr_solver="svd"), ArgumentError, "lsmr"),
        (dict(method="lm", loss="huber"), ArgumentError, "robust losses need trf or dogbox"),
        (dict(method="lm", bounds=(0, 1)), ArgumentError, "cannot take bounds"),
        (dict(loss="hubert"), ArgumentError, "soft_l1"),
        (dict(ftol=-1), ArgumentError, "at least 0"),
        (dict(max_nfev=0), ArgumentError, "at least 1"),
        (dict(tr_solver="svd"), ArgumentError, "lsmr"),
        (dict(x_scale=[1.0, 2.0, 3.0]), ArgumentError, "2 positive numbers"),
        (dict(x_scale="auto"), ArgumentError, "jac"),
        (dict(bounds=3), ArgumentError, "lb, ub"),
        (dict(bounds=([0, 0, 0], 1)), ArgumentError, "2 variables"),
        (dict(bounds=(1, 0)), ArgumentError, "exceed"),
        (dict(bounds=[(0, 5), (0, 5)]), ArgumentError, "not a pair for each variable"),
        (dict(callback=3), ArgumentTypeError, "callable"),
        *(({name: None}, ArgumentError, "leave it out") for name in ("fun", "x0", "args", "jac", "jac_sparsity")),
    ],
)
def test_arguments_are_refused_at_once(args, error, words):
    with pytest.raises(error, match=words):
        LeastSquaresWrapper([parameter([1.0, 1.0])], args)


@pytest.mark.parametrize(
    ("args", "words"),
    [("lm", "dense"), (dict(tr_solver="exact"), "lsmr"), (dict(x_scale="jac"), "columns")],
)
def test_what_an_operator_cannot_do(args, words):
    with pytest.raises(ArgumentError, match=words):
        LeastSquaresWrapper([parameter([1.0])], args, jacobian="operator")
    with pytest.raises(ArgumentError, match="auto, dense, operator"):
        LeastSquaresWrapper([parameter([1.0])], jacobian="sparse")


def test_marquardt_needs_as_many_residuals_as_parameters():
    events = []
    with pytest.raises(ArgumentError, match="1 residuals for 2 parameters"):
        run(lambda b: b.sum(), [1.0, 2.0], "lm", callbacks=events.append)
    assert not events
    for method in TRUST:
        optimizer, _ = run(lambda b: b.sum() - 1, [1.0, 2.0], method)
        assert optimizer.result.cost < 1e-12


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda b: None, "nothing"),
        (lambda b: 3.0, "float"),
        (lambda b: b.to(torch.complex128), "real"),
        (lambda b: (b > 0).long(), "floating"),
        (lambda b: b[:0], "empty"),
        (lambda b: b.detach(), "do not depend"),
    ],
)
def test_closures_that_return_no_residuals(returned, words):
    with pytest.raises(ClosureError, match=words):
        run(returned, [1.0, 2.0])


def test_the_number_of_residuals_may_not_change():
    with pytest.raises(ClosureError, match="at the start"):
        run(lambda b: b if b[0] == 1 else torch.cat([b, b]), [1.0, 2.0])


def test_the_callers_dict_is_left_alone():
    args = dict(method="TRF", tr_solver="lsmr", tr_options=dict(regularize=False, damp=0.0))
    optimizer, _ = run(rosenbrock, [-1.2, 1.0], args)
    assert args == dict(method="TRF", tr_solver="lsmr", tr_options=dict(regularize=False, damp=0.0))
    assert "tr_solver='lsmr'" in repr(optimizer)
    optimizer.step(lambda: rosenbrock(optimizer.param_groups[0]["params"][0]))
    assert args["tr_options"] == dict(regularize=False, damp=0.0)


def test_the_table_knows_every_option_of_the_installed_scipy():
    import inspect

    ours = {name for spec in LEAST_SQUARES_METHODS.values() for name in spec.options}
    signature = inspect.signature(scipy.optimize.least_squares).parameters
    elsewhere = {"fun", "x0", "jac", "method", "bounds", "args", "kwargs", "diff_step", "jac_sparsity", "callback"}
    assert set(signature) - elsewhere - {"workers"} == ours
    for spec in LEAST_SQUARES_METHODS.values():
        for name, row in spec.options.items():
            default = signature[name].default
            assert row.default == default or name in ("x_scale", "tr_options")  # spelt otherwise before 1.16


def test_a_run_leaves_no_graph_and_no_warning():
    b = parameter([-1.2, 1.0])
    optimizer = LeastSquaresWrapper([b], jacobian="operator")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step(lambda: rosenbrock(b))
        report = optimizer.check(lambda: rosenbrock(b))
    assert report is not None
    assert b.grad is not None
    assert b.grad.grad_fn is None


@pytest.mark.parametrize(
    ("method", "keywords"),
    [
        ("trf", {"jacobian": "dense"}),
        ("trf", {"jacobian": "operator"}),
        ("lm", {"engine": "torch"}),
        ("gauss-newton", {}),
    ],
)
def test_a_closure_that_calls_backward_is_told_to_leave_it_out(method, keywords):
    b = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))

    def closure():
        residuals = torch.exp(b) - 1
        residuals.square().sum().backward()
        return residuals

    with pytest.raises(ClosureError, match=r"freed by a backward\(\).*remove backward\(\)"):
        LeastSquaresWrapper([b], method, **keywords).step(closure)


@pytest.mark.parametrize("method", ALL)
def test_an_f_scale_of_none_is_the_default(method):
    b = parameter([1.0, 1.0])
    LeastSquaresWrapper([b], dict(method=method, f_scale=None)).step(lambda: b - 2)
    np.testing.assert_allclose(b.detach(), [2, 2], rtol=1e-6)
