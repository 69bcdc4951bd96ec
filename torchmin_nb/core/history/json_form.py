"""The parts of a History as JSON: conversion to plain values, and reading with a check of every type."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from .records import Evaluation, Iteration, encoded
from .rows import Number, Rows, stored_form

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "plain",
    "read_counts",
    "read_field",
    "read_number",
    "read_options",
    "read_parts",
    "read_points",
    "read_rows",
]

_Event = TypeVar("_Event")
_NESTED = 32
_MOST_PARAMETERS = 2**48
_LISTS = {
    "iterations": list[stored_form(Iteration)],  # type: ignore[misc]
    "evaluations": list[stored_form(Evaluation)] | None,  # type: ignore[misc]
    "parameters": list[list[Number]] | None,
    "trials": list[list[Number]],
}
"""The parts of a stored history that can be long."""
_PARTS = (
    "format",
    "method",
    "options",
    "n_parameters",
    "dtype",
    "success",
    "status",
    "message",
    "final_loss",
    "totals",
)
_LATER = {"ended_early": None, "errors": None}
"""Fields that files of older versions do not have."""
_DECODER = msgspec.json.Decoder(
    msgspec.defstruct(
        "Parts",
        [*((name, Any) for name in _PARTS), *_LISTS.items(), *((name, Any, value) for name, value in _LATER.items())],
    )
)


def read_parts(text: str) -> dict[str, Any]:
    """The parts of a stored history by name. Raises ValueError, RecursionError, and other errors of json.loads."""
    try:
        return msgspec.structs.asdict(_DECODER.decode(text))
    except ValueError:  # names of an older version, Python's form of numbers, or not a history
        return json.loads(text)  # type: ignore[no-any-return]


def read_field(stored: Mapping[str, Any], name: str, kind: Any) -> Any:
    """A field of this type. Raises TypeError, and ValueError for a number that is too large for a parameter count."""
    value = stored[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and not isinstance(True, kind)):
        raise TypeError(f"{name} is {type(value).__name__}")
    if type(value) is int and not -_MOST_PARAMETERS < value < _MOST_PARAMETERS:
        raise ValueError(f"{name} is too large a number")
    return value


def read_number(stored: Any) -> float | None:
    """A number. Raises ValueError."""
    number = msgspec.convert(stored, Number | None)
    return None if number is None else float(number)


def read_counts(stored: Any) -> dict[str, int]:
    """Numbers by name. Raises TypeError."""
    if not isinstance(stored, dict) or not all(type(count) is int for count in stored.values()):
        raise TypeError("errors are not a dict of numbers")
    return dict(stored)


def read_options(stored: Any) -> dict[str, Any]:
    """Plain values by name. Raises TypeError."""
    if not isinstance(stored, dict) or not _shallow(stored, _NESTED):
        raise TypeError("options are not a dict of plain values")
    return stored


def _shallow(value: Any, levels: int) -> bool:
    """Whether it is nested less deeply than Python's limit for calls."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(item, levels - 1) for item in items)


def read_rows(kind: type[_Event], stored: Any) -> Rows[_Event]:
    """Records as in JSON, or already converted."""
    if isinstance(stored, Rows):
        return stored
    if not isinstance(stored, list):
        raise TypeError(f"a list of {kind.__name__} is needed, got {type(stored).__name__}")
    rows = Rows(kind)
    rows.extend_stored(stored)
    return rows


def read_points(stored: Sequence[Any], n: int | None) -> list[NDArray[np.float64]]:
    """Points as in JSON, all of the same length, which is n if n is known."""
    points = np.array(stored, dtype=np.float64) if len(stored) else np.empty((0, n or 0))
    if points.ndim != 2 or (n is not None and points.shape[1] != n):
        raise ValueError(f"points of shape {points.shape} do not fit {n} parameters")
    return list(points)


def plain(value: Any) -> Any:
    """A value for JSON; text if JSON has no such type."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return encoded(value)
    return value if isinstance(value, str | int | bool | type(None)) else repr(value)
