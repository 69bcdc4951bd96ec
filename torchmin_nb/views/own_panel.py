"""A figure of the user's own beside the curves: their model against their data, redrawn about once a second."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

from ..core.history.history import History
from .bundle import bundle

__all__ = ["OwnPanel"]


class OwnPanel:
    """Calls draw(history) and shows the figure it returns: of matplotlib, of Plotly, or anything a notebook shows."""

    def __init__(self, draw: Callable[[History], Any]):
        self._draw = draw
        self._display: Any = None

    def open(self) -> None:
        """Take a place in the cell that is running."""
        from IPython.display import display

        self._display = display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, history: History) -> None:
        """Draw it again, where there is a place for it: a terminal has none."""
        if self._display is None:
            return
        drawn = self._draw(history)
        if drawn is None:
            return
        if hasattr(drawn, "savefig"):
            self._display.update(_matplotlib(drawn), raw=True)
        elif hasattr(drawn, "to_plotly_json"):
            self._display.update(bundle(drawn, "figure"), raw=True)
        else:
            self._display.update(drawn)


def _matplotlib(figure: Any) -> dict[str, Any]:
    png = figure._repr_png_() if hasattr(figure, "_repr_png_") else _saved(figure)
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:  # or it would be shown a second time at the end of the cell, and kept for ever
        pyplot.close(figure)
    return {"image/png": png, "text/plain": getattr(figure, "alt", "") or "figure"}


def _saved(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()
