"""What a view of runs shows at one moment: as the state of a live panel, or as the bundle that stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ..core.history.history import History
from ..errors import ArgumentError
from .bundle import PLOTLY, bundle, picture
from .figures import Drawing, Scale, drawing, wrapped
from .live_panel.header import Button, Header
from .live_panel.state import PanelState, panel_state
from .panels import AUTO, POINTS, chosen_panels, x_values
from .vector_picture import svg

__all__ = ["VIEW_SCALES", "Scene", "ViewScale"]

ViewScale = Literal[Scale, "loss - best"]
VIEW_SCALES: tuple[str, ...] = get_args(ViewScale)
"""What a person may choose for the y axes: the last shows loss − best in the loss panel."""
_SKETCHED = 400
"""Points of a curve while it grows."""


@dataclass(frozen=True)
class Scene:
    """Histories by name, the words above them, and what a person has chosen. Raises ArgumentError for unknown choices.

    title: of the static figure; header, buttons and notes of the runs: of the live panel. x: of X_AXES, or `priced`,
    which is what `priced` of core/history names, and which the live panel offers besides. panels: "auto" or names of
    PANELS. scale: of VIEW_SCALES. height: pixels at least. below: HTML that is shown below the figure.
    """

    histories: Mapping[str, History]
    title: str = ""
    x: str = "iteration"
    panels: str | Sequence[str] = AUTO
    scale: str = "log"
    height: int | None = None
    header: Header = field(default=Header("waiting", ""))
    buttons: tuple[Button, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    below: str = ""
    priced: str = ""

    def __post_init__(self) -> None:
        x_values(History(), self.x)
        chosen_panels({}, self.panels)
        if self.scale not in VIEW_SCALES:
            raise ArgumentError(f"scale={self.scale!r} is not known; choose one of {', '.join(map(repr, VIEW_SCALES))}")

    def state(self) -> PanelState:
        """Of a live panel, which shows every scale and x axis from it."""
        return panel_state(
            self.histories,
            self.header,
            self.buttons,
            panels=self.panels,
            height=self.height,
            notes=self.notes,
            priced=self.priced,
        )

    def chosen(self) -> tuple[str, ...]:
        """The panels by name."""
        names = chosen_panels(self.histories, self.panels)
        return (
            tuple(dict.fromkeys("loss - best" if name == "loss" else name for name in names)) if self._excess else names
        )

    def drawing(self, points: int = POINTS, recorded: int | None = None) -> Drawing:
        """The static figure with about so many points a curve; up to `recorded` of them carry their records."""
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

    def bundle(self, *, png: bool = False, zoom: Mapping[str, Sequence[float]] | None = None) -> dict[str, Any]:
        """The static form. png: with a picture drawn here. zoom: the ranges that a person chose in the live panel."""
        drawn = self.drawing()
        text = wrapped(self.title)
        data = bundle(drawn.figure(), text, picture(drawn, text) if png else None)
        for key, ends in (zoom or {}).items():
            axis, choice = key.split(" ", 1)
            if choice == (self.x if axis == "xaxis" else self.scale) and axis in data[PLOTLY]["layout"]:
                data[PLOTLY]["layout"][axis] |= {"range": list(ends), "tickmode": "auto"}
        return data

    def sketch(self) -> dict[str, Any]:
        """The static form while points arrive: cheap, and drawn again by every front end when it is sent again."""
        text = wrapped(self.title)
        return {"text/html": svg(self.drawing(_SKETCHED, recorded=0), text), "text/plain": text}

    @property
    def _excess(self) -> bool:
        return self.scale == "loss - best"

    @property
    def _axes(self) -> str:
        return "log" if self._excess else self.scale
