"""Dashboard: a callback that draws the run while it goes on, and leaves a picture when it ends."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import anywidget  # noqa: F401  go.FigureWidget needs it, and says so only when it is made
import plotly.graph_objects as go

from ..core.events import History, Iteration
from ..errors import ArgumentError, ViewWarning
from .bundle import bundle
from .figures import RunCurves, layout, run_curves, run_traces, wrapped, x_column
from .frontend import HEADLESS, TERMINAL, front_end
from .progress import ProgressLine
from .words import status_line

__all__ = ["Dashboard"]


class Dashboard:
    """Loss, gradient norm and trust radius, live: `MinimizeWrapper(params, "trust-ncg", callbacks=[Dashboard()])`.

    It shows itself when the run starts: in a notebook as one Plotly figure that is redrawn at most `rate` times a
    second, elsewhere as a progress line. When the run ends, the live figure gives way to a static one, which a saved
    notebook keeps and shows wherever it is opened. A dashboard may serve several runs, one after another.

    x: what the x axis shows: "iteration", "closure calls" or "seconds". rate: redraws a second. height: pixels.
    A dashboard that fails is dropped with a ViewWarning; the run goes on. Raises ArgumentError for any other x, and for
    a rate that is not positive.
    """

    def __init__(self, *, x: str = "iteration", rate: float = 5.0, height: int = 560):
        x_column(x)
        if not rate > 0:
            raise ArgumentError(f"rate must be positive, the redraws a second, got {rate!r}")
        self.x = x
        self._interval = 1 / rate
        self._height = height
        self._clock: Callable[[], float] = time.monotonic
        self._view: _FigureView | ProgressLine | None = None
        self._due = 0.0
        self._figure: go.FigureWidget | None = None
        self.history: History | None = None

    def on_start(self, history: History) -> None:
        """Show an empty picture of the run that begins."""
        self.history = history
        self._guarded(self._open)

    def __call__(self, iteration: Iteration) -> None:
        """Redraw, if it is time."""
        if self._clock() >= self._due:
            self._guarded(self._redraw)
            self._due = self._clock() + self._interval

    def on_end(self, history: History) -> None:
        """Draw the end, and leave a static picture."""
        self._guarded(self._close)

    def _open(self) -> None:
        assert self.history is not None
        self._due = 0.0
        where = front_end()
        if where == TERMINAL:
            self._view = ProgressLine()
        else:
            self._view = _FigureView(self._figure_for(where), self.x, self._height, headless=where == HEADLESS)
        self._view.on_start(self.history)

    def _figure_for(self, where: str) -> go.Figure:
        """The one live widget; where nobody watches a plain figure, so that no tool can store a widget's state."""
        if where == HEADLESS:
            return go.Figure()
        self._figure = self._figure or go.FigureWidget()
        return self._figure

    def _redraw(self) -> None:
        if self._view is not None and self.history:
            self._view(self.history[-1])

    def _close(self) -> None:
        if self._view is not None and self.history is not None:
            self._view.on_end(self.history)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._view = None
            warnings.warn(
                f"the dashboard was dropped, the run goes on: {type(error).__name__}: {error}",
                ViewWarning,
                stacklevel=4,
            )


class _FigureView:
    """One run in one figure: the traces are made once, then their arrays are replaced."""

    def __init__(self, figure: go.Figure, x: str, height: int, *, headless: bool):
        self._figure = figure
        self._x = x
        self._height = height
        self._headless = headless
        self._display: Any = None
        self._history = History()
        self._look: dict[str, Any] = {}

    def on_start(self, history: History) -> None:
        from IPython.display import display

        self._history = history
        run = self._curves()
        self._look = layout([run], self._x, status_line(history), self._height)
        with self._figure.batch_update():
            self._figure.data = ()
            self._figure.add_traces(run_traces(run))
            self._figure.update_layout(self._look, overwrite=True)
        shown = {"text/plain": status_line(history)} if self._headless else self._figure
        self._display = display(shown, raw=self._headless, display_id=True)

    def __call__(self, iteration: Iteration) -> None:
        self._draw()

    def on_end(self, history: History) -> None:
        self._draw()
        look = wrapped(status_line(history))
        self._display.update(bundle([self._curves()], go.Figure(self._figure), look, png=self._headless), raw=True)

    def _draw(self) -> None:
        run = self._curves()
        look = layout([run], self._x, status_line(self._history), self._height)
        with self._figure.batch_update():
            for trace, new in zip(self._figure.data, run_traces(run), strict=True):
                trace.update(x=new["x"], y=new["y"], mode=new["mode"])
            # Only what has changed, property by property: an axis that is replaced would lose the person's zoom.
            changed = {part: value for part, value in look.items() if value != self._look[part]}
            self._figure.update_layout(changed)
            if "annotations" in changed:
                self._figure.layout.annotations = changed["annotations"]
        self._look = look

    def _curves(self) -> RunCurves:
        return run_curves(self._history.method, self._history, self._x)
