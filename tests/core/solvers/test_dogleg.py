"""The two segments against SciPy's subproblem, and the shift of a Hessian against that of the SciPy engine."""

import numpy as np
import pytest
import torch
from scipy.optimize._trustregion_dogleg import DoglegSubproblem

from tests.core.solvers.second_order import QuadraticProblem, model_value, propose, random_quadratic, solver
from torchmin_nb.core.autodiff.hessian import positive_definite

EPS = float(np.finfo(np.float64).eps)


@pytest.mark.parametrize("lowest", [-3.0, -0.1, 0.5, 2.0])
@pytest.mark.parametrize("radius", [1e-3, 0.1, 0.3, 1.0, 2.0, 100.0])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_step_is_scipys(n, radius, lowest):
    hessian, gradient, _ = random_quadratic(n, n, lowest)
    shifted = positive_definite(hessian, EPS)
    theirs = DoglegSubproblem(np.zeros(n), lambda x: 0.0, lambda x: gradient, lambda x: shifted)
    step, on_boundary = theirs.solve(radius)
    found, problem = propose("dogleg", hessian, gradient, radius)
    # Where the Hessian was shifted, the curvature along the lowest eigenvector is known to five digits.
    np.testing.assert_allclose(found.step.numpy(), step, rtol=1e-4 if lowest < 0 else 1e-8, atol=1e-4 * radius)
    assert found.on_boundary == on_boundary
    assert found.length == pytest.approx(np.linalg.norm(step), rel=1e-9)
    assert problem.counts["hessians"] == 1
    expected = model_value(shifted, gradient, found.step.numpy())
    assert found.slope + 0.5 * found.curvature == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([-2.0, 3.0]),
        np.diag([0.0, 3.0]),
        np.zeros((2, 2)),
        np.array([[1.0, 2.0], [2.0, 1.0]]),
        np.diag([1.0, 2.0]),
    ],
    ids=["indefinite", "singular", "none", "dense", "definite"],
)
def test_the_hessian_is_shifted_as_for_scipy(matrix):
    problem, own = QuadraticProblem(matrix, [1.0, 1.0]), solver("dogleg")
    state = own.init(problem)
    np.testing.assert_allclose(own.result(state)["hess"].numpy(), positive_definite(matrix, EPS), rtol=1e-9, atol=1e-12)


def test_a_hessian_without_a_factor_ends_the_run(monkeypatch):
    monkeypatch.setattr("torchmin_nb.core.solvers.dogleg._shifted", lambda hessian, eps: hessian)
    problem, own = QuadraticProblem(np.diag([-2.0, 3.0]), [1.0, 1.0]), solver("dogleg")
    state = own.step(problem, own.init(problem))
    ending = own.terminate(problem, state)
    assert (ending.status, ending.message) == (3, "A linalg error occurred, such as a non-psd Hessian.")
    assert state.iteration == 0


def test_the_hessian_is_factorised_in_float64():
    """Of a float32 problem too."""
    problem, own = QuadraticProblem(np.diag([1e-6, 1.0, 1e4]), [1.0, 1.0, 1.0], torch.float32), solver("dogleg")
    state = own.step(problem, own.init(problem))
    assert state.model["hessian"].dtype == torch.float64
    assert state.sample.x.dtype == torch.float32
