"""What a run tells: Iteration and Evaluation, the callbacks that hear them, and the History that keeps them."""

from __future__ import annotations

import csv
import io
import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload, runtime_checkable

import numpy as np

from ..errors import ArgumentError, HistoryError, text_of
from .control import Status
from .index_column import IndexColumn
from .rows import Rows, as_float
from .storage import UNREADABLE, ordinary, write_text
from .stored_fields import fields_by_name, set_fields

if TYPE_CHECKING:
    import pandas
    from numpy.typing import NDArray

__all__ = ["FIELDS", "Callback", "Evaluation", "History", "Iteration", "Listener", "Totals", "record", "tell"]

_FORMAT = "torchmin_nb history 1"
_NOT_STORED = "not a stored history: {}; give what History.to_json wrote"


@dataclass(frozen=True, slots=True)
class Iteration:
    """One iteration of a method. None means that the method does not report it.

    index: 0 is the start. loss, grad_norm (2-norm), grad_norm_inf: at the point now held; after a rejected step that is
    the old one. step_norm: distance from the last iterate, 0 after a rejected step, None at the start. trust_radius: in
    force after this iteration's update, in units of x/scale; at index 0 the initial one. reduction_ratio: actual over
    predicted reduction. accepted: whether a trust-region step, or a hop, was taken. constraint_violation: the largest,
    of bounds too; 0 if feasible. nfev, njev, nhev, nhvp: closure calls, gradients, dense Hessians and Hessian-vector
    products really computed so far. rejected_errors: trials so far at which the closure raised one of the optimizer's
    `nonfinite_errors`; `History.errors` has their names. metrics: what the closure `record`ed at this point. elapsed:
    seconds since the start.
    """

    index: int
    loss: float
    grad_norm: float | None = None
    grad_norm_inf: float | None = None
    step_norm: float | None = None
    trust_radius: float | None = None
    reduction_ratio: float | None = None
    accepted: bool | None = None
    constraint_violation: float | None = None
    nfev: int = 0
    njev: int = 0
    nhev: int = 0
    nhvp: int = 0
    rejected_errors: int = field(default=0, metadata={"added_later": True})
    elapsed: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)

    __getstate__ = fields_by_name
    __setstate__ = set_fields


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One closure call: trial points of line searches, simplices and rejected steps included.

    index: 0 is the start. iteration: the iteration under way. loss: as computed, NaN and infinity included.
    step_norm: distance from the current iterate. elapsed: seconds since the start.
    """

    index: int
    iteration: int
    loss: float
    grad_norm: float | None = None
    step_norm: float = field(default=0.0, metadata={"earlier_name": "step"})
    elapsed: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def step(self) -> float:
        """The earlier name of `step_norm`."""
        return self.step_norm

    __getstate__ = fields_by_name
    __setstate__ = set_fields


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole cost of a run: what was computed, work after the last iteration included, and wall-clock seconds."""

    nfev: int
    njev: int
    nhev: int
    nhvp: int
    seconds: float

    __getstate__ = fields_by_name
    __setstate__ = set_fields


class Callback(Protocol):
    """Any callable of an Iteration. Returning True, or raising StopIteration, stops the run at the best point seen."""

    def __call__(self, iteration: Iteration, /) -> bool | None: ...


@runtime_checkable
class Listener(Protocol):
    """What a callback may have besides: each is called if it is there.

    on_start(history) before the first closure call, on_evaluation(evaluation) after each (StopIteration stops the run),
    on_end(history) when the run is over, however it ended. What one callback raises is raised once the others have been
    called. Around them, for what needs more than events: on_bind(optimizer) before any work,
    which may refuse by raising, and on_release(optimizer) when parameters and result are in place.
    """

    def on_start(self, history: History) -> None: ...
    def on_evaluation(self, evaluation: Evaluation) -> None: ...
    def on_end(self, history: History) -> None: ...


