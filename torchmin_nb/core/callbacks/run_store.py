"""RunStore: a folder that keeps every run, one file each, and shows them as a table."""

from __future__ import annotations

import json
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, HistoryError, StorageError
from ..display.hooks import histories_page, show_store
from ..display.html import Html, html, html_page, html_table, joined
from ..display.tables import text_table
from ..history.history import History
from ..history.records import Evaluation, Iteration, encoded
from ..storage.atomic_files import UNREADABLE, as_path, open_regular_file, warn_dropped, write_text
from .history_file import HistoryFile, mended

__all__ = ["COLUMNS", "FORMATS", "RunStore", "StoredRun", "cells"]

_PACKAGES = ("torchmin-nb", "torch", "scipy", "numpy")
_TAIL = 2**17
"""Bytes at the end of a file in which its last line stands."""
_SMALL = 1000
"""The end parameters are kept up to this number of entries."""


@dataclass(frozen=True, eq=False)
class StoredRun:
    """One run of a store, without its iterations, which `history` reads.

    Attributes
    ----------
    name : str
        Name of the run.
    path : Path
        Its file, which `HistoryFile.read` reads too.
    method : str
        Name of the method.
    options : dict
        The options that were set.
    n_parameters : int
        Number of parameters.
    dtype : str
        dtype of the parameters.
    created : float
        When it began, in seconds since the epoch.
    success : bool or None
        Whether the method reported success; None if the run goes on, or was killed.
    message : str
        How it ended, in words.
    loss : float or None
        The final loss.
    evaluations : int or None
        Number of closure calls.
    products : int or None
        Number of Hessian-vector products.
    seconds : float or None
        Wall-clock seconds.
    code : str
        Code that makes the optimizer; empty if it is not known.
    versions : dict of str to str
        Versions of Python and of the packages.
    x : ndarray of shape (n,) or None
        The end parameters, float64; None if there are more than a thousand, or they are not known.

    See Also
    --------
    RunStore : keeps it, and has an example.
    """

    name: str
    path: Path
    method: str
    options: Mapping[str, Any]
    n_parameters: int
    dtype: str
    created: float
    success: bool | None = None
    message: str = ""
    loss: float | None = None
    evaluations: int | None = None
    products: int | None = None
    seconds: float | None = None
    code: str = ""
    versions: Mapping[str, str] | None = None
    x: NDArray[np.float64] | None = None

    @cached_property
    def history(self) -> History:
        """All iterations, read from the file."""
        return HistoryFile.read(self.path)


COLUMNS: Mapping[str, Callable[[StoredRun], Any]] = {
    "name": lambda run: run.name,
    "method": lambda run: run.method,
    "created": lambda run: time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.created)),
    "parameters": lambda run: run.n_parameters,
    "loss": lambda run: run.loss,
    "evaluations": lambda run: run.evaluations,
    "products": lambda run: run.products,
    "seconds": lambda run: run.seconds,
    "ending": lambda run: run.message,
}
FORMATS = {"parameters": ",d", "loss": ".6g", "evaluations": ",d", "products": ",d", "seconds": ".2f"}


