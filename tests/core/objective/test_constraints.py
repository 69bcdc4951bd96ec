"""Constraints: against plain SciPy with analytic derivatives, published minima, and an independent record."""

import gc
import math
import tracemalloc
import warnings
import weakref

import numpy as np
import pytest
import scipy
import scipy.optimize
import torch
from scipy.optimize import LinearConstraint, NonlinearConstraint, OptimizeWarning
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator

from tests.core.constrained import HOCK
from torchmin_nb import METHODS, MinimizeWrapper, minimize
from torchmin_nb.core.autodiff.closure import ClosureEvaluator
from torchmin_nb.core.objective.calls import Calls
from torchmin_nb.core.objective.constraints import Constraint, ConstraintSet, read_constraints
from torchmin_nb.core.parameters.flat import FlatParameters
from torchmin_nb.core.parameters.variables import Variables
from torchmin_nb.core.runtime.blas_threads import blas_threads
from torchmin_nb.errors import ArgumentError, ArgumentTypeError, NonFiniteStartError, SecondDerivativeError

# trust-constr calls a trust radius that has shrunk away a success: some 1e-4 of the loss are left.
ENDS_EARLY = pytest.mark.filterwarnings("ignore:trust-constr reports success:torchmin_nb.errors.ConvergenceWarning")

ABLE = [name for name, spec in METHODS.items() if spec.constraints]
UNABLE = [name for name in METHODS if name not in ABLE]
EACH = pytest.mark.parametrize("method", ABLE)
GRADIENT = pytest.mark.parametrize("method", ["SLSQP", "trust-constr"])
SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))
INF = math.inf

# Where a method ends within its own tolerance, but says success=False: COBYLA allows a violation of 1.5e-8 (SciPy >=
# 1.16; 2e-4 before) and ends at 4e-8, COBYQA allows 1e-8 and ends at 3e-8. Plain SciPy says the same.
UNSURE = {("COBYLA", "HS6"), ("COBYLA", "HS7"), ("COBYLA", "HS39"), ("COBYQA", "HS39"), ("COBYQA", "HS40")}
# COBYQA's final radius of 1e-6 is reached at a point that violates the sphere of HS71 by 4e-4; plain SciPy does too.
NOT_SOLVED = {("COBYQA", "HS71")}
# How near the minimum they come. HS26 is of fourth order there: a loss of 1e-6 is 0.03 away.
LOSS = {"SLSQP": 1e-6, "trust-constr": 1e-4, "COBYLA": 1e-5, "COBYQA": 1e-6}


def _parameter(values, dtype=torch.float64):
    return torch.nn.Parameter(torch.tensor(values, dtype=dtype))


def _run(loss, start, method, constraints, *, dtype=torch.float64, bounds=None, scale=None, options=None, **kwargs):
    """The optimizer after a run, and the parameter."""
    p = _parameter(start, dtype)
    group = {"params": [p], "bounds": bounds, "scale": scale}
    kwargs.setdefault("start_check", False)
    arguments = {"method": method, "constraints": constraints, "options": options or {}}
    optimizer = MinimizeWrapper([group], arguments, **kwargs)
    optimizer.step(lambda: loss(p))
    return optimizer, p


def _run_hock(problem, method, **kwargs):
    constraint = Constraint(problem.constraint, problem.lower, problem.upper)
    return _run(problem.loss, problem.x0, method, constraint, bounds=problem.bounds, **kwargs)


def _plain(problem, method):
    """SciPy itself, with derivatives from SymPy and constraints written the way SciPy's users write them."""
    own = problem.analytic
    given, constraints = {}, []
    lower, upper = np.array(problem.lower, dtype=float), np.array(problem.upper, dtype=float)
    equal = lower == upper
    if method in ("SLSQP", "COBYLA"):
        as_equal = equal & (method == "SLSQP")
        sides = [("eq", as_equal, lower, 1), ("ineq", ~as_equal, lower, 1), ("ineq", ~as_equal, upper, -1)]
        constraints = [
            {
                "type": kind,
                "fun": lambda x, mask=mask, limit=limit, sign=sign: sign * (own["c"](x) - limit)[mask],
                "jac": lambda x, mask=mask, sign=sign: sign * own["jac"](x)[mask],
            }
            for kind, mask, limit, sign in ((k, m & np.isfinite(w), w, s) for k, m, w, s in sides)
            if mask.any()
        ]
    else:
        for mask in (equal, ~equal):
            if mask.any():
                hess = {"hess": _part_of(own["c_hess"], mask)} if method == "trust-constr" else {}
                fun, jac = (lambda x, f=f, mask=mask: f(x)[mask] for f in (own["c"], own["jac"]))
                constraints.append(NonlinearConstraint(fun, lower[mask], upper[mask], jac=jac, **hess))
    if METHODS[method].gradient != "none":
        given["jac"] = own["grad"]
    if METHODS[method].curvature != "none":
        given["hessp"] = lambda x, v: own["hess"](x) @ v
    n = len(problem.x0)
    bounds = None if problem.bounds is None else scipy.optimize.Bounds(*(np.full(n, b) for b in problem.bounds))
    with blas_threads(1):
        return scipy.optimize.minimize(
            own["fun"], problem.x0, method=method, bounds=bounds, constraints=constraints, **given
        )


