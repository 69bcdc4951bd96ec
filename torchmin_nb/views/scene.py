"""What a live view shows at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..core.history.history import History
from ..errors import ArgumentError
from .bundle import PLOTLY, bundle, picture
from .figures import Drawing, Scale, drawing, wrapped
from .panels import AUTO, POINTS, chosen_panels, x_column

__all__ = ["VIEW_SCALES", "Scene", "ViewScale"]

ViewScale = Literal[Scale, "loss - best"]
VIEW_SCALES: tuple[str, ...] = get_args(ViewScale)
"""What a person may choose for the y axes: the last shows loss − best in the loss panel."""


@dataclass(frozen=True)
class Scene:
    """Histories by name, the words above them, and what a person has chosen. Raises ArgumentError for unknown choices.

    x: of X_AXES. panels: "auto" or names of PANELS. scale: of VIEW_SCALES. height: pixels.
    """

    histories: Mapping[str, History]
    title: str = ""
    x: str = "iteration"
    panels: str | Sequence[str] = AUTO
    scale: str = "log"
    height: int = 560

    def __post_init__(self) -> None:
        x_column(self.x)
        chosen_panels({}, self.panels)
        if self.scale not in VIEW_SCALES:
            raise ArgumentError(f"scale={self.scale!r} is not known; choose one of {', '.join(map(repr, VIEW_SCALES))}")

    def chosen(self) -> tuple[str, ...]:
        """The panels by name."""
        names = chosen_panels(self.histories, self.panels)
        return (
            tuple(dict.fromkeys("loss - best" if name == "loss" else name for name in names)) if self._excess else names
        )

    def drawing(self, points: int = POINTS, recorded: int | None = None) -> Drawing:
        """With about so many points a curve; up to `recorded` of them carry their records."""
        return drawing(
            self.histories,
            x=self.x,
            panels=self.chosen(),
            scale=self._axes,
            title=wrapped(self.title),
            height=self.height,
            points=points,
            recorded=recorded,
        )

    def bundle(self, drawing: Drawing, *, menus: bool = False, png: bool = False) -> dict[str, Any]:
        """The static form of a drawing, with its menus and with a picture drawn here if wanted."""
        text = wrapped(self.title)
        data = bundle(drawing.figure(), text, picture(drawing, text) if png else None)
        if menus:
            data[PLOTLY]["layout"] |= drawing.menus()
        return data

    @property
    def _excess(self) -> bool:
        return self.scale == "loss - best"

    @property
    def _axes(self) -> str:
        return "log" if self._excess else self.scale
