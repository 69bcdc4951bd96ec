"""scale= of a param group: SciPy minimises over x/scale, and nobody else notices."""

import math

import numpy as np
import pytest
import scipy
import scipy.optimize
import torch
from scipy.sparse.linalg import LinearOperator

from tests.core.problems import PROBLEMS
from tests.core.scipys import METHODS
from torchmin_nb import MinimizeWrapper, minimize
from torchmin_nb.core.autodiff.hessian import positive_definite
from torchmin_nb.core.objective.constraints import Constraint
from torchmin_nb.core.runtime.blas_threads import blas_threads
from torchmin_nb.errors import ArgumentError

# trust-constr calls a trust radius that has shrunk away a success: some 1e-4 of the loss are left.
ENDS_EARLY = pytest.mark.filterwarnings("ignore:trust-constr reports success:torchmin_nb.errors.ConvergenceWarning")

EACH = pytest.mark.parametrize("method", METHODS)
SCALE = np.array([0.25, 8.0])  # powers of two: x = scale·z and back is exact, so that runs can be compared bit by bit
START = np.array([-1.2, 1.0])
SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))
ROSENBROCK = PROBLEMS["Rosenbrock 2"]


def _run(
    method,
    *,
    scale=SCALE,
    dtype=torch.float64,
    loss=ROSENBROCK.loss,
    start=START,
    bounds=None,
    arguments=None,
    **kwargs,
):
    p = torch.nn.Parameter(torch.tensor(start, dtype=dtype))
    group = {"params": [p], "scale": None if scale is None else torch.as_tensor(scale), "bounds": bounds}
    kwargs.setdefault("start_check", False)
    optimizer = MinimizeWrapper([group], {"method": method, **(arguments or {})}, **kwargs)
    optimizer.step(lambda: loss(p))
    return optimizer, p


def _plain(method, **kwargs):
    """SciPy on g(z) = f(scale·z) with analytic derivatives."""
    spec = METHODS[method]

    def grad(z):
        return SCALE * ROSENBROCK.grad(SCALE * z)

    def hess(z):
        matrix = SCALE[:, None] * scipy.optimize.rosen_hess(SCALE * z) * SCALE
        return positive_definite(matrix, np.finfo(float).eps) if spec.shift else matrix

    if spec.gradient != "none":
        kwargs["jac"] = grad
    if spec.curvature == "hvp":
        kwargs["hessp"] = lambda z, v: hess(z) @ v
    if spec.curvature == "dense":
        kwargs["hess"] = hess
    with blas_threads(1):
        return scipy.optimize.minimize(lambda z: ROSENBROCK.f(SCALE * z), START / SCALE, method=method, **kwargs)


@EACH
def test_the_run_is_plain_scipys_on_the_scaled_function(method):
    options = {"maxiter": 60} if METHODS[method].gradient == "none" else {}
    if method == "Newton-CG":  # a difference in the last bit doubles in each of its 49 iterations
        options = {"maxiter": 20}
    optimizer, p = _run(method, arguments={"options": options})
    theirs = _plain(method, options=options)
    np.testing.assert_allclose(optimizer.result.x, SCALE * theirs.x, atol=1e-6)
    np.testing.assert_array_equal(optimizer.result.x, p.detach())
    if "nit" in theirs:
        assert optimizer.result.nit == theirs.nit
    assert optimizer.result.nfev == theirs.nfev


@EACH
def test_parameters_of_very_different_size(method):
    """1e-9 beside 1e4, each off by as much as it is: scaled it is an easy quadratic."""
    typical = torch.tensor([1e-9, 1e4], dtype=torch.float64)

    def loss(x):
        u = x / typical
        return (u[0] - 2) ** 2 + 2 * (u[1] - 3) ** 2 + u[0] * u[1]

    optimizer, _ = _run(method, loss=loss, start=[1e-9, 1e4], scale=typical)
    np.testing.assert_allclose(optimizer.result.x / typical.numpy(), [4 / 7, 20 / 7], rtol=2e-3)


def test_without_a_scale_a_trust_region_fails_there():
    typical = torch.tensor([1e-9, 1e4], dtype=torch.float64)

    def loss(x):
        u = x / typical
        return (u[0] - 2) ** 2 + 2 * (u[1] - 3) ** 2 + u[0] * u[1]

    options = {"options": {"maxiter": 200}}
    without, _ = _run("trust-ncg", loss=loss, start=[1e-9, 1e4], scale=None, arguments=options)
    scaled, _ = _run("trust-ncg", loss=loss, start=[1e-9, 1e4], scale=typical, arguments=options)
    assert scaled.result.success
    assert scaled.result.nit <= 5
    assert without.result.fun > scaled.result.fun + 0.1


