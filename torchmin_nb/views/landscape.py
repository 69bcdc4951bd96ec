"""Runs on the landscape of their loss, drawn by Plotly or by matplotlib: one description, two pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..analysis.landscape import Landscape, Path, Runs, landscape_data
from ..analysis.surface import Function, Levels, Surface
from ..core.signatures import shares_parameters, shows_keywords
from .chart import Axis, Chart, Contours, Layer, Mark, Region, superscript
from .palette import INK, WARNING, style

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .chart_picture import Picture

__all__ = ["landscape_chart", "landscape_figure", "landscape_picture", "level_labels", "surface_layers"]

_MOST_UNEVEN = 2.5
"""Up to this ratio of the window's sides, one unit is as long on both axes: gradients then cross contours squarely."""
_MARKED = 80
_NOT_SEEN = 0.02


@shares_parameters(landscape_data)
@shows_keywords(landscape_data)
def landscape_figure(
    function: Function | Surface | Landscape, histories: Runs | None = None, *, title: str = "", **options: Any
) -> go.Figure:
    """Runs of two parameters on the contours of their loss, as a Plotly figure.

    Parameters
    ----------
    function : callable, Surface or Landscape
        The loss as a function of x, (..., 2) -> (...), float64; or a Surface or Landscape that was made before.
    histories : History or dict of str to History, optional
        Runs by name, with ``keep_parameters=True``.
    title : str, optional
        Title.
    {shared}

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.

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
    >>> figure = landscape_figure(rosenbrock, history, minimizers=[(1, 1)], resolution=31)
    >>> [trace.name for trace in figure.data if trace.name]
    ['BFGS', 'start', 'end', 'known minimum']
    """
    from .chart_figure import chart_figure

    return chart_figure(landscape_chart(_landscape(function, histories, options), title))


@shares_parameters(landscape_data)
@shows_keywords(landscape_data)
def landscape_picture(
    function: Function | Surface | Landscape, histories: Runs | None = None, *, title: str = "", **options: Any
) -> Picture:
    """Runs of two parameters on the contours of their loss, by matplotlib: a Figure of 7.2 × 5.4 inches.

    Parameters
    ----------
    function : callable, Surface or Landscape
        The loss as a function of x, (..., 2) -> (...), float64; or a Surface or Landscape that was made before.
    histories : History or dict of str to History, optional
        Runs by name, with ``keep_parameters=True``.
    title : str, optional
        Title.
    {shared}

    Returns
    -------
    Picture
        A matplotlib Figure.

    Raises
    ------
    ArgumentError
        If something does not have two parameters.
    HistoryError
        If a run has kept no points.

    Examples
    --------
    >>> picture = landscape_picture(lambda x: (x**2).sum(-1), window=((-1, 1), (-1, 1)), resolution=31)
    >>> picture.axes[0].get_xbound() == (-1, 1), picture.axes[0].get_xlabel()
    (True, 'x₁')
    """
    from .chart_picture import chart_picture

    return chart_picture(landscape_chart(_landscape(function, histories, options), title))


def landscape_chart(landscape: Landscape, title: str = "") -> Chart:
    """A landscape as a Chart, without a drawing library.

    Parameters
    ----------
    landscape : Landscape
        From `landscape_data` or `plane_landscape`.
    title : str, optional
        Title.

    Returns
    -------
    Chart
        What is drawn.

    Examples
    --------
    >>> from torchmin_nb.analysis import landscape_data
    >>> landscape = landscape_data(lambda x: (x**2).sum(-1), window=((-1, 1), (-1, 1)), resolution=31)
    >>> chart = landscape_chart(landscape)
    >>> chart.x.title, chart.contours()[0].z.shape
    ('x₁', (31, 31))
    """
    (left, right), (bottom, top) = landscape.surface.window
    ratio = (right - left) / (top - bottom)
    return Chart(
        layers=(
            *surface_layers(landscape.surface, landscape.levels),
            *_limits(landscape),
            *(mark for index, path in enumerate(landscape.paths) for mark in _path(path, index)),
            *_points(landscape),
        ),
        x=Axis(landscape.axes[0], range=(left, right)),
        y=Axis(landscape.axes[1], range=(bottom, top)),
        title=title,
        notes=(landscape.note,) if landscape.note else (),
        square=1 / _MOST_UNEVEN <= ratio <= _MOST_UNEVEN,
    )


def _landscape(function: Function | Surface | Landscape, histories: Runs | None, options: dict[str, Any]) -> Landscape:
    return function if isinstance(function, Landscape) else landscape_data(function, histories, **options)


