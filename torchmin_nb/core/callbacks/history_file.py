"""HistoryFile: a callback that writes a run to a file while it works, one JSON line for each iteration."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import FileIO
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from ...errors import BusyError, HistoryError, StorageError
from ..history.history import History
from ..history.records import Evaluation, Iteration, record
from ..history.rows import Number, Rows, stored_form
from ..storage.atomic_files import UNREADABLE, as_path, open_regular_file, require_writable, warn_dropped

__all__ = ["HistoryFile", "HistoryTail", "mended"]

_FORMAT = "torchmin_nb history lines 1"
_FIRST_BYTES = json.dumps({"format": _FORMAT})[:-1].encode()
_KEEPS = ("keep_parameters", "keep_evaluations")
_NOT_READABLE = "{!r} is not a readable history file: {}; pass a file that HistoryFile wrote"
_CHUNK = 2**19
"""Bytes that are read at once."""
_RECORD = msgspec.defstruct(
    "Record",
    [
        ("run", str),
        ("iteration", stored_form(Iteration) | None, None),
        ("evaluation", stored_form(Evaluation) | None, None),
        ("parameters", list[Number] | None, None),
        ("trial", list[Number] | None, None),
    ],
    forbid_unknown_fields=True,
    gc=False,
)
_RECORDS = msgspec.json.Decoder(_RECORD)


class HistoryFile:
    """A callback that appends each iteration to a file as soon as it is made, one JSON line each.

    The file keeps what the run's history keeps: iterations, and evaluations and parameters if the optimizer has
    ``keep_evaluations`` and ``keep_parameters``. Each line is handed to the operating system at once, so that a killed
    kernel loses at most the line that is being written. A machine that loses power may lose the last seconds.

    A file that exists is never overwritten. A further run is appended to it, whichever process or HistoryFile made it,
    and `read_all` returns them all. Runs that go on at the same time may share a path, each with a HistoryFile of its
    own: every line names its run.

    Parameters
    ----------
    path : str or path-like
        The file.

    Attributes
    ----------
    path : Path
        The file.

    Raises
    ------
    StorageError
        Before any work: if the path cannot be written or holds something else.

    Warns
    -----
    StorageWarning
        If the disk fails later. The file is dropped, and the run goes on.

    Notes
    -----
    A second run while the first one goes on raises BusyError.

    A run begins with the line ``{"format", "run", "method", "options", "n_parameters", "dtype", ...}``. Then follow
    ``{"run", "iteration": {...}}``, with ``"parameters"`` if kept; ``{"run", "evaluation": {...}}``, with ``"trial"``
    if kept; and ``{"run", "ending": {"success", "status", "message", "final_loss", "totals"}}``. NaN and infinities are
    strings.

    Examples
    --------
    >>> result = minimize(lambda x: (x**2).sum(), [3.0, 4.0], "BFGS", callbacks=[HistoryFile("run.jsonl")])
    >>> HistoryFile.read("run.jsonl") == result.history, HistoryFile.read("run.jsonl")[0].loss
    (True, 25.0)
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = as_path(path)
        self._history: History | None = None
        self._file: FileIO | None = None
        self._run = ""
        _require_ours(self.path)

    def on_start(self, history: History) -> None:
        """Begin a run in the file. Runs call it.

        Parameters
        ----------
        history : History
            The history of the run.

        Raises
        ------
        BusyError
            If this HistoryFile keeps another run that goes on.
        StorageError
            If the file cannot be written.
        """
        if self._file is not None:
            raise BusyError(f"this HistoryFile of {str(self.path)!r} is in use by a run; create one for each run")
        _require_ours(self.path)
        self._history, self._run = history, uuid.uuid4().hex[:12]
        keeps = {name: getattr(history, name) for name in _KEEPS}
        try:
            self._write({"format": _FORMAT, "run": self._run, **history.heading(), **keeps})
        except OSError as error:
            raise StorageError(f"{str(self.path)!r} cannot be written: {error}; choose another file") from error
        finally:
            self._close()  # another callback may still refuse the run

    def __call__(self, iteration: Iteration) -> None:
        """Append an iteration."""
        self._append(lambda history: {"iteration": record(iteration), **_point("parameters", history.last_point())})

    @property
    def on_evaluation(self) -> Callable[[Evaluation], None]:
        """A function that appends an evaluation.

        It exists only if the history keeps evaluations, since a call for each costs a little.
        """
        if self._history is None or not self._history.keep_evaluations:
            raise AttributeError("on_evaluation: the history keeps no evaluations")
        return self._evaluated

    def on_end(self, history: History) -> None:
        """Append how the run ended, and close the file. Runs call it.

        Parameters
        ----------
        history : History
            The history of the run.
        """
        self._append(lambda history: {"ending": history.ending()})
        self._close()
        self._history = None

    @classmethod
    def read(cls, path: str | os.PathLike[str], run: int = -1) -> History:
        """Read one run of a file, also while it goes on, and after a kill.

        Parameters
        ----------
        path : str or path-like
            The file.
        run : int, optional
            Number of the run in the order of their beginnings, negative from the end. Default: the last.

        Returns
        -------
        History
            Equal to the run's own history once it has ended. Before that its beginning, whose ``message`` is None. A
            line that was only half written is left out.

        Raises
        ------
        HistoryError
            If the file is no history file, if lines are missing within a run, or if there is no such run.
        """
        runs = cls.read_all(path)
        try:
            return runs[run]
        except IndexError:
            raise HistoryError(f"{str(path)!r} has {len(runs)} runs; there is no run {run}") from None

    @classmethod
    def read_all(cls, path: str | os.PathLike[str]) -> list[History]:
        """Read all runs of a file.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        list of History
            In the order in which they began.

        Raises
        ------
        HistoryError
            If the file is no history file, or lines are missing within a run.
        """
        try:
            with open_regular_file(path) as file:
                if not _FIRST_BYTES.startswith(file.read(len(_FIRST_BYTES))):
                    raise ValueError("it does not begin as one")
                file.seek(0)
                return [run.history() for run in _runs(file).values()]
        except UNREADABLE as error:
            raise HistoryError(_NOT_READABLE.format(str(path), error)) from error

    def __getstate__(self) -> dict[str, Any]:
        """For copies: they store nothing until they are used in a run."""
        return {**self.__dict__, "_file": None, "_history": None}

    def _evaluated(self, evaluation: Evaluation) -> None:
        self._append(lambda history: {"evaluation": record(evaluation), **_point("trial", history.last_trial())})

    def _append(self, line: Callable[[History], dict[str, Any]]) -> None:
        if self._history is None:
            return
        try:
            self._write({"run": self._run, **line(self._history)})
        except Exception as error:
            self._close()
            self._history = None
            warn_dropped(f"the history file {str(self.path)!r}", error, "it is readable up to this point", stacklevel=4)

    def _write(self, line: dict[str, Any]) -> None:
        """One system call for each line, so that lines of several runs do not mix."""
        text = json.dumps(line, allow_nan=False).encode() + b"\n"
        if self._file is None:
            self._file = FileIO(self.path, "a")
            text = mended(self.path) + text
        if self._file.write(text) != len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