def test_scales_by_group():
    a, b = (torch.nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in (1e-9, 1e4))
    optimizer = MinimizeWrapper(
        [{"params": [a], "scale": 1e-9}, {"params": [b], "scale": torch.tensor([1e4])}], "trust-exact"
    )
    optimizer.step(lambda: ((a / 1e-9 - 2) ** 2 + (b / 1e4 - 3) ** 2).sum())
    np.testing.assert_allclose([a.item() * 1e9, b.item() / 1e4], [2, 3], rtol=1e-6)


def test_single_precision():
    optimizer, p = _run("trust-ncg", dtype=torch.float32)
    np.testing.assert_allclose(p.detach(), [1, 1], atol=2e-2)
    np.testing.assert_allclose(p.detach(), optimizer.result.x, rtol=1e-6)


def test_differences_of_gradients_step_in_the_scaled_variables():
    """In x a step is measured by 1e4, and steps over everything that happens in 1e-9."""
    typical = torch.tensor([1e-9, 1e4], dtype=torch.float64)

    def loss(x):
        u = x / typical
        return torch.cosh(u[0] - 2) + (u[1] - 3) ** 2

    optimizer, _ = _run("trust-ncg", loss=loss, start=[1e-9, 1e4], scale=typical, curvature="finite-difference")
    assert optimizer.result.success
    np.testing.assert_allclose(optimizer.result.x / typical.numpy(), [2, 3], rtol=1e-4)


# Everything the user sees is x


