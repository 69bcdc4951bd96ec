"""A Chart drawn by Plotly: transparent background, text that reads on light and dark, not clipped from 600 px up."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from .._public import called_as_its_function
from ..core.display.html import Html, html
from .chart import FEW_DECADES, Axis, Chart, Contours, Layer, Mark, Region, wrapped_lines
from .palette import CLEAR, GRID, HIDDEN_BUTTONS, INK, LOOK
from .plotly_text import plotly_text

__all__ = ["chart_figure", "chart_sketch"]

called_as_its_function(__name__)

_LINE_HEIGHT = 18
_LEFT, _HEADING = 72, 14
_TITLE_WIDTH = 70
_NOTE_WIDTH = 86
_SHADES = [[0.0, "rgba(120,120,140,0.55)"], [0.5, "rgba(125,125,140,0.25)"], [1.0, "rgba(128,128,140,0.03)"]]
_LEGEND_ROW, _KEY_WIDTH, _LETTER_WIDTH, _NARROWEST = 20, 52, 6.6, 560


def chart_figure(chart: Chart, *, height: int = 520) -> go.Figure:
    """A chart as a Plotly figure.

    Parameters
    ----------
    chart : Chart
        What is drawn.
    height : int, optional
        Height of the plot area with its axes, in pixels. Titles and legend come on top. Default 520.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.

    Examples
    --------
    >>> parabola = Mark(np.arange(4.0), np.arange(4.0) ** 2, "parabola")
    >>> figure = chart_figure(Chart((parabola,), Axis("k"), Axis("k²")))
    >>> figure.data[0].name, figure.data[0].y
    ('parabola', array([0., 1., 4., 9.]))
    """
    return go.Figure(*chart_sketch(chart, height=height))


def chart_sketch(chart: Chart, *, height: int = 520) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Its traces and its layout, for a figure that stays and is brought up to date."""
    return [trace for layer in chart.layers for trace in _traces(layer)], _layout(chart, height)


def _traces(layer: Layer) -> list[dict[str, Any]]:
    if isinstance(layer, Contours):
        return [_contours(layer)]
    return _region(layer) if isinstance(layer, Region) else [_mark(layer)]


def _mark(mark: Mark) -> dict[str, Any]:
    symbol = f"{mark.marker}-open" if mark.hollow else mark.marker
    mode = "+".join([*(["lines"] if mark.dash else []), *(["markers"] if mark.marker else [])])
    return {
        "type": "scatter",
        "x": mark.x,
        "y": mark.y,
        "mode": mode,
        "name": plotly_text(mark.name),
        "showlegend": bool(mark.name),
        "legendgroup": mark.group or mark.name or None,
        "line": {
            "color": mark.colour,
            "dash": mark.dash or "solid",
            "width": mark.width,
            "shape": mark.steps or "linear",
        },
        "marker": {
            "symbol": symbol or "circle",
            "size": mark.size,
            "color": mark.colour,
            "line": {"width": 2 if mark.hollow else 0, "color": mark.colour},
        },
        "fill": "toself" if mark.fill else "none",
        "fillcolor": mark.fill or None,
        "text": [plotly_text(text) for text in mark.texts] or None,
        "hoverinfo": "text" if mark.texts else "skip",
        "connectgaps": False,
    }


def _contours(layer: Contours) -> dict[str, Any]:
    first, last, size = layer.levels[0], layer.levels[-1], 1.0
    if len(layer.levels) > 1:
        size = layer.levels[1] - layer.levels[0]
    return {
        "type": "contour",
        "x": layer.x,
        "y": layer.y,
        "z": layer.z,
        "customdata": layer.value,
        "hovertemplate": "%{x:.4g}, %{y:.4g}<br>loss %{customdata:.5g}<extra></extra>",
        "autocontour": False,
        "contours": {"start": first, "end": last + size / 1000, "size": size, "coloring": "heatmap"},
        "line": {"color": "rgba(128,128,128,0.65)", "width": 0.8},
        "colorscale": _SHADES,
        "zmin": first - size / 2,
        "zmax": last + size / 2,
        "connectgaps": False,
        "colorbar": {
            "orientation": "h",
            "x": 0.5,
            "y": 1.01,
            "yanchor": "bottom",
            "lenmode": "pixels",
            "len": 400,
            "thickness": 9,
            "outlinewidth": 0,
            "tickvals": layer.levels,
            "ticktext": [plotly_text(label) for label in layer.labels],
            "tickangle": 0,
            "ticks": "outside",
            "ticklen": 3,
            "tickcolor": INK,
            "tickfont": {"size": 11, "color": INK},
            "title": {"text": plotly_text(layer.title), "side": "top", "font": {"size": 12, "color": INK}},
        },
    }


