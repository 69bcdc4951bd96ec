"""Charts behind a slider: one is shown at a time. A saved notebook keeps the slider; where there is none, a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from ..errors import ArgumentError
from .bundle import bundle
from .chart import Chart, Layer
from .chart_figure import chart_sketch
from .chart_picture import chart_picture
from .frontend import HEADLESS, TERMINAL, front_end
from .palette import INK

__all__ = ["show_slider", "slider_figure"]

_SLIDER_HEIGHT = 90


def slider_figure(charts: Mapping[str, Chart], label: str, *, start: str | None = None, height: int = 360) -> go.Figure:
    """One figure for several charts, with a slider that chooses which is shown. It needs no kernel.

    A layer that is the same object in all charts is stored once. Axes and size are those of the first chart.

    Parameters
    ----------
    charts : dict of str to Chart
        By the text at their place of the slider.
    label : str
        What the slider changes.
    start : str or None, optional
        The chart that is shown at first. Default None: the first.
    height : int, optional
        Height of the plot area with its axes, in pixels. Default 360.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.

    Raises
    ------
    ArgumentError
        If start is none of the charts, or there is none.

    Examples
    --------
    >>> lines = {f"{a}": Chart((Mark(np.arange(2.0), a * np.arange(2.0)),), Axis("x"), Axis("a x")) for a in (1, 2)}
    >>> figure = slider_figure(lines, "slope", start="2")
    >>> [trace.visible for trace in figure.data], figure.layout.sliders[0].active
    ([False, True], 1)
    """
    names = list(charts)
    shown = _known(names, start)
    layers, places = _distinct(charts)
    first = charts[names[0]]
    data: list[dict[str, Any]] = []
    owners: list[set[str]] = []
    for layer, owner in zip(layers, places, strict=True):
        traces, _ = chart_sketch(first._replace(layers=(layer,)))
        data += traces
        owners += [owner] * len(traces)
    layout = chart_sketch(charts[shown], height=height)[1]
    layout["height"] += _SLIDER_HEIGHT
    layout["margin"]["b"] += _SLIDER_HEIGHT
    steps = [
        {"label": name, "method": "restyle", "args": [{"visible": [name in owner for owner in owners]}]}
        for name in names
    ]
    current = {"prefix": f"{label}: ", "font": {"size": 13, "color": INK}}
    layout["sliders"] = [
        {
            "active": names.index(shown),
            "steps": steps,
            "currentvalue": current,
            "pad": {"t": 52},
            "font": {"color": INK},
        }
    ]
    return go.Figure([{**trace, "visible": shown in owner} for trace, owner in zip(data, owners, strict=True)], layout)


def show_slider(
    charts: Mapping[str, Chart], label: str, *, start: str | None = None, alt: str = "", height: int = 360
) -> None:
    """Display `slider_figure`. Where nothing draws it, as in a printed notebook, the picture of `start` is shown.

    Parameters
    ----------
    charts : dict of str to Chart
        By the text at their place of the slider.
    label : str
        What the slider changes.
    start : str or None, optional
        The chart that is shown at first. Default None: the first.
    alt : str, optional
        What is to be seen, in words. Default: the chart's title.
    height : int, optional
        Height of the plot area with its axes, in pixels. Default 360.

    Raises
    ------
    ArgumentError
        If start is none of the charts, or there is none.

    Examples
    --------
    >>> charts = {"1": Chart((), Axis("x"), Axis("y"), title="Nothing yet")}
    >>> show_slider(charts, "a")
    a: 1 of 1. Nothing yet
    """
    figure = slider_figure(charts, label, start=start, height=height)
    shown = _known(list(charts), start)
    words = alt or charts[shown].title
    where = front_end()
    if where == TERMINAL:
        print(f"{label}: {shown} of {', '.join(charts)}. {words}")
        return
    from IPython.display import display

    png = None
    if where == HEADLESS:
        picture = chart_picture(charts[shown]._replace(title=f"{charts[shown].title} ({label} {shown})"), height=4.2)
        png = picture._repr_png_()
    display(bundle(figure, words, png), raw=True)


def _known(names: list[str], start: str | None) -> str:
    if not names or (start is not None and start not in names):
        raise ArgumentError(f"start {start!r} is not one of the charts; choose one of {', '.join(map(repr, names))}")
    return names[0] if start is None else start


def _distinct(charts: Mapping[str, Chart]) -> tuple[list[Layer], list[set[str]]]:
    """The layers, each once, and for each the names of the charts that have it."""
    layers: list[Layer] = []
    places: list[set[str]] = []
    for name, chart in charts.items():
        for layer in chart.layers:
            known = next((index for index, other in enumerate(layers) if other is layer), None)
            if known is None:
                layers.append(layer)
                places.append({name})
            else:
                places[known].add(name)
    return layers, places
