"""Worker threads, and waiting for them: ended before the interpreter is, interrupted as the main thread should be."""

from __future__ import annotations

import atexit
import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["WorkerThread", "interruptible"]

_Answer = TypeVar("_Answer")

_SLICE = 0.1
_PATIENCE = 30.0
"""Seconds that the interpreter's end waits for all workers: one whose closure call never returns must not hold it."""

_alive: set[WorkerThread] = set()


class WorkerThread(threading.Thread):
    """A daemon thread that is asked to stop, and joined, before the interpreter is torn down.

    A thread that is inside torch at that moment would abort the process. `stop` is called from another thread, and must
    not wait for this one.
    """

    def __init__(self, work: Callable[[], object], *, name: str, stop: Callable[[], object]):
        super().__init__(target=work, name=name, daemon=True)
        self.stop: Callable[[], object] = stop

    def start(self) -> None:
        """Begin to work; known from before the thread is there."""
        _alive.add(self)
        try:
            super().start()
        except BaseException:
            _alive.discard(self)
            raise

    def run(self) -> None:
        """Work, in the new thread."""
        try:
            super().run()
        finally:
            _alive.discard(self)
            self.stop = _nothing  # what it worked for is let go with it, also where the thread is kept


def _nothing() -> None:
    """There is nothing to stop any more."""


@atexit.register
def _end_all() -> None:
    """After the other threads of the user's have ended, and before torch and BLAS are torn down."""
    end = time.monotonic() + _PATIENCE
    workers = [worker for worker in list(_alive) if worker.is_alive()]  # in a forked child none of them is
    for worker in workers:
        worker.stop()
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))


def interruptible(wait: Callable[[float], _Answer | None], timeout: float | None = None) -> _Answer | None:
    """Wait in slices: what `wait(seconds)` answers, None where it never answered within the timeout.

    A lock that is waited for does not hear a KeyboardInterrupt that comes without a signal, as Jupyter sends it on
    Windows; between two slices it is raised.
    """
    end = math.inf if timeout is None else time.monotonic() + timeout
    while (answer := wait(max(0.0, min(_SLICE, end - time.monotonic())))) is None:
        if time.monotonic() >= end:
            return None
    return answer
