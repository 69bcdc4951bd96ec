"""Rows: many records of one kind, kept as typed columns. A record is created at each access, and not kept."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from functools import cache
from operator import attrgetter
from typing import Any, Generic, Literal, TypeVar, overload

import msgspec
import numpy as np

from ..storage.stored_fields import default_of, earlier_names

__all__ = ["Number", "Rows", "stored_form"]

_Record = TypeVar("_Record")
Number = float | Literal["nan", "inf", "-inf"]
"""A number in JSON, where NaN and infinities are strings."""
_STORED = {
    "int": int,
    "float": Number,
    "float | None": Number | None,
    "bool | None": bool | None,
    "Mapping[str, float]": dict[str, Number],
}
_CHUNK = 2**12
"""Number of records that are converted together."""


@cache
def stored_form(kind: Any) -> Any:
    """The msgspec Struct for records of this dataclass; msgspec checks the types while it reads."""
    return msgspec.defstruct(
        kind.__name__,
        [
            (each.name, _STORED[str(each.type)], *(() if _required(each) else (default_of(each),)))
            for each in fields(kind)
        ],
        forbid_unknown_fields=True,
        gc=False,  # numbers and names contain no references
    )


def _required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


class _Numbers:
    """int, float or bool; None where `optional`."""

    def __init__(self, kind: type, *, optional: bool):
        self._kind = kind
        self._optional = optional
        self.values: array[Any] = array("q" if kind is int else "d")
        self._missing = bytearray()

    def extend(self, values: Sequence[Any]) -> None:
        """Append stored values. Raises OverflowError."""
        if self._optional and values.count(None) == len(values):
            self._extend_missing(len(values))
            return
        numbers = np.array(values, dtype=np.int64 if self._kind is int else np.float64)
        if self._missing or (self._optional and np.isnan(numbers).any()):
            self._missing = self._missing or bytearray(len(self.values))
            self._missing.extend(value is None for value in values)
        self.values.frombytes(numbers.tobytes())

    def __getitem__(self, row: int) -> Any:
        if self._missing and self._missing[row]:
            return None
        return _from_stored(self._kind(self.values[row]))

    def _extend_missing(self, count: int) -> None:
        self._missing = self._missing or bytearray(len(self.values))
        self._missing.extend(b"\1" * count)
        self.values.extend(array("d", [math.nan]) * count)


class _Mappings:
    """A column of dicts {name: float}, with any names in each row."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, ...], int] = {}
        self._kinds: list[tuple[str, ...]] = []
        self._of: array[int] = array("q")
        self._begin: array[int] = array("q")
        self._values: array[float] = array("d")

    def extend(self, mappings: Sequence[dict[str, Any]]) -> None:
        """Append stored mappings."""
        if not any(mappings):
            self._of.extend(array("q", [self._kind_of(())]) * len(mappings))
            self._begin.extend(array("q", [len(self._values)]) * len(mappings))
            return
        for mapping in mappings:
            self._begin.append(len(self._values))
            self._of.append(self._kind_of(tuple(mapping)))
            self._values.extend(map(float, mapping.values()))

    def __getitem__(self, row: int) -> dict[str, float]:
        names, begin = self._kinds[self._of[row]], self._begin[row]
        return dict(zip(names, map(_from_stored, self._values[begin : begin + len(names)]), strict=True))

    def columns(self) -> dict[str, array[float]]:
        """One column for each name, with NaN for rows without a value."""
        of, begin, values = (np.array(each) for each in (self._of, self._begin, self._values))
        filled: dict[str, Any] = {}
        for kind, names in enumerate(self._kinds):
            rows = np.flatnonzero(of == kind)
            for place, name in enumerate(names):
                column = filled.setdefault(name, np.full(len(of), math.nan))
                column[rows] = values[begin[rows] + place]
        return {name: array("d", column.tobytes()) for name, column in filled.items()}

    def _kind_of(self, names: tuple[str, ...]) -> int:
        kind = self._names.setdefault(names, len(self._kinds))
        if kind == len(self._kinds):
            self._kinds.append(names)
        return kind


def _from_stored(value: float) -> float:
    """Replace every NaN by the same NaN object, so that a record equals itself."""
    return math.nan if value != value else value


_COLUMNS = {
    "int": lambda: _Numbers(int, optional=False),
    "float": lambda: _Numbers(float, optional=False),
    "float | None": lambda: _Numbers(float, optional=True),
    "bool | None": lambda: _Numbers(bool, optional=True),
    "Mapping[str, float]": _Mappings,
}


class Rows(Sequence[_Record], Generic[_Record]):
    """A sequence of records of a dataclass that can grow. Each access creates the record again.

    It needs a tenth of the memory of the records, and a tenth of the time to create them all.
    """

    def __init__(self, kind: type[_Record]):
        self._kind = kind
        self._columns: dict[str, Any] = {
            field.name: _COLUMNS[str(field.type)]()
            for field in fields(kind)  # type: ignore[arg-type]
        }
        self._stored = 0
        self._later: list[_Record] = []

    def extend_stored(self, records: list[Any]) -> None:
        """Append records of `stored_form`, or as in JSON; a field with a default may be missing, or have its
        earlier name.

        Raises ValueError, TypeError, OverflowError for something else.
        """
        form = self._form
        for begin in range(0, len(records), _CHUNK):
            checked = [
                each if isinstance(each, form) else self._checked(each) for each in records[begin : begin + _CHUNK]
            ]
            for name, column in self._columns.items():
                column.extend(list(map(attrgetter(name), checked)))
            self._stored += len(checked)

    @property
    def _form(self) -> Any:
        return stored_form(self._kind)  # type: ignore[arg-type]

    def append(self, record: _Record) -> None:
        """Append a record."""
        self._later.append(record)

    def column(self, name: str) -> Any:
        """The stored values of a field: an array of numbers; for a mapping, a dict of arrays by name."""
        column = self._columns[name]
        return column.columns() if isinstance(column, _Mappings) else column.values

    @overload
    def __getitem__(self, index: int) -> _Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Record]: ...
    def __getitem__(self, index: int | slice) -> _Record | list[_Record]:
        if isinstance(index, slice):
            return [self._at(row) for row in range(len(self))[index]]
        return self._at(range(len(self))[index])

    def __len__(self) -> int:
        return self._stored + len(self._later)

    def __iter__(self) -> Iterator[_Record]:
        return (self._at(row) for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows | list) or len(self) != len(other):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} of {self._kind.__name__}>"

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a pickle. An earlier version may have written it without a field, or with its earlier name."""
        renamed, new = earlier_names(state["_kind"]), Rows(state["_kind"])
        stored = {renamed.get(name, name): column for name, column in state["_columns"].items()}
        for name in new._columns.keys() - stored.keys():
            new._columns[name].extend([new._default(name)] * state["_stored"])
        columns = {name: stored.get(name, column) for name, column in new._columns.items()}
        self.__dict__.update({**state, "_columns": columns})

    def _at(self, row: int) -> _Record:
        if row >= self._stored:
            return self._later[row - self._stored]
        return self._kind(*(column[row] for column in self._columns.values()))

    def _checked(self, stored: Any) -> Any:
        if isinstance(stored, dict):
            renamed = earlier_names(self._kind)
            stored = {renamed.get(name, name): value for name, value in stored.items()}
        return msgspec.convert(stored, self._form)

    def _default(self, name: str) -> Any:
        return default_of(next(field for field in fields(self._kind) if field.name == name))  # type: ignore[arg-type]
