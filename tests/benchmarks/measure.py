"""Interleaved repeats, medians, ratios, and the table they are printed in."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

from tests.benchmarks.contenders import METHODS, NotOffered, Outcome, contenders_for, floor
from tests.benchmarks.problems import Problem
from torchmin_nb.core.display.tables import text_table

__all__ = ["Row", "compare", "rounds", "show"]


class Row(NamedTuple):
    """One line of a table. Ratios are medians over the rounds; None is what is not known, `note` says why."""

    name: str
    milliseconds: float | None = None
    to_first: float | None = None
    to_floor: float | None = None
    loss: float | None = None
    calls: int | None = None
    products: int | None = None
    note: str = ""


def compare(problem: Problem, method_name: str, iterations: int, repeats: int) -> list[Row]:
    """One row a contender, ours first, the floor last."""
    method = METHODS[method_name]
    runners = {name: partial(run, problem, method, iterations) for name, run in contenders_for(method).items()}
    first, refused = _warmed_up(runners)
    own = first["torchmin_nb"]
    ready: dict[str, Callable[[], Outcome]] = {name: runners[name] for name in first}
    ready["floor"] = partial(floor, problem, own.calls, own.products or 0)
    times = rounds({name: partial(_seconds, run) for name, run in ready.items()}, repeats)
    rows = [_row(name, outcome, own, times) for name, outcome in first.items()]
    bottom = Row("floor: closure and products alone", 1e3 * median(times["floor"]), _ratio(times, "floor"), 1.0)
    return [*rows, bottom._replace(calls=own.calls, products=own.products), *refused]


def rounds(actions: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each action in each round; the actions take turns, so that noise falls on all alike."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            gc.collect()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                times[name].append(action())
    return times


def show(title: str, rows: Sequence[Row], *, first: str = "ours") -> None:
    """Print a table; columns that no row fills are left out, and notes follow."""
    head = ("", "ms", f"× {first}", "× floor", "final loss", "closure calls", "products")
    cells = [_cells(row) for row in rows if not row.note]
    kept = [index for index in range(len(head)) if not index or any(line[index] != "–" for line in cells)]
    print(f"\n{title}\n")
    print(text_table([[line[index] for index in kept] for line in (head, *cells)]))
    for row in rows:
        if row.note:
            print(f"{row.name.strip()}: {row.note}")


def _warmed_up(runners: Mapping[str, Callable[[], Outcome]]) -> tuple[dict[str, Outcome], list[Row]]:
    """A first run of each, not timed, that finds out who takes part."""
    outcomes: dict[str, Outcome] = {}
    refused: list[Row] = []
    for name, run in runners.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outcomes[name] = run()
        except ImportError:
            refused.append(Row(name, note="not installed; pip install pytorch-minimize autograd-minimize"))
        except NotOffered as reason:
            refused.append(Row(name, note=f"does not offer it: {reason}"))
    return outcomes, refused


def _row(name: str, outcome: Outcome, own: Outcome, times: Mapping[str, Sequence[float]]) -> Row:
    comparable = outcome is own or outcome.products == own.products == 0
    share = own.calls / outcome.calls  # the floor makes as many calls as ours
    to_floor = _ratio(times, name, "floor") * share if comparable else None
    milliseconds = 1e3 * median(times[name])
    return Row(name, milliseconds, _ratio(times, name), to_floor, outcome.loss, outcome.calls, outcome.products)


def _seconds(run: Callable[[], Outcome]) -> float:
    return run().seconds


def _ratio(times: Mapping[str, Sequence[float]], name: str, to: str = "torchmin_nb") -> float:
    return median(one / other for one, other in zip(times[name], times[to], strict=True))


def _cells(row: Row) -> list[str]:
    return [
        row.name,
        _number(row.milliseconds, ".3g" if (row.milliseconds or 0) < 100 else ".0f"),
        _number(row.to_first, ".2f"),
        _number(row.to_floor, ".2f"),
        _number(row.loss, ".6g"),
        _number(row.calls, "d"),
        _number(row.products, "d"),
    ]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"
