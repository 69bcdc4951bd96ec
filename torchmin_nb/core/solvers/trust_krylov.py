"""trust-krylov: the step in a Krylov subspace, where the subproblem has a small tridiagonal matrix.

N. I. M. Gould, S. Lucidi, M. Roma, Ph. L. Toint, "Solving the trust-region subproblem using the Lanczos method", SIAM
Journal on Optimization 9 (1999) 504–525. The tolerances for a step are SciPy's; the algorithm of SciPy's solver, trlib,
is not copied.
"""

from __future__ import annotations

import math
from typing import Any, Unpack

import torch

from .contract import Problem, Sample
from .tridiagonal import Solution, leftmost, minimize_within
from .trust_region import Proposal, TrustRegion, TrustRegionOptions
from .vectors import dot, finite_curvature, numbers

__all__ = ["Lanczos", "TrustKrylov"]

_EXACT = 1e-10
_LARGEST_BASIS = 1e9
"""Largest number of vectors in a basis, as in SciPy."""
_FEW = 16
"""Number of vectors for which a new basis has memory."""
_LEFT_BY_ROUNDING = 64
"""A new vector shorter than this many machine epsilons, relative to the Hessian, counts as rounding."""


class TrustKrylov(TrustRegion):
    """SciPy's trust-krylov: products only.

    inexact: the residual of a step may be up to ‖g‖², or ‖g‖^1.5 on the boundary; else 1e-10 ‖g‖, and directions of
    negative curvature are found also if they are orthogonal to the Krylov space of the gradient.
    """

    def __init__(self, *, inexact: bool = True, **options: Unpack[TrustRegionOptions]):
        super().__init__(Lanczos(inexact=inexact), **options)


class Lanczos:
    """The subproblem in the span of g, Hg, H²g, …, with an orthogonal basis. One transfer for each product.

    After a rejected step the space is kept: a shorter step from the same point often needs no product.
    """

    def __init__(self, *, inexact: bool = True):
        self._inexact = inexact
        self._rows: torch.Tensor | None = None

    def model(self, problem: Problem, sample: Sample) -> dict[str, Any]:
        """An empty model, before the first step."""
        return {}

    def solve(self, problem: Problem, sample: Sample, model: dict[str, Any], radius: float) -> Proposal | None:
        """The step. Its predicted reduction is that of the tridiagonal problem, without another product."""
        if sample.norm == 0:
            return Proposal(torch.zeros_like(sample.x), 0.0, False, 0.0, 0.0, dict)
        space = _Space(problem, sample, model, self._rows)
        while (found := space.minimize(radius)) is None or not self._near_enough(space, found):
            space.grow()
        self._rows = space.rows
        on_boundary = found.damping > 0
        length = radius if on_boundary else math.hypot(*found.h)
        slope = sample.norm * found.h[0]
        return Proposal(space.combine(found.h), length, on_boundary, slope, found.curvature, space.packed)

    def _near_enough(self, space: _Space, found: Solution) -> bool:
        """Whether to stop. If the space cannot grow and the step is not good enough, a second space is begun."""
        if space.full:
            return True
        if space.off[-1] == 0:
            return self._inexact or not space.begin_second()
        if space.second:
            return space.lowest_residual() <= _EXACT
        return space.off[-1] * abs(found.h[-1]) <= self._tolerance(space.gradient, found.damping > 0, space.eps)

    def _tolerance(self, norm: float, on_boundary: bool, eps: float) -> float:
        forcing = max(1e-6, min(0.5, math.sqrt(norm))) if on_boundary else min(0.5, norm)
        return norm * max(forcing if self._inexact else _EXACT, 4 * eps)


class _Space:
    """An orthogonal basis, in the first rows, in which the Hessian is a tridiagonal matrix.

    off: below the diagonal, with the length of the next vector as its last entry: 0 where the space is invariant.
    second: the index of the vector that began a second invariant space; 0 where there is none.
    """

    def __init__(self, problem: Problem, sample: Sample, model: dict[str, Any], rows: torch.Tensor | None):
        self._problem, self._sample = problem, sample
        self.gradient, self.eps = sample.norm, torch.finfo(sample.x.dtype).eps
        self.diagonal: list[float] = list(model.get("diagonal", ()))
        self.off: list[float] = list(model.get("off", ()))
        self.second: int = model.get("second", 0)
        basis = model["basis"] if model else (sample.gradient / sample.norm)[None]
        fits = rows is not None and rows.shape[1:] == basis.shape[1:] and rows.dtype == basis.dtype
        self.rows = rows if rows is not None and fits else basis.new_empty(_FEW, basis.shape[1])
        self._used = 0
        for row in basis:
            self._put(row)

    @property
    def full(self) -> bool:
        """Whether there is no memory for another vector."""
        n = self._sample.x.numel()
        return len(self.diagonal) >= max(1, min(n, int(_LARGEST_BASIS / n)))

    def minimize(self, radius: float) -> Solution | None:
        """The solution in this space; None if it has no vector."""
        return minimize_within(self.diagonal, self.off[:-1], self.gradient, radius) if self.diagonal else None

    def grow(self) -> None:
        """Add the last vector's product: its part orthogonal to the basis becomes the next row."""
        k = len(self.diagonal)
        basis, q = self.rows[: k + 1], self.rows[k]
        w = self._problem.product(self._sample, q)
        along = dot(q, w)
        w = torch.addcmul(w, q, along, value=-1)
        if k:
            w.sub_(self.rows[k - 1], alpha=self.off[-1])
        w = torch.addmv(w, basis.T, basis @ w, alpha=-1)  # remove the components that rounding has left
        diagonal, square = numbers(along, dot(w, w))
        finite_curvature(diagonal, square)
        self.diagonal.append(diagonal)
        size, length = max(map(abs, (*self.diagonal, *self.off))), math.sqrt(square)
        self.off.append(length if length > _LEFT_BY_ROUNDING * self.eps * size else 0.0)
        if self.off[-1]:
            self._put(w / length)

    def begin_second(self) -> bool:
        """Continue with a random vector, which has a component in every remaining direction. False if done before."""
        if self.second:
            return False
        n, basis = self._sample.x.numel(), self.rows[: self._used]
        drawn = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(basis)
        for _ in range(2):
            drawn = torch.addmv(drawn, basis.T, basis @ drawn, alpha=-1)
        self.second = self._used
        self._put(drawn / drawn.norm())
        return True

    def lowest_residual(self) -> float:
        """Relative residual of the second space's lowest eigenvector as an eigenvector of the Hessian."""
        diagonal, off = self.diagonal[self.second :], self.off[self.second :]
        if not diagonal:
            return math.inf
        _, vector = leftmost(diagonal, off[:-1])
        return off[-1] * abs(vector[-1]) / max(map(abs, (*diagonal, *off)))

    def combine(self, h: list[float]) -> torch.Tensor:
        """The vector with these coordinates."""
        basis = self.rows[: len(h)]
        return torch.tensor(h, dtype=torch.float64).to(basis) @ basis

    def packed(self) -> dict[str, Any]:
        """The whole space as a model."""
        basis = self.rows[: self._used].clone()
        return {"basis": basis, "diagonal": self.diagonal, "off": self.off, "second": self.second}

    def _put(self, row: torch.Tensor) -> None:
        if self._used == len(self.rows):
            self.rows = torch.cat((self.rows, torch.empty_like(self.rows)))
        self.rows[self._used] = row
        self._used += 1
