"""The objective for SciPy: a function of the solver's variables z, divided by the loss scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autodiff.hessian import positive_definite
from ..parameters.arrays import as_array, as_matrix
from ..parameters.variables import Variables
from ..runtime.user_function import UserFunction
from .objective import Objective

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SolverObjective"]

STIFF = 1e6
"""Curvature along entries without a gradient, relative to the largest other one: it prevents steps of trust-exact."""


class SolverObjective:
    """An objective as a function of z, divided by the loss scale."""

    def __init__(self, objective: Objective, variables: Variables):
        self._objective = objective
        self._variables = variables

    def value(self, z: NDArray[np.float64]) -> float:
        """The loss."""
        return self._objective.value(self._variables.to_user(z)) / self._variables.loss_scale

    def gradient(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its gradient with respect to z."""
        return np.asarray(
            self._scaled(self._variables.gradient_to_solver(self._objective.gradient(self._variables.to_user(z))))
        )

    def hvp(self, z: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its Hessian with respect to z, times v."""
        variables = self._variables
        product = self._objective.hvp(variables.to_user(z), variables.direction_to_user(np.ravel(v)))
        product = np.asarray(self._scaled(variables.gradient_to_solver(product)))
        unreached = self._unreached()
        return product if unreached is None else np.where(unreached, np.ravel(v), product)

    def hessian(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its Hessian with respect to z, made positive definite where the method needs it."""
        hessian = self._scaled(self._variables.hessian_to_solver(self._objective.hessian(self._variables.to_user(z))))
        unreached = self._unreached()
        if unreached is not None:
            hessian[unreached, unreached] = STIFF * (float(np.abs(hessian).max()) or 1.0)
        return positive_definite(hessian, self._objective.flat.eps) if self._objective.derivatives.shift else hessian

    def _unreached(self) -> NDArray[np.bool_] | None:
        """Entries of z that no gradient has reached so far. Positive curvature along them prevents steps there."""
        unreached = self._objective.unreached()
        return None if unreached is None else self._variables.mask_to_solver(unreached)

    def user_hess(self, hess: Callable[..., Any]) -> Callable[..., Any]:
        """The user's `hess`, a function of x, as one of z."""
        variables = self._variables
        hess = UserFunction(hess)
        shape = (variables.base.size,) * 2
        return lambda z: self._scaled(variables.hessian_to_solver(as_matrix(hess(variables.to_user(z)), "hess", shape)))

    def user_hessp(self, hessp: Callable[..., Any]) -> Callable[..., Any]:
        """The user's `hessp`, a function of x and a direction, as one of z."""
        variables = self._variables
        hessp = UserFunction(hessp)
        shape = (variables.base.size,)
        return lambda z, v: self._scaled(
            variables.gradient_to_solver(
                as_array(hessp(variables.to_user(z), variables.direction_to_user(np.ravel(v))), "hessp", shape)
            )
        )

    def _scaled(self, derivative: Any) -> Any:
        scale = self._variables.loss_scale
        return derivative if scale == 1 else derivative * (1 / scale)
