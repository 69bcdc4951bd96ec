"""Runs as rows of an immutable table: sorted, pinned, renamed, hidden, deleted, exported."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..core.display.html import Html, html, joined
from ..core.history.history import History
from ..core.objective.constraints import FEASIBLE
from ..errors import ArgumentError, text_of
from ..problems import Problem
from .call import Call

__all__ = ["COLUMNS", "Column", "RunRow", "RunTable", "row_of"]

_FORMAT = "torchmin_nb runs 1"


@dataclass(frozen=True, eq=False)
class RunRow:
    """One run as a row of the table. None stands for a number that is not reported or not known.

    Attributes
    ----------
    name : str
        Name of the row.
    call : Call
        The run.
    history : History
        Its iterations.
    problem : str
        The problem, in words.
    loss : float or None
        The loss at the end.
    grad_norm : float or None
        2-norm of the gradient at the end.
    iterations : int
        Number of iterations.
    closure_calls : int
        Number of closure calls.
    products : int
        Number of Hessian-vector products.
    seconds : float
        Wall-clock seconds.
    reason : str
        Why it ended, in words.
    solved : bool or None
        Whether it ended at a feasible point within the problem's tolerance of the known answer.
    failed : bool
        Whether it raised an error; `reason` has it.
    pinned : bool
        Whether the row stays at the top.
    hidden : bool
        Whether the row is out of sight.
    x : torch.Tensor of shape (n,) or None
        The end point, detached.

    See Also
    --------
    run : makes it, and has an example.
    """

    name: str
    call: Call
    history: History
    problem: str = ""
    loss: float | None = None
    grad_norm: float | None = None
    iterations: int = 0
    closure_calls: int = 0
    products: int = 0
    seconds: float = 0.0
    reason: str = ""
    solved: bool | None = None
    failed: bool = False
    pinned: bool = False
    hidden: bool = False
    x: torch.Tensor | None = None

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.call.method

    @property
    def label(self) -> str:
        """The method, with its engine if one is named."""
        return self.call.label

    @property
    def options(self) -> Mapping[str, Any]:
        """What differs from the method's defaults: options and `tol`."""
        return {**self.call.options, **({} if self.call.tol is None else {"tol": self.call.tol})}

    @property
    def changed(self) -> str:
        """The options in words: 'gtol = 1e-08, eta = 0.1'."""
        return ", ".join(f"{name} = {_plainly(value)}" for name, value in self.options.items())


@dataclass(frozen=True)
class Column:
    """heading: as shown. value: for sorting and for CSV. number: aligned right, in this format.

    long: text that may be wrapped.
    """

    heading: str
    value: Callable[[RunRow], Any]
    number: str | None = None
    long: bool = False


COLUMNS: Mapping[str, Column] = {
    "name": Column("name", lambda row: row.name),
    "problem": Column("problem", lambda row: row.problem),
    "method": Column("method", lambda row: row.label),
    "options": Column("options changed", lambda row: row.changed, long=True),
    "loss": Column("loss", lambda row: row.loss, ".6g"),
    "grad_norm": Column("gradient norm", lambda row: row.grad_norm, ".1e"),
    "iterations": Column("iterations", lambda row: row.iterations, ",d"),
    "closure_calls": Column("closure calls", lambda row: row.closure_calls, ",d"),
    "products": Column("HVPs", lambda row: row.products, ",d"),
    "seconds": Column("seconds", lambda row: row.seconds, ".3f"),
    "reason": Column("ending", lambda row: row.reason, long=True),
    "solved": Column("solved", lambda row: row.solved),
}
"""The table's columns, from left to right."""


