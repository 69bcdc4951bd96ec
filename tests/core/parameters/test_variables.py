"""What SciPy sees of the parameters: round trips of points, derivatives, options and results."""

import numpy as np
import pytest
from scipy.optimize import Bounds, OptimizeResult
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from torchmin_nb import METHODS
from torchmin_nb.core.parameters.variables import Variables

N = 5
RNG = np.random.default_rng(0)
BASE = RNG.standard_normal(N)
SCALE = np.array([1e-9, 0.1, 1.0, 3.0, 1e4])
LOW, HIGH = BASE - 0.3 * SCALE, BASE + 0.7 * SCALE
FIXED = np.array([False, True, False, False, True])
FREE = ~FIXED
HALF_FIXED = Bounds(np.where(FIXED, BASE, LOW), np.where(FIXED, BASE, HIGH))

KINDS = {
    "plain": (None, None),
    "bounded": (None, Bounds(LOW, HIGH)),
    "scaled": (SCALE, None),
    "scaled and bounded": (SCALE, Bounds(LOW, HIGH)),
    "fixed": (None, HALF_FIXED),
    "scaled and fixed": (SCALE, HALF_FIXED),
    "all fixed": (SCALE, Bounds(BASE, BASE)),
}
EACH = pytest.mark.parametrize("kind", KINDS)


def _variables(kind):
    return Variables(BASE, *KINDS[kind])


def _map(kind):
    """dx/dz, shape (n, nz), written out."""
    scale, bounds = KINDS[kind]
    free = np.ones(N, dtype=bool) if bounds is None else bounds.lb < bounds.ub
    return np.diag(np.ones(N) if scale is None else scale)[:, free]


@EACH
def test_points(kind):
    variables, T = _variables(kind), _map(kind)
    assert variables.n == T.shape[1]
    assert variables.plain == (kind in ("plain", "bounded"))
    np.testing.assert_allclose(variables.to_user(variables.start), BASE, rtol=1e-15)
    z = RNG.standard_normal(variables.n)
    x = variables.to_user(z)
    np.testing.assert_allclose(variables.to_solver(x), z, rtol=1e-14)
    rest = np.where(np.any(T, axis=1), 0, BASE)
    np.testing.assert_allclose(x, T @ z + rest, rtol=1e-14)
    np.testing.assert_array_equal(variables.to_user(z), x)


@EACH
def test_what_is_handed_out_is_not_shared(kind):
    variables = _variables(kind)
    variables.to_solver(BASE)[:] = 7
    np.testing.assert_allclose(variables.to_user(variables.start), BASE, rtol=1e-15)


@EACH
def test_bounds(kind):
    """A variable on its bound is there to the last bit, and none between them is outside."""
    variables, (_, bounds) = _variables(kind), KINDS[kind]
    if bounds is None or variables.n == 0:
        assert variables.bounds is None
        return
    low, high = variables.bounds.lb, variables.bounds.ub
    np.testing.assert_array_equal(variables.to_user(low), bounds.lb)
    np.testing.assert_array_equal(variables.to_user(high), bounds.ub)
    for z in (np.nextafter(low, np.inf), np.nextafter(high, -np.inf), low + 0.3 * (high - low)):
        x = variables.to_user(z)
        assert (bounds.lb <= x).all()
        assert (x <= bounds.ub).all()


def test_bounds_that_only_fix_leave_the_rest_open():
    fixed = Bounds(np.where(FIXED, BASE, -np.inf), np.where(FIXED, BASE, np.inf))
    assert Variables(BASE, None, fixed).bounds is None


def test_keep_feasible_follows_its_variable():
    keep = np.array([True, False, False, True, False])
    variables = Variables(BASE, SCALE, Bounds(HALF_FIXED.lb, HALF_FIXED.ub, keep_feasible=keep))
    np.testing.assert_array_equal(variables.bounds.keep_feasible, keep[FREE])


@EACH
def test_derivatives(kind):
    variables, T = _variables(kind), _map(kind)
    g, J = RNG.standard_normal(N), RNG.standard_normal((3, N))
    H = RNG.standard_normal((N, N))
    v = RNG.standard_normal(variables.n)
    np.testing.assert_allclose(variables.gradient_to_solver(g), g @ T)
    np.testing.assert_allclose(variables.gradient_to_solver(J), J @ T)
    np.testing.assert_allclose(variables.gradient_to_solver(csr_array(J)).toarray(), J @ T)
    np.testing.assert_allclose(variables.direction_to_user(v), T @ v)
    np.testing.assert_allclose(variables.hessian_to_solver(H), T.T @ H @ T)
    np.testing.assert_allclose(variables.hessian_to_solver(csr_array(H)).toarray(), T.T @ H @ T)
    products = variables.hessian_to_solver(aslinearoperator(H))
    assert isinstance(products, LinearOperator)
    np.testing.assert_allclose(products @ v, T.T @ H @ T @ v)


