"""The oracles of the other tests, held against differences and against torch."""

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime, rosen, rosen_der

from tests.core.problems import PROBLEMS, rosenbrock


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_oracle_agrees_with_torch_and_with_differences(name):
    problem = PROBLEMS[name]
    x = problem.x0 + 0.1 * np.random.default_rng(1).standard_normal(problem.x0.shape)
    t = torch.tensor(x, requires_grad=True)
    loss = problem.loss(t)
    np.testing.assert_allclose(loss.item(), problem.f(x), rtol=1e-13)
    np.testing.assert_allclose(torch.autograd.grad(loss, t)[0], problem.grad(x), rtol=1e-11, atol=1e-11)
    hessian = torch.autograd.functional.hessian(problem.loss, torch.tensor(x))
    np.testing.assert_allclose(hessian, problem.hess(x), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(approx_fprime(x, problem.f), problem.grad(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_known_minima_are_minima(name):
    problem = PROBLEMS[name]
    for x in problem.minima:
        assert np.linalg.norm(problem.grad(x)) < 1e-9
        assert np.linalg.eigvalsh(problem.hess(x)).min() > -1e-9
        assert problem.distance(x) == 0.0


@pytest.mark.parametrize("n", [2, 5, 20])
def test_rosenbrock_is_scipys(n):
    problem = rosenbrock(n)
    x = problem.x0 + 0.1 * np.random.default_rng(2).standard_normal(n)
    np.testing.assert_allclose(problem.f(x), rosen(x), rtol=1e-14)
    np.testing.assert_allclose(problem.grad(x), rosen_der(x), rtol=1e-11)