def _part_of(c_hess, mask):
    def hess(x, v):
        whole = np.zeros(len(mask))
        whole[mask] = v
        return c_hess(x, whole)

    return hess


# Hock and Schittkowski


@pytest.mark.parametrize("problem", HOCK.values(), ids=HOCK)
def test_the_published_minima(problem):
    for minimizer in problem.minimizers:
        assert problem.analytic["fun"](minimizer) == pytest.approx(problem.minimum, abs=2e-7)
        assert problem.violation(minimizer) < 2e-7
    x = np.array(problem.x0) + 0.1
    tensor = torch.tensor(x)
    assert float(problem.loss(tensor)) == pytest.approx(problem.analytic["fun"](x))
    np.testing.assert_allclose(problem.constraint(tensor), problem.analytic["c"](x))


@EACH
@pytest.mark.parametrize("name", HOCK)
def test_hock_schittkowski(method, name):
    """From autograd alone; the very run that plain SciPy takes with analytic derivatives."""
    if SCIPY < (1, 17) and method == "COBYLA" and name in ("HS39", "HS71"):
        pytest.skip("this SciPy's COBYLA ends elsewhere on the equalities of these two")
    problem = HOCK[name]
    optimizer, p = _run_hock(problem, method)
    result, theirs = optimizer.result, _plain(problem, method)
    assert result.success == theirs.success
    if (method, name) not in NOT_SOLVED:
        assert problem.violation(result.x) < 1e-6
        assert abs(result.fun - problem.minimum) < LOSS[method]
        assert problem.distance(result.x) < (0.05 if name == "HS26" else 1e-3)
        assert result.success or (method, name) in UNSURE
    np.testing.assert_array_equal(p.detach(), result.x)
    # COBYLA without derivatives passes the last bit of a product on: measured 3e-4, and 8 of 118 calls
    np.testing.assert_allclose(result.scipy_x, theirs.x, atol=5e-4 if method == "COBYLA" else 1e-9)
    if method == "COBYLA":
        assert abs(result.nfev - theirs.nfev) <= 10
    else:
        assert (result.nit, result.nfev) == (theirs.nit, theirs.nfev)


@EACH
@pytest.mark.parametrize("name", ["HS6", "HS28", "HS76"])
def test_single_precision(method, name):
    problem = HOCK[name]
    optimizer, _ = _run_hock(problem, method, dtype=torch.float32)
    assert problem.violation(optimizer.result.x) < 1e-4
    # trust-constr ends once the gradient is below gtol, 1e-5 here, whatever barrier is left: 1.6e-3 of HS76
    assert abs(optimizer.result.fun - problem.minimum) < 5e-3


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rosenbrock_in_a_disc(method, dtype):
    """Its minimum on the unit disc is at (0.7864, 0.6177), where the circle is active."""

    def loss(x):
        return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

    optimizer, _ = _run(loss, [0.0, 0.0], method, Constraint(lambda x: (x**2).sum(), upper=1), dtype=dtype)
    x = optimizer.result.x
    # COBYLA creeps along the valley: 1,000 calls, its default, leave it short of the minimum
    np.testing.assert_allclose(x, [0.786415, 0.617698], atol=0.05 if method == "COBYLA" else 5e-3)
    assert x @ x <= 1 + 1e-5


# Forms


