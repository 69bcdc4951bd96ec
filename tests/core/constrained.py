"""Constrained test problems, each written once: for torch, and for NumPy with derivatives by SymPy.

Hock, Schittkowski, "Test Examples for Nonlinear Programming Codes", Lecture Notes in Economics and Mathematical
Systems 187, Springer (1981): formulas, starting points and minima.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import sympy
import torch

INF = math.inf


@dataclass(frozen=True)
class Hock:
    """min f(x) with lower <= c(x) <= upper and low <= x <= high. f, c: of n scalars, and `log`.

    `minimizers` may be several; the lowest loss is `minimum`.
    """

    name: str
    f: Callable[..., Any]
    c: Callable[..., Sequence[Any]]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    x0: tuple[float, ...]
    minimum: float
    minimizers: tuple[tuple[float, ...], ...]
    bounds: tuple[float, float] | None = None

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        return self.f(*x.unbind(), log=torch.log)

    def constraint(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack(list(self.c(*x.unbind())))

    @cached_property
    def analytic(self) -> dict[str, Callable[..., Any]]:
        """fun, grad, hess, c, jac and c_hess(x, v), of NumPy vectors."""
        symbols = sympy.symbols(f"x:{len(self.x0)}", real=True)
        f, c = self.f(*symbols, log=sympy.log), sympy.Matrix(list(self.c(*symbols)))
        grad = sympy.Matrix([sympy.diff(f, s) for s in symbols])

        def numeric(expression: Any) -> Callable[..., Any]:
            function = sympy.lambdify([symbols], expression, "numpy")
            return lambda x: np.array(function(np.asarray(x)), dtype=np.float64)

        hessians = [numeric(sympy.hessian(each, symbols)) for each in c]
        value, gradient, values = numeric(f), numeric(grad), numeric(c)
        return {
            "fun": lambda x: float(value(x)),
            "grad": lambda x: gradient(x).ravel(),
            "hess": numeric(sympy.hessian(f, symbols)),
            "c": lambda x: values(x).ravel(),
            "jac": numeric(c.jacobian(symbols)),
            "c_hess": lambda x, v: sum(weight * hessian(x) for weight, hessian in zip(v, hessians, strict=True)),
        }

    def violation(self, x: Any) -> float:
        """The largest violation of constraints and bounds, from the NumPy form."""
        x = np.asarray(x, dtype=np.float64)
        c = self.analytic["c"](x)
        low, high = self.bounds or (-INF, INF)
        return max(0.0, *(np.array(self.lower) - c), *(c - np.array(self.upper)), *(low - x), *(x - high))

    def distance(self, x: Any) -> float:
        return min(float(np.linalg.norm(np.asarray(x) - minimizer)) for minimizer in self.minimizers)


def _hs76_f(a, b, c, d, log=None):
    return a**2 + 0.5 * b**2 + c**2 + 0.5 * d**2 - a * c + c * d - a - 3 * b + c - d


_HS71 = (1.0, 4.742999637, 3.821149984, 1.379408291)  # published to these digits
_HS40 = (2 ** (-1 / 3), 2 ** (-1 / 2), 2 ** (-11 / 12), 2 ** (-1 / 4))

HOCK = {
    problem.name: problem
    for problem in (
        Hock(
            "HS6",
            lambda a, b, log: (1 - a) ** 2,
            lambda a, b: [10 * (b - a**2)],
            *((0,), (0,)),
            (-1.2, 1),
            0.0,
            ((1, 1),),
        ),
        Hock(
            "HS7",
            lambda a, b, log: log(1 + a**2) - b,
            lambda a, b: [(1 + a**2) ** 2 + b**2 - 4],
            *((0,), (0,)),
            (2, 2),
            -math.sqrt(3),
            ((0, math.sqrt(3)),),
        ),
        Hock(
            "HS26",
            lambda a, b, c, log: (a - b) ** 2 + (b - c) ** 4,
            lambda a, b, c: [(1 + b**2) * a + c**4 - 3],
            *((0,), (0,)),
            (-2.6, 2, 2),
            0.0,
            ((1, 1, 1),),
        ),
        Hock(
            "HS28",
            lambda a, b, c, log: (a + b) ** 2 + (b + c) ** 2,
            lambda a, b, c: [a + 2 * b + 3 * c],
            *((1,), (1,)),
            (-4, 1, 1),
            0.0,
            ((0.5, -0.5, 0.5),),
        ),
        Hock(
            "HS39",
            lambda a, b, c, d, log: -a + 0 * b,
            lambda a, b, c, d: [b - a**3 - c**2, a**2 - b - d**2],
            *((0, 0), (0, 0)),
            (2, 2, 2, 2),
            -1.0,
            ((1, 1, 0, 0),),
        ),
        Hock(
            "HS40",
            lambda a, b, c, d, log: -a * b * c * d,
            lambda a, b, c, d: [a**3 + b**2 - 1, a**2 * d - c, d**2 - b],
            *((0, 0, 0), (0, 0, 0)),
            (0.8, 0.8, 0.8, 0.8),
            -0.25,
            (_HS40, tuple(-x if i in (2, 3) else x for i, x in enumerate(_HS40))),
        ),
        Hock(
            "HS71",
            lambda a, b, c, d, log: a * d * (a + b + c) + c,
            lambda a, b, c, d: [a * b * c * d, a**2 + b**2 + c**2 + d**2],
            *((25, 40), (INF, 40)),
            (1, 5, 5, 1),
            17.0140173,
            (_HS71,),
            (1, 5),
        ),
        Hock(
            "HS76",
            _hs76_f,
            lambda a, b, c, d: [a + 2 * b + c + d, 3 * a + b + 2 * c - d, b + 4 * c],
            *((-INF, -INF, 1.5), (5, 4, INF)),
            (0.5, 0.5, 0.5, 0.5),
            -4.681818181,
            ((3 / 11, 23 / 11, 0, 6 / 11),),
            (0, INF),
        ),
    )
}
