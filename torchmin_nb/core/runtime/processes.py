"""Processes that apply one function to many items: spawned, never forked, and gone when the caller is.

multiprocessing would import the user's main module again; `worker` needs only what is sent to it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from numbers import Integral
from queue import Empty, SimpleQueue
from typing import Any

from ...errors import ArgumentTypeError, WorkerError
from ..validation import count
from .workers import interruptible

__all__ = ["Answers", "Workers", "cores", "in_processes", "read_workers", "spread"]

Workers = int | Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""A number of processes, or a function like map."""
Answers = Generator[tuple[int, Any], None, None]
"""The place of each item, and what the function returned for it."""

_START = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = {path!r}; "
    "from torchmin_nb.core.runtime.worker import main; main()"
)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_BEGUN = object()


def cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_workers(workers: Any) -> Workers:
    """The number of processes, or a function like map. Raises ArgumentError or ArgumentTypeError."""
    if callable(workers):
        return workers  # type: ignore[no-any-return]
    if isinstance(workers, bool) or not isinstance(workers, Integral):
        raise ArgumentTypeError(
            f"workers must be a number of processes, -1 for one on each core, or a function like map, got {workers!r}"
        )
    return cores() if workers == -1 else count("workers", workers)


def spread(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    workers: Workers,
    *,
    threads: int = 1,
    on_begin: Callable[[int], object] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Answers:
    """`in_processes`, or the values of a function like map, in its order. Then on_begin is called for all at once."""
    if not callable(workers):
        yield from in_processes(function, items, workers, threads=threads, on_begin=on_begin, stopped=stopped)
        return
    for place in range(len(items)):
        if on_begin is not None:
            on_begin(place)
    for place, answer in enumerate(workers(function, items)):
        yield place, answer
        if stopped():
            return


def in_processes(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    workers: int,
    *,
    threads: int = 1,
    on_begin: Callable[[int], object] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Answers:
    """(index, function(item)) of each item, as they arrive. A WorkerError stands for the value of a worker that died.

    threads: of each process, for torch and BLAS. on_begin: called with the index of an item whose work begins.
    stopped: whether to end early. Closing the iterator ends all processes. Function and items are pickled.
    """
    events: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    pool = _Pool(function, items, threads, events)
    try:
        pool.start(min(workers, len(items)))
        left = len(items)
        while left and not stopped():
            event = interruptible(lambda seconds: _next(events, seconds), timeout=1.0)
            if event is None:
                continue
            if event[1] is not _BEGUN:
                left -= 1
                yield event
            elif on_begin is not None:
                on_begin(event[0])
    finally:
        pool.end()


def _next(events: SimpleQueue[tuple[int, Any]], seconds: float) -> tuple[int, Any] | None:
    try:
        return events.get(timeout=seconds)
    except Empty:
        return None


class _Pool:
    """Some worker processes, each served by a thread here, which passes it one item after another."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        threads: int,
        events: SimpleQueue[tuple[int, Any]],
    ):
        self._function = pickle.dumps(function)
        self._numbered = iter(enumerate(items))
        self._environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads))}
        self._events = events
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []
        self._ended = False

    def start(self, workers: int) -> None:
        self._threads = [
            threading.Thread(target=self._serve, name="torchmin_nb worker", daemon=True) for _ in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """End all processes at once, in the middle of their work too."""
        with self._lock:
            self._ended = True
            processes = list(self._processes)
        for process in processes:
            process.kill()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        process = None
        while (numbered := self._take()) is not None:
            index, item = numbered
            process = process or self._spawned()
            if process is None:
                return
            self._events.put((index, _BEGUN))
            answer = _asked(process, item)
            if answer is None:
                code = _closed(process)
                process = None
                answer = WorkerError(f"the worker process ended with exit code {code} in the middle of its work")
            self._events.put((index, answer))
        if process is not None:
            _closed(process)

    def _take(self) -> tuple[int, Any] | None:
        with self._lock:
            return None if self._ended else next(self._numbered, None)

    def _spawned(self) -> subprocess.Popen[bytes] | None:
        """A new process that has the function; None after the end."""
        with self._lock:
            if self._ended:
                return None
            process = subprocess.Popen(
                [sys.executable, "-c", _START.format(path=sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
            )
            self._processes.append(process)
        _send(process, self._function)
        return process


def _closed(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process, which ends when its pipe is closed."""
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
    return process.wait()


def _asked(process: subprocess.Popen[bytes], item: Any) -> Any:
    """What the process answers; None if it has ended."""
    assert process.stdout is not None
    if not _send(process, pickle.dumps(item)):
        return None
    try:
        return pickle.load(process.stdout)
    except (EOFError, OSError, ValueError, pickle.UnpicklingError):
        return None


def _send(process: subprocess.Popen[bytes], data: bytes) -> bool:
    assert process.stdin is not None
    try:
        process.stdin.write(data)
        process.stdin.flush()
    except (OSError, ValueError):
        return False
    return True