def _region(layer: Region) -> list[dict[str, Any]]:
    common = {"type": "contour", "x": layer.x, "y": layer.y, "z": layer.z, "hoverinfo": "skip", "showscale": False}
    line = {
        **common,
        "name": plotly_text(layer.name),
        "showlegend": bool(layer.name),
        "legendgroup": layer.name,
        "line": {"color": layer.colour, "width": 2},
        "contours": {"type": "constraint", "operation": ">", "value": 0},
        "fillcolor": _tint(layer.colour, 0.16) if layer.shade else CLEAR,
    }
    return [line]


def _tint(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _layout(chart: Chart, height: int) -> dict[str, Any]:
    title, lines = _title(chart)
    top = 16 + _LINE_HEIGHT * lines + (58 if chart.contours() else 10)
    names = [layer.name for layer in chart.layers if not isinstance(layer, Contours) and layer.name]
    legend = _LEGEND_ROW * _rows(names)
    square = {"scaleanchor": "x", "scaleratio": 1} if chart.square else {}
    return {
        **LOOK,
        "height": height + top + legend,
        "margin": {"l": _LEFT, "r": 24, "t": top, "b": 56 + legend},
        "modebar": {"remove": HIDDEN_BUTTONS},
        "hovermode": "closest",
        "annotations": [_heading(title, top)] if title else [],
        "legend": {
            "orientation": "h",
            "x": 0.5,
            "xanchor": "center",
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
            "bgcolor": CLEAR,
        },
        "xaxis": {**_axis(chart.x, 20), "constrain": "domain", "showgrid": not chart.contours()},
        "yaxis": {**_axis(chart.y, 8), "constrain": "domain", "showgrid": not chart.contours(), **square},
    }


def _heading(text: str, top: int) -> dict[str, Any]:
    """An annotation in the margin: Plotly shifts `layout.title` out of sight beside a horizontal colour bar."""
    return {
        "text": text,
        "font": {"size": 14},
        "align": "left",
        "showarrow": False,
        "xref": "paper",
        "x": 0,
        "xanchor": "left",
        "xshift": _HEADING - _LEFT,
        "yref": "paper",
        "y": 1,
        "yanchor": "top",
        "yshift": top - 6,
    }


def _rows(names: list[str]) -> int:
    """How many rows the legend takes at 600 px; at other widths they are centred in that space."""
    rows, filled = (1, 0.0) if names else (0, 0.0)
    for name in names:
        width = _KEY_WIDTH + _LETTER_WIDTH * len(name)
        if filled and filled + width > _NARROWEST:
            rows, filled = rows + 1, 0.0
        filled += width
    return rows


def _title(chart: Chart) -> tuple[str, int]:
    """The title, with the notes in smaller letters below it, and the number of lines."""
    head = [plotly_text(line) for line in wrapped_lines(chart.title, _TITLE_WIDTH)]
    notes = [plotly_text(line) for note in chart.notes for line in wrapped_lines(note, _NOTE_WIDTH)]
    small = [html('<span style="font-size:12px">{line}</span>', line=Html(line)) for line in notes]
    return "<br>".join([*head, *small]), len(head) + len(notes)


def _axis(axis: Axis, standoff: int) -> dict[str, Any]:
    limits = None if axis.range is None else list(np.log10(axis.range) if axis.log else axis.range)
    few = axis.log and limits is not None and limits[1] - limits[0] < FEW_DECADES
    ticks = {"dtick": "D2", "minorloglabels": "complete", "exponentformat": "none"} if few else {}
    return {
        "title": {"text": plotly_text(axis.title), "font": {"size": 12}, "standoff": standoff},
        "type": "log" if axis.log else "linear",
        "range": limits,
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": GRID,
        "showline": True,
        "mirror": True,
        "ticks": "outside",
        "tickcolor": GRID,
        "automargin": True,
        "exponentformat": "power",
        "nticks": 7,
        **ticks,
    }
