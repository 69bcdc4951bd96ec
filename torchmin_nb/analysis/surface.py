"""A loss over a window of the plane, and contour levels that show its valleys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ArgumentError

__all__ = [
    "Function",
    "Levels",
    "Surface",
    "Window",
    "at_points",
    "contour_levels",
    "on_grid",
    "read_window",
    "sample",
    "window_around",
]

Function = Callable[[torch.Tensor], torch.Tensor]
"""A loss of x: (..., 2) -> (...), float64."""
Window = tuple[tuple[float, float], tuple[float, float]]
"""((x low, x high), (y low, y high))."""

_MANY_DECADES = 1.5
_STEPS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_MOST_LEVELS = 14
_DEEPEST = 2e-3
"""The innermost contour of a log scale encloses about this fraction of the window."""
_MARGIN = 0.15
_NARROWEST = 0.45


class Surface(NamedTuple):
    """A loss on a grid of two variables.

    Attributes
    ----------
    x : ndarray of shape (nx,)
        Grid, ascending, float64.
    y : ndarray of shape (ny,)
        Grid, ascending, float64.
    loss : ndarray of shape (ny, nx)
        The loss, float64; NaN where it is not finite.

    See Also
    --------
    sample : makes it, and has an example.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    loss: NDArray[np.float64]

    @property
    def window(self) -> Window:
        """The window of the grid: ((x low, x high), (y low, y high))."""
        return (float(self.x[0]), float(self.x[-1])), (float(self.y[0]), float(self.y[-1]))


class Levels(NamedTuple):
    """Levels, equally spaced in `height`. loss (k,): their losses. floor: the zero of a log scale."""

    height: NDArray[np.float64]
    loss: NDArray[np.float64]
    log: bool
    floor: float

    def heights(self, loss: NDArray[np.float64]) -> NDArray[np.float64]:
        """The loss for the contours: itself, or log10 of the loss above the floor, cut below the levels."""
        if not self.log:
            return np.asarray(loss, dtype=np.float64)
        lowest = self.height[0] - 0.5 * (self.height[1] - self.height[0]) if len(self.height) > 1 else self.height[0]
        with np.errstate(invalid="ignore"):
            return np.asarray(np.log10(np.maximum(loss - self.floor, 10.0**lowest)))


def sample(function: Function, window: Window, resolution: int = 151) -> Surface:
    """The loss on a grid, in one call of the function, without gradients.

    Parameters
    ----------
    function : callable
        The loss as a function of x, (..., 2) -> (...), float64; or of a single point, (2,) -> (), which is mapped by
        vmap.
    window : ((float, float), (float, float))
        ((x low, x high), (y low, y high)).
    resolution : int, optional
        Grid points on each side, at least 2. Default 151.

    Returns
    -------
    Surface
        Grid and losses.

    Raises
    ------
    ArgumentError
        If the window is empty, the resolution is too small, or the function has wrong shapes.

    Examples
    --------
    >>> surface = sample(lambda x: (x**2).sum(-1), ((-1, 1), (0, 2)), resolution=3)
    >>> surface.loss
    array([[1., 0., 1.],
           [2., 1., 2.],
           [5., 4., 5.]])
    """
    window = read_window(window)
    if resolution < 2:
        raise ArgumentError(f"resolution={resolution!r} is too small; a grid needs at least 2 points on each side")
    x, y = (np.linspace(low, high, resolution) for low, high in window)
    return Surface(x, y, on_grid(function, x, y))