@EACH
def test_derivatives_back(kind):
    """Zeros along what is fixed, the rest as it was."""
    variables, T = _variables(kind), _map(kind)
    keep = np.any(T, axis=1)
    g, J = RNG.standard_normal(N), RNG.standard_normal((3, N))
    np.testing.assert_allclose(variables.gradient_to_user(variables.gradient_to_solver(g)), np.where(keep, g, 0))
    np.testing.assert_allclose(variables.gradient_to_user(variables.gradient_to_solver(J)), np.where(keep, J, 0))
    sparse = variables.gradient_to_user(variables.gradient_to_solver(csr_array(J)))
    np.testing.assert_allclose(sparse.toarray(), np.where(keep, J, 0))


def test_complex_steps_stay_complex():
    for kind in KINDS:
        variables = _variables(kind)
        z = variables.start + 1e-20j
        np.testing.assert_allclose(variables.to_user(z).imag, _map(kind).sum(1) * 1e-20)


@pytest.mark.parametrize("kind", ["scaled", "scaled and fixed"])
def test_results(kind):
    variables, T = _variables(kind), _map(kind)
    nz, back = variables.n, np.linalg.pinv(T)
    z, g = RNG.standard_normal(nz), RNG.standard_normal(nz)
    A, simplex, directions = (RNG.standard_normal(shape) for shape in ((nz, nz), (nz + 1, nz), (nz, nz)))
    told = variables.user_result(
        OptimizeResult(
            x=z,
            fun=1.0,
            jac=g,
            hess=A,
            hess_inv=A,
            direc=directions,
            allvecs=[z, 2 * z],
            final_simplex=(simplex, np.arange(nz + 1)),
        )
    )
    np.testing.assert_array_equal(told.x, variables.to_user(z))
    assert told.fun == 1.0
    np.testing.assert_allclose(told.jac, back.T @ g)
    np.testing.assert_allclose(told.hess, back.T @ A @ back)
    np.testing.assert_allclose(told.hess_inv, T @ A @ T.T)
    np.testing.assert_allclose(told.direc, directions @ T.T)
    np.testing.assert_array_equal(told.allvecs, [variables.to_user(z), variables.to_user(2 * z)])
    np.testing.assert_array_equal(told.final_simplex[0], [variables.to_user(row) for row in simplex])
    np.testing.assert_array_equal(told.final_simplex[1], np.arange(nz + 1))


def test_an_inverse_hessian_of_products_stays_one():
    variables, T = _variables("scaled and fixed"), _map("scaled and fixed")
    A = RNG.standard_normal((variables.n, variables.n))
    told = variables.user_result(OptimizeResult(x=variables.start, hess_inv=aslinearoperator(A)))
    assert isinstance(told.hess_inv, LinearOperator)
    v = RNG.standard_normal(N)
    np.testing.assert_allclose(told.hess_inv @ v, T @ A @ T.T @ v)
    np.testing.assert_allclose(told.hess_inv.todense(), T @ A @ T.T)


def test_a_plain_result_is_handed_through():
    result = OptimizeResult(x=BASE)
    assert _variables("bounded").user_result(result) is result


def test_options_that_are_arrays_over_the_variables():
    variables, T = _variables("scaled and fixed"), _map("scaled and fixed")
    back = np.linalg.pinv(T)
    rows, inverse = RNG.standard_normal((variables.n + 1, N)), RNG.standard_normal((N, N))
    simplex = variables.solver_options(
        {"initial_simplex": rows.tolist(), "xatol": 1e-3, "adaptive": True}, METHODS["Nelder-Mead"].options
    )
    np.testing.assert_allclose(simplex.pop("initial_simplex"), rows @ back.T)
    assert simplex == {"xatol": 1e-3, "adaptive": True}
    given = variables.solver_options({"hess_inv0": inverse, "gtol": 1e-3}, METHODS["BFGS"].options)
    np.testing.assert_allclose(given["hess_inv0"], back @ inverse @ back.T)
    tnc = variables.solver_options({"scale": SCALE, "offset": None}, METHODS["TNC"].options)
    np.testing.assert_allclose(tnc["scale"], np.ones(variables.n))
    assert tnc["offset"] is None
    wrong = variables.solver_options({"hess_inv0": np.eye(2)}, METHODS["BFGS"].options)
    np.testing.assert_array_equal(wrong["hess_inv0"], np.eye(2))  # SciPy says what is wrong with it