class RunStore:
    """A folder that keeps every run: a callback, and the table of the runs that are kept.

    ``MinimizeWrapper(params, "BFGS", callbacks=[RunStore("runs/")])`` keeps a run as `HistoryFile` does, while it
    works, in a file of its own, and at its end adds how the optimizer was made, versions, and small end parameters.
    Several runs may go on at the same time, also in several processes.

    Parameters
    ----------
    path : str or path-like
        The folder. It is made if it is not there.
    name : str or None, optional
        Name of the runs that this callback keeps. Default: the method. Names are numbered: "BFGS", "BFGS 2".

    Attributes
    ----------
    path : Path
        The folder.

    Raises
    ------
    StorageError
        If the folder cannot be made or written.

    Warns
    -----
    StorageWarning
        If the disk fails later; the run goes on. Also for a file that cannot be read, which is left out.

    Examples
    --------
    >>> store = RunStore("runs")
    >>> for method in ("BFGS", "CG"):
    ...     result = minimize(lambda x: (x**2).sum(), [3.0, 4.0], method, callbacks=[store])
    >>> [run.name for run in store.sorted_by("loss")], len(store["CG"].history) == len(result.history)
    (['BFGS', 'CG'], True)
    >>> store.rename("CG", "the last one")
    >>> store.names
    ['BFGS', 'the last one']
    """

    def __init__(self, path: Any, name: str | None = None):
        self.path = as_path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the folder {str(self.path)!r} cannot be made: {error}; choose another") from error
        self._name = name
        self._kept: dict[int, _Kept] = {}
        """The runs under way, by their threads."""

    # A callback

    def on_bind(self, optimizer: Any) -> None:
        """Note which optimizer begins a run. Runs call it.

        Parameters
        ----------
        optimizer : ScipyOptimizer
            The wrapper.
        """
        self._kept[threading.get_ident()] = _Kept(optimizer)

    def on_start(self, history: History) -> None:
        """Begin a file. Runs call it.

        Parameters
        ----------
        history : History
            The history of the run.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        kept = self._kept.setdefault(threading.get_ident(), _Kept(None))
        kept.created = time.time()
        kept.file = HistoryFile(self._new_file(history.method, kept.created))
        kept.file.on_start(history)

    def __call__(self, iteration: Iteration) -> None:
        """Keep an iteration."""
        file = self._file()
        if file is not None:
            file(iteration)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Keep an evaluation, if the history keeps them. Runs call it.

        Parameters
        ----------
        evaluation : Evaluation
            The closure call.
        """
        with suppress(AttributeError):
            file = self._file()
            if file is not None:
                file.on_evaluation(evaluation)

    def on_end(self, history: History) -> None:
        """Keep how the run ended. Runs call it.

        Parameters
        ----------
        history : History
            The history of the run.
        """
        kept = self._kept.get(threading.get_ident())
        if kept is None or kept.file is None:
            return
        kept.file.on_end(history)
        kept.history = history
        if kept.optimizer is None:  # of torch: there is no on_release
            self._finish()

    def on_release(self, optimizer: Any) -> None:
        """Keep the end parameters. Runs call it.

        Parameters
        ----------
        optimizer : ScipyOptimizer
            The wrapper.
        """
        self._finish()

    # The runs that are kept

    @property
    def runs(self) -> list[StoredRun]:
        """All runs, in the order in which they began. Their iterations are read when `StoredRun.history` is."""
        found = [run for path in sorted(self.path.glob("*.jsonl")) if (run := _read(path)) is not None]
        names: set[str] = set()
        runs = []
        for run in sorted(found, key=lambda run: (run.created, run.path.name)):
            name, number = run.name, 1
            while name in names:
                number += 1
                name = f"{run.name} {number}"
            names.add(name)
            runs.append(replace(run, name=name))
        return runs

    @property
    def names(self) -> list[str]:
        """The names of all runs, in the order in which they began."""
        return [run.name for run in self.runs]

    def __iter__(self) -> Iterator[StoredRun]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, name: str) -> StoredRun:
        runs = self.runs
        for run in runs:
            if run.name == name:
                return run
        raise ArgumentError(f"there is no run {name!r} in {str(self.path)!r}; there are {_listed(runs)}")

    def sorted_by(self, column: str, *, descending: bool = False) -> list[StoredRun]:
        """The runs sorted by a column; what is not known comes last.

        Parameters
        ----------
        column : {"name", "method", "created", "parameters", "loss", "evaluations", "products", "seconds", "ending"}
            The column.
        descending : bool, optional
            Whether the largest comes first. Default False.

        Returns
        -------
        list of StoredRun
            The runs.

        Raises
        ------
        ArgumentError
            If there is no such column.
        """
        if column not in COLUMNS:
            raise ArgumentError(f"column {column!r} is not known; choose one of {', '.join(COLUMNS)}")
        value = (lambda run: run.created) if column == "created" else COLUMNS[column]
        runs = self.runs
        known = sorted((run for run in runs if value(run) is not None), key=value, reverse=descending)
        return [*known, *(run for run in runs if value(run) is None)]

    def where(self, condition: Callable[[StoredRun], Any]) -> list[StoredRun]:
        """The runs that satisfy a condition.

        Parameters
        ----------
        condition : callable
            Of a StoredRun: ``store.where(lambda run: run.method == "BFGS" and run.success)``.

        Returns
        -------
        list of StoredRun
            The runs, in the order in which they began.
        """
        return [run for run in self.runs if condition(run)]

    def rename(self, name: str, new: str) -> None:
        """Give a run another name.

        Parameters
        ----------
        name : str
            Name of the run.
        new : str
            Its new name.

        Raises
        ------
        ArgumentError
            If there is no such run, or the new name is empty or taken.
        StorageError
            If the file cannot be written.
        """
        run, new = self[name], new.strip()
        if not new or (new != name and new in self.names):
            raise ArgumentError(f"the name {new!r} is {'taken' if new else 'empty'}; choose another")
        _append(run.path, {**(_last_line(run.path).get("footer") or {}), "name": new})

    def delete(self, names: str | Sequence[str]) -> None:
        """Delete runs and their files.

        Parameters
        ----------
        names : str or sequence of str
            Names of the runs.

        Raises
        ------
        ArgumentError
            If there is no such run; then none is deleted.
        StorageError
            If a file cannot be deleted.
        """
        for run in self._chosen(names):
            try:
                run.path.unlink()
            except OSError as error:
                raise StorageError(f"{str(run.path)!r} cannot be deleted: {error}") from error

    def histories(self, names: str | Sequence[str] | None = None) -> dict[str, History]:
        """The histories of runs by name, as figures take them: ``convergence_figure(store.histories(["a", "b"]))``.

        Parameters
        ----------
        names : str, sequence of str or None, optional
            Names of the runs. Default: all.

        Returns
        -------
        dict of str to History
            The histories.

        Raises
        ------
        ArgumentError
            If there is no such run.
        HistoryError
            If a file cannot be read.
        """
        return {run.name: run.history for run in self._chosen(names)}

    def write_html(self, path: Any, names: str | Sequence[str] | None = None) -> str:
        """Write one self-contained page of runs, to send to someone: table, curves, code and versions of each.

        Parameters
        ----------
        path : str or path-like
            The file.
        names : str, sequence of str or None, optional
            Names of the runs. Default: all.

        Returns
        -------
        str
            The page.

        Raises
        ------
        ArgumentError
            If there is no such run.
        StorageError
            If the file cannot be written.
        """
        runs = self._chosen(names)
        title = f"{len(runs)} run{'s' * (len(runs) != 1)}"
        figure = histories_page({run.name: run.history for run in runs})
        body = html(
            "<h1>{title}</h1><div class='wide'>{table}</div>{figure}{details}",
            title=title,
            table=_table(runs),
            figure=Html(figure),
            details=joined(map(_details, runs)),
        )
        page = html_page(title, body)
        write_text(path, page)
        return page

    def __repr__(self) -> str:
        runs = self.runs
        if not runs:
            return f"<RunStore of {str(self.path)!r}: no runs>"
        return text_table([list(COLUMNS), *map(cells, runs)], align="<<<>>>>><")

    def _repr_html_(self) -> str:
        return _table(self.runs)

    def _ipython_display_(self) -> None:
        if not show_store(self):
            raise NotImplementedError  # then IPython takes the plain table

    def __getstate__(self) -> dict[str, Any]:
        """For copies: they keep nothing until they are used in a run."""
        return {**self.__dict__, "_kept": {}}

    def _chosen(self, names: str | Sequence[str] | None) -> list[StoredRun]:
        runs = self.runs
        if names is None:
            return runs
        names = [names] if isinstance(names, str) else names
        by_name = {run.name: run for run in runs}
        missing = [name for name in names if name not in by_name]
        if missing:
            raise ArgumentError(f"there is no run {missing[0]!r} in {str(self.path)!r}; there are {_listed(runs)}")
        return [by_name[name] for name in names]

    def _new_file(self, method: str, created: float) -> Path:
        """A file that no other run has, in this process or another."""
        stem = time.strftime("%Y%m%d-%H%M%S", time.localtime(created)) + f"-{re.sub(r'[^A-Za-z0-9]+', '-', method)}"
        for number in count(1):
            path = self.path / (f"{stem}.jsonl" if number == 1 else f"{stem}-{number}.jsonl")
            try:
                path.open("x").close()
            except FileExistsError:
                continue
            except OSError as error:
                raise StorageError(f"{str(path)!r} cannot be written: {error}; choose another folder") from error
            return path
        raise AssertionError  # the numbers never end

    def _file(self) -> HistoryFile | None:
        kept = self._kept.get(threading.get_ident())
        return None if kept is None else kept.file

    def _finish(self) -> None:
        kept = self._kept.pop(threading.get_ident(), None)
        if kept is None or kept.file is None or kept.history is None:
            return
        try:
            _append(kept.file.path, kept.footer(self._name))
        except StorageError as error:
            warn_dropped(f"the end of the run in {str(kept.file.path)!r}", error, "its history is kept", stacklevel=4)


