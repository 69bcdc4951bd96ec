"""Residuals for `scipy.optimize.least_squares`, and its results and callbacks in the user's variables."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import OptimizeResult
from scipy.sparse.linalg import LinearOperator

from .residuals import ResidualPoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..parameters.variables import Variables
    from .residuals import ResidualObjective

__all__ = ["SolverResiduals", "least_squares_callback"]


class SolverResiduals:
    """The residuals for SciPy: functions of the solver's variables z.

    iterated: called with x at each accepted point except the start. In every version of SciPy all three methods compute
    a Jacobian at the start and once at every accepted point. SciPy's callback, new in 1.16, does not exist for lm.
    """

    def __init__(
        self,
        objective: ResidualObjective,
        variables: Variables,
        iterated: Callable[[NDArray[np.float64]], object],
    ):
        self.objective = objective
        self.variables = variables
        self._iterated = iterated
        self._iterate: ResidualPoint | None = None
        self._factor = variables.direction_to_user(np.ones(variables.n))
        self._root = math.sqrt(variables.loss_scale)

    def values(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """The residuals, shape (m,)."""
        return self.objective.residuals(self.variables.to_user(z)) / self._root

    def jacobian(self, z: NDArray[np.float64]) -> NDArray[np.float64] | LinearOperator:
        """Their derivative with respect to z: a new array, because SciPy scales it in place, or an operator."""
        point = self.objective.linearise(self.variables.to_user(z))
        if self._iterate is not None and not np.array_equal(point.x, self._iterate.x):
            self._iterated(point.x)
        self._iterate = point
        if point.jacobian is None:
            return self._operator(point)
        return np.asarray(self.variables.gradient_to_solver(point.jacobian) / self._root)

    def only_point(self, x: NDArray[np.float64]) -> OptimizeResult:
        """The result if every variable is fixed."""
        self.objective.residuals(x)
        point = self.objective.linearise(x)
        assert point.residuals is not None
        return OptimizeResult(
            x=x,
            fun=point.loss,
            cost=point.loss,
            residuals=point.residuals.copy(),
            success=True,
            status=0,
            message="All variables are fixed.",
        )

    def user_result(self, result: OptimizeResult) -> OptimizeResult:
        """SciPy's result in the user's variables, with the derivatives along fixed variables. `fun` is the cost."""
        converted = OptimizeResult({**result, "residuals": result.fun * self._root})
        converted.fun = converted.cost = result.cost * self.variables.loss_scale
        converted.optimality = result.optimality * self.variables.loss_scale
        converted.x = self.variables.to_user(result.x)
        converted.grad = self._derivative(result.grad) * self.variables.loss_scale
        converted.active_mask = self._embedded(result.active_mask)
        if self.objective.compressed:
            point = self.objective.cached_point(converted.x)
            assert isinstance(point, ResidualPoint)
            converted.residuals = point.residuals
        if isinstance(result.jac, np.ndarray) and not self.objective.compressed:
            converted.jac = self._derivative(result.jac) * self._root
        else:
            del converted["jac"]  # the operator's graph is freed after the run; a compressed one is not the user's
        self._fill_fixed(converted)
        for name in ("nfev", "njev"):
            if converted.get(name) is None:
                converted.pop(name, None)
        return converted

    def _fill_fixed(self, result: OptimizeResult) -> None:
        """Insert the derivatives along fixed variables, which SciPy does not see."""
        point, fixed = self.objective.cached_point(result.x), self._factor == 0
        if not isinstance(point, ResidualPoint) or not fixed.any():
            return
        self.variables.fill_fixed(result, point.gradient)
        if point.residuals is not None and point.jacobian is not None and "jac" in result:
            weights = self.objective.cost.curvature(point.residuals)
            result.jac[:, fixed] = weights[:, None] * point.jacobian[:, fixed]

    def _operator(self, point: ResidualPoint) -> LinearOperator:
        objective, variables = self.objective, self.variables
        return LinearOperator(
            (objective.m, variables.n),
            dtype=np.float64,
            matvec=lambda v: objective.product(point, variables.direction_to_user(v)) / self._root,
            rmatvec=lambda u: (
                variables.gradient_to_solver(objective.adjoint(point, np.asarray(u).ravel())) / self._root
            ),
        )

    def _derivative(self, by_z: NDArray[np.float64]) -> NDArray[np.float64]:
        """An array with its last axis over x instead of z."""
        free = self._factor != 0
        return self._embedded(by_z / self._factor[free])

    def _embedded(self, by_z: NDArray[Any]) -> NDArray[Any]:
        free = self._factor != 0
        whole = np.zeros((*by_z.shape[:-1], free.size), dtype=by_z.dtype)
        whole[..., free] = by_z
        return whole


def least_squares_callback(callback: Callable[..., Any], objective: ResidualObjective) -> Callable[..., Any]:
    """The user's callback of `least_squares` (SciPy 1.16 or newer), for every method and version.

    Called with x, or with `intermediate_result`: x, the residuals as `fun`, cost, nit, nfev.
    """
    if set(inspect.signature(callback).parameters) != {"intermediate_result"}:
        return lambda x: callback(x)
    accepted = 0

    def with_state(x: NDArray[np.float64]) -> Any:
        nonlocal accepted
        accepted += 1
        point = objective.cached_point(x)
        assert isinstance(point, ResidualPoint)
        assert point.residuals is not None
        nfev = objective.requests.nfev
        state = OptimizeResult(x=x, fun=point.residuals.copy(), cost=point.loss, nit=accepted, nfev=nfev)
        return callback(intermediate_result=state)

    return with_state
