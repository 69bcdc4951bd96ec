"""StartsView: the runs of `multistart` over each other, as they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..core.optimizers.multistart.result import MultiStart, StartRun
from ..core.signatures import shows_keywords
from ..core.validation import count
from .following import screen_of
from .frontend import HEADLESS, TERMINAL, front_end
from .live_panel.sources import StartsSource
from .panels import PanelName, XAxis
from .scene import Scene, ViewScale
from .session import Session

__all__ = ["StartsView"]


class StartsView:
    """The comparison of many starts while they run: ``multistart(..., on_result=StartsView())``.

    In a notebook one panel shows how many starts are done, the best loss and the number of distinct minima, above the
    curves of the best runs so far. It is updated as the runs arrive, in a thread of its own. At the end a static figure
    takes its place. In a terminal each run is a line.

    Parameters
    ----------
    x : {"iteration", "closure calls", "seconds"}, optional
        What the x axis shows. Default "iteration".
    panels : "auto", str or sequence of str, optional
        As for `Dashboard`. Default "loss".
    scale : {"log", "linear", "loss - best"}, optional
        Scale of the y axes. Default "log".
    runs : int, optional
        Number of runs that are drawn, the best ones. Default 12.
    height : int or None, optional
        Least height of the figure in pixels; None for what the panels need. Default 420.

    Raises
    ------
    ArgumentError
        If x, panels or scale is not known, or `runs` is not positive.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    >>> optimizer = MinimizeWrapper([x], "BFGS")
    >>> found = multistart(optimizer, lambda: ((x - 1) ** 2).sum(), [[-2.0], [3.0]], on_result=StartsView())
    start 0: loss 0, 1 of 2 starts: 1 distinct minimum, best loss 0
    start 1: loss 0, 2 starts: 1 distinct minimum, best loss 0
    """

    @shows_keywords()
    def __init__(
        self,
        *,
        x: XAxis = "iteration",
        panels: Literal["auto"] | PanelName | Sequence[str] = "loss",
        scale: ViewScale = "log",
        runs: int = 12,
        height: int | None = 420,
    ):
        self._scene = Scene({}, x=x, panels=panels, scale=scale, height=height)
        self._runs = count("runs", runs)
        self._source: StartsSource | None = None
        self._session: Session | None = None

    def on_start(self, total: int) -> None:
        """Open in the present cell. `multistart` calls it.

        Parameters
        ----------
        total : int
            Number of starts.
        """
        where = front_end()
        self._source = None if where == TERMINAL else StartsSource(total, self._runs)
        if self._source is None:
            return
        self._session = Session(self._source, self._scene, lambda session: screen_of(where, session), rate=5.0)
        self._session.open()
        if where != HEADLESS:
            self._session.watch()

    def __call__(self, run: StartRun, found: MultiStart) -> None:
        """Show one more run. `multistart` calls it."""
        if self._source is None:
            print(f"{run.name}: loss {run.loss:.6g}, {found.summary()}")
        else:
            self._source.found = found

    def on_end(self, found: MultiStart) -> None:
        """Draw the end, and leave a static figure. `multistart` calls it.

        Parameters
        ----------
        found : MultiStart
            All runs.
        """
        if self._source is not None and self._session is not None:
            self._source.end(found)
            self._session.run_guarded(self._session.close)
            self._session = None
