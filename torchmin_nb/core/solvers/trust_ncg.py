"""trust-ncg: the step by conjugate gradients that stop at the radius or at negative curvature.

T. Steihaug, "The conjugate gradient method and trust regions in large scale optimization", SIAM Journal on Numerical
Analysis 20 (1983) 626–637; algorithm 7.2 of Nocedal and Wright (2006), with SciPy's tolerance.
"""

from __future__ import annotations

import math
from typing import Any, Unpack

import torch

from .contract import Problem, Sample
from .trust_region import Proposal, TrustRegion, TrustRegionOptions, to_sphere
from .vectors import dot, finite_curvature, numbers

__all__ = ["Steihaug", "TrustNCG"]


class TrustNCG(TrustRegion):
    """SciPy's trust-ncg: products only."""

    def __init__(self, **options: Unpack[TrustRegionOptions]):
        super().__init__(Steihaug(), **options)


class Steihaug:
    """Conjugate gradients on the quadratic model, with one transfer for each product. Keeps nothing at a point."""

    def model(self, problem: Problem, sample: Sample) -> dict[str, Any]:
        """An empty model."""
        return {}

    def solve(self, problem: Problem, sample: Sample, model: dict[str, Any], radius: float) -> Proposal | None:
        """The step, with one more product for its predicted reduction, as in SciPy."""
        step, length, on_boundary = _search(problem, sample, radius)
        product = problem.product(sample, step)
        slope, curvature = numbers(dot(sample.gradient, step), dot(step, product))
        finite_curvature(curvature)
        return Proposal(step, length, on_boundary, slope, curvature, dict)


def _search(problem: Problem, sample: Sample, radius: float) -> tuple[torch.Tensor, float, bool]:
    """The step, its length, and whether it ends on the boundary.

    r: the gradient of the model at the step p. s: the search direction, negated, which saves a pass over the vectors.
    """
    r = s = sample.gradient
    if sample.norm == 0:
        return torch.zeros_like(s), 0.0, False
    tolerance = min(0.5, math.sqrt(sample.norm)) * sample.norm
    p: torch.Tensor | None = None
    rr = dot(r, r)
    while True:
        product = problem.product(sample, s)
        curving = dot(s, product)
        if p is None and 0 < numbers(curving)[0] * radius <= sample.norm**3:  # the rest is not needed
            return s * (-radius / sample.norm), radius, True
        alpha = rr / curving
        next_p = s * -alpha if p is None else torch.addcmul(p, s, alpha, value=-1)
        r = torch.addcmul(r, product, alpha, value=-1, out=None if p is None else r)
        next_rr = dot(r, r)
        curvature, square, left = numbers(curving, dot(next_p, next_p), next_rr)
        finite_curvature(curvature)
        if curvature <= 0:
            return _lower_end(problem, sample, p, s, radius), radius, True
        length = math.sqrt(square)
        if length >= radius:
            _, t = _to_boundary(p, s, radius)
            return _moved(p, s, t), radius, True
        if math.sqrt(left) < tolerance:
            return next_p, length, False
        s = torch.addcmul(r, s, next_rr / rr, out=None if p is None else s)
        p, rr = next_p, next_rr


def _lower_end(
    problem: Problem, sample: Sample, p: torch.Tensor | None, s: torch.Tensor, radius: float
) -> torch.Tensor:
    """Of the two ends on the boundary along a direction of negative curvature, the one where the model is lower."""
    ends = [_moved(p, s, t) for t in _to_boundary(p, s, radius)]
    products = [problem.product(sample, end) for end in ends]
    values = [dot(sample.gradient, end) + 0.5 * dot(end, product) for end, product in zip(ends, products, strict=True)]
    first, second = numbers(*values)
    return ends[0] if first < second else ends[1]


def _to_boundary(p: torch.Tensor | None, s: torch.Tensor, radius: float) -> tuple[float, float]:
    """Both t, the lower first, for which p - t·s is as long as the radius. p: None at the origin."""
    if p is None:
        return to_sphere((0.0, 0.0, *numbers(dot(s, s))), radius)
    return to_sphere(numbers(dot(p, p), -dot(p, s), dot(s, s)), radius)


def _moved(p: torch.Tensor | None, s: torch.Tensor, t: float) -> torch.Tensor:
    return s * -t if p is None else torch.sub(p, s, alpha=t)
