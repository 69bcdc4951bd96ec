"""The five Newton and trust-region methods as solvers on the device, SciPy's runs of them, and dense oracles."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import torch

from tests.core.solvers.plain import FunctionProblem
from torchmin_nb.core.autodiff.hessian import positive_definite
from torchmin_nb.core.execution.trust_region import from_loop
from torchmin_nb.core.runtime.blas_threads import blas_threads
from torchmin_nb.core.solvers.table import SOLVERS

TRUST_REGION = ("trust-ncg", "trust-krylov", "trust-exact", "dogleg")
PRODUCTS = ("trust-ncg", "trust-krylov", "Newton-CG")
METHODS = (*TRUST_REGION, "Newton-CG")


def solver(method, **options):
    return SOLVERS[method].solver(**options)


class ScipyRun(NamedTuple):
    """points: with the start. radii: after each iteration. calls: of "value", "gradient", "product" and "hessian"."""

    points: list[np.ndarray]
    radii: list[float]
    calls: Counter
    result: Any


def scipy_run(method, function, x0, **options):
    """Plain SciPy with the derivatives of the torch function; dogleg gets its Hessian positive definite."""
    calls: Counter = Counter()
    points, radii = [np.array(x0, dtype=np.float64)], []

    def leaf(x):
        return torch.tensor(x, dtype=torch.float64, requires_grad=True)

    def value(x):
        calls["value"] += 1
        return function(leaf(x)).item()

    def gradient(x):
        calls["gradient"] += 1
        at = leaf(x)
        return torch.autograd.grad(function(at), at)[0].numpy()

    def product(x, v):
        calls["product"] += 1
        at = leaf(x)
        (g,) = torch.autograd.grad(function(at), at, create_graph=True)
        return torch.autograd.grad(g, at, torch.tensor(v))[0].numpy()

    def hessian(x):
        calls["hessian"] += 1
        matrix = torch.autograd.functional.hessian(function, leaf(x).detach()).numpy()
        return positive_definite(matrix, np.finfo(float).eps) if method == "dogleg" else matrix

    def note(intermediate_result):
        points.append(intermediate_result.x.copy())
        radii.append(from_loop(None).radius)

    second = {"hessp": product} if method in PRODUCTS else {"hess": hessian}
    with blas_threads(1):
        result = scipy.optimize.minimize(
            value, points[0], jac=gradient, method=method, callback=note, options=options, **second
        )
    return ScipyRun(points, radii, calls, result)


class QuadraticProblem(FunctionProblem):
    """½xᵀHx + gᵀx from 0, where the model of every method is the function itself."""

    def __init__(self, hessian, gradient, dtype=torch.float64):
        matrix, vector = torch.as_tensor(hessian, dtype=dtype), torch.as_tensor(gradient, dtype=dtype)
        super().__init__(lambda x: 0.5 * x @ matrix @ x + vector @ x, torch.zeros(len(vector)), dtype=dtype)
        self._matrix = matrix

    def product(self, sample, v, known=None):
        self.counts["products"] += 1
        return self.right(self._matrix @ v, known)

    def hessian(self, sample):
        self.counts["hessians"] += 1
        return self._matrix.clone()


def propose(method, hessian, gradient, radius, dtype=torch.float64, model=None, **options):
    """The step of a method's subproblem from 0, and the problem with its counts."""
    problem = QuadraticProblem(hessian, gradient, dtype)
    own = solver(method, **options)._subproblem
    sample = problem.evaluate(problem.start())
    return own.solve(problem, sample, own.model(problem, sample) if model is None else model, radius), problem


def best_step(hessian, gradient, radius):
    """The minimizer of ½pᵀHp + gᵀp within |p| ≤ radius, by eigenvalues and bisection; one of two in the hard case."""
    values, vectors = np.linalg.eigh(hessian)
    parts = vectors.T @ gradient

    def step(damping):
        shifted = values + damping
        return -np.divide(parts, shifted, out=np.zeros_like(parts), where=np.abs(shifted) > 1e-13)

    if values[0] > 0 and np.linalg.norm(step(0.0)) <= radius:
        return vectors @ step(0.0)
    low = max(0.0, -values[0])
    if np.abs(parts[np.abs(values - values[0]) < 1e-10]).max() < 1e-12 and np.linalg.norm(step(low)) <= radius:
        inside = step(low)
        inside[0] = np.sqrt(radius**2 - inside @ inside) if values[0] < 0 else 0.0
        return vectors @ inside
    high = low + np.linalg.norm(gradient) / radius + 1.0
    for _ in range(300):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(step(middle)) > radius else (low, middle)
    return vectors @ step(high)


def model_value(hessian, gradient, step):
    return 0.5 * step @ hessian @ step + gradient @ step


def random_quadratic(seed, n, lowest):
    """A Hessian with eigenvalues from `lowest` to 10 in random directions, and a gradient."""
    draw = np.random.default_rng(seed)
    vectors, _ = np.linalg.qr(draw.normal(size=(n, n)))
    values = np.sort(np.append(lowest, draw.uniform(max(lowest, -1.0), 10.0, n - 1)))
    hessian = vectors * values @ vectors.T
    return (hessian + hessian.T) / 2, draw.normal(size=n), vectors
