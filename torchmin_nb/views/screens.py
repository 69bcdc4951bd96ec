"""Where a scene is shown: a live widget that gives way to a static figure, or a static figure that is sent again."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .figures import Drawing
from .scene import Scene
from .widget import FigureWidget

__all__ = ["LIVE_POINTS", "LiveScreen", "PictureScreen", "Screen", "StaticScreen", "compact"]

LIVE_POINTS = 500
"""Points a curve while the run goes on: about as many as a figure has pixel columns for."""

_RECORDS = 250
"""Up to this many points carry the texts of their records while the run goes on, as these outweigh all the curves."""
_AXES = ("xaxis", "yaxis")


class Screen(Protocol):
    """One output of a cell. Only one thread at a time may call it."""

    rate: float
    """Redraws a second that suit it."""
    share: float
    """Of the time, what they may take."""

    def open(self, scene: Scene) -> None:
        """Show it in the cell that is running."""

    def draw(self, scene: Scene) -> int:
        """Bring it up to date; returns the bytes sent, or about."""

    def rest(self, scene: Scene) -> None:
        """The run stands still: leave what a saved notebook can show."""

    def end(self, scene: Scene) -> None:
        """The run is over: leave the picture that stays."""

    def free(self) -> None:
        """Nobody will draw here again."""


class LiveScreen:
    """A FigureWidget whose arrays are replaced; at rest and at the end a static figure with the same axis ranges.

    The widget is never shown twice: its front end keeps listening in a view that is gone. When a run goes on after a
    rest there is a new one. It lives as long as this screen, though the static figure has taken its place: in a page
    that was reloaded it is still what is seen, as no page knows the outputs of another.
    """

    rate = 5.0
    share = 0.005

    def __init__(self) -> None:
        self._finalizer: weakref.finalize[Any, LiveScreen] | None = None
        self._shape: list[tuple[str, str, str]] | None = None
        self._display: Any = None
        self._look: dict[str, Any] = {}
        self._live = True
        self.renew()

    def open(self, scene: Scene) -> None:
        from IPython.display import display

        self.draw(scene)
        self._display = display(self.widget, display_id=True)

    def draw(self, scene: Scene) -> int:
        return self._refresh(scene)

    def _refresh(self, scene: Scene) -> int:
        sketch = _sketch(scene)
        traces, look = sketch.traces, sketch.layout
        shape = [(trace["name"], trace["yaxis"], trace["hovertemplate"]) for trace in traces]
        same = self._live and shape == self._shape and set(look) == set(self._look)
        chosen = {} if same else self._chosen()
        if not self._live:
            self.renew()
        if same:
            self._update(traces, look)
        else:
            with self.widget.batch_update():
                self._rebuild(traces, look, chosen)
        self._shape, self._look = shape, look
        if not self._live:
            self._live = True
            self._display.update(self.widget)
        return sum(_bytes(trace) for trace in traces)

    def rest(self, scene: Scene) -> None:
        if self._live:
            self._leave(scene)

    def end(self, scene: Scene) -> None:
        if self._live:
            self._refresh(scene)
        self._leave(scene, menus=True)

    def free(self) -> None:
        if self._finalizer is not None:
            self._finalizer()

    def _leave(self, scene: Scene, *, menus: bool = False) -> None:
        self._live = False
        self._display.update(scene.bundle(self._zoomed(scene.drawing()), menus=menus), raw=True)

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

    def _zoomed(self, drawing: Drawing) -> Drawing:
        """The drawing with the axis ranges that the person has chosen in the widget."""
        look = drawing.layout
        chosen = {
            name: {**look[name], "range": range_, "autorange": False} for name, range_ in self._ranges() if name in look
        }
        return drawing._replace(layout=look | chosen)

    def _ranges(self) -> Iterator[tuple[str, Any]]:
        """The axis ranges that are chosen."""
        for name in self.widget.layout:
            axis = self.widget.layout[name] if name.startswith(_AXES) else None
            if axis is not None and axis.range is not None and axis.autorange is not True:
                yield name, axis.range


class StaticScreen:
    """For a notebook front end without widgets: the static figure, sent anew about once a second."""

    rate = 1.5
    share = 0.02

    def __init__(self) -> None:
        self._display: Any = None

    def open(self, scene: Scene) -> None:
        from IPython.display import display

        self._display = display(scene.bundle(scene.drawing()), raw=True, display_id=True)

    def draw(self, scene: Scene) -> int:
        drawing = _sketch(scene)
        self._display.update(scene.bundle(drawing), raw=True)
        return 4 * sum(_bytes(trace) for trace in drawing.traces) // 3  # as base64

    def rest(self, scene: Scene) -> None:
        """What is shown is static already."""

    def end(self, scene: Scene) -> None:
        self._display.update(scene.bundle(scene.drawing(), menus=True), raw=True)

    def free(self) -> None:
        """There is nothing to free."""


class PictureScreen:
    """For a notebook that nobody watches: nothing until the end, then figure and picture.

    There is no widget, so that no tool can store a widget's state.
    """

    rate = 0.1
    share = 0.005

    def __init__(self) -> None:
        self._display: Any = None

    def open(self, scene: Scene) -> None:
        from IPython.display import display

        self._display = display({"text/plain": scene.title}, raw=True, display_id=True)

    def draw(self, scene: Scene) -> int:
        return 0

    def rest(self, scene: Scene) -> None:
        self.end(scene)

    def end(self, scene: Scene) -> None:
        self._display.update(scene.bundle(scene.drawing(), png=True), raw=True)

    def free(self) -> None:
        """There is nothing to free."""


def _sketch(scene: Scene) -> Drawing:
    """Light enough to be sent again and again."""
    drawing = scene.drawing(LIVE_POINTS, _RECORDS)
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
    return int(trace["x"].nbytes + trace["y"].nbytes + (0 if texts is None else sum(map(len, texts))))


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
    return axis.get("type"), axis["title"]["text"]
