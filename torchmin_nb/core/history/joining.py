"""A run that one method began and another method continued: the records of both as records of one run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ...errors import ArgumentError
from .records import Evaluation, Iteration, Totals

__all__ = ["ARROW", "add_totals", "join_evaluations", "join_iterations", "join_options", "require_same_size"]

ARROW = " → "


def require_same_size(first: int | None, second: int | None) -> None:
    """Raise ArgumentError for runs with different numbers of parameters."""
    if first is not None and second is not None and first != second:
        raise ArgumentError(
            f"histories of {first} and of {second} parameters cannot be joined; join runs of the same parameters"
        )


def join_options(first: tuple[str, Mapping[str, Any]], second: tuple[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Methods and their options, as options under the number of their stage: "1. lr", "2. maxcor"."""
    return {**_staged(*first, 0), **_staged(*second, _stages(first[0]))}


def join_iterations(
    first: Sequence[Iteration],
    second: Sequence[Iteration],
    *,
    spent: Totals,
    rejected: int,
    gap: float | None,
    once: bool,
) -> list[Iteration]:
    """The iterations of both, in order; indices, counts and seconds continue.

    spent, rejected: the cost of the first run, and its rejected errors. gap: the distance from the last iterate of the
    first to the start of the second, None if not known. once: the two are one point, and reported once.
    """
    rows, going_on = list(first), list(second)
    offset = len(rows) - once
    if once:
        rows[-1] = _merged(rows[-1], going_on.pop(0))
    elif going_on:
        going_on[0] = replace(going_on[0], step_norm=gap)
    return [*rows, *(_shifted(iteration, spent, offset, rejected) for iteration in going_on)]


def join_evaluations(
    first: Sequence[Evaluation], second: Sequence[Evaluation], *, iterations: int, seconds: float
) -> list[Evaluation]:
    """The closure calls of both, in order; iterations and seconds of the first run are added to the second."""
    made = len(first)
    going_on = (
        replace(each, index=each.index + made, iteration=each.iteration + iterations, elapsed=each.elapsed + seconds)
        for each in second
    )
    return [*first, *going_on]


def add_totals(first: Totals, second: Totals) -> Totals:
    """The cost of both runs."""
    return Totals(*(getattr(first, each.name) + getattr(second, each.name) for each in fields(Totals)))


def _stages(method: str) -> int:
    return method.count(ARROW) + 1 if method else 0


def _staged(method: str, options: Mapping[str, Any], before: int) -> dict[str, Any]:
    """The options under the number of their stage; options of a joined history already have one."""
    if _stages(method) < 2:
        return {f"{before + 1}. {name}": value for name, value in options.items()}
    return {
        re.sub(r"^\d+", lambda number: str(int(number[0]) + before), name): value for name, value in options.items()
    }


def _shifted(iteration: Iteration, spent: Totals, offset: int, rejected: int) -> Iteration:
    return replace(
        iteration,
        index=iteration.index + offset,
        nfev=iteration.nfev + spent.nfev,
        njev=iteration.njev + spent.njev,
        nhev=iteration.nhev + spent.nhev,
        nhvp=iteration.nhvp + spent.nhvp,
        rejected_errors=iteration.rejected_errors + rejected,
        elapsed=iteration.elapsed + spent.seconds,
    )


def _merged(end: Iteration, start: Iteration) -> Iteration:
    """The point where two runs meet, with the values that either run has."""
    known = {field.name: getattr(end, field.name) for field in fields(end)}
    missing = {name: getattr(start, name) for name, value in known.items() if value is None}
    return replace(end, **{**missing, "metrics": {**start.metrics, **end.metrics}})
