"""History: the iterations of a run as a sequence, as columns, and in stored forms."""

from __future__ import annotations

import csv
import io
import json
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ...errors import ArgumentError, HistoryError
from ..display.hooks import animated_page
from ..display.html import Html, html, html_page
from ..runtime.control import Status
from ..storage.atomic_files import UNREADABLE, open_regular_file, write_text
from .html_table import history_html
from .index_column import IndexColumn
from .joining import ARROW, add_totals, join_evaluations, join_iterations, join_options, require_same_size
from .json_form import plain, read_counts, read_field, read_number, read_options, read_parts, read_points, read_rows
from .records import FIELDS, Evaluation, Iteration, Totals, encoded, record
from .rows import Rows

if TYPE_CHECKING:
    import pandas
    from numpy.typing import NDArray

__all__ = [
    "History",
]

_FORMAT = "torchmin_nb history 1"
_NOT_STORED = "not a stored history: {}; pass the output of History.to_json"


_COLUMNS = tuple(name for name in FIELDS if name != "metrics")
_COUNT_COLUMNS = frozenset({"index", "nfev", "njev", "nhev", "nhvp", "rejected_errors"})


_EARLY = range(98, 110)
"""Statuses of early endings, for histories of older versions, which did not store `ended_early`."""


class History(Sequence[Iteration]):
    """The iterations of one run, in order. Each field of `Iteration` is also a NumPy column: ``history.loss``.

    Columns have shape (k,), k the number of iterations. They are float64 with NaN for what is not reported; ``index``
    and the counts are int64. ``history + other`` joins a run and the one that continued where it ended.

    Parameters
    ----------
    method : str, optional
        Name of the method. Default: empty.
    options : dict or None, optional
        Options of the method that the user has set.
    n_parameters : int or None, optional
        Number of trainable entries, n.
    dtype : str or None, optional
        Names of the parameters' dtypes, such as "float32".
    keep_parameters : bool, optional
        Keep the point of every iteration. Default False.
    keep_evaluations : bool, optional
        Keep every closure call. Default False.

    Attributes
    ----------
    success : bool or None
        Whether the run ended with success; None before its end, as for the next four.
    status : int or None
        Why it ended. A status of torchmin_nb is a `Status`; SciPy's numbers are plain integers.
    message : str or None
        Why it ended, in words.
    final_loss : float or None
        The loss at the end point.
    totals : Totals or None
        The whole cost: ``nfev``, ``njev``, ``nhev``, ``nhvp`` and ``seconds``.
    errors : dict of str to int
        How often the closure raised an error that stood for a NaN loss, by its name.
    progress : dict of str to int
        While a closure call goes over several batches: ``batch``, counted from 1, and ``batches``; else empty.
    evaluations : sequence of Evaluation
        The closure calls; empty unless `keep_evaluations`.
    origin : Iteration or None
        Of a branch, the iteration of the first run that it left: figures draw the branch from there. It is not stored.

    Examples
    --------
    >>> x0 = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> history = minimize(rosenbrock, x0, "BFGS", keep_parameters=True).history
    >>> history.success, history.loss[:1], history.loss.dtype
    (True, array([24.2]), dtype('float64'))
    >>> history.parameters.shape == (len(history), 2)
    True
    """

    origin: Iteration | None = None
    _early: bool | None = None
    """None in histories that an older version stored or pickled."""

    def __init__(
        self,
        method: str = "",
        *,
        options: Mapping[str, Any] | None = None,
        n_parameters: int | None = None,
        dtype: str | None = None,
        keep_parameters: bool = False,
        keep_evaluations: bool = False,
    ):
        self.method = method
        self.options = dict(options or {})
        self.n_parameters = n_parameters
        self.dtype = dtype
        self.success: bool | None = None
        self.status: int | None = None
        self.message: str | None = None
        self.final_loss: float | None = None
        self.totals: Totals | None = None
        self.errors: dict[str, int] = {}
        self.progress: dict[str, int] = {}
        self.keep_parameters = keep_parameters
        self.keep_evaluations = keep_evaluations
        self.evaluations: list[Evaluation] | Rows[Evaluation] = []
        self._iterations: list[Iteration] | Rows[Iteration] = []
        # Typed arrays, filled on demand: reading a column again costs only the new iterations.
        self._columns = {name: array("q" if name in _COUNT_COLUMNS else "d") for name in _COLUMNS}
        self._metric_columns: tuple[int, dict[str, array[float]]] = (0, {})
        self._parameters: list[NDArray[np.float64]] = []
        self._trials: list[NDArray[np.float64]] = []

    def append(self, iteration: Iteration, x: NDArray[np.float64] | None = None) -> None:
        """Keep one iteration. Runs call it.

        Parameters
        ----------
        iteration : Iteration
            The iteration.
        x : ndarray of shape (n,) or None, optional
            Its point. A copy is kept with ``keep_parameters``.
        """
        if self.keep_parameters and x is not None:
            self._parameters.append(np.array(x, dtype=np.float64))
        self._iterations.append(iteration)

    def evaluated(self, evaluation: Evaluation, x: NDArray[np.float64] | None) -> None:
        """Keep one closure call, with ``keep_evaluations``. Runs call it.

        Parameters
        ----------
        evaluation : Evaluation
            The closure call.
        x : ndarray of shape (n,) or None
            Its point. A copy is kept with ``keep_parameters``.
        """
        if not self.keep_evaluations:
            return
        if self.keep_parameters and x is not None:
            self._trials.append(np.array(x, dtype=np.float64))
        self.evaluations.append(evaluation)

    def ended(
        self, *, success: bool, status: int, message: str, loss: float | None, totals: Totals, early: bool = False
    ) -> None:
        """Note how the run ended and what it cost. Runs call it.

        Parameters
        ----------
        success : bool
            Whether the run ended with success.
        status : int
            Why it ended.
        message : str
            Why it ended, in words.
        loss : float or None
            The loss at the end point.
        totals : Totals
            The whole cost.
        early : bool, optional
            True if the solver did not end the run. Default False.
        """
        self.success, self.status, self.message, self.final_loss = success, status, message, loss
        self.totals, self._early = totals, early
        self.progress.clear()

    @property
    def ended_early(self) -> bool | None:
        """True if torchmin_nb ended the run: a stop, a budget, the target or an error. False if the solver did.

        None until the run has ended.
        """
        if self.message is None:
            return None
        return self.status in _EARLY if self._early is None else self._early

    @overload
    def __getitem__(self, index: int) -> Iteration: ...
    @overload
    def __getitem__(self, index: slice) -> list[Iteration]: ...
    def __getitem__(self, index: int | slice) -> Iteration | list[Iteration]:
        return self._iterations[index]

    def __len__(self) -> int:
        return len(self._iterations)

    def __iter__(self) -> Iterator[Iteration]:
        return iter(self._iterations)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._as_dict() == other._as_dict()

    __hash__ = None  # type: ignore[assignment]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a pickle. Fields that an earlier version did not have are as in a new history."""
        new = vars(History())
        self.__dict__.update({**new, **state, "_columns": {**new["_columns"], **state["_columns"]}})

    def __add__(self, other: History) -> History:
        """A new History whose indices, counts and seconds continue those of this one. Neither is changed.

        `other` continued where this run ended. Its start is the last iterate of this one, and counted once, if the two
        have the same loss and, if both keep parameters, the same point; what one of them does not report is taken from
        the other. Otherwise its start is an iteration of its own: the end point that torch's Adam never evaluated, or
        the best point of a run that was stopped. ``method`` is "Adam → L-BFGS-B"; ``options`` are numbered by stage,
        "1. lr", "2. maxcor". Ending and final loss are those of `other`, ``totals`` the sums. Parameters and
        evaluations are kept if both have them.

        Parameters
        ----------
        other : History
            The history of the run that continued.

        Returns
        -------
        History
            The joined history.

        Raises
        ------
        ArgumentError
            If the numbers of parameters differ.
        """
        if not isinstance(other, History):
            return NotImplemented
        require_same_size(self.n_parameters, other.n_parameters)
        whole = History(
            ARROW.join(filter(None, (self.method, other.method))),
            options=join_options((self.method, self.options), (other.method, other.options)),
            n_parameters=other.n_parameters if self.n_parameters is None else self.n_parameters,
            dtype=other.dtype if other.dtype is not None else self.dtype,
            keep_parameters=self.keep_parameters and other.keep_parameters,
            keep_evaluations=self.keep_evaluations and other.keep_evaluations,
        )
        whole.errors = dict(Counter(self.errors) + Counter(other.errors))
        spent, gap = self._spent(), self._gap(other)
        once = bool(len(self) and len(other)) and self[-1].loss == other[0].loss and gap in (None, 0)
        whole._iterations = join_iterations(
            self, other, spent=spent, rejected=self._rejected_errors(), gap=gap, once=once
        )
        if whole.keep_parameters:
            whole._parameters = [*self.parameters[: len(self)], *other.parameters[once : len(other)]]
        if whole.keep_evaluations:
            whole.evaluations = join_evaluations(
                self.evaluations, other.evaluations, iterations=len(self) - once, seconds=spent.seconds
            )
            whole._trials = [*self.trials, *other.trials] if whole.keep_parameters else []
        if other.message is not None:
            whole.ended(
                success=bool(other.success),
                status=other.status or 0,
                message=other.message,
                loss=other.final_loss,
                totals=add_totals(spent, other._spent()),
                early=bool(other.ended_early),
            )
        return whole

    def _spent(self) -> Totals:
        """The cost of the run up to its end; for an unfinished run, up to its last iteration."""
        if self.totals is not None:
            return self.totals
        last = self[-1] if len(self) else Iteration(0, math.nan)
        return Totals(last.nfev, last.njev, last.nhev, last.nhvp, last.elapsed)

    def _rejected_errors(self) -> int:
        """Errors that counted as NaN; for an unfinished or killed run, up to its last iteration."""
        return max([sum(self.errors.values()), *(iteration.rejected_errors for iteration in self[-1:])])

    def _gap(self, other: History) -> float | None:
        """The distance from the last iterate here to the start of the other; None if not known."""
        if not (self.keep_parameters and other.keep_parameters and len(self) and len(other)):
            return None
        return float(np.linalg.norm(other.parameters[0] - self.parameters[-1]))

    @property
    def index(self) -> IndexColumn:
        """The column of indices, int64. Called, it searches as for every sequence: ``history.index(iteration)``.

        An iteration is found by its values, NaN included, also in a history that was read from a file. ArgumentError is
        raised if it is not there.
        """
        return IndexColumn.of(self.column("index"), self._position)

    def count(self, value: object) -> int:
        """How many iterations have the same values, NaN included.

        Parameters
        ----------
        value : Iteration
            The iteration to look for.

        Returns
        -------
        int
            The number; 0 for anything else than an iteration.
        """
        return sum(1 for _ in self._rows_like(value))

    def __contains__(self, value: object) -> bool:
        return any(True for _ in self._rows_like(value))

    def _position(self, value: object, start: int, stop: int | None) -> int:
        inside = range(len(self))[start:stop]
        for row in self._rows_like(value):
            if row in inside:
                return row
        raise ArgumentError(f"{value!r} is not among the {len(inside)} iterations; pass an Iteration of this history")

    def _rows_like(self, value: object) -> Iterator[int]:
        if isinstance(value, Iteration):
            wanted = record(value)
            alike: list[int] = np.flatnonzero(self.column("index") == value.index).tolist()
            yield from (row for row in alike if record(self[row]) == wanted)

    def __getattr__(self, name: str) -> NDArray[Any]:
        if name in _COLUMNS:
            return self.column(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_COLUMNS})

    def column(self, name: str) -> NDArray[Any]:
        """One field of Iteration over the iterations.

        Parameters
        ----------
        name : str
            Name of the field, ``metrics`` excepted.

        Returns
        -------
        ndarray of shape (k,)
            float64 with NaN for what is not reported; int64 for indices and counts.

        Raises
        ------
        KeyError
            If there is no such field.
        """
        known = self._columns[name]
        values = [getattr(iteration, name) for iteration in self._iterations[len(known) :]]
        if values:
            # A new array, not a longer one: other threads may be reading this column.
            known = known + array(known.typecode, [math.nan if value is None else value for value in values])  # type: ignore[arg-type, misc]
            self._columns[name] = known
        return np.array(known)

    @property
    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """The numbers that the closure recorded: float64 columns of shape (k,) by name, NaN where there is none."""
        known, columns = self._metric_columns
        new = self._iterations[known:]
        if new:
            names = dict.fromkeys([*columns, *(name for iteration in new for name in iteration.metrics)])
            before = array("d", [math.nan]) * known
            columns = {
                name: columns.get(name, before) + array("d", [it.metrics.get(name, math.nan) for it in new])
                for name in names
            }
            self._metric_columns = known + len(new), columns
        return {name: np.array(column) for name, column in columns.items()}

    @property
    def parameters(self) -> NDArray[np.float64]:
        """The points of the iterations, shape (k, n), float64.

        HistoryError is raised without ``keep_parameters=True``.
        """
        if not self.keep_parameters:
            raise HistoryError("this history has no trajectory; pass keep_parameters=True before the run")
        return np.array(self._parameters) if self._parameters else np.empty((0, self.n_parameters or 0))

    @property
    def trials(self) -> NDArray[np.float64]:
        """The points of `evaluations`, shape (calls, n), float64.

        HistoryError is raised without ``keep_parameters=True`` and ``keep_evaluations=True``.
        """
        if not (self.keep_parameters and self.keep_evaluations):
            raise HistoryError(
                "this history has no trial points; pass keep_parameters=True and keep_evaluations=True before the run"
            )
        # A run in another thread may have added a point before its evaluation.
        points = self._trials[: len(self.evaluations)]
        return np.array(points) if points else np.empty((0, self.n_parameters or 0))

    def last_point(self) -> list[Any] | None:
        """The point of the last iteration as a list, ready for JSON. None if points are not kept."""
        return plain(self._parameters[-1]) if self._parameters else None

    def last_trial(self) -> list[Any] | None:
        """The point of the last evaluation as a list, ready for JSON. None if trials are not kept."""
        return plain(self._trials[-1]) if self._trials else None

    def summary(self) -> str:
        """One line of text: method, iterations, last loss, seconds, how the run ended."""
        if not self._iterations:
            return f"{self.method or 'run'}: no iteration yet"
        last = self._iterations[-1]
        loss = last.loss if self.final_loss is None else self.final_loss
        seconds = last.elapsed if self.totals is None else self.totals.seconds
        ending = "running" if self.message is None else self.message
        return f"{self.method or 'run'}: {last.index} iterations, loss {loss:.6g}, {seconds:.3g} s, {ending}"

    def __repr__(self) -> str:
        return f"<History {self.summary()}>"

    def _repr_html_(self) -> Html:
        return history_html(self.summary(), self, self.column)

    # Stored forms

    def to_html(
        self,
        path: str | Path | None = None,
        *,
        animate: bool = False,
        function: Any = None,
        title: str = "",
        **landscape: Any,
    ) -> str:
        """The run as a whole HTML page that needs no network.

        The keywords after `animate` are for an animated page only.

        Parameters
        ----------
        path : str, Path or None, optional
            File that the page is also written to.
        animate : bool, optional
            True: with curves that grow under a slider, and a play button; needs plotly. Default False.
        function : callable or None, optional
            The loss as a function of x, (..., 2) -> (...). A run of two parameters is then drawn on its landscape.
        title : str, optional
            Title of the animated page.
        {shared}

        Returns
        -------
        str
            The page.
        """
        if animate:
            return _written(animated_page(self, function=function, title=title, **landscape), path)
        body = html('<div class="wide">{body}</div>', body=self._repr_html_())
        return _written(html_page(self.method or "run", body), path)

    def to_dataframe(self) -> pandas.DataFrame:
        """The table as a pandas DataFrame, one row for each iteration. ImportError is raised without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("History.to_dataframe needs pandas: pip install pandas") from error
        columns = {name: self.column(name) for name in _COLUMNS}
        columns |= {_heading(name): values for name, values in self.metrics.items()}
        return pandas.DataFrame(columns).set_index("index")

    def to_csv(self, path: str | Path | None = None) -> str:
        """The table as CSV text, with empty cells for what is not reported.

        Parameters
        ----------
        path : str, Path or None, optional
            File that the text is also written to.

        Returns
        -------
        str
            The text.
        """
        names = list(self.metrics)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*_COLUMNS, *map(_heading, names)])
        for it in self._iterations:
            writer.writerow([*(getattr(it, column) for column in _COLUMNS), *(it.metrics.get(name) for name in names)])
        return _written(text.getvalue(), path)

    def to_json(self, path: str | Path | None = None) -> str:
        """Everything that is kept, as JSON text. `from_json` reads it.

        Parameters
        ----------
        path : str, Path or None, optional
            File that the text is also written to.

        Returns
        -------
        str
            The text.

        Examples
        --------
        >>> history = minimize(lambda x: (x**2).sum(), [3.0], "BFGS").history
        >>> History.from_json(history.to_json()) == history
        True
        """
        return _written(json.dumps(self._as_dict(), allow_nan=False), path)

    @classmethod
    def from_json(cls, source: str | Path) -> History:
        """The History that `to_json` wrote.

        Parameters
        ----------
        source : str or Path
            The text, or the path of a file. A string that begins with "{" is a text.

        Returns
        -------
        History
            Equal to the one that was written.

        Raises
        ------
        HistoryError
            If the source is something else.
        """
        if isinstance(source, str) and source.lstrip().startswith("{"):
            return cls.from_text(source)
        try:
            with open_regular_file(source) as file:
                text = file.read().decode()
        except UNREADABLE as error:
            raise HistoryError(_NOT_STORED.format(error)) from error
        return cls.from_text(text)

    @classmethod
    def from_text(cls, text: str) -> History:
        """The History of a text that `to_json` returned, which is never taken for a path.

        Parameters
        ----------
        text : str
            The text.

        Returns
        -------
        History
            Equal to the one that was written.

        Raises
        ------
        HistoryError
            If the text is something else.
        """
        try:
            if not isinstance(text, str):
                raise TypeError(f"it is {type(text).__name__}")
            return cls._from_dict(read_parts(text))
        except UNREADABLE as error:
            raise HistoryError(_NOT_STORED.format(error)) from error

    def heading(self) -> dict[str, Any]:
        """What is known before the run, as a dict that is ready for JSON."""
        return {
            "method": self.method,
            "options": {name: plain(value) for name, value in self.options.items()},
            "n_parameters": self.n_parameters,
            "dtype": self.dtype,
        }

    def ending(self) -> dict[str, Any]:
        """How the run ended and what it cost, as a dict that is ready for JSON. All values are None before the end."""
        return {
            "success": self.success,
            "status": None if self.status is None else int(self.status),
            "ended_early": self.ended_early,
            "message": self.message,
            "final_loss": encoded(self.final_loss),
            "totals": None if self.totals is None else encoded(asdict(self.totals)),
            "errors": dict(self.errors),
        }

    def _as_dict(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            **self.heading(),
            **self.ending(),
            "iterations": [record(iteration) for iteration in self._iterations],
            "evaluations": [record(evaluation) for evaluation in self.evaluations] if self.keep_evaluations else None,
            "parameters": [plain(x) for x in self._parameters] if self.keep_parameters else None,
            "trials": [plain(x) for x in self._trials],
        }

    @classmethod
    def _from_dict(cls, stored: dict[str, Any]) -> History:
        if stored["format"] != _FORMAT:
            raise ValueError(f"format is {stored['format']!r}, expected {_FORMAT!r}")
        return cls.from_parts(stored)

    @classmethod
    def from_parts(cls, stored: Mapping[str, Any]) -> History:
        """The History of a heading, an ending, and lists of records. `HistoryFile.read` uses it.

        Parameters
        ----------
        stored : dict
            `heading`, `ending`, and the lists ``iterations``, ``evaluations``, ``parameters``, ``trials``; None for a
            list that was not kept.

        Returns
        -------
        History
            The history.
        """
        history = cls(
            read_field(stored, "method", str),
            options=read_options(stored["options"]),
            n_parameters=read_field(stored, "n_parameters", int | None),
            dtype=read_field(stored, "dtype", str | None),
            keep_parameters=stored["parameters"] is not None,
            keep_evaluations=stored["evaluations"] is not None,
        )
        history._take_ending(stored)
        history._iterations = read_rows(Iteration, stored["iterations"])
        history.evaluations = read_rows(Evaluation, stored["evaluations"] or [])
        history._columns = {name: history._iterations.column(name) for name in _COLUMNS}
        history._metric_columns = len(history._iterations), history._iterations.column("metrics")
        history._parameters = read_points(stored["parameters"] or [], history.n_parameters)
        history._trials = read_points(stored.get("trials", ()), history.n_parameters)
        history._require_points()
        return history

    def _take_ending(self, stored: Mapping[str, Any]) -> None:
        self.success = read_field(stored, "success", bool | None)
        self.message = read_field(stored, "message", str | None)
        self.status = read_field(stored, "status", int | None)
        self._early = read_field({"ended_early": None, **stored}, "ended_early", bool | None)
        if self.status is not None and self.ended_early:
            self.status = Status.read(self.status)
        self.final_loss = read_number(stored["final_loss"])
        self.errors = read_counts(stored.get("errors") or {})  # histories of older versions have no such field
        self.totals = None if stored["totals"] is None else read_rows(Totals, [stored["totals"]])[0]

    def _require_points(self) -> None:
        """One point for each record; a run that was stored while it worked may have one more."""
        if self.keep_parameters and len(self._parameters) < len(self):
            raise ValueError(f"{len(self)} iterations have {len(self._parameters)} points")
        if self._trials and len(self._trials) < len(self.evaluations):
            raise ValueError(f"{len(self.evaluations)} evaluations have {len(self._trials)} points")
        del self._parameters[len(self) :]


def _heading(name: str) -> str:
    """Of a recorded number in a table. Files written before names of Iteration's were refused may have some."""
    return f"metrics/{name}" if name in FIELDS else name


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        write_text(path, text)
    return text
