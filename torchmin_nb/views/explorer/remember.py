"""What a panel keeps when its cell is run again, and which panel stands in which cell."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...explore import RunTable

if TYPE_CHECKING:
    from .explorer import MethodExplorer

__all__ = ["Choices", "Memory", "earlier", "let_go", "place_here", "put_back", "stand", "values"]


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

_standing: dict[Place, MethodExplorer] = {}
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


def earlier(place: Place | None) -> MethodExplorer | None:
    """The panel that this cell made when it was run before."""
    return None if place is None else _standing.get(place)


def stand(place: Place | None, explorer: MethodExplorer) -> None:
    """This panel stands here from now on, and is kept while it is shown."""
    if place is not None:
        _standing[place] = explorer


def let_go(explorer: MethodExplorer) -> None:
    """It stands nowhere any more."""
    for place in [place for place, standing in _standing.items() if standing is explorer]:
        del _standing[place]