@EACH
@pytest.mark.parametrize("form", ["no arguments", "a tensor", "several", "dict", "built-in", "star"])
def test_what_a_constraint_may_be(method, form):
    """min (a - 2)² + (b - 2)² with a + b = 1 is at (0.5, 0.5)."""
    a, b = _parameter([0.0]), _parameter([0.0])
    x = _parameter([0.0, 0.0])
    both = {
        "no arguments": ([a, b], Constraint(lambda: (a + b).sum(), 1, 1)),
        "a tensor": ([x], Constraint(lambda x: x.sum(), 1.0, np.array(1.0))),
        "several": ([a, b], Constraint(lambda a, b: a + b, [1], torch.ones(1))),
        "dict": ([x], {"fun": lambda x: x.sum(), "lower": 1, "upper": 1}),
        "built-in": ([x], Constraint(torch.sum, 1, 1)),
        "star": ([a, b], Constraint(lambda *parts: sum(part.sum() for part in parts), 1, 1)),
    }
    tensors, constraint = both[form]
    optimizer = MinimizeWrapper(tensors, {"method": method, "constraints": constraint})
    optimizer.step(lambda: sum(((t - 2) ** 2).sum() for t in tensors))
    np.testing.assert_allclose(optimizer.result.x, [0.5, 0.5], atol=1e-3)


@EACH
def test_minimize_of_a_tensor(method):
    constraint = Constraint(lambda x: x.sum(), 1, 1)
    result = minimize(lambda x: ((x - 2) ** 2).sum(), torch.zeros(2), method, constraints=constraint)
    torch.testing.assert_close(result.x, torch.full((2,), 0.5), atol=1e-3, rtol=0)


@EACH
def test_minimize_of_a_dict(method):
    x0 = {"a": torch.zeros(1), "b": torch.zeros((), dtype=torch.float64)}
    result = minimize(
        lambda x: ((x["a"] - 2) ** 2).sum() + (x["b"] - 2) ** 2,
        x0,
        method,
        constraints=[{"fun": lambda x: x["a"].sum() + x["b"], "lower": 1, "upper": 1}],
    )
    assert float(result.x["a"]) == pytest.approx(0.5, abs=1e-3)
    assert float(result.x["b"]) == pytest.approx(0.5, abs=1e-3)


def test_minimize_without_constraints():
    assert minimize(lambda x: ((x - 2) ** 2).sum(), torch.zeros(2), constraints=None).success


def test_constraints_alone_choose_slsqp():
    optimizer = MinimizeWrapper([_parameter([0.0])], {"constraints": Constraint(lambda x: x, 1, 1)})
    assert optimizer.request.spec.name == "SLSQP"


MIXED = Constraint(
    lambda x: torch.stack([x.sum(), x[0] * x[1], x[0] - x[1], x[2]]), [3, -INF, -1, 0.5], [3, 0.5, 1, INF]
)


@ENDS_EARLY
@EACH
def test_a_vector_of_every_kind(method):
    """Equality, upper, two-sided and lower in one vector; the minimum was found by SLSQP on separate SciPy dicts."""

    def plain(x):
        return float(((x - [2.0, 1.0, 0.0]) ** 2).sum())

    dicts = [
        {"type": "eq", "fun": lambda x: x.sum() - 3},
        {"type": "ineq", "fun": lambda x: 0.5 - x[0] * x[1]},
        {"type": "ineq", "fun": lambda x: x[0] - x[1] + 1},
        {"type": "ineq", "fun": lambda x: 1 - x[0] + x[1]},
        {"type": "ineq", "fun": lambda x: x[2] - 0.5},
    ]
    expected = scipy.optimize.minimize(plain, np.ones(3), method="SLSQP", constraints=dicts, options={"ftol": 1e-12})
    target = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    optimizer, _ = _run(lambda x: ((x - target) ** 2).sum(), [1.0, 1.0, 1.0], method, MIXED)
    assert expected.success
    np.testing.assert_allclose(optimizer.result.x, expected.x, atol=2e-3)


def test_several_constraints_and_none_limits():
    constraints = [Constraint(lambda x: x[0], lower=None, upper=1), Constraint(lambda x: x[1], lower=2, upper=None)]
    optimizer, _ = _run(lambda x: ((x - torch.tensor([5.0, -5.0])) ** 2).sum(), [0.0, 3.0], "SLSQP", constraints)
    np.testing.assert_allclose(optimizer.result.x, [1, 2], atol=1e-7)


@GRADIENT
def test_a_constraint_that_does_not_depend_on_the_parameters(method):
    other = torch.ones(1, requires_grad=True)
    constraints = [Constraint(lambda: torch.tensor(1.0), upper=2), Constraint(lambda: other * 2, upper=3)]
    optimizer, _ = _run(lambda x: ((x - 2) ** 2).sum(), [0.0, 0.0], method, constraints)
    np.testing.assert_allclose(optimizer.result.x, [2, 2], atol=1e-4)
    assert other.grad is None


