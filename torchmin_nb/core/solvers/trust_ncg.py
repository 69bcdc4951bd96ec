"""trust-ncg: the step by conjugate gradients that stop at the radius or at negative curvature.

T. Steihaug, "The conjugate gradient method and trust regions in large scale optimization", SIAM Journal on Numerical
Analysis 20 (1983) 626–637; algorithm 7.2 of Nocedal and Wright (2006), with SciPy's tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

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
        """The step. SciPy asks for one more product for its predicted reduction; here it is known."""
        found, length, on_boundary = _search(problem, sample, radius)
        product = found.product_of(problem, sample)
        slope, curvature = numbers(dot(sample.gradient, found.step), dot(found.step, product))
        finite_curvature(curvature)
        return Proposal(found.step, length, on_boundary, slope, curvature, dict)


class _End(NamedTuple):
    """A step, shape (n,), and the Hessian times it, known from the products before."""

    step: torch.Tensor
    known: torch.Tensor

    def product_of(self, problem: Problem, sample: Sample) -> torch.Tensor:
        return problem.product(sample, self.step, self.known)


def _search(problem: Problem, sample: Sample, radius: float) -> tuple[_End, float, bool]:
    """The step, its length, and whether it ends on the boundary.

    r: the gradient of the model at the step p. s: the search direction, negated, which saves a pass over the vectors.
    """
    r = s = sample.gradient
    if sample.norm == 0:
        return _End(torch.zeros_like(s), torch.zeros_like(s)), 0.0, False
    tolerance = min(0.5, math.sqrt(sample.norm)) * sample.norm
    p: torch.Tensor | None = None
    spare: torch.Tensor | None = None
    rr = dot(r, r)
    while True:
        product = problem.product(sample, s)
        curving = dot(s, product)
        if p is None and 0 < numbers(curving)[0] * radius <= sample.norm**3:  # the rest is not needed
            return _along(s, product, -radius / sample.norm), radius, True
        alpha = rr / curving
        next_p = s * -alpha if p is None else torch.addcmul(p, s, alpha, value=-1)
        next_r = torch.addcmul(r, product, alpha, value=-1, out=spare)
        next_rr = dot(next_r, next_r)
        curvature, square, left = numbers(curving, dot(next_p, next_p), next_rr)
        finite_curvature(curvature)
        length = math.sqrt(square)
        if curvature <= 0 or length >= radius:
            line, (first, last) = _Line(sample, p, s, product, r), _to_boundary(p, s, radius)
            end = line.end(last) if curvature > 0 else _lower(problem, sample, [line.end(first), line.end(last)])
            return end, radius, True
        if math.sqrt(left) < tolerance:
            return _End(next_p, next_r - sample.gradient), length, False
        s = torch.addcmul(next_r, s, next_rr / rr, out=None if p is None else s)
        spare, p, r, rr = None if p is None else r, next_p, next_r, next_rr


class _Line(NamedTuple):
    """The points p - t·s; p is None at the origin. product: the Hessian times s. r: the gradient of the model at p."""

    sample: Sample
    p: torch.Tensor | None
    s: torch.Tensor
    product: torch.Tensor
    r: torch.Tensor

    def end(self, t: float) -> _End:
        """The step to the point at t."""
        if self.p is None:
            return _along(self.s, self.product, -t)
        known = torch.sub(self.r - self.sample.gradient, self.product, alpha=t)
        return _End(torch.sub(self.p, self.s, alpha=t), known)


def _lower(problem: Problem, sample: Sample, ends: Sequence[_End]) -> _End:
    """Of the two ends on the boundary, the one where the model is lower."""
    products = [end.product_of(problem, sample) for end in ends]
    values = [
        dot(sample.gradient, end.step) + 0.5 * dot(end.step, product)
        for end, product in zip(ends, products, strict=True)
    ]
    first, second = numbers(*values)
    return ends[0] if first < second else ends[1]


def _along(s: torch.Tensor, product: torch.Tensor, factor: float) -> _End:
    return _End(s * factor, product * factor)


def _to_boundary(p: torch.Tensor | None, s: torch.Tensor, radius: float) -> tuple[float, float]:
    """Both t, the lower first, for which p - t·s is as long as the radius. p: None at the origin."""
    if p is None:
        return to_sphere((0.0, 0.0, *numbers(dot(s, s))), radius)
    return to_sphere(numbers(dot(p, p), -dot(p, s), dot(s, s)), radius)
