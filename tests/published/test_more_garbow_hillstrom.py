"""The rows of the collection against the paper, loops in NumPy, and differences."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from numpy.polynomial import chebyshev

from tests.published.more_garbow_hillstrom import MGH

pytestmark = pytest.mark.slow

ROWS = pytest.mark.parametrize("problem", MGH.values(), ids=MGH)

ELSEWHERE = [
    ("2 Freudenstein and Roth", 0, (5.5, 4.2)),
    ("18 Biggs EXP6", 0, (1.7, 16.94, 0.7, 5.01, 1.44, 2.03)),
    ("26 trigonometric 10", 0, (-0.2, 0.23, 0.21, 0.19, 0.21, 0.15, -0.13, 0.2, -0.2, -0.09)),
    ("26 trigonometric 10", 1, (0.1,) * 10),
    ("27 Brown almost-linear 10", 1, (0.0,) * 9 + (11.0,)),
    ("35 Chebyquad 10", 0, (0.82, 0.0, 0.86, 0.03, 0.73, 0.18, 0.86, 0.54, 0.3, 0.42)),
    ("35 Chebyquad 10", 1, tuple(j / 11 for j in range(1, 11))),
]
"""(problem, which of its minima, a start from which it is reached): where there are several."""


def residuals(problem):
    return lambda x: problem.residuals(torch.tensor(x, dtype=torch.float64)).numpy()


def jacobian(problem):
    return lambda x: torch.func.jacrev(problem.residuals)(torch.tensor(x, dtype=torch.float64)).numpy()


def descend(problem, start):
    tight = dict(xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=2000)
    return scipy.optimize.least_squares(residuals(problem), np.array(start), jacobian(problem), x_scale="jac", **tight)


def test_the_collection_is_whole():
    assert len(MGH) == 38
    assert {int(name.split()[0]) for name in MGH} == set(range(1, 36))


@ROWS
def test_start(problem):
    x = torch.tensor(problem.start, dtype=torch.float64)
    assert problem.loss(x).item() == pytest.approx(problem.at_start, rel=1e-6)
    assert not problem.solved(problem.at_start)


@ROWS
def test_least_squares_reaches_a_listed_minimum(problem):
    result = descend(problem, problem.start)
    distance, minimum = min((abs(2 * result.cost - minimum), minimum) for minimum in problem.minima)
    assert distance <= 2e-7 * minimum + 1e-15
    assert problem.solved(2 * result.cost)


@pytest.mark.parametrize(("name", "which", "start"), ELSEWHERE)
def test_each_of_several_minima_is_reached(name, which, start):
    problem = MGH[name]
    reached = 2 * descend(problem, start).cost
    assert reached == pytest.approx(problem.minima[which], rel=1e-6, abs=1e-15)


def test_minima_at_infinity():
    """Bard: the residuals tend to y - x₁. Kowalik and Osborne: numerator and denominator grow together."""
    far = torch.tensor([0.0, -1e9, -1e9], dtype=torch.float64)
    y = MGH["8 Bard"].residuals(far)
    assert ((y - y.mean()) ** 2).sum().item() == pytest.approx(MGH["8 Bard"].minima[1], rel=1e-8)

    kowalik, huge = MGH["15 Kowalik and Osborne"], 1e9
    limit = lambda z: residuals(kowalik)(np.array([huge, z[0], huge * z[1], huge * z[2]]))  # noqa: E731
    fitted = scipy.optimize.least_squares(limit, [-14.07, -50.0, -5.0], method="lm", max_nfev=5000)
    assert 2 * fitted.cost == pytest.approx(kowalik.minima[1], rel=1e-5)


@ROWS
def test_gradient_by_differences(problem):
    """At the start moved a little: problems with a stationary or kinked start are checked as well."""
    drawn = torch.randn(len(problem.start), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.tensor(problem.start, dtype=torch.float64) * (1 + 0.01 * drawn) + 1e-3 * drawn.abs()
    gradient = torch.func.grad(problem.loss)(x)
    h = 1e-6 * (1e-3 + x.abs())
    slopes = [(problem.loss(x + step) - problem.loss(x - step)) / (2 * step.sum()) for step in torch.diag(h)]
    noise = 1e-15 * problem.loss(x) / h.min()
    torch.testing.assert_close(
        torch.stack(slopes), gradient, rtol=1e-6, atol=1e-6 * gradient.norm().item() + noise.item()
    )


@ROWS
def test_float32_is_kept_and_agrees(problem):
    x = torch.tensor(problem.start, dtype=torch.float32)
    assert problem.residuals(x).dtype == torch.float32
    gap = (problem.residuals(x).double() - problem.residuals(x.double())).norm()
    assert gap <= 1e-5 * max(1, math.sqrt(problem.at_start))


def test_a_point_between_two_minima_is_not_solved():
    problem = MGH["2 Freudenstein and Roth"]
    assert problem.solved(48.9842)
    assert not problem.solved(20.0)
    assert problem.solved(0.9e-5)
    assert not problem.solved(1.1e-5)


# Written a second time, as loops over the paper's formulas.


def boundary_value(x):
    n, h = len(x), 1 / (len(x) + 1)
    at = lambda i: x[i - 1] if 1 <= i <= n else 0.0  # noqa: E731
    return [2 * at(i) - at(i - 1) - at(i + 1) + h**2 * (at(i) + i * h + 1) ** 3 / 2 for i in range(1, n + 1)]


def integral_equation(x):
    n, h = len(x), 1 / (len(x) + 1)
    t = [i * h for i in range(n + 1)]
    cube = lambda j: (x[j - 1] + t[j] + 1) ** 3  # noqa: E731
    return [
        x[i - 1]
        + h
        * (
            (1 - t[i]) * sum(t[j] * cube(j) for j in range(1, i + 1))
            + t[i] * sum((1 - t[j]) * cube(j) for j in range(i + 1, n + 1))
        )
        / 2
        for i in range(1, n + 1)
    ]


def broyden_banded(x):
    n = len(x)
    near = lambda i: [j for j in range(max(1, i - 5), min(n, i + 1) + 1) if j != i]  # noqa: E731
    return [
        x[i - 1] * (2 + 5 * x[i - 1] ** 2) + 1 - sum(x[j - 1] * (1 + x[j - 1]) for j in near(i))
        for i in range(1, n + 1)
    ]


def chebyquad(x):
    shifted = [chebyshev.Chebyshev.basis(i, domain=[0, 1]) for i in range(1, len(x) + 1)]
    return [np.mean(polynomial(x)) - (polynomial.integ()(1) - polynomial.integ()(0)) for polynomial in shifted]


def trigonometric(x):
    n = len(x)
    return [
        n - sum(math.cos(v) for v in x) + i * (1 - math.cos(x[i - 1])) - math.sin(x[i - 1]) for i in range(1, n + 1)
    ]


def watson(x):
    n, rows = len(x), []
    for t in (i / 29 for i in range(1, 30)):
        slope = sum((j - 1) * x[j - 1] * t ** (j - 2) for j in range(2, n + 1))
        rows.append(slope - sum(x[j - 1] * t ** (j - 1) for j in range(1, n + 1)) ** 2 - 1)
    return [*rows, x[0], x[1] - x[0] ** 2 - 1]


def penalty_2(x):
    n, a = len(x), 1e-5**0.5
    y = [math.exp(i / 10) + math.exp((i - 1) / 10) for i in range(1, 2 * n)]
    middle = [a * (math.exp(x[i - 1] / 10) + math.exp(x[i - 2] / 10) - y[i - 1]) for i in range(2, n + 1)]
    ends = [a * (math.exp(x[i - n] / 10) - math.exp(-1 / 10)) for i in range(n + 1, 2 * n)]
    return [x[0] - 0.2, *middle, *ends, sum((n - j + 1) * x[j - 1] ** 2 for j in range(1, n + 1)) - 1]


LOOPS = {
    "20 Watson 6": watson,
    "24 penalty II 4": penalty_2,
    "26 trigonometric 10": trigonometric,
    "28 discrete boundary value 10": boundary_value,
    "29 discrete integral equation 10": integral_equation,
    "31 Broyden banded 10": broyden_banded,
    "35 Chebyquad 9": chebyquad,
}


@pytest.mark.parametrize(("name", "loops"), LOOPS.items(), ids=LOOPS)
def test_residuals_agree_with_loops(name, loops):
    x = np.random.default_rng(0).uniform(-0.5, 0.9, len(MGH[name].start))
    np.testing.assert_allclose(np.sort(residuals(MGH[name])(x)), np.sort(loops(x)), rtol=1e-10, atol=1e-12)