# SciPy's own


def _quadratic(x):
    target = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    return ((x - target) ** 2).sum() + 0.1 * (x**4).sum()


def _quadratic_np(x):
    return float(((x - [2.0, 1.0, 0.0]) ** 2).sum() + 0.1 * (x**4).sum())


def _sphere_hess(x, v):
    return v[0] * 2 * np.eye(len(x))


SCIPYS = {
    "linear": LinearConstraint([[1, 1, 1], [1, -1, 0]], [1, -0.5], [1, 0.5]),
    "linear sparse": LinearConstraint(csr_array([[1.0, 1, 1]]), -np.inf, 1),
    "linear 1-D": LinearConstraint([1, 1, 1], 1, 1),
    "nonlinear": NonlinearConstraint(
        lambda x: x @ x, -np.inf, 1, jac=lambda x: 2 * x[None], hess=_sphere_hess, keep_feasible=False
    ),
    "differences": NonlinearConstraint(lambda x: [x @ x, x[0] - x[1]], [-np.inf, 0.2], [1, 0.2]),
    "complex step": NonlinearConstraint(lambda x: (x * x).sum(), -np.inf, 1, jac="cs"),
    "sparse jacobian": NonlinearConstraint(lambda x: x @ x, -np.inf, 1, jac=lambda x: csr_array(2 * x[None])),
    "dict": {"type": "ineq", "fun": lambda x: 1 - x @ x, "jac": lambda x: -2 * x},
    "dict with args": {"type": "ineq", "fun": lambda x, r: r - x @ x, "jac": lambda x, r: -2 * x, "args": (1.0,)},
    "dict equality": {"type": "eq", "fun": lambda x: x.sum() - 1},
    "list": [{"type": "ineq", "fun": lambda x: 1 - x @ x}, LinearConstraint([[1, 1, 1]], 1, 1)],
}


def _reference(constraints, free=slice(None)):
    """By plain SciPy's SLSQP, over the free variables; the others are 0.25."""

    def whole(z):
        x = np.full(3, 0.25)
        x[free] = z
        return x

    given = constraints if isinstance(constraints, list) else [constraints]
    dicts = []
    for each in given:
        if isinstance(each, dict):
            dicts.append({"type": each["type"], "fun": lambda z, e=each: e["fun"](whole(z), *e.get("args", ()))})
            continue
        fun = (lambda x, e=each: e.A @ x) if isinstance(each, LinearConstraint) else (lambda x, e=each: e.fun(x))
        dicts.append(NonlinearConstraint(lambda z, fun=fun: fun(whole(z)), each.lb, each.ub))
    start = np.full(3, 0.25)[free]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Equality and inequality constraints", OptimizeWarning)
        return whole(
            scipy.optimize.minimize(
                lambda z: _quadratic_np(whole(z)), start, method="SLSQP", constraints=dicts, options={"ftol": 1e-13}
            ).x
        )


@ENDS_EARLY
@EACH
@pytest.mark.parametrize("translated", ["plain", "scaled", "fixed"])
@pytest.mark.parametrize("name", SCIPYS)
@pytest.mark.filterwarnings("ignore:delta_grad == 0.0:UserWarning")  # SciPy's quasi-Newton on linear differences
@pytest.mark.filterwarnings("ignore:Singular Jacobian matrix:UserWarning")
@pytest.mark.crossed
def test_scipys_constraints(name, translated, method):
    constraints = SCIPYS[name]
    free = slice(None) if translated != "fixed" else np.array([True, False, True])
    bounds = None
    if translated == "fixed":
        low, high = np.full(3, -np.inf), np.full(3, np.inf)
        low[1] = high[1] = 0.25
        bounds = (torch.from_numpy(low), torch.from_numpy(high))
    scale = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64) if translated == "scaled" else None
    optimizer, _ = _run(_quadratic, [0.25, 0.25, 0.25], method, constraints, bounds=bounds, scale=scale)
    expected = _reference(constraints, free)
    assert optimizer.result.fun == pytest.approx(_quadratic_np(expected), abs=2e-3)
    assert ConstraintSet(read_constraints(constraints), *_pieces(3)).violation(optimizer.result.x) < 1e-3


def _pieces(n):
    """Calls and variables of no run."""
    flat = FlatParameters([_parameter(np.full(n, 0.25))])
    calls = Calls(ClosureEvaluator(lambda: pytest.fail("called"), flat), flat, control=None)
    return calls, Variables(flat.read(), None, None)


