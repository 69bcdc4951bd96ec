"""The distinct local minima of a search."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Minima"]

_CLOSE = 1e-4


class Minima:
    """Local minima with distances above 1e-4, relative to the bounds' width, or to 1 + |x| without bounds."""

    def __init__(self, width: NDArray[np.float64] | None = None):
        self._width = width
        self._losses: list[float] = []
        self._points: list[NDArray[np.float64]] = []

    def __len__(self) -> int:
        return len(self._points)

    def add(self, loss: float, x: NDArray[np.float64]) -> None:
        """Keep a minimum at x, shape (n,), or lower the loss of the known minimum there."""
        width = 1 + np.abs(x) if self._width is None else self._width
        for index, known in enumerate(self._points):
            if (np.abs(known - x) <= _CLOSE * width).all():
                if loss < self._losses[index]:
                    self._losses[index], self._points[index] = loss, x.copy()
                return
        self._losses.append(loss)
        self._points.append(x.copy())

    def by_loss(self) -> list[tuple[float, NDArray[np.float64]]]:
        """(loss, x) of each minimum, the lowest first."""
        return [(self._losses[index], self._points[index]) for index in np.argsort(self._losses, kind="stable")]
