"""The curves of runs in a FigureWidget that is made once; the panel says what a title would."""

from __future__ import annotations

from ..figures import TITLE_HEIGHT
from ..scene import Scene
from ..screens import LiveScreen
from ..widget import FigureWidget
from .canvas import responsive

__all__ = ["Curves"]

_TOP = 14
_LOW = 140
"""Pixels below which a panel has no room for six labels."""


class Curves(LiveScreen):
    """A LiveScreen of a panel of its own, without the room for a title. height: in pixels."""

    def __init__(self, *, height: int):
        super().__init__()
        self.height = height

    def _made(self) -> FigureWidget:
        return responsive(super()._made())

    def draw(self, scene: Scene) -> int:
        """Bring it up to date; returns the bytes sent, or about."""
        sent = super().draw(scene)
        top = self._look["margin"]["t"] - TITLE_HEIGHT + _TOP
        if self.widget.layout.margin.t != top:
            self.widget.update_layout(margin={"t": top, "b": 42}, font={"size": 11})
        self._spare_ticks()
        return sent

    def _spare_ticks(self) -> None:
        """Half the decades on a low log axis, so that their labels do not touch."""
        axes = {name: axis for name, axis in self._look.items() if name.startswith("yaxis") and axis.get("dtick")}
        low = len(axes) * _LOW > self.height
        for name, axis in axes.items():
            wanted = 2 * axis["dtick"] if low and isinstance(axis["dtick"], int | float) else axis["dtick"]
            if self.widget.layout[name].dtick != wanted:
                self.widget.layout[name].dtick = wanted
