"""The objective of SciPy's least squares: the residuals behind the loss, and their Jacobian."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import ClosureError, InconsistentClosureError, NonFiniteStartError
from ..autodiff.closure import ClosureResult
from ..autodiff.jacobian import DenseJacobian, JacobianGraph, jacobian_error
from ..runtime.control import NONFINITE_JACOBIAN, Abort, StopRun
from ..solvers.least_squares import triangle
from .calls import Calls
from .objective import Derivatives, Objective, Observer, Point
from .residual_evaluator import INDEPENDENT

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.optimize import Bounds

    from .robust_loss import Cost

__all__ = ["CompressedResiduals", "ResidualObjective", "ResidualPoint", "graph_of"]


@dataclass(eq=False, slots=True)
class ResidualPoint(Point):
    """A Point with its residuals (m,), all NaN if the closure returned none; and its Jacobian (m, n), once computed.

    residual_graph: kept until the Jacobian is computed or another trial is evaluated.
    """

    residuals: NDArray[np.float64] | None = None
    residual_graph: JacobianGraph | None = None
    jacobian: NDArray[np.float64] | None = None


class ResidualObjective(Objective):
    """An Objective whose evaluator returns residuals, and whose loss is their cost.

    calls: with a ResidualEvaluator. cost: the cost of the residuals, as in SciPy. plan: called with (m, n) at
    the first closure call, returns "dense" or "operator", or raises. `counts.nhvp` counts products with an operator.
    """

    def __init__(
        self,
        calls: Calls,
        cost: Cost,
        plan: Callable[[int, int], str],
        *,
        observer: Observer | None = None,
        bounds: Bounds | None = None,
    ):
        super().__init__(calls, Derivatives("value"), observer, bounds=bounds)
        self.cost = cost
        self.mode = ""
        self.m = 0
        self._plan = plan
        self._checked = calls.start_check is not None
        self._linearised: ResidualPoint | None = None
        self._graph: JacobianGraph | None = None
        self._jacobians: DenseJacobian | None = None

    @property
    def compressed(self) -> bool:
        """Whether SciPy sees other residuals than the user's, see CompressedResiduals."""
        return False

    # Called by SciPy

    def residuals(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The residuals at x, shape (m,); NaN if the cost is not finite: all methods then reject the trial."""
        self.requests.nfev += 1
        point = self._residual_point(x)
        assert point.residuals is not None
        return point.residuals.copy() if math.isfinite(point.loss) else np.full(self.m, np.nan)

    def linearise(self, x: NDArray[np.float64]) -> ResidualPoint:
        """The point at x with its derivative: `gradient` of the cost, and `jacobian` if the plan is a dense one."""
        point = self._residual_point(x)
        if point is not self._linearised:
            self.requests.njev += 1
            self._linearise(point, point.residual_graph or self._new_graph(point))
        return point

    def product(self, point: ResidualPoint, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """J v, shape (m,), at the last linearised point."""
        return self._operate(point, lambda graph: graph.product(_tensor(v)))

    def adjoint(self, point: ResidualPoint, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Jᵀu, shape (n,), at the last linearised point."""
        return self._operate(point, lambda graph: graph.adjoint(_tensor(u)))

    # For endings

    def release(self) -> None:
        """See Objective."""
        super().release()
        for point in (*self._memo, self.best, self._linearised):
            if isinstance(point, ResidualPoint):
                point.residual_graph = None
        self._graph = None

    # Evaluation

    def _residual_point(self, x: NDArray[np.float64]) -> ResidualPoint:
        point = self._at(x)
        assert isinstance(point, ResidualPoint)
        return point

    def _memo_point(self, x: NDArray[np.float64]) -> Point | None:
        """See Objective: the last linearised point is cached too."""
        last = self._linearised
        return super()._memo_point(x) or (last if last is not None and np.array_equal(last.x, x) else None)

    def _new_point(self, x: NDArray[np.float64], result: ClosureResult) -> ResidualPoint:
        """See Objective."""
        vector, plain = result.residuals, super()._new_point(x, result)
        if vector is None:
            residuals, graph = np.full(self.m, np.nan), None
        else:
            residuals = vector.to("cpu", torch.float64).numpy().copy()
            graph = graph_of(result) if math.isfinite(plain.loss) else None
        if not self.mode and residuals.size:
            self.m, self.mode = residuals.size, self._planned(residuals.size)
        return ResidualPoint(
            x, plain.loss, plain.gradient, plain.metrics, undefined=plain.undefined,
            residuals=residuals, residual_graph=graph,
        )  # fmt: skip

    def _remember(self, point: Point) -> None:
        """See Objective: only the newest trial keeps its graph."""
        for trial in self._memo:
            assert isinstance(trial, ResidualPoint)
            trial.residual_graph = None
        super()._remember(point)

    def _light(self, point: Point) -> Point:
        assert isinstance(point, ResidualPoint)
        return replace(point, residual_graph=None, jacobian=None)

    def _planned(self, m: int) -> str:
        try:
            return self._plan(m, self.flat.n)
        except Exception as error:
            raise Abort(error) from error

    def _new_graph(self, point: ResidualPoint) -> JacobianGraph:
        """The graph of a point whose graph was freed: one closure call, without an event."""
        return graph_of(self.calls.call(point.x, "value"))

    # Derivatives

    def _linearise(self, point: ResidualPoint, graph: JacobianGraph) -> None:
        """Compute the derivative, and free that of the previous point."""
        self.calls.write_parameters(point.x)
        assert point.residuals is not None
        try:
            self._differentiate(point, graph, self.cost.weighted(point.residuals))
        except Exception as error:
            raise Abort(jacobian_error(error)) from error
        if self._linearised is not None and self._linearised is not point:
            self._linearised.jacobian = None
        self._linearised, self._graph, point.residual_graph = point, graph if self.mode == "operator" else None, None
        self.counts.njev += 1
        for cached in (point, self.best):  # for events and endings
            if cached is not None and np.array_equal(cached.x, point.x):
                cached.gradient = point.gradient

    def _differentiate(self, point: ResidualPoint, graph: JacobianGraph, weighted: NDArray[np.float64]) -> None:
        if self.mode == "dense":
            self._jacobians = self._jacobians or DenseJacobian(*graph.shape, self.flat.eps)
            jacobian = self._jacobians.build(graph, self.control.before_work).numpy()
            point.jacobian = self._require_finite(jacobian)
            point.gradient = point.jacobian.T @ weighted
        else:
            point.gradient = self._require_finite(graph.adjoint(torch.from_numpy(weighted)).numpy())
            self._require_adjoint(graph)

    def _require_finite(self, derivative: NDArray[np.float64]) -> NDArray[np.float64]:
        if np.isfinite(derivative).all():
            return derivative
        if self._linearised is not None:
            raise StopRun(NONFINITE_JACOBIAN)
        raise Abort(
            NonFiniteStartError(
                "the residuals are finite at the starting point, but their Jacobian has NaN or infinite entries; "
                "start where the derivative exists"
            )
        )

    def _operate(self, point: ResidualPoint, product: Callable[[JacobianGraph], torch.Tensor]) -> NDArray[np.float64]:
        assert self._graph is not None
        assert point is self._linearised
        self.control.before_product(self.counts.work)
        self.calls.write_parameters(point.x)
        self.counts.nhvp += 1
        try:
            vector = product(self._graph).numpy()
        except Exception as error:
            raise Abort(jacobian_error(error)) from error
        if not np.isfinite(vector).all():
            raise StopRun(NONFINITE_JACOBIAN)
        return vector

    def _require_adjoint(self, graph: JacobianGraph) -> None:
        """Check once in a run that u·(J v) = (Jᵀu)·v: else the derivative of an operation's backward is wrong."""
        if self._linearised is not None or not self._checked:
            return
        m, n = graph.shape
        u, v = np.cos(np.arange(m)), np.sin(1.0 + np.arange(n))
        forward, backward = graph.product(_tensor(v)).numpy(), graph.adjoint(_tensor(u)).numpy()
        size = np.abs(u) @ np.abs(forward) + np.abs(backward) @ np.abs(v)
        if abs(u @ forward - backward @ v) > np.sqrt(self.flat.eps) * size:
            raise InconsistentClosureError(
                "products with the Jacobian and with its transpose disagree: the backward of an operation in the "
                "closure cannot be differentiated; pass jacobian='dense', which does not need that"
            )


class CompressedResiduals(ResidualObjective):
    """A ResidualObjective that shows SciPy n + 1 residuals instead of m, so that J, shape (m, n), is never whole.

    The residuals are (‖r‖, 0, …, 0), and J is that of QᵀJ, where Q is orthogonal with Qᵀr = ‖r‖e₁: cost, gradient and
    JᵀJ are those of r and J, and a method of least squares uses nothing else. Q is the product of a QR factorisation,
    of J batch by batch, and one reflection. With a robust loss both are scaled as in SciPy.
    """

    @property
    def compressed(self) -> bool:
        """See ResidualObjective."""
        return self.mode == "dense"

    def residuals(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The residuals that SciPy sees, shape (n + 1,)."""
        whole = super().residuals(x)
        if not self.compressed:
            return whole
        shown = np.zeros(self.flat.n + 1)
        shown[0] = np.linalg.norm(whole)
        return shown if math.isfinite(shown[0]) else np.full_like(shown, np.nan)

    def _differentiate(self, point: ResidualPoint, graph: JacobianGraph, weighted: NDArray[np.float64]) -> None:
        if not self.compressed:
            super()._differentiate(point, graph, weighted)
            return
        assert point.residuals is not None
        self._jacobians = self._jacobians or DenseJacobian(*graph.shape, self.flat.eps)
        bent = self.cost.curvature(point.residuals)
        residuals = weighted / bent
        equations = graph.equations(
            self._jacobians, self.control.before_work, torch.from_numpy(residuals), torch.from_numpy(bent)
        )
        r, qtr = (part.numpy() for part in triangle(equations))
        point.jacobian = self._require_finite(_reflected(r, qtr, float(np.linalg.norm(residuals))))
        point.gradient = r.T @ qtr


def _reflected(r: NDArray[np.float64], qtr: NDArray[np.float64], norm: float) -> NDArray[np.float64]:
    """QᵀJ, shape (n + 1, n), from J = QR and Qᵀr: the last step is the reflection of r onto the first axis."""
    k, n = r.shape
    jacobian, image = np.zeros((n + 1, n)), np.zeros(n + 1)
    jacobian[:k], image[:k] = r, qtr
    image[n] = math.sqrt(max(norm**2 - float(qtr @ qtr), 0.0))
    mirror = image.copy()
    mirror[0] += math.copysign(norm, image[0])  # the sign for which nothing cancels
    square = float(mirror @ mirror)
    if square > 0:
        jacobian -= np.outer(mirror, (2 / square) * (mirror @ jacobian))
        if image[0] >= 0:  # reflected onto −‖r‖e₁
            jacobian[0] *= -1
    return jacobian


def graph_of(result: ClosureResult) -> JacobianGraph:
    """The graph of the residuals. Raises `Abort` if they have none."""
    if result.jacobian is None:
        raise Abort(ClosureError(INDEPENDENT))
    return result.jacobian


def _tensor(v: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(v, dtype=np.float64))
