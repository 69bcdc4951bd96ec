"""`result.fun` is the loss at `result.x`, and what else a result says belongs to that x: for every method."""

import math

import numpy as np
import pytest
import scipy
import torch

import torchmin_nb
from tests.core.optimizers.global_search.searches import GLOBAL_METHODS, WRAPPERS, Loss, optimizer, short
from tests.core.scipys import LEAST_SQUARES_METHODS, METHODS
from torchmin_nb import Constraint, LeastSquaresWrapper, MinimizeWrapper

LOSSES = {
    "absolute": lambda x: x.abs().sum(),
    "root": lambda x: (x - 0.25).abs().sqrt().sum(),
    "tiny minimum": lambda x: (x - 1e-12).square().sum().sqrt(),
    "huge": lambda x: 1e31 * (1 + x.square().sum()),
    "tiny": lambda x: 1e-31 * (1 + x.square().sum()),
    "sign of zero": lambda x: torch.copysign(torch.ones_like(x), x).sum() + x.square().sum(),
    "rounded": lambda x: torch.round(4 * x).square().sum() + x.square().sum(),
    "holes": lambda x: x.sum() * math.nan if x.sum() < -1.5 else ((x - 0.3) ** 4).sum(),
}
STARTS = [[1.1, -0.7], [0.0, 0.0], [-0.0, 0.5], [0.0, -0.0], [2.0, 1.0]]
EACH_LOSS = pytest.mark.parametrize("function", LOSSES.values(), ids=LOSSES)
QUIET = "ignore::RuntimeWarning"
SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))


def belongs(made, loss):
    """Evaluate the closure again at result.x."""
    result = made.result
    with torch.no_grad():
        loss.x.copy_(torch.tensor(result.x))
        assert result.fun == float(loss.function(loss.x))


@pytest.mark.filterwarnings(
    QUIET, "ignore::torchmin_nb.errors.StartWarning", "ignore::torchmin_nb.errors.ConvergenceWarning"
)
@pytest.mark.parametrize("start", STARTS, ids=map(str, STARTS))
@EACH_LOSS
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.crossed
def test_of_a_local_method(method, function, start):
    if SCIPY < (1, 17) and method in ("trust-exact", "dogleg"):
        pytest.skip("this SciPy's trust-exact may never end where the Hessian is not finite or zero")
    loss = Loss(function, start)
    made = MinimizeWrapper([loss.x], dict(method=method, options=dict(maxiter=60)))
    made.step(loss)
    belongs(made, loss)


@pytest.mark.filterwarnings(
    QUIET, "ignore::torchmin_nb.errors.StartWarning", "ignore::torchmin_nb.errors.ConvergenceWarning"
)
@pytest.mark.parametrize("maxiter", [5, 9, 17])
@pytest.mark.parametrize("method", METHODS)
def test_of_a_local_method_that_is_cut_short_with_scales_and_bounds(method, maxiter):
    loss = Loss(LOSSES["root"], [1.1, -0.7])
    group = {"params": [loss.x], "scale": 0.3}
    if METHODS[method].bounds:
        group["bounds"] = (-1.0, 2.0)
    made = MinimizeWrapper([group], dict(method=method, options=dict(maxiter=maxiter)))
    made.step(loss)
    belongs(made, loss)


@pytest.mark.filterwarnings(
    QUIET, "ignore::torchmin_nb.errors.StartWarning", "ignore::torchmin_nb.errors.ConvergenceWarning"
)
@EACH_LOSS
@pytest.mark.parametrize("name", GLOBAL_METHODS)
def test_of_a_global_method(name, function):
    loss = Loss(function, [1.1, -0.7])
    made = optimizer(name, [loss.x], short(name, bounds=(-1.7, 2.0)))
    made.step(loss)
    belongs(made, loss)
    for fun, x in made.result.get("minima", []):
        assert fun == pytest.approx(float(function(torch.tensor(x))), rel=1e-12)


@pytest.mark.parametrize("finish", [True, None, "Nelder-Mead", lambda f, x, args: (np.array(x) + 0.01, -5.0, 0)])
def test_of_brute_whoever_finishes(finish):
    loss = Loss(LOSSES["root"], [1.1, -0.7])
    made = optimizer("brute", [loss.x], dict(bounds=(-1.0, 2.0), Ns=5, finish=finish))
    made.step(loss)
    belongs(made, loss)


def test_of_a_method_of_the_users_own_that_reports_another():
    loss = Loss(LOSSES["root"], [1.1, -0.7])

    def lies(fun, x0, **ignored):
        fun(x0)
        return torchmin_nb.core.execution.engine.OptimizeResult(x=x0 + 0.5, fun=-1.0)

    made = MinimizeWrapper([loss.x], lies)
    made.step(loss)
    belongs(made, loss)