@dataclass(frozen=True, eq=False)
class RunTable:
    """Rows of runs, in the order of the runs. Every operation returns a new table. Names are unique.

    Attributes
    ----------
    rows : tuple of RunRow
        The rows.
    sort : str
        A key of COLUMNS, or "" for the order of the runs. Pinned rows always come first.
    descending : bool
        Whether the largest comes first.

    Examples
    --------
    >>> table = RunTable().add(run(Call("Rosenbrock", "BFGS"))).add(run(Call("Rosenbrock", "BFGS")))
    >>> table.names, table.pin("BFGS 2").shown[0].name
    (('BFGS', 'BFGS 2'), 'BFGS 2')
    """

    rows: tuple[RunRow, ...] = ()
    sort: str = ""
    descending: bool = False

    def add(self, row: RunRow) -> RunTable:
        """The table with one row more.

        Parameters
        ----------
        row : RunRow
            The row. If its name is taken, it is numbered: 'BFGS', 'BFGS 2'.

        Returns
        -------
        RunTable
            A new table.
        """
        return replace(self, rows=(*self.rows, replace(row, name=self._free(row.name))))

    def delete(self, name: str) -> RunTable:
        """The table without a row.

        Parameters
        ----------
        name : str
            Name of the row.

        Returns
        -------
        RunTable
            A new table.

        Raises
        ------
        ArgumentError
            If there is no such row.
        """
        self[name]
        return replace(self, rows=tuple(row for row in self.rows if row.name != name))

    def rename(self, name: str, new: str) -> RunTable:
        """The table with another name for a row.

        Parameters
        ----------
        name : str
            Name of the row.
        new : str
            Its new name.

        Returns
        -------
        RunTable
            A new table.

        Raises
        ------
        ArgumentError
            If there is no such row, or the new name is empty or taken.
        """
        new = new.strip()
        if not new or (new != name and new in self.names):
            raise ArgumentError(f"the name {new!r} is {'taken' if new else 'empty'}; choose another")
        return self._changed(name, lambda row: replace(row, name=new))

    def pin(self, name: str, pinned: bool = True) -> RunTable:
        """The table with a row pinned at the top, or unpinned.

        Parameters
        ----------
        name : str
            Name of the row.
        pinned : bool, optional
            Whether it stays at the top. Default True.

        Returns
        -------
        RunTable
            A new table.

        Raises
        ------
        ArgumentError
            If there is no such row.
        """
        return self._changed(name, lambda row: replace(row, pinned=pinned))

    def hide(self, name: str, hidden: bool = True) -> RunTable:
        """The table with a row out of sight, or shown again.

        Parameters
        ----------
        name : str
            Name of the row.
        hidden : bool, optional
            Whether it is out of sight. Default True.

        Returns
        -------
        RunTable
            A new table.

        Raises
        ------
        ArgumentError
            If there is no such row.
        """
        return self._changed(name, lambda row: replace(row, hidden=hidden))

    def sorted_by(self, column: str, *, descending: bool = False) -> RunTable:
        """The table sorted by a column. What is not reported comes last in both directions.

        Parameters
        ----------
        column : str
            A key of COLUMNS, or "" for the order of the runs.
        descending : bool, optional
            Whether the largest comes first. Default False.

        Returns
        -------
        RunTable
            A new table.

        Raises
        ------
        ArgumentError
            If there is no such column.
        """
        if column and column not in COLUMNS:
            raise ArgumentError(f"column {column!r} is not known; choose one of {', '.join(COLUMNS)}")
        return replace(self, sort=column, descending=descending)

    def toggled(self, column: str) -> RunTable:
        """The table after a click on the head of a column: sorted by it, or in the other direction.

        Parameters
        ----------
        column : str
            A key of COLUMNS.

        Returns
        -------
        RunTable
            A new table.

        Raises
        ------
        ArgumentError
            If there is no such column.
        """
        return self.sorted_by(column, descending=self.sort == column and not self.descending)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all rows, in the order of the runs."""
        return tuple(row.name for row in self.rows)

    @property
    def shown(self) -> tuple[RunRow, ...]:
        """The rows that are not hidden, sorted, pinned ones first."""
        rows = [row for row in self.rows if not row.hidden]
        if self.sort:
            value = COLUMNS[self.sort].value
            known = [row for row in rows if _known(value(row))]
            known.sort(key=lambda row: _key(value(row)), reverse=self.descending)
            rows = [*known, *(row for row in rows if not _known(value(row)))]
        return tuple(sorted(rows, key=lambda row: not row.pinned))

    @property
    def histories(self) -> dict[str, History]:
        """The histories of the shown rows by name, as figures take them."""
        return {row.name: row.history for row in self.shown}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> RunRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise ArgumentError(f"there is no run {name!r}; there are {', '.join(self.names) or 'none'}")

    def _changed(self, name: str, change: Callable[[RunRow], RunRow]) -> RunTable:
        self[name]
        return replace(self, rows=tuple(change(row) if row.name == name else row for row in self.rows))

    def _free(self, name: str) -> str:
        taken, free, count = set(self.names), name, 1
        while free in taken:
            count += 1
            free = f"{name} {count}"
        return free

    # Export

    def to_csv(self) -> str:
        """The shown rows as CSV text, with empty cells for what is not reported."""
        return _csv([column.heading for column in COLUMNS.values()], [_values(row) for row in self.shown])

    def histories_to_csv(self) -> str:
        """The iterations of the shown runs as CSV text, with the run's name in the first column."""
        head: list[str] = []
        rows: list[dict[str, str]] = []
        for name, history in self.histories.items():
            for record in csv.DictReader(io.StringIO(history.to_csv())):
                columns = {f"metrics/{key}" if key == "run" else key: value for key, value in record.items()}
                rows.append({"run": name, **columns})
                head = list(dict.fromkeys([*head, *rows[-1]]))
        return _csv(head, [[row.get(column, "") for column in head] for row in rows])

    def to_json(self) -> str:
        """The shown rows and their histories as JSON text.

        ``History.from_json(json.dumps(...))`` reads one of the histories.
        """
        rows = [
            {
                **{name: _jsonable(column.value(row)) for name, column in COLUMNS.items()},
                "options": {name: _jsonable(value) for name, value in row.options.items()},
                "pinned": row.pinned,
                "history": json.loads(row.history.to_json()),
            }
            for row in self.shown
        ]
        return json.dumps({"format": _FORMAT, "runs": rows}, allow_nan=False)

    def to_html(self, caption: str = "Runs") -> Html:
        """The shown rows as one accessible HTML table without scripts, in the colours of the page.

        Parameters
        ----------
        caption : str, optional
            Caption of the table. Default "Runs".

        Returns
        -------
        Html
            The table, a str that counts as safe HTML.
        """
        return html(
            '<table class="torchmin-runs" style="border-collapse:collapse"><caption>{caption}</caption>'
            "<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>",
            caption=caption,
            head=joined(self._th(name, column) for name, column in COLUMNS.items()),
            body=joined(map(_tr, self.shown)),
        )

    def _th(self, name: str, column: Column) -> Html:
        order = ("descending" if self.descending else "ascending") if name == self.sort else "none"
        form = '<th scope="col" aria-sort="{order}" style="{style}">{heading}</th>'
        return html(form, order=order, style=_style(column), heading=column.heading)


