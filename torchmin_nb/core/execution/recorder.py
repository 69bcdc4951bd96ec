"""Turns closure calls and SciPy's callbacks into events, and hands them to the callbacks and the History."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult

from ..history.callbacks import Callback, tell
from ..history.history import History
from ..history.records import Evaluation, Iteration
from ..objective.objective import ROUNDING, Point
from ..runtime.control import CALLBACK, ITERATIONS, Abort, StopRun
from .trust_region import NOT_REPORTED, Probe, TrustRegion, unreported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..objective.objective import Objective

__all__ = ["Recorder"]

_HASHED = 4096
_STOP = object()


class _Trial(NamedTuple):
    """What is remembered of a closure call: `mark` tells x from others, up to rounding."""

    loss: float
    metrics: Mapping[str, float]
    mark: float


class Recorder:
    """The observer of one run.

    `radius` is the probe of trust_region.PROBES, `initial_radius` the radius at the start if known; `max_iterations` is
    enforced here for methods that cannot; `skip_first` drops a first SciPy callback that is the start itself;
    `callback_at` is where SciPy calls back, "iterate", "trial" or "evaluation": with trials `accepted` tells the
    iterates, with evaluations `begun`; `counted_at_start` is how many iterations SciPy counts before the first;
    `comes_back`: an iterate may be a trial of any earlier iteration, so that the losses of all are remembered.
    """

    def __init__(
        self,
        objective: Objective,
        history: History,
        callbacks: Sequence[Callback],
        *,
        radius: Probe,
        initial_radius: float | None = None,
        max_iterations: int | None = None,
        skip_first: bool = False,
        callback_at: str = "iterate",
        counted_at_start: int = 0,
        comes_back: bool = False,
        scipy_callback: Callable[..., Any] | None = None,
    ):
        self._objective = objective
        self.history = history
        history.errors = objective.errors  # the same dict: it is filled while the run goes on
        self._callbacks = list(callbacks)
        self._evaluation_listeners: list[Callable[[Evaluation], Any]] = []
        self._radius = radius
        self._initial_radius = initial_radius
        self._max_iterations = max_iterations
        self._skip_first = skip_first
        self._callback_at = callback_at
        self._counted_at_start = counted_at_start
        self._begun = 0
        self._counts = False
        self._latest: NDArray[np.float64] | None = None
        self._user = scipy_callback and _as_scipy_calls_it(scipy_callback)
        self._iterate: NDArray[np.float64] | None = None
        self._comes_back = comes_back
        self._trials: dict[int, _Trial] = {}
        self._weights: NDArray[np.float64] | None = None
        self._evaluations = 0

    def start(self) -> None:
        """Tell the callbacks that a run begins. Then ask who hears evaluations: that may depend on the history.

        Those that refuse the run by raising hear nothing more of it.
        """
        heard: list[Callback] = []
        try:
            tell(self._callbacks, "on_start", self.history, heard)
        finally:
            self._callbacks = heard
        self._evaluation_listeners = _having(self._callbacks, "on_evaluation")

    def end(self) -> None:
        """Tell the callbacks that the run is over."""
        tell(self._callbacks, "on_end", self.history)

    # From the objective

    def evaluated(self, point: Point) -> None:
        """A closure call was made."""
        self._trials[_key(point.x)] = self._trial(point)
        stop = (self._evaluation_listeners or self.history.keep_evaluations) and self._emit_evaluation(point)
        self._evaluations += 1
        if self._iterate is None:
            self._emit_iteration(point, TrustRegion(self._initial_radius, None), None, step=None)
        if stop:
            raise StopRun(CALLBACK)

    # From SciPy

    def scipy_callback(self, xk: NDArray[np.float64], *state: Any) -> bool:
        """SciPy's callback: called after each iteration with x, and by trust-constr with its state."""
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
            self._call_user(self._user, x, details)
        return False

    def accepted(self, x: NDArray[np.float64]) -> None:
        """The method stands at x, evaluated before: an iteration, unless it stood there already."""
        if self._iterate is not None and not np.array_equal(x, self._iterate):
            self._iterated(x, None)

    def begun(self, iteration: int) -> None:
        """The method, which calls back at every evaluation, is in this iteration: those before it are over."""
        self._counts, self._begun = True, iteration
        if self._latest is not None:
            self._until(iteration - 1, self._latest)

    def ended(self, x: NDArray[np.float64], iterations: int) -> None:
        """The method has ended at x. Tells what its callback left untold."""
        if self._callback_at == "trial":
            self.accepted(x)
        elif self._counts:
            self._until(iterations, x)

    def _until(self, iteration: int, x: NDArray[np.float64]) -> None:
        """All iterations up to this one that are not told stand at x."""
        while self.history[-1].index < iteration:
            self._iterated(x, None)

    @property
    def iterations(self) -> int:
        """The iterations so far, as SciPy's method counts them: with one that has begun but is not over, where known.

        Some count the start as well.
        """
        told = self.history[-1].index if len(self.history) else 0
        return max(told + self._counted_at_start, self._begun)

    def _iterated(self, x: NDArray[np.float64], state: Any) -> None:
        point = self._objective.known(x)
        region = self._radius(state)
        assert self._iterate is not None
        step = float(np.linalg.norm(x - self._iterate))
        self._emit_iteration(point or self._unknown(x), region, state, step=step)
        if self._max_iterations is not None and self.history[-1].index >= self._max_iterations:
            raise StopRun(ITERATIONS)

    def _unknown(self, x: NDArray[np.float64]) -> Point:
        """A point that the objective has let go: an earlier trial, or one known up to rounding only.

        Powell, COBYLA and COBYQA come back to earlier trials; TNC unscales x, which is then shown at the values of the
        nearest trial: not of the best point, which may be one of its differences of gradients.
        """
        trial = self._trials.get(_key(x))
        if trial is None:
            near = self._objective.nearest(x)
            if near is not None and float(np.linalg.norm(near.x - x)) <= ROUNDING * float(np.linalg.norm(x)):
                return replace(near, x=x, violation=None)
            mark = self._mark(x)
            trial = min(self._trials.values(), key=lambda known: abs(known.mark - mark))
        return Point(x, trial.loss, None, dict(trial.metrics))

    def loss_at(self, x: NDArray[np.float64]) -> float | None:
        """The loss at a trial that is remembered here; None for any other x."""
        trial = self._trials.get(_key(x))
        return None if trial is None else trial.loss

    def _trial(self, point: Point) -> _Trial:
        loss = math.nan if point.undefined else point.loss
        return _Trial(loss, point.metrics, self._mark(point.x))

    def _mark(self, x: NDArray[np.float64]) -> float:
        """A number that hardly changes when x is rounded, and does when it is moved."""
        if self._weights is None:
            self._weights = np.cos(np.arange(_sample(x).size))
        return float(self._weights @ _sample(x))

    # From an optimizer of torch

    def iterated(self, point: Point) -> None:
        """An iteration at a point that was just evaluated."""
        assert self._iterate is not None
        step = float(np.linalg.norm(point.x - self._iterate))
        self._emit_iteration(point, NOT_REPORTED, None, step=step)

    # From a global search

    def progressed(self, metrics: Mapping[str, float], *, accepted: bool | None = None) -> None:
        """An iteration at the best point so far, with the search's own numbers, which yield to the user's."""
        assert self._iterate is not None
        best = self._objective.best or Point(self._iterate, math.inf, None, {})
        step = float(np.linalg.norm(best.x - self._iterate))
        point = replace(best, metrics={**metrics, **best.metrics})
        self._emit_iteration(point, NOT_REPORTED, None, step=step, accepted=accepted)

    # Events

    def _emit_iteration(
        self, point: Point, region: TrustRegion, state: Any, *, step: float | None, accepted: bool | None = None
    ) -> None:
        counts = self._objective.counts
        two, largest = _norms(point.gradient)
        iteration = Iteration(
            index=len(self.history),
            loss=point.loss,
            grad_norm=two,
            grad_norm_inf=largest,
            step_norm=step,
            trust_radius=region.radius,
            reduction_ratio=region.ratio,
            accepted=accepted if self._radius is unreported or step is None else step > 0,
            constraint_violation=self._violation(point, state),
            nfev=counts.nfev,
            njev=counts.njev,
            nhev=counts.nhev,
            nhvp=counts.nhvp,
            rejected_errors=sum(self._objective.errors.values()),
            elapsed=self._objective.control.elapsed,
            metrics=point.metrics,
        )
        self._iterate = point.x
        if not self._comes_back:
            self._trials.clear()
        self._trials[_key(point.x)] = self._trial(point)
        self.history.append(iteration, point.x)
        if self._callbacks or self._user:
            self._objective.hold(point)
        stop = [_heard(callback, iteration) for callback in self._callbacks]
        self._objective.disturbed()
        if any(answer is _STOP or (isinstance(answer, bool | np.bool_) and answer) for answer in stop):
            raise StopRun(CALLBACK)
        self._objective.control.after_iteration(iteration.index)

    def _violation(self, point: Point, state: Any) -> float | None:
        """As computed with the point; else at it now; else what SciPy says."""
        if point.violation is None and self._objective.violation is not None:
            return self._objective.violation(point.x)
        return _violation(state) if point.violation is None else point.violation

    def _emit_evaluation(self, point: Point) -> bool:
        """Whether a listener raised StopIteration; what they return is theirs."""
        step = 0.0 if self._iterate is None else float(np.linalg.norm(point.x - self._iterate))
        evaluation = Evaluation(
            index=self._evaluations,
            iteration=len(self.history),
            loss=point.loss,
            grad_norm=_norms(point.gradient)[0],
            step_norm=step,
            elapsed=self._objective.control.elapsed,
            metrics=point.metrics,
        )
        self.history.evaluated(evaluation, point.x)
        answers = [_heard(listener, evaluation) for listener in self._evaluation_listeners]
        self._objective.disturbed()
        return any(answer is _STOP for answer in answers)

    def _call_user(self, user: Callable[..., Any], x: NDArray[np.float64], state: Any) -> None:
        """The user's SciPy callback keeps SciPy's meaning: StopIteration ends the run."""
        point = self._objective.known(x)
        result = OptimizeResult(state or {}, x=x, fun=point.loss if point else None)
        try:
            stop = user(result, state)
        except StopIteration:
            stop = True
        except Exception as error:
            raise Abort(error) from error
        self._objective.disturbed()
        if stop is True:
            raise StopRun(CALLBACK)


