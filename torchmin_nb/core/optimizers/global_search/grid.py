"""The grid of brute force: its ranges and its size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds

from ....errors import ArgumentError, MemoryBudgetError
from ...runtime.memory import available_bytes, readable_bytes
from ...validation import shown

__all__ = ["Grid", "read_ranges", "twice"]

_MOST = 40


@dataclass(frozen=True)
class Grid:
    """One slice for each variable, as for np.mgrid; the box that they span; the number of points."""

    axes: tuple[slice, ...]
    bounds: Bounds
    points: float

    @classmethod
    def of_bounds(cls, bounds: Bounds, points: int) -> Grid:
        """This many points along every axis that is not fixed."""
        free = bounds.lb < bounds.ub
        axes = tuple(
            slice(low, high, complex(points)) for low, high in zip(bounds.lb[free], bounds.ub[free], strict=True)
        )
        return cls(axes, bounds, float(points) ** len(axes))

    def require_memory(self, budget: int | None) -> None:
        """Raise ArgumentError for too many variables, MemoryBudgetError for too many points."""
        if len(self.axes) > _MOST:
            raise ArgumentError(f"brute takes at most {_MOST} variables, got {len(self.axes)}; try shgo or direct")
        needed = 8.0 * self.points * (2 * len(self.axes) + 3)
        limit = available_bytes() if budget is None else budget
        if needed > limit:
            raise MemoryBudgetError(
                f"a grid of {self.points:.3g} points in {len(self.axes)} variables takes {readable_bytes(needed)}, and "
                f"{readable_bytes(limit)} are available; lower Ns, or choose shgo, direct or differential_evolution"
            )


def read_ranges(ranges: Any, n: int, points: int = 20) -> Grid:
    """Pairs (low, high), triples with a step, or slices, one for each variable. Raises ArgumentError."""
    try:
        entries = list(ranges)
    except TypeError:
        entries = [ranges]
    if len(entries) != n:
        raise ArgumentError(f"ranges has {len(entries)} entries for {n} variables; pass one each, or one pair for all")
    axes = tuple(_axis(entry, points) for entry in entries)
    sizes = [_size(axis) for axis in axes]
    low = np.array([float(axis.start) for axis in axes])
    high = np.array([float(axis.stop) for axis in axes])
    return Grid(axes, Bounds(low, high), float(np.prod(sizes)))


def twice(axis: slice) -> slice:
    """An axis of one point becomes that point twice, because SciPy cannot return a grid of a single point."""
    return slice(axis.start, axis.start, 2j) if _size(axis) == 1 else axis


def _axis(entry: Any, points: int) -> slice:
    try:
        axis = entry if isinstance(entry, slice) else slice(*entry)
        low, high = float(axis.start), float(axis.stop)
        step = complex(points) if axis.step is None else axis.step + 0
        rising = isinstance(step, complex) or step > 0
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"a range must be (low, high), (low, high, step) or a slice, got {shown(entry)}") from None
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ArgumentError(f"brute needs finite ranges, got {entry!r}")
    if not low < high or not rising:
        raise ArgumentError(f"a range must rise from low to high by a positive step, got {entry!r}")
    return slice(low, high, step)


def _size(axis: slice) -> int:
    if isinstance(axis.step, complex):
        return max(1, int(abs(axis.step)))
    return max(1, int(np.ceil((axis.stop - axis.start) / axis.step)))