def on_grid(
    function: Callable[[torch.Tensor], Any], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """function over the grid, shape (len(y), len(x)); see `at_points`."""
    return at_points(function, np.stack(np.meshgrid(x, y), axis=-1))


def at_points(function: Callable[[torch.Tensor], Any], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The function at points (..., 2), shape (...), NaN if it is not finite.

    A function of a single point (2,) is mapped over the points by vmap. Raises ArgumentError if that fails too.
    """
    with torch.no_grad():
        values = _batched(function, torch.from_numpy(points))
    loss = values.to(torch.float64).numpy()
    return np.where(np.isfinite(loss), loss, np.nan)


def _batched(function: Callable[[torch.Tensor], Any], points: torch.Tensor) -> torch.Tensor:
    try:
        values = function(points)
        if isinstance(values, torch.Tensor) and values.shape == points.shape[:-1]:
            return values
    except (IndexError, RuntimeError, TypeError, ValueError):
        pass
    try:
        mapped: torch.Tensor = torch.vmap(function)(points.reshape(-1, 2)).reshape(points.shape[:-1])
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"the function cannot be drawn over the plane: it must map x (..., 2) to (...), or x (2,) to a scalar "
            f"under vmap: {error}"
        ) from error
    return mapped


def read_window(window: Any) -> Window:
    """The window as floats. Raises ArgumentError if it is not ((low, high), (low, high)) with low < high."""
    bounds = np.asarray(window, dtype=np.float64)
    if bounds.shape != (2, 2) or not np.isfinite(bounds).all() or (bounds[:, 0] >= bounds[:, 1]).any():
        raise ArgumentError(f"window={window!r} is not a window; pass ((x low, x high), (y low, y high)), low < high")
    (left, right), (bottom, top) = bounds.tolist()
    return (left, right), (bottom, top)


def window_around(points: NDArray[np.float64]) -> Window:
    """A window with a margin around the finite points of points (k, 2), not too narrow in either direction."""
    finite = points[np.isfinite(points).all(axis=1)] if len(points) else points
    if not len(finite):
        return (-1.0, 1.0), (-1.0, 1.0)
    low, high = finite.min(axis=0), finite.max(axis=0)
    widest = float((high - low).max()) or 2.0
    half = np.maximum(high - low, _NARROWEST * widest) * (0.5 + _MARGIN)
    (left, right), (bottom, top) = np.stack([(low + high) / 2 - half, (low + high) / 2 + half], axis=1).tolist()
    return (left, right), (bottom, top)


def contour_levels(loss: NDArray[np.float64], *, floor: float | None = None, log: bool | None = None) -> Levels:
    """At most 14 levels for a loss of any shape: log spaced above `floor`, or round and equally spaced.

    floor: the smallest known loss; default, and upper limit: the smallest loss of the grid. log: None chooses the log
    scale if most of the loss spans more than one and a half decades.
    """
    finite = loss[np.isfinite(loss)]
    if not finite.size or np.ptp(finite) == 0:
        at = float(finite[0]) if finite.size else 0.0
        return Levels(np.array([at]), np.array([at]), False, at)
    lowest = float(finite.min()) if floor is None else min(float(floor), float(finite.min()))
    above = finite[finite > lowest] - lowest
    low, high = np.quantile(above, _DEEPEST), above.max()
    if log is None:
        log = bool(np.log10(high / np.quantile(above, 0.05)) > _MANY_DECADES)
    return _log_levels(low, high, lowest) if log else _linear_levels(float(finite.min()), float(finite.max()), lowest)


def _log_levels(low: float, high: float, floor: float) -> Levels:
    decades = np.log10([low, high])
    step = next(step for step in _STEPS if np.ptp(decades) / step <= _MOST_LEVELS - 1)
    height = step * np.arange(np.ceil(decades[0] / step), np.floor(decades[1] / step) + 1)
    if not height.size:
        height = decades[:1]
    return Levels(height, floor + 10.0**height, True, floor)


def _linear_levels(low: float, high: float, floor: float) -> Levels:
    raw = (high - low) / (_MOST_LEVELS - 2)
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * next(nice for nice in (1, 2, 5, 10) if nice * power >= raw * (1 - 1e-9))
    height = step * np.arange(np.floor(low / step) + 1, np.ceil(high / step))
    return Levels(height, height, False, floor)
