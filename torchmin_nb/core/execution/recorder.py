"""Turns evaluations and iterations into events, and passes them to the callbacks and the History."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..history.callbacks import Callback, notify
from ..history.history import History
from ..history.records import Evaluation, Iteration
from ..objective.calls import Calls
from ..runtime.control import CALLBACK, Abort, StopRun
from .trust_region import NOT_REPORTED, TrustRegion

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Recordable", "Recorder"]

_STOP = object()


class Recordable(Protocol):
    """The part of an evaluated point that events need. x (n,) is the vector that Calls writes into the parameters."""

    x: Any
    loss: float
    metrics: dict[str, float]
    violation: float | None

    @property
    def norms(self) -> tuple[float | None, float | None]:
        """2-norm and largest entry of the gradient, if there is one."""
        ...

    def position(self) -> NDArray[np.float64]:
        """x on the host, shape (n,)."""
        ...

    def distance(self, other: Any) -> float:
        """The distance from another point of the same kind."""
        ...


class Recorder:
    """The observer of one run. A solver reports each iteration by `iterated`, with the known facts about the step."""

    def __init__(
        self,
        calls: Calls,
        history: History,
        callbacks: Sequence[Callback],
        *,
        initial_radius: float | None = None,
    ):
        self.history = history
        history.errors, history.progress = calls.errors, calls.control.progress  # not copies: filled during the run
        self.last: Any = None
        """The point of the last iteration."""
        self.residual: Callable[[Any], float | None] = _unknown
        """The KKT residual at a point."""
        self._calls = calls
        self._callbacks = list(callbacks)
        self._evaluation_listeners: list[Callable[[Evaluation], Any]] = []
        self._initial_radius = initial_radius
        self._evaluations = 0

    def start(self) -> None:
        """Call on_start of the callbacks. Then collect those with on_evaluation: that may depend on the history.

        Callbacks that refuse the run by raising are not called again.
        """
        accepting: list[Callback] = []
        try:
            notify(self._callbacks, "on_start", self.history, accepting)
        finally:
            self._callbacks = accepting
        self._evaluation_listeners = _methods_named(self._callbacks, "on_evaluation")

    def end(self) -> None:
        """Call on_end of the callbacks."""
        notify(self._callbacks, "on_end", self.history)

    def evaluated(self, point: Recordable) -> None:
        """Report an evaluation; the first is the iteration with index 0."""
        stop = (self._evaluation_listeners or self.history.keep_evaluations) and self._emit_evaluation(point)
        self._evaluations += 1
        if self.last is None:
            self._emit_iteration(point, TrustRegion(self._initial_radius, None), step=None, accepted=None)
        if stop:
            raise StopRun(CALLBACK)

    def iterated(
        self,
        point: Recordable,
        region: TrustRegion = NOT_REPORTED,
        *,
        step: float | None = None,
        accepted: bool | None = None,
        residual: float | None = None,
    ) -> None:
        """Report an iteration that ends at this point.

        step: its length, computed if None. accepted: of the step. residual: of the KKT conditions, if it is known.
        """
        step = point.distance(self.last) if step is None else step
        self._emit_iteration(point, region, step=step, accepted=accepted, residual=residual)

    @property
    def iterations(self) -> int:
        """The number of iterations so far."""
        return max(len(self.history) - 1, 0)  # the first is the start

    def _emit_iteration(
        self,
        point: Recordable,
        region: TrustRegion,
        *,
        step: float | None,
        accepted: bool | None,
        residual: float | None = None,
    ) -> None:
        counts = self._calls.counts
        two, largest = point.norms
        iteration = Iteration(
            index=len(self.history),
            loss=point.loss,
            grad_norm=two,
            grad_norm_inf=largest,
            step_norm=step,
            trust_radius=region.radius,
            reduction_ratio=region.ratio,
            accepted=accepted,
            constraint_violation=point.violation,
            kkt_residual=self.residual(point) if residual is None else residual,
            nfev=counts.nfev,
            njev=counts.njev,
            nhev=counts.nhev,
            nhvp=counts.nhvp,
            rejected_errors=sum(self._calls.errors.values()),
            elapsed=self._calls.control.elapsed,
            metrics=point.metrics,
        )
        self.last = point
        self.history.append(iteration, point.position() if self.history.keep_parameters else None)
        if self._callbacks:
            self._calls.write_parameters(point.x)
            stop = [_called(callback, iteration) for callback in self._callbacks]
            self._calls.invalidate()
            if any(answer is _STOP or (isinstance(answer, bool | np.bool_) and answer) for answer in stop):
                raise StopRun(CALLBACK)
        if self._calls.control.after_iteration(iteration.index):
            self._calls.invalidate()

    def _emit_evaluation(self, point: Recordable) -> bool:
        """Whether a listener raised StopIteration; return values are ignored."""
        evaluation = Evaluation(
            index=self._evaluations,
            iteration=len(self.history),
            loss=point.loss,
            grad_norm=point.norms[0],
            step_norm=0.0 if self.last is None else point.distance(self.last),
            elapsed=self._calls.control.elapsed,
            metrics=point.metrics,
        )
        self.history.evaluated(evaluation, point.position() if self.history.keep_parameters else None)
        answers = [_called(listener, evaluation) for listener in self._evaluation_listeners]
        self._calls.invalidate()
        return any(answer is _STOP for answer in answers)


def _unknown(point: Any) -> None:
    """The KKT residual of a run without bounds and constraints."""


def _called(callback: Callable[..., Any], event: Iteration | Evaluation) -> Any:
    """The return value of the callback; `_STOP` if it raises StopIteration, as SciPy's callbacks may."""
    try:
        return callback(event)
    except StopIteration:
        return _STOP
    except Exception as error:
        raise Abort(error) from error


def _methods_named(callbacks: Sequence[Any], name: str) -> list[Callable[..., Any]]:
    return [getattr(callback, name) for callback in callbacks if hasattr(callback, name)]
