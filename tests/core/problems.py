"""Test functions with analytic derivatives: each as torch loss, NumPy oracles, start and known minima.

More, Garbow, Hillstrom, "Testing unconstrained optimization software", ACM TOMS 7 (1981). The NumPy
forms add up in the order of torch and autograd, so that a run on either sees the same numbers to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """loss: of a tensor (n,). f, grad, hess: of an array (n,). minima: all that a descent from x0 may reach."""

    name: str
    loss: Callable[[torch.Tensor], torch.Tensor]
    f: Callable[[Vector], float]
    grad: Callable[[Vector], Vector]
    hess: Callable[[Vector], Vector]
    x0: Vector
    minima: tuple[Vector, ...]

    def distance(self, x: object) -> float:
        """From x to the nearest known minimum."""
        here = np.asarray(x, dtype=np.float64)
        return float(min(np.linalg.norm(here - minimum) for minimum in self.minima))

    @property
    def minimum(self) -> float:
        """The lowest loss."""
        return float(min(self.f(x) for x in self.minima))


def rosenbrock(n: int) -> Problem:
    """From (-1.2, 1, ...); another local minimum exists for n >= 4, near (-1, 1, ..., 1)."""

    def terms(x: Any) -> Any:
        linear = (1 - x[:-1]) ** 2  # first in, last out: the order in which autograd adds up
        return 100 * (x[1:] - x[:-1] ** 2) ** 2 + linear

    def grad(x: Vector) -> Vector:
        valley = 200 * (x[1:] - x[:-1] ** 2)
        slope = np.zeros(n)
        slope[1:] += valley
        slope[:-1] -= valley * (2 * x[:-1])
        slope[:-1] -= 2 * (1 - x[:-1])
        return slope

    x0 = np.where(np.arange(n) % 2 == 0, -1.2, 1.0)
    start = np.where(np.arange(n) == 0, -1.0, 1.0)
    local = (_polished(start, grad, scipy.optimize.rosen_hess),) if n >= 4 else ()
    return Problem(
        f"Rosenbrock {n}",
        lambda x: terms(x).cumsum(0)[-1],  # adds from left to right, which sum() need not
        lambda x: float(terms(x).cumsum()[-1]),
        grad,
        scipy.optimize.rosen_hess,
        x0,
        (np.ones(n), *local),
    )


def _polished(x: Vector, grad: Callable[[Vector], Vector], hess: Callable[[Vector], Vector]) -> Vector:
    """The stationary point that Newton's method reaches from x."""
    for _ in range(50):
        x = x - np.linalg.solve(hess(x), grad(x))
    return x


def from_residuals(
    name: str,
    residuals: Callable[[torch.Tensor], torch.Tensor],
    oracle: Callable[[Vector], tuple[Vector, Vector, Vector]],
    x0: list[float],
    minima: list[list[float]],
) -> Problem:
    """A sum of squares. `oracle` gives residuals (m,), Jacobian (m, n) and second derivatives (m, n, n)."""

    def f(x: Vector) -> float:
        return float((oracle(x)[0] ** 2).sum())

    def grad(x: Vector) -> Vector:
        r, J, _ = oracle(x)
        return 2 * J.T @ r

    def hess(x: Vector) -> Vector:
        r, J, second = oracle(x)
        return np.asarray(2 * (J.T @ J + np.einsum("m,mij->ij", r, second)))

    return Problem(
        name,
        lambda x: (residuals(x) ** 2).sum(),
        f,
        grad,
        hess,
        np.array(x0),
        tuple(np.array(minimum) for minimum in minima),
    )


def himmelblau() -> Problem:
    """Four minima of height 0."""

    def residuals(p: torch.Tensor) -> torch.Tensor:
        x, y = p.unbind()
        return torch.stack([x**2 + y - 11, x + y**2 - 7])

    def oracle(p: Vector) -> tuple[Vector, Vector, Vector]:
        x, y = p
        r = np.array([x**2 + y - 11, x + y**2 - 7])
        J = np.array([[2 * x, 1.0], [1.0, 2 * y]])
        return r, J, np.array([[[2.0, 0], [0, 0]], [[0, 0], [0, 2.0]]])

    minima = [[3.0, 2.0], [-2.805118086952745, 3.131312518250573], [-3.779310253377747, -3.283185991286170]]
    return from_residuals(
        "Himmelblau", residuals, oracle, [0.5, 1.0], [*minima, [3.584428340330492, -1.848126526964404]]
    )


def beale() -> Problem:
    """r_i = y_i - x (1 - y^i), i = 1, 2, 3."""
    y_data = [1.5, 2.25, 2.625]

    def residuals(p: torch.Tensor) -> torch.Tensor:
        x, y = p.unbind()
        powers = (y, y * y, y * y * y)
        return torch.stack([c - x * (1 - power) for c, power in zip(y_data, powers, strict=True)])

    def oracle(p: Vector) -> tuple[Vector, Vector, Vector]:
        x, y = p
        powers = (y, y * y, y * y * y)
        r = np.array([c - x * (1 - power) for c, power in zip(y_data, powers, strict=True)])
        J = np.array([[-(1 - y**i), x * i * y ** (i - 1)] for i in (1, 2, 3)])
        mixed = [i * y ** (i - 1) for i in (1, 2, 3)]
        pure = [0.0, 2 * x, 6 * x * y]
        return r, J, np.array([[[0.0, m], [m, d]] for m, d in zip(mixed, pure, strict=True)])

    return from_residuals("Beale", residuals, oracle, [1.0, 1.0], [[3.0, 0.5]])