def test_scipys_objects_take_scipys_own_run():
    constraints = [SCIPYS["nonlinear"], SCIPYS["linear 1-D"]]
    optimizer, _ = _run(_quadratic, [0.25] * 3, "trust-constr", constraints)
    with blas_threads(1):
        theirs = scipy.optimize.minimize(
            _quadratic_np,
            [0.25] * 3,
            method="trust-constr",
            jac=lambda x: 2 * (x - [2.0, 1.0, 0.0]) + 0.4 * x**3,
            hessp=lambda x, v: (2 + 1.2 * x**2) * v,
            constraints=constraints,
        )
    assert (optimizer.result.nit, optimizer.result.nfev) == (theirs.nit, theirs.nfev)
    np.testing.assert_allclose(optimizer.result.x, theirs.x, atol=1e-9)


@EACH
def test_an_error_in_scipys_constraint_reaches_the_user(method):
    error, calls = StopIteration("mine"), []

    def fun(x):
        calls.append(1)
        if len(calls) == 6:
            raise error
        return 1 - x @ x

    p = _parameter([0.1, 0.2])
    optimizer = MinimizeWrapper([p], {"method": method, "constraints": {"type": "ineq", "fun": fun}})
    with pytest.raises(StopIteration) as caught:
        optimizer.step(lambda: ((p - 2) ** 2).sum())
    assert caught.value is error


# Derivatives


def _side(problem, dtype=torch.float64):
    flat = FlatParameters([_parameter(problem.x0, dtype)])
    objective = Calls(ClosureEvaluator(lambda: pytest.fail("called"), flat), flat, control=None)
    variables = Variables(flat.read(), None, None)
    constraints = ConstraintSet([Constraint(problem.constraint, problem.lower, problem.upper)], objective, variables)
    return constraints._constraints[0]


@pytest.mark.parametrize("name", HOCK)
def test_jacobian_and_hessian_against_analytic(name):
    """At two points in turn, and at the older one again: the graph of an older point needs its values back."""
    problem, rng = HOCK[name], np.random.default_rng(0)
    side, own = _side(problem), problem.analytic
    x, y = (np.array(problem.x0) + 0.3 * rng.standard_normal(len(problem.x0)) for _ in range(2))
    v = rng.standard_normal(len(problem.lower))
    np.testing.assert_allclose(side.jacobian(x), own["jac"](x), rtol=1e-12, atol=1e-12)
    older = side.hessian(x, v)
    np.testing.assert_allclose(side.values(y), own["c"](y), rtol=1e-12)
    newer = side.hessian(y, v)
    assert isinstance(older, LinearOperator)
    for matrix, point in ((older, x), (newer, y), (older, x)):
        np.testing.assert_allclose(matrix @ np.eye(x.size), own["c_hess"](point, v), rtol=1e-11, atol=1e-11)


def test_trust_constr_builds_no_square_matrix():
    """5,000 variables: N×N doubles are 200 MB."""
    n = 5000
    p = torch.nn.Parameter(torch.linspace(0.5, 1.5, n, dtype=torch.float64))
    sphere = Constraint(lambda p: (p**4).sum() / n, 1, 1)
    optimizer = MinimizeWrapper([p], {"method": "trust-constr", "constraints": sphere, "options": {"maxiter": 8}})
    tracemalloc.start()
    try:
        optimizer.step(lambda: ((p - 2) ** 2).sum() / n)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50e6
    np.testing.assert_allclose(optimizer.result.constr[0], 1, atol=1e-3)


def test_a_constraint_without_a_second_derivative():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return 2 * ctx.saved_tensors[0] * grad

    p = _parameter([0.5, 0.2])
    constraint = Constraint(lambda x: Once.apply(x).sum(), upper=1)
    with pytest.raises(SecondDerivativeError, match="SLSQP"):
        MinimizeWrapper([p], {"method": "trust-constr", "constraints": constraint}).step(lambda: ((p - 2) ** 2).sum())
    optimizer = MinimizeWrapper([p], {"method": "SLSQP", "constraints": constraint})
    optimizer.step(lambda: ((p - 2) ** 2).sum())
    np.testing.assert_allclose(optimizer.result.x, [0.5**0.5] * 2, atol=1e-5)


# Multipliers


