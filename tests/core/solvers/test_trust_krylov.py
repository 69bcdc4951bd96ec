"""The solution in a Krylov subspace against a dense one, and the tridiagonal problem that it comes from."""

import numpy as np
import pytest
import torch

from tests.core.solvers.second_order import best_step, model_value, propose, random_quadratic
from torchmin_nb.core.solvers.tridiagonal import leftmost, minimize_within


@pytest.mark.parametrize("lowest", [-3.0, -0.1, 0.1, 2.0])
@pytest.mark.parametrize("radius", [1e-2, 0.3, 2.0, 100.0])
@pytest.mark.parametrize("n", [1, 2, 5, 30, 100])
def test_the_exact_solution(n, radius, lowest):
    hessian, gradient, _ = random_quadratic(n, n, lowest)
    best = best_step(hessian, gradient, radius)
    found, problem = propose("trust-krylov", hessian, gradient, radius, inexact=False)
    np.testing.assert_allclose(found.step.numpy(), best, rtol=1e-8, atol=1e-8 * np.linalg.norm(best))
    assert found.length == pytest.approx(np.linalg.norm(best), rel=1e-8)
    assert found.slope + 0.5 * found.curvature == pytest.approx(model_value(hessian, gradient, best), rel=1e-10)
    assert found.on_boundary == (lowest < 0 or np.linalg.norm(np.linalg.solve(hessian, gradient)) > radius)
    assert problem.counts["products"] <= n


@pytest.mark.parametrize("radius", [1.0, 1e6])
def test_the_basis_stays_orthogonal(radius):
    """Eigenvalues over six decades: the three-term recurrence alone goes in circles."""
    hessian, gradient = np.diag(np.logspace(-3, 3, 120)), np.ones(120)
    best = best_step(hessian, gradient, radius)
    found, problem = propose("trust-krylov", hessian, gradient, radius, inexact=False)
    np.testing.assert_allclose(found.step.numpy(), best, rtol=1e-6, atol=1e-8 * np.linalg.norm(best))
    assert problem.counts["products"] <= 120


@pytest.mark.parametrize("size", [1e-3, 1.0])
@pytest.mark.parametrize("radius", [0.3, 100.0])
@pytest.mark.parametrize("lowest", [-3.0, 0.1])
def test_an_inexact_step_has_scipys_residual(lowest, radius, size):
    """‖(H + λI) p + g‖ ≤ ‖g‖ min(0.5, ‖g‖), or on the boundary ‖g‖ max(1e-6, min(0.5, √‖g‖)); with fewer products."""
    hessian, gradient, _ = random_quadratic(0, 100, lowest)
    gradient *= size
    exact, more = propose("trust-krylov", hessian, gradient, radius, inexact=False)
    found, problem = propose("trust-krylov", hessian, gradient, radius)
    assert problem.counts["products"] < more.counts["products"]
    p, norm = found.step.numpy(), np.linalg.norm(gradient)
    forces = hessian @ p + gradient
    damping = -(p @ forces) / (p @ p) if found.on_boundary else 0.0
    allowed = max(1e-6, min(0.5, norm**0.5)) if found.on_boundary else min(0.5, norm)
    assert np.linalg.norm(forces + damping * p) <= allowed * norm * (1 + 1e-6)
    assert found.slope + 0.5 * found.curvature >= exact.slope + 0.5 * exact.curvature - 1e-12


@pytest.mark.parametrize("radius", [0.05, 5.0, 50.0])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_the_hard_case(n, radius):
    """The gradient leads to no part of the lowest eigenvector: a second space is begun, of which that is found."""
    hessian = np.diag(np.linspace(-2.0, 3.0, n))
    gradient = np.r_[0.0, np.ones(n - 1)]
    found, _ = propose("trust-krylov", hessian, gradient, radius, inexact=False)
    best = best_step(hessian, gradient, radius)
    own = found.step.numpy()
    assert np.linalg.norm(own) == pytest.approx(np.linalg.norm(best), rel=1e-8)
    np.testing.assert_allclose(np.abs(own), np.abs(best), atol=1e-8 * radius)
    assert found.slope + 0.5 * found.curvature == pytest.approx(model_value(hessian, gradient, best), rel=1e-9)


