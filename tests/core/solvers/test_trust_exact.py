"""Moré and Sorensen's iteration against SciPy's subproblem, the hard case included, and against eigenvalues."""

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.optimize._trustregion_exact import (
    IterativeSubproblem,
    estimate_smallest_singular_value,
    singular_leading_submatrix,
)

from tests.core.solvers.second_order import best_step, model_value, propose, random_quadratic
from torchmin_nb.core.solvers.trust_exact import _singular_block, _smallest_singular


def scipys(hessian, gradient, radius):
    model = IterativeSubproblem(np.zeros(len(gradient)), lambda x: 0.0, lambda x: gradient, lambda x: hessian)
    return model, *model.solve(radius)


def check(hessian, gradient, radius, rtol=1e-7):
    model, step, on_boundary = scipys(hessian, gradient, radius)
    found, _ = propose("trust-exact", hessian, gradient, radius)
    np.testing.assert_allclose(found.step.numpy(), step, rtol=rtol, atol=rtol * radius)
    assert found.on_boundary == on_boundary
    assert found.keep()["low"] == pytest.approx(model.lambda_lb, rel=1e-7, abs=1e-9)
    assert found.slope + 0.5 * found.curvature == pytest.approx(model_value(hessian, gradient, step), rel=1e-6)
    best = model_value(hessian, gradient, best_step(hessian, gradient, radius))
    # Conn, Gould, Toint: within a tenth of the radius, or of the best reduction by a fifth.
    assert found.slope + 0.5 * found.curvature <= 0.7 * best
    return found


@pytest.mark.parametrize("lowest", [-3.0, -0.1, 1e-3, 2.0])
@pytest.mark.parametrize("radius", [1e-2, 0.3, 2.0, 100.0])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_step_is_scipys(n, seed, radius, lowest):
    hessian, gradient, _ = random_quadratic(seed, n, lowest)
    check(hessian, gradient, radius)


@pytest.mark.parametrize("radius", [0.5, 5.0, 50.0])
@pytest.mark.parametrize("near", [0.0, 1e-12, 1e-6, 1e-3])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_hard_case_is_scipys(n, near, radius):
    """The gradient has no part along the lowest eigenvector, or hardly one: a piece of that is added, of any sign."""
    hessian, gradient, vectors = random_quadratic(7, n, -2.0)
    lowest = vectors[:, 0]
    gradient = gradient - (1 - near) * (lowest @ gradient) * lowest
    _, step, on_boundary = scipys(hessian, gradient, radius)
    found, _ = propose("trust-exact", hessian, gradient, radius)
    own = found.step.numpy()
    assert found.on_boundary == on_boundary
    assert np.linalg.norm(own) == pytest.approx(np.linalg.norm(step), rel=1e-5)
    expected = model_value(hessian, gradient, step)
    assert found.slope + 0.5 * found.curvature == pytest.approx(expected, rel=1e-5)
    assert found.slope + 0.5 * found.curvature <= 0.7 * model_value(
        hessian, gradient, best_step(hessian, gradient, radius)
    )


@pytest.mark.parametrize("radius", [0.1, 1.1, 1e3])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_without_a_gradient_it_leaves_a_saddle(n, radius):
    hessian, gradient, _ = random_quadratic(n, n, -3.0)
    gradient = 1e-20 * gradient
    _, step, on_boundary = scipys(hessian, gradient, radius)
    found, _ = propose("trust-exact", hessian, gradient, radius)
    np.testing.assert_allclose(found.step.numpy(), step, rtol=1e-7, atol=1e-9 * radius)
    assert found.on_boundary == on_boundary
    assert found.slope + 0.5 * found.curvature < 0


def test_dampings_that_give_no_factor_are_a_failure():
    """Here the bounds of the damping are both 1, and the Hessian plus 1 is singular; SciPy raises UnboundLocalError."""
    found, _ = propose("trust-exact", np.diag([2.0, -1.0, 3.0]), np.zeros(3), 1.0)
    assert found is None


def test_a_shorter_step_from_the_same_point_is_scipys():
    """The bound of the damping that the first solution found is used."""
    hessian, gradient, _ = random_quadratic(5, 12, -3.0)
    model, _, _ = scipys(hessian, gradient, 4.0)
    first, _ = propose("trust-exact", hessian, gradient, 4.0)
    for radius in (1.0, 0.25, 1e-2):
        step, _ = model.solve(radius)
        first, _ = propose("trust-exact", hessian, gradient, radius, model=first.keep())
        assert first.keep()["low"] == pytest.approx(model.lambda_lb, rel=1e-9)
        np.testing.assert_allclose(first.step.numpy(), step, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_the_smallest_singular_value_is_estimated_as_in_scipy(n):
    upper = np.triu(np.random.default_rng(n).normal(size=(n, n)) + 2 * np.eye(n))
    value, vector = estimate_smallest_singular_value(upper)
    own_value, own_vector = _smallest_singular(torch.tensor(upper))
    assert own_value.item() == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(own_vector.numpy(), vector, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("n", "order"), [(1, 1), (3, 1), (3, 2), (6, 5), (40, 30)])
def test_the_block_that_is_not_positive_definite_is_made_singular_as_in_scipy(n, order):
    draw = np.random.default_rng(order).normal(size=(n, n))
    matrix = draw @ draw.T + 0.1 * np.eye(n)
    matrix[order - 1, order - 1] -= 1.5 * matrix[order - 1, order - 1]
    upper, failed = scipy.linalg.lapack.dpotrf(matrix, lower=False, clean=True)
    assert failed == order
    delta, v = singular_leading_submatrix(matrix, upper, order)
    own, square = _singular_block(torch.tensor(matrix), order)
    assert own.item() == pytest.approx(delta, rel=1e-9)
    assert square.item() == pytest.approx(v @ v, rel=1e-9)


def test_float32_is_factorised_in_float64():
    hessian, gradient, _ = random_quadratic(1, 10, -1.0)
    found, _ = propose("trust-exact", hessian, gradient, 1.0, dtype=torch.float32)
    wide, _ = propose("trust-exact", hessian, gradient, 1.0)
    assert found.step.dtype == torch.float32
    np.testing.assert_allclose(found.step.numpy(), wide.step.numpy(), atol=1e-4)
