"""Runs on the landscape of their loss: the surface, the trajectories, and the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.history.history import History
from ..core.objective.constraints import Constraint
from ..errors import ArgumentError
from .surface import (
    Function,
    Levels,
    Surface,
    Window,
    at_points,
    contour_levels,
    on_grid,
    read_window,
    sample,
    window_around,
)

__all__ = ["Boundary", "Landscape", "Path", "Runs", "landscape_data", "named_runs", "path_of"]

Runs = History | Mapping[str, History]
_CIRCLE = np.linspace(0, 2 * np.pi, 97)


class Path(NamedTuple):
    """One run in the plane. iterates (k, 2) and their losses (k,); others are points (m, 2).

    trials: evaluated, but never held. rejected: trial points of rejected trust-region steps. region: outline of the
    trust region around the last iterate. iteration: of the last iterate shown.
    """

    name: str
    iterates: NDArray[np.float64]
    losses: NDArray[np.float64]
    trials: NDArray[np.float64]
    rejected: NDArray[np.float64]
    region: NDArray[np.float64]
    iteration: int
    ended: bool

    @property
    def start(self) -> NDArray[np.float64]:
        """Shape (1, 2), or (0, 2)."""
        return self.iterates[:1]

    @property
    def last(self) -> NDArray[np.float64]:
        """Shape (1, 2), or (0, 2)."""
        return self.iterates[-1:]


class Boundary(NamedTuple):
    """slack (ny, nx) of a constraint on the grid: negative outside. equality: it is 0 on the feasible curve."""

    slack: NDArray[np.float64]
    equality: bool


class Landscape(NamedTuple):
    """Runs on the contours of their loss: what is drawn.

    Attributes
    ----------
    surface : Surface
        The loss on a grid.
    levels : Levels
        The contour levels.
    paths : tuple of Path
        The runs.
    minimizers : ndarray of shape (k, 2)
        The known minima, float64.
    box : ((float, float), (float, float)) or None
        The bounds of x and of y; an open side is infinite.
    boundaries : tuple of Boundary
        The constraints on the grid.
    axes : tuple of (str, str)
        What x and y are, in words.
    note : str
        A sentence below the picture.

    See Also
    --------
    landscape_data : makes it, and has an example.
    """

    surface: Surface
    levels: Levels
    paths: tuple[Path, ...]
    minimizers: NDArray[np.float64]
    box: tuple[tuple[float, float], tuple[float, float]] | None
    boundaries: tuple[Boundary, ...]
    axes: tuple[str, str]
    note: str = ""


def landscape_data(
    function: Function | Surface,
    histories: Runs | None = None,
    *,
    window: Window | None = None,
    resolution: int = 151,
    up_to: int | None = None,
    log: bool | None = None,
    minimizers: Iterable[Sequence[float]] = (),
    best_loss: float | None = None,
    bounds: tuple[Any, Any] | None = None,
    constraints: Any = (),
    scale: Any = 1.0,
    region: bool | None = None,
    trials: bool = False,
) -> Landscape:
    """Runs of two parameters on the contours of their loss.

    Parameters
    ----------
    function : callable or Surface
        The loss as a function of x, (..., 2) -> (...), float64; or a Surface that was sampled before.
    histories : History or dict of str to History, optional
        Runs by name, with ``keep_parameters=True``; also with ``keep_evaluations=True`` for rejected steps and trials.
    window : ((float, float), (float, float)) or None, optional
        ((x low, x high), (y low, y high)). Default: the runs and the minimizers, with a margin.
    resolution : int, optional
        Grid points on each side. Default 151.
    up_to : int or None, optional
        Show iterates 0 to `up_to` only. Default: all.
    log : bool or None, optional
        Logarithmic contours. They are counted from the smallest loss that is known: of the runs, the grid, the
        minimizers and `best_loss`. Default: chosen by the loss.
    minimizers : iterable of array_like of shape (2,), optional
        Known minima.
    best_loss : float or None, optional
        The known minimum of the loss.
    bounds : (low, high) or None, optional
        Bounds: numbers, or arrays of shape (2,).
    constraints : callable, Constraint or list of them, optional
        Functions of x, (..., 2) -> (...), feasible where ≥ 0; or Constraint objects whose function takes x, (..., 2).
    scale : float or array_like of shape (2,), optional
        Scale of the parameters: the trust region is a circle in x/scale. Default 1.
    region : bool or None, optional
        Draw the trust region around the last iterate. Default: with `up_to` only.
    trials : bool, optional
        Mark every point that was evaluated. Default False.

    Returns
    -------
    Landscape
        What is drawn.

    Raises
    ------
    ArgumentError
        If something does not have two parameters.
    HistoryError
        If a run has kept no points.

    Examples
    --------
    >>> rosenbrock = lambda x: (1 - x[..., 0]) ** 2 + 100 * (x[..., 1] - x[..., 0] ** 2) ** 2
    >>> x0 = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    >>> history = minimize(rosenbrock, x0, "BFGS", keep_parameters=True).history
    >>> landscape = landscape_data(rosenbrock, history, minimizers=[(1, 1)], resolution=31)
    >>> landscape.surface.loss.shape, landscape.levels.log, landscape.paths[0].name
    ((31, 31), True, 'BFGS')
    """
    runs = named_runs(histories)
    widths = np.broadcast_to(np.asarray(scale, dtype=np.float64), (2,))
    shown_region = up_to is not None if region is None else region
    paths = tuple(path_of(name, history, up_to=up_to, scale=widths, region=shown_region) for name, history in runs)
    paths = tuple(path if trials else path._replace(trials=np.empty((0, 2))) for path in paths)
    minima = np.array([tuple(map(float, each)) for each in minimizers], dtype=np.float64).reshape(-1, 2)
    surface = _surface(function, window, resolution, runs, minima)
    known = np.concatenate([*(path.losses for path in paths), _at_minima(function, minima)])
    best_losses = [] if best_loss is None else [float(best_loss)]
    floor = min([*known[np.isfinite(known)].tolist(), *best_losses], default=None)
    return Landscape(
        surface=surface,
        levels=contour_levels(surface.loss, floor=floor, log=log),
        paths=paths,
        minimizers=minima,
        box=None if bounds is None else _box(bounds),
        boundaries=tuple(_boundary(each, surface) for each in _listed(constraints)),
        axes=("x₁", "x₂"),
    )


def path_of(
    name: str,
    history: History,
    *,
    up_to: int | None = None,
    scale: NDArray[np.float64] | None = None,
    region: bool = False,
) -> Path:
    """A run of two parameters as a path: its first up_to + 1 iterates, or all of them. See `landscape_data`."""
    iterates = history.parameters.reshape(-1, history.parameters.shape[1] if len(history) else 2)
    if iterates.shape[1] != 2:
        raise ArgumentError(
            f"{name} has {iterates.shape[1]} parameters, and a landscape needs two: show a larger problem in a plane, "
            f"for example of trajectory_plane"
        )
    last = len(iterates) - 1 if up_to is None else max(0, min(int(up_to), len(iterates) - 1))
    trials, rejected = _trials(history, last)
    return Path(
        name=name,
        iterates=iterates[: last + 1],
        losses=history.loss[: last + 1],
        trials=trials,
        rejected=rejected,
        region=_region(history, last, iterates, scale) if region else np.empty((0, 2)),
        iteration=last,
        ended=last == len(iterates) - 1,
    )


def named_runs(histories: Runs | None) -> list[tuple[str, History]]:
    """(name, history) of each run; a single run has the name of its method."""
    if histories is None:
        return []
    return [(histories.method, histories)] if isinstance(histories, History) else list(histories.items())


def _trials(history: History, last: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All trials up to iteration `last`, and the trials of rejected trust-region steps: the last of each iteration."""
    if not (history.keep_parameters and history.keep_evaluations) or not history.evaluations:
        return np.empty((0, 2)), np.empty((0, 2))
    points = history.trials
    of = np.array([evaluation.iteration for evaluation in history.evaluations[: len(points)]])
    final = {int(iteration): index for index, iteration in enumerate(of)}
    rejected = [final[it.index] for it in history[: last + 1] if it.accepted is False and it.index in final]
    held = {point.tobytes() for point in history.parameters}
    tried = [index for index in np.flatnonzero(of <= last) if points[index].tobytes() not in held]
    return points[tried].reshape(-1, 2), points[rejected].reshape(-1, 2)


