"""The kernel's main thread: what is to be sent from it, and whether it was free for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Protocol

from .frontend import shell

__all__ = ["FreeTime", "Loop", "MainThread", "main_thread"]

_TICK = 0.25
"""Seconds between two looks at whether the main thread is free."""


class Loop(Protocol):
    """The part of tornado's IOLoop that is used here."""

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Call it in the loop's thread; from any thread."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        """Call it after so many seconds; only from the loop's thread."""


class MainThread:
    """The thread in which a kernel runs cells, one after another, and answers its front ends in between.

    register: of IPython's events. cells: how many of them run now.
    """

    def __init__(
        self,
        loop: Loop,
        register: Callable[[str, Callable[[], None]], object],
        *,
        cells: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.loop = loop
        self.clock = clock
        self.begun = 0
        """The number of cells that have begun."""
        self._running = cells
        self._waiting: set[Callable[[], None]] = set()
        self._lock = threading.Lock()
        register("pre_execute", self._begin)
        register("post_execute", self._end)

    @property
    def free(self) -> bool:
        """Whether no cell runs, not even one that awaits something."""
        return not self._running

    def send(self, action: Callable[[], None]) -> None:
        """Call it in this thread: some front ends show nothing that another one sends.

        While a cell runs it is called here at once, since it would have to wait, and there again after the cell; but
        once, however often it is asked for.
        """
        if threading.current_thread() is threading.main_thread():
            action()
            return
        if not self.free:
            action()
        with self._lock:
            if action in self._waiting:
                return
            self._waiting.add(action)
        self.loop.add_callback(partial(self._act, action))

    def _act(self, action: Callable[[], None]) -> None:
        with self._lock:
            self._waiting.discard(action)
        action()

    def _begin(self) -> None:
        self.begun += 1
        self._running += 1

    def _end(self) -> None:
        self._running = max(0, self._running - 1)  # a cell that cannot be compiled ends without having begun


class FreeTime:
    """Calls `act` in the main thread when that was free for so many seconds in a row.

    Then whatever a front end had sent before has been heard. A cell starts the count anew, and seconds in which the
    loop did not get its turn do not count.
    """

    def __init__(self, main: MainThread, seconds: float, act: Callable[[], None]):
        self._main = main
        self._seconds = self._left = seconds
        self._act = act
        self._begun = main.begun
        self._looked = main.clock()
        self._over = False
        main.loop.add_callback(self._tick)

    def cancel(self) -> None:
        """Do not call it any more."""
        self._over = True

    def _tick(self) -> None:
        if self._over:
            return
        main, now = self._main, self._main.clock()
        passed, self._looked = now - self._looked, now
        if not main.free or main.begun != self._begun:
            self._begun, self._left = main.begun, self._seconds
        elif passed < 2 * _TICK:
            self._left -= passed
        if self._left > 0:
            main.loop.call_later(_TICK, self._tick)
        else:
            self._over = True
            self._act()


def main_thread() -> MainThread | None:
    """That of the kernel in which this runs; None without a kernel."""
    here = shell()
    kernel = getattr(here, "kernel", None)
    return None if getattr(kernel, "io_loop", None) is None else _of(here)


@cache
def _of(shell: Any) -> MainThread:
    request = shell.kernel.get_parent("shell").get("header", {}).get("msg_type")
    return MainThread(shell.kernel.io_loop, shell.events.register, cells=int(request == "execute_request"))
