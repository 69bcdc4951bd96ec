"""Session: one source shown in one cell, from the empty panel to the picture that stays."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..errors import ViewWarning, text_of
from .live_panel.sources import Moment, Source
from .scene import Scene
from .screens import Screen
from .ticker import POLL, Pace, Pulse, Ticker
from .weak_methods import weakly

__all__ = ["Session", "scene_at", "warn_dropped"]

_TRAFFIC = 25_000
"""Bytes a second that redraws may send: 1.5 MB a minute."""
_REVISIT = 60.0
"""Seconds that a run which is over already is shown live, to be looked at with another scale or x axis."""


class Session:
    """Shows a source on the screen that `make_screen` makes for it.

    scene: the choices to begin with. The source is looked at by a clock in a thread of its own, and drawn where
    something is new. A failure ends the session with a ViewWarning.
    """

    def __init__(
        self,
        source: Source,
        scene: Scene,
        make_screen: Callable[[Session], Screen],
        *,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.source = source
        self.scene = scene
        self._rate = rate
        self._clock = clock
        self._use(make_screen(self))
        self._lock = threading.RLock()
        self._ticker = Ticker(self.tick)
        self._drawn: object = None
        self._pulse = Pulse(weakly(self._beat), traffic=_TRAFFIC, clock=clock)  # no cycle: dropped, it is freed at once
        self._open_until = 0.0
        self._ended = False
        self.closed = False

    def open(self) -> None:
        """Show what there is in the cell that is running."""
        with self._lock:
            moment = self.source.moment()
            self._screen.open(self._of(moment))
            self._drawn = moment.key()
            if moment.over:
                self._open_until = self._clock() + _REVISIT

    def watch(self) -> None:
        """Begin to look at the source."""
        self._ticker.start()

    def chosen(self, name: str, value: str) -> None:
        """A view has another scale or x axis: the picture that stays will have it too."""
        with self._lock:
            self.scene = replace(self.scene, **{name: value})  # type: ignore[arg-type]
            self._open_until = self._open_until and self._clock() + _REVISIT

    def pressed(self, action: str, count: int) -> None:
        """A button was pressed in a view."""
        self.source.press(action, count)
        with self._lock:
            self._pace.at_once()
            self._open_until = self._open_until and self._clock() + _REVISIT

    def fall_back(self, why: str) -> None:
        """The panel is not seen: a static figure takes its place."""
        self._change(lambda panel: panel.given_up(why, self.now()))

    def come_back(self) -> None:
        """The panel is seen after all."""
        self._change(lambda fallback: fallback.shown_again(self.now()))

    def tick(self) -> float | None:
        """Look at the source; the seconds to the next look, None when there is nothing more to see."""
        with self._lock:
            self.run_guarded(self._look)
            return None if self.closed else POLL

    def settle(self) -> None:
        """Leave what there is now in a form that can be saved, where nobody watches."""
        with self._lock:
            if not self._ended and not self.closed:
                self._screen.settle(self.now())

    def end(self) -> None:
        """Draw the end, and leave a static picture."""
        with self._lock:
            if not self._ended and not self.closed:
                self._ended = True
                self._screen.end(self.now())

    def close(self) -> None:
        """Leave only the picture, and free the clock."""
        with self._lock:
            self.end()
            self._finish()

    def free(self) -> None:
        """Close, and drop the live widget."""
        self.close()
        self._screen.free()

    def run_guarded(self, action: Callable[[], None]) -> None:
        """Do it; if it fails, the session is over and the run goes on."""
        try:
            action()
        except Exception as error:
            with suppress(Exception):  # a picture that cannot be left needs no second warning
                self._finish()
            warn_dropped("the dashboard", error)

    def now(self) -> Scene:
        """What there is to show."""
        return self._of(self.source.moment())

    def _change(self, change: Callable[[Any], Screen]) -> None:
        with self._lock:
            if not self._ended and not self.closed:
                self.run_guarded(lambda: self._use(change(self._screen)))

    def _use(self, screen: Screen) -> None:
        self._screen = screen
        self._pace = Pace(1 / min(self._rate, screen.rate), screen.share, traffic=_TRAFFIC, clock=self._clock)

    def _beat(self, *, whole: bool) -> int:
        return self._screen.beat(whole=whole)

    def _finish(self) -> None:
        self.closed = True
        self._ticker.stop()

    def _look(self) -> None:
        if self.closed:
            return
        moment = self.source.moment()
        if moment.over and self._clock() >= self._open_until:
            self.close()
            return
        key = moment.key()
        if key != self._drawn and self._pace.due:
            self._drawn = key
            self._pulse.drawn()
            self._pace.draw(lambda: self._screen.draw(self._of(moment)))
        self._pulse.tick()

    def _of(self, moment: Moment) -> Scene:
        return scene_at(self.scene, moment)


def scene_at(scene: Scene, moment: Moment) -> Scene:
    """The same choices, with what there is to show now."""
    return replace(
        scene,
        histories=moment.histories,
        title=moment.title,
        header=moment.header,
        buttons=moment.buttons,
        notes=moment.notes,
        below=moment.below,
    )


def warn_dropped(what: str, error: Exception) -> None:
    """Warn that a part of the view is gone."""
    reason = f"{type(error).__name__}: {text_of(error)}"
    warnings.warn(f"{what} was dropped, the run continues: {reason}", ViewWarning, stacklevel=4)
