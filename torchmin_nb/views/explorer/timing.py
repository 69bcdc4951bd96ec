"""How long a closure call and a Hessian-vector product take on the problem at hand."""

from __future__ import annotations

import time

from ...core.autodiff.closure_check import check_closure
from ...core.parameters.flat import FlatParameters
from ...errors import TorchminError
from ...explore import Traits, measured
from ...problems import Problem

__all__ = ["timed"]

_PATIENCE = 0.1
"""A closure call longer than this, in seconds, is timed once, and its products are not."""


def timed(known: Traits, problem: Problem) -> Traits:
    """The traits with measured times; without them where the closure cannot be timed: a run will say why."""
    try:
        return measured(known, problem, clock=_clock)
    except (TorchminError, RuntimeError):
        return known


def _clock(problem: Problem) -> tuple[float, float | None]:
    begun = time.perf_counter()
    loss = problem.closure()
    if loss.requires_grad:
        loss.backward()
    for parameter in problem.parameters:
        parameter.grad = None
    once = time.perf_counter() - begun
    if once > _PATIENCE:
        return once, None
    report = check_closure(problem.closure, FlatParameters(list(problem.parameters)), directions=1)
    return report.seconds_per_call, report.seconds_per_product
