"""Dashboard: the picture of a run while it goes on, with the controls to steer it, and what stays when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from weakref import WeakSet, ref

from ..core.execution.run import Run
from ..core.history.history import History
from ..core.history.records import Iteration
from ..core.signatures import shows_keywords
from ..errors import ArgumentError
from .frontend import HEADLESS, STATIC, TERMINAL, cell, front_end
from .live_panel.sources import BlockingSource, RunSource
from .own_panel import OwnPanel
from .panels import AUTO, PanelName, XAxis, named
from .progress import ProgressLine
from .scene import Scene, ViewScale
from .screens import PanelScreen, PictureScreen, Screen, StaticScreen
from .session import Session, warn_dropped
from .words import status_line

__all__ = ["Dashboard", "show_run"]

_OWN_PANEL = 1.0
"""Seconds between two drawings of the user's own panel."""


class Dashboard:
    """The picture of a run while it goes on: ``MinimizeWrapper(params, "trust-ncg", callbacks=[Dashboard()])``.

    It shows itself when the run starts: in a notebook as one panel, elsewhere as a progress line. The panel shows the
    state of the run, its numbers and its curves; with ``optimizer.start(closure)`` it also has buttons: start, pause,
    step, stop. It draws on a clock in a thread of its own, never in the run. When the run has ended, a static figure
    takes the panel's place, with the ranges that were zoomed to, and a saved notebook keeps it. One dashboard may serve
    several runs, one after another.

    Parameters
    ----------
    x : {"iteration", "closure calls", "seconds"}, optional
        What the x axis shows. Default "iteration".
    panels : "auto", str or sequence of str, optional
        Of "loss", "loss - best", "gradient norm", "KKT residual", "trust radius", "reduction ratio", "step norm",
        "constraint violation", "HVPs", "closure calls" and "metrics", a panel for each number that the closure records.
        Default "auto": what the run reports.
    scale : {"log", "linear", "loss - best"}, optional
        Scale of the y axes. Default "log".
    overlay : bool, optional
        Keep the curves of earlier runs. Default False.
    compare : History, dict of str to History or None, optional
        Runs drawn beside this one.
    panel : callable or None, optional
        ``panel(history)`` returns a figure of your own. It is drawn about once a second, between two iterations.
    rate : float, optional
        Largest number of redraws a second; fewer if drawing or sending would take too much. Default 5.
    height : int or None, optional
        Least height of the figure in pixels: each panel has 110 at least. Default None: what the panels need.
    widgets : bool, optional
        False for front ends without widgets. Default True.
    clock : callable, optional
        Returns seconds; for tests.

    Raises
    ------
    ArgumentError
        If x, panels or scale is not known, or the rate is not positive.

    Warns
    -----
    ViewWarning
        If the dashboard fails. It is dropped, and the run goes on.

    Examples
    --------
    >>> dashboard = Dashboard(x="closure calls", panels=["loss", "gradient norm"])
    >>> result = minimize(lambda x: (x**2).sum(), [3.0, 4.0], "BFGS", callbacks=[dashboard])
    >>> dashboard.history is result.history
    True
    """

    @shows_keywords()
    def __init__(
        self,
        *,
        x: XAxis = "iteration",
        panels: Literal["auto"] | PanelName | Sequence[str] = AUTO,
        scale: ViewScale = "log",
        overlay: bool = False,
        compare: Mapping[str, History] | History | None = None,
        panel: Callable[[History], Any] | None = None,
        rate: float = 5.0,
        height: int | None = None,
        widgets: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        if not rate > 0:
            raise ArgumentError(f"rate must be a positive number of redraws per second, got {rate!r}")
        self._scene = Scene({}, x=x, panels=panels, scale=scale, height=height)
        self._beside = dict(named(compare)) if compare is not None else {}
        self._overlay = overlay
        self._own = OwnPanel(panel) if panel is not None else None
        self._own_due = 0.0
        self._rate = rate
        self._widgets = widgets
        self._clock = clock
        self._run: ref[Run] | None = None
        self._finished = History()
        self._runs: WeakSet[Run] = WeakSet()
        self._session: Session | None = None
        self._line: ProgressLine | None = None
        self._cell: int | None = None

    @property
    def history(self) -> History:
        """The history of the run that is shown."""
        source = self._source
        return source if isinstance(source, History) else source.history

    @property
    def _source(self) -> Run | History:
        """What is shown. The cell that shows a run keeps it: a run that nobody can steer is freed."""
        run = None if self._run is None else self._run()
        return self._finished if run is None else run

    # What a run tells

    def on_run(self, run: Run) -> None:
        """Open in the cell that starts a run, with its controls. Runs call it.

        Parameters
        ----------
        run : Run
            The run that is about to start.
        """
        run.panel = self
        self._runs.add(run)
        self._begin(run)

    def on_start(self, history: History) -> None:
        """Open for a blocking ``step``, which has no Run. Runs call it.

        Parameters
        ----------
        history : History
            The history of the run.
        """
        if not any(run.history is history for run in self._runs):
            self._begin(history)
        elif history is self.history:
            self._finished = history
        if self._line is not None and history is self.history:
            self._line.on_start(history)

    def __call__(self, iteration: Iteration) -> None:
        """Nothing is drawn here but what must be: the user's own panel, and the progress line of a terminal."""
        if self._line is None and self._own is None:
            return
        if not len(self.history) or iteration is not self.history[-1]:
            return  # of a run that has given way to another
        if self._line is not None:
            self._line(iteration)
        if self._own is not None and self._clock() >= self._own_due:
            self._draw_own()

    def on_end(self, history: History) -> None:
        """Draw the end, and leave a static picture. Runs call it.

        Parameters
        ----------
        history : History
            The history of the run.
        """
        if history is not self.history:
            return  # of a run that has given way to another
        if self._line is not None:
            self._line.on_end(history)
        if self._own is not None:
            self._draw_own()
        if self._session is not None:
            self._session.run_guarded(self._session.end if isinstance(self._source, Run) else self._session.close)

    def on_release(self, optimizer: Any) -> None:
        """Close if the run has failed before its first closure call. Runs call it.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            The optimizer of the run.
        """
        if self._session is not None and self._source is optimizer.history:
            self._session.run_guarded(self._session.close)

    # For a person

    def watch(self, run: Run) -> None:
        """Show a run in the present cell: one that was started without this dashboard, or in another cell.

        Parameters
        ----------
        run : Run
            The run.
        """
        self.on_run(run)

    def settle(self) -> None:
        """Leave what there is now in a form that can be saved."""
        if self._session is not None:
            self._session.run_guarded(self._session.settle)
            self._session.tick()

    def shows(self, run: Run) -> bool:
        """Whether it shows this run.

        Parameters
        ----------
        run : Run
            The run.

        Returns
        -------
        bool
            True if it shows it.
        """
        return self._source is run

    def close(self) -> None:
        """Leave only the picture; free thread and widgets. The run goes on."""
        if self._session is not None:
            self._session.run_guarded(self._session.free)
            self._session = None

    def _ipython_display_(self) -> None:
        if not isinstance(self._source, Run) or front_end() == TERMINAL:
            print(repr(self))
        elif cell() != self._cell:
            self._begin(self._source)

    def __repr__(self) -> str:
        return f"<Dashboard: {status_line(self.history) if self.history.method else 'no run yet'}>"

    # Sessions

    def _begin(self, source: Run | History) -> None:
        try:
            self._leave(source)
            self._line = self._session = None
            self._run, self._finished = (None, source) if isinstance(source, History) else (ref(source), source.history)
            self._open(source)
        except Exception as error:
            self._session = None
            warn_dropped("the dashboard", error)

    def _leave(self, source: Run | History) -> None:
        """Another run begins, or the same in another cell: what is shown becomes a picture."""
        if self._session is None:
            return
        self._scene = self._session.scene
        self._session.run_guarded(self._session.close)
        if self._overlay and source is not self._source and len(self.history):
            self._beside[self._unique(self.history.method)] = self.history

    def _open(self, source: Run | History) -> None:
        where = front_end()
        if where == TERMINAL:
            self._line = ProgressLine()
            return
        self._cell = cell()
        name = self._unique(self.history.method)
        shown = RunSource if isinstance(source, Run) else BlockingSource
        session = Session(
            shown(source, name, self._beside),  # type: ignore[arg-type]
            self._scene,
            lambda session: self._screen(where, session),
            rate=self._rate,
            clock=self._clock,
        )
        session.open()
        self._session = session
        if self._own is not None:
            self._own.open()
            self._own_due = 0.0
        if where != HEADLESS:
            session.watch()

    def _screen(self, where: str, session: Session) -> Screen:
        if where == HEADLESS:
            return PictureScreen()
        if where == STATIC or not self._widgets:
            return StaticScreen()
        return PanelScreen(session)

    def _unique(self, method: str) -> str:
        name, number = method, 2
        while name in self._beside:
            name, number = f"{method} {number}", number + 1
        return name

    def _draw_own(self) -> None:
        assert self._own is not None
        self._own_due = self._clock() + _OWN_PANEL
        try:
            self._own.show(self.history)
        except Exception as error:
            self._own = None
            warn_dropped("the panel", error)


def show_run(run: Run) -> None:
    """Show a run as the last line of a cell does: with the dashboard that watches it already, or with a new one.

    A notebook that nobody watches waits for the run to end or to stand still: what comes later would be lost.
    """
    where = front_end()
    if where == TERMINAL:
        print(repr(run))
        return
    if run.panel is None or not run.panel.shows(run):
        Dashboard().watch(run)
    else:
        run.panel._ipython_display_()
    if where == HEADLESS and run.panel is not None:
        run.wait_until_paused()
        run.panel.settle()