class _Kept:
    """A run that goes on. optimizer: None for one of torch."""

    def __init__(self, optimizer: Any):
        self.optimizer = optimizer
        self.file: HistoryFile | None = None
        self.history: History | None = None
        self.created = 0.0

    def footer(self, name: str | None) -> dict[str, Any]:
        """What is known at the end and is not part of the history."""
        assert self.history is not None
        facts: dict[str, Any] = {"name": name or self.history.method, "created": self.created, "versions": _versions()}
        result = getattr(self.optimizer, "result", None)
        x = None if result is None else np.asarray(result.x, dtype=np.float64).reshape(-1)
        if x is not None and x.size <= _SMALL:
            facts["x"] = encoded(x.tolist())
        if self.optimizer is not None:
            facts["code"] = _code(self.optimizer, self.history)
        return facts | {"ending": self.history.ending()}


def _code(optimizer: Any, history: History) -> str:
    options = "".join(f", {name}={value!r}" for name, value in history.options.items())
    kind = type(optimizer).__name__
    if kind == "MinimizeWrapper":
        settled = f", options=dict({options[2:]})" if options else ""
        return f"{kind}(model.parameters(), dict(method={history.method!r}{settled}))"
    if kind == "LeastSquaresWrapper":
        return f"{kind}(model.parameters(), dict(method={history.method!r}{options}))"
    return f"{kind}(model.parameters(), search_args=dict({options[2:]}))"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _append(path: Path, footer: Mapping[str, Any]) -> None:
    """Write a footer as the last line: the last one counts."""
    run = _first_line(path)["run"]
    try:
        with path.open("ab") as file:
            text = json.dumps({"run": run, "footer": footer}, allow_nan=False).encode()
            file.write(mended(path) + text + b"\n")
    except (OSError, ValueError) as error:
        raise StorageError(f"{str(path)!r} cannot be written: {error}") from error