@EACH
def test_history_and_callbacks_are_in_x(method):
    seen, from_scipy = [], []

    def watch(iteration):
        seen.append(p.detach().numpy().copy())

    def callback(x, *state):
        from_scipy.append(np.array(x))
        if state:
            np.testing.assert_array_equal(state[0].x, x)
            np.testing.assert_allclose(state[0].grad, scipy.optimize.rosen_der(x), rtol=1e-9)

    p = torch.nn.Parameter(torch.tensor(START))
    arguments = {"method": method, "callback": callback, "options": {"maxiter": 25}}
    group = {"params": [p], "scale": torch.tensor(SCALE)}
    optimizer = MinimizeWrapper([group], arguments, callbacks=watch, keep_parameters=True)
    optimizer.step(lambda: ROSENBROCK.loss(p))
    history = optimizer.history
    np.testing.assert_array_equal(history.parameters, seen)
    if method == "COBYLA" and SCIPY < (1, 16):
        return  # it calls back with the point that it is about to evaluate: its loss is not known yet
    np.testing.assert_allclose(history.loss, [scipy.optimize.rosen(x) for x in history.parameters], rtol=1e-9)
    steps = np.linalg.norm(np.diff(history.parameters, axis=0), axis=1)
    np.testing.assert_allclose(history.step_norm[1:], steps, rtol=1e-12)
    shift = 0 if method == "trust-constr" else 1  # whose first callback is the start
    if METHODS[method].callback_at == "iterate":
        np.testing.assert_array_equal(from_scipy, history.parameters[shift:])
    else:  # the user's own callback still hears what SciPy says
        gradient = (
            {} if METHODS[method].gradient == "none" else {"jac": lambda z: scipy.optimize.rosen_der(z * SCALE) * SCALE}
        )
        plain = []
        scipy.optimize.minimize(
            lambda z: scipy.optimize.rosen(z * SCALE),
            np.array(START) / SCALE,
            method=method,
            callback=lambda z: plain.append(z * SCALE),
            **gradient,
            options={"maxiter": 25},
        )
        np.testing.assert_allclose(from_scipy, plain, rtol=1e-6)
    if METHODS[method].gradient != "none":
        norms = [np.linalg.norm(scipy.optimize.rosen_der(x)) for x in history.parameters]
        reported = np.isfinite(history.grad_norm)
        np.testing.assert_allclose(history.grad_norm[reported], np.array(norms)[reported], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("method", [name for name, spec in METHODS.items() if spec.gradient != "none"])
def test_the_gradient_of_the_result(method):
    optimizer, p = _run(method, arguments={"options": {"maxiter": 8}})
    result = optimizer.result
    gradient = result.grad if method == "trust-constr" else result.jac
    np.testing.assert_allclose(gradient, scipy.optimize.rosen_der(result.x), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(p.grad, scipy.optimize.rosen_der(result.x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B"])
def test_the_inverse_hessian_of_the_result(method):
    optimizer, _ = _run(method)
    told, theirs = optimizer.result.hess_inv, _plain(method).hess_inv
    if method == "L-BFGS-B":
        assert isinstance(told, LinearOperator)
        np.testing.assert_allclose(told @ [1.0, 2.0], told.todense() @ [1.0, 2.0])
        told, theirs = told.todense(), theirs.todense()
    np.testing.assert_allclose(told, SCALE[:, None] * theirs * SCALE, rtol=1e-3)
    np.testing.assert_allclose(told, np.linalg.inv(scipy.optimize.rosen_hess(np.ones(2))), rtol=0.2, atol=0.05)


@pytest.mark.parametrize("method", ["trust-exact", "dogleg"])
def test_the_hessian_of_the_result(method):
    result = _run(method)[0].result
    if "hess" in result:
        np.testing.assert_allclose(result.hess, scipy.optimize.rosen_hess(result.x), rtol=1e-6)


def test_what_nelder_mead_and_powell_return():
    result = _run("Nelder-Mead", arguments={"options": {"return_all": True}})[0].result
    points, losses = result.final_simplex
    np.testing.assert_allclose(losses, [scipy.optimize.rosen(x) for x in points], rtol=1e-9)
    np.testing.assert_array_equal(result.allvecs[-1], result.x)
    result = _run("Powell")[0].result
    np.testing.assert_allclose(result.direc, _plain("Powell").direc * SCALE, rtol=1e-6)


@pytest.mark.parametrize("translated", ["scaled", "fixed"])
def test_users_derivatives_get_x(translated):
    seen = []

    def noted(function):
        def note(x, *rest):
            seen.append(x.copy())
            assert x.shape == (3,)
            return function(x, *rest)

        return note

    start = np.array([-1.2, 1.0, 0.5])
    low, high = np.full(3, -np.inf), np.full(3, np.inf)
    if translated == "fixed":
        low[2] = high[2] = 0.5
    arguments = {
        "jac": noted(scipy.optimize.rosen_der),
        "hess": noted(scipy.optimize.rosen_hess),
        "bounds": scipy.optimize.Bounds(low, high) if translated == "fixed" else None,
    }
    scale = np.array([0.5, 2.0, 10.0]) if translated == "scaled" else None
    p = torch.nn.Parameter(torch.tensor(start))

    def loss():
        return (100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2).sum()

    for method in ("trust-constr",) if translated == "fixed" else ("trust-constr", "trust-exact", "Newton-CG"):
        with torch.no_grad():
            p.copy_(torch.tensor(start))
        group = {"params": [p], "scale": None if scale is None else torch.tensor(scale)}
        optimizer = MinimizeWrapper([group], {"method": method, **arguments})
        optimizer.step(loss)
        gradient = scipy.optimize.rosen_der(optimizer.result.x)
        np.testing.assert_allclose(gradient[: 2 if translated == "fixed" else 3], 0, atol=0.1)
    assert all(x[2] == 0.5 for x in seen) or translated == "scaled"
    assert len(seen) > 10


def test_users_products_get_x():
    def hessp(x, v):
        assert x.shape == v.shape == (2,)
        return scipy.optimize.rosen_hess(x) @ v

    optimizer, _ = _run("trust-ncg", arguments={"hessp": hessp})
    assert optimizer.result.nit == _plain("trust-ncg").nit
    np.testing.assert_allclose(optimizer.result.x, [1, 1], atol=1e-5)


@ENDS_EARLY
def test_constraints_get_x():
    seen = []

    def disc(x):
        seen.append(x.detach().numpy().copy())
        return (x**2).sum()

    for method in ("SLSQP", "trust-constr", "COBYLA", "COBYQA"):
        seen.clear()
        constraint = Constraint(disc, upper=1)
        optimizer, _ = _run(
            method,
            loss=lambda x: (x[0] - 2) ** 2 + (x[1] - 1) ** 2,
            arguments={"constraints": constraint},
            start=[0.1, 0.1],
            scale=[0.5, 2.0],
        )
        np.testing.assert_array_equal(seen[0], [0.1, 0.1])
        np.testing.assert_allclose(optimizer.result.x, np.array([2, 1]) / 5**0.5, atol=1e-3)


@ENDS_EARLY
def test_what_trust_constr_returns():
    """Constraint Jacobians, values and multipliers of constraint and bounds, all of x."""
    low, high = torch.tensor([-2.0, 0.7]), torch.tensor([2.0, 2.0])
    constraint = Constraint(lambda x: (x**2).sum(), upper=1)
    optimizer, _ = _run("trust-constr", bounds=(low, high), arguments={"constraints": constraint}, start=[0.1, 0.8])
    result = optimizer.result
    dense = [np.asarray(J.toarray() if hasattr(J, "toarray") else J) for J in result.jac]
    np.testing.assert_allclose(dense[0], 2 * result.x[None], rtol=1e-9)
    np.testing.assert_array_equal(dense[1], np.eye(2))
    np.testing.assert_allclose(result.constr[1], result.x, rtol=1e-12)
    stationary = result.grad + dense[0].T @ result.v[0] + result.v[1]
    np.testing.assert_allclose(stationary, 0, atol=1e-3)
    np.testing.assert_allclose(stationary, result.lagrangian_grad, atol=1e-9)
    assert result.constr_violation == optimizer.history[-1].constraint_violation
    assert result.v[1][1] < -0.1  # the bound holds x₁ up


def test_options_that_are_arrays_are_of_x():
    simplex = np.array([[-1.2, 1.0], [-1.0, 1.0], [-1.2, 1.5]])
    arguments = {"options": {"initial_simplex": simplex, "maxiter": 30}}
    scaled, plain = (_run("Nelder-Mead", scale=scale, arguments=arguments)[0] for scale in (SCALE, None))
    np.testing.assert_array_equal(scaled.history.loss, plain.history.loss)  # Nelder-Mead is affine invariant
    inverse = np.array([[0.001, 0.0003], [0.0003, 0.002]])
    arguments = {"options": {"hess_inv0": inverse, "maxiter": 6}}
    scaled, plain = (_run("BFGS", scale=scale, arguments=arguments)[0] for scale in (SCALE, None))
    np.testing.assert_allclose(scaled.history.loss, plain.history.loss, rtol=1e-6)  # and so is BFGS from there on
    _run("BFGS", scale=[0.1, 0.7], arguments=arguments)  # SciPy refuses what is not symmetric to the last bit


@pytest.mark.parametrize("method", ["trust-ncg", "trust-exact", "trust-constr"])
def test_the_trust_radius_is_in_scaled_units(method):
    optimizer, _ = _run(method, keep_parameters=True)
    history = optimizer.history
    assert history[0].trust_radius == 1.0
    steps = np.linalg.norm(np.diff(history.parameters / SCALE, axis=0), axis=1)
    if method != "trust-constr":
        assert (steps <= history.trust_radius[:-1] * (1 + 1e-5)).all()


def test_a_step_in_x_may_be_longer_than_the_trust_radius():
    optimizer, _ = _run("trust-ncg", loss=lambda x: ((x - 50) ** 2).sum(), scale=100.0)
    assert optimizer.result.nit == 1
    assert optimizer.history[1].step_norm > 50
    assert optimizer.history[0].trust_radius == 1.0


def test_scale_with_fixed_variables_and_bounds():
    low, high = torch.tensor([-1.0, 1.0, 0.1]), torch.tensor([0.5, 1.0, 0.2])

    def loss(x):
        return (x[0] - 1) ** 2 + (x[1] - 3) ** 2 + (x[2] - x[0]) ** 2

    for method in [name for name, spec in METHODS.items() if spec.bounds]:
        optimizer, p = _run(method, loss=loss, start=[0.0, 1.0, 0.15], scale=[0.3, 7.0, 0.7], bounds=(low, high))
        # Nelder-Mead's simplex collapses into a corner, plain SciPy's too
        expected = [0.5, 1.0, 0.1 if method == "Nelder-Mead" else 0.2]
        np.testing.assert_allclose(
            p.detach(), expected, atol=1e-2 if method == "trust-constr" else 2e-4, err_msg=method
        )
        assert float(p.detach()[1]) == 1.0
        assert optimizer.result.x.shape == (3,)


# Refused


@pytest.mark.parametrize(
    ("scale", "match"),
    [
        (0, "scale must be positive and finite, from 1e-150 to 1e150, got 0.0"),
        (-1.0, "got -1.0"),
        (math.inf, "got inf"),
        (math.nan, "got nan"),
        (torch.tensor([1.0, 0.0]), "got 0.0"),
        (torch.ones(3), r"scale has shape \(3,\) for a parameter of shape \(2,\)"),
        ("large", "scale must be a number, a tensor or None, got 'large'"),
    ],
)
def test_scales_refused(scale, match):
    p = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ArgumentError, match=match):
        MinimizeWrapper([{"params": [p], "scale": scale}])


def test_a_scale_set_later_is_checked_before_the_run():
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = MinimizeWrapper([p])
    optimizer.param_groups[0]["scale"] = -1
    with pytest.raises(ArgumentError, match="scale must be positive"):
        optimizer.step(lambda: pytest.fail("called"))


def test_scale_is_no_keyword_of_minimize():
    with pytest.raises(TypeError, match="scale"):
        minimize(torch.sum, torch.ones(2), scale=3)