# What else belongs to x


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_violation_is_that_of_x(seed, vectorized):
    loss = Loss(lambda x: (x - 2).square().sum(), [0.1, 0.2])
    inside = Constraint(lambda: 1 - loss.x.square().sum(), lower=0.0)
    kwargs = dict(bounds=(-3, 3), rng=seed, maxiter=8, popsize=6, constraints=inside)
    made = optimizer(
        "differential_evolution",
        [loss.x],
        kwargs | dict(vectorized=vectorized),
        loss=lambda parts: (parts[0] - 2).square().sum(),
    )
    made.step(loss)
    true = max(0.0, float(np.sum(made.result.x**2)) - 1)
    assert made.result.maxcv == made.result.constr_violation == pytest.approx(true, abs=1e-15)
    assert np.concatenate(made.result.constr) == pytest.approx([true], abs=1e-15)
    assert true <= 1e-6 or not made.result.success
    belongs(made, loss)


def curved(x):
    return ((x - torch.tensor([1.0, 2.0, 3.0])) ** 2).sum() + x.prod()


def curved_gradient(x):
    return 2 * (x - [1.0, 2.0, 3.0]) + np.prod(x) / x


BOUNDED = [name for name, spec in METHODS.items() if spec.bounds and spec.gradient != "none"]


@pytest.mark.filterwarnings("ignore::torchmin_nb.errors.ConvergenceWarning")  # by its last bits, of trust-constr
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("method", BOUNDED)
def test_the_gradient_along_fixed_variables(method, scale):
    x = torch.nn.Parameter(torch.tensor([0.5, 4.0, 2.5]).double())
    group = {"params": [x], "bounds": (torch.tensor([-9.0, 4.0, -9.0]), torch.tensor([9.0, 4.0, 9.0])), "scale": scale}
    made = MinimizeWrapper([group], method)
    made.step(lambda: curved(x))
    found = made.result.grad if method == "trust-constr" else made.result.jac
    assert found == pytest.approx(curved_gradient(made.result.x), abs=1e-9)
    assert abs(found[1]) > 1


def test_the_gradient_where_all_are_fixed():
    x = torch.nn.Parameter(torch.tensor([0.5, 4.0, 2.5]).double())
    made = MinimizeWrapper([{"params": [x], "bounds": (x.detach().clone(), x.detach().clone())}], "L-BFGS-B")
    made.step(lambda: curved(x))
    assert made.result.jac == pytest.approx(curved_gradient(np.array([0.5, 4.0, 2.5])))


@pytest.mark.parametrize("loss", ["linear", "soft_l1"])
@pytest.mark.parametrize("method", LEAST_SQUARES_METHODS)
def test_the_jacobian_along_fixed_variables(method, loss):
    if loss != "linear" and not LEAST_SQUARES_METHODS[method].robust:
        return
    x = torch.nn.Parameter(torch.tensor([0.5, 4.0]).double())
    t = torch.linspace(0, 1, 6, dtype=torch.float64)
    group = {"params": [x], "bounds": (torch.tensor([-np.inf, 4.0]), torch.tensor([np.inf, 4.0]))}
    made = LeastSquaresWrapper([group], dict(method=method, loss=loss))
    made.step(lambda: x[0] * t + x[1] * t**2 - 3 * t)
    free = torch.nn.Parameter(torch.tensor(made.result.x))
    same = LeastSquaresWrapper([free], dict(method="trf", loss=loss, max_nfev=1))
    same.step(lambda: free[0] * t + free[1] * t**2 - 3 * t)
    assert made.result.jac == pytest.approx(same.result.jac, abs=1e-9)
    assert made.result.grad == pytest.approx(same.result.grad, abs=1e-9)
    assert abs(made.result.grad[1]) > 1e-3


@pytest.mark.parametrize("name", [name for name in WRAPPERS if GLOBAL_METHODS[name].local])
def test_the_gradient_of_a_global_result_is_that_at_its_x(name):
    loss = Loss(lambda x: curved(x), [0.5, 4.0, 2.5])
    group = {"params": [loss.x], "bounds": (torch.tensor([-5.0, 4.0, -5.0]), torch.tensor([5.0, 4.0, 5.0]))}
    kwargs = {key: value for key, value in short(name).items() if key != "bounds"}
    made = optimizer(name, [group], kwargs)
    made.step(loss)
    if "jac" in made.result:
        assert made.result.jac == pytest.approx(curved_gradient(made.result.x), abs=1e-6)
