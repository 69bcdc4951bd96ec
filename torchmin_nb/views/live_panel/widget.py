"""PanelWidget: keeps the views of one panel up to date, from any thread."""

from __future__ import annotations

import base64
import gzip
import threading
import uuid
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from .plotly_js import plotly_js, plotly_version
from .state import PanelState
from .wire import delta, whole

__all__ = ["PanelWidget"]

_FILES = files(__package__)
_UNASKED = (1, 5, 10, 20, 40)
"""The beats with which plotly.js is sent though nobody asked: while a cell blocks, no view is heard. Not more often: a
Jupyter server drops what goes beyond 1 MB a second, over three seconds."""


_LOADER = """\
const bytes = Uint8Array.from(atob("%s"), (letter) => letter.charCodeAt(0));
const script = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
const panel = await import(url);
URL.revokeObjectURL(url);
export default panel.default;
"""


def _sent(name: str) -> str:
    """A file of this folder without indentation and lines of comment, as each panel sends it again."""
    lines = map(str.strip, (_FILES / name).read_text(encoding="utf-8").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def _compressed(name: str) -> str:
    """A module that imports a module of this folder: less than half of its size."""
    return _LOADER % base64.b64encode(gzip.compress(_sent(name).encode(), mtime=0)).decode()


def _current(_: object, widget: PanelWidget) -> dict[str, Any]:
    return widget.whole()


class PanelWidget(anywidget.AnyWidget):
    """Shows a PanelState in every view of it.

    scale, x: what is chosen now; zoom: the ranges that a person chose, by axis and choice. pressed(action, count):
    hears of buttons, in the kernel's thread; chosen(name, value): of scale and x axis; pointed((x, y)): of clicks on
    the contours of the picture; loaded(): that the script runs in a page; heard(): that a page got a beat.
    """

    answered = False
    """Whether any view in this kernel was ever heard of: then its page asks for what it lacks."""

    # As text: anywidget would watch files for changes.
    _esm = _compressed("panel.js")
    _css = _sent("panel.css")

    state = traitlets.Any().tag(sync=True, to_json=_current, from_json=lambda value, widget: None)
    scale = traitlets.Unicode("log").tag(sync=True)
    x = traitlets.Unicode("iteration").tag(sync=True)
    zoom = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        shown: PanelState,
        *,
        scale: str = "log",
        x: str = "iteration",
        pressed: Callable[[str, int], None] = lambda action, count: None,
        chosen: Callable[[str, str], None] = lambda name, value: None,
        pointed: Callable[[tuple[float, float]], None] = lambda point: None,
        loaded: Callable[[], None] = lambda: None,
        heard: Callable[[], None] = lambda: None,
    ):
        self._shown = shown
        self._seq = 0
        self._epoch = uuid.uuid4().hex[:8]
        self._sending = threading.RLock()
        self._beats = 0
        self._pressed, self._chosen, self._pointed = pressed, chosen, pointed
        self._answers = {"loaded": loaded, "heard": heard}
        super().__init__(scale=scale, x=x)
        self.on_msg(self._receive)
        self.observe(lambda change: self._chosen(change["name"], change["new"]), ["scale", "x"])

    def whole(self) -> dict[str, Any]:
        """The state that is synced: complete, and as new as what was published last."""
        with self._sending:
            return {**whole(self._shown), "seq": self._seq, "epoch": self._epoch, "plotly": plotly_version()}

    def publish(self, state: PanelState) -> int:
        """Show this state from now on; returns about the bytes that were sent."""
        with self._sending:
            message, buffers = delta(self._shown, state)
            self._shown = state
            self._seq += 1
            self.send({"type": "delta", "seq": self._seq, "epoch": self._epoch, **message}, buffers)
            return sum(map(len, buffers)) + 1_000

    def send_whole(self) -> int:
        """Sync the state, for views that missed something; returns about the bytes that were sent."""
        with self._sending:
            self.send_state("state")
            arrays = [array for columns in self._shown.columns for array in columns[1:] if array is not None]
            curves = sum(array.nbytes for array in arrays)
            return 4_000 + curves + (0 if self._shown.picture is None else self._shown.picture.nbytes)

    def beat(self, *, whole: bool = False) -> int:
        """Tell the views that the kernel is there, and the number of the last delta; whole: with the state.

        Returns about the bytes that were sent.
        """
        self._beats += 1
        self.send({"type": "beat", "seq": self._seq, "epoch": self._epoch})
        if not PanelWidget.answered and self._beats in _UNASKED:
            self.send_plotly()
        return self.send_whole() if whole else 0

    def send_plotly(self) -> None:
        """Send plotly.js to the page."""
        self.send({"type": "plotly", "version": plotly_version()}, [plotly_js()])

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        PanelWidget.answered = True
        kind = content.get("type")
        if kind == "plotly":
            self.send_plotly()
        elif kind == "whole":
            self.send_whole()
        elif kind in self._answers:
            self._answers[kind]()
        elif kind == "ready":
            if (content.get("epoch"), content.get("seq")) != (self._epoch, self._seq):
                self.send_whole()
        elif kind == "press":
            try:
                self._pressed(str(content.get("action")), int(content.get("count", 1)))
            finally:
                self.send({"type": "ack", "number": content.get("number")})
        elif kind == "point":
            self._pointed((float(content["x"]), float(content["y"])))

    def __repr__(self) -> str:
        return self._shown.header.line()
