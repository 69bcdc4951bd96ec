"""The objective for SciPy: value, gradient, Hessian-vector product and Hessian, from one closure.

One closure call computes loss and gradient. The last two points are cached: for SciPy's separate requests, for
the return to the old point after a rejected trial, and for the events. None of these needs another call.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...errors import NonFiniteStartError
from ..autodiff.closure import ClosureResult
from ..autodiff.hessian import DenseHessian, HvpGraph, finite_difference_product
from ..autodiff.side_effects import preserved_buffers
from ..parameters.arrays import as_array, length
from ..parameters.bounds import outside
from ..runtime.control import NONFINITE_CURVATURE, NONFINITE_GRADIENT, Abort, StopRun
from .calls import Calls, Counts
from .trials import Trials

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.optimize import Bounds

__all__ = ["ROUNDING", "Derivatives", "Objective", "Observer", "Point", "nonfinite_start", "power_of_two"]

_MEMO = 2
ROUNDING = 1e-12
"""Points with a smaller relative difference count as equal: solvers round the points that they scale."""
_LOSS_ONLY = ("value", "sample", "probe")
_JAC_AT_START = (
    "jac returned NaN or infinite entries at the starting point, where the loss is finite; leave it out to use "
    "autograd's gradient, or start where it is defined"
)


@dataclass(frozen=True, slots=True)
class Derivatives:
    """How derivatives are computed.

    level: the result of a closure call: "value", "gradient", "curvature"; "probe": the gradient if there is one;
    "sample": the loss of a closure that is known to have a gradient, so that a constant is not a valid loss.
    gradient: the user's `jac` in place of autograd. curvature: "autograd" or "finite-difference". nonfinite: the value
    for the method at a NaN or infinite trial, "inf" or "wall". finite_start: whether such a start is an error.
    shift: the method needs a positive definite Hessian. scale: typical sizes of x, for differences.
    """

    level: str
    nonfinite: str = "inf"
    finite_start: bool = True
    gradient: Callable[[NDArray[np.float64]], Any] | None = None
    curvature: str = "autograd"
    shift: bool = False
    scale: NDArray[np.float64] | float = 1.0
    chunk: int | None = None

    @property
    def evaluator(self) -> str:
        """The level of the closure calls."""
        return "gradient" if self.level == "curvature" and self.curvature != "autograd" else self.level


@dataclass(eq=False, slots=True)
class Point:
    """One evaluated point: x (n,), the true loss and gradient, the values for SciPy, the user's numbers.

    undefined: the closure returned a constant there, or raised one of nonfinite_errors.
    """

    x: NDArray[np.float64]
    loss: float
    gradient: NDArray[np.float64] | None
    metrics: dict[str, float]
    graph: HvpGraph | None = None
    shown_loss: float = 0.0
    shown_gradient: NDArray[np.float64] | None = None
    hessian: NDArray[np.float64] | None = None
    violation: float | None = None
    undefined: bool = False

    @property
    def norms(self) -> tuple[float | None, float | None]:
        """2-norm and largest entry of the gradient, if there is one."""
        if self.gradient is None:
            return None, None
        return length(self.gradient), float(np.abs(self.gradient).max())

    def position(self) -> NDArray[np.float64]:
        """x itself."""
        return self.x

    def distance(self, other: Point) -> float:
        """The distance from another point."""
        return length(self.x - other.x)


class Observer(Protocol):
    """Receives every closure call."""

    def evaluated(self, point: Point) -> None: ...


@dataclass(eq=False)
class Objective:
    """value, gradient, hvp and hessian of a closure, as functions of a float64 vector of shape (n,).

    `counts`: the computed evaluations. `requests`: the evaluations that SciPy requested. `best`: the point with the
    lowest finite loss so far, among points inside `bounds` and with a `violation` (of constraints, at x) up to
    `feasible`. `first`: the start, kept if there are bounds or constraints.
    SciPy sees the loss divided by `loss_scale`; here it is the loss itself. constrained: whether there are user's
    constraints.
    """

    calls: Calls
    derivatives: Derivatives
    observer: Observer | None = None
    violation: Callable[[NDArray[np.float64]], float] | None = None
    feasible: float = 1e-6
    bounds: Bounds | None = None
    requests: Counts = field(default_factory=Counts)
    best: Point | None = None
    first: Point | None = None
    loss_scale: float = 1.0
    constrained: bool = False
    trials: Trials = field(default_factory=Trials)

    def __post_init__(self) -> None:
        self.flat, self.control, self.counts = self.calls.flat, self.calls.control, self.calls.counts
        self._memo: list[Point] = []
        self._last_finite: Point | None = None
        self._dense: DenseHessian | None = None

    # Called by SciPy

    def value(self, x: NDArray[np.float64]) -> float:
        """The loss at x."""
        self.requests.nfev += 1
        return self._at(x).shown_loss

    def gradient(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gradient at x, shape (n,): a copy, because SciPy keeps it."""
        self.requests.njev += 1
        point = self._at(x)
        if point.shown_gradient is None and not self.finite(point):
            point = self._last_finite or point  # rejected trials get its gradient
        if point.shown_gradient is None:
            point.shown_gradient = point.gradient = self._separate_gradient(point)
        return point.shown_gradient.copy()

    def hvp(self, x: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """H(x) @ v, shape (n,); v itself where the loss is not finite."""
        self.requests.nhev += 1
        v = np.array(v, dtype=np.float64).ravel()
        return self._product(self._with_graph(x), v) if self.finite(self._at(x)) else v

    def hessian(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """H(x), shape (n, n), symmetric.

        The identity if the loss is not finite: trust-exact and dogleg evaluate it before they reject such a trial.
        """
        self.requests.nhev += 1
        if not self.finite(self._at(x)):
            return np.eye(self.flat.n)
        point = self._with_graph(x)
        if point.hessian is None:
            point.hessian = self._build_hessian(point)
        return point.hessian.copy()

    # For events and endings

    def finite(self, point: Point) -> bool:
        """Whether loss and constraints are finite there, and the gradient, if the method uses it."""
        if point.undefined or point.violation == math.inf:
            return False
        if not math.isfinite(point.loss) or self.derivatives.level in _LOSS_ONLY or point.gradient is None:
            return math.isfinite(point.loss)
        return bool(np.isfinite(point.gradient).all())

    def infeasibility_at(self, x: NDArray[np.float64]) -> float:
        """The violation at x, 0 if x counts as feasible."""
        violation = 0.0 if self.violation is None else self.violation(x)
        return max(outside(x, self.bounds), violation - self.feasible, 0.0)

    def cached_point(self, x: NDArray[np.float64]) -> Point | None:
        """The cached point at x, if any. Never evaluates."""
        point = self._memo_point(x)
        if point is None and self.best is not None and np.array_equal(self.best.x, x):
            return self.best
        return point

    def end_point(self, x: NDArray[np.float64]) -> Point:
        """The end point of a solver: the cached point at x, or within rounding of x; else x is evaluated.

        A solver that scales its variables returns its end point with rounding errors.
        """
        near = self.cached_point(x) or self.nearest(x)
        if near is not None and length(near.x - x) <= ROUNDING * length(x):
            return near
        return self._at(x)

    def nearest(self, x: NDArray[np.float64]) -> Point | None:
        """The nearest cached point to x with a finite loss, if any. Never evaluates."""
        kept = [point for point in (*self._memo, self.best) if point is not None and not point.undefined]
        known = [point for point in kept if math.isfinite(point.loss)]
        return min(known, key=lambda point: length(point.x - x), default=None)

    def has_better_than(self, x: NDArray[np.float64], loss: float) -> bool:
        """Whether the best point is better than x with this loss: feasible points before others, then by loss.

        A feasible point with a larger violation than x is not better.
        """
        if self.best is None or np.array_equal(self.best.x, x):
            return False
        here = Point(x, loss, None, {}, violation=self.violation(x) if self.violation else None)
        cheaper = (self.best.violation or 0.0) > (here.violation or 0.0) and not self._infeasibility(here)
        return not cheaper and self._rank(self.best) < self._rank(here)

    def unreached(self) -> NDArray[np.bool_] | None:
        """The entries of tensors that no gradient has reached yet, shape (n,); None if there are no such tensors.

        Also None with constraints, because they may depend on a parameter that the loss does not depend on.
        """
        absent = () if self.constrained else self.calls.unreached()
        return self.flat.mask(absent) if absent else None

    def release(self) -> None:
        """Free all graphs, and observer, constraints and closure; values and gradients remain."""
        for point in (*self._memo, self.best, self.first, self._last_finite):
            if point is not None:
                point.graph = None
        self.observer = self.violation = None
        self.calls.release()

    # Called by a search with several phases

    def typical_loss(self, x: NDArray[np.float64], slope: Callable[[NDArray[np.float64]], Any]) -> float:
        """The size of the loss's changes at x as a power of two, if it is below 1; else 1.

        The size is the largest entry of the gradient after `slope`; without a gradient, the loss itself.
        """
        point = self._at(x)
        gradient = None if point.gradient is None else np.abs(slope(point.gradient))
        size = abs(point.loss) if gradient is None else float(np.max(gradient, initial=0.0))
        return power_of_two(size)

    def use_derivatives(self, derivatives: Derivatives) -> None:
        """Change how derivatives are computed. Cached points are dropped if SciPy would get other values for them."""
        self.derivatives = derivatives
        self._memo = [point for point in self._memo if self._serves(point)]

    def evaluate_as_fallback(self, x: NDArray[np.float64]) -> bool:
        """Evaluate x as the start of a descent. Returns whether loss and gradient are finite there."""
        point = self._at(x)
        if self.finite(point):
            self._last_finite = point
        return self.finite(point)

    def record_batch(self, rows: NDArray[np.float64], losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Count points (k, n) with losses (k,) from one call as k closure calls. Returns the values for the method."""
        shown, feasible = np.empty(len(rows)), np.zeros(len(rows), dtype=bool)
        self.counts.nfev += len(rows)
        for index, (x, loss) in enumerate(zip(rows, losses.tolist(), strict=True)):
            point = Point(x.copy(), loss, None, {}, violation=self.violation(x) if self.violation else None)
            self._show(point)
            shown[index], feasible[index] = point.shown_loss, not self._infeasibility(point)
            self._note_trial(point)
            if self.observer is not None:
                self.observer.evaluated(point)
        self.control.after_evaluation(float(shown[feasible].min(initial=math.inf)))
        return shown

    def _serves(self, point: Point) -> bool:
        derivatives = self.derivatives
        complete = derivatives.level in ("value", "sample") or point.gradient is not None
        own = derivatives.gradient is not None and point.shown_gradient is not None
        return complete and not own and self.finite(point) and point.shown_loss == point.loss

    # Evaluation

    def _at(self, x: NDArray[np.float64]) -> Point:
        return self._memo_point(x) or self._evaluate(np.array(x, dtype=np.float64).ravel(), self.derivatives.evaluator)

    def _memo_point(self, x: NDArray[np.float64]) -> Point | None:
        for point in reversed(self._memo):
            if np.array_equal(point.x, x):
                self._touch(point)
                return point
        return None

    def _evaluate(self, x: NDArray[np.float64], level: str) -> Point:
        result = self.calls.call(x, level)
        point = self._new_point(x, result)
        point.violation = self.violation(x) if self.violation else None
        self._show(point)
        self._remember(point)
        if self.counts.nfev == 1 and (self.violation is not None or self.bounds is not None):
            self.first = point
        self._note_trial(point)
        if self.observer is not None:
            self.observer.evaluated(point)
        self.control.after_evaluation(point.shown_loss, feasible=not self._infeasibility(point))
        return point

    def _new_point(self, x: NDArray[np.float64], result: ClosureResult) -> Point:
        """The point that a closure call evaluated."""
        return Point(x, result.loss, result.gradient, self.calls.metrics, result.graph, undefined=result.undefined)

    def iterated(self, point: Point) -> None:
        """Note that the method accepted this point: other trials are dropped if the method cannot return to them."""
        self.trials.next_iteration()
        self._note_trial(point)

    def _note_trial(self, point: Point) -> None:
        self.trials.add(point.x, math.nan if point.undefined else point.loss, point.metrics)

    def _show(self, point: Point) -> None:
        """Set the values for the method: the true values if finite, else values that make it reject the trial."""
        if self.finite(point):
            point.shown_loss = point.loss
            point.shown_gradient = None if self.derivatives.gradient else point.gradient
            self._last_finite = point
            if self.best is None or self._rank(point) < self._rank(self.best):
                self.best = self._light(point)
            return
        last = self._last_finite
        if last is None and not self.derivatives.finite_start:
            point.shown_loss = math.inf
            return
        if last is None:
            raise Abort(NonFiniteStartError(nonfinite_start(point.loss)))
        wall = last.loss + 10 * (self.loss_scale + abs(last.loss))
        point.shown_loss = wall if self.derivatives.nonfinite == "wall" else math.inf
        if point.undefined and self.derivatives.level == "sample":
            point.shown_loss = self._penalty(point)
        point.shown_gradient = last.shown_gradient

    def _light(self, point: Point) -> Point:
        """A copy to keep, without graph and Hessian."""
        return Point(point.x, point.loss, point.gradient, point.metrics, violation=point.violation)

    def _penalty(self, point: Point) -> float:
        """Allow a constant loss in a sampling search: as a penalty, but never as the best point."""
        worse = self.best is not None and point.loss > self.best.loss
        return point.loss if worse else math.inf

    def _rank(self, point: Point) -> tuple[float, float]:
        """Feasible points before infeasible ones, then by loss."""
        return self._infeasibility(point), point.loss

    def _infeasibility(self, point: Point) -> float:
        """The violation of a point, 0 if feasible: bounds must hold exactly, constraints within `feasible`."""
        return max(outside(point.x, self.bounds), (point.violation or 0.0) - self.feasible, 0.0)

    def _remember(self, point: Point) -> None:
        self._memo.append(point)
        for old in self._memo[:-_MEMO]:
            old.graph = old.hessian = None
        del self._memo[:-_MEMO]

    def _touch(self, point: Point) -> None:
        self._memo.remove(point)
        self._memo.append(point)

    def _separate_gradient(self, point: Point) -> NDArray[np.float64]:
        if self.derivatives.gradient is not None:
            try:
                gradient = as_array(self.derivatives.gradient(point.x.copy()), "jac", (self.flat.n,)).copy()
            except Exception as error:
                raise Abort(error) from error
            self.counts.njev += 1
            if self.finite(point) and not np.isfinite(gradient).all():
                raise (
                    Abort(NonFiniteStartError(_JAC_AT_START)) if self.counts.nfev == 1 else StopRun(NONFINITE_GRADIENT)
                )
            return gradient
        result = self.calls.call(point.x, "gradient")
        return self._or_nan(result.gradient)

    # Curvature

    def _with_graph(self, x: NDArray[np.float64]) -> Point:
        point = self._at(x)
        if point.graph is None and self.derivatives.curvature == "autograd":
            self._memo.remove(point)
            point = self._evaluate(point.x, "curvature")
        return point

    def _product(self, point: Point, v: NDArray[np.float64]) -> NDArray[np.float64]:
        self.control.before_product(self.counts.work)
        try:
            product = self._autograd_product(point, v) if point.graph else self._difference_product(point.x, v)
        except Exception as error:
            raise Abort(error) from error
        if not np.isfinite(product).all():
            raise StopRun(NONFINITE_CURVATURE)
        return product

    def _autograd_product(self, point: Point, v: NDArray[np.float64]) -> NDArray[np.float64]:
        assert point.graph is not None
        self.counts.nhvp += 1
        product, point.graph = self.calls.with_graph(point.x, point.graph, lambda graph: graph.hvp(v))
        return product

    def _difference_product(self, x: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        self.counts.nhvp += 1
        return finite_difference_product(self._unrecorded_gradient, x, v, self.flat.eps, self.derivatives.scale)

    def _unrecorded_gradient(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gradient at an extra point: counted, not cached, without an event."""
        with preserved_buffers():
            result = self.calls.call(np.ascontiguousarray(x), "gradient")
        return self._or_nan(result.gradient)

    def _or_nan(self, gradient: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """A gradient of NaN, for a loss that is not defined."""
        return np.full(self.flat.n, np.nan) if gradient is None else gradient

    def _build_hessian(self, point: Point) -> NDArray[np.float64]:
        n = self.flat.n
        self.counts.nhev += 1
        if point.graph is None:
            rows = np.stack([self._product(point, unit) for unit in np.eye(n)])
            hessian = (rows + rows.T) / 2
        else:
            hessian = self._autograd_hessian(point.graph, point, n)
        if not np.isfinite(hessian).all():
            raise StopRun(NONFINITE_CURVATURE)
        return hessian

    def _autograd_hessian(self, graph: HvpGraph, point: Point, n: int) -> NDArray[np.float64]:
        self._dense = self._dense or DenseHessian(n, self.calls.bytes_per_row, self.derivatives.chunk)
        build, before_chunk = self._dense.build, self.control.before_work
        self.control.before_product(self.counts.work, n)
        try:
            hessian, point.graph = self.calls.with_graph(point.x, graph, lambda now: build(now, n, before_chunk))
        except Exception as error:
            raise Abort(error) from error
        self.counts.nhvp += n
        return hessian.numpy()


def nonfinite_start(loss: float) -> str:
    """The error for a start with this loss: the loss is not finite, or its gradient is not."""
    what = f"the loss is {loss}" if not math.isfinite(loss) else "the gradient has NaN or infinite entries"
    return (
        f"{what} at the starting point; no method can begin there: check the data for NaN, "
        f"and start where the loss is defined"
    )


def power_of_two(size: float) -> float:
    """The largest power of two up to a size below 1; else 1."""
    return 2.0 ** math.floor(math.log2(size)) if 0 < size < 1 else 1.0
