"""Which panel stands in which cell of the notebook."""

from __future__ import annotations

import sys
from typing import Generic, TypeVar

__all__ = ["Cells", "Place", "place_here"]

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
