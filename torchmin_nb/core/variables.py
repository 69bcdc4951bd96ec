"""The solver's variables z: the free entries of x, divided by their scale.

The user, the closure and the events see x; only SciPy sees z. x = scale · z on the free entries, and fixed entries keep
the value that their equal bounds give them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import Bounds, OptimizeResult
from scipy.sparse.linalg import LinearOperator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .objective import Objective

__all__ = ["SolverObjective", "Variables"]


class Variables:
    """Translates between x, shape (n,), and z, shape (number of free entries,).

    base: x at the start, inside the bounds; fixed entries are taken from it. scale: shape (n,) or None.
    bounds: on x, or None.
    """

    def __init__(self, base: NDArray[np.float64], scale: NDArray[np.float64] | None, bounds: Bounds | None):
        self._base = base
        fixed = np.zeros(base.size, dtype=bool) if bounds is None else bounds.lb == bounds.ub
        self._free = None if not fixed.any() else ~fixed
        self._scale = None if scale is None else self._pick(scale)
        self.n = self._pick(base).size
        self.bounds = None if bounds is None else self._solver_bounds(bounds)

    @property
    def plain(self) -> bool:
        """Whether z is x itself."""
        return self._free is None and self._scale is None

    def to_solver(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """z of x."""
        return self._pick(x) / self._scale if self._scale is not None else self._pick(x).copy()

    def to_user(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """x of z. The same z always gives the same bits."""
        return self._embed(self._grown(np.asarray(z, dtype=np.float64).ravel()), self._base)

    def covector(self, g: NDArray[np.float64]) -> NDArray[np.float64]:
        """A gradient, or the last axis of a Jacobian, with respect to x as one with respect to z."""
        picked = g if self._free is None else g[..., self._free]
        return picked if self._scale is None else picked * self._scale

    def direction(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """A direction in z as one in x."""
        return self._embed(self._grown(np.asarray(v, dtype=np.float64).ravel()), np.zeros_like(self._base))

    def hessian(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """A Hessian with respect to x as one with respect to z."""
        return self.covector(self.covector(matrix).T).T

    def user_result(self, result: OptimizeResult) -> OptimizeResult:
        """SciPy's result with x, jac and hess_inv in the user's variables; derivatives along fixed ones are 0."""
        if self.plain:
            return result
        told = OptimizeResult({**result, "x": self.to_user(result.x)})
        for name in ("jac", "grad"):
            if np.shape(result.get(name)) == (self.n,):
                told[name] = self._embed(self._shrunk(np.asarray(result[name])), np.zeros_like(self._base))
        if isinstance(result.get("hess_inv"), np.ndarray):
            told.hess_inv = self._embedded_matrix(self._grown(self._grown(result.hess_inv).T).T)
        elif isinstance(result.get("hess_inv"), LinearOperator):
            told.hess_inv = self._embedded_matrix(self._grown(self._grown(result.hess_inv.todense()).T).T)
        return told

    def _solver_bounds(self, bounds: Bounds) -> Bounds | None:
        low, high = self.to_solver(bounds.lb), self.to_solver(bounds.ub)
        if not (np.isfinite(low).any() or np.isfinite(high).any()):
            return None
        return Bounds(low, high, keep_feasible=self._pick(np.broadcast_to(bounds.keep_feasible, self._base.shape)))

    def _pick(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x if self._free is None else x[self._free]

    def _grown(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        return z if self._scale is None else z * self._scale

    def _shrunk(self, g: NDArray[np.float64]) -> NDArray[np.float64]:
        return g if self._scale is None else g / self._scale

    def _embed(self, free: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._free is None:
            return free
        whole = rest.copy()
        whole[self._free] = free
        return whole

    def _embedded_matrix(self, free: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._free is None:
            return free
        whole = np.zeros((self._base.size, self._base.size))
        whole[np.ix_(self._free, self._free)] = free
        return whole


class SolverObjective:
    """An objective as a function of z."""

    def __init__(self, objective: Objective, variables: Variables):
        self._objective = objective
        self._variables = variables

    def value(self, z: NDArray[np.float64]) -> float:
        """The loss."""
        return self._objective.value(self._variables.to_user(z))

    def gradient(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its gradient with respect to z."""
        return self._variables.covector(self._objective.gradient(self._variables.to_user(z)))

    def hvp(self, z: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its Hessian with respect to z, times v."""
        variables = self._variables
        return variables.covector(self._objective.hvp(variables.to_user(z), variables.direction(v)))

    def hessian(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its Hessian with respect to z."""
        return self._variables.hessian(self._objective.hessian(self._variables.to_user(z)))

    def user_hess(self, hess: Callable[..., Any]) -> Callable[..., Any]:
        """The user's `hess`, a function of x, as one of z."""
        variables = self._variables
        if variables.plain:
            return hess
        return lambda z: variables.hessian(np.asarray(hess(variables.to_user(z)), dtype=np.float64))

    def user_hessp(self, hessp: Callable[..., Any]) -> Callable[..., Any]:
        """The user's `hessp`, a function of x and a direction, as one of z."""
        variables = self._variables
        if variables.plain:
            return hessp
        return lambda z, v: variables.covector(np.asarray(hessp(variables.to_user(z), variables.direction(v))))