@GRADIENT
@pytest.mark.parametrize("name", [name for name in HOCK if name not in ("HS71", "HS76")])
@pytest.mark.parametrize("scale", [None, 10.0])
def test_multipliers_make_the_end_stationary(method, name, scale):
    problem = HOCK[name]
    result = _run_hock(problem, method, scale=scale)[0].result
    if method == "SLSQP" and SCIPY < (1, 16):
        assert result.multipliers is None
        return
    (v,) = result.multipliers
    own = problem.analytic
    lagrangian = own["grad"](result.x) + own["jac"](result.x).T @ v
    np.testing.assert_allclose(lagrangian, 0, atol=2e-3)


@GRADIENT
def test_signs_of_multipliers(method):
    """HS76's first constraint is active from above, a bound holds x₂: v >= 0, and J says where the bound pushes."""
    problem = HOCK["HS76"]
    result = _run_hock(problem, method)[0].result
    if method == "SLSQP" and SCIPY < (1, 16):
        assert result.multipliers is None
        return
    (v,) = result.multipliers
    np.testing.assert_allclose(v, [5 / 11, 0, 0], atol=1e-3)
    lagrangian = problem.analytic["grad"](result.x) + problem.analytic["jac"](result.x).T @ v
    np.testing.assert_allclose(lagrangian[[0, 1, 3]], 0, atol=1e-3)
    assert lagrangian[2] > 0.1


@GRADIENT
@pytest.mark.filterwarnings("ignore:delta_grad == 0.0:UserWarning")
def test_multipliers_of_all_kinds_together(method):
    """Ours, SciPy's dict, LinearConstraint and a NonlinearConstraint that mixes equality and inequality."""
    if method == "SLSQP" and SCIPY < (1, 16):
        pytest.skip("SLSQP reports multipliers from SciPy 1.16 on")
    constraints = [
        Constraint(lambda x: torch.stack([x.sum(), x[0] * x[1]]), [2, -INF], [2, 0.6]),
        NonlinearConstraint(
            lambda x: [x[0] - 5, x[1] - x[2]], [-np.inf, 0.1], [0, 0.1], jac=lambda x: [[1, 0, 0], [0, 1, -1]]
        ),
        {"type": "ineq", "fun": lambda x: 2 - x[0], "jac": lambda x: np.array([-1.0, 0, 0])},
        LinearConstraint([[0, 0, 1]], -5, 5),
    ]
    options = {"ftol": 1e-14} if method == "SLSQP" else {}
    result = _run(_quadratic, [1.0, 1.0, 1.0], method, constraints, options=options)[0].result
    assert [v.shape for v in result.multipliers] == [(2,), (2,), (1,), (1,)]
    x = result.x
    jacobians = [
        np.array([[1, 1, 1], [x[1], x[0], 0]]),
        np.array([[1, 0, 0], [0, 1, -1]]),
        np.array([[-1, 0, 0]]),
        np.array([[0, 0, 1]]),
    ]
    gradient = 2 * (x - [2.0, 1.0, 0.0]) + 0.4 * x**3
    pull = sum(J.T @ v for J, v in zip(jacobians, result.multipliers, strict=True))
    np.testing.assert_allclose(gradient + pull, 0, atol=1e-3)


@pytest.mark.parametrize("method", ["COBYLA", "COBYQA"])
def test_no_multipliers_without_gradients(method):
    assert _run_hock(HOCK["HS28"], method)[0].result.multipliers is None


# What is told on the way


@EACH
@pytest.mark.parametrize("name", ["HS7", "HS39", "HS71", "HS76"])
def test_the_violation_of_each_iteration(method, name):
    problem = HOCK[name]
    optimizer, _ = _run_hock(problem, method, keep_parameters=True)
    told = optimizer.history.constraint_violation
    expected = [problem.violation(x) for x in optimizer.history.parameters]
    np.testing.assert_allclose(told, expected, rtol=1e-9, atol=1e-9)
    assert len(told) > 3


@EACH
def test_watching_costs_no_closure_call(method):
    problem = HOCK["HS71"]
    watched, alone = (_run_hock(problem, method, **more)[0] for more in ({"callbacks": lambda i: None}, {}))
    assert watched.history.totals.nfev == alone.history.totals.nfev
    np.testing.assert_array_equal(watched.result.x, alone.result.x)