def tell(callbacks: Sequence[Any], name: str, subject: Any, heard: list[Any] | None = None) -> None:
    """Call this method of every callback that has it. Then raise the first error that one raised, noting the others.

    An interrupt comes before errors. heard: filled with the callbacks that raised nothing.
    """
    failures: list[BaseException] = []
    for callback in callbacks:
        try:
            if hasattr(callback, name):
                getattr(callback, name)(subject)
            if heard is not None:
                heard.append(callback)
        except BaseException as error:
            failures.append(error)
    if not failures:
        return
    failures.sort(key=lambda failure: isinstance(failure, Exception))
    for other in failures[1:]:
        failures[0].add_note(f"{name} of a further callback raised {type(other).__name__}: {text_of(other)}")
    try:
        raise failures[0]
    finally:
        failures.clear()  # a traceback that leads back to itself would keep what its frames hold


_Event = TypeVar("_Event")
FIELDS = tuple(f.name for f in fields(Iteration))
"""What every iteration has; no number that a closure records goes by one of these names."""
_COLUMNS = tuple(name for name in FIELDS if name != "metrics")
_COUNT_COLUMNS = frozenset({"index", "nfev", "njev", "nhev", "nhvp", "rejected_errors"})


_EARLY = range(98, 110)
"""The statuses by which runs of older versions, which stored no `ended_early`, are known to have ended early."""