def powell_singular() -> Problem:
    """The Hessian is singular at the minimum: slow for everyone."""

    def loss(p: Any) -> Any:
        a, b, c, d = p
        return (a + 10 * b) ** 2 + 5 * (c - d) ** 2 + ((b - 2 * c) ** 2) ** 2 + 10 * ((a - d) ** 2) ** 2

    def grad(p: Vector) -> Vector:
        a, b, c, d = p
        sum_ab, cd = 2 * (a + 10 * b), 10 * (c - d)
        bc, ad = 2 * (b - 2 * c) ** 2 * (2 * (b - 2 * c)), 20 * (a - d) ** 2 * (2 * (a - d))
        return np.array([ad + sum_ab, bc + 10 * sum_ab, -2 * bc + cd, -ad - cd])

    def hess(p: Vector) -> Vector:
        a, b, c, d = p
        bc, ad = 12 * (b - 2 * c) ** 2, 120 * (a - d) ** 2
        return np.array(
            [
                [2 + ad, 20, 0, -ad],
                [20, 200 + bc, -2 * bc, 0],
                [0, -2 * bc, 10 + 4 * bc, -10],
                [-ad, 0, -10, 10 + ad],
            ]
        )

    return Problem("Powell singular", _unbound(loss), loss, grad, hess, np.array([3.0, -1, 0, 1]), (np.zeros(4),))


def wood() -> Problem:
    """Two coupled Rosenbrock valleys."""

    def loss(p: Any) -> Any:
        a, b, c, d = p
        valleys = 100 * (b - a**2) ** 2 + (1 - a) ** 2 + 90 * (d - c**2) ** 2 + (1 - c) ** 2
        return valleys + 10 * (b + d - 2) ** 2 + 0.1 * (b - d) ** 2

    def grad(p: Vector) -> Vector:
        a, b, c, d = p
        ab, cd, plus, minus = 200 * (b - a**2), 180 * (d - c**2), 20 * (b + d - 2), 0.2 * (b - d)
        return np.array(
            [-ab * (2 * a) - 2 * (1 - a), minus + plus + ab, -cd * (2 * c) - 2 * (1 - c), -minus + plus + cd]
        )

    def hess(p: Vector) -> Vector:
        a, b, c, d = p
        return np.array(
            [
                [1200 * a**2 - 400 * b + 2, -400 * a, 0, 0],
                [-400 * a, 220.2, 0, 19.8],
                [0, 0, 1080 * c**2 - 360 * d + 2, -360 * c],
                [0, 19.8, -360 * c, 200.2],
            ]
        )

    return Problem("Wood", _unbound(loss), loss, grad, hess, np.array([-3.0, -1, -3, -1]), (np.ones(4),))


def _unbound(loss: Callable[[Any], Any]) -> Callable[[torch.Tensor], torch.Tensor]:
    """One formula for both: NumPy scalars and the elements of a tensor."""
    return lambda x: loss(x.unbind())


def logistic_regression() -> Problem:
    """Ridge-regularised, 40 fixed samples of 3 features: convex, its minimum found by Newton's method."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((40, 3))
    labels = np.where(A @ np.array([1.0, -2.0, 0.5]) + rng.standard_normal(40) > 0, 1.0, -1.0)
    ridge = 0.01

    def loss(w: torch.Tensor) -> torch.Tensor:
        signed = torch.as_tensor(labels[:, None] * A, dtype=w.dtype)
        return torch.nn.functional.softplus(-(signed @ w)).mean() + 0.5 * ridge * (w**2).sum()

    def f(w: Vector) -> float:
        return float(np.logaddexp(0, -labels * (A @ w)).mean() + 0.5 * ridge * w @ w)

    def grad(w: Vector) -> Vector:
        p = 1 / (1 + np.exp(labels * (A @ w)))
        return np.asarray(-(A.T @ (labels * p)) / len(A) + ridge * w)

    def hess(w: Vector) -> Vector:
        p = 1 / (1 + np.exp(labels * (A @ w)))
        return np.asarray((A.T * (p * (1 - p))) @ A / len(A) + ridge * np.eye(3))

    return Problem("logistic regression", loss, f, grad, hess, np.zeros(3), (_polished(np.zeros(3), grad, hess),))


PROBLEMS = {
    problem.name: problem
    for problem in (
        rosenbrock(2),
        rosenbrock(5),
        rosenbrock(20),
        himmelblau(),
        beale(),
        powell_singular(),
        wood(),
        logistic_regression(),
    )
}
