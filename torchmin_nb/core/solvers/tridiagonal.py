"""Trust-region problems of a symmetric tridiagonal matrix: min ½hᵀTh + g·h₁ within |h| ≤ radius, on the host.

J. J. Moré, D. C. Sorensen (1983), on factors LDLᵀ of T; a few hundred rows at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import scipy.linalg

from .trust_region import to_sphere

__all__ = ["Solution", "leftmost", "minimize_within"]

_EPS = 2.0**-52
_NEAR = 64 * _EPS
"""Largest relative distance from the boundary that counts as on the boundary."""


class Solution(NamedTuple):
    """h, and the damping at which (T + damping·I) h = -g·e₁: 0 inside. curvature: hᵀTh."""

    h: list[float]
    damping: float
    curvature: float


class _Factor(NamedTuple):
    """T + damping·I = LDLᵀ: the diagonal of D, and the entries of L below its diagonal of ones."""

    pivots: list[float]
    ratios: list[float]


def minimize_within(diagonal: Sequence[float], off: Sequence[float], gradient: float, radius: float) -> Solution:
    """diagonal, off: T's, off one shorter. gradient: g > 0."""
    h, damping = _minimizer(diagonal, off, gradient, radius)
    curvature = math.fsum(d * a * a for d, a in zip(diagonal, h, strict=True))
    curvature += 2 * math.fsum(e * a * b for e, a, b in zip(off, h[:-1], h[1:], strict=True))
    return Solution(h, damping, curvature)


def leftmost(diagonal: Sequence[float], off: Sequence[float]) -> tuple[float, list[float]]:
    """The lowest eigenvalue with its eigenvector, of length 1."""
    values, vectors = scipy.linalg.eigh_tridiagonal(diagonal, off, select="i", select_range=(0, 0))
    return float(values[0]), vectors[:, 0].tolist()


def _minimizer(
    diagonal: Sequence[float], off: Sequence[float], gradient: float, radius: float
) -> tuple[list[float], float]:
    factor = _factorise(diagonal, off, 0.0)
    if factor is not None:
        h = _solve(factor, gradient)
        return (h, 0.0) if math.hypot(*h) <= radius else _on_boundary(diagonal, off, gradient, radius, 0.0)
    lowest, vector = leftmost(diagonal, off)
    size = max(gradient / radius, max(map(abs, diagonal)) + 2 * max(map(abs, off), default=0.0))
    damping, above = max(-lowest, 0.0), 4 * _EPS * size
    while (factor := _factorise(diagonal, off, damping + above)) is None:
        above *= 4
    h = _solve(factor, gradient)
    if math.hypot(*h) > radius:
        return _on_boundary(diagonal, off, gradient, radius, damping + above)
    if damping <= above:  # no negative curvature: a flat direction does not help
        return h, 0.0
    return _filled(h, vector, radius), damping


def _on_boundary(
    diagonal: Sequence[float], off: Sequence[float], gradient: float, radius: float, damping: float
) -> tuple[list[float], float]:
    """By Newton's method on 1/radius - 1/|h|; from a too small damping it approaches the root from one side."""
    while True:
        factor = _factorise(diagonal, off, damping)
        assert factor is not None, "T + damping·I is positive definite"
        h = _solve(factor, gradient)
        length = math.hypot(*h)
        more = (length / _scaled_length(factor, h)) ** 2 * (length - radius) / radius
        if length <= radius * (1 + _NEAR) or damping + more == damping:
            break
        damping += more
    if abs(length - radius) > _NEAR * radius:  # no float fits: the next one is too large
        h = _filled(h, leftmost(diagonal, off)[1], radius)
    return h, damping


def _filled(h: list[float], vector: list[float], radius: float) -> list[float]:
    """h plus a multiple of the lowest eigenvector, with the radius as length."""
    pairs = (h, h), (h, vector), (vector, vector)
    piece = min(to_sphere([math.fsum(a * b for a, b in zip(*pair, strict=True)) for pair in pairs], radius), key=abs)
    return [a + piece * b for a, b in zip(h, vector, strict=True)]


def _factorise(diagonal: Sequence[float], off: Sequence[float], damping: float) -> _Factor | None:
    """The factors; None if the matrix is not positive definite."""
    pivots: list[float] = []
    ratios: list[float] = []
    pivot = diagonal[0] + damping
    for index, d in enumerate(diagonal):
        if index:
            ratios.append(off[index - 1] / pivot)
            pivot = d + damping - ratios[-1] * off[index - 1]
        if not pivot > 0:
            return None
        pivots.append(pivot)
    return _Factor(pivots, ratios)


def _solve(factor: _Factor, gradient: float) -> list[float]:
    """h with LDLᵀ h = -g·e₁."""
    y = [-gradient]
    for ratio in factor.ratios:
        y.append(-ratio * y[-1])
    h = [y[-1] / factor.pivots[-1]]
    for ratio, value, pivot in zip(factor.ratios[::-1], y[-2::-1], factor.pivots[-2::-1], strict=True):
        h.append(value / pivot - ratio * h[-1])
    return h[::-1]


def _scaled_length(factor: _Factor, h: Sequence[float]) -> float:
    """√(hᵀ(LDLᵀ)⁻¹h)."""
    y = h[0]
    total = y * y / factor.pivots[0]
    for ratio, value, pivot in zip(factor.ratios, h[1:], factor.pivots[1:], strict=True):
        y = value - ratio * y
        total += y * y / pivot
    return math.sqrt(total)
