"""The FigureWidget of all live views: it opens with less, and prints in a line."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from ..bundle import slim

__all__ = ["FigureWidget"]


class FigureWidget(go.FigureWidget):  # type: ignore[misc]
    """An empty FigureWidget for traces of these kinds.

    Of the template in use it takes only what is about them: Plotly checks and copies a template part by part, and sends
    it. IPython asks for the text of whatever it displays, and Plotly's would be the whole figure's.
    """

    # As text: anywidget would watch a file for changes, and so hold every widget for good.
    _esm = str(go.FigureWidget._esm)

    def __init__(self, *kinds: str):
        super().__init__(layout={"template": _template(kinds)})

    def __repr__(self) -> str:
        count = len(self.data)
        return f"FigureWidget({count} trace{'s' * (count != 1)})"


def _template(kinds: Collection[str]) -> dict[str, Any]:
    name = pio.templates.default
    return slim(pio.templates[name].to_plotly_json(), kinds) if name else {}
