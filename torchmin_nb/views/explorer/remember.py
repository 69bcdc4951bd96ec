"""What a panel keeps when its cell is run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...explore import RunTable

__all__ = ["Choices", "Memory", "put_back", "values"]


@dataclass(frozen=True)
class Choices:
    """What a form says: the values by field, the problem's settings, and the options by method."""

    fields: Mapping[str, Any]
    settings: Mapping[str, float]
    options: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Memory:
    """What a panel shows: its form, the axes of its curves, and the runs."""

    choices: Choices
    axes: Mapping[str, Any]
    table: RunTable


def values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The values of widgets, by name."""
    return {name: field.value for name, field in fields.items()}


def put_back(values: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Give the widgets that are there the values of those that were."""
    for name, field in fields.items():
        if name in values:
            field.value = values[name]
