"""The clock of the live views: a thread that ticks beside the run, so that nothing is drawn in it."""

from __future__ import annotations

import contextvars
import math
import threading
import time
from collections.abc import Callable
from functools import partial

from ..core.runtime.workers import WorkerThread

__all__ = ["POLL", "Pace", "Pulse", "Ticker"]

POLL = 0.05
"""Seconds between two looks at a run."""
_BEAT, _WHOLE = 1.0, 5.0
"""Seconds between two signs of life, and between two states that are sent whole while there is something new: a view
that missed a message cannot always say so, since the kernel hears nothing while a cell blocks."""


class Ticker:
    """Calls `tick` again and again in a daemon thread; it returns the seconds to the next call, or None for the end."""

    def __init__(self, tick: Callable[[], float | None]):
        self._tick: Callable[[], float | None] = tick
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to tick."""
        # The notebook finds the cell that a thread's output belongs to by its context variables.
        work = partial(contextvars.copy_context().run, self._work)
        WorkerThread(work, name="torchmin_nb view", stop=self.stop).start()

    def stop(self) -> None:
        """No tick begins after this."""
        self._stopped.set()

    def _work(self) -> None:
        wait: float | None = 0.0
        while wait is not None and not self._stopped.wait(wait):
            wait = self._tick()
        self._tick = _over  # no cycle is left: what ticked is freed at once


def _over() -> None:
    """There are no more ticks."""


class Pace:
    """When the next drawing may be: not before `interval` seconds, and so that drawing takes at most `share`.

    traffic: bytes a second that may be sent. clock: seconds, monotonic.
    """

    def __init__(
        self, interval: float, share: float, *, traffic: float = math.inf, clock: Callable[[], float] = time.monotonic
    ):
        self._interval = interval
        self._share = share
        self._traffic = traffic
        self._clock = clock
        self._due = 0.0

    @property
    def due(self) -> bool:
        """Whether it may be drawn now."""
        return self._clock() >= self._due

    def at_once(self) -> None:
        """The next drawing need not wait."""
        self._due = 0.0

    def draw(self, draw: Callable[[], int]) -> None:
        """Draw, which returns the bytes sent, and wait accordingly."""
        begun = time.thread_time()
        sent = draw()
        cost = time.thread_time() - begun
        self._due = self._clock() + max(self._interval, cost / self._share, sent / self._traffic)


class Pulse:
    """Signs of life for the views of a panel.

    beat(whole=...): sends one, with all that is shown if `whole`, and returns the bytes sent. traffic, clock: of Pace.
    """

    def __init__(
        self, beat: Callable[..., int], *, traffic: float = math.inf, clock: Callable[[], float] = time.monotonic
    ):
        self._beat = beat
        self._traffic = traffic
        self._clock = clock
        self._stale = False
        self._beat_due = self._whole_due = clock() + _BEAT

    def drawn(self) -> None:
        """There is something new."""
        self._stale = True

    def tick(self) -> None:
        """Send what is due."""
        now = self._clock()
        if now < self._beat_due:
            return
        whole = self._stale and now >= self._whole_due
        sent = self._beat(whole=whole)
        self._beat_due = now + _BEAT
        if whole:
            self._stale = False
            self._whole_due = now + max(_WHOLE, 2 * sent / self._traffic)
