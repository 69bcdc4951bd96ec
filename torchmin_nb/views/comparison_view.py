"""The panel of a comparison: the curves of its methods over each other while they run, with buttons."""

from __future__ import annotations

import math

from ..core.execution.run import FINISHED, PAUSED, RUNNING, STOPPED
from ..core.history.priced import priced
from ..explore.comparison import Comparison
from ..explore.ranking import Compared
from .following import screen_of
from .frontend import HEADLESS, TERMINAL, front_end
from .live_panel.header import Button, Fact, Header
from .live_panel.sources import Moment
from .scene import Scene
from .session import Session

__all__ = ["ComparisonSource", "show_comparison"]

_PANELS = ("loss", "gradient norm")
_STOP = Button("stop", "Stop", "End the comparison; the rows so far stay")
_PAUSE = Button("pause", "Pause", "Stand still after this closure call")
_RESUME = Button("resume", "Resume", "Go on")


class ComparisonSource:
    """What the panel of a comparison shows."""

    def __init__(self, comparison: Comparison):
        self._comparison = comparison

    def moment(self) -> Moment:
        """See Source."""
        comparison, rows = self._comparison, self._comparison.rows
        over = comparison.over
        badge = (
            STOPPED if over and comparison.stopped else FINISHED if over else PAUSED if comparison.paused else RUNNING
        )
        best = min(rows, key=lambda row: row.loss, default=None)
        facts = [Fact("runs", f"{len(rows)} / {comparison.total}")]
        if best is not None and math.isfinite(best.loss):
            facts.append(Fact("lowest loss", f"{best.loss:.6g} ({best.name})"))
        words = _verdict(comparison) if over else ""
        tone = "" if not over else "warning" if comparison.stopped else "good"
        title = f"{len(comparison.names)} methods compared"
        header = Header(badge, title, tuple(facts), len(rows) / comparison.total, words, tone=tone)
        buttons = () if over else (_RESUME if comparison.paused else _PAUSE, _STOP)
        notes = {row.name: _note(row) for row in rows if row.start == 0}
        return Moment(comparison.histories, header, title, buttons, notes, over=over)

    def press(self, action: str, count: int) -> None:
        """See Source."""
        {"pause": self._comparison.pause, "resume": self._comparison.resume, "stop": self._comparison.stop}[action]()


def show_comparison(comparison: Comparison) -> None:
    """Show a comparison that is about to begin, in the cell that is running. In a terminal nothing is shown."""
    where = front_end()
    if where == TERMINAL:
        return
    spent = priced(comparison.budget.price) if comparison.priced else ""
    scene = Scene({}, x=comparison.axis, panels=_PANELS, scale="log", priced=spent)
    session = Session(ComparisonSource(comparison), scene, lambda session: screen_of(where, session), rate=5.0)
    session.open()
    comparison.when_over(lambda: session.run_guarded(session.close))
    if where != HEADLESS:
        session.watch()


def _verdict(comparison: Comparison) -> str:
    """Shorter than the recommendation, which the cell shows with its table."""
    if comparison.stopped:
        return "Stopped. The table has the runs that have ended."
    best = comparison.best
    return (
        "No method lowered the loss." if best is None or not math.isfinite(best.loss) else f"{best.name} is the first."
    )


def _note(row: Compared) -> str:
    return "failed" if row.failed else f"loss {row.loss:.4g}"
