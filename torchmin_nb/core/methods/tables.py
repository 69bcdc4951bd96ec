"""The methods in words: one table for each family of wrappers, for the command line and the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .global_search import GLOBAL_METHODS
from .least_squares import LEAST_SQUARES_METHODS
from .local import METHODS
from .row import MethodRow

__all__ = ["method_tables"]

Table = list[tuple[str, ...]]
Column = Callable[[Any], str | bool]
_FIRST: Mapping[str, Column] = {"method": lambda row: row.name, "needs": lambda row: row.needs}
_LAST: Mapping[str, Column] = {"when to use it": lambda row: row.summary}
_ENGINES: Mapping[str, Column] = {"engines": lambda row: ", ".join(row.engines)}
_TRUST_RADIUS: Mapping[str, Column] = {"trust radius": lambda row: row.radius != "none"}
_LOCAL: Mapping[str, Column] = {
    **_FIRST,
    "memory": lambda row: "N²" if row.dense else "N",
    "bounds": lambda row: row.bounds,
    "constraints": lambda row: row.constraints,
    **_TRUST_RADIUS,
    **_ENGINES,
    **_LAST,
}
_LEAST_SQUARES: Mapping[str, Column] = {
    **_FIRST,
    "bounds": lambda row: row.bounds,
    "robust losses": lambda row: row.robust,
    "Jacobian as products": lambda row: row.operator,
    **_TRUST_RADIUS,
    **_ENGINES,
    **_LAST,
}
_GLOBAL: Mapping[str, Column] = {
    "method": lambda row: row.name,
    "needs bounds": lambda row: row.bounds,
    "constraints": lambda row: row.constraints,
    "random": lambda row: row.stochastic,
    "descends locally": lambda row: row.local,
    **_LAST,
}


def method_tables() -> Mapping[str, Table]:
    """A header and one row for each method, by wrapper; the last column says when to use it."""
    return {
        "MinimizeWrapper": _table(_LOCAL, METHODS.values()),
        "LeastSquaresWrapper": _table(_LEAST_SQUARES, LEAST_SQUARES_METHODS.values()),
        "Global search": _table(_GLOBAL, GLOBAL_METHODS.values()),
    }


def _table(columns: Mapping[str, Column], rows: Iterable[MethodRow]) -> Table:
    return [tuple(columns), *(tuple(_cell(read(row)) for read in columns.values()) for row in rows)]


def _cell(value: str | bool) -> str:
    return value if isinstance(value, str) else "yes" if value else "–"
