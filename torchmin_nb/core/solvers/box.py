"""L-BFGS-B's search direction within bounds: the generalized Cauchy point, then the free variables.

R. H. Byrd, P. Lu, J. Nocedal, C. Zhu, "A limited memory algorithm for bound constrained optimization", SIAM J. Sci.
Comput. 16 (1995) 1190–1208; J. L. Morales, J. Nocedal, "Remark on algorithm 778", ACM TOMS 38 (2011) 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .contract import Problem, Sample
from .correction_pairs import CorrectionPairs

__all__ = ["Box", "Model"]

_COLUMNS = 2**13
"""Number of variables in one block: small enough for the cache, large enough for an efficient call."""

_EPS = torch.finfo(torch.float64).eps

Tensor = torch.Tensor
_Matrix = NDArray[np.float64]


def _wide(like: Tensor) -> torch.dtype:
    """float64, if the device has it."""
    return torch.float32 if like.device.type == "mps" else torch.float64


class Model:
    """g·p + pᵀBp/2 around a point, B = θI - PᵀMP: the rows of P are the correction pairs, M is small and on the CPU.

    SᵀY, SᵀS, and the part of PPᵀ for the free variables are computed from all pairs each time. SciPy updates them by
    the variables that became free or fixed. LinAlgError if B is singular.
    """

    def __init__(self, pairs: CorrectionPairs | None, like: Tensor):
        self.wide = _wide(like)
        self.theta = 1.0 if pairs is None else pairs.theta
        self.rows = like.new_zeros(0, like.numel()) if pairs is None else pairs.filled
        self.middle = np.zeros((0, 0)) if pairs is None else self._middle(pairs)

    def _middle(self, pairs: CorrectionPairs) -> _Matrix:
        inner = self._inner(None)
        s = 2 * np.array(pairs.slots())
        y = s + 1
        sy, ss = inner[np.ix_(s, y)], inner[np.ix_(s, s)]
        lower = np.tril(sy, -1)
        inverse = np.linalg.inv(np.block([[-np.diag(sy.diagonal()), lower.T], [lower, self.theta * ss]]))
        scale, places = np.repeat([1.0, self.theta], len(s)), np.concatenate([y, s])
        middle = np.zeros_like(inner)
        middle[np.ix_(places, places)] = scale[:, None] * inverse * scale
        return middle

    def _inner(self, free: Tensor | None) -> _Matrix:
        """PPᵀ, of the free variables."""
        total = torch.zeros(len(self.rows), len(self.rows), dtype=self.wide, device=self.rows.device)
        for begin in range(0, self.rows.shape[1], _COLUMNS):
            part = self.rows[:, begin : begin + _COLUMNS].to(self.wide)
            if free is not None:
                part = part * free[begin : begin + _COLUMNS]
            total.addmm_(part, part.T)
        return total.cpu().double().numpy()

    def project(self, v: Tensor) -> _Matrix:
        """Pv, on the CPU."""
        return torch.mv(self.rows, v).cpu().double().numpy()

    def _expand(self, weights: _Matrix) -> Tensor:
        return torch.mv(self.rows.T, torch.from_numpy(weights).to(self.rows))

    def product(self, v: Tensor) -> Tensor:
        """Bv, shape (n,)."""
        return self.theta * v - self._expand(self.middle @ self.project(v))

    def solve(self, r: Tensor, free: Tensor) -> Tensor:
        """The solution v of Bv = r among the free variables, by the formula of Woodbury. r is 0 elsewhere."""
        theta = self.theta
        system = np.eye(len(self.rows)) - self.middle @ self._inner(free) / theta
        weights = np.asarray(np.linalg.solve(system, self.middle @ self.project(r)), np.float64)
        return torch.where(free, (r + self._expand(weights) / theta) / theta, 0.0)


@dataclass(frozen=True, slots=True)
class Box:
    """lower ≤ x ≤ upper, shape (n,); infinite without a bound."""

    lower: Tensor
    upper: Tensor

    @classmethod
    def of(cls, problem: Problem) -> Box | None:
        """The bounds of a problem, or None."""
        if problem.lower is None and problem.upper is None:
            return None
        infinite = torch.full((problem.n,), math.inf, dtype=problem.dtype, device=problem.device)
        lower = -infinite if problem.lower is None else problem.lower
        return cls(lower, infinite if problem.upper is None else problem.upper)

    @property
    def closed(self) -> bool:
        """Whether every variable has both bounds."""
        return bool((self.lower.isfinite() & self.upper.isfinite()).all())

    def clip(self, x: Tensor) -> Tensor:
        """The nearest point of the box."""
        return torch.clamp(x, self.lower, self.upper)

    def optimality(self, sample: Sample) -> float:
        """The largest entry of the projected gradient."""
        x, g = sample.x, sample.gradient
        return float(torch.minimum(torch.maximum(g, x - self.upper), x - self.lower).abs().max())

    def room(self, x: Tensor, direction: Tensor) -> Tensor:
        """The step along the direction at which each variable reaches a bound."""
        bound = torch.where(direction < 0, self.lower, self.upper)
        return torch.where(direction == 0, math.inf, (bound - x) / direction)

    def minimizer(self, sample: Sample, model: Model) -> Tensor | None:
        """An approximate minimizer of the model in the box; None if rounding hides it."""
        found = self._cauchy_point(sample, model)
        if found is None:
            return None
        cauchy, free = found
        if not len(model.rows) or not free.any():
            return cauchy
        x, g = sample.x, sample.gradient
        r = torch.where(free, -g - model.product(cauchy - x), 0.0)
        return self._descend(sample, cauchy, model.solve(r, free))

    def _descend(self, sample: Sample, cauchy: Tensor, step: Tensor) -> Tensor:
        """From the Cauchy point along a step: projected, else cut at the box."""
        projected = self.clip(cauchy + step)
        if torch.dot(projected - sample.x, sample.gradient) <= 0:
            return projected
        room = self.room(cauchy, step)
        most = torch.clamp(room.min(), max=1.0)
        bound = torch.where(step < 0, self.lower, self.upper)
        return self.clip(torch.where(room <= most, bound, cauchy + most * step))

    def _cauchy_point(self, sample: Sample, model: Model) -> tuple[Tensor, Tensor] | None:
        """The first minimizer of the model along x - tg, clipped to the box; which variables are not at a bound there.

        At each breakpoint of t one more variable stays at its bound. The slopes of many segments are computed together,
        as cumulative sums. SciPy goes from segment to segment; the minimizer is the same up to rounding.
        """
        x, g = sample.x, sample.gradient
        times = self.room(x, -g)
        at_bound = (g == 0) & ((x <= self.lower) | (x >= self.upper))
        times = torch.where(at_bound, 0.0, times)
        d = torch.where(times > 0, -g, 0.0)
        breakpoints, order = torch.sort(torch.where(times > 0, times, math.inf))
        number = int(breakpoints.isfinite().sum())
        found = _first_minimizer(model, d, breakpoints[:number].to(model.wide), order[:number])
        if found is None:
            return None
        time, passed = found
        reached = (times <= passed) & (d != 0)
        bound = torch.where(d < 0, self.lower, self.upper)
        return torch.where(reached, bound, self.clip(x + time * d)), times > passed


def _first_minimizer(model: Model, d: Tensor, breakpoints: Tensor, order: Tensor) -> tuple[float, float] | None:
    """The t of the model's minimum along the path, and the last breakpoint before it; None if rounding hides it.

    breakpoints: sorted; order: the variable that stops at each.
    """
    wide, middle = model.wide, torch.from_numpy(model.middle).to(breakpoints)
    square = torch.dot(d.to(wide), d.to(wide))
    p = torch.mv(model.rows, d).to(wide)
    c = torch.zeros_like(p)
    least = _EPS * model.theta * square
    starts = torch.cat([breakpoints.new_zeros(1), breakpoints])
    ends = torch.cat([breakpoints, breakpoints.new_full((1,), math.inf)])
    for begin in range(0, len(starts), _COLUMNS):
        start, end = starts[begin : begin + _COLUMNS], ends[begin : begin + _COLUMNS]
        stopping = order[begin : begin + _COLUMNS]
        speed = d[stopping].to(wide)
        squares = _before(square, -speed.square(), len(start)).clamp(min=0.0)
        ps = _before(p, -model.rows[:, stopping].to(wide) * speed, len(start))
        lengths = torch.where(end.isfinite(), end - start, 0.0)
        cs = _before(c, (ps * lengths)[:, : len(start) - 1], len(start))
        slope = squares * (model.theta * start - 1) - (ps * (middle @ cs)).sum(0)
        curvature = torch.maximum(model.theta * squares - (ps * (middle @ ps)).sum(0), least)
        move = -slope / curvature
        hits = (move < end - start).nonzero()
        if len(hits):
            index = hits[0]
            return (start[index] + move[index].clamp(min=0.0)).item(), start[index].item()
        if begin + _COLUMNS < len(starts):
            square = squares[-1] - speed[-1].square()
            c = cs[:, -1] + ps[:, -1] * lengths[-1]
            p = ps[:, -1] - model.rows[:, stopping[-1]].to(wide) * speed[-1]
    return None


def _before(first: Tensor, changes: Tensor, length: int) -> Tensor:
    """Cumulative sums along the last axis: first, first + changes[0], first + changes[0] + changes[1], …"""
    return torch.cat([first[..., None], changes[..., : length - 1]], -1).cumsum(-1)