def _read(path: Path) -> StoredRun | None:
    """A run from the first and the last line of its file. A StorageWarning for a file that cannot be read."""
    try:
        first, last = _first_line(path), _last_line(path)
        footer = last.get("footer") or {}
        ending = footer.get("ending") or last.get("ending") or {}
        totals, x = ending.get("totals") or {}, footer.get("x")
        loss = ending.get("final_loss")
        return StoredRun(
            name=str(footer.get("name") or first["method"]),
            path=path,
            method=str(first["method"]),
            options=dict(first["options"]),
            n_parameters=int(first["n_parameters"]),
            dtype=str(first["dtype"]),
            created=float(footer.get("created") or path.stat().st_mtime),
            success=ending.get("success"),
            message=str(ending.get("message") or "goes on, or was killed"),
            loss=None if loss is None else float(loss),
            evaluations=totals.get("nfev"),
            products=totals.get("nhvp"),
            seconds=totals.get("seconds"),
            code=str(footer.get("code", "")),
            versions=dict(footer.get("versions") or {}),
            x=None if x is None else np.array(x, dtype=np.float64),
        )
    except (*UNREADABLE, HistoryError) as error:
        warn_dropped(f"the file {str(path)!r}", error, "it is left out of the table", stacklevel=4)
        return None


def _first_line(path: Path) -> dict[str, Any]:
    with open_regular_file(path) as file:
        return dict(json.loads(file.readline()))


def _last_line(path: Path) -> dict[str, Any]:
    """The last whole line; empty if it is too long to be one of the end."""
    with open_regular_file(path) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        lines = file.read().split(b"\n")[:-1]
    try:
        return dict(json.loads(lines[-1])) if lines else {}
    except ValueError:
        return {}


def _listed(runs: Sequence[StoredRun]) -> str:
    names = [run.name for run in runs[:20]]
    return (", ".join(names) + (" …" if len(runs) > 20 else "")) or "none"


def cells(run: StoredRun) -> list[str]:
    """A line of the table, by COLUMNS."""
    values = {name: column(run) for name, column in COLUMNS.items()}
    return ["–" if value is None else format(value, FORMATS.get(name, "")) for name, value in values.items()]


def _table(runs: Sequence[StoredRun]) -> Html:
    sides = ["right" if name in FORMATS else "left" for name in COLUMNS]
    return html_table([list(COLUMNS), *map(cells, runs)], sides)


def _details(run: StoredRun) -> Html:
    versions = ", ".join(f"{name} {number}" for name, number in (run.versions or {}).items())
    return html(
        "<details><summary>{name}</summary><pre><code>{code}</code></pre><p>{versions}</p></details>",
        name=run.name,
        code=run.code or "# The code of this run is not known.",
        versions=versions or "The versions are not known.",
    )
