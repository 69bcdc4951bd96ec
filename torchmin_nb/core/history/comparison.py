"""A comparison of histories, one row for each run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ..display.tables import number_text, text_table
from .history import History
from .records import Iteration

__all__ = [
    "comparison_rows",
    "comparison_text",
]

Column = tuple[str, Callable[[History], str]]


def comparison_rows(histories: Mapping[str, History], extra: Sequence[Column] = ()) -> list[tuple[str, ...]]:
    """A header and one row for each run: method, loss, gradient norm, iterations, closure calls, HVPs, seconds."""
    columns: list[Column] = [
        ("loss", lambda h: number_text(_last(h).loss if h.final_loss is None else h.final_loss, ".6f")),
        ("gradient norm", lambda h: number_text(_last(h).grad_norm, ".1e")),
        ("iterations", lambda h: str(_last(h).index)),
        ("closure calls", lambda h: str(h.totals.nfev if h.totals else _last(h).nfev)),
        ("HVPs", lambda h: str(h.totals.nhvp if h.totals else _last(h).nhvp)),
        ("seconds", lambda h: f"{h.totals.seconds if h.totals else _last(h).elapsed:.2f}"),
        *extra,
    ]
    head = ("method", *(name for name, _ in columns))
    return [head, *((name, *(cell(history) for _, cell in columns)) for name, history in histories.items())]


def _last(history: History) -> Iteration:
    """The last iteration; for a run that never began, one without a loss."""
    return history[-1] if len(history) else Iteration(0, math.nan)


def comparison_text(histories: Mapping[str, History], extra: Sequence[Column] = ()) -> str:
    """The comparison as an aligned table."""
    return text_table(comparison_rows(histories, extra))
