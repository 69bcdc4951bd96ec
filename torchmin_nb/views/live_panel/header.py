"""The line above the figure: badge, method, progress, loss and its change, seconds, verdict; and the buttons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...core.execution.run import FAILED, FINISHED, PAUSED, PENDING, RUNNING, STOPPED
from ...core.history.history import History
from ...core.history.verdict import verdict
from ...core.methods.local import METHODS

__all__ = ["BUTTONS", "WAITING", "WHY", "Button", "Fact", "Header", "buttons_of", "header_of"]

WAITING = "waiting"
"""The badge of a run of which nothing is known yet."""


class Fact(NamedTuple):
    """One number of the header, as it is shown."""

    name: str
    text: str


class Button(NamedTuple):
    """action: what the kernel is told when it is pressed. tip: what it does, for readers and screen readers.

    says: what the badge says until the kernel has heard it.
    """

    action: str
    label: str
    tip: str
    enabled: bool = True
    says: str = ""


class Header(NamedTuple):
    """badge: a state of a Run, or WAITING. progress: the part done of a limit, from 0 to 1; None without a limit.

    verdict: how it ended, or what is waited for; original: the solver's own message. tone: "good", "warning" or "error"
    once it has ended.
    """

    badge: str
    method: str
    facts: tuple[Fact, ...] = ()
    progress: float | None = None
    verdict: str = ""
    original: str = ""
    tone: str = ""

    def line(self) -> str:
        """All of it in one line, for places without widgets and for screen readers."""
        facts = [f"{fact.name} {fact.text}" for fact in self.facts]
        return " · ".join(filter(None, [self.method, *facts, self.badge, self.verdict]))


_STEPS = Button("step", "Step", "One iteration, then pause"), Button("many", "+10", "Ten iterations, then pause")
_STOP = Button("stop", "Stop", "End the run at the best point seen")
WHY = Button("why", "Why?", "Examine the loss where the run stands: why did it stop?", says="examining")
"""Of a run that stands still or is over."""
BUTTONS: Mapping[str, tuple[Button, ...]] = {
    PENDING: (Button("resume", "Start", "Start the run"), *_STEPS, _STOP),
    PAUSED: (Button("resume", "Resume", "Go on without limit"), *_STEPS, _STOP),
    RUNNING: (
        Button("pause", "Pause", "Stand still after this closure call"),
        *(b._replace(enabled=False) for b in _STEPS),
        _STOP,
    ),
}
"""The buttons by the state of a run; there are none once it is over."""


def buttons_of(state: str | None) -> tuple[Button, ...]:
    """What can be done with a run in this state."""
    return BUTTONS.get(state or "", ())


def header_of(
    history: History, state: str | None = None, limits: Mapping[str, float] | None = None, error: str = ""
) -> Header:
    """The header of a run.

    state: of a Run; None for one that blocks its cell. limits: what ends it at last: "maxiter", "max_evaluations",
    "max_seconds". error: of a run that failed, what was raised.
    """
    known = verdict(history)
    badge = state or _badge(history)
    words = error or known.words or _waited_for(badge, len(history))
    facts, progress = _facts(history, {**_own_limit(history), **(limits or {})})
    tone = "error" if error or badge == FAILED else _tone(known.words) if known.words else ""
    return Header(badge, history.method or "run", facts, progress, words, known.original, tone)


def _tone(words: str) -> str:
    return "good" if words.startswith(("Converged", "The target")) else "warning"


def _own_limit(history: History) -> dict[str, Any]:
    row = METHODS.get(history.method)
    counts_calls = row is not None and row.maxiter_counts == "closure calls"
    return {"max_evaluations" if counts_calls else "maxiter": history.options.get("maxiter")}


def _badge(history: History) -> str:
    if history.message is None:
        return RUNNING if len(history) else WAITING
    return FINISHED if history.success or not history.ended_early else STOPPED


def _waited_for(badge: str, iterations: int) -> str:
    if badge == PAUSED:
        return "It stands still." if iterations else "It waits to be started."
    if badge in (PENDING, WAITING):
        return "The first closure call is under way."
    return "An error was raised." if badge == FAILED else ""


def _facts(history: History, limits: Mapping[str, object]) -> tuple[tuple[Fact, ...], float | None]:
    now = dict(history.progress)
    batch = [Fact("batch", f"{now['batch']:,} of {now['batches']:,}")] if now else []
    if not len(history):
        return tuple(batch), None
    last = history[-1]
    totals = history.totals
    loss = last.loss if history.final_loss is None else history.final_loss
    seconds = last.elapsed if totals is None else totals.seconds
    calls = last.nfev if totals is None else totals.nfev
    done = {"maxiter": float(last.index), "max_evaluations": float(calls), "max_seconds": seconds}
    known = {name: float(limit) for name, limit in limits.items() if isinstance(limit, int | float) and limit > 0}
    parts = [min(1.0, done[name] / limit) for name, limit in known.items() if name in done]
    facts = [
        Fact("iteration", _of(f"{last.index:,}", known.get("maxiter"))),
        Fact("loss", f"{loss:.6g}"),
        *([Fact("last change", _change(last.loss - history[-2].loss))] if len(history) > 1 else []),
        *([Fact("gradient norm", f"{last.grad_norm:.3g}")] if last.grad_norm is not None else []),
        Fact("closure calls", _of(f"{calls:,}", known.get("max_evaluations"))),
        Fact("time", _time(seconds) + (f" / {_time(known['max_seconds'])}" if "max_seconds" in known else "")),
        *batch,
    ]
    return tuple(facts), max(parts, default=None)


def _of(done: str, limit: float | None) -> str:
    return done if limit is None else f"{done} / {limit:,.0f}"


def _change(change: float) -> str:
    if change == 0:
        return "0"
    return f"{'−' if change < 0 else '+'}{abs(change):.3g}"


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
