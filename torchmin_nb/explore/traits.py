"""The traits of a problem that decide which methods fit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..core.autodiff.closure_check import check_closure
from ..core.objective.constraints import Constraint
from ..core.parameters.flat import FlatParameters
from ..core.runtime.memory import available_bytes
from ..problems import Problem, ProblemSpec

__all__ = ["Traits", "measured", "traits"]


@dataclass(frozen=True)
class Traits:
    """A problem as a choice of method sees it.

    n: parameters. dtype: "float32", "float64" or both. bounds: on any parameter; box: finite bounds, or a window to
    search in, on all. residuals: how many there are, None where the loss is no sum of squares. seconds_per_call,
    seconds_per_product: of one closure call with gradient and one Hessian-vector product, where they were measured.
    memory: bytes that are available.
    """

    n: int
    dtype: str = "float64"
    bounds: bool = False
    box: bool = False
    constraints: bool = False
    equalities: bool = False
    smooth: bool = True
    convex: bool = False
    many_minima: bool = False
    residuals: int | None = None
    seconds_per_call: float | None = None
    seconds_per_product: float | None = None
    memory: float = float("inf")

    @property
    def product_cost(self) -> float:
        """One product in closure calls; 2 where nothing was measured."""
        if not self.seconds_per_call or not self.seconds_per_product:
            return 2.0
        return self.seconds_per_product / self.seconds_per_call


def traits(
    problem: Problem, spec: ProblemSpec | None = None, *, bounds: bool = True, constraints: bool = True
) -> Traits:
    """What is known of a problem without a closure call, but for the number of residuals.

    spec: its row, for what the problem cannot say of itself. bounds, constraints: whether they are to be heeded.
    """
    heeded = problem.constraints if constraints else ()
    window = problem.window is not None and problem.n == len(problem.window)
    return Traits(
        n=problem.n,
        dtype="/".join(sorted({str(p.dtype).removeprefix("torch.") for p in problem.parameters})),
        bounds=bounds and problem.bounds is not None,
        box=bounds and (_finite(problem) or (problem.bounds is None and window)),
        constraints=bool(heeded),
        equalities=any(map(_equality, heeded)),
        smooth=spec is None or spec.smooth,
        convex=spec is not None and spec.convex,
        many_minima=spec is not None and spec.many_minima,
        residuals=_residuals(problem),
        memory=float(available_bytes()),
    )


def measured(
    known: Traits, problem: Problem, *, clock: Callable[[Problem], tuple[float, float | None]] | None = None
) -> Traits:
    """The same with the time of one closure call and one product on this problem, in seconds.

    It takes about twenty closure calls. The parameters are left as they are. Raises ClosureError where the closure
    cannot be evaluated.
    """
    call, product = (clock or _clock)(problem)
    return replace(known, seconds_per_call=call, seconds_per_product=product)


def _clock(problem: Problem) -> tuple[float, float | None]:
    report = check_closure(problem.closure, FlatParameters(list(problem.parameters)), directions=1)
    return report.seconds_per_call, report.seconds_per_product


def _finite(problem: Problem) -> bool:
    if problem.bounds is None:
        return False
    sides = [torch.as_tensor(np.inf if side is None else side, dtype=torch.float64) for side in problem.bounds]
    return all(bool(side.isfinite().all()) for side in sides)


def _equality(constraint: object) -> bool:
    if isinstance(constraint, Constraint):
        return bool(np.any(np.asarray(constraint.lower) == np.asarray(constraint.upper)))
    return isinstance(constraint, dict) and constraint.get("type") == "eq"


def _residuals(problem: Problem) -> int | None:
    if problem.residuals is None:
        return None
    with torch.no_grad():
        return int(problem.residuals().numel())