class History(Sequence[Iteration]):
    """The iterations of one run, in order; each field of Iteration also as a NumPy column: `history.loss`.

    Columns are float64 with NaN for what is not reported; `index` and the counts are int64. `metrics` is a dict of
    columns. `status`, `success`, `message`, `ended_early`, `final_loss` and `totals` are None until the run has
    ended; a `status` of torchmin_nb's own is a `Status`. `errors`
    counts, by name, the errors of the closure that stood for a NaN loss. `parameters` (k, n) and `evaluations` are
    kept on request only, `trials` where both are.
    `history + other` joins a run and the one that went on where it ended.
    """

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
        self.keep_parameters = keep_parameters
        self.keep_evaluations = keep_evaluations
        self.evaluations: list[Evaluation] | Rows[Evaluation] = []
        self._iterations: list[Iteration] | Rows[Iteration] = []
        # Typed arrays, filled on demand: reading a column of a long run again costs only what is new.
        self._columns = {name: array("q" if name in _COUNT_COLUMNS else "d") for name in _COLUMNS}
        self._metric_columns: tuple[int, dict[str, array[float]]] = (0, {})
        self._parameters: list[NDArray[np.float64]] = []
        self._trials: list[NDArray[np.float64]] = []

    def append(self, iteration: Iteration, x: NDArray[np.float64] | None = None) -> None:
        """Keep one iteration, and a copy of its point x (n,) where the trajectory is wanted."""
        if self.keep_parameters and x is not None:
            self._parameters.append(np.array(x, dtype=np.float64))
        self._iterations.append(iteration)

    def evaluated(self, evaluation: Evaluation, x: NDArray[np.float64] | None) -> None:
        """Keep one closure call where they are wanted, and a copy of its point x (n,) where the trajectory is too."""
        if not self.keep_evaluations:
            return
        if self.keep_parameters and x is not None:
            self._trials.append(np.array(x, dtype=np.float64))
        self.evaluations.append(evaluation)

    def ended(
        self, *, success: bool, status: int, message: str, loss: float | None, totals: Totals, early: bool = False
    ) -> None:
        """Note how the run ended and what it cost; early: the solver did not end it."""
        self.success, self.status, self.message, self.final_loss = success, status, message, loss
        self.totals, self._early = totals, early

    @property
    def ended_early(self) -> bool | None:
        """True where torchmin_nb ended the run: a stop, a budget, the target or an error; False where the solver did.

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
        """Of a pickle: what an earlier version did not have is as in a new history."""
        new = vars(History())
        self.__dict__.update({**new, **state, "_columns": {**new["_columns"], **state["_columns"]}})

    def __add__(self, other: History) -> History:
        """This run and the one that went on where it ended, as one history: see `core.joined`."""
        from .joined import joined

        return joined(self, other) if isinstance(other, History) else NotImplemented

    @property
    def index(self) -> IndexColumn:
        """The column, as for every other field; called, the search of sequences: `history.index(iteration)`.

        An iteration is found by its values, NaN included, also in a history that was read from a file.
        """
        return IndexColumn.of(self.column("index"), self._position)

    def count(self, value: object) -> int:
        """How many iterations have the same values, NaN included."""
        return sum(1 for _ in self._rows_like(value))

    def __contains__(self, value: object) -> bool:
        return any(True for _ in self._rows_like(value))

    def _position(self, value: object, start: int, stop: int | None) -> int:
        inside = range(len(self))[start:stop]
        for row in self._rows_like(value):
            if row in inside:
                return row
        raise ArgumentError(f"{value!r} is not among the {len(inside)} iterations; give an Iteration of this history")

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
        """One field over the iterations, shape (k,); NaN for what is not reported."""
        known = self._columns[name]
        values = [getattr(iteration, name) for iteration in self._iterations[len(known) :]]
        if values:
            # A new array, not a longer one: other threads may be reading this column.
            known = known + array(known.typecode, [math.nan if value is None else value for value in values])  # type: ignore[arg-type, misc]
            self._columns[name] = known
        return np.array(known)

    @property
    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """The user's own numbers, one column a name, NaN where an iteration has none."""
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
        """The trajectory, shape (k, n). Needs keep_parameters=True."""
        if not self.keep_parameters:
            raise HistoryError("this history has no trajectory; ask for it with keep_parameters=True before the run")
        return np.array(self._parameters) if self._parameters else np.empty((0, self.n_parameters or 0))

    @property
    def trials(self) -> NDArray[np.float64]:
        """The points of `evaluations`, a row each, shape (k, n). Needs keep_parameters=True, keep_evaluations=True."""
        if not (self.keep_parameters and self.keep_evaluations):
            raise HistoryError(
                "this history has no trial points; ask for them with keep_parameters=True and keep_evaluations=True "
                "before the run"
            )
        # A run on another thread may have added a point whose evaluation is still to come.
        points = self._trials[: len(self.evaluations)]
        return np.array(points) if points else np.empty((0, self.n_parameters or 0))

    def last_point(self) -> list[Any] | None:
        """The point of the last iteration, ready for JSON; None where the trajectory is not kept."""
        return _plain(self._parameters[-1]) if self._parameters else None

    def last_trial(self) -> list[Any] | None:
        """The point of the last evaluation, ready for JSON; None where trials are not kept."""
        return _plain(self._trials[-1]) if self._trials else None

    def summary(self) -> str:
        """One line: method, iterations, last loss, how it ended."""
        if not self._iterations:
            return f"{self.method or 'run'}: no iteration yet"
        last = self._iterations[-1]
        loss = last.loss if self.final_loss is None else self.final_loss
        seconds = last.elapsed if self.totals is None else self.totals.seconds
        ending = "running" if self.message is None else self.message
        return f"{self.method or 'run'}: {last.index} iterations, loss {loss:.6g}, {seconds:.3g} s, {ending}"

    def __repr__(self) -> str:
        return f"<History {self.summary()}>"

    def _repr_html_(self) -> str:
        from .report import history_html

        return history_html(self)

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
        """The run as a whole HTML page that needs no network, also written to `path` if given.

        animate: with curves that grow under a slider, and a play button; needs plotly. The other keywords are for
        an animated page: its title; `function`, the loss x (..., 2) -> (...), whose landscape a run of two parameters
        crosses; and how that is drawn, as `torchmin_nb.analysis.landscape_data` says.
        """
        from .report import animated_page, history_page

        text = animated_page(self, function=function, title=title, **landscape) if animate else history_page(self)
        return _written(text, path)

    def to_dataframe(self) -> pandas.DataFrame:
        """A pandas DataFrame, one row an iteration. Needs pandas."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("History.to_dataframe needs pandas: pip install pandas") from error
        columns = {name: self.column(name) for name in _COLUMNS}
        columns |= {_heading(name): values for name, values in self.metrics.items()}
        return pandas.DataFrame(columns).set_index("index")

    def to_csv(self, path: str | Path | None = None) -> str:
        """The table as CSV text, also written to `path` if given; empty cells for what is not reported."""
        names = list(self.metrics)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*_COLUMNS, *map(_heading, names)])
        for it in self._iterations:
            writer.writerow([*(getattr(it, column) for column in _COLUMNS), *(it.metrics.get(name) for name in names)])
        return _written(text.getvalue(), path)

    def to_json(self, path: str | Path | None = None) -> str:
        """Everything kept, as JSON text, also written to `path` if given; read back by `from_json`."""
        return _written(json.dumps(self._as_dict(), allow_nan=False), path)

    @classmethod
    def from_json(cls, source: str | Path) -> History:
        """The History that `to_json` wrote: from its text, or from the file at a path.

        Raises HistoryError if the source is something else.
        """
        if isinstance(source, str) and source.lstrip().startswith("{"):
            return cls.from_text(source)
        try:
            with ordinary(source) as file:
                text = file.read().decode()
        except UNREADABLE as error:
            raise HistoryError(_NOT_STORED.format(error)) from error
        return cls.from_text(text)

    @classmethod
    def from_text(cls, text: str) -> History:
        """The History of a text that `to_json` returned, which is never taken for a path. Raises HistoryError."""
        try:
            if not isinstance(text, str):
                raise TypeError(f"it is {type(text).__name__}")
            return cls._from_dict(json.loads(text))
        except UNREADABLE as error:
            raise HistoryError(_NOT_STORED.format(error)) from error

    def heading(self) -> dict[str, Any]:
        """What is known before the run, ready for JSON."""
        return {
            "method": self.method,
            "options": {name: _plain(value) for name, value in self.options.items()},
            "n_parameters": self.n_parameters,
            "dtype": self.dtype,
        }

    def ending(self) -> dict[str, Any]:
        """How the run ended and what it cost, ready for JSON; None for all of it before that."""
        return {
            "success": self.success,
            "status": None if self.status is None else int(self.status),
            "ended_early": self.ended_early,
            "message": self.message,
            "final_loss": _encode(self.final_loss),
            "totals": None if self.totals is None else _encode(asdict(self.totals)),
            "errors": dict(self.errors),
        }

    def _as_dict(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            **self.heading(),
            **self.ending(),
            "iterations": [record(iteration) for iteration in self._iterations],
            "evaluations": [record(evaluation) for evaluation in self.evaluations] if self.keep_evaluations else None,
            "parameters": [_plain(x) for x in self._parameters] if self.keep_parameters else None,
            "trials": [_plain(x) for x in self._trials],
        }

    @classmethod
    def _from_dict(cls, stored: dict[str, Any]) -> History:
        if stored["format"] != _FORMAT:
            raise ValueError(f"format is {stored['format']!r}, expected {_FORMAT!r}")
        return cls.from_parts(stored)

    @classmethod
    def from_parts(cls, stored: Mapping[str, Any]) -> History:
        """The History of a heading, an ending, and lists of records; None for a list that was not kept."""
        history = cls(
            _typed(stored, "method", str),
            options=_options(stored["options"]),
            n_parameters=_typed(stored, "n_parameters", int | None),
            dtype=_typed(stored, "dtype", str | None),
            keep_parameters=stored["parameters"] is not None,
            keep_evaluations=stored["evaluations"] is not None,
        )
        history._take_ending(stored)
        history._iterations = _rows(Iteration, stored["iterations"])
        history.evaluations = _rows(Evaluation, stored["evaluations"] or [])
        history._columns = {name: history._iterations.column(name) for name in _COLUMNS}
        history._metric_columns = len(history._iterations), history._iterations.column("metrics")
        history._parameters = _points(stored["parameters"] or [], history.n_parameters)
        history._trials = _points(stored.get("trials", ()), history.n_parameters)
        history._require_points()
        return history

    def _take_ending(self, stored: Mapping[str, Any]) -> None:
        self.success = _typed(stored, "success", bool | None)
        self.message = _typed(stored, "message", str | None)
        self.status = _typed(stored, "status", int | None)
        self._early = _typed({"ended_early": None, **stored}, "ended_early", bool | None)
        if self.status is not None and self.ended_early:
            self.status = Status.read(self.status)
        self.final_loss = as_float(stored["final_loss"])
        self.errors = _counts(stored.get("errors") or {})  # a history of an older version has none
        self.totals = None if stored["totals"] is None else _rows(Totals, [stored["totals"]])[0]

    def _require_points(self) -> None:
        """A point for each record; a run that went on when it was stored may have one more."""
        if self.keep_parameters and len(self._parameters) < len(self):
            raise ValueError(f"{len(self)} iterations have {len(self._parameters)} points")
        if self._trials and len(self._trials) < len(self.evaluations):
            raise ValueError(f"{len(self.evaluations)} evaluations have {len(self._trials)} points")
        del self._parameters[len(self) :]


_NESTED = 32
_MOST_PARAMETERS = 2**48


def _typed(stored: Mapping[str, Any], name: str, kind: Any) -> Any:
    """A field of this type. Raises TypeError, and ValueError for a number that cannot be one of parameters."""
    value = stored[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and not isinstance(True, kind)):
        raise TypeError(f"{name} is {type(value).__name__}")
    if type(value) is int and not -_MOST_PARAMETERS < value < _MOST_PARAMETERS:
        raise ValueError(f"{name} is too large a number")
    return value


def _counts(stored: Any) -> dict[str, int]:
    """Numbers by name. Raises TypeError."""
    if not isinstance(stored, dict) or not all(type(count) is int for count in stored.values()):
        raise TypeError("errors are no dict of numbers")
    return dict(stored)


def _options(stored: Any) -> dict[str, Any]:
    if not isinstance(stored, dict) or not _shallow(stored, _NESTED):
        raise TypeError("options are no dict of plain values")
    return stored


def _shallow(value: Any, levels: int) -> bool:
    """Whether it is nested no deeper than a call may be."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(item, levels - 1) for item in items)


