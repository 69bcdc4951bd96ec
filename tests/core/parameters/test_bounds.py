"""Bounds: every form, every method that takes them, against plain SciPy; fixed variables; what is refused."""

import math
import warnings

import numpy as np
import pytest
import scipy.optimize
import torch
from scipy.optimize import Bounds

from tests.core.problems import PROBLEMS
from torchmin_nb import METHODS, MinimizeWrapper, minimize
from torchmin_nb.core.objective.constraints import Constraint
from torchmin_nb.core.runtime.blas_threads import blas_threads
from torchmin_nb.errors import ArgumentError, StartWarning

# trust-constr ends within bounds before its barrier is gone: some 1e-4 of the loss are left.
pytestmark = pytest.mark.filterwarnings("ignore:trust-constr reports success:torchmin_nb.errors.ConvergenceWarning")

ABLE = [name for name, spec in METHODS.items() if spec.bounds]
UNABLE = [name for name in METHODS if name not in ABLE]
EACH = pytest.mark.parametrize("method", ABLE)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
ROSENBROCK = PROBLEMS["Rosenbrock 2"]
INF = math.inf

# How near the minimum they come: trust-constr leaves a barrier, COBYLA's last simplex has a radius of 1e-4.
NEAR = {"trust-constr": 5e-3, "COBYLA": 1e-3, "Nelder-Mead": 1e-3}
# trust-constr and COBYLA treat a bound as a constraint: their points may lie outside, and a little so at the end.
LEAVES = {"trust-constr": 1e-6, "COBYLA": 2e-4}


def _parameter(values, dtype=torch.float64):
    return torch.nn.Parameter(torch.tensor(values, dtype=dtype))


def _quadratic(x, centre=(2.0, -1.0, 0.5)):
    """Coupled; without bounds its minimum is at the centre."""
    d = x - torch.tensor(centre, dtype=x.dtype)
    return (d**2 * torch.tensor([1.0, 2.0, 3.0], dtype=x.dtype)).sum() + 0.5 * d[0] * d[1]


LOW, HIGH = [-1.0, -0.5, -INF], [1.0, INF, INF]
# x₀ = 1 and x₁ = -0.5 are held (both gradients point outward), x₂ is free
SOLUTION = np.array([1.0, -0.5, 0.5])


def _run(method, bounds=None, *, loss=_quadratic, start=(0.0, 0.5, 0.0), dtype=torch.float64, given=None, **kwargs):
    """The optimizer after a run, and the parameter. bounds: of the group; given: of minimizer_args."""
    p = _parameter(start, dtype)
    kwargs.setdefault("start_check", False)
    optimizer = MinimizeWrapper([{"params": [p], "bounds": bounds}], {"method": method, "bounds": given}, **kwargs)
    optimizer.step(lambda: loss(p))
    return optimizer, p


FORMS = {
    "tensors": ((torch.tensor(LOW), torch.tensor(HIGH)), None),
    "arrays": ((np.array(LOW), np.array(HIGH)), None),
    "Bounds": (None, Bounds(LOW, HIGH)),
    "pairs": (None, [(-1, 1), (-0.5, None), (None, None)]),
    "infinite pairs": (None, [(-1, 1), (-0.5, INF), (-INF, INF)]),
    "array of pairs": (None, np.array([LOW, HIGH]).T),
    "iterator": (None, zip(LOW, HIGH, strict=True)),
}


@EACH
@DTYPES
def test_a_known_minimum(method, dtype):
    optimizer, p = _run(method, (torch.tensor(LOW), torch.tensor(HIGH)), dtype=dtype)
    x = optimizer.result.x
    np.testing.assert_allclose(x, SOLUTION, atol=NEAR.get(method, 1e-4) * (4 if dtype == torch.float32 else 1))
    np.testing.assert_array_equal(p.detach(), torch.tensor(x).to(dtype))
    slack = LEAVES.get(method, 0.0)
    assert (x >= np.array(LOW) - slack).all()
    assert (x <= np.array(HIGH) + slack).all()


