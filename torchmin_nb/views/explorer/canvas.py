"""A Chart in a FigureWidget that is made once: what stays the same is not sent again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..chart import Chart
from ..chart_figure import chart_sketch
from ..palette import HIDDEN_BUTTONS
from ..weak_methods import weakly
from .figure_screen import compact
from .figure_widget import FigureWidget

__all__ = ["Canvas", "responsive"]

_POINTS = ("x", "y", "text")
_RIGHT = 158
"""Pixels right of the axes, for the legend and the colour bar."""
_LEGEND = {"x": 1.02, "xanchor": "left", "font": {"size": 11}, "bgcolor": "rgba(0,0,0,0)", "tracegroupgap": 0}
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


class Canvas:
    """Draws one chart after another. clicked((x, y)) hears of clicks on contours. key: what the axes are of; while it
    stays, so does the zoom of the person.
    """

    def __init__(self, *, height: int, clicked: Callable[[tuple[float, float]], None]):
        self.widget = responsive(FigureWidget("scatter", "contour"))
        self._height = height
        self._clicked = clicked
        self._traces: list[dict[str, Any]] = []
        self._look: dict[str, Any] = {}
        self._layers: tuple[Any, ...] = ()

    def renew(self) -> None:
        """Another widget, empty: a FigureWidget cannot be shown a second time."""
        old, self.widget = self.widget, responsive(FigureWidget("scatter", "contour"))
        self._traces, self._look = [], {}
        old.close()

    def draw(self, chart: Chart, key: str) -> None:
        """Bring the widget up to this chart."""
        traces, look = chart_sketch(chart)
        look = _fitted(look, chart, self._height, key)
        for trace in traces:
            _lighten(trace)
        with self.widget.batch_update():
            self._draw_traces(traces)
            self._draw_look(look)
        self._traces, self._look = traces, look

    def _draw_traces(self, traces: list[dict[str, Any]]) -> None:
        same = _same(self._traces, traces)
        if same < len(self._traces) or len(traces) != same:
            self.widget.data = self.widget.data[:same]
            self.widget.add_traces(traces[same:])
            for trace in self.widget.data[same:]:
                if trace.type == "contour":
                    trace.on_click(weakly(self._on_click))  # Plotly keeps its widgets for ever
        for shown, old, new in zip(self.widget.data[:same], self._traces, traces, strict=False):
            changed = {name: new.get(name) for name in _POINTS if not _equal(old.get(name), new.get(name))}
            if changed:
                shown.update(changed)

    def _draw_look(self, look: dict[str, Any]) -> None:
        changed = {part: value for part, value in look.items() if not _equal(value, self._look.get(part))}
        if look["uirevision"] != self._look.get("uirevision"):
            changed = look  # the ranges that a person chose were of another picture
        if changed:
            self.widget.update_layout(changed)

    def _on_click(self, _: Any, points: Any, __: Any) -> None:
        if points.xs and points.ys:
            self._clicked((float(points.xs[0]), float(points.ys[0])))


def responsive(widget: FigureWidget) -> FigureWidget:
    """The same, made to follow the width of its place."""
    widget._config = {**widget._config, "responsive": True, "displaylogo": False}
    return widget


def _fitted(look: dict[str, Any], chart: Chart, height: int, key: str) -> dict[str, Any]:
    """The layout for a fixed height, without the title, which stands in the panel."""
    return {
        **look,
        "height": height,
        "annotations": [],
        "uirevision": key,
        "xaxis": _axis(look["xaxis"]),
        "yaxis": _axis(look["yaxis"]),
        "margin": {"l": 56, "r": _RIGHT, "t": 14, "b": 42},
        "legend": {**_LEGEND, **(_LOW if chart.contours() else _HIGH)},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "remove": HIDDEN_BUTTONS},
    }


def _axis(axis: dict[str, Any]) -> dict[str, Any]:
    """All that one picture may set and another not."""
    bare: dict[str, Any] = {"scaleanchor": None, "scaleratio": None, "dtick": None, "minorloglabels": None}
    return {**bare, **axis, "autorange": axis["range"] is None}


def _lighten(trace: dict[str, Any]) -> None:
    for name in ("x", "y", "z", "customdata"):
        if isinstance(trace.get(name), np.ndarray):
            trace[name] = compact(trace[name])
    if "colorbar" in trace:
        bar = trace["colorbar"]
        trace["colorbar"] = {**bar, **_BAR, "title": {**bar["title"], "side": "right"}}


def _same(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> int:
    """How many traces from the first on can stay, if need be with other points."""
    count = 0
    for before, after in zip(old, new, strict=False):
        if set(before) != set(after) or not all(
            _equal(before[name], after[name]) for name in after if name not in _POINTS or after["type"] == "contour"
        ):
            break
        count += 1
    return count


def _equal(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return bool(np.array_equal(np.asarray(a, dtype=float), np.asarray(b, dtype=float), equal_nan=True))
    return bool(a == b)
