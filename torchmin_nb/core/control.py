"""Stop and budgets: what can end a run from outside the method.

SciPy's callback can be hundreds of closure calls away, so a run is ended by a private exception out of the
objective, at the next closure call or product. Every SciPy solver lets it through.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = [
    "CALLBACK",
    "EVALUATIONS",
    "FAILED",
    "INTERRUPTED",
    "ITERATIONS",
    "NONFINITE_CURVATURE",
    "NONFINITE_JACOBIAN",
    "SECONDS",
    "STOPPED",
    "TARGET",
    "Abort",
    "Control",
    "Ending",
    "StopRun",
]


class Ending(NamedTuple):
    """Why we, and not SciPy, ended a run: the status, success and message of its result."""

    status: int
    success: bool
    message: str


STOPPED = Ending(99, False, "Stopped on request.")
CALLBACK = Ending(99, False, "Stopped by a callback.")
ITERATIONS = Ending(101, False, "Maximum number of iterations has been exceeded.")
EVALUATIONS = Ending(102, False, "The budget of closure calls (max_evaluations) is spent.")
SECONDS = Ending(103, False, "The time budget (max_seconds) is spent.")
TARGET = Ending(104, True, "The target loss has been reached.")
NONFINITE_CURVATURE = Ending(105, False, "A Hessian-vector product is NaN or infinite.")
INTERRUPTED = Ending(106, False, "Interrupted.")
NONFINITE_JACOBIAN = Ending(108, False, "The Jacobian has NaN or infinite entries where the residuals are finite.")
FAILED = Ending(107, False, "Failed: an error was raised.")


class StopRun(BaseException):
    """Ends SciPy's solver from inside. A BaseException, so that no solver swallows it."""

    def __init__(self, ending: Ending):
        super().__init__(ending.message)
        self.ending = ending


class Abort(BaseException):
    """Carries an exception of the user's code through SciPy unharmed."""

    def __init__(self, error: BaseException):
        super().__init__(repr(error))
        self.error = error


@dataclass
class Control:
    """Budgets of one run, and a stop request that any thread may place.

    max_seconds: wall-clock seconds. max_evaluations: closure calls. target_loss: stop once reached.
    """

    max_seconds: float | None = None
    max_evaluations: int | None = None
    target_loss: float | None = None
    started: float = field(default_factory=time.perf_counter)
    _requested: Ending | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self.started

    def request(self, ending: Ending) -> None:
        """Ask the run to end at its next closure call or product. The first request wins."""
        with self._lock:
            self._requested = self._requested or ending

    def before_work(self) -> None:
        """Called before each closure call and product; raises StopRun when the run is to end."""
        if self._requested:
            raise StopRun(self._requested)
        if self.max_seconds is not None and self.elapsed >= self.max_seconds:
            raise StopRun(SECONDS)

    def before_evaluation(self, evaluations: int) -> None:
        """Called before each closure call, with the number made so far."""
        self.before_work()
        if self.max_evaluations is not None and evaluations >= self.max_evaluations:
            raise StopRun(EVALUATIONS)

    def after_evaluation(self, loss: float, *, feasible: bool = True) -> None:
        """Called after each closure call; raises StopRun when the target is reached, at a feasible point."""
        if self.target_loss is not None and feasible and loss <= self.target_loss:
            raise StopRun(TARGET)
