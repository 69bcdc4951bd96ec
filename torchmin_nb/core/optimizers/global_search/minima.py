"""The distinct local minima that a search has found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Minima"]

_CLOSE = 1e-4


class Minima:
    """Local minima apart from each other by more than 1e-4: of the bounds' width, or of 1 + |x| without bounds."""

    def __init__(self, width: NDArray[np.float64] | None = None):
        self._width = width
        self._losses: list[float] = []
        self._points: list[NDArray[np.float64]] = []

    def __len__(self) -> int:
        return len(self._points)

    def add(self, loss: float, x: NDArray[np.float64]) -> None:
        """Keep a minimum at x, shape (n,), or lower the known one that it is."""
        width = 1 + np.abs(x) if self._width is None else self._width
        for index, known in enumerate(self._points):
            if (np.abs(known - x) <= _CLOSE * width).all():
                if loss < self._losses[index]:
                    self._losses[index], self._points[index] = loss, x.copy()
                return
        self._losses.append(loss)
        self._points.append(x.copy())

    def by_loss(self) -> list[tuple[float, NDArray[np.float64]]]:
        """(loss, x) of each, the lowest first."""
        return [(self._losses[index], self._points[index]) for index in np.argsort(self._losses, kind="stable")]