def surface_layers(surface: Surface, levels: Levels, what: str = "loss") -> list[Layer]:
    """The contours of a surface; what: it is a surface of. Nothing if it is flat or has no finite value."""
    if len(levels.height) < 2:
        return []
    height = levels.heights(surface.loss)
    title = what if _from_zero(levels) else f"{what} above {levels.floor:.5g}"
    return [Contours(surface.x, surface.y, height, levels.height, level_labels(levels), title, surface.loss)]


def _from_zero(levels: Levels) -> bool:
    """Whether the loss and what it has above the floor are the same, to the width of a contour line."""
    return not levels.log or abs(levels.floor) < _NOT_SEEN * 10 ** float(levels.height[0])


def level_labels(levels: Levels) -> tuple[str, ...]:
    """One text a level: powers of ten, or the loss; some are empty where they would touch."""
    if not levels.log:
        every = -(-len(levels.loss) // 7)
        return tuple(f"{loss:.4g}" if index % every == 0 else "" for index, loss in enumerate(levels.loss))
    whole = [height for height in levels.height if height == round(height)]
    if len(whole) < 2:
        return tuple(f"{10**height:.2g}" for height in levels.height)
    every = -(-len(whole) // 8)
    return tuple(
        _power(int(height)) if height == round(height) and int(height - whole[0]) % (every * _gap(whole)) == 0 else ""
        for height in levels.height
    )


def _gap(whole: list[float]) -> int:
    return int(whole[1] - whole[0])


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g}" if -3 < exponent < 4 else f"10{superscript(exponent)}"


def _path(path: Path, index: int) -> list[Mark]:
    colour, dash, marker = style(index)
    few = len(path.iterates) <= _MARKED
    texts = tuple(
        f"{path.name} {k}\n{x:.5g}, {y:.5g}\nloss {loss:.5g}"
        for k, ((x, y), loss) in enumerate(zip(path.iterates, path.losses, strict=True))
    )
    x, y = path.iterates.T if len(path.iterates) else np.empty((2, 0))
    line = Mark(x, y, path.name, colour, dash, 2, marker if few else "", 6, texts=texts, group=path.name)
    return [
        *_dots(path.trials, "", colour, "circle", 3.5, path.name),
        line,
        *_outline(path.region, f"trust region · {path.name}", colour, path.name),
        *_dots(path.rejected, "rejected trial", WARNING, "x", 9, "rejected trial"),
    ]


def _points(landscape: Landscape) -> list[Mark]:
    """Starts and ends over all runs, so that the legend tells each kind once, and known minima."""
    starts = [path.start for path in landscape.paths]
    ends = [path.last for path in landscape.paths]
    at_end = all(path.ended for path in landscape.paths)
    return [
        *_dots(_joined(starts), "start", INK, "circle", 11, "start", hollow=True),
        *_dots(_joined(ends), "end" if at_end else "iterate", INK, "square", 11, "end", hollow=True),
        *_dots(landscape.minimizers, "known minimum", INK, "star", 13, "known minimum"),
    ]


def _joined(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(parts) if parts else np.empty((0, 2))


def _dots(
    points: NDArray[np.float64], name: str, colour: str, marker: str, size: float, group: str, *, hollow: bool = False
) -> list[Mark]:
    if not len(points):
        return []
    texts = tuple(f"{name or 'trial'}\n{x:.5g}, {y:.5g}" for x, y in points)
    return [Mark(points[:, 0], points[:, 1], name, colour, "", 2, marker, size, hollow, texts=texts, group=group)]


def _outline(points: NDArray[np.float64], name: str, colour: str, group: str) -> list[Mark]:
    return [Mark(points[:, 0], points[:, 1], name, colour, "dot", 2, group=group)] if len(points) else []


def _limits(landscape: Landscape) -> list[Layer]:
    surface = landscape.surface
    regions: list[Layer] = [
        Region(surface.x, surface.y, each.slack, _boundary_name(each.equality), WARNING, not each.equality)
        for each in landscape.boundaries
    ]
    return regions if landscape.box is None else [*regions, _box(landscape)]


def _boundary_name(equality: bool) -> str:
    return "constraint (must hold)" if equality else "outside the constraint"


def _box(landscape: Landscape) -> Mark:
    """The bounds; an infinite one lies beyond the window."""
    assert landscape.box is not None
    (left, right), (bottom, top) = (
        np.clip(edges, low - 1.0 * (high - low), high + 1.0 * (high - low)).tolist()
        for edges, (low, high) in zip(landscape.box, landscape.surface.window, strict=True)
    )
    x = np.array([left, right, right, left, left])
    return Mark(x, np.array([bottom, bottom, top, top, bottom]), "bounds", INK, "longdash", 2)
