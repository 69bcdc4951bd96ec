"""Nonlinear regressions of NIST, with certified answers, as problems with residuals."""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul

import torch

from ..nist import NIST, NistProblem
from .problem import Problem, ProblemSpec
from .vector import Builder, drawn

__all__ = ["CURVES"]

_SHARE = 1e-3
"""Relative tolerance for the residual sum: within it, the errors of the parameters are small fractions of their
standard deviations."""


def _builder(problem: NistProblem, signs: Sequence[tuple[float, ...]]) -> Builder:
    """A builder of the regression; its usual start is NIST's nearer one, the others lie between the two. signs: of what
    mirrors the certified minimum."""
    far, near = problem.starts
    minimizers = (problem.certified, *(tuple(map(mul, flips, problem.certified)) for flips in signs))

    def build(*, dtype: torch.dtype, seed: int) -> Problem:
        x, y = problem.x.to(dtype), problem.y.to(dtype)

        def residuals(b: torch.Tensor) -> torch.Tensor:
            return problem.model(b.movedim(-1, 0)[..., None], x) - y

        parameter = torch.nn.Parameter(drawn(near, list(zip(near, far, strict=True)), seed).to(dtype))

        def function(b: torch.Tensor) -> torch.Tensor:
            return residuals(b).square().sum(-1) / 2

        return Problem(
            [parameter],
            lambda: function(parameter),
            best_loss=problem.residual_sum / 2,
            tolerance=problem.residual_sum / 2 * _SHARE,
            minimizers=minimizers,
            function=function,
            residuals=lambda: residuals(parameter),
        )

    return build


def _row(name: str, hard: str, *, many_minima: bool = False, signs: Sequence[tuple[float, ...]] = ()) -> ProblemSpec:
    data = NIST[name]
    certified = ", ".join(f"{value:.6g}" for value in data.certified)
    return ProblemSpec(
        f"NIST {name}",
        "curve fit",
        hard=hard,
        answer=f"half the residual sum, {data.residual_sum / 2:.7g}, at ({certified}); NIST certifies 11 digits",
        source=data.source,
        build=_builder(data, signs),
        many_minima=many_minima,
    )


CURVES = (
    _row("Misra1a", "two parameters of sizes 400,000 times apart: without scales, a step suits only one of them"),
    _row("Thurber", "seven parameters from 0.05 to 1,500, and a denominator that may pass through zero"),
    _row(
        "Eckerle4",
        "far from the peak the model is flat: a long step lands where no gradient leads back; a mirror image of the "
        "minimum has b1 and b2 negative",
        many_minima=True,
        signs=[(-1.0, -1.0, 1.0)],
    ),
    _row(
        "MGH09",
        "the parameters are badly determined, and from the far start a valley leads to a local minimum at infinity",
        many_minima=True,
    ),
)