def test_an_invariant_space_is_enough_where_nothing_curves_downwards():
    found, problem = propose("trust-krylov", 2 * np.eye(50), np.ones(50), 100.0)
    np.testing.assert_allclose(found.step.numpy(), -0.5)
    assert problem.counts["products"] == 1
    found, problem = propose("trust-krylov", 2 * np.eye(50), np.ones(50), 100.0, inexact=False)
    np.testing.assert_allclose(found.step.numpy(), -0.5)
    assert problem.counts["products"] == 2


def test_a_flat_direction_is_not_followed():
    found, _ = propose("trust-krylov", np.diag([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0]), 100.0, inexact=False)
    np.testing.assert_allclose(found.step.numpy(), [0.0, -1.0, -0.5], atol=1e-9)
    assert not found.on_boundary


@pytest.mark.parametrize("inexact", [True, False])
def test_a_shorter_step_from_the_same_point_takes_up_the_space(inexact):
    hessian, gradient, _ = random_quadratic(5, 40, -3.0)
    first, problem = propose("trust-krylov", hessian, gradient, 4.0, inexact=inexact)
    assert problem.counts["products"] > 0
    for radius in (1.0, 0.25, 1e-2):
        again, problem = propose("trust-krylov", hessian, gradient, radius, model=first.keep(), inexact=inexact)
        cold, full = propose("trust-krylov", hessian, gradient, radius, inexact=inexact)
        assert problem.counts["products"] < full.counts["products"]
        if not inexact:
            np.testing.assert_allclose(again.step.numpy(), cold.step.numpy(), rtol=1e-7, atol=1e-8 * radius)
        assert again.slope + 0.5 * again.curvature <= cold.slope + 0.5 * cold.curvature + 1e-9
        first = again


def test_float32():
    hessian, gradient, _ = random_quadratic(2, 60, -1.0)
    found, _ = propose("trust-krylov", hessian, gradient, 1.0, dtype=torch.float32, inexact=False)
    assert found.step.dtype == torch.float32
    np.testing.assert_allclose(found.step.numpy(), best_step(hessian, gradient, 1.0), atol=2e-5)


# The tridiagonal problem

MATRICES = {
    "one": ([3.0], []),
    "one, negative": ([-3.0], []),
    "none": ([0.0, 0.0], [0.0]),
    "definite": ([2.0, 3.0, 4.0], [0.5, -0.2]),
    "indefinite": ([2.0, -3.0, 4.0], [0.5, 2.0]),
    "singular": ([1.0, 1.0], [1.0]),
    "hard": ([1.0, 2.0, -5.0], [0.5, 0.0]),
    "nearly hard": ([1.0, 2.0, -5.0], [0.5, 1e-9]),
    "large": ([1e8, 2e8, -5e8], [3e7, 1e7]),
    "long": (np.linspace(-1.0, 5.0, 80).tolist(), np.linspace(0.5, 2.0, 79).tolist()),
}


@pytest.mark.parametrize("radius", [1e-6, 0.1, 1.0, 30.0, 1e6])
@pytest.mark.parametrize("gradient", [1e-5, 1.0, 1e5])
@pytest.mark.parametrize("name", MATRICES)
def test_the_tridiagonal_solution(name, gradient, radius):
    """The conditions of Moré and Sorensen, which are sufficient."""
    diagonal, off = MATRICES[name]
    matrix = np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)
    vector = np.r_[gradient, np.zeros(len(diagonal) - 1)]
    found = minimize_within(diagonal, off, gradient, radius)
    h, length = np.array(found.h), np.linalg.norm(found.h)
    size = np.abs(matrix).max()
    residual = np.linalg.norm(matrix @ h + found.damping * h + vector)
    assert residual <= 1e-13 * len(h) * (size + found.damping) * length
    assert np.linalg.eigvalsh(matrix)[0] + found.damping >= -1e-14 * len(h) * size
    assert length <= radius * (1 + 1e-12)
    assert found.damping == 0 or length == pytest.approx(radius, rel=1e-12)
    assert found.curvature == pytest.approx(h @ matrix @ h, rel=1e-9, abs=1e-12 * size * length**2)


def test_leftmost():
    diagonal, off = MATRICES["long"]
    value, vector = leftmost(diagonal, off)
    matrix = np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)
    assert value == pytest.approx(np.linalg.eigvalsh(matrix)[0], rel=1e-12)
    np.testing.assert_allclose(matrix @ vector, value * np.array(vector), atol=1e-12)
