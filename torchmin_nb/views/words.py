"""A run in words: the status line that every view shows."""

from __future__ import annotations

from itertools import islice

from ..core.history.history import History
from ..core.history.verdict import verdict

__all__ = ["ending", "status_line"]

_METRICS = 4
"""So many of the run's own numbers, such as temperature, minima found or recorded terms, have room in the line."""


def status_line(history: History, state: str | None = None) -> str:
    """'trust-ncg · iteration 41 · loss 0.1832 · gradient norm 3.1e-04 · radius 16 · 2.4 s · running'.

    state: of a Run, such as "paused"; without one, a run that has not ended is running.
    """
    if not len(history):
        return f"{history.method} · {'waiting to be started' if state == 'paused' else ending(history) or 'starting'}"
    last = history[-1]
    ended = history.totals is not None and history.final_loss is not None
    loss = history.final_loss if ended else last.loss
    seconds = history.totals.seconds if history.totals else last.elapsed
    parts = [
        history.method,
        f"iteration {last.index:,}",
        f"loss {loss:.5g}",
        None if last.grad_norm is None else f"gradient norm {last.grad_norm:.1e}",
        None if last.trust_radius is None else f"radius {last.trust_radius:.3g}",
        *(f"{name} {value:.4g}" for name, value in islice(last.metrics.items(), _METRICS)),
        f"{seconds:.1f} s",
        ending(history) or state or "running",
    ]
    return " · ".join(part for part in parts if part)


def ending(history: History) -> str:
    """How the run ended, in plain words: 'finished: …' or 'ended: …'; empty while it goes on."""
    if history.message is None:
        return ""
    known = verdict(history)
    own = known.original.rstrip(".")
    words = own if known.words == own else known.words.replace(": ", ", ", 1)
    return ("finished: " if history.success else "ended: ") + words
