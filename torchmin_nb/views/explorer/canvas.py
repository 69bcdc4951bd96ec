"""A Chart as the picture of a panel: for a fixed height, with its arrays as short as a screen needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..chart import Chart
from ..chart_figure import chart_sketch
from ..live_panel.state import Sketch
from ..palette import CLEAR

__all__ = ["compact", "sketch_of"]

_RIGHT = 158
"""Pixels right of the axes, for the legend and the colour bar."""
_LEGEND = {"x": 1.02, "xanchor": "left", "font": {"size": 11}, "bgcolor": CLEAR, "tracegroupgap": 0}
_LOW = {"y": 0, "yanchor": "bottom", "maxheight": 0.58}
_HIGH = {"y": 1, "yanchor": "top", "maxheight": 1}
_BAR = {
    "orientation": "v",
    "x": 1.02,
    "xanchor": "left",
    "y": 1.0,
    "yanchor": "top",
    "lenmode": "fraction",
    "len": 0.42,
}


def sketch_of(chart: Chart, *, name: str, height: int) -> Sketch:
    """A chart without its title and notes, which stand in the panel; the notes in place of a chart without layers.

    height: of all, in pixels.
    """
    if not chart.layers:
        return Sketch(name, (), {"height": height}, " ".join(chart.notes))
    traces, look = chart_sketch(chart)
    layout = {
        **look,
        "height": height,
        "annotations": [],
        "uirevision": name,
        "xaxis": _axis(look["xaxis"]),
        "yaxis": _axis(look["yaxis"]),
        "margin": {"l": 56, "r": _RIGHT, "t": 14, "b": 42},
        "legend": {**_LEGEND, **(_LOW if chart.contours() else _HIGH)},
    }
    return Sketch(name, [_light(trace) for trace in traces], layout)


def _axis(axis: dict[str, Any]) -> dict[str, Any]:
    return {**axis, "autorange": axis["range"] is None}


def _light(trace: dict[str, Any]) -> dict[str, Any]:
    arrays = {name: compact(part) for name, part in trace.items() if isinstance(part, np.ndarray)}
    bar = trace.get("colorbar")
    upright = {"colorbar": {**bar, **_BAR, "title": {**bar["title"], "side": "right"}}} if bar else {}
    return {**trace, **arrays, **upright}


def compact(values: NDArray[Any]) -> NDArray[Any]:
    """Half the bytes, and enough for a screen: whole numbers as int32, others as float32."""
    if values.size and (values == np.rint(values)).all() and np.abs(values).max() < 2**31:
        return values.astype(np.int32)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    # What float32 cannot hold would vanish from a log axis.
    same = np.array_equal(np.isfinite(narrow), np.isfinite(values)) and ((narrow == 0) == (values == 0)).all()
    return narrow if same else values.astype(np.float64)