def _region(
    history: History, last: int, iterates: NDArray[np.float64], scale: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    radius = history.trust_radius[last] if len(history) else np.nan
    if not np.isfinite(radius):
        return np.empty((0, 2))
    circle = np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], axis=1)
    return np.asarray(iterates[last] + radius * (1.0 if scale is None else scale) * circle)


def _surface(
    function: Function | Surface,
    window: Window | None,
    resolution: int,
    runs: list[tuple[str, History]],
    minima: NDArray[np.float64],
) -> Surface:
    if isinstance(function, Surface):
        return function
    # From the whole runs, so that a slider moves the run and not the window.
    around = [history.parameters for _, history in runs if len(history)]
    chosen = window_around(np.concatenate([*around, minima])) if window is None else read_window(window)
    return sample(function, chosen, resolution)


def _at_minima(function: Function | Surface, minima: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.empty(0) if isinstance(function, Surface) or not len(minima) else at_points(function, minima)


def _box(bounds: tuple[Any, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    low, high = (
        np.broadcast_to(np.asarray(edge if edge is not None else default, dtype=np.float64).ravel(), (2,))
        for edge, default in zip(bounds, (-np.inf, np.inf), strict=True)
    )
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def _listed(constraints: Any) -> list[Any]:
    return list(constraints) if isinstance(constraints, Sequence) else [constraints]


def _boundary(constraint: Constraint | Callable[[torch.Tensor], Any], surface: Surface) -> Boundary:
    if not isinstance(constraint, Constraint):
        return Boundary(on_grid(constraint, surface.x, surface.y), equality=False)
    lower = torch.as_tensor(-np.inf if constraint.lower is None else constraint.lower, dtype=torch.float64)
    upper = torch.as_tensor(np.inf if constraint.upper is None else constraint.upper, dtype=torch.float64)
    equality = bool((lower == upper).all()) and lower.numel() == 1

    def slack(x: torch.Tensor) -> torch.Tensor:
        values = constraint.fun(x)
        return (values - lower).sum() if equality else torch.minimum(values - lower, upper - values).min()

    # One point at a time: fun may return a vector, and may not support batches.
    return Boundary(on_grid(torch.vmap(torch.vmap(slack)), surface.x, surface.y), equality)
