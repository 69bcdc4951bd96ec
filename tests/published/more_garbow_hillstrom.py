"""J. J. Moré, B. S. Garbow, K. E. Hillstrom, "Testing unconstrained optimization software", ACM TOMS 7 (1981) 17–41.

All 35 problems of the collection, numbered as there, each a sum of squares; Watson with 6 and 9 variables and Chebyquad
with 8, 9 and 10 make 38 rows. Residuals keep the dtype of x. The minima are the paper's, or closed forms where it has
them. Problem 11 is printed with a misprint, which the authors' own code does not have; the code is followed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch

Tensor = torch.Tensor

__all__ = ["MGH", "Published"]


@dataclass(frozen=True)
class Published:
    """min Σ fᵢ(x)² from `start`, shape (n,).

    residuals: x (n,) to f (m,), in the dtype of x. at_start: the sum of squares there. minima: the least sum of
    squares first, then those of other known local minima, some of which lie at infinity; reaching one counts as solved.
    """

    name: str
    residuals: Callable[[Tensor], Tensor]
    start: tuple[float, ...]
    at_start: float
    minima: tuple[float, ...]

    def loss(self, x: Tensor) -> Tensor:
        """The sum of squares, a scalar in the dtype of x."""
        return self.residuals(x).square().sum()

    def tolerance(self, minimum: float) -> float:
        """How far from a minimum counts as solved: 1e-5 of it, or of the loss at the start where that is more.

        No more than 1e-5 for losses that start above 1; but some start far below: problem 9 at 4e-6.
        """
        return 1e-5 * max(minimum, min(1.0, self.at_start))

    def solved(self, loss: float) -> bool:
        """Whether a loss, taken in float64, is that of a known minimum."""
        return any(abs(loss - minimum) <= self.tolerance(minimum) for minimum in self.minima)


def _count(first: int, last: int, x: Tensor) -> Tensor:
    """first, …, last, in the dtype of x."""
    return torch.arange(first, last + 1, dtype=x.dtype, device=x.device)


def _column(values: tuple[float, ...], x: Tensor) -> Tensor:
    return torch.tensor(values, dtype=x.dtype, device=x.device)


def _rosenbrock(x: Tensor) -> Tensor:
    odd, even = x[0::2], x[1::2]
    return torch.cat([10 * (even - odd**2), 1 - odd])


def _freudenstein_roth(x: Tensor) -> Tensor:
    a, b = x
    return torch.stack([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


def _powell_badly_scaled(x: Tensor) -> Tensor:
    return torch.stack([1e4 * x[0] * x[1] - 1, torch.exp(-x[0]) + torch.exp(-x[1]) - 1.0001])


def _brown_badly_scaled(x: Tensor) -> Tensor:
    return torch.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def _beale(x: Tensor) -> Tensor:
    return _column((1.5, 2.25, 2.625), x) - x[0] * (1 - torch.stack([x[1], x[1] ** 2, x[1] ** 3]))


def _jennrich_sampson(x: Tensor) -> Tensor:
    i = _count(1, 10, x)
    return 2 + 2 * i - (torch.exp(i * x[0]) + torch.exp(i * x[1]))


def _helical_valley(x: Tensor) -> Tensor:
    a, b, c = x
    turn = torch.atan2(b, a) / (2 * math.pi)  # cut along the negative second axis, as in the paper
    angle = torch.where((a < 0) & (b < 0), turn + 1, turn)
    return torch.stack([10 * (c - 10 * angle), 10 * (torch.hypot(a, b) - 1), c])


_BARD = (0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)


def _bard(x: Tensor) -> Tensor:
    u = _count(1, 15, x)
    v = 16 - u
    return _column(_BARD, x) - (x[0] + u / (v * x[1] + torch.minimum(u, v) * x[2]))


_GAUSSIAN = (0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521)


def _gaussian(x: Tensor) -> Tensor:
    t = (8 - _count(1, 15, x)) / 2
    return x[0] * torch.exp(-x[1] * (t - x[2]) ** 2 / 2) - _column((*_GAUSSIAN, 0.3989, *_GAUSSIAN[::-1]), x)


_MEYER = (34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872)


def _meyer(x: Tensor) -> Tensor:
    t = 45 + 5 * _count(1, 16, x)
    return x[0] * torch.exp(x[1] / (t + x[2])) - _column(_MEYER, x)


def _gulf(x: Tensor) -> Tensor:
    t = _count(1, 99, x) / 100
    y = 25 + (-50 * torch.log(t)) ** (2 / 3)
    return torch.exp(-(torch.abs(y - x[1]) ** x[2]) / x[0]) - t


def _box(x: Tensor) -> Tensor:
    t = _count(1, 10, x) / 10
    return torch.exp(-t * x[0]) - torch.exp(-t * x[1]) - x[2] * (torch.exp(-t) - torch.exp(-10 * t))


def _powell_singular(x: Tensor) -> Tensor:
    a, b, c, d = x[0::4], x[1::4], x[2::4], x[3::4]
    return torch.cat([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


def _wood(x: Tensor) -> Tensor:
    a, b, c, d = x
    first, second = [10 * (b - a**2), 1 - a], [90**0.5 * (d - c**2), 1 - c]
    return torch.stack([*first, *second, 10**0.5 * (b + d - 2), (b - d) / 10**0.5])


_KOWALIK_Y = (0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246)
_KOWALIK_U = (4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)


def _kowalik_osborne(x: Tensor) -> Tensor:
    u = _column(_KOWALIK_U, x)
    return _column(_KOWALIK_Y, x) - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def _brown_dennis(x: Tensor) -> Tensor:
    t = _count(1, 20, x) / 5
    return (x[0] + t * x[1] - torch.exp(t)) ** 2 + (x[2] + x[3] * torch.sin(t) - torch.cos(t)) ** 2


_OSBORNE_1 = (
    *(0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658, 0.628, 0.603),
    *(0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411),
    0.406,
)


def _osborne_1(x: Tensor) -> Tensor:
    t = 10 * _count(0, 32, x)
    return _column(_OSBORNE_1, x) - (x[0] + x[1] * torch.exp(-t * x[3]) + x[2] * torch.exp(-t * x[4]))


def _biggs(x: Tensor) -> Tensor:
    t = _count(1, 13, x) / 10
    y = torch.exp(-t) - 5 * torch.exp(-10 * t) + 3 * torch.exp(-4 * t)
    return x[2] * torch.exp(-t * x[0]) - x[3] * torch.exp(-t * x[1]) + x[5] * torch.exp(-t * x[4]) - y


_OSBORNE_2 = (
    *(1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655, 0.616, 0.606),
    *(0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.500, 0.423),
    *(0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668),
    *(0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098),
    0.054,
)


def _osborne_2(x: Tensor) -> Tensor:
    t = _count(0, 64, x) / 10
    peaks = x[1:4] * torch.exp(-((t[:, None] - x[8:11]) ** 2) * x[5:8])
    return _column(_OSBORNE_2, x) - (x[0] * torch.exp(-t * x[4]) + peaks.sum(1))


def _watson(x: Tensor) -> Tensor:
    powers = (_count(1, 29, x) / 29)[:, None] ** _count(0, len(x) - 1, x)
    slope = powers[:, :-1] @ (_count(1, len(x) - 1, x) * x[1:])
    return torch.cat([slope - (powers @ x) ** 2 - 1, x[:1], x[1:2] - x[:1] ** 2 - 1])


def _penalty_1(x: Tensor) -> Tensor:
    return torch.cat([1e-5**0.5 * (x - 1), (x @ x - 0.25)[None]])


def _penalty_2(x: Tensor) -> Tensor:
    n, root = len(x), 1e-5**0.5
    i, e = _count(2, n, x), torch.exp(x / 10)
    y = torch.exp(i / 10) + torch.exp((i - 1) / 10)
    first = root * (e[1:] + e[:-1] - y)
    return torch.cat([x[:1] - 0.2, first, root * (e[1:] - math.exp(-0.1)), (_count(1, n, x).flip(0) @ x**2 - 1)[None]])


def _variably_dimensioned(x: Tensor) -> Tensor:
    weighted = _count(1, len(x), x) @ (x - 1)
    return torch.cat([x - 1, torch.stack([weighted, weighted**2])])


def _trigonometric(x: Tensor) -> Tensor:
    i, rest = _count(1, len(x), x), 2 * torch.sin(x / 2) ** 2  # 1 - cos(x), without cancellation
    return rest.sum() + i * rest - torch.sin(x)


def _brown_almost_linear(x: Tensor) -> Tensor:
    return torch.cat([x[:-1] + x.sum() - (len(x) + 1), (x.prod() - 1)[None]])


def _neighbours(x: Tensor) -> tuple[Tensor, Tensor]:
    zero = x.new_zeros(1)
    return torch.cat([zero, x[:-1]]), torch.cat([x[1:], zero])


def _discrete_boundary_value(x: Tensor) -> Tensor:
    h, (left, right) = 1 / (len(x) + 1), _neighbours(x)
    return 2 * x - left - right + h**2 * (x + h * _count(1, len(x), x) + 1) ** 3 / 2


def _discrete_integral_equation(x: Tensor) -> Tensor:
    h = 1 / (len(x) + 1)
    t = h * _count(1, len(x), x)
    cubes = (x + t + 1) ** 3
    below = torch.cumsum(t * cubes, 0)
    above = ((1 - t) * cubes).flip(0).cumsum(0).flip(0) - (1 - t) * cubes
    return x + h * ((1 - t) * below + t * above) / 2


def _broyden_tridiagonal(x: Tensor) -> Tensor:
    left, right = _neighbours(x)
    return (3 - 2 * x) * x - left - 2 * right + 1


def _broyden_banded(x: Tensor) -> Tensor:
    band = torch.ones(len(x), len(x), dtype=x.dtype, device=x.device).tril(1).triu(-5).fill_diagonal_(0)
    return x * (2 + 5 * x**2) + 1 - band @ (x * (1 + x))


def _linear_full_rank(x: Tensor, m: int) -> Tensor:
    return torch.cat([x, x.new_zeros(m - len(x))]) - 2 / m * x.sum() - 1


def _linear_rank_1(x: Tensor, m: int) -> Tensor:
    return _count(1, m, x) * (_count(1, len(x), x) @ x) - 1


def _linear_rank_1_zero(x: Tensor, m: int) -> Tensor:
    inner = _count(0, m - 2, x) * (_count(2, len(x) - 1, x) @ x[1:-1])
    return torch.cat([inner, x.new_zeros(1)]) - 1


def _chebyquad(x: Tensor) -> Tensor:
    y, rows = 2 * x - 1, []
    before, now = torch.ones_like(x), 2 * x - 1
    for i in range(1, len(x) + 1):
        rows.append(now.mean() + (1 / (i**2 - 1) if i % 2 == 0 else 0.0))
        before, now = now, 2 * y * now - before
    return torch.stack(rows)


def _steps(n: int) -> tuple[float, ...]:
    """j/(n + 1) for j = 1 … n."""
    return tuple(j / (n + 1) for j in range(1, n + 1))


_TRIANGLE = tuple(t * (t - 1) for t in _steps(10))
_RANK_1 = 10 * 9 / (2 * (2 * 10 + 1))
_RANK_1_ZERO = (10**2 + 3 * 10 - 6) / (2 * (2 * 10 - 3))

_ALL = (
    Published("1 Rosenbrock", _rosenbrock, (-1.2, 1.0), 24.2, (0.0,)),
    Published("2 Freudenstein and Roth", _freudenstein_roth, (0.5, -2.0), 400.5, (0.0, 48.98425368)),
    Published("3 Powell badly scaled", _powell_badly_scaled, (0.0, 1.0), 1.135262, (0.0,)),
    Published("4 Brown badly scaled", _brown_badly_scaled, (1.0, 1.0), 999998000003.0, (0.0,)),
    Published("5 Beale", _beale, (1.0, 1.0), 14.203125, (0.0,)),
    Published("6 Jennrich and Sampson", _jennrich_sampson, (0.3, 0.4), 4171.306, (124.3621824,)),
    Published("7 helical valley", _helical_valley, (-1.0, 0.0, 0.0), 2500.0, (0.0,)),
    Published("8 Bard", _bard, (1.0, 1.0, 1.0), 41.68170, (8.214877307e-3, 17.42869333)),
    Published("9 Gaussian", _gaussian, (0.4, 1.0, 0.0), 3.888107e-6, (1.127932770e-8,)),
    Published("10 Meyer", _meyer, (0.02, 4000.0, 250.0), 1.693608e9, (87.94585517,)),
    Published("11 Gulf research and development", _gulf, (5.0, 2.5, 0.15), 12.11071, (0.0,)),
    Published("12 Box three-dimensional", _box, (0.0, 10.0, 20.0), 1031.154, (0.0,)),
    Published("13 Powell singular", _powell_singular, (3.0, -1.0, 0.0, 1.0), 215.0, (0.0,)),
    Published("14 Wood", _wood, (-3.0, -1.0, -3.0, -1.0), 19192.0, (0.0,)),
    Published(
        "15 Kowalik and Osborne",
        _kowalik_osborne,
        (0.25, 0.39, 0.415, 0.39),
        5.313172e-3,
        (3.075056039e-4, 1.027342e-3),
    ),
    Published("16 Brown and Dennis", _brown_dennis, (25.0, 5.0, -5.0, -1.0), 7926693.0, (85822.20163,)),
    Published("17 Osborne 1", _osborne_1, (0.5, 1.5, -1.0, 0.01, 0.02), 0.8790263, (5.464894697e-5,)),
    Published("18 Biggs EXP6", _biggs, (1.0, 2.0, 1.0, 1.0, 1.0, 1.0), 0.7790701, (0.0, 5.655649925e-3)),
    Published(
        "19 Osborne 2",
        _osborne_2,
        (1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5),
        2.093420,
        (4.013773629e-2,),
    ),
    Published("20 Watson 6", _watson, (0.0,) * 6, 30.0, (2.287670053e-3,)),
    Published("20 Watson 9", _watson, (0.0,) * 9, 30.0, (1.399760138e-6,)),
    Published("21 extended Rosenbrock 10", _rosenbrock, (-1.2, 1.0) * 5, 121.0, (0.0,)),
    Published("22 extended Powell singular 12", _powell_singular, (3.0, -1.0, 0.0, 1.0) * 3, 645.0, (0.0,)),
    Published("23 penalty I 4", _penalty_1, (1.0, 2.0, 3.0, 4.0), 885.0626, (2.249977501e-5,)),
    Published("24 penalty II 4", _penalty_2, (0.5,) * 4, 2.340009, (9.376293000e-6,)),
    Published(
        "25 variably dimensioned 10",
        _variably_dimensioned,
        tuple(1 - j / 10 for j in range(1, 11)),
        2198551.1625,
        (0.0,),
    ),
    Published("26 trigonometric 10", _trigonometric, (0.1,) * 10, 7.075759e-3, (0.0, 2.795056e-5)),
    Published("27 Brown almost-linear 10", _brown_almost_linear, (0.5,) * 10, 273.2480, (0.0, 1.0)),
    Published("28 discrete boundary value 10", _discrete_boundary_value, _TRIANGLE, 7.885191e-4, (0.0,)),
    Published("29 discrete integral equation 10", _discrete_integral_equation, _TRIANGLE, 6.341684e-2, (0.0,)),
    Published("30 Broyden tridiagonal 10", _broyden_tridiagonal, (-1.0,) * 10, 21.0, (0.0,)),
    Published("31 Broyden banded 10", _broyden_banded, (-1.0,) * 10, 360.0, (0.0,)),
    Published("32 linear, full rank 5", partial(_linear_full_rank, m=10), (1.0,) * 5, 25.0, (5.0,)),
    Published("33 linear, rank 1 5", partial(_linear_rank_1, m=10), (1.0,) * 5, 84985.0, (_RANK_1,)),
    Published("34 linear, rank 1 5, zeros", partial(_linear_rank_1_zero, m=10), (1.0,) * 5, 15886.0, (_RANK_1_ZERO,)),
    Published("35 Chebyquad 8", _chebyquad, _steps(8), 3.861770e-2, (3.516873725e-3,)),
    Published("35 Chebyquad 9", _chebyquad, _steps(9), 2.888298e-2, (0.0,)),
    Published("35 Chebyquad 10", _chebyquad, _steps(10), 3.376327e-2, (4.772714e-3, 6.503954801e-3)),
)

MGH: Mapping[str, Published] = MappingProxyType({problem.name: problem for problem in _ALL})
"""The rows by number and name."""
