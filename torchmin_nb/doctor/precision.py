"""What rounding hides: the noise of the loss, and whether float64 would go on where float32 ends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ..core.autodiff.graph import precision
from ..core.parameters.flat import FlatParameters
from ..core.solvers.noise import difference_table
from .curvature import curvature_of
from .laboratory import Laboratory
from .slopes import sizes_of
from .subject import Subject

__all__ = ["DoubleTrial", "coarsest_eps", "double_trial", "in_double", "noise_of"]

_PRODUCTS = 12
_AS_GIVEN = frozenset(("backward", "grad", "register_hook", "__get__", "__set__", "__setitem__"))
"""Functions that are called with the tensors themselves; so are those that work in place."""
_POINTS = 7
_STEPS = (0.25, 0.5, 1.0, 2.0)
"""Steps down the gradient, in lengths of the one that would end at the lowest point of a parabola."""
_FURTHER = (4.0, 8.0, 16.0, 64.0, 256.0)
_OF_A_STEP, _STAYS, _LOST = 0.1, 0.1, 100
"""Noise of steps: beside the decrease of the step of length 1, the largest error, and rounding."""


@dataclass(frozen=True)
class DoubleTrial:
    """The loss with parameters in float64.

    follows: whether the closure then computes in float64. loss, predicted: the loss, and what a Newton step would take
    from it; step: its length, relative to the point's; slope: the largest entry of the gradient. Of a closure that does
    not follow: with the float32 data that it holds cast too; NaN if it casts down itself. reason: why it does not
    follow, in words.
    """

    follows: bool
    loss: float = math.nan
    predicted: float = 0.0
    step: float = 0.0
    slope: float = math.nan
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether the loss was seen in float64."""
        return math.isfinite(self.loss)


def noise_of(
    lab: Laboratory, free: NDArray[np.bool_], gradient: NDArray[np.float64] | None = None, loss: float = math.nan
) -> float | None:
    """The standard deviation of the error of the loss, in its units; None if it cannot be separated from the loss.

    With the gradient and the loss at the examined point: what steps of a usual length meet, 4 evaluations and a
    product. If that is little, or they are not given: 7 to 21 evaluations on a line, a few rounding errors apart; and 7
    further apart, for noise that looks smooth from close by, as that of an inner solver. The larger one is returned.
    free: the variables that no bound holds; only they are moved.
    """
    if gradient is not None:
        met = _noise_of_steps(lab, np.where(free, gradient, 0.0), loss)
        if met is not None:
            return met
    direction = sizes_of(lab) * free * np.random.default_rng(2).standard_normal(lab.z.size)
    direction /= math.sqrt(lab.z.size)
    close = _noise_at(lab, direction, 10 * lab.flat.eps)
    far = None
    if lab.left >= _POINTS:
        losses = _losses(lab, direction, lab.flat.eps**0.35)
        span = max(losses) - min(losses)
        far, _ = difference_table([loss + 20 * span for loss in losses])  # the table refuses large relative changes
    return max((each for each in (close, far) if each is not None), default=None)


def _noise_of_steps(lab: Laboratory, gradient: NDArray[np.float64], loss: float) -> float | None:
    """What steps down the gradient find beside what the slopes at both of their ends say; None if that is little.

    The slopes of a smooth loss leave a third-order error, which falls to 1/500 from the longest step to the shortest.
    That of noise stays.
    """
    bend = float(gradient @ lab.product(gradient))
    squared = float(gradient @ gradient)
    if not bend > 0:
        return None
    errors, same = [], True
    for part in _STEPS:
        step = lab.inside(lab.z - part * squared / bend * gradient) - lab.z
        there = lab.sample(lab.z + step)
        if not there.finite or there.gradient is None:
            return None
        errors.append(abs(there.loss - loss - float((gradient + there.gradient) @ step) / 2))
        same = same and there.loss == loss
    if same and squared**2 / bend > _LOST * lab.flat.eps * abs(loss):
        return _least_change(lab, -squared / bend * gradient, loss)
    typical = float(np.median(errors))
    counts = typical > max(_OF_A_STEP * squared**2 / bend / 2, _LOST * lab.flat.eps * abs(loss))
    return typical / math.sqrt(2) if counts and typical > _STAYS * max(errors) else None


def _least_change(lab: Laboratory, step: NDArray[np.float64], loss: float) -> float | None:
    """The noise of a loss of few digits, which smaller steps than some do not change at all."""
    for factor in _FURTHER:
        change = abs(lab.loss(lab.z + factor * step) - loss)
        if change:
            return change / math.sqrt(12)
    return None


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


class _Widened(TorchFunctionMode):
    """Where float32 meets float64, float64 computes: so float32 data in a closure stop no trial."""

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name in _AS_GIVEN or (name.endswith("_") and not name.endswith("__")) or name.startswith("__i"):
            return func(*args, **kwargs)
        given = {leaf.dtype for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        if torch.float64 in given and torch.float32 in given:
            args, kwargs = tree_map_only(torch.Tensor, _widened, (tuple(args), kwargs))
        return func(*args, **kwargs)


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.dtype is torch.float32 else tensor


def double_trial(subject: Subject, free: NDArray[np.bool_], budget: int) -> tuple[DoubleTrial, Laboratory]:
    """Does the closure follow the parameters' dtype, and would the loss go on falling? Up to fifteen evaluations.

    free: the variables that no bound holds.
    """
    with in_double(subject.flat):
        lab = Laboratory(subject, min(budget, 3 + _PRODUCTS))
        try:
            followed = _in_double(lab, free)
            if followed.follows or lab.left < 2:
                return followed, lab
            with _Widened():
                cast = _in_double(lab, free)
            return replace(cast, follows=False, reason=followed.reason), lab
        finally:
            lab.close()


def _in_double(lab: Laboratory, free: NDArray[np.bool_]) -> DoubleTrial:
    here = lab.sample()
    if here.error is not None:
        return DoubleTrial(False, reason=_first_line(here.error))
    if here.dtype is not torch.float64 or coarsest_eps(lab) > np.finfo(np.float64).eps:
        return DoubleTrial(False, reason="the closure still computes in float32")
    if here.gradient is None or not here.finite:
        return DoubleTrial(True, here.loss)
    slope = float(np.abs(here.gradient[free]).max(initial=0.0))
    curvature = curvature_of(lab, here.gradient, free, extremes=False)
    known = (0.0, 0.0) if curvature is None else (curvature.predicted, curvature.step)
    return DoubleTrial(True, here.loss, *known, slope)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
