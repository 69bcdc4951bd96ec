"""Histories one after the other: a run that one method began and another went on with, as one history."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError
from .events import History, Iteration, Totals

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["joined"]

ARROW = " → "


def joined(first: History, second: History) -> History:
    """What `first + second` is: a new History whose indices, counts and seconds go on; the two are left as they are.

    second went on where first ended. Its start is the last iterate of first, and then told once, if the two have the
    same loss and, where both keep parameters, the same point: what one of them does not report is the other's. Else its
    start is an iteration of its own: the end point that torch's Adam never evaluated, or the best point of a run that
    was stopped. `method` is "Adam → L-BFGS-B"; `options` are numbered by stage, "1. lr", "2. maxcor". Ending and final
    loss are those of second, `totals` the sums. Parameters, and evaluations, are kept where both have them.

    Raises ArgumentError for histories of different numbers of parameters.
    """
    _require_same_size(first, second)
    history = History(
        ARROW.join(filter(None, (first.method, second.method))),
        options={**_staged(first, 0), **_staged(second, _stages(first))},
        n_parameters=second.n_parameters if first.n_parameters is None else first.n_parameters,
        dtype=second.dtype if second.dtype is not None else first.dtype,
        keep_parameters=first.keep_parameters and second.keep_parameters,
        keep_evaluations=first.keep_evaluations and second.keep_evaluations,
    )
    history.errors = dict(Counter(first.errors) + Counter(second.errors))
    spent = _spent(first)
    once = _meet(first, second)
    _add_iterations(history, first, second, spent, once=once)
    if history.keep_evaluations:
        _add_evaluations(history, first, second, spent, once=once)
    if second.message is not None:
        _end(history, second, spent)
    return history


def _require_same_size(first: History, second: History) -> None:
    sizes = first.n_parameters, second.n_parameters
    if None not in sizes and sizes[0] != sizes[1]:
        raise ArgumentError(
            f"histories of {sizes[0]} and of {sizes[1]} parameters cannot be joined; join runs of the same parameters"
        )


def _stages(history: History) -> int:
    return history.method.count(ARROW) + 1 if history.method else 0


def _staged(history: History, before: int) -> dict[str, Any]:
    """The options under the number of their stage; those of a history that was joined have one."""
    if _stages(history) < 2:
        return {f"{before + 1}. {name}": value for name, value in history.options.items()}
    return {
        re.sub(r"^\d+", lambda number: str(int(number[0]) + before), name): value
        for name, value in history.options.items()
    }


def _spent(history: History) -> Totals:
    """What a history cost, up to its end or, of one under way, to its last iteration."""
    if history.totals is not None:
        return history.totals
    last = history[-1] if len(history) else Iteration(0, np.nan)
    return Totals(last.nfev, last.njev, last.nhev, last.nhvp, last.elapsed)


def _rejected(history: History) -> int:
    """The errors that stood for NaN: one under way, or killed, knows their names no better than its last iteration."""
    return max([sum(history.errors.values()), *(iteration.rejected_errors for iteration in history[-1:])])


def _meet(first: History, second: History) -> bool:
    """Whether the start of the second is the last iterate of the first."""
    if not len(first) or not len(second) or first[-1].loss != second[0].loss:
        return False
    gap = _gap(first, second)
    return gap is None or gap == 0


def _gap(first: History, second: History) -> float | None:
    """How far the start of the second is from the last iterate of the first; None where it is not known."""
    if not (first.keep_parameters and second.keep_parameters and len(first)):
        return None
    return float(np.linalg.norm(second.parameters[0] - first.parameters[-1]))


def _add_iterations(history: History, first: History, second: History, spent: Totals, *, once: bool) -> None:
    rows, points = list(first), _points(first, history)
    going_on, later = list(second), _points(second, history)
    offset = len(rows) - once
    if once:
        rows[-1] = _merged(rows[-1], going_on.pop(0))
        later = later[1:]
    elif going_on:
        going_on[0] = replace(going_on[0], step_norm=_gap(first, second))
    rejected = _rejected(first)
    going_on = [_shifted(iteration, spent, offset, rejected) for iteration in going_on]
    for iteration, x in zip([*rows, *going_on], [*points, *later], strict=True):
        history.append(iteration, x)


def _points(source: History, joint: History) -> list[NDArray[np.float64] | None]:
    return list(source.parameters)[: len(source)] if joint.keep_parameters else [None] * len(source)


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
    """The point where two runs meet, with what either says of it."""
    told = {field.name: getattr(end, field.name) for field in fields(end)}
    missing = {name: getattr(start, name) for name, value in told.items() if value is None}
    return replace(end, **{**missing, "metrics": {**start.metrics, **end.metrics}})


def _add_evaluations(history: History, first: History, second: History, spent: Totals, *, once: bool) -> None:
    whole = history.keep_parameters
    made, offset = len(first.evaluations), len(first) - once
    going_on = [
        replace(each, index=each.index + made, iteration=each.iteration + offset, elapsed=each.elapsed + spent.seconds)
        for each in second.evaluations
    ]
    trials = [*first.trials, *second.trials] if whole else [np.empty(0)] * (made + len(going_on))
    for evaluation, x in zip([*first.evaluations, *going_on], trials, strict=True):
        history.evaluated(evaluation, x)


def _end(history: History, second: History, spent: Totals) -> None:
    own = _spent(second)
    history.ended(
        success=bool(second.success),
        status=second.status or 0,
        message=str(second.message),
        loss=second.final_loss,
        totals=Totals(*(getattr(spent, each.name) + getattr(own, each.name) for each in fields(Totals))),
        early=bool(second.ended_early),
    )
