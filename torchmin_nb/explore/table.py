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
    """One run. options: those changed from default. None where a number is not reported or not known.

    x: the end point (n,), detached. reason: why it ended, in words; failed: it raised an error, which
    `reason` tells. solved: whether it ended at a feasible point within the problem's tolerance of the known answer.
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
        return self.call.method

    @property
    def label(self) -> str:
        """The method, with its engine where one was asked for."""
        return self.call.label

    @property
    def options(self) -> Mapping[str, Any]:
        """What differs from the method's defaults: options, and `tol`."""
        return {**self.call.options, **({} if self.call.tol is None else {"tol": self.call.tol})}

    @property
    def changed(self) -> str:
        """The options in words, 'gtol = 1e-08, eta = 0.1'."""
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
    """Rows in the order of the runs. Every operation gives a new table; rows are named, and names are unique.

    sort: a key of COLUMNS, or "" for the order of the runs; pinned rows always come first.
    """

    rows: tuple[RunRow, ...] = ()
    sort: str = ""
    descending: bool = False

    def add(self, row: RunRow) -> RunTable:
        """With one row more; a name that is taken is numbered: 'BFGS', 'BFGS 2'."""
        return replace(self, rows=(*self.rows, replace(row, name=self._free(row.name))))

    def delete(self, name: str) -> RunTable:
        """Without this row. Raises ArgumentError for an unknown name, as all operations on a row."""
        self[name]
        return replace(self, rows=tuple(row for row in self.rows if row.name != name))

    def rename(self, name: str, new: str) -> RunTable:
        """With another name. Raises ArgumentError for one that is empty or taken."""
        new = new.strip()
        if not new or (new != name and new in self.names):
            raise ArgumentError(f"the name {new!r} is {'taken' if new else 'empty'}; choose another")
        return self._changed(name, lambda row: replace(row, name=new))

    def pin(self, name: str, pinned: bool = True) -> RunTable:
        """With the row held at the top, or let go."""
        return self._changed(name, lambda row: replace(row, pinned=pinned))

    def hide(self, name: str, hidden: bool = True) -> RunTable:
        """With the row out of sight, or shown again."""
        return self._changed(name, lambda row: replace(row, hidden=hidden))

    def sorted_by(self, column: str, *, descending: bool = False) -> RunTable:
        """Sorted by a column; what is not reported comes last, either way. Raises ArgumentError."""
        if column and column not in COLUMNS:
            raise ArgumentError(f"column {column!r} is not known; choose one of {', '.join(COLUMNS)}")
        return replace(self, sort=column, descending=descending)

    def toggled(self, column: str) -> RunTable:
        """As a click on the column's head: sorted by it, or the other way round."""
        return self.sorted_by(column, descending=self.sort == column and not self.descending)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(row.name for row in self.rows)

    @property
    def shown(self) -> tuple[RunRow, ...]:
        """The rows that are not hidden, as sorted, pinned ones first."""
        rows = [row for row in self.rows if not row.hidden]
        if self.sort:
            value = COLUMNS[self.sort].value
            known = [row for row in rows if _known(value(row))]
            known.sort(key=lambda row: _key(value(row)), reverse=self.descending)
            rows = [*known, *(row for row in rows if not _known(value(row)))]
        return tuple(sorted(rows, key=lambda row: not row.pinned))

    @property
    def histories(self) -> dict[str, History]:
        """The histories of the shown rows, by name: what the figures take."""
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
        """The shown rows as CSV; empty cells for what is not reported."""
        return _csv([column.heading for column in COLUMNS.values()], [_values(row) for row in self.shown])

    def histories_to_csv(self) -> str:
        """The iterations of the shown runs, one below the other, the run's name in the first column."""
        head: list[str] = []
        rows: list[dict[str, str]] = []
        for name, history in self.histories.items():
            for record in csv.DictReader(io.StringIO(history.to_csv())):
                columns = {f"metrics/{key}" if key == "run" else key: value for key, value in record.items()}
                rows.append({"run": name, **columns})
                head = list(dict.fromkeys([*head, *rows[-1]]))
        return _csv(head, [[row.get(column, "") for column in head] for row in rows])

    def to_json(self) -> str:
        """The shown rows and their histories as JSON; `History.from_json(json.dumps(...))` reads one of those."""
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
        """One accessible table without scripts. Colours are the page's own, so that it reads on light and dark."""
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
    """The row of a run that has ended, or that raised `error`. problem: as the run left it, to see if it is solved.

    None where the problem could not even be made.
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
