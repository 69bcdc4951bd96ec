"""The worker process: reads a function, then items, and writes what the function returns. See `processes`."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from queue import SimpleQueue
from typing import Any, BinaryIO

from ...errors import WorkerError, text_of

__all__ = ["main"]


def main() -> None:
    """Work until the other side closes the pipe, or has ended."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the closure prints must not get between the answers
    function = pickle.load(sys.stdin.buffer)
    items: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, items), daemon=True).start()
    while True:
        answers.write(_answer(function, items.get()))
        answers.flush()


def _read(source: BinaryIO, items: SimpleQueue[Any]) -> None:
    """Read in a thread: then the end of the other side ends this process also in the middle of a run."""
    try:
        while True:
            items.put(pickle.load(source))
    finally:
        os._exit(0)


def _answer(function: Any, item: Any) -> bytes:
    try:
        return pickle.dumps(function(item))
    except Exception as error:
        return pickle.dumps(WorkerError(f"a worker process failed: {type(error).__name__}: {text_of(error)}"))