@pytest.mark.parametrize("method", ["L-BFGS-B", "Powell", "trust-constr"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form(method, form):
    group, given = FORMS[form]
    if form == "iterator":
        given = zip(LOW, HIGH, strict=True)
    optimizer, _ = _run(method, group, given=given)
    np.testing.assert_allclose(optimizer.result.x, SOLUTION, atol=NEAR.get(method, 1e-4))


def test_numbers_and_groups():
    a, b, c = (_parameter(v) for v in ([[0.0, 3.0]], 0.5, [4.0]))
    groups = [{"params": [a], "bounds": (-1, 1)}, {"params": [b]}, {"params": [c], "bounds": (None, 2.5)}]
    optimizer = MinimizeWrapper(groups, "L-BFGS-B")
    with pytest.warns(StartWarning, match="^2 starting values"):
        optimizer.step(lambda: ((a - 5) ** 2).sum() + (b - 5) ** 2 + ((c - 5) ** 2).sum())
    np.testing.assert_allclose(optimizer.result.x, [1, 1, 5, 2.5], atol=1e-6)


def test_bounds_alone_choose_lbfgsb():
    assert MinimizeWrapper([_parameter([0.0])], {"bounds": [(0, 1)]}).request.spec.name == "L-BFGS-B"


def test_open_bounds_are_none():
    optimizer, _ = _run("L-BFGS-B", (None, None))
    np.testing.assert_allclose(optimizer.result.x, [2, -1, 0.5], atol=1e-4)


def test_minimize_takes_bounds():
    result = minimize(lambda x: ((x - 3) ** 2).sum(), torch.zeros(2), bounds=[(0, 1), (None, 2)])
    torch.testing.assert_close(result.x, torch.tensor([1.0, 2.0]))


# Beside plain SciPy

CASES = {
    "active": Bounds([-2.0, -1.0], [0.5, 2.0]),
    "start on a bound": Bounds([-1.2, 0.0], [3.0, 1.0]),
    "half open": Bounds([-INF, 1.5], [INF, INF]),
}


@EACH
@pytest.mark.parametrize("case", CASES)
def test_the_run_is_plain_scipys(method, case):
    options = {"maxiter": 150} if method == "COBYLA" else {"maxiter": 60} if method == "COBYQA" else {}
    p = _parameter([-1.2, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StartWarning)
        optimizer = MinimizeWrapper([p], {"method": method, "bounds": CASES[case], "options": options})
        optimizer.step(lambda: ROSENBROCK.loss(p))
    given = {}
    if METHODS[method].gradient != "none":
        given["jac"] = ROSENBROCK.grad
    if METHODS[method].curvature != "none":
        given["hessp"] = lambda x, v: ROSENBROCK.hess(x) @ v
    start = np.clip([-1.2, 1.0], CASES[case].lb, CASES[case].ub)
    with blas_threads(1):
        theirs = scipy.optimize.minimize(
            ROSENBROCK.f, start, method=method, bounds=CASES[case], options=options, **given
        )
    # TNC's Hessian is differences of gradients, which magnify the last bit
    np.testing.assert_allclose(optimizer.result.x, theirs.x, rtol=1e-6, atol=1e-7)
    allowed = 2 if method == "trust-constr" else 0  # whose products H·v are never the same to the last bit: measured
    assert abs(optimizer.result.nfev - theirs.nfev) <= allowed
    if "nit" in theirs:
        assert abs(optimizer.result.nit - theirs.nit) <= allowed


# The start


@EACH
def test_a_start_outside_is_clipped_with_a_warning(method):
    seen = []

    def loss(x):
        seen.append(x.detach().clone())
        return _quadratic(x)

    with pytest.warns(StartWarning, match="^2 starting values are outside their bounds and were clipped") as caught:
        optimizer, _ = _run(method, (torch.tensor(LOW), torch.tensor(HIGH)), loss=loss, start=(5.0, -3.0, 0.0))
    assert len([each for each in caught if each.category is StartWarning]) == 1
    assert caught[0].filename == __file__
    assert seen[0].tolist() == [1.0, -0.5, 0.0]
    np.testing.assert_allclose(optimizer.result.x, SOLUTION, atol=NEAR.get(method, 1e-4))


@pytest.mark.parametrize("method", [name for name in ABLE if METHODS[name].constraints])
def test_the_start_check_and_the_constraints_see_the_clipped_start(method):
    """Outside the bounds there is nothing: the loss is NaN there."""

    def closure():
        assert float(p.detach().min()) > 0
        return (p - p.log()).sum()

    def constraint(x):
        assert float(x.detach().min()) > 0
        return x.sum()

    p = _parameter([-1.0, 2.0])
    optimizer = MinimizeWrapper(
        [{"params": [p], "bounds": (0.1, None)}],
        {"method": method, "constraints": Constraint(constraint, lower=0.5), "bounds": None},
        max_evaluations=1,
    )
    with pytest.warns(StartWarning, match="^1 starting values"):
        optimizer.step(closure)
    assert p.tolist() == [0.1, 2.0]


@DTYPES
def test_a_start_that_rounding_left_outside_is_moved_quietly(dtype):
    """0.1 in single precision lies above 0.1: the end of one run is the start of the next."""
    p = _parameter([0.0, 0.0], dtype)
    optimizer = MinimizeWrapper([{"params": [p], "bounds": (None, 0.1)}], "L-BFGS-B")
    for _ in range(2):
        optimizer.step(lambda: ((p - 3) ** 2).sum())
    np.testing.assert_array_equal(optimizer.result.x, [0.1, 0.1])


# Fixed variables


@EACH
@DTYPES
def test_fixed_variables(method, dtype):
    """Quietly, also where they start elsewhere."""
    low, high = torch.tensor([-INF, 0.25, -INF]), torch.tensor([INF, 0.25, INF])
    optimizer, p = _run(method, (low, high), start=(0.0, 3.0, 0.0), dtype=dtype, keep_parameters=True)
    assert float(p.detach()[1]) == 0.25
    np.testing.assert_array_equal(optimizer.history.parameters[:, 1], 0.25)
    # with d₁ = 1.25 fixed, 2 d₀ + 0.5 d₁ = 0
    np.testing.assert_allclose(p.detach(), [2 - 0.3125, 0.25, 0.5], atol=2e-3)
    if METHODS[method].gradient != "none":
        assert p.grad is not None
        assert np.shape(optimizer.result.get("grad", optimizer.result.get("jac"))) == (3,)


@EACH
def test_fixed_and_bounded(method):
    low, high = torch.tensor([-1.0, 0.25, 0.0]), torch.tensor([1.0, 0.25, 0.3])
    optimizer, _ = _run(method, (low, high), start=(0.0, 0.25, 0.1))
    # Nelder-Mead's simplex collapses into a corner on the way
    np.testing.assert_allclose(optimizer.result.x, [1, 0.25, 0.3], atol=0.35 if method == "Nelder-Mead" else 5e-3)


@EACH
@pytest.mark.parametrize("method_bounds", ["group", "pairs"])
def test_all_fixed(method, method_bounds):
    values = [0.5, 0.25, -1.0]
    group = (torch.tensor(values), torch.tensor(values)) if method_bounds == "group" else None
    given = None if group else [(v, v) for v in values]
    calls = []

    def loss(x):
        calls.append(1)
        return _quadratic(x)

    optimizer, p = _run(method, group, given=given, loss=loss)
    assert p.tolist() == values
    assert len(calls) == 1
    result = optimizer.result
    assert (result.success, result.status, result.message) == (True, 0, "All variables are fixed.")
    assert result.fun == pytest.approx(float(_quadratic(torch.tensor(values))))
    assert len(optimizer.history) == 1


@pytest.mark.parametrize("method", ["SLSQP", "trust-constr", "COBYLA", "COBYQA"])
@pytest.mark.parametrize(("upper", "success"), [(1.0, True), (0.2, False)])
def test_all_fixed_under_a_constraint(method, upper, success):
    p = _parameter([3.0])
    optimizer = MinimizeWrapper(
        [{"params": [p], "bounds": (0.5, 0.5)}], {"method": method, "constraints": Constraint(lambda x: x, upper=upper)}
    )
    optimizer.step(lambda: (p**2).sum())
    assert optimizer.result.success == success
    assert ("violate the constraints" in optimizer.result.message) != success


def test_a_fixed_variable_may_start_anywhere_and_moves_quietly():
    p = _parameter([7.0, 0.0])
    optimizer = MinimizeWrapper([p], {"bounds": [(1, 1), (None, None)]})
    optimizer.step(lambda: (p**2).sum() + p.prod())
    np.testing.assert_allclose(p.detach(), [1, -0.5], atol=1e-5)


# Stopped


@EACH
@pytest.mark.filterwarnings("ignore:Values in x were outside bounds:RuntimeWarning")  # SLSQP of SciPy < 1.16
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("budget", [1, 3, 7, 15, 30])
@pytest.mark.crossed
def test_the_best_point_of_a_stopped_run_is_inside(method, scale, budget):
    """Against a record of its own. Outside the loss is lower: COBYLA and trust-constr do look there."""
    low, high = np.array([0.1, -0.7]), np.array([0.9, 0.7])
    seen = []
    p = _parameter([0.3, 0.1])

    def closure():
        loss = ((p - 3) ** 2).sum() + p.prod()
        seen.append((p.detach().numpy().copy(), float(loss.detach())))
        return loss

    group = {"params": [p], "bounds": (torch.tensor(low), torch.tensor(high)), "scale": scale}
    optimizer = MinimizeWrapper([group], method, max_evaluations=budget, start_check=False)
    optimizer.step(closure)
    if optimizer.result.status != 102:
        return  # done before the budget was spent
    x = optimizer.result.x
    assert ((low <= x) & (x <= high)).all()
    inside = [(loss, point) for point, loss in seen if ((low <= point) & (point <= high)).all()]
    loss, point = min(inside, key=lambda entry: entry[0])
    assert optimizer.result.fun == loss
    np.testing.assert_array_equal(x, point)
    np.testing.assert_array_equal(p.detach(), x)


@EACH
def test_a_target_counts_inside_only(method):
    optimizer, _ = _run(method, (-1.0, 1.0), target_loss=0.5, loss=lambda x: ((x - 2) ** 2).sum())
    assert optimizer.result.status != 104
    assert optimizer.result.fun > 2.9


@EACH
def test_the_violation_is_told(method):
    """0 for the methods that stay inside."""
    optimizer, _ = _run(method, (torch.tensor(LOW), torch.tensor(HIGH)), keep_parameters=True)
    points = optimizer.history.parameters
    expected = np.maximum(0, np.maximum(np.array(LOW) - points, points - np.array(HIGH))).max(1)
    np.testing.assert_allclose(optimizer.history.constraint_violation, expected, atol=1e-15)
    if method not in LEAVES:
        assert (expected == 0).all()


@EACH
def test_everything_told_is_of_the_users_variables(method):
    seen, from_scipy = [], []
    p = _parameter([0.0, 3.0, 0.0])
    low, high = torch.tensor([-1.0, 0.25, -INF]), torch.tensor([1.0, 0.25, INF])
    arguments = {"method": method, "callback": lambda x, *state: from_scipy.append(np.array(x))}
    optimizer = MinimizeWrapper(
        [{"params": [p], "bounds": (low, high), "scale": 2.0}],
        arguments,
        callbacks=lambda iteration: seen.append(p.detach().numpy().copy()),
        keep_parameters=True,
    )
    optimizer.step(lambda: _quadratic(p))
    points = optimizer.history.parameters
    assert points.shape == (len(optimizer.history), 3)
    np.testing.assert_array_equal(points, seen)
    if METHODS[method].callback_at == "iterate":
        np.testing.assert_array_equal(points[0 if method == "trust-constr" else 1 :], from_scipy)
    else:  # at trials, of which the last ones were taken
        np.testing.assert_array_equal(from_scipy[-1], points[-1])
        np.testing.assert_array_equal(np.array(from_scipy)[:, 1], 0.25)
    np.testing.assert_array_equal(points[:, 1], 0.25)
    np.testing.assert_array_equal(optimizer.result.x, p.detach())


# Refused

PAIR = "a bound must be a pair"
BAD_GROUPS = {
    "number": (3, PAIR),
    "one": ((1,), PAIR),
    "three": ((1, 2, 3), PAIR),
    "text": ("ab", "low bound must be a number, a tensor or None, got 'a'"),
    "shape": (
        (torch.zeros(3), None),
        r"low bound has shape \(3,\) for a parameter of shape \(2,\).*a param group with this parameter only",
    ),
    "high shape": ((None, torch.zeros(1, 2)), r"high bound has shape \(1, 2\)"),
    "infeasible": ((2, 1), r"bounds of variable 0 are \(2.0, 1.0\); low must not exceed high"),
    "infeasible entry": ((torch.tensor([0.0, 2.0]), 1), r"variable 1 are \(2.0, 1.0\)"),
    "nan": ((math.nan, 1), r"variable 0 are \(nan, 1.0\)"),
    "low inf": ((INF, None), r"variable 0 are \(inf, inf\)"),
    "high -inf": ((None, -INF), r"variable 0 are \(-inf, -inf\)"),
}


@EACH
@pytest.mark.parametrize(("bounds", "match"), BAD_GROUPS.values(), ids=BAD_GROUPS)
def test_groups_refused_by_the_constructor(method, bounds, match):
    with pytest.raises(ArgumentError, match=match):
        MinimizeWrapper([{"params": [_parameter([0.0, 0.0])], "bounds": bounds}], method)


BAD_ARGUMENTS = {
    "too few": ([(0, 1)], "bounds has 1 pairs for 2 variables"),
    "too many": ([(0, 1)] * 3, "bounds has 3 pairs for 2 variables"),
    "not pairs": ((0, 1), PAIR),
    "a triple": ([(0, 1, 2), (0, 1)], PAIR),
    "number": (3, "bounds has 1 pairs"),
    "text": ([("a", "b"), (0, 1)], "must be numbers or None"),
    "infeasible": ([(0, 1), (1, 0)], r"variable 1 are \(1.0, 0.0\)"),
    "nan": ([(0, 1), (math.nan, 0)], "variable 1 are"),
    "Bounds size": (Bounds([0, 0, 0], 1), r"bounds have \(3, 3\) entries; there are 2 variables"),
    "Bounds infeasible": (Bounds([0, 3], 1), r"variable 1 are \(3.0, 1.0\)"),
    "Bounds nan": (Bounds([0, math.nan], 1), "variable 1 are"),
}


@EACH
@pytest.mark.parametrize(("bounds", "match"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_arguments_refused_by_the_constructor(method, bounds, match):
    with pytest.raises(ArgumentError, match=match):
        MinimizeWrapper([_parameter([0.0, 0.0])], {"method": method, "bounds": bounds})


@pytest.mark.parametrize("method", UNABLE)
@pytest.mark.parametrize("where", ["group", "arguments"])
def test_a_method_without_bounds_names_those_that_can(method, where):
    p = _parameter([0.0])
    group = {"params": [p], "bounds": (0, 1) if where == "group" else None}
    arguments = {"method": method, "bounds": [(0, 1)] if where == "arguments" else None}
    named = "Nelder-Mead, Powell, L-BFGS-B, TNC, SLSQP, trust-constr, COBYLA, COBYQA"
    with pytest.raises(ArgumentError, match=f"{method} cannot take bounds; methods that can: {named}"):
        MinimizeWrapper([group], arguments)


def test_bounds_in_both_places():
    p = _parameter([0.0])
    with pytest.raises(ArgumentError, match="in minimizer_args and in param groups; pass them in one place"):
        MinimizeWrapper([{"params": [p], "bounds": (0, 1)}], {"method": "TNC", "bounds": [(0, 1)]})


def test_bounds_set_later_are_checked_before_the_run():
    p = _parameter([0.0, 0.0])
    optimizer = MinimizeWrapper([p], "L-BFGS-B")
    optimizer.param_groups[0]["bounds"] = (2, 1)
    with pytest.raises(ArgumentError, match="low must not exceed high"):
        optimizer.step(lambda: pytest.fail("called"))
    assert p.tolist() == [0, 0]


def test_frozen_parameters_need_no_bounds():
    free, frozen = _parameter([0.0]), torch.zeros(4)
    optimizer = MinimizeWrapper([{"params": [free, frozen]}], {"bounds": [(None, 1)]})
    optimizer.step(lambda: ((free - 3) ** 2).sum())
    assert free.tolist() == [1]
