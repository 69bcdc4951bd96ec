"""W. Hock, K. Schittkowski, "Test examples for nonlinear programming codes", Springer LNEMS 187 (1981).

Sixty-six of its problems, numbered as there. The solutions are the book's, in closed form where it has one. Functions
keep the dtype of x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

Tensor = torch.Tensor
Function = Callable[..., Tensor]
Constraints = Callable[..., list[Tensor]]

__all__ = ["HS", "Constrained"]

FREE = (-math.inf, math.inf)


@dataclass(frozen=True)
class Constrained:
    """min f(x) from `start`, shape (n,), under g(x) >= 0, h(x) = 0 and bounds.

    f, g and h take the n entries of x one by one. optimum: the least f. others: f at other known local minima; ending
    at one counts as solved, as no local method can do better.
    """

    name: str
    f: Function
    start: tuple[float, ...]
    optimum: float
    g: Constraints | None = None
    h: Constraints | None = None
    bounds: tuple[tuple[float, float], ...] | None = None
    others: tuple[float, ...] = ()

    def loss(self, x: Tensor) -> Tensor:
        """f(x), a scalar in the dtype of x."""
        return self.f(*x)

    @property
    def inequalities(self) -> Callable[[Tensor], Tensor] | None:
        """g as a function of x, shape (m,)."""
        g = self.g
        return None if g is None else lambda x: torch.stack(g(*x))

    @property
    def equalities(self) -> Callable[[Tensor], Tensor] | None:
        """h as a function of x, shape (m,)."""
        h = self.h
        return None if h is None else lambda x: torch.stack(h(*x))

    def violation(self, x: Tensor) -> float:
        """The largest violation at x, bounds included."""
        low, high = torch.tensor(self.bounds or [FREE] * len(self.start), dtype=x.dtype).T
        parts = [low - x, x - high, x.new_zeros(1)]
        parts += [] if self.inequalities is None else [-self.inequalities(x)]
        parts += [] if self.equalities is None else [self.equalities(x).abs()]
        return torch.cat(parts).max().item()

    def solved(self, x: Tensor) -> bool:
        """Whether x, float64, is feasible and f no more than 1e-5 of itself, or of 1, above the optimum.

        Feasible: violated by no more than 1e-5 of the largest entry of x, or of 1; float32 can do that.
        """
        f = self.loss(x).item()
        if not self.violation(x) <= 1e-5 * max(1.0, x.abs().max().item()):
            return False
        near = [abs(f - other) <= 1e-5 * max(1.0, abs(other)) for other in self.others]
        return f - self.optimum <= 1e-5 * max(1.0, abs(self.optimum)) or any(near)


def _rosenbrock(a: Tensor, b: Tensor) -> Tensor:
    return 100 * (b - a**2) ** 2 + (1 - a) ** 2


def _to_2_1(a: Tensor, b: Tensor) -> Tensor:
    return (a - 2) ** 2 + (b - 1) ** 2


def _minus_product(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return -a * b * c


def _colville(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    valleys = 100 * (b - a**2) ** 2 + (1 - a) ** 2 + 90 * (d - c**2) ** 2 + (1 - c) ** 2
    return valleys + 10.1 * ((b - 1) ** 2 + (d - 1) ** 2) + 19.8 * (b - 1) * (d - 1)


def _powers(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> Tensor:
    return (a - b) ** 2 + (c - 1) ** 2 + (d - 1) ** 4 + (e - 1) ** 6


def _fifty_one(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> Tensor:
    return (a - b) ** 2 + (b + c - 2) ** 2 + (d - 1) ** 2 + (e - 1) ** 2


def _seventy_eight(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> list[Tensor]:
    return [a**2 + b**2 + c**2 + d**2 + e**2 - 10, b * c - 5 * d * e, a**3 + b**3 + 1]


def _hundred(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor, g: Tensor) -> Tensor:
    first = (a - 10) ** 2 + 5 * (b - 12) ** 2 + c**4 + 3 * (d - 11) ** 2 + 10 * e**6
    return first + 7 * f**2 + g**4 - 4 * f * g - 10 * f - 8 * g


def _hundred_limits(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor, g: Tensor) -> list[Tensor]:
    return [
        127 - 2 * a**2 - 3 * b**4 - c - 4 * d**2 - 5 * e,
        282 - 7 * a - 3 * b - 10 * c**2 - d + e,
        196 - 23 * a - b**2 - 6 * f**2 + 8 * g,
        -4 * a**2 - b**2 + 3 * a * b - 2 * c**2 - 5 * f + 11 * g,
    ]


def _hundred_thirteen(*x: Tensor) -> Tensor:
    a, b, c, d, e, f, g, h, i, j = x
    first = a**2 + b**2 + a * b - 14 * a - 16 * b + (c - 10) ** 2 + 4 * (d - 5) ** 2 + (e - 3) ** 2
    return first + 2 * (f - 1) ** 2 + 5 * g**2 + 7 * (h - 11) ** 2 + 2 * (i - 10) ** 2 + (j - 7) ** 2 + 45


def _hundred_thirteen_limits(*x: Tensor) -> list[Tensor]:
    a, b, c, d, e, f, g, h, i, j = x
    return [
        105 - 4 * a - 5 * b + 3 * g - 9 * h,
        -10 * a + 8 * b + 17 * g - 2 * h,
        8 * a - 2 * b - 5 * i + 2 * j + 12,
        -3 * (a - 2) ** 2 - 4 * (b - 3) ** 2 - 2 * c**2 + 7 * d + 120,
        -5 * a**2 - 8 * b - (c - 6) ** 2 + 2 * d + 40,
        -0.5 * (a - 8) ** 2 - 2 * (b - 4) ** 2 - 3 * e**2 + f + 30,
        -(a**2) - 2 * (b - 2) ** 2 + 2 * a * b - 14 * e + 6 * f,
        3 * a - 6 * b - 12 * (i - 8) ** 2 + 7 * j,
    ]


_UP = (0.0, math.inf)
_HALF = (-0.5, 0.5)
_PM10 = (-10.0, 10.0)

_ALL = (
    Constrained("1", _rosenbrock, (-2.0, 1.0), 0.0, bounds=(FREE, (-1.5, math.inf))),
    Constrained("2", _rosenbrock, (-2.0, 1.0), 0.0504261879, bounds=(FREE, (1.5, math.inf)), others=(4.9412293,)),
    Constrained("3", lambda a, b: b + 1e-5 * (b - a) ** 2, (10.0, 1.0), 0.0, bounds=(FREE, _UP)),
    Constrained(
        "4", lambda a, b: (a + 1) ** 3 / 3 + b, (1.125, 0.125), 8 / 3, bounds=((1.0, math.inf), (0.0, math.inf))
    ),
    Constrained(
        "5",
        lambda a, b: torch.sin(a + b) + (a - b) ** 2 - 1.5 * a + 2.5 * b + 1,
        (0.0, 0.0),
        -math.sqrt(3) / 2 - math.pi / 3,
        bounds=((-1.5, 4.0), (-3.0, 3.0)),
    ),
    Constrained("6", lambda a, b: (1 - a) ** 2, (-1.2, 1.0), 0.0, h=lambda a, b: [10 * (b - a**2)]),
    Constrained(
        "7",
        lambda a, b: torch.log1p(a**2) - b,
        (2.0, 2.0),
        -math.sqrt(3),
        h=lambda a, b: [(1 + a**2) ** 2 + b**2 - 4],
    ),
    Constrained("8", lambda a, b: 0 * a - 1, (2.0, 1.0), -1.0, h=lambda a, b: [a**2 + b**2 - 25, a * b - 9]),
    Constrained(
        "9",
        lambda a, b: torch.sin(math.pi * a / 12) * torch.cos(math.pi * b / 16),
        (0.0, 0.0),
        -0.5,
        h=lambda a, b: [4 * a - 3 * b],
    ),
    Constrained("10", lambda a, b: a - b, (-10.0, 10.0), -1.0, g=lambda a, b: [-3 * a**2 + 2 * a * b - b**2 + 1]),
    Constrained("11", lambda a, b: (a - 5) ** 2 + b**2 - 25, (4.9, 0.1), -8.498464223, g=lambda a, b: [b - a**2]),
    Constrained(
        "12",
        lambda a, b: a**2 / 2 + b**2 - a * b - 7 * a - 7 * b,
        (0.0, 0.0),
        -30.0,
        g=lambda a, b: [25 - 4 * a**2 - b**2],
    ),
    Constrained(
        "13",
        lambda a, b: (a - 2) ** 2 + b**2,
        (-2.0, -2.0),
        1.0,
        g=lambda a, b: [(1 - a) ** 3 - b],
        bounds=(_UP, _UP),
    ),
    Constrained(
        "14",
        _to_2_1,
        (2.0, 2.0),
        9 - 2.875 * math.sqrt(7),
        g=lambda a, b: [1 - a**2 / 4 - b**2],
        h=lambda a, b: [a - 2 * b + 1],
    ),
    Constrained(
        "15",
        _rosenbrock,
        (-2.0, 1.0),
        306.5,
        g=lambda a, b: [a * b - 1, a + b**2],
        bounds=((-math.inf, 0.5), FREE),
        others=(360.3797672,),
    ),
    Constrained(
        "16",
        _rosenbrock,
        (-2.0, 1.0),
        0.25,
        g=lambda a, b: [a + b**2, a**2 + b],
        bounds=(_HALF, (-math.inf, 1.0)),
        others=(23.1446609,),
    ),
    Constrained(
        "17",
        _rosenbrock,
        (-2.0, 1.0),
        1.0,
        g=lambda a, b: [b**2 - a, a**2 - b],
        bounds=(_HALF, (-math.inf, 1.0)),
    ),
    Constrained(
        "18",
        lambda a, b: 0.01 * a**2 + b**2,
        (2.0, 2.0),
        5.0,
        g=lambda a, b: [a * b - 25, a**2 + b**2 - 25],
        bounds=((2.0, 50.0), (0.0, 50.0)),
    ),
    Constrained(
        "19",
        lambda a, b: (a - 10) ** 3 + (b - 20) ** 3,
        (20.1, 5.84),
        -6961.81381,
        g=lambda a, b: [(a - 5) ** 2 + (b - 5) ** 2 - 100, 82.81 - (b - 5) ** 2 - (a - 6) ** 2],
        bounds=((13.0, 100.0), (0.0, 100.0)),
    ),
    Constrained(
        "20",
        _rosenbrock,
        (-2.0, 1.0),
        81.5 - 25 * math.sqrt(3),
        g=lambda a, b: [a + b**2, a**2 + b, a**2 + b**2 - 1],
        bounds=(_HALF, FREE),
        others=(83.5 - 25 * math.sqrt(3),),
    ),
    Constrained(
        "21",
        lambda a, b: 0.01 * a**2 + b**2 - 100,
        (-1.0, -1.0),
        -99.96,
        g=lambda a, b: [10 * a - b - 10],
        bounds=((2.0, 50.0), (-50.0, 50.0)),
    ),
    Constrained("22", _to_2_1, (2.0, 2.0), 1.0, g=lambda a, b: [2 - a - b, b - a**2]),
    Constrained(
        "23",
        lambda a, b: a**2 + b**2,
        (3.0, 1.0),
        2.0,
        g=lambda a, b: [a + b - 1, a**2 + b**2 - 1, 9 * a**2 + b**2 - 9, a**2 - b, b**2 - a],
        bounds=((-50.0, 50.0),) * 2,
        others=(5 + 2 * math.sqrt(5),),
    ),
    Constrained(
        "24",
        lambda a, b: ((a - 3) ** 2 - 9) * b**3 / (27 * math.sqrt(3)),
        (1.0, 0.5),
        -1.0,
        g=lambda a, b: [a / math.sqrt(3) - b, a + math.sqrt(3) * b, 6 - a - math.sqrt(3) * b],
        bounds=(_UP, _UP),
    ),
    Constrained(
        "26",
        lambda a, b, c: (a - b) ** 2 + (b - c) ** 4,
        (-2.6, 2.0, 2.0),
        0.0,
        h=lambda a, b, c: [(1 + b**2) * a + c**4 - 3],
    ),
    Constrained(
        "27",
        lambda a, b, c: 0.01 * (a - 1) ** 2 + (b - a**2) ** 2,
        (2.0, 2.0, 2.0),
        0.04,
        h=lambda a, b, c: [a + c**2 + 1],
    ),
    Constrained(
        "28",
        lambda a, b, c: (a + b) ** 2 + (b + c) ** 2,
        (-4.0, 1.0, 1.0),
        0.0,
        h=lambda a, b, c: [a + 2 * b + 3 * c - 1],
    ),
    Constrained(
        "29",
        _minus_product,
        (1.0, 1.0, 1.0),
        -16 * math.sqrt(2),
        g=lambda a, b, c: [48 - a**2 - 2 * b**2 - 4 * c**2],
    ),
    Constrained(
        "30",
        lambda a, b, c: a**2 + b**2 + c**2,
        (1.0, 1.0, 1.0),
        1.0,
        g=lambda a, b, c: [a**2 + b**2 - 1],
        bounds=((1.0, 10.0), _PM10, _PM10),
    ),
    Constrained(
        "31",
        lambda a, b, c: 9 * a**2 + b**2 + 9 * c**2,
        (1.0, 1.0, 1.0),
        6.0,
        g=lambda a, b, c: [a * b - 1],
        bounds=(_PM10, (1.0, 10.0), (-10.0, 1.0)),
    ),
    Constrained(
        "32",
        lambda a, b, c: (a + 3 * b + c) ** 2 + 4 * (a - b) ** 2,
        (0.1, 0.7, 0.2),
        1.0,
        g=lambda a, b, c: [6 * b + 4 * c - a**3 - 3],
        h=lambda a, b, c: [1 - a - b - c],
        bounds=(_UP,) * 3,
    ),
    Constrained(
        "33",
        lambda a, b, c: (a - 1) * (a - 2) * (a - 3) + c,
        (0.0, 0.0, 3.0),
        math.sqrt(2) - 6,
        g=lambda a, b, c: [c**2 - b**2 - a**2, a**2 + b**2 + c**2 - 4],
        bounds=(_UP, _UP, (0.0, 5.0)),
        others=(-4.0,),
    ),
    Constrained(
        "34",
        lambda a, b, c: -a,
        (0.0, 1.05, 2.9),
        -math.log(math.log(10)),
        g=lambda a, b, c: [b - torch.exp(a), c - torch.exp(b)],
        bounds=((0.0, 100.0), (0.0, 100.0), (0.0, 10.0)),
    ),
    Constrained(
        "35",
        lambda a, b, c: 9 - 8 * a - 6 * b - 4 * c + 2 * a**2 + 2 * b**2 + c**2 + 2 * a * b + 2 * a * c,
        (0.5, 0.5, 0.5),
        1 / 9,
        g=lambda a, b, c: [3 - a - b - 2 * c],
        bounds=(_UP,) * 3,
    ),
    Constrained(
        "36",
        _minus_product,
        (10.0, 10.0, 10.0),
        -3300.0,
        g=lambda a, b, c: [72 - a - 2 * b - 2 * c],
        bounds=((0.0, 20.0), (0.0, 11.0), (0.0, 42.0)),
    ),
    Constrained(
        "37",
        _minus_product,
        (10.0, 10.0, 10.0),
        -3456.0,
        g=lambda a, b, c: [72 - a - 2 * b - 2 * c, a + 2 * b + 2 * c],
        bounds=((0.0, 42.0),) * 3,
    ),
    Constrained("38", _colville, (-3.0, -1.0, -3.0, -1.0), 0.0, bounds=(_PM10,) * 4),
    Constrained(
        "39",
        lambda a, b, c, d: -a,
        (2.0, 2.0, 2.0, 2.0),
        -1.0,
        h=lambda a, b, c, d: [b - a**3 - c**2, a**2 - b - d**2],
    ),
    Constrained(
        "40",
        lambda a, b, c, d: -a * b * c * d,
        (0.8, 0.8, 0.8, 0.8),
        -0.25,
        h=lambda a, b, c, d: [a**3 + b**2 - 1, a**2 * d - c, d**2 - b],
    ),
    Constrained(
        "41",
        lambda a, b, c, d: 2 - a * b * c,
        (2.0, 2.0, 2.0, 2.0),
        52 / 27,
        h=lambda a, b, c, d: [a + 2 * b + 2 * c - d],
        bounds=((0.0, 1.0),) * 3 + ((0.0, 2.0),),
    ),
    Constrained(
        "42",
        lambda a, b, c, d: (a - 1) ** 2 + (b - 2) ** 2 + (c - 3) ** 2 + (d - 4) ** 2,
        (1.0, 1.0, 1.0, 1.0),
        28 - 10 * math.sqrt(2),
        h=lambda a, b, c, d: [a - 2, c**2 + d**2 - 2],
    ),
    Constrained(
        "43",
        lambda a, b, c, d: a**2 + b**2 + 2 * c**2 + d**2 - 5 * a - 5 * b - 21 * c + 7 * d,
        (0.0, 0.0, 0.0, 0.0),
        -44.0,
        g=lambda a, b, c, d: [
            8 - a**2 - b**2 - c**2 - d**2 - a + b - c + d,
            10 - a**2 - 2 * b**2 - c**2 - 2 * d**2 + a + d,
            5 - 2 * a**2 - b**2 - c**2 - 2 * a + b + d,
        ],
    ),
    Constrained(
        "44",
        lambda a, b, c, d: a - b - c - a * c + a * d + b * c - b * d,
        (0.0, 0.0, 0.0, 0.0),
        -15.0,
        g=lambda a, b, c, d: [
            8 - a - 2 * b,
            12 - 4 * a - b,
            12 - 3 * a - 4 * b,
            8 - 2 * c - d,
            8 - c - 2 * d,
            5 - c - d,
        ],
        bounds=(_UP,) * 4,
        others=(-13.0,),
    ),
    Constrained(
        "45",
        lambda a, b, c, d, e: 2 - a * b * c * d * e / 120,
        (2.0,) * 5,
        1.0,
        bounds=tuple((0.0, float(high)) for high in range(1, 6)),
    ),
    Constrained(
        "46",
        _powers,
        (math.sqrt(2) / 2, 1.75, 0.5, 2.0, 2.0),
        0.0,
        h=lambda a, b, c, d, e: [a**2 * d + torch.sin(d - e) - 1, b + c**4 * d**2 - 2],
    ),
    Constrained(
        "48",
        lambda a, b, c, d, e: (a - 1) ** 2 + (b - c) ** 2 + (d - e) ** 2,
        (3.0, 5.0, -3.0, 2.0, -2.0),
        0.0,
        h=lambda a, b, c, d, e: [a + b + c + d + e - 5, c - 2 * (d + e) + 3],
    ),
    Constrained(
        "49",
        _powers,
        (10.0, 7.0, 2.0, -3.0, 0.8),
        0.0,
        h=lambda a, b, c, d, e: [a + b + c + 4 * d - 7, c + 5 * e - 6],
    ),
    Constrained(
        "50",
        lambda a, b, c, d, e: (a - b) ** 2 + (b - c) ** 2 + (c - d) ** 4 + (d - e) ** 2,
        (35.0, -31.0, 11.0, 5.0, -5.0),
        0.0,
        h=lambda a, b, c, d, e: [a + 2 * b + 3 * c - 6, b + 2 * c + 3 * d - 6, c + 2 * d + 3 * e - 6],
    ),
    Constrained(
        "51",
        _fifty_one,
        (2.5, 0.5, 2.0, -1.0, 0.5),
        0.0,
        h=lambda a, b, c, d, e: [a + 3 * b - 4, c + d - 2 * e, b - e],
    ),
    Constrained(
        "52",
        lambda a, b, c, d, e: (4 * a - b) ** 2 + (b + c - 2) ** 2 + (d - 1) ** 2 + (e - 1) ** 2,
        (2.0,) * 5,
        1859 / 349,
        h=lambda a, b, c, d, e: [a + 3 * b, c + d - 2 * e, b - e],
    ),
    Constrained(
        "53",
        _fifty_one,
        (2.0,) * 5,
        176 / 43,
        h=lambda a, b, c, d, e: [a + 3 * b, c + d - 2 * e, b - e],
        bounds=(_PM10,) * 5,
    ),
    Constrained(
        "60",
        lambda a, b, c: (a - 1) ** 2 + (a - b) ** 2 + (b - c) ** 4,
        (2.0, 2.0, 2.0),
        0.03256820025,
        h=lambda a, b, c: [a * (1 + b**2) + c**4 - 4 - 3 * math.sqrt(2)],
        bounds=(_PM10,) * 3,
    ),
    Constrained(
        "61",
        lambda a, b, c: 4 * a**2 + 2 * b**2 + 2 * c**2 - 33 * a + 16 * b - 24 * c,
        (0.0, 0.0, 0.0),
        -143.6461422,
        h=lambda a, b, c: [3 * a - 2 * b**2 - 7, 4 * a - c**2 - 11],
    ),
    Constrained(
        "63",
        lambda a, b, c: 1000 - a**2 - 2 * b**2 - c**2 - a * b - a * c,
        (2.0, 2.0, 2.0),
        961.7151721,
        h=lambda a, b, c: [8 * a + 14 * b + 7 * c - 56, a**2 + b**2 + c**2 - 25],
        bounds=(_UP,) * 3,
    ),
    Constrained(
        "64",
        lambda a, b, c: 5 * a + 50000 / a + 20 * b + 72000 / b + 10 * c + 144000 / c,
        (1.0, 1.0, 1.0),
        6299.842428,
        g=lambda a, b, c: [1 - 4 / a - 32 / b - 120 / c],
        bounds=((1e-5, 300.0),) * 3,
    ),
    Constrained(
        "65",
        lambda a, b, c: (a - b) ** 2 + (a + b - 10) ** 2 / 9 + (c - 5) ** 2,
        (-5.0, 5.0, 0.0),
        0.9535288567,
        g=lambda a, b, c: [48 - a**2 - b**2 - c**2],
        bounds=((-4.5, 4.5), (-4.5, 4.5), (-5.0, 5.0)),
    ),
    Constrained(
        "66",
        lambda a, b, c: 0.2 * c - 0.8 * a,
        (0.0, 1.05, 2.9),
        0.5181632741,
        g=lambda a, b, c: [b - torch.exp(a), c - torch.exp(b)],
        bounds=((0.0, 100.0), (0.0, 100.0), (0.0, 10.0)),
    ),
    Constrained(
        "71",
        lambda a, b, c, d: a * d * (a + b + c) + c,
        (1.0, 5.0, 5.0, 1.0),
        17.0140173,
        g=lambda a, b, c, d: [a * b * c * d - 25],
        h=lambda a, b, c, d: [a**2 + b**2 + c**2 + d**2 - 40],
        bounds=((1.0, 5.0),) * 4,
    ),
    Constrained(
        "76",
        lambda a, b, c, d: a**2 + b**2 / 2 + c**2 + d**2 / 2 - a * c + c * d - a - 3 * b + c - d,
        (0.5, 0.5, 0.5, 0.5),
        -4.681818181,
        g=lambda a, b, c, d: [5 - a - 2 * b - c - d, 4 - 3 * a - b - 2 * c + d, b + 4 * c - 1.5],
        bounds=(_UP,) * 4,
    ),
    Constrained(
        "77",
        lambda a, b, c, d, e: (a - 1) ** 2 + (a - b) ** 2 + (c - 1) ** 2 + (d - 1) ** 4 + (e - 1) ** 6,
        (2.0,) * 5,
        0.24150513,
        h=lambda a, b, c, d, e: [
            a**2 * d + torch.sin(d - e) - 2 * math.sqrt(2),
            b + c**4 * d**2 - 8 - math.sqrt(2),
        ],
    ),
    Constrained(
        "78", lambda a, b, c, d, e: a * b * c * d * e, (-2.0, 1.5, 2.0, -1.0, -1.0), -2.91970041, h=_seventy_eight
    ),
    Constrained(
        "79",
        lambda a, b, c, d, e: (a - 1) ** 2 + (a - b) ** 2 + (b - c) ** 2 + (c - d) ** 4 + (d - e) ** 4,
        (2.0,) * 5,
        0.0787768209,
        h=lambda a, b, c, d, e: [
            a + b**2 + c**3 - 2 - 3 * math.sqrt(2),
            b - c**2 + d + 2 - 2 * math.sqrt(2),
            a * e - 2,
        ],
    ),
    Constrained(
        "80",
        lambda a, b, c, d, e: torch.exp(a * b * c * d * e),
        (-2.0, 2.0, 2.0, -1.0, -1.0),
        0.0539498478,
        h=_seventy_eight,
        bounds=((-2.3, 2.3),) * 2 + ((-3.2, 3.2),) * 3,
    ),
    Constrained(
        "81",
        lambda a, b, c, d, e: torch.exp(a * b * c * d * e) - (a**3 + b**3 + 1) ** 2 / 2,
        (-2.0, 2.0, 2.0, -1.0, -1.0),
        0.0539498478,
        h=_seventy_eight,
        bounds=((-2.3, 2.3),) * 2 + ((-3.2, 3.2),) * 3,
    ),
    Constrained("100", _hundred, (1.0, 2.0, 0.0, 4.0, 0.0, 1.0, 1.0), 680.6300573, g=_hundred_limits),
    Constrained(
        "113",
        _hundred_thirteen,
        (2.0, 3.0, 5.0, 5.0, 1.0, 2.0, 7.0, 3.0, 6.0, 10.0),
        24.3062091,
        g=_hundred_thirteen_limits,
    ),
)

HS: Mapping[str, Constrained] = MappingProxyType({problem.name: problem for problem in _ALL})
"""The rows by number."""