@EACH
@pytest.mark.parametrize("name", ["HS7", "HS71", "HS76"])
@pytest.mark.parametrize("budget", [1, 4, 9, 20])
def test_the_best_point_of_a_stopped_run_is_the_best_feasible_one(method, name, budget):
    """Against a record of its own: feasible points (to 1e-6, inside the bounds) first, then the least infeasible."""
    problem, seen = HOCK[name], []
    p = _parameter(problem.x0)
    low, high = problem.bounds or (-INF, INF)

    def closure():
        loss = problem.loss(p)
        seen.append((p.detach().numpy().copy(), float(loss.detach())))
        return loss

    def rank(entry):
        x, loss = entry
        beyond = max(0.0, problem.violation(x) - 1e-6, *(low - x), *(x - high))
        return beyond, loss

    optimizer = MinimizeWrapper(
        [{"params": [p], "bounds": problem.bounds}],
        {"method": method, "constraints": Constraint(problem.constraint, problem.lower, problem.upper)},
        max_evaluations=budget,
        start_check=False,
    )
    optimizer.step(closure)
    if optimizer.result.status != 102:
        return  # solved before the budget was spent
    x, loss = min(seen, key=rank)
    np.testing.assert_array_equal(optimizer.result.x, x)
    np.testing.assert_array_equal(p.detach(), x)
    assert optimizer.result.fun == loss


@EACH
def test_a_target_counts_at_feasible_points_only(method):
    """The loss is below the target at the start, where the constraint does not hold."""
    p = _parameter([2.0, 2.0])
    constraint = Constraint(lambda x: x.sum(), 1, 1)
    optimizer = MinimizeWrapper([p], {"method": method, "constraints": constraint}, target_loss=4.6)
    optimizer.step(lambda: ((p - 2) ** 2).sum())
    assert optimizer.result.fun > 1
    np.testing.assert_allclose(p.detach().sum(), 1, atol=1e-3)


# Errors


class UserError(Exception):
    pass


@EACH
@pytest.mark.parametrize("kind", [UserError, StopIteration, KeyboardInterrupt])
def test_an_error_of_a_constraint(method, kind):
    problem, calls, error = HOCK["HS71"], [], kind("mine")
    p = _parameter(problem.x0)
    points = []

    def constraint(x):
        calls.append(1)
        if len(calls) == 6:
            raise error
        points.append(x.detach().clone())
        return problem.constraint(x)

    optimizer = MinimizeWrapper(
        [{"params": [p], "bounds": problem.bounds}],
        {"method": method, "constraints": Constraint(constraint, problem.lower, problem.upper)},
    )
    with pytest.raises(kind) as caught:
        optimizer.step(lambda: problem.loss(p))
    assert caught.value is error
    assert optimizer.result.status == (106 if kind is KeyboardInterrupt else 107)
    assert any(torch.equal(p.detach(), point) for point in points)
    np.testing.assert_array_equal(p.detach(), optimizer.result.x)


def _returns(value):
    return Constraint(lambda x: value, upper=1)


REFUSED = {
    "list": (Constraint(lambda x: [x[0], x[1]], upper=1), ArgumentTypeError, "returned list"),
    "float": (_returns(1.0), ArgumentTypeError, "returned float"),
    "None": (_returns(None), ArgumentTypeError, "returned NoneType"),
    "matrix": (Constraint(lambda x: x[None] * x[:, None], upper=1), ArgumentError, r"shape \(2, 2\)"),
    "complex": (Constraint(lambda x: x * 1j, upper=1), ArgumentError, "complex128; it must be real"),
    "NaN": (Constraint(lambda x: x / 0 * 0, upper=1), NonFiniteStartError, "nan.*at the starting point"),
    "lower length": (
        Constraint(lambda x: x, lower=[1, 2, 3]),
        ArgumentError,
        "lower must be a number or have its length 2",
    ),
    "upper length": (Constraint(lambda x: x, upper=np.ones((2, 2))), ArgumentError, "upper must be"),
    "lower text": (Constraint(lambda x: x, lower="one"), ArgumentError, "lower must be.*'one'"),
    "lower > upper": (Constraint(lambda x: x, [0, 2], [1, 1]), ArgumentError, "lower=2.0 and upper=1.0 in component 1"),
    "lower nan": (Constraint(lambda x: x, math.nan, 1), ArgumentError, "lower=nan"),
    "lower inf": (Constraint(lambda x: x, INF, INF), ArgumentError, "lower=inf"),
    "upper -inf": (Constraint(lambda x: x, -INF, -INF), ArgumentError, "upper=-inf"),
    "too many arguments": (Constraint(lambda x, y: x), TypeError, "missing 1 required"),
    "columns": (LinearConstraint([[1, 2, 3]], 0, 1), ArgumentError, r"A of shape \(1, 3\); there are 2 variables"),
    "lb length": (NonlinearConstraint(lambda x: x, [0, 0, 0], 1), ArgumentError, "lb must be.*length 2"),
    "lb > ub": (LinearConstraint([[1, 2]], 2, 1), ArgumentError, "lower=2.0 and upper=1.0"),
    "scipy text": ({"type": "eq", "fun": lambda x: "one"}, ArgumentTypeError, "a number or a vector"),
    "scipy NaN": ({"type": "eq", "fun": lambda x: x * np.nan}, NonFiniteStartError, "at the starting point"),
}