def row_of(
    call: Call,
    history: History,
    problem: Problem | None,
    *,
    name: str | None = None,
    error: BaseException | None = None,
) -> RunRow:
    """The row of a run that has ended, or that has raised an error.

    Parameters
    ----------
    call : Call
        The run.
    history : History
        Its iterations.
    problem : Problem or None
        The problem as the run left it, to see whether it is solved. None if it could not be made.
    name : str or None, optional
        Name of the row. Default: the method, with its engine if one is named.
    error : BaseException or None, optional
        What the run has raised.

    Returns
    -------
    RunRow
        The row.

    Examples
    --------
    >>> call = Call("Rosenbrock", "BFGS")
    >>> problem = call.make()
    >>> optimizer, closure = build(call, problem)
    >>> loss = optimizer.step(closure)
    >>> row = row_of(call, optimizer.history, problem)
    >>> row.solved, row.reason
    (True, 'Optimization terminated successfully.')
    """
    last = history[-1] if len(history) else None
    totals = history.totals
    loss = history.final_loss if history.final_loss is not None else None if last is None else last.loss
    return RunRow(
        name=name or call.label,
        call=call,
        history=history,
        problem=call.title,
        loss=None if loss is None or math.isnan(loss) else loss,
        grad_norm=None if last is None else last.grad_norm,
        iterations=0 if last is None else last.index,
        closure_calls=totals.nfev if totals else 0,
        products=totals.nhvp if totals else 0,
        seconds=totals.seconds if totals else 0.0,
        reason=_reason(history, error),
        solved=False if error is not None else _solved(call, history, problem, loss),
        failed=error is not None,
        x=None if problem is None else problem.x,
    )


def _reason(history: History, error: BaseException | None) -> str:
    if error is not None:
        return f"{type(error).__name__}: {text_of(error)}"
    return (history.message or "").strip()


def _solved(call: Call, history: History, problem: Problem | None, loss: float | None) -> bool | None:
    if problem is None or loss is None:
        return None
    reached = problem.solved(loss)
    return None if reached is None else reached and _feasible(call, history, problem)


def _feasible(call: Call, history: History, problem: Problem) -> bool:
    """Whether the end point satisfies the problem's limits, also limits that the run ignored."""
    heeded = (call.bounds or problem.bounds is None) and (call.constraints or not problem.constraints)
    if not heeded and problem.feasible is not None:
        return bool(problem.feasible(problem.x))
    violation = history[-1].constraint_violation if len(history) else None
    return violation is None or violation <= FEASIBLE


def _known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _key(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


def _values(row: RunRow) -> list[Any]:
    return ["" if column.value(row) is None else column.value(row) for column in COLUMNS.values()]


def _csv(head: list[str], rows: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([head, *rows])
    return text.getvalue()


def _jsonable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int | bool | type(None)) else repr(value)


def _plainly(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tr(row: RunRow) -> Html:
    state = {"pinned": row.pinned, "failed": row.failed, "solved": bool(row.solved)}
    classes = " ".join(name for name, holds in state.items() if holds)
    first, *others = COLUMNS.values()
    cells = joined(
        html('<td style="{style}">{shown}</td>', style=_style(column), shown=_shown(column, row)) for column in others
    )
    heading = html('<th scope="row" style="{style}">{shown}</th>', style=_style(first), shown=_shown(first, row))
    form = '<tr class="{classes}">{heading}{cells}</tr>' if classes else "<tr>{heading}{cells}</tr>"
    return html(form, classes=classes, heading=heading, cells=cells)


def _style(column: Column) -> str:
    side = "left" if column.number is None else "right"
    space = "min-width:9em" if column.long else "white-space:nowrap"
    return f"text-align:{side};{space};padding:2px 8px;border-bottom:1px solid rgba(128,128,128,.35)"


def _shown(column: Column, row: RunRow) -> str:
    value = column.value(row)
    if not _known(value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format(value, column.number) if column.number else str(value)
