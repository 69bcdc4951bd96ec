"""Bounds and scales: from param groups and from SciPy's forms, to one vector over the flat parameters."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import Bounds

from ...errors import ArgumentError, StartWarning
from ..validation import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SMALLEST_SCALE", "clipped", "group_bounds", "group_scale", "outside", "read_bounds"]

SMALLEST_SCALE = 1e-150
"""Smallest scale of a variable: its square and the inverse of that are still finite and not 0."""

Groups = Iterable[Mapping[str, Any]]


def group_bounds(groups: Groups, tensors: Sequence[torch.Tensor]) -> Bounds | None:
    """The `bounds=(low, high)` of the param groups over the flat vector of `tensors`; None if no group has bounds.

    low, high: a number, a tensor of the parameter's shape, or None for open.
    """
    sides = {id(tensor): group.get("bounds") for group in groups for tensor in group["params"]}
    if all(sides[id(tensor)] is None for tensor in tensors):
        return None
    pairs = [_pair(sides[id(tensor)]) for tensor in tensors]
    low = [_filled("low bound", pair[0], tensor, -np.inf) for pair, tensor in zip(pairs, tensors, strict=True)]
    high = [_filled("high bound", pair[1], tensor, np.inf) for pair, tensor in zip(pairs, tensors, strict=True)]
    return _checked(np.concatenate(low), np.concatenate(high))


def group_scale(groups: Groups, tensors: Sequence[torch.Tensor]) -> NDArray[np.float64] | None:
    """The `scale=` of the param groups over the flat vector; None if every scale is 1.

    Each is a positive number or a tensor of positive numbers of the parameter's shape.
    """
    scales = {id(tensor): group.get("scale") for group in groups for tensor in group["params"]}
    parts = [_filled("scale", scales[id(tensor)], tensor, 1.0) for tensor in tensors]
    scale = np.concatenate(parts)
    fits = (scale >= SMALLEST_SCALE) & (scale <= 1 / SMALLEST_SCALE)
    if not fits.all():
        raise ArgumentError(f"scale must be positive and finite, from 1e-150 to 1e150, got {scale[~fits][0]}")
    return None if (scale == 1).all() else scale


def read_bounds(bounds: Any, n: int) -> Bounds | None:
    """SciPy's forms, `Bounds` or one (low, high) pair for each variable, checked for n variables.

    Raises ArgumentError for a wrong number of pairs, values that are not pairs, NaN, or low above high.
    """
    if bounds is None:
        return None
    if isinstance(bounds, Bounds):
        try:
            low, high = (np.broadcast_to(np.asarray(side, dtype=np.float64), (n,)) for side in (bounds.lb, bounds.ub))
        except (TypeError, ValueError, OverflowError):
            sizes = np.size(bounds.lb), np.size(bounds.ub)
            raise ArgumentError(f"bounds have {sizes} entries; there are {n} variables") from None
        return _checked(low.copy(), high.copy(), keep_feasible=bounds.keep_feasible)
    try:
        pairs = list(bounds)
    except TypeError:
        pairs = [bounds]
    if len(pairs) != n:
        raise ArgumentError(f"bounds has {len(pairs)} pairs for {n} variables; pass one (low, high) pair for each")
    sides = [_pair(pair) for pair in pairs]
    return _checked(_side([low for low, _ in sides], -np.inf), _side([high for _, high in sides], np.inf))


def clipped(x: NDArray[np.float64], bounds: Bounds | None, eps: float = 0.0) -> NDArray[np.float64]:
    """x moved inside the bounds; a StartWarning gives the number of moved entries.

    There is no warning for fixed entries, and none for entries outside by rounding to a precision of `eps`.
    """
    if bounds is None:
        return x
    inside = np.clip(x, bounds.lb, bounds.ub)
    moved = int(((np.abs(inside - x) > eps * np.abs(inside)) & (bounds.lb < bounds.ub)).sum())
    if moved:
        warnings.warn(
            f"{moved} starting values are outside their bounds and were clipped to them", StartWarning, stacklevel=7
        )
    return inside


def outside(x: NDArray[np.float64], bounds: Bounds | None) -> float:
    """The largest distance of an entry of x from its bounds; 0 inside."""
    if bounds is None:
        return 0.0
    return float(np.maximum(np.max(bounds.lb - x, initial=0.0), np.max(x - bounds.ub, initial=0.0)))


def _pair(value: Any) -> tuple[Any, Any]:
    if value is None:
        return None, None
    try:
        low, high = value
    except (TypeError, ValueError):
        raise ArgumentError(f"a bound must be a pair (low, high), None for open, got {value!r}") from None
    return low, high


def _side(values: Iterable[Any], default: float) -> NDArray[np.float64]:
    try:
        return np.array([default if value is None else float(value) for value in values])
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"bounds must be numbers or None, got {[*map(shown, values)]}") from None


def _filled(name: str, value: Any, tensor: torch.Tensor, default: float) -> NDArray[np.float64]:
    """`value` for every entry of a parameter, shape (numel,)."""
    if value is None:
        return np.full(tensor.numel(), default)
    try:
        values = torch.as_tensor(value, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ArgumentError(f"{name} must be a number, a tensor or None, got {shown(value)}") from None
    if values.dim() and values.shape != tensor.shape:
        raise ArgumentError(
            f"{name} has shape {tuple(values.shape)} for a parameter of shape {tuple(tensor.shape)}; "
            f"pass a number, or a tensor of the parameter's shape in a param group with this parameter only"
        )
    return values.expand(tensor.shape).reshape(-1).numpy().copy()


def _checked(low: NDArray[np.float64], high: NDArray[np.float64], *, keep_feasible: Any = False) -> Bounds:
    wrong = ~(low <= high) | (low == np.inf) | (high == -np.inf)
    if wrong.any():
        index = int(np.argmax(wrong))
        raise ArgumentError(f"bounds of variable {index} are ({low[index]}, {high[index]}); low must not exceed high")
    return Bounds(low, high, keep_feasible=keep_feasible)
