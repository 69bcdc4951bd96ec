"""Steihaug's conjugate gradients against SciPy's subproblem, step by step."""

import numpy as np
import pytest
import torch
from scipy.optimize._trustregion_ncg import CGSteihaugSubproblem

from tests.core.solvers.second_order import model_value, propose, random_quadratic
from torchmin_nb import minimize


def scipys(hessian, gradient, radius):
    """SciPy's step, whether it is on the boundary, and its products, with the one for its predicted reduction."""
    products = [0]

    def product(x, v):
        products[0] += 1
        return hessian @ v

    model = CGSteihaugSubproblem(np.zeros(len(gradient)), lambda x: 0.0, lambda x: gradient, None, product)
    step, on_boundary = model.solve(radius)
    model(step)
    return step, on_boundary, products[0]


@pytest.mark.parametrize("lowest", [-3.0, -0.1, 0.0, 1e-3, 2.0])
@pytest.mark.parametrize("radius", [1e-3, 0.3, 2.0, 100.0])
@pytest.mark.parametrize("size", [1e-4, 1.0, 30.0])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_step_is_scipys(n, size, radius, lowest):
    hessian, gradient, _ = random_quadratic(n, n, lowest)
    gradient = size * gradient
    step, on_boundary, products = scipys(hessian, gradient, radius)
    found, problem = propose("trust-ncg", hessian, gradient, radius)
    np.testing.assert_allclose(found.step.numpy(), step, rtol=1e-7, atol=1e-9 * radius)
    assert found.on_boundary == on_boundary
    assert found.length == pytest.approx(np.linalg.norm(step), rel=1e-9)
    assert problem.counts["products"] == products
    assert found.slope + 0.5 * found.curvature == pytest.approx(model_value(hessian, gradient, step), rel=1e-8)


def test_float32_takes_the_step_of_float64():
    hessian, gradient, _ = random_quadratic(3, 200, 0.5)
    wide, _ = propose("trust-ncg", hessian, gradient, 1.5)
    narrow, _ = propose("trust-ncg", hessian, gradient, 1.5, dtype=torch.float32)
    assert narrow.step.dtype == torch.float32
    np.testing.assert_allclose(narrow.step.numpy(), wide.step.numpy(), atol=1e-5)
    assert narrow.slope == pytest.approx(wide.slope, rel=1e-5)


def test_a_product_that_is_known_is_not_computed():
    start = torch.tensor([-1.2, 1.0] * 10, dtype=torch.float64)

    def rosenbrock(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    result = minimize(rosenbrock, start, "trust-ncg", engine="torch", options={"maxiter": 15})
    assert result.history.totals.nhvp <= result.nhev - result.nit
