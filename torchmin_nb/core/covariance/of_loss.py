"""The covariance from the curvature of a loss: from autograd's Hessian, or from a method's inverse Hessian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ...errors import ArgumentError, NotAMinimumError
from ..autodiff.closure import Closure, evaluator_for, require_closure
from ..autodiff.side_effects import restored_afterwards
from ..objective.calls import Calls
from ..objective.objective import Derivatives, Objective
from ..runtime.control import Abort, Control, StopRun
from .covariance import Covariance
from .inverse import covariance_of_loss
from .names import named_values, warn_of_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.optimize import Bounds, OptimizeResult

    from ..parameters.flat import FlatParameters

__all__ = ["loss_covariance"]


def loss_covariance(
    closure: Closure | None,
    result: OptimizeResult | None,
    flat: FlatParameters,
    groups: Sequence[Mapping[str, Any]],
    *,
    bounds: Bounds | None = None,
    scale: float = 1.0,
    curvature: str = "autograd",
    x_scale: NDArray[np.float64] | float = 1.0,
) -> Covariance:
    """scale · H⁻¹ at the current values of the parameters, or from `result.hess_inv` without a closure.

    x_scale: typical sizes of x, for differences.

    `hess_inv` of BFGS or L-BFGS-B is an approximation, also after convergence: both test for convergence before
    they update it, so it does not contain the last step, and L-BFGS-B keeps only `maxcor` steps.

    Raises ArgumentError if there is neither, NotAMinimumError if H is not positive semidefinite or not finite.
    """
    values = named_values(groups, flat.tensors)
    warn_of_bounds(flat.read(), bounds, values)
    if closure is None:
        return Covariance(scale * _inverse_hessian(result, flat.n), values, np.zeros(flat.n, dtype=bool))
    free = None if bounds is None else bounds.lb < bounds.ub
    hessian = _hessian_now(require_closure(closure), flat, Derivatives("curvature", curvature=curvature, scale=x_scale))
    return covariance_of_loss(hessian, values, scale=scale, eps=flat.eps, free=free)


def _hessian_now(closure: Closure, flat: FlatParameters, derivatives: Derivatives) -> NDArray[np.float64]:
    objective = Objective(Calls(evaluator_for(closure, flat), flat, Control()), derivatives)
    try:
        with restored_afterwards(flat):
            return objective.hessian(flat.read())
    except Abort as abort:
        raise abort.error from None
    except StopRun as stop:
        raise NotAMinimumError(f"no covariance here: {stop.ending.message}") from None
    finally:
        objective.release()


def _inverse_hessian(result: OptimizeResult | None, n: int) -> NDArray[np.float64]:
    inverse = None if result is None else result.get("hess_inv")
    if isinstance(inverse, LinearOperator):
        inverse = inverse.todense()
    if inverse is None or np.shape(inverse) != (n, n):
        raise ArgumentError(
            f"the last run has no inverse Hessian for the {n} parameters (only BFGS and L-BFGS-B have an approximate "
            "one, for the parameters that are not fixed); pass the closure to use autograd's Hessian: "
            "covariance(closure)"
        )
    return np.array(inverse, dtype=np.float64)