class HistoryTail:
    """The runs of a history file that another process writes: each `poll` reads only what is new.

    A file that is not there yet has no runs, and one that was replaced by a shorter one is read anew.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = as_path(path)
        self._read = 0
        self._runs: dict[str, _Stored] = {}

    def poll(self) -> bool:
        """Read what is new, whole lines only; whether there was anything. Raises HistoryError as `HistoryFile.read`."""
        try:
            return self._poll()
        except FileNotFoundError:
            return False
        except UNREADABLE as error:
            raise HistoryError(_NOT_READABLE.format(str(self.path), error)) from error

    def histories(self) -> list[History]:
        """The runs so far, in the order in which they began."""
        return [run.history() for run in self._runs.values()]

    def _poll(self) -> bool:
        size = self.path.stat().st_size
        if size < self._read:
            self._read, self._runs = 0, {}
        if size == self._read:
            return False
        before = self._read
        with open_regular_file(self.path) as file:
            if not _FIRST_BYTES.startswith(file.read(len(_FIRST_BYTES))):
                raise ValueError("it does not begin as one")
            file.seek(self._read)
            while lines := _whole_lines(file):
                _take(self._runs, _lines(lines))
                self._read += len(lines)
        for run in self._runs.values():
            run.flush()
        return self._read > before


def _whole_lines(file: BinaryIO) -> bytes:
    """Up to a chunk of lines that end; what follows the last end is still being written."""
    chunk = file.read(_CHUNK)
    rest = file.readline()
    return chunk + rest if rest.endswith(b"\n") else (chunk + rest)[: (chunk + rest).rfind(b"\n") + 1]


def _require_ours(path: Path) -> None:
    """Refuse a path that cannot be written, and a file that is not a history file."""
    require_writable(path)
    if path.exists() and not _begins_as_ours(path):
        raise StorageError(f"{str(path)!r} exists and is not a history file; choose another path, or move that file")


def _begins_as_ours(path: Path) -> bool:
    """True also for an empty file, and for a file whose first line is incomplete."""
    with path.open("rb") as file:
        begin = file.read(len(_FIRST_BYTES))
    return _FIRST_BYTES.startswith(begin)


def mended(path: Path) -> bytes:
    """The text that ends an incomplete last line, so that the next line is separate."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return b""
        file.seek(-1, os.SEEK_END)
        return b"" if file.read(1) == b"\n" else b"\n"


