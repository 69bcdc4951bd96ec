"""Histories as one HTML page with a play button: curves that grow, and paths on the landscape of their loss.

The page brings plotly.js with it and asks no network. As everywhere: first the data of each frame, then the drawing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from ..analysis.landscape import landscape_data
from ..core.display.html import Html, html, html_page
from ..core.history.history import History
from ..core.signatures import shares_parameters, shows_keywords
from ..core.storage.atomic_files import write_text
from ..errors import ArgumentError
from .palette import GRID, HIDDEN_BUTTONS, INK, style
from .plotly_text import plotly_text

__all__ = ["Animation", "Track", "animated_html", "animation_data", "animation_figure"]

FRAMES = 120
"""No more frames than this: a slider has no finer steps, and each frame carries its curves."""
_POINTS = 240
_MILLISECONDS = 80


class Track(NamedTuple):
    """One run: iterations, loss and gradient norm, shape (k,), and its path (k, 2) where it is one in the plane."""

    name: str
    iterations: NDArray[np.float64]
    loss: NDArray[np.float64]
    grad_norm: NDArray[np.float64]
    path: NDArray[np.float64] | None

    def until(self, iteration: int) -> Track:
        """What was known at this iteration, thinned."""
        kept = np.flatnonzero(self.iterations <= iteration)
        if kept.size > _POINTS:
            kept = kept[np.unique(np.linspace(0, kept.size - 1, _POINTS).astype(int))]
        path = None if self.path is None else self.path[kept]
        return Track(self.name, self.iterations[kept], self.loss[kept], self.grad_norm[kept], path)


class Animation(NamedTuple):
    """The runs, and the iterations at which there is a frame."""

    tracks: tuple[Track, ...]
    frames: tuple[int, ...]

    @property
    def plane(self) -> bool:
        """Whether any run has a path in the plane."""
        return any(track.path is not None for track in self.tracks)


def animation_data(histories: Mapping[str, History] | History, *, frames: int = FRAMES) -> Animation:
    """The tracks of one or several runs and the iterations to stop at, first and last included.

    Raises ArgumentError where no run has an iteration.
    """
    named = {histories.method: histories} if isinstance(histories, History) else histories
    tracks = tuple(_track(name, history) for name, history in named.items() if len(history))
    if not tracks:
        raise ArgumentError("there is no iteration to animate; run the optimizer first")
    last = int(max(track.iterations[-1] for track in tracks))
    return Animation(tracks, tuple(np.unique(np.linspace(0, last, min(frames, last + 1)).round().astype(int)).tolist()))


@shows_keywords(landscape_data)
def animation_figure(
    histories: Mapping[str, History] | History, *, function: Any = None, title: str = "", **landscape: Any
) -> go.Figure:
    """The animation as a Plotly figure with a slider over iterations, a play and a pause button.

    function: the loss, x (..., 2) -> (...); with it, runs of two parameters that were kept with keep_parameters=True
    cross its landscape. The other keywords: of `landscape_data`, such as window and minimizers.
    """
    animation = animation_data(histories)
    plane = function is not None and animation.plane
    background = _background(histories, function, landscape) if plane else []
    ends = [_traces(track, place, plane=plane) for place, track in enumerate(animation.tracks)]
    figure = go.Figure(
        [*background, *(trace for traces in ends for trace in traces)], layout=_layout(animation, title, plane)
    )
    moving = list(range(len(background), len(figure.data)))
    figure.frames = [
        go.Frame(
            name=str(iteration),
            traces=moving,
            data=[
                trace
                for place, track in enumerate(animation.tracks)
                for trace in _traces(track.until(iteration), place, plane=plane, whole=False)
            ],
        )
        for iteration in animation.frames
    ]
    return figure


@shares_parameters(landscape_data)
@shows_keywords(landscape_data)
def animated_html(
    histories: Mapping[str, History] | History,
    path: str | Path | None = None,
    *,
    function: Any = None,
    title: str = "",
    **landscape: Any,
) -> str:
    """An animation of one or several runs as a whole HTML page, which works from a file and without a network.

    Curves grow under a slider, with a play button. The page has plotly.js in it, about 5 MB.

    Parameters
    ----------
    histories : History or dict of str to History
        The runs by name.
    path : str, Path or None, optional
        File that the page is also written to.
    function : callable or None, optional
        The loss as a function of x, (..., 2) -> (...). Runs of two parameters are then drawn on its landscape.
    title : str, optional
        Title. Default: the names of the runs.
    {shared}

    Returns
    -------
    str
        The page.

    Raises
    ------
    ArgumentError
        If there is no iteration.

    Examples
    --------
    >>> history = minimize(lambda x: (x**2).sum(), [3.0, 4.0], "CG").history
    >>> page = animated_html(history, "run.html", title="Two squares")
    >>> "<h1>Two squares</h1>" in page
    True
    """
    figure = animation_figure(histories, function=function, **landscape)
    named = histories.method if isinstance(histories, History) else ", ".join(histories)
    body = figure.to_html(
        full_html=False, include_plotlyjs=True, auto_play=False, config={"displaylogo": False, "responsive": True}
    )
    text = html_page(title or named, html("<h1>{title}</h1>{body}", title=title or named, body=Html(body)))
    if path is not None:
        write_text(path, text)
    return text


def _track(name: str, history: History) -> Track:
    index = history.column("index").astype(np.float64)
    kept = history.parameters if history.keep_parameters and history.n_parameters == 2 else None
    path = kept if kept is not None and kept.shape == (index.size, 2) else None
    return Track(name, index, history.column("loss"), history.column("grad_norm").astype(np.float64), path)


def _background(histories: Mapping[str, History] | History, function: Any, options: dict[str, Any]) -> list[Any]:
    """The contours under the paths, moved to the axes on the right."""
    from .landscape import landscape_figure

    traces = landscape_figure(function, histories, **options).data
    contours = [trace for trace in traces if trace.type == "contour"]
    for trace in contours:
        trace.update(xaxis="x2", yaxis="y3", showlegend=False, showscale=False)
    return contours


def _traces(track: Track, place: int, *, plane: bool, whole: bool = True) -> list[dict[str, Any]]:
    """Loss, gradient norm and path of one run; the attributes that never change only where `whole`."""
    colour, dash, _ = style(place)
    fixed = {"type": "scatter", "mode": "lines", "name": plotly_text(track.name), "legendgroup": track.name}
    line = {"line": {"color": colour, "dash": dash, "width": 2}}
    loss: dict[str, Any] = {"x": track.iterations, "y": _drawn(track.loss)}
    gradient: dict[str, Any] = {"x": track.iterations, "y": _drawn(track.grad_norm)}
    if whole:
        loss |= {**fixed, **line, "yaxis": "y", "hovertemplate": "loss %{y:.5g}<extra></extra>"}
        gradient |= {**fixed, **line, "yaxis": "y2", "showlegend": False}
    traces = [loss, gradient]
    if plane:
        points = np.empty((0, 2)) if track.path is None else track.path
        way: dict[str, Any] = {"x": points[:, 0], "y": points[:, 1]}
        if whole:
            marker = {"size": 5, "color": colour}
            way |= {**fixed, **line, "mode": "lines+markers", "marker": marker}
            way |= {"xaxis": "x2", "yaxis": "y3", "showlegend": False}
        traces.append(way)
    return traces


def _drawn(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, np.nan)


def _layout(animation: Animation, title: str, plane: bool) -> dict[str, Any]:
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": GRID, "automargin": True, "exponentformat": "power"}
    width = 0.46 if plane else 1.0
    losses, gradients = ([getattr(track, name) for track in animation.tracks] for name in ("loss", "grad_norm"))
    layout = {
        "height": 620,
        "title": {"text": plotly_text(title), "x": 0},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 12},
        "modebar": {"remove": HIDDEN_BUTTONS},
        "margin": {"l": 72, "r": 24, "t": 48, "b": 24},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "xaxis": {**axis, "title": {"text": "iteration"}, "anchor": "y2", "domain": [0, width], **_span(animation)},
        "yaxis": {**axis, **_axis(losses), "title": {"text": "loss"}, "domain": [0.54, 1.0]},
        "yaxis2": {**axis, **_axis(gradients), "title": {"text": "gradient norm"}, "domain": [0.0, 0.46]},
        "sliders": [_slider(animation, plane)],
        "updatemenus": [_buttons(plane)],
    }
    if plane:
        right = {**axis, "domain": [width + 0.1, 1.0], "anchor": "y3", "title": {"text": "x₁"}}
        layout |= {"xaxis2": right, "yaxis3": {**axis, "anchor": "x2", "title": {"text": "x₂"}}}
    return layout


def _span(animation: Animation) -> dict[str, Any]:
    """A fixed range: axes that move hide what grows."""
    last = max(animation.frames[-1], 1)
    return {"range": [-0.02 * last, 1.02 * last]}


def _axis(columns: list[NDArray[np.float64]]) -> dict[str, Any]:
    values = np.concatenate(columns)
    values = values[np.isfinite(values)]
    if not values.size:
        return {"type": "linear", "range": [0, 1]}
    log = bool((values > 0).all())
    shown = np.log10(values) if log else values
    margin = 0.05 * (float(np.ptp(shown)) or 1.0)
    return {"type": "log" if log else "linear", "range": [float(shown.min()) - margin, float(shown.max()) + margin]}


def _jump(plane: bool) -> dict[str, Any]:
    # Without redraw, Plotly wipes the contours under the paths.
    return {"mode": "immediate", "frame": {"duration": 0, "redraw": plane}, "transition": {"duration": 0}}


def _slider(animation: Animation, plane: bool) -> dict[str, Any]:
    steps = [
        {"label": str(frame), "method": "animate", "args": [[str(frame)], _jump(plane)]} for frame in animation.frames
    ]
    return {
        "active": len(steps) - 1,
        "steps": steps,
        "x": 0.14,
        "len": 0.86,
        "pad": {"t": 48},
        "currentvalue": {"prefix": "iteration "},
    }


def _buttons(plane: bool) -> dict[str, Any]:
    running = {
        "frame": {"duration": _MILLISECONDS, "redraw": plane},
        "transition": {"duration": 0},
        "fromcurrent": True,
        "mode": "immediate",
    }
    return {
        "type": "buttons",
        "direction": "left",
        "showactive": False,
        "x": 0,
        "y": 0,
        "xanchor": "left",
        "yanchor": "top",
        "pad": {"t": 68},
        "buttons": [
            {"label": "Play", "method": "animate", "args": [None, running]},
            {"label": "Pause", "method": "animate", "args": [[None], _jump(plane)]},
        ],
    }
