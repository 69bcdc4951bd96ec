"""Residuals as `scipy.optimize.least_squares` takes them, and its results and callbacks as the user does."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import OptimizeResult
from scipy.sparse.linalg import LinearOperator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..parameters.variables import Variables
    from .residuals import ResidualPoint, Residuals

__all__ = ["SolverResiduals", "least_squares_callback"]


class SolverResiduals:
    """The residuals as SciPy sees them: functions of the solver's variables z.

    iterated: called with x at each accepted point but the start. All three methods ask for a Jacobian at the start and
    once at every point they accept, in every version of SciPy; its own callback, new in 1.16, is not there for lm.
    """

    def __init__(self, residuals: Residuals, variables: Variables, iterated: Callable[[NDArray[np.float64]], object]):
        self.residuals = residuals
        self.variables = variables
        self._iterated = iterated
        self._iterate: ResidualPoint | None = None
        self._factor = variables.direction_to_user(np.ones(variables.n))
        self._root = math.sqrt(variables.loss_scale)

    def values(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """The residuals, shape (m,)."""
        return self.residuals.values(self.variables.to_user(z)) / self._root

    def jacobian(self, z: NDArray[np.float64]) -> NDArray[np.float64] | LinearOperator:
        """Their derivative with respect to z: a fresh array, since SciPy scales it in place, or an operator."""
        trial = self.residuals.jacobian(self.variables.to_user(z))
        if self._iterate is not None and not np.array_equal(trial.x, self._iterate.x):
            self._iterated(trial.x)
        self._iterate = trial
        if trial.jacobian is None:
            return self._operator(trial)
        return np.asarray(self.variables.gradient_to_solver(trial.jacobian) / self._root)

    def only_point(self, x: NDArray[np.float64]) -> OptimizeResult:
        """The result where every variable is fixed."""
        self.residuals.values(x)
        trial = self.residuals.jacobian(x)
        return OptimizeResult(
            x=x,
            fun=trial.cost,
            cost=trial.cost,
            residuals=trial.residuals.copy(),
            success=True,
            status=0,
            message="All variables are fixed.",
        )

    def user_result(self, result: OptimizeResult) -> OptimizeResult:
        """SciPy's result in the user's variables, with the derivatives along fixed ones too. `fun` is the cost."""
        told = OptimizeResult({**result, "residuals": result.fun * self._root})
        told.fun = told.cost = result.cost * self.variables.loss_scale
        told.optimality = result.optimality * self.variables.loss_scale
        told.x = self.variables.to_user(result.x)
        told.grad = self._derivative(result.grad) * self.variables.loss_scale
        told.active_mask = self._embedded(result.active_mask)
        if isinstance(result.jac, np.ndarray):
            told.jac = self._derivative(result.jac) * self._root
        else:
            del told["jac"]  # the operator's graph ends with the run
        self._fill_fixed(told)
        for name in ("nfev", "njev"):
            if told.get(name) is None:
                told.pop(name, None)
        return told

    def _fill_fixed(self, told: OptimizeResult) -> None:
        """Put in the derivatives along fixed variables, which SciPy never saw: they were made with the others."""
        trial, fixed = self.residuals.cached_point(told.x), self._factor == 0
        if trial is None or not fixed.any():
            return
        self.variables.fill_fixed(told, trial.gradient)
        if trial.jacobian is not None and "jac" in told:
            weights = self.residuals.cost.curvature(trial.residuals)
            told.jac[:, fixed] = weights[:, None] * trial.jacobian[:, fixed]

    def _operator(self, trial: ResidualPoint) -> LinearOperator:
        residuals, variables = self.residuals, self.variables
        return LinearOperator(
            (residuals.m, variables.n),
            dtype=np.float64,
            matvec=lambda v: residuals.product(trial, variables.direction_to_user(v)) / self._root,
            rmatvec=lambda u: (
                variables.gradient_to_solver(residuals.transposed_product(trial, np.asarray(u).ravel())) / self._root
            ),
        )

    def _derivative(self, by_z: NDArray[np.float64]) -> NDArray[np.float64]:
        """The last axis with respect to x instead of z."""
        free = self._factor != 0
        return self._embedded(by_z / self._factor[free])

    def _embedded(self, by_z: NDArray[Any]) -> NDArray[Any]:
        free = self._factor != 0
        whole = np.zeros((*by_z.shape[:-1], free.size), dtype=by_z.dtype)
        whole[..., free] = by_z
        return whole


def least_squares_callback(callback: Callable[..., Any], residuals: Residuals) -> Callable[..., Any]:
    """The user's callback of `least_squares` (SciPy 1.16 or newer), for every method and version.

    Called with x, or with `intermediate_result`: x, the residuals as `fun`, cost, nit, nfev.
    """
    if set(inspect.signature(callback).parameters) != {"intermediate_result"}:
        return lambda x: callback(x)
    accepted = 0

    def told(x: NDArray[np.float64]) -> Any:
        nonlocal accepted
        accepted += 1
        trial = residuals.cached_point(x)
        assert trial is not None
        nfev = residuals.objective.requests.nfev
        state = OptimizeResult(x=x, fun=trial.residuals.copy(), cost=trial.cost, nit=accepted, nfev=nfev)
        return callback(intermediate_result=state)

    return told
