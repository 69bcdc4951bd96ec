"""What a panel keeps when its cell is run again, and which panel stands in which cell."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ...explore import RunTable

__all__ = ["Cells", "Choices", "Memory", "place_here", "put_back", "values"]


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


Place = tuple[str, int]
"""A cell, and which of the panels that it makes."""

_Panel = TypeVar("_Panel")
_counted: tuple[str, int] = ("", 0)


def place_here() -> Place | None:
    """The place of the panel that is being made; None outside of a notebook's cells."""
    global _counted
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return None
    parent = kernel.get_parent("shell")
    cell, request = parent.get("metadata", {}).get("cellId"), str(parent.get("header", {}).get("msg_id", ""))
    if not cell:
        return None
    _counted = (request, _counted[1] + 1 if _counted[0] == request else 0)
    return str(cell), _counted[1]


class Cells(Generic[_Panel]):
    """Which panel is shown in which cell. One that is shown is kept."""

    def __init__(self) -> None:
        self._panels: dict[Place, _Panel] = {}

    def previous(self, place: Place | None) -> _Panel | None:
        """The panel that this cell made when it was run before."""
        return None if place is None else self._panels.get(place)

    def register(self, place: Place | None, panel: _Panel) -> None:
        """This panel is shown here from now on."""
        if place is not None:
            self._panels[place] = panel

    def unregister(self, panel: _Panel) -> None:
        """No view shows it any more."""
        for place in [place for place, shown in self._panels.items() if shown is panel]:
            del self._panels[place]
