"""The iterates of a SciPy solver, inferred from its callbacks and evaluations."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import OptimizeResult

from ..objective.objective import ROUNDING, Objective, Point
from ..parameters.arrays import length
from ..runtime.control import CALLBACK, ITERATIONS, Abort, StopRun
from .kept_states import KeptStates
from .recorder import Recorder
from .trust_region import Probe, unreported

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ScipyCallback", "ScipyIterates"]


class ScipyIterates:
    """Reports the iterations of a SciPy method to the recorder.

    `radius` is the probe of trust_region.PROBES; `max_iterations` is enforced here for methods that cannot;
    `skip_first` drops a first SciPy callback that is the start itself; `callback_at` is where SciPy calls back,
    "iterate", "trial" or "evaluation": with trials `accepted` reports the iterates, with evaluations `begun`;
    `counted_at_start` is how many iterations SciPy counts before the first; user: the user's own SciPy callback;
    kept: takes the iterates.
    """

    def __init__(
        self,
        objective: Objective,
        recorder: Recorder,
        *,
        radius: Probe = unreported,
        max_iterations: int | None = None,
        skip_first: bool = False,
        callback_at: str = "iterate",
        counted_at_start: int = 0,
        user: ScipyCallback | None = None,
        kept: KeptStates | None = None,
    ):
        self._objective = objective
        self._recorder = recorder
        self._radius = radius
        self._max_iterations = max_iterations
        self._skip_first = skip_first
        self._callback_at = callback_at
        self._counted_at_start = counted_at_start
        self._user = user
        self._kept = kept
        self._begun = 0
        self._counts = False
        self._latest: NDArray[np.float64] | None = None

    def callback(self, xk: NDArray[np.float64], *state: Any) -> bool:
        """SciPy's callback: called with x after each iteration; trust-constr also passes its state."""
        x = np.array(xk, dtype=np.float64).ravel()
        details = state[0] if state else None
        if self._skip_first:
            self._skip_first = False
        elif self._callback_at == "iterate" or (self._callback_at == "evaluation" and not self._counts):
            self._iterated(x, details)
        elif self._callback_at == "trial":
            self._begun += 1
        self._latest = x
        if self._user is not None:
            point = self._objective.cached_point(x)
            self._objective.calls.write_parameters(x)
            self._user(x, None if point is None else point.loss, details)
            self._objective.calls.invalidate()
        return False

    def accepted(self, x: NDArray[np.float64]) -> None:
        """Report an iteration at x, an evaluated point, unless x is the point of the last iteration."""
        last = self._recorder.last
        if last is not None and not np.array_equal(x, last.x):
            self._iterated(x, None)

    def begun(self, iteration: int) -> None:
        """The method, which calls back at every evaluation, is now in this iteration: earlier iterations are over."""
        self._counts, self._begun = True, iteration
        if self._latest is not None:
            self._record_until(iteration - 1, self._latest)

    def ended(self, x: NDArray[np.float64], iterations: int) -> None:
        """The method has ended at x. Report the iterations that its callback did not report."""
        if self._callback_at == "trial":
            self.accepted(x)
        elif self._counts:
            self._record_until(iterations, x)

    @property
    def iterations(self) -> int:
        """The iterations so far, as SciPy's method counts them, including an unfinished one if known.

        Some methods count the start as well.
        """
        return max(self._recorder.iterations + self._counted_at_start, self._begun)

    def _record_until(self, iteration: int, x: NDArray[np.float64]) -> None:
        """Report all iterations up to this one, all at x."""
        while self._recorder.iterations < iteration:
            self._iterated(x, None)

    def _iterated(self, x: NDArray[np.float64], state: Any) -> None:
        point = self._objective.cached_point(x) or self._uncached_point(x)
        region = self._radius(state)
        step = point.distance(self._recorder.last)
        accepted = None if self._radius is unreported else step > 0
        self._objective.iterated(point)
        if self._kept is not None:
            self._kept.offer(self._recorder.iterations + 1, x)
        self._recorder.iterated(self._with_violation(point, state), region, step=step, accepted=accepted)
        if self._max_iterations is not None and self._recorder.iterations >= self._max_iterations:
            raise StopRun(ITERATIONS)

    def _uncached_point(self, x: NDArray[np.float64]) -> Point:
        """A point that is no longer cached: an earlier trial, or a trial that is equal only up to rounding.

        Powell, COBYLA and COBYQA return to earlier trials. TNC unscales x; its iterate is reported with the values of
        the nearest trial. The best point would be wrong: it may belong to TNC's differences of gradients.
        """
        trial = self._objective.trials.at(x)
        if trial is None:
            near = self._objective.nearest(x)
            if near is not None and length(near.x - x) <= ROUNDING * length(x):
                return replace(near, x=x, violation=None)
            trial = self._objective.trials.nearest(x)
        return Point(x, trial.loss, None, dict(trial.metrics))

    def _with_violation(self, point: Point, state: Any) -> Point:
        """The violation stored with the point; else computed now; else SciPy's value."""
        if point.violation is None and self._objective.violation is not None:
            return replace(point, violation=self._objective.violation(point.x))
        reported = getattr(state, "constr_violation", None)
        return replace(point, violation=float(reported)) if point.violation is None and reported is not None else point


class ScipyCallback:
    """The user's SciPy callback: one calling form for SciPy's three forms. StopIteration ends the run.

    SciPy uses the return value only if it passes a state.
    """

    def __init__(self, callback: Callable[..., Any]):
        self._callback = callback
        self._named = set(inspect.signature(callback).parameters) == {"intermediate_result"}

    def __call__(self, x: NDArray[np.float64], loss: float | None, state: Any = None) -> None:
        """Call it at x (n,), with the loss there. Raises StopRun if it ends the run."""
        result = OptimizeResult(state or {}, x=x, fun=loss)
        try:
            if self._named:
                answer = self._callback(intermediate_result=result)
            else:
                answer = self._callback(x) if state is None else self._callback(x, state)
            stop = state is not None and bool(answer)
        except StopIteration:
            stop = True
        except Exception as error:
            raise Abort(error) from error
        if stop:
            raise StopRun(CALLBACK)
