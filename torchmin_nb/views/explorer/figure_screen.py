"""The curves of runs in a FigureWidget whose arrays are replaced."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..figures import Drawing
from ..scene import Scene
from .figure_widget import FigureWidget

__all__ = ["LiveScreen", "compact"]

LIVE_POINTS = 500
"""Points a curve while the run goes on: about as many as a figure has pixel columns for."""

_RECORDS = 250
"""Up to this many points carry the texts of their records while the run goes on, as these outweigh all the curves."""
_AXES = ("xaxis", "yaxis")
_CHOSEN = ("range", "tickmode", "tickvals", "ticktext")
_TICKS = 5
_POWERS = 9
"""Pixels of the powers of ten on a log axis: Plotly writes them larger by a quarter than it is told."""


class LiveScreen:
    """A FigureWidget of its own, with what each scene shows; the axis ranges that a person chose stay."""

    def __init__(self) -> None:
        self._finalizer: weakref.finalize[Any, LiveScreen] | None = None
        self._shape: list[tuple[str, str, str]] | None = None
        self._look: dict[str, Any] = {}
        self.renew()

    def draw(self, scene: Scene) -> int:
        """Bring it up to date; returns the bytes sent, or about."""
        sketch = _sketch(scene)
        traces, look = sketch.traces, sketch.layout
        shape = [(trace["name"], trace["yaxis"], trace["hovertemplate"]) for trace in traces]
        same = shape == self._shape and set(look) == set(self._look)
        chosen = {} if same else self._chosen()
        if same:
            self._update(traces, look)
        else:
            with self.widget.batch_update():
                self._rebuild(traces, look, chosen)
        self._shape, self._look = shape, look
        return sum(_bytes(trace) for trace in traces)

    def free(self) -> None:
        if self._finalizer is not None:
            self._finalizer()

    def renew(self) -> None:
        """Another widget, empty, in place of the last."""
        self.free()
        self.widget = self._made()
        self._shape = None
        self._finalizer = weakref.finalize(self, self.widget.close)
        self._finalizer.atexit = False  # the front end is gone by then

    def _made(self) -> FigureWidget:
        return FigureWidget("scatter")

    def _rebuild(self, traces: list[dict[str, Any]], look: dict[str, Any], chosen: dict[tuple[Any, Any], Any]) -> None:
        gone = {name: {"visible": False} for name in self.widget.layout if name.startswith(_AXES) and name not in look}
        self.widget.data = ()
        self.widget.add_traces(traces)
        held = {
            name: {**axis, "range": chosen[_meaning(axis)], "autorange": False}
            for name, axis in look.items()
            if name.startswith(_AXES) and _meaning(axis) in chosen
        }
        self.widget.update_layout({**look, **gone, **held}, overwrite=True)

    def _chosen(self) -> dict[tuple[Any, Any], Any]:
        """The chosen axis ranges by what they are about."""
        return {_meaning(self._look[name]): range_ for name, range_ in self._ranges() if name in self._look}

    def _update(self, traces: list[dict[str, Any]], look: dict[str, Any]) -> None:
        # Only what has changed, leaf by leaf: an axis that is replaced would lose the person's zoom.
        changed = dict(_changes(self._look, look))
        notes = changed.pop("annotations", None)
        for name in look:
            if name.startswith(_AXES) and _meaning(look[name]) != _meaning(self._look[name]):
                changed |= {f"{name}.range": None, f"{name}.autorange": True}
        new = {part: [trace.get(part) for trace in traces] for part in ("x", "y", "mode", "customdata")}
        # Straight to the message: assigning to properties takes three times as long.
        self.widget.plotly_update(new, changed)
        if notes is not None:
            self.widget.layout.annotations = notes

    def _ranges(self) -> Iterator[tuple[str, Any]]:
        """The axis ranges that are chosen."""
        for name in self.widget.layout:
            axis = self.widget.layout[name] if name.startswith(_AXES) else None
            if axis is not None and axis.range is not None and axis.autorange is not True:
                yield name, axis.range


def _sketch(scene: Scene) -> Drawing:
    """Light enough to be sent again and again, and as high as the scene says; Plotly chooses ranges and ticks, so that
    they follow the person's.
    """
    drawing = scene.drawing(LIVE_POINTS, _RECORDS)
    drawing.layout["height"] = scene.height or drawing.layout["height"]
    drawing.layout.pop("shapes")
    subjects = {"xaxis": scene.x} | {
        "yaxis" if place == 0 else f"yaxis{place + 1}": panel for place, panel in enumerate(drawing.panels)
    }
    for name, subject in subjects.items():
        axis = drawing.layout[name]
        size = _POWERS if axis["type"] == "log" else 11
        own = {"uirevision": subject, "tickfont": {"size": size}, "nticks": _TICKS}
        drawing.layout[name] = {part: axis[part] for part in axis if part not in _CHOSEN} | own
    for trace in drawing.traces:
        trace |= {"x": compact(trace["x"]), "y": compact(trace["y"])}
    return drawing


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves that differ, by their paths, as Plotly writes them."""
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            yield from _changes(before, value, f"{path}{name}.")
        elif value != before:
            yield f"{path}{name}", value


def _bytes(trace: dict[str, Any]) -> int:
    texts = trace.get("customdata")
    return int(trace["x"].nbytes + trace["y"].nbytes + (0 if texts is None else sum(len(str(text)) for text in texts)))


def compact(values: NDArray[Any]) -> NDArray[Any]:
    """Half the bytes, and enough for a screen: whole numbers as int32, others as float32."""
    if values.size and (values == np.rint(values)).all() and np.abs(values).max() < 2**31:
        return values.astype(np.int32)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    # What float32 cannot hold would vanish from a log axis.
    return narrow if np.isfinite(narrow).all() and ((narrow == 0) == (values == 0)).all() else values


def _meaning(axis: dict[str, Any]) -> tuple[Any, Any]:
    """What a range of the axis is about: one chosen for another meaning has to go."""
    return axis.get("type"), axis["uirevision"]