def _runs(file: BinaryIO) -> dict[str, _Stored]:
    """The runs of a file, by the run name in each line."""
    runs: dict[str, _Stored] = {}
    while chunk := file.read(_CHUNK) + file.readline():
        _take(runs, _lines(chunk))
        for run in runs.values():
            run.flush()
    return runs


def _lines(chunk: bytes) -> list[Any]:
    """The readable lines. An incomplete line leaves a gap, unless it was the last line of its run."""
    try:
        return _RECORDS.decode_lines(chunk)
    except ValueError:
        return [line for text in chunk.split(b"\n") for line in _line(text)]


def _line(text: bytes) -> Iterator[Any]:
    try:
        yield _RECORDS.decode(text)
    except ValueError:  # not a record, or incomplete
        with suppress(ValueError):
            yield json.loads(text)


def _take(runs: dict[str, _Stored], lines: list[Any]) -> None:
    """Add each line to its run. Many lines of one run together are faster."""
    for (is_record, name), group in groupby(lines, _form_and_run):
        if is_record:
            _run_of(runs, name).take(list(group))
            continue
        for line in group:
            if "format" in line:
                runs[name] = _Stored(line)
            else:
                _run_of(runs, name).take_other(line)


def _form_and_run(line: Any) -> tuple[bool, str]:
    return (False, line["run"]) if isinstance(line, dict) else (True, line.run)


def _run_of(runs: dict[str, _Stored], name: str) -> _Stored:
    if name not in runs:
        raise ValueError(f"the first line of run {name} is missing")
    return runs[name]


class _Stored:
    """One run of a file as it is read. Its lines wait in lists until a chunk has been read."""

    def __init__(self, heading: dict[str, Any]):
        self._heading = {**heading, **History().ending()}
        self._rows: dict[str, Rows[Any]] = {"iteration": Rows(Iteration), "evaluation": Rows(Evaluation)}
        self._points: dict[str, list[Any]] = {"parameters": [], "trial": []}
        self._waiting: dict[str, list[Any]] = {name: [] for name in (*self._rows, *self._points)}

    def take(self, lines: list[Any]) -> None:
        """Add the records of some lines."""
        for name, values in self._waiting.items():
            values.extend(value for value in map(attrgetter(name), lines) if value is not None)

    def take_other(self, line: dict[str, Any]) -> None:
        """Add a line of a less common kind."""
        self._heading.update(line.get("ending", {}))
        for name in self._waiting.keys() & line.keys():
            self._waiting[name].append(line[name])

    def flush(self) -> None:
        """Add the waiting lines. Raises ValueError if a line is missing, and the errors of Rows."""
        for name, values in self._waiting.items():
            if values and name in self._rows:
                self._rows[name].extend_stored(values)
                _require_all(name, self._rows[name].column("index"), len(values))
            elif values:
                self._points[name].extend(np.array(values, dtype=np.float64))
            values.clear()

    def history(self) -> History:
        """The run, up to the end of the file."""
        kept = {name: self._heading[f"keep_{name}"] is True for name in ("parameters", "evaluations")}
        parts = {
            "iterations": self._rows["iteration"],
            "evaluations": self._rows["evaluation"] if kept["evaluations"] else None,
            "parameters": self._points["parameters"] if kept["parameters"] else None,
            "trials": self._points["trial"],
        }
        return History.from_parts({**self._heading, **parts})


def _require_all(name: str, indices: Sequence[int], new: int) -> None:
    first = len(indices) - new
    wrong = np.flatnonzero(np.array(indices[first:]) != np.arange(first, len(indices)))
    if len(wrong):
        raise ValueError(f"{name} {first + wrong[0]} is missing")


def _point(name: str, x: list[Any] | None) -> dict[str, list[Any]]:
    return {} if x is None else {name: x}
