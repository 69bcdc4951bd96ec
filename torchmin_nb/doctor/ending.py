"""How a run ended, and how fast its loss fell: what the history alone says."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.history.history import History
from ..core.history.verdict import verdict
from ..core.runtime.control import Status
from .subject import Subject

__all__ = ["Ending", "ending_of", "iterations_missing"]

_BUDGET = {Status.MAX_ITERATIONS, Status.MAX_EVALUATIONS, Status.MAX_SECONDS}
_NONFINITE = {
    Status.NONFINITE_CURVATURE,
    Status.NONFINITE_GRADIENT,
    Status.NONFINITE_JACOBIAN,
    Status.NONFINITE_LOSS,
    Status.UNDEFINED,
}
_WORDS = (
    ("limit", re.compile(r"maximum|max\.|maxfun|limit|budget|exceed|steps? (are|is) done", re.IGNORECASE)),
    ("constraints", re.compile(r"incompatible|singular|infeasib|constraint", re.IGNORECASE)),
    ("search", re.compile(r"precision|line ?search|abnormal|approximation|rounding|stagnat", re.IGNORECASE)),
)
"""What SciPy's messages say; its numbers mean something else in each method."""
_FEW = 5


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    kind: "success", "limit" (of iterations, calls, seconds, or steps of `observe`), "search" (no acceptable step),
    "stalled" (the steps of `observe` are done, the last ones, or those inside the last one, without effect),
    "constraints", "nonfinite", "error", "stopped", "target", "floor" (noise), "paused", "none" (no run), "other".
    words: the message in plain words. first, last: losses at the start, of the first run if this one goes on from
    others, and at the end. fell: by how much the loss fell. iterations: number of iterations.
    stands_still: whether the last tenth of the iterations, at least five, lowered the loss by nothing that counts.
    """

    kind: str
    message: str
    words: str
    first: float
    last: float
    iterations: int
    stands_still: bool

    @property
    def fell(self) -> float:
        """By how much the loss fell; 0 if it did not."""
        gone = self.first - self.last
        return max(gone, 0.0) if math.isfinite(gone) else 0.0

    @property
    def claims_success(self) -> bool:
        """Whether the method says that it converged."""
        return self.kind in ("success", "target")


def ending_of(subject: Subject, loss: float) -> Ending:
    """The ending of the subject's run. loss: at the examined point."""
    history = subject.history
    losses = np.asarray(history.loss, dtype=float) if len(history) else np.empty(0)
    first = float(losses[0]) if losses.size else loss
    first = first if subject.start_loss is None else max(first, subject.start_loss)
    message = (history.message or "") if not subject.under_way else "paused"
    kind, still = _kind(subject), _stands_still(losses, subject.flat.eps)
    if kind == "limit" and subject.spec is None:
        kind, message = _inside(subject, loss) or ("stalled" if still else kind, message)
    return Ending(
        kind=kind,
        message=message,
        words=_in_words(history, message),
        first=first,
        last=loss,
        iterations=int(history[-1].index) if len(history) else 0,
        stands_still=still,
    )


def _in_words(history: History, message: str) -> str:
    """The message in plain words, with the method's own behind them where they differ."""
    plain = verdict(history).words if message == (history.message or "") else message
    return plain if not message or plain.rstrip(".") == message.rstrip(".") else f"{plain} ({message.rstrip('.: ')})"


def _inside(subject: Subject, loss: float) -> tuple[str, str] | None:
    """How the last step of a torch.optim.LBFGS ended, which has limits and tolerances of its own; None if unknown.

    Each of its iterations makes one closure call at least, so with fewer calls than `max_iter` it ended by itself. A
    tolerance below rounding ended nothing: then no step could lower the loss any more, as always in float32.
    """
    inner, history = subject.inner, subject.history
    if not isinstance(inner, torch.optim.LBFGS) or len(history) < 2:
        return None
    group = inner.param_groups[0]
    state: Mapping[str, Any] = next(iter(inner.state.values()), {})
    limit, most = group["max_iter"], group["max_eval"]
    only = int(history[-1].index) == 1
    calls = history[-1].nfev if only else history[-1].nfev - history[-2].nfev + 1
    iterations = min(calls, int(state.get("n_iter", calls))) if only else calls
    if iterations >= limit or calls >= most:
        reached = f"max_iter={limit}" if iterations >= limit else f"max_eval={most}"
        return ("limit", f"LBFGS reached its own limit, {reached}") if only else None
    if history[-1].grad_norm_inf is not None and history[-1].grad_norm_inf <= group["tolerance_grad"]:
        return "success", f"LBFGS reached its tolerance_grad={group['tolerance_grad']:g}"
    if not subject.single and group["tolerance_change"] > 100 * subject.flat.eps * abs(loss):
        return "success", f"LBFGS reached its tolerance_change={group['tolerance_change']:g}"
    return "stalled", "LBFGS ended by itself: its steps did not lower the loss any more"


def _kind(subject: Subject) -> str:
    history = subject.history
    if subject.under_way:
        return "paused"
    if subject.exception is not None or history.status == Status.FAILED:
        return "error"
    if history.status is None:
        return "none"
    if history.status in _BUDGET:
        return "limit"
    if history.status in _NONFINITE:
        return "nonfinite"
    if history.status == Status.NOISE_FLOOR:
        return "floor"
    if history.status == Status.TARGET_REACHED:
        return "target"
    if history.status in (Status.STOPPED, Status.INTERRUPTED):
        return "stopped"
    if history.success:
        return "limit" if _WORDS[0][1].search(history.message or "") and subject.spec is None else "success"
    return next((kind for kind, words in _WORDS if words.search(history.message or "")), "other")


def _stands_still(losses: NDArray[np.float64], eps: float) -> bool:
    if losses.size <= _FEW:
        return False
    tail = losses[-max(_FEW, losses.size // 10) :]
    return bool(np.isfinite(tail).all() and tail[0] - tail.min() <= 10 * eps * abs(tail[0]))


def iterations_missing(subject: Subject, remaining: float) -> int | None:
    """How many iterations are missing until little of the predicted decrease is left, at the pace of the last half.

    remaining: the predicted decrease. None if no pace can be seen.
    """
    losses = np.minimum.accumulate(np.asarray(subject.history.loss, dtype=np.float64))
    if len(losses) < 4 or not remaining > 0 or not np.isfinite(losses).all():
        return None
    gaps = np.log(np.maximum(losses - (losses[-1] - remaining), 1e-300))
    half = gaps[len(gaps) // 2 :]
    pace = (half[0] - half[-1]) / max(len(half) - 1, 1)
    if pace <= 0:
        return None
    target = math.log(max(1e-10 * (losses[0] - losses[-1] + remaining), 1e-300))
    missing = (gaps[-1] - target) / pace
    return max(1, math.ceil(missing)) if 0 < missing < 1e12 else None