@EACH
@pytest.mark.parametrize(("constraint", "error", "match"), REFUSED.values(), ids=REFUSED)
def test_refused_before_the_first_closure_call(method, constraint, error, match):
    p = _parameter([0.5, 0.25])
    optimizer = MinimizeWrapper([p], {"method": method, "constraints": constraint})
    with pytest.raises(error, match=match):
        optimizer.step(lambda: pytest.fail("called"))
    assert p.tolist() == [0.5, 0.25]
    assert optimizer.result is None


BAD_FORMS = {
    "number": (3, ArgumentTypeError, "got int"),
    "function": (torch.sum, ArgumentTypeError, "must be a torchmin_nb.Constraint"),
    "list of numbers": ([1, 2], ArgumentTypeError, "got int"),
    "unknown key": (
        {"fun": torch.sum, "upper": 1, "lowwer": 0},
        ArgumentError,
        r"has the keys fun, lower and upper.*lowwer",
    ),
    "no fun": ({"upper": 1}, ArgumentError, "has the keys fun, lower and upper"),
    "type": ({"type": "equality", "fun": sum}, ArgumentError, "type 'eq' or 'ineq'"),
    "type without fun": ({"type": "eq"}, ArgumentError, "a callable fun"),
    "fun": ({"fun": 3}, ArgumentTypeError, "fun must be callable, got int"),
}


@pytest.mark.parametrize(("constraints", "error", "match"), BAD_FORMS.values(), ids=BAD_FORMS)
def test_forms_refused_by_the_constructor(constraints, error, match):
    with pytest.raises(error, match=match):
        MinimizeWrapper([_parameter([0.0])], {"method": "SLSQP", "constraints": constraints})


@pytest.mark.parametrize("method", UNABLE)
def test_a_method_without_constraints_names_those_that_can(method):
    with pytest.raises(ArgumentError, match=f"{method} cannot take constraints.*SLSQP, trust-constr, COBYLA, COBYQA"):
        MinimizeWrapper([_parameter([0.0])], {"method": method, "constraints": Constraint(lambda x: x, 1, 1)})


@EACH
def test_a_constraint_that_changes_its_length(method):
    lengths = iter([2, 2])
    p = _parameter([0.5, 0.25])
    constraint = Constraint(lambda x: x[: next(lengths, 1)], upper=1)
    optimizer = MinimizeWrapper([p], {"method": method, "constraints": constraint})
    with pytest.raises(ArgumentError, match="returned 1 components, but 2 at the start"):
        optimizer.step(lambda: ((p - 2) ** 2).sum())


@EACH
def test_a_trial_where_the_constraint_is_nan_is_not_the_best(method):
    """log(2 - x) has no value beyond 2; the loss falls for ever."""
    p = _parameter([0.0])
    seen = []

    def closure():
        seen.append(float(p.detach()))
        return -p.sum()

    constraint = Constraint(lambda x: torch.log(2 - x), lower=math.log(0.01))
    optimizer = MinimizeWrapper([p], {"method": method, "constraints": constraint}, max_evaluations=12)
    optimizer.step(closure)
    if optimizer.result.status == 102:
        assert optimizer.result.x == max(x for x in seen if x <= 1.99 + 1e-6)
    assert float(p.detach()) <= 2


@EACH
def test_a_run_with_constraints_is_freed_without_the_collector(method):
    if SCIPY < (1, 17) and method in ("trust-constr", "COBYQA"):
        pytest.skip("SciPy's own objects held each other in cycles")
    gc.collect()
    gc.disable()
    try:
        p = _parameter([0.5, 0.25])
        alive = weakref.ref(p)
        constraint = Constraint(lambda x: (x**2).sum(), upper=1)
        optimizer = MinimizeWrapper([p], {"method": method, "constraints": constraint}, max_evaluations=5)
        optimizer.step(lambda p=p: ((p - 2) ** 2).sum())
        del p, optimizer, constraint
        assert alive() is None
    finally:
        gc.enable()
