"""Worker threads that end before the interpreter does, and waiting for them that can be interrupted."""

from __future__ import annotations

import atexit
import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["WorkerThread", "after_workers", "interruptible"]

_Answer = TypeVar("_Answer")

_SLICE = 0.1
_PATIENCE = 30.0
"""Seconds that the interpreter waits for all workers at exit: a closure call that never returns must not block it."""

_alive: set[WorkerThread] = set()
_closers: list[Callable[[], object]] = []


class WorkerThread(threading.Thread):
    """A daemon thread that is stopped and joined before the interpreter exits.

    A thread that is inside torch during the exit would abort the process. `stop` is called from another thread, and
    must not wait for this thread.
    """

    def __init__(self, work: Callable[[], object], *, name: str, stop: Callable[[], object]):
        super().__init__(target=work, name=name, daemon=True)
        self.stop: Callable[[], object] = stop

    def start(self) -> None:
        """Start the thread; registered before it starts."""
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
            self.stop = _nothing  # frees the objects that the work used, also if the thread object is kept


def _nothing() -> None:
    """Mark the work as done: there is nothing to stop."""


def after_workers(close: Callable[[], object]) -> None:
    """Call this at exit, when no worker needs any more what it closes."""
    _closers.append(close)


@atexit.register
def _end_all() -> None:
    """Stop the workers at exit: after the user's other threads, and before torch and BLAS are shut down."""
    end = time.monotonic() + _PATIENCE
    workers = [worker for worker in list(_alive) if worker.is_alive()]  # a forked child has none of these threads
    for worker in workers:
        worker.stop()
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))
    for close in _closers:
        close()


def interruptible(wait: Callable[[float], _Answer | None], timeout: float | None = None) -> _Answer | None:
    """Wait in short slices: the result of `wait(seconds)`, or None after the timeout.

    Waiting for a lock does not react to a KeyboardInterrupt without a signal, which Jupyter sends on Windows;
    between two slices it is raised.
    """
    end = math.inf if timeout is None else time.monotonic() + timeout
    while (answer := wait(max(0.0, min(_SLICE, end - time.monotonic())))) is None:
        if time.monotonic() >= end:
            return None
    return answer
