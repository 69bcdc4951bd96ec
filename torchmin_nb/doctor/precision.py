"""What rounding hides: the noise of the loss, and whether float64 would go on where float32 ends."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.autodiff.graph import precision
from ..core.parameters.flat import FlatParameters
from ..core.solvers.noise import difference_table
from .curvature import curvature_of
from .laboratory import Laboratory
from .slopes import sizes_of
from .subject import Subject

__all__ = ["DoubleTrial", "coarsest_eps", "double_trial", "in_double", "noise_of"]

_PRODUCTS = 12
_POINTS = 7


@dataclass(frozen=True)
class DoubleTrial:
    """The loss with parameters in float64.

    follows: whether the closure then computes in float64. loss, predicted: the loss, and what a Newton step would take
    from it; step: its length, relative to the point's. reason: why it does not follow, in words.
    """

    follows: bool
    loss: float = math.nan
    predicted: float = 0.0
    step: float = 0.0
    reason: str = ""


def noise_of(lab: Laboratory) -> float | None:
    """The standard deviation of the error of the loss, in its units; None if it cannot be separated from the loss.

    7 to 21 evaluations on a line, a few rounding errors apart; and 7 further apart, for noise that looks smooth from
    close by, as that of an inner solver. The larger one is returned.
    """
    direction = sizes_of(lab) * np.random.default_rng(2).standard_normal(lab.z.size)
    direction /= math.sqrt(lab.z.size)
    close = _noise_at(lab, direction, 10 * lab.flat.eps)
    far = None
    if lab.left >= _POINTS:
        losses = _losses(lab, direction, lab.flat.eps**0.35)
        span = max(losses) - min(losses)
        far, _ = difference_table([loss + 20 * span for loss in losses])  # the table refuses large relative changes
    return max((each for each in (close, far) if each is not None), default=None)


def _noise_at(lab: Laboratory, direction: NDArray[np.float64], spacing: float) -> float | None:
    factor, losses = 1.0, [math.nan]
    for _ in range(3):
        losses = _losses(lab, direction, spacing)
        noise, factor = difference_table(losses)
        if noise is not None:
            return noise
        spacing *= factor
    return lab.flat.eps * abs(losses[_POINTS // 2]) if factor > 1 else None


def _losses(lab: Laboratory, direction: NDArray[np.float64], spacing: float) -> list[float]:
    return [lab.loss(lab.z + (i - _POINTS // 2) * spacing * direction) for i in range(_POINTS)]


def coarsest_eps(lab: Laboratory) -> float:
    """Machine epsilon of the coarsest dtype in the graph of the last evaluation; 0 if unknown."""
    return precision(lab.observed.returned, lab.observed.nodes)


@contextmanager
def in_double(flat: FlatParameters) -> Iterator[None]:
    """The parameters in float64, with the same values; afterwards the tensors that they were."""
    held = [(tensor, tensor.data, tensor.grad) for tensor in flat.tensors]
    try:
        for tensor, data, _ in held:
            tensor.grad = None
            tensor.data = data.double()
        yield
    finally:
        for tensor, data, gradient in held:
            tensor.grad = None
            tensor.data = data
            tensor.grad = gradient


def double_trial(subject: Subject, free: NDArray[np.bool_], budget: int) -> tuple[DoubleTrial, Laboratory]:
    """Does the closure follow the parameters' dtype, and would the loss go on falling? Up to fourteen evaluations.

    free: the variables that no bound holds.
    """
    with in_double(subject.flat):
        lab = Laboratory(subject, min(budget, 2 + _PRODUCTS))
        try:
            here = lab.sample()
            if here.error is not None:
                return DoubleTrial(False, reason=_first_line(here.error)), lab
            if here.dtype is not torch.float64 or coarsest_eps(lab) > np.finfo(np.float64).eps:
                return DoubleTrial(False, reason="the closure still computes in float32"), lab
            curvature = None if here.gradient is None else curvature_of(lab, here.gradient, free, extremes=False)
            known = (0.0, 0.0) if curvature is None else (curvature.predicted, curvature.step)
            return DoubleTrial(True, here.loss, *known), lab
        finally:
            lab.close()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
