"""The residuals SciPy's least squares sees, and their Jacobian, from one closure.

The cost is an `Objective` of its own: counts, memo, best point, budgets and events are those of every other run. What
is added here is the vector behind the cost, and its derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import ClosureError, ConstantLossError, InconsistentClosureError, NonFiniteStartError, text_of
from ..autodiff.closure import Closure, ClosureEvaluator, constant_of, math_attention
from ..autodiff.explained_errors import explained, is_compiled
from ..autodiff.graph import leaves, nodes_of
from ..autodiff.jacobian import DenseJacobian, JacobianGraph
from ..runtime.control import NONFINITE_JACOBIAN, Abort, Control, StopRun
from .calls import Calls
from .objective import Derivatives, Objective

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..autodiff.start_check import StartCheck
    from ..parameters.flat import FlatParameters
    from .robust_loss import Cost

__all__ = ["INDEPENDENT", "ResidualPoint", "Residuals", "as_residuals", "jacobian_error", "rejected"]

_MEMO = 2
INDEPENDENT = (
    "the residuals do not depend on the parameters: compute them from the very tensors given to the optimizer, without "
    ".detach(), .item() or torch.no_grad() on the way"
)


@dataclass(eq=False, slots=True)
class ResidualPoint:
    """One evaluated point: x (n,), residuals (m,), their graph until the Jacobian is made, and what was made of it."""

    x: NDArray[np.float64]
    residuals: NDArray[np.float64]
    cost: float
    graph: JacobianGraph | None
    gradient: NDArray[np.float64] | None = None
    jacobian: NDArray[np.float64] | None = None


class Residuals:
    """residuals and jacobian of a closure, as functions of a float64 vector of shape (n,).

    check: makes the start check of the closure, given what makes the cost of its residuals.
    plan: given (m, n) at the first closure call, answers "dense" or "operator", or refuses.
    `objective` is the cost; `objective.counts.nhvp` counts products with an operator.
    """

    def __init__(
        self,
        closure: Closure,
        flat: FlatParameters,
        control: Control,
        *,
        cost: Cost,
        plan: Callable[[int, int], str],
        check: Callable[[Closure, Callable[[Any], float]], StartCheck | None] = lambda closure, loss: None,
    ):
        self._closure = closure
        self._flat = flat
        self.cost = cost
        self._plan = plan
        start_check = check(self._called, lambda vector: cost.value(_as_array(vector)))
        self._checked = start_check is not None
        calls = Calls(ClosureEvaluator(self._evaluated_cost, flat), flat, control, start_check)
        self.objective = Objective(calls, Derivatives("value"))
        self.mode = ""
        self.m = 0
        self._memo: list[ResidualPoint] = []
        self._linearised: ResidualPoint | None = None
        self._current_x = flat.read()
        self._dense: DenseJacobian | None = None

    # What SciPy calls

    def values(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The residuals at x, shape (m,); NaN, from which all methods step back, where the cost is not finite."""
        point = self._at(x)
        return point.residuals.copy() if np.isfinite(point.cost) else np.full(self.m, np.nan)

    def jacobian(self, x: NDArray[np.float64]) -> ResidualPoint:
        """The point at x with its derivative: `gradient` of the cost, and a dense `jacobian` where that is the plan."""
        point = self._at(x)
        if point is not self._linearised:
            if point.graph is None:
                point = self._rebuild_graph(point)
            self.objective.requests.njev += 1
            self._linearise(point)
            self._share_gradient(point)
        return point

    def product(self, point: ResidualPoint, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """J v, shape (m,)."""
        return self._operate(point, lambda graph: graph.product(_tensor(v)))

    def transposed_product(self, point: ResidualPoint, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Jᵀu, shape (n,)."""
        return self._operate(point, lambda graph: graph.adjoint(_tensor(u)))

    def typical_cost(
        self, x: NDArray[np.float64], slope: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> float:
        """The size of the cost's changes at x: see Objective.typical_loss."""
        self._current_x = x
        return self.objective.typical_loss(x, slope)

    # What endings read

    def cached_point(self, x: NDArray[np.float64]) -> ResidualPoint | None:
        """The remembered point at x, if any. Never evaluates."""
        kept = self._memo if self._linearised is None else [self._linearised, *self._memo]
        return next((point for point in reversed(kept) if np.array_equal(point.x, x)), None)

    def release(self) -> None:
        """Drop all graphs, and the closure of the cost, which knows these residuals."""
        self.objective.release()
        for point in (*self._memo, self._linearised):
            if point is not None:
                point.graph = None

    # Evaluation

    def _at(self, x: NDArray[np.float64]) -> ResidualPoint:
        x = np.array(x, dtype=np.float64).ravel()
        self.objective.requests.nfev += 1
        point = self.cached_point(x)
        if point is None:
            self._current_x = x
            self.objective.value(x)
            self.objective.requests.nfev -= 1
            point = self.cached_point(x) or self._undefined(x)
        return point

    def _undefined(self, x: NDArray[np.float64]) -> ResidualPoint:
        """A point where the closure gave no residuals."""
        point = ResidualPoint(x, np.full(self.m, np.nan), np.nan, None)
        self._remember(point)
        return point

    def _rebuild_graph(self, point: ResidualPoint) -> ResidualPoint:
        """Its graph is gone: one closure call, outside the events."""
        self.objective.control.before_evaluation(self.objective.counts.nfev)
        self.objective.calls.write_parameters(point.x)
        self.objective.counts.nfev += 1
        try:
            point.graph = self._graph(self._called())
        except Exception as error:
            raise Abort(error) from error
        return point

    def _evaluated_cost(self) -> float:
        """The closure of the cost. Its first call also linearises, which fills `.grad`: the start is always wanted."""
        returned, first = self._returned(), not self.mode
        if not first and rejected(returned):
            return math.nan
        vector = as_residuals(returned)
        residuals = _as_array(vector)
        if first:
            self.m, self.mode = residuals.size, self._plan(residuals.size, self._flat.n)
        if residuals.size != self.m and np.isfinite(residuals).all():
            raise ClosureError(f"the closure returned {residuals.size} residuals, and {self.m} at the start")
        if residuals.size != self.m:
            return math.nan
        cost = self.cost.value(residuals)
        point = ResidualPoint(self._current_x, residuals, cost, self._graph(vector) if np.isfinite(cost) else None)
        self._remember(point)
        if first and np.isfinite(point.cost):
            self.objective.requests.njev += 1
            self._linearise(point)
            assert point.gradient is not None
            reached = leaves(nodes_of(vector))
            for tensor, part in zip(self._flat.tensors, self._flat.scatter(point.gradient), strict=True):
                tensor.grad = part if id(tensor) in reached else None
        return point.cost

    def _called(self) -> torch.Tensor:
        return as_residuals(self._returned())

    def _returned(self) -> object:
        with torch.enable_grad(), math_attention():
            return self._closure()

    def _graph(self, vector: torch.Tensor) -> JacobianGraph:
        if not vector.requires_grad:
            raise ClosureError(INDEPENDENT)
        return JacobianGraph(vector, self._flat)

    def _remember(self, point: ResidualPoint) -> None:
        for rejected in self._memo:
            if rejected is not self._linearised:
                rejected.graph = None
        self._memo.append(point)
        del self._memo[:-_MEMO]

    # Derivatives

    def _linearise(self, point: ResidualPoint) -> None:
        """Fill in the derivative, and let go of the last point's."""
        assert point.graph is not None
        self.objective.calls.write_parameters(point.x)
        try:
            self._differentiate(point, point.graph, self.cost.weighted(point.residuals))
        except Exception as error:
            raise Abort(jacobian_error(error)) from error
        self._replace_linearised(point)

    def _differentiate(self, point: ResidualPoint, graph: JacobianGraph, weighted: NDArray[np.float64]) -> None:
        if self.mode == "dense":
            point.jacobian = self._require_finite(self._built(graph))
            point.gradient = point.jacobian.T @ weighted
        else:
            point.gradient = self._require_finite(graph.adjoint(torch.from_numpy(weighted)).numpy())
            self._require_adjoint(graph)

    def _require_finite(self, derivative: NDArray[np.float64]) -> NDArray[np.float64]:
        if not np.isfinite(derivative).all():
            raise self._nonfinite()
        return derivative

    def _replace_linearised(self, point: ResidualPoint) -> None:
        old, self._linearised = self._linearised, point
        if old is not None and old is not point:
            old.graph = old.jacobian = None
        if self.mode == "dense":
            point.graph = None

    def _built(self, graph: JacobianGraph) -> NDArray[np.float64]:
        self._dense = self._dense or DenseJacobian(*graph.shape, self._flat.eps)
        return self._dense.build(graph, self.objective.control.before_work).numpy()

    def _nonfinite(self) -> BaseException:
        if self._linearised is not None:
            return StopRun(NONFINITE_JACOBIAN)
        return Abort(
            NonFiniteStartError(
                "the residuals are finite at the starting point, but their Jacobian has NaN or infinite entries; "
                "start where the derivative exists"
            )
        )

    def _share_gradient(self, point: ResidualPoint) -> None:
        """Events and endings read the gradient from the objective's points."""
        self.objective.counts.njev += 1
        for cached in (self.objective.cached_point(point.x), self.objective.best):
            if cached is not None and np.array_equal(cached.x, point.x):
                cached.gradient = point.gradient

    def _operate(self, point: ResidualPoint, product: Callable[[JacobianGraph], torch.Tensor]) -> NDArray[np.float64]:
        assert point.graph is not None
        self.objective.control.before_work()
        self.objective.calls.write_parameters(point.x)
        self.objective.counts.nhvp += 1
        try:
            vector = product(point.graph).numpy()
        except Exception as error:
            raise Abort(jacobian_error(error)) from error
        if not np.isfinite(vector).all():
            raise StopRun(NONFINITE_JACOBIAN)
        return vector

    def _require_adjoint(self, graph: JacobianGraph) -> None:
        """Once a run: u·(J v) = (Jᵀu)·v, or an operation's backward has a wrong derivative of its own."""
        if self._linearised is not None or not self._checked:
            return
        m, n = graph.shape
        u, v = np.cos(np.arange(m)), np.sin(1.0 + np.arange(n))
        forward, backward = graph.product(_tensor(v)).numpy(), graph.adjoint(_tensor(u)).numpy()
        size = np.abs(u) @ np.abs(forward) + np.abs(backward) @ np.abs(v)
        if abs(u @ forward - backward @ v) > np.sqrt(self._flat.eps) * size:
            raise InconsistentClosureError(
                "products with the Jacobian and with its transpose disagree: the backward of an operation in the "
                "closure cannot itself be differentiated; pass jacobian='dense', which can do without"
            )


def _as_array(vector: torch.Tensor) -> NDArray[np.float64]:
    return vector.detach().to("cpu", torch.float64).numpy().copy()


def _tensor(v: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(v, dtype=np.float64))


def rejected(returned: object) -> bool:
    """Whether a trial was answered with NaN or infinity without a graph; ConstantLossError for finite numbers."""
    constant = constant_of(returned)
    if constant is None or not constant.size:
        return False
    if np.isfinite(constant).all():
        raise ConstantLossError(INDEPENDENT, float(np.abs(constant).max()))
    return True


def jacobian_error(error: Exception) -> Exception:
    """The error of a graph that is gone, or of compiled code, as one of the closure."""
    if is_compiled(error):
        return explained(error)
    if not (isinstance(error, RuntimeError) and "second time" in text_of(error)):
        return error
    freed = ClosureError(
        "the graph of the residuals was freed by a backward() in the closure; leave backward() out: the Jacobian is "
        "made from the residuals that the closure returns"
    )
    freed.__cause__ = error
    return freed


def as_residuals(returned: object) -> torch.Tensor:
    """What a closure returned, as a vector of shape (m,). Raises ClosureError for what is not a vector of residuals."""
    if not isinstance(returned, torch.Tensor):
        what = "nothing" if returned is None else type(returned).__name__
        raise ClosureError(f"the closure returned {what}; it must return the residuals, a tensor of any shape")
    if not returned.dtype.is_floating_point:
        raise ClosureError(f"the closure returned residuals of {returned.dtype}; they must be real floating point")
    if not returned.numel():
        raise ClosureError(f"the closure returned an empty tensor of shape {tuple(returned.shape)}; no residuals")
    return returned.reshape(-1)