def _as_scipy_calls_it(callback: Callable[..., Any]) -> Callable[[OptimizeResult, Any], bool]:
    """One calling form for the three that SciPy knows. Only with a state does SciPy heed what is returned."""
    if set(inspect.signature(callback).parameters) == {"intermediate_result"}:
        return lambda result, state: bool(callback(intermediate_result=result)) and state is not None
    return lambda result, state: bool(callback(result.x, state)) if state is not None else _ignored(callback(result.x))


def _ignored(answer: Any) -> bool:
    return False


def _heard(callback: Callable[..., Any], event: Iteration | Evaluation) -> Any:
    """What the callback answers; `_STOP` where it raises StopIteration, as SciPy's callbacks may."""
    try:
        return callback(event)
    except StopIteration:
        return _STOP
    except Exception as error:
        raise Abort(error) from error


def _having(callbacks: Sequence[Any], name: str) -> list[Callable[..., Any]]:
    return [getattr(callback, name) for callback in callbacks if hasattr(callback, name)]


def _key(x: NDArray[np.float64]) -> int:
    """Tells the trials of one iteration apart; a long x by its sum and a sample, since hashing it all shows.

    -0.0 is made 0.0, which are the same point and not the same bytes.
    """
    if len(x) <= _HASHED:
        return hash((x + 0.0).tobytes())
    return hash((float(x.sum()), (_sample(x) + 0.0).tobytes()))


def _sample(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Some entries of a long x, all of another."""
    return x[:: max(1, len(x) // _HASHED)]


def _norms(gradient: NDArray[np.float64] | None) -> tuple[float | None, float | None]:
    if gradient is None:
        return None, None
    return float(np.linalg.norm(gradient)), float(np.abs(gradient).max())


def _violation(state: Any) -> float | None:
    violation = getattr(state, "constr_violation", None)
    return None if violation is None else float(violation)
