"""A progress line for terminals and logs."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from ..core.history.history import History
from ..core.history.records import Iteration
from .words import status_line

__all__ = ["ProgressLine"]


class ProgressLine:
    """A callback that keeps one line up to date in a terminal. In a log it writes only the last state.

    Parameters
    ----------
    stream : file or None, optional
        Where it writes. Default: standard error.
    interval : float, optional
        Seconds between two updates. Default 0.1.

    Examples
    --------
    >>> import io
    >>> log = io.StringIO()
    >>> result = minimize(lambda x: (x**2).sum(), [3.0, 4.0], "BFGS", callbacks=[ProgressLine(log)])
    >>> log.getvalue().count(chr(10))
    1
    """

    def __init__(self, stream: TextIO | None = None, *, interval: float = 0.1):
        self._stream = stream
        self._interval = interval
        self._history: History | None = None
        self._due = 0.0

    def on_start(self, history: History) -> None:
        """Begin a line. Runs call it.

        Parameters
        ----------
        history : History
            The history of the run.
        """
        self._history = history
        self._due = 0.0

    def __call__(self, iteration: Iteration) -> None:
        now = time.monotonic()
        if self._history is not None and now >= self._due and self._live:
            self._due = now + self._interval
            self._write("\r" + self._fitted(status_line(self._history)))

    def on_end(self, history: History) -> None:
        """Write the last state. Runs call it.

        Parameters
        ----------
        history : History
            The history of the run.
        """
        line = status_line(history)
        self._write("\r" + self._fitted(line) + "\n" if self._live else line + "\n")

    @property
    def _out(self) -> TextIO:
        return self._stream or sys.stderr

    @property
    def _live(self) -> bool:
        return self._out.isatty()

    def _fitted(self, line: str) -> str:
        width = shutil.get_terminal_size().columns - 1
        return (line if len(line) <= width else line[: width - 1] + "…").ljust(width)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
