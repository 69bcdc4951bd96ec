"""Where a scene is shown: a live panel that gives way to a static figure, or a picture that is sent again."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Protocol

from ..core.display.html import Html, html, joined
from .handshake import Handshake
from .live_panel.widget import PanelWidget
from .main_thread import main_thread
from .scene import Scene
from .weak_methods import weakly

__all__ = ["FallbackScreen", "PanelScreen", "PictureScreen", "Screen", "StaticScreen"]


_NOTHING = {"text/html": "", "text/plain": ""}


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
        """listener: hears of buttons and choices, as its methods `pressed` and `chosen`; and by `fall_back` and
        `come_back` that the widget is not seen, or seen after all. It is not kept alive.
        """
        names = ("fall_back", "come_back", "pressed", "chosen")
        self._hears = {name: weakly(getattr(listener, name)) for name in names}
        self._handshake: Handshake | None = None
        self._displays: tuple[Any, Any] | None = None
        self._below = ""
        self.widget: PanelWidget | None = None

    def open(self, scene: Scene) -> None:
        from IPython.display import display

        self._handshake = Handshake(self._hears["fall_back"], self._hears["come_back"])
        self.widget = PanelWidget(
            scene.state(),
            scale=scene.scale,
            x=scene.x,
            pressed=self._hears["pressed"],
            chosen=self._hears["chosen"],
            loaded=weakly(self._handshake.loaded),
            heard=weakly(self._handshake.heard),
        )
        self._finalizer = weakref.finalize(self, _close, self.widget)
        self._finalizer.atexit = False  # the front end is gone by then
        self._displays = display(self.widget, display_id=True), display(_NOTHING, raw=True, display_id=True)

    def draw(self, scene: Scene) -> int:
        assert self.widget is not None
        assert self._displays is not None
        sent = self.widget.publish(scene.state())
        if scene.below != self._below:
            self._below = scene.below
            self._displays[1].update({"text/html": scene.below, "text/plain": ""}, raw=True)
        return sent + len(scene.below)

    def beat(self, *, whole: bool) -> int:
        assert self.widget is not None
        return self.widget.beat(whole=whole)

    def settle(self, scene: Scene) -> None:
        """The panel stays until the end."""

    def end(self, scene: Scene) -> None:
        assert self._displays is not None
        for display, data in zip(self._displays, self.last_words(scene), strict=True):
            display.update(data, raw=True)

    def last_words(self, scene: Scene) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of a run that is over: the figure that stays, and what is told below it."""
        assert self.widget is not None
        assert self._handshake is not None
        self._handshake.end()
        self.widget.publish(scene.state())
        words = {"text/html": epilogue(scene), "text/plain": scene.header.line()}
        return scene.bundle(zoom=self.widget.zoom), words

    def free(self) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
        if self.widget is not None:
            self._finalizer()

    def given_up(self, why: str, scene: Scene) -> FallbackScreen:
        """What takes its place where it is not seen."""
        assert self._displays is not None
        return FallbackScreen(self, self._displays, why, scene)

    def show_again(self, scene: Scene) -> None:
        """It is seen after all."""
        assert self.widget is not None
        assert self._displays is not None
        self.widget.publish(scene.state())
        figure, words = self._displays
        figure.update(self.widget)
        words.update(_NOTHING, raw=True)


class StaticScreen:
    """For a notebook front end without widgets: a picture, sent anew about once a second, and the figure at the end."""

    rate = 1.0
    share = 0.02

    def __init__(self) -> None:
        self._display: Any = None
        self._shown: Sequence[tuple[Any, dict[str, Any]]] = ()

    def open(self, scene: Scene) -> None:
        from IPython.display import display

        self._display = display(scene.sketch(), raw=True, display_id=True)

    def draw(self, scene: Scene) -> int:
        sketch = scene.sketch()
        self._show((self._display, sketch))
        return len(sketch["text/html"])

    def beat(self, *, whole: bool) -> int:
        return 0

    def settle(self, scene: Scene) -> None:
        """What is shown is static already."""

    def end(self, scene: Scene) -> None:
        self._show((self._display, scene.bundle()))

    def free(self) -> None:
        """There is nothing to free."""

    def _show(self, *shown: tuple[Any, dict[str, Any]]) -> None:
        self._shown = shown
        main = main_thread()
        if main is None:
            self._send()
        else:
            main.send(self._send)

    def _send(self) -> None:
        for display, data in self._shown:
            display.update(data, raw=True)


class FallbackScreen(StaticScreen):
    """A static figure in the place of a PanelScreen that is not seen. Its widget goes on asking for an answer.

    displays: of the figure and of the words below it. why: what the user is told.
    """

    def __init__(self, panel: PanelScreen, displays: tuple[Any, Any], why: str, scene: Scene):
        super().__init__()
        self.panel = panel
        self._display, self._words = displays
        notice = f"{why}; a figure is shown instead, once a second."
        if scene.buttons:
            notice += " run.pause(), run.advance(), run.resume() and run.stop() steer the run."
        told = {"text/html": html("<small>{notice}</small>", notice=notice), "text/plain": notice}
        self._show((self._display, scene.sketch()), (self._words, told))

    def beat(self, *, whole: bool) -> int:
        assert self.panel.widget is not None
        self.panel.widget.beat()
        return 0

    def end(self, scene: Scene) -> None:
        figure, words = self.panel.last_words(scene)
        self._show((self._display, figure), (self._words, words))

    def shown_again(self, scene: Scene) -> PanelScreen:
        """The panel, which is seen after all."""
        self.panel.show_again(scene)
        return self.panel

    def free(self) -> None:
        self.panel.free()


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
    """The verdict, with the solver's own message; of a failed run the error. Then the report, if there is one."""
    return joined([_ending(scene), Html(scene.below)])


def _ending(scene: Scene) -> Html:
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
