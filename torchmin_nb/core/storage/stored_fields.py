"""The fields of stored records, by name, so that files and pickles of earlier versions can be read.

A renamed field has `metadata["earlier_name"]`. A field that was inserted between others when pickles were still
lists of values has `metadata["added_later"]`, a number that says in which order. Both need a default.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any

__all__ = ["default_of", "earlier_names", "fields_by_name", "set_fields"]


def earlier_names(kind: Any) -> dict[str, str]:
    """The earlier and the present names of fields."""
    return {each.metadata["earlier_name"]: each.name for each in fields(kind) if "earlier_name" in each.metadata}


def default_of(field: Field[Any]) -> Any:
    """The value of a field for a record that was stored without it. Raises KeyError if the field is required."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    if field.default is MISSING:
        raise KeyError(f"{field.name} is missing")
    return field.default


def fields_by_name(record: Any) -> dict[str, Any]:
    """`__getstate__` of a frozen dataclass with slots."""
    return {each.name: getattr(record, each.name) for each in fields(record)}


def set_fields(record: Any, state: Any) -> None:
    """`__setstate__` of a frozen dataclass with slots: from a dict by name, or from a list of an earlier version."""
    stored = state if isinstance(state, dict) else _named(record, state)
    renamed = earlier_names(record)
    stored = {renamed.get(name, name): value for name, value in stored.items()}
    for each in fields(record):
        value = stored[each.name] if each.name in stored else default_of(each)
        object.__setattr__(record, each.name, value)


def _named(record: Any, values: list[Any]) -> dict[str, Any]:
    all_fields = fields(record)
    added = sorted(each.metadata["added_later"] for each in all_fields if "added_later" in each.metadata)
    missing = added[len(added) - max(0, len(all_fields) - len(values)) :]
    then = [each.name for each in all_fields if each.metadata.get("added_later") not in missing]
    return dict(zip(then, values, strict=False))
