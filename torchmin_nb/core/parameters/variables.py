"""The solver's variables z: the free entries of x, divided by their scale; and the solver's loss, divided by its scale.

The user, the closure and the events see x and the loss; only SciPy sees z and loss/loss_scale. x = scale · z on the
free entries; fixed entries have the value of their equal bounds. This module converts all values for SciPy and from
SciPy: points, directions, gradients, Jacobians, Hessians and their inverses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import Bounds, OptimizeResult
from scipy.sparse import diags_array, issparse
from scipy.sparse.linalg import LinearOperator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..methods.options import OptionSpec

__all__ = [
    "Variables",
]


class Variables:
    """Translates between x, shape (n,), and z, shape (number of free entries,).

    base: x at the start, inside the bounds; fixed entries are taken from it. scale: shape (n,) or None.
    bounds: on x, or None. `box` is those, `bounds` the same on z, `start` is z for base. still: which entries of x
    keep the value of base whatever z is, shape (n,), or None. `free`: a mask over x where some are fixed, `free_scale`:
    that of the free entries, or None. `loss_scale`: SciPy sees the loss divided by it.
    """

    loss_scale = 1.0

    def __init__(self, base: NDArray[np.float64], scale: NDArray[np.float64] | None, bounds: Bounds | None):
        self.base = base
        self.box = bounds
        self.unreached: Callable[[], NDArray[np.bool_] | None] = lambda: None
        fixed = np.zeros(base.size, dtype=bool) if bounds is None else bounds.lb == bounds.ub
        self.free = None if not fixed.any() else ~fixed
        self.free_scale = None if scale is None else self._pick(scale)
        self.start = self.to_solver(base)
        self.n = self.start.size
        self.bounds = None if bounds is None else self._solver_bounds(bounds)

    @property
    def plain(self) -> bool:
        """Whether z equals x."""
        return self.free is None and self.free_scale is None

    @property
    def scale(self) -> NDArray[np.float64] | float:
        """The scale of x: shape (n,), or 1."""
        return 1.0 if self.free_scale is None else self._embed(self.free_scale, 1.0)

    def to_solver(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """z for x, or for rows of x; a direction in x as a direction in z."""
        return self._pick(x) / self.free_scale if self.free_scale is not None else self._pick(x).copy()

    def to_user(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """x for z. The same z always gives the same bits, and a bound on z gives exactly the bound on x."""
        z = np.asarray(z).ravel()
        x = self._embed(self._snapped(z, self._grown(z)), self.base)
        still = self.unreached()
        return x if still is None else np.where(still, self.base, x)

    def gradient_to_solver(self, g: Any) -> Any:
        """A gradient, or the last axis of a Jacobian, dense or sparse, with respect to x as one with respect to z."""
        if issparse(g):
            picked = g.tocsc() if self.free is None else g.tocsc()[:, self.free]
            return picked if self.free_scale is None else picked @ diags_array(self.free_scale)
        picked = g if self.free is None else g[..., self.free]
        return picked if self.free_scale is None else picked * self.free_scale

    def gradient_to_user(self, g: Any) -> Any:
        """The inverse of `gradient_to_solver`, with zeros along fixed variables."""
        if issparse(g):
            return (g if self.free_scale is None else g @ diags_array(1 / self.free_scale)) @ self._selection()
        return self._embed(g if self.free_scale is None else g / self.free_scale, 0.0)

    def direction_to_user(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """A direction in z, or rows of them, as one in x."""
        return self._embed(self._grown(v), 0.0)

    def hessian_to_solver(self, matrix: Any) -> Any:
        """A Hessian with respect to x, as an array, sparse or as products, as one with respect to z."""
        if isinstance(matrix, LinearOperator):
            product = matrix.matvec
            return LinearOperator(
                (self.n, self.n),
                matvec=lambda v: self.gradient_to_solver(product(self.direction_to_user(v.ravel()))),
                dtype=np.float64,
            )
        return self.gradient_to_solver(self.gradient_to_solver(matrix).T).T

    def mask_to_solver(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask over the entries of x as a mask over the entries of z."""
        return mask if self.free is None else mask[self.free]

    def solver_options(self, options: Mapping[str, Any], rows: Mapping[str, OptionSpec]) -> dict[str, Any]:
        """Array options, such as a starting simplex, converted to z and to the scaled loss."""
        options = self._solver_losses(options, rows)
        if self.plain:
            return options
        arrays = {name for name in options if name in rows and rows[name].kind == "array"}
        return {
            name: self._solver_array(value, both=rows[name].both_axes) if name in arrays else value
            for name, value in options.items()
        }

    def user_result(self, result: OptimizeResult) -> OptimizeResult:
        """SciPy's result, or trust-constr's state, in the user's variables; derivatives along fixed variables are 0.

        SciPy does not compute those: see `fill_fixed`.
        """
        if self.plain and self.loss_scale == 1:
            return result
        result = self._user_losses(result)
        converted = {name: _FIELDS[name](self, value) if name in _FIELDS else value for name, value in result.items()}
        return OptimizeResult({**converted, **self._user_constraints(result), "x": self.to_user(result.x)})

    def _solver_losses(self, options: Mapping[str, Any], rows: Mapping[str, OptionSpec]) -> dict[str, Any]:
        """Options in units of the loss, converted to the scaled loss."""
        changed = {
            name: np.asarray(value, dtype=np.float64) / self.loss_scale ** rows[name].loss_power
            for name, value in options.items()
            if self.loss_scale != 1 and value is not None and name in rows and rows[name].loss_power
        }
        return {**options, **changed}

    def _user_losses(self, result: OptimizeResult) -> OptimizeResult:
        """Fields in units of the loss, converted to the user's loss."""
        if self.loss_scale == 1:
            return result
        scaled = {name: _times(result[name], self.loss_scale) for name in _LOSSES if name in result}
        if isinstance(result.get("jac"), np.ndarray):
            scaled["jac"] = result.jac * self.loss_scale
        if "final_simplex" in result:
            points, losses = result.final_simplex
            scaled["final_simplex"] = points, losses * self.loss_scale
        return OptimizeResult({**result, **scaled})

    def fill_fixed(self, result: OptimizeResult, gradient: NDArray[np.float64] | None) -> None:
        """Write the derivatives along fixed variables into the result's gradient, if the whole gradient is known."""
        if self.free is None or gradient is None:
            return
        for name in ("jac", "grad"):
            reported = result.get(name)
            if isinstance(reported, np.ndarray) and reported.shape == gradient.shape:
                result[name] = np.where(self.free, reported, gradient)

    def _user_constraints(self, result: OptimizeResult) -> dict[str, Any]:
        """Convert trust-constr's lists of Jacobians and multipliers: by constraint, with the bounds on z last."""
        if not isinstance(result.get("jac"), list) or not isinstance(result.get("v"), list):
            return {}
        jacobians = [self.gradient_to_user(jacobian) for jacobian in result.jac]
        converted = {"jac": jacobians, "v": list(result.v), "constr": list(result.get("constr", ()))}
        if self.bounds is not None and self.free_scale is not None:
            jacobians[-1] = self._selection()
            converted["v"][-1] = converted["v"][-1] / self.free_scale
            if converted["constr"]:
                converted["constr"][-1] = converted["constr"][-1] * self.free_scale
        return {name: value for name, value in converted.items() if name in result}

    def _user_gradient(self, g: Any) -> Any:
        return self.gradient_to_user(g) if isinstance(g, np.ndarray) and g.shape == (self.n,) else g

    def _user_hessian(self, matrix: Any) -> Any:
        if not isinstance(matrix, np.ndarray) or matrix.shape != (self.n, self.n):
            return matrix
        return self.gradient_to_user(self.gradient_to_user(matrix).T).T

    def _user_inverse(self, inverse: Any) -> Any:
        if isinstance(inverse, LinearOperator):
            return _UserInverse(inverse, self)
        grown = inverse if self.free_scale is None else inverse * np.outer(self.free_scale, self.free_scale)
        return self._embed(self._embed(grown, 0.0).T, 0.0).T / self.loss_scale

    def _user_points(self, points: Any) -> Any:
        return [self.to_user(z) for z in points]

    def _user_simplex(self, simplex: Any) -> Any:
        points, losses = simplex
        return np.array(self._user_points(points)), losses

    def _solver_array(self, value: Any, *, both: bool) -> Any:
        array = np.asarray(value, dtype=np.float64) if value is not None else None
        if array is None or not array.ndim or array.shape[-1] != self.base.size:
            return value
        if not both:
            return self.to_solver(array)
        picked = self._pick(self._pick(array).T).T
        return (
            picked if self.free_scale is None else picked / np.outer(self.free_scale, self.free_scale)
        )  # symmetric to the last bit

    def _solver_bounds(self, bounds: Bounds) -> Bounds | None:
        low, high = self.to_solver(bounds.lb), self.to_solver(bounds.ub)
        if not (np.isfinite(low).any() or np.isfinite(high).any()):
            return None
        return Bounds(low, high, keep_feasible=self._pick(np.broadcast_to(bounds.keep_feasible, self.base.shape)))

    def _snapped(self, z: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.free_scale is None or self.bounds is None or self.box is None:
            return x
        x = np.where(z == self.bounds.lb, self._pick(self.box.lb), x)
        return np.where(z == self.bounds.ub, self._pick(self.box.ub), x)

    def _pick(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x if self.free is None else x[..., self.free]

    def _grown(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        return z if self.free_scale is None else z * self.free_scale

    def _embed(self, free: NDArray[np.float64], rest: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """A vector over x from its free entries, along the last axis. Complex entries (SciPy's 'cs') remain complex."""
        if self.free is None:
            return free
        whole = np.empty((*free.shape[:-1], self.base.size), dtype=np.result_type(free, np.float64))
        whole[...] = rest
        whole[..., self.free] = free
        return whole

    def _selection(self) -> Any:
        """The free rows of the identity, sparse."""
        identity = diags_array(np.ones(self.base.size)).tocsr()
        return identity if self.free is None else identity[self.free]


_LOSSES = ("fun", "grad", "hess", "lagrangian_grad", "optimality", "multipliers", "v")
"""Fields of SciPy's results in units of the loss. `jac` is one too, unless it is trust-constr's list of Jacobians."""


def _times(value: Any, factor: float) -> Any:
    """A number, array or operator, or each of a list of them, times a factor."""
    return [_times(part, factor) for part in value] if isinstance(value, list) else value * factor


class _UserInverse(LinearOperator):  # type: ignore[misc]
    """L-BFGS-B's inverse Hessian in the user's variables, as products: only `todense` makes an N×N array."""

    def __init__(self, inverse: LinearOperator, variables: Variables):
        super().__init__(np.float64, (variables.base.size, variables.base.size))
        self._inverse = inverse
        self._variables = variables

    def _matvec(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        variables = self._variables
        return (
            variables.direction_to_user(self._inverse.matvec(variables.gradient_to_solver(v.ravel())))
            / variables.loss_scale
        )

    def todense(self) -> NDArray[np.float64]:
        """As an array, shape (n, n)."""
        return np.asarray(self @ np.eye(self.shape[0]))


_FIELDS: Mapping[str, Callable[[Variables, Any], Any]] = {
    "jac": Variables._user_gradient,
    "grad": Variables._user_gradient,
    "lagrangian_grad": Variables._user_gradient,
    "hess": Variables._user_hessian,
    "hess_inv": Variables._user_inverse,
    "direc": Variables.direction_to_user,
    "allvecs": Variables._user_points,
    "final_simplex": Variables._user_simplex,
}
