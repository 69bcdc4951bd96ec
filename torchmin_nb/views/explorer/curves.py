"""The curves of runs in a FigureWidget that is made once; the panel says what a title would."""

from __future__ import annotations

from ..figures import TITLE_HEIGHT
from ..scene import Scene
from .canvas import responsive
from .figure_screen import LiveScreen
from .figure_widget import FigureWidget

__all__ = ["Curves"]

_TOP = 14


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
        return sent
