"""dogleg: the step along two segments, to the Cauchy point and on to Newton's.

M. J. D. Powell, "A new algorithm for unconstrained optimization" (1970); section 4.1 of Nocedal and Wright (2006).
"""

from __future__ import annotations

from typing import Any, Unpack

import torch

from .contract import Problem, Sample
from .trust_region import Proposal, TrustRegion, TrustRegionOptions, to_sphere
from .vectors import dot, finite_curvature, numbers, wide

__all__ = ["Dogleg", "TwoSegments"]


class Dogleg(TrustRegion):
    """SciPy's dogleg, with a Hessian that is shifted if it is not positive definite."""

    def __init__(self, **options: Unpack[TrustRegionOptions]):
        super().__init__(TwoSegments(), **options)


class TwoSegments:
    """At a point it keeps the shifted Hessian, and Newton's point and the Cauchy point, both as steps."""

    def model(self, problem: Problem, sample: Sample) -> dict[str, Any]:
        """Two transfers."""
        hessian, gradient = wide(problem.hessian(sample)), wide(sample.gradient)
        factor, failed = torch.linalg.cholesky_ex(hessian)
        total, order = numbers(hessian.sum(), failed.to(hessian.dtype))
        finite_curvature(total)
        if order:
            hessian = _shifted(hessian, problem.eps)
            factor, failed = torch.linalg.cholesky_ex(hessian)
        newton = -torch.cholesky_solve(gradient[:, None], factor)[:, 0]
        cauchy = gradient * -(dot(gradient, gradient) / dot(gradient, hessian @ gradient))
        between = newton - cauchy
        pairs = (newton, newton), (cauchy, cauchy), (cauchy, between), (between, between)
        order, *squares = numbers(failed.to(hessian.dtype), *(dot(a, b) for a, b in pairs))
        if order:
            return {"hessian": hessian}
        return {"hessian": hessian, "newton": newton, "cauchy": cauchy, "squares": squares}

    def solve(self, problem: Problem, sample: Sample, model: dict[str, Any], radius: float) -> Proposal | None:
        """The end of the path within the radius: one transfer."""
        if "newton" not in model:
            return None
        step, length = self._end_of_path(model, radius)
        slope, curvature = numbers(dot(wide(sample.gradient), step), dot(step, model["hessian"] @ step))
        return Proposal(step.to(sample.x.dtype), length, length >= radius, slope, curvature, lambda: model)

    @staticmethod
    def _end_of_path(model: dict[str, Any], radius: float) -> tuple[torch.Tensor, float]:
        newton, cauchy = model["newton"], model["cauchy"]
        nn, cc, cb, bb = model["squares"]
        if nn**0.5 < radius:
            return newton, nn**0.5
        if cc**0.5 >= radius:
            return cauchy * (radius / cc**0.5), radius
        _, t = to_sphere((cc, cb, bb), radius)
        return cauchy + t * (newton - cauchy), radius


def _shifted(hessian: torch.Tensor, eps: float) -> torch.Tensor:
    """The Hessian plus a multiple of the identity that makes it positive definite, like `positive_definite`."""
    lowest, highest = torch.linalg.eigvalsh(hessian)[[0, -1]]
    margin = eps ** (2 / 3) * torch.maximum(lowest.abs(), highest.abs()).clamp(min=eps)
    shifted = hessian.clone()
    shifted.diagonal().add_(margin - lowest.clamp(max=0.0))
    return shifted
