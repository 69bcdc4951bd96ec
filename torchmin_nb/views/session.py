"""Session: one run shown in one cell, from the empty figure to the picture that stays."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.execution.run import FAILED, FINISHED, PAUSED, PENDING, STOPPED, Run
from ..core.history.history import History
from ..errors import ViewWarning, text_of
from .scene import Scene
from .screens import Screen
from .ticker import POLL, Pace, Ticker
from .words import status_line

if TYPE_CHECKING:
    from .controls import Controls

__all__ = ["Session", "warn_dropped"]

_REST = 60.0
"""Seconds that a run stands still before its figure becomes one that can be saved: the next widget costs 5 MB."""
_TRAFFIC = 25_000
"""Bytes a second that redraws may send: 1.5 MB a minute."""
_OVER = (STOPPED, FINISHED, FAILED)


class Session:
    """Shows the history of `source`: a Run, or the History of a minimisation that blocks the cell.

    scene: the choices to begin with. beside: other histories, drawn with it. name: of this one among them. The run is
    looked at by a clock in a thread of its own, and drawn where something is new. A failure ends the session with a
    ViewWarning.
    """

    def __init__(
        self,
        source: Run | History,
        scene: Scene,
        screen: Screen,
        *,
        name: str,
        beside: Mapping[str, History],
        rate: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.source = source
        self.scene = scene
        self._screen = screen
        self._name = name
        self._beside = dict(beside)
        self._pace = Pace(1 / min(rate, screen.rate), screen.share, traffic=_TRAFFIC, clock=clock)
        self._clock = clock
        self._lock = threading.RLock()
        self._controls: Controls | None = None
        self._ticker = Ticker(self.tick)
        self._drawn: object = None
        self._still_since: float | None = None
        self._ended = False
        self.closed = False

    @property
    def history(self) -> History:
        """What is shown."""
        return self.source if isinstance(self.source, History) else self.source.history

    @property
    def state(self) -> str | None:
        """Of the run; None without one."""
        return None if isinstance(self.source, History) else self.source.state

    def open(self) -> None:
        """Show an empty figure in the cell that is running."""
        with self._lock:
            self._screen.open(self._now())
            self._drawn = self._seen()

    def steer(self) -> None:
        """Show the controls of the run below the figure."""
        from .controls import Controls

        assert isinstance(self.source, Run)
        self._controls = Controls(self.source, scale=self.scene.scale, x=self.scene.x, changed=self.choose)
        self._controls.open()

    def watch(self) -> None:
        """Begin to look at the run."""
        self._ticker.start()

    def choose(self, name: str, value: str) -> None:
        """Change the scale or the x axis."""
        with self._lock:
            self.scene = replace(self.scene, **{name: value})  # type: ignore[arg-type]
            self._pace.at_once()

    def tick(self) -> float | None:
        """Look at the run; the seconds to the next look, None when there is nothing more to see."""
        with self._lock:
            self.run_guarded(self._look)
            return None if self.closed else POLL

    def settle(self) -> None:
        """Leave what there is now in a form that can be saved."""
        with self._lock:
            if not self._ended and not self.closed:
                self._screen.rest(self._now())

    def end(self) -> None:
        """Draw the end, and leave a static picture."""
        with self._lock:
            if not self._ended and not self.closed:
                self._ended = True
                self._screen.end(self._now())

    def close(self) -> None:
        """Leave only the picture; free the clock and the controls."""
        with self._lock:
            self.end()
            self._end_controls()

    def free(self) -> None:
        """Close, and let go of the live widget."""
        self.close()
        self._screen.free()

    def run_guarded(self, action: Callable[[], None]) -> None:
        """Do it; if it fails, the session is over and the run goes on."""
        try:
            action()
        except Exception as error:
            with suppress(Exception):  # controls that cannot be taken away need no second warning
                self._end_controls()
            warn_dropped("the dashboard", error)

    def _end_controls(self) -> None:
        self.closed = True
        self._ticker.stop()
        controls, self._controls = self._controls, None
        if controls is not None:
            controls.end()

    def _look(self) -> None:
        state = self.state
        if self.closed:
            return
        if state in _OVER:
            self.close()
        elif not self._ended:
            self._follow(state)

    def _follow(self, state: str | None) -> None:
        now = self._clock()
        if self._seen() != self._drawn:
            self._still_since = None
            if self._pace.due:
                self._drawn = self._seen()
                self._pace.draw(lambda: self._screen.draw(self._now()))
        elif state in (PAUSED, PENDING):
            self._still_since = now if self._still_since is None else self._still_since
            if now - self._still_since >= _REST:
                self._screen.rest(self._now())
        if self._controls is not None and state is not None:
            self._controls.show_state(state)

    def _seen(self) -> tuple[int, str | None, Scene]:
        return len(self.history), self._displayed_state(), self.scene

    def _displayed_state(self) -> str | None:
        """The state in words: a run that waits for its start is paused, to a reader."""
        waits = isinstance(self.source, Run) and self.state == PENDING and self.source.wait_until_paused(0)
        return PAUSED if waits else self.state

    def _now(self) -> Scene:
        return replace(self.scene, histories={**self._beside, self._name: self.history}, title=self._title())

    def _title(self) -> str:
        history = self.history
        error = None if isinstance(self.source, History) else self.source.exception
        if error is not None and history.message is None:  # it failed before the first closure call
            return f"{history.method} · ended: Failed: {type(error).__name__}: {text_of(error)}"
        return status_line(history, self._displayed_state())


def warn_dropped(what: str, error: Exception) -> None:
    """Warn that a part of the view is gone."""
    reason = f"{type(error).__name__}: {text_of(error)}"
    warnings.warn(f"{what} was dropped, the run continues: {reason}", ViewWarning, stacklevel=4)
