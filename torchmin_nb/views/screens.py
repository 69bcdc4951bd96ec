"""Where a scene is shown: a live panel that gives way to a static figure, or a static figure that is sent again."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

from ..core.display.html import Html, html
from .live_panel.widget import PanelWidget
from .scene import Scene
from .weak_methods import weakly

__all__ = ["PanelScreen", "PictureScreen", "Screen", "StaticScreen"]


_UNASKED = (1, 5, 10, 20, 40)
"""The beats with which plotly.js is sent though nobody asked: while a cell blocks, no view is heard. Not more often: a
Jupyter server drops what goes beyond 1 MB a second, over three seconds."""


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

    def beat(self, *, whole: bool) -> int:
        """Tell who looks that the kernel is there; whole: with all that was drawn last. Returns the bytes sent."""

    def settle(self, scene: Scene) -> None:
        """Leave what a saved notebook can show, if nothing else will."""

    def end(self, scene: Scene) -> None:
        """The run is over: leave the picture that stays."""

    def free(self) -> None:
        """Nobody will draw here again."""


class PanelScreen:
    """A PanelWidget, which gives way to a static figure with the same axes at the end.

    The widget lives as long as this screen, though the static figure has taken its place: in a page that was reloaded
    it may still be what is seen, as no page knows the outputs of another.
    """

    rate = 5.0
    share = 0.005

    def __init__(self, listener: Any):
        """listener: hears of buttons and choices, as its methods `pressed` and `chosen`."""
        self._listener = listener
        self._displays: tuple[Any, Any] | None = None
        self._beats = 0
        self.widget: PanelWidget | None = None

    def open(self, scene: Scene) -> None:
        from IPython.display import display

        self.widget = PanelWidget(
            scene.state(),
            scale=scene.scale,
            x=scene.x,
            pressed=weakly(self._listener.pressed),
            chosen=weakly(self._listener.chosen),
        )
        self._finalizer = weakref.finalize(self, _close, self.widget)
        self._finalizer.atexit = False  # the front end is gone by then
        empty = {"text/html": "", "text/plain": ""}
        self._displays = display(self.widget, display_id=True), display(empty, raw=True, display_id=True)

    def draw(self, scene: Scene) -> int:
        assert self.widget is not None
        return self.widget.publish(scene.state())

    def beat(self, *, whole: bool) -> int:
        assert self.widget is not None
        self._beats += 1
        self.widget.beat()
        if not PanelWidget.answered and self._beats in _UNASKED:
            self.widget.send_plotly()
        return self.widget.send_whole() if whole else 0

    def settle(self, scene: Scene) -> None:
        """The panel stays until the end."""

    def end(self, scene: Scene) -> None:
        assert self.widget is not None
        assert self._displays is not None
        self.widget.publish(scene.state())
        figure, words = self._displays
        figure.update(scene.bundle(zoom=self.widget.zoom), raw=True)
        words.update({"text/html": epilogue(scene), "text/plain": scene.header.line()}, raw=True)

    def free(self) -> None:
        if self.widget is not None:
            self._finalizer()


class StaticScreen:
    """For a notebook front end without widgets: the static figure, sent anew about once a second."""

    rate = 1.0
    share = 0.02

    def __init__(self) -> None:
        self._display: Any = None

    def open(self, scene: Scene) -> None:
        from IPython.display import display

        self._display = display(scene.bundle(), raw=True, display_id=True)

    def draw(self, scene: Scene) -> int:
        self._display.update(scene.bundle(), raw=True)
        return 40 * sum(columns.y.size for columns in scene.state().columns)

    def beat(self, *, whole: bool) -> int:
        return 0

    def settle(self, scene: Scene) -> None:
        """What is shown is static already."""

    def end(self, scene: Scene) -> None:
        self._display.update(scene.bundle(), raw=True)

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

    def beat(self, *, whole: bool) -> int:
        return 0

    def settle(self, scene: Scene) -> None:
        self.end(scene)

    def end(self, scene: Scene) -> None:
        self._display.update(scene.bundle(png=True), raw=True)

    def free(self) -> None:
        """There is nothing to free."""


def _close(widget: PanelWidget) -> None:
    for part in (widget, widget.layout):
        part.close()


def epilogue(scene: Scene) -> Html:
    """The verdict, with the solver's own message; of a failed run the error."""
    header = scene.header
    facts = " · ".join(f"{fact.name} {fact.text}" for fact in header.facts)
    if header.tone == "error":
        return html(
            '<div role="alert" style="border-left:3px solid #D55E00;padding-left:8px">{verdict}</div>',
            verdict=header.verdict,
        )
    return html(
        '<div style="padding-left:12px"><b title="{original}">{verdict}</b>'
        ' <span style="opacity:0.75">{facts}</span></div>',
        original=header.original,
        verdict=header.verdict,
        facts=facts,
    )