def _rows(kind: type[_Event], stored: Any) -> Rows[_Event]:
    """Records as JSON has them, or taken already."""
    if isinstance(stored, Rows):
        return stored
    if not isinstance(stored, list):
        raise TypeError(f"a list of {kind.__name__} is needed, got {type(stored).__name__}")
    rows = Rows(kind)
    rows.extend_stored(stored)
    return rows


def _points(stored: Sequence[Any], n: int | None) -> list[NDArray[np.float64]]:
    """Points as JSON has them, all of one length: of n, where that is known."""
    points = np.array(stored, dtype=np.float64) if len(stored) else np.empty((0, n or 0))
    if points.ndim != 2 or (n is not None and points.shape[1] != n):
        raise ValueError(f"points of shape {points.shape} are none of {n} parameters")
    return list(points)


# JSON has no NaN and no infinity: they travel as strings.


def record(event: Iteration | Evaluation) -> dict[str, Any]:
    """An event as a dict that is ready for JSON."""
    return cast("dict[str, Any]", _encode(asdict(event)))


def _encode(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return _encode(value)
    return value if isinstance(value, str | int | bool | type(None)) else repr(value)


def _heading(name: str) -> str:
    """Of a recorded number in a table. Files written before names of Iteration's were refused may have some."""
    return f"metrics/{name}" if name in FIELDS else name


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        write_text(path, text)
    return text
