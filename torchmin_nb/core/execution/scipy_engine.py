"""A run of a SciPy solver: its result, completed, and its errors as errors of torchmin_nb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from ...errors import ArgumentError, ArgumentTypeError
from ..objective.objective import Objective
from ..runtime.control import NONFINITE_CURVATURE, UNDEFINED, Ending
from .engine import Engine
from .recorder import Recorder
from .scipy_iterates import ScipyIterates

__all__ = ["VIOLATIONS", "ScipyEngine"]

VIOLATIONS = ("constr_violation", "maxcv")
"""SciPy's names for the constraint violation at x."""

_POINT_FIELDS = (
    *("jac", "grad", "hess", "lagrangian_grad", "optimality", "constr", "v", "multipliers"),
    *("residuals", "active_mask"),
)
"""Fields of a result that belong to its x, besides the loss and the violation."""

_INFINITE = "must not contain infs or NaNs"
_REFUSALS = (ValueError, TypeError, AttributeError, NameError, Exception)
"""The types of SciPy's errors about arguments, without subclasses. The closure's errors are raised as `Abort`."""


class ScipyEngine(Engine):
    """An Engine for SciPy's solvers. iterates: counts the iterations, for methods with a different count."""

    objective: Objective

    def __init__(
        self,
        objective: Objective,
        recorder: Recorder,
        start: NDArray[np.float64],
        *,
        iterates: ScipyIterates | None = None,
        **rest: Any,
    ):
        super().__init__(objective, recorder, start, **rest)
        self._iterates = iterates

    @property
    def _iterations(self) -> int:
        return super()._iterations if self._iterates is None else self._iterates.iterations

    def _completed(self, result: object) -> OptimizeResult:
        if not isinstance(result, Mapping) or "x" not in result:
            raise ArgumentTypeError(
                f"the method callable returned {type(result).__name__}; return a scipy.optimize.OptimizeResult with x"
            )
        filled = OptimizeResult({**self._counted(), **_default_ending(result), **result})
        filled.x = self._point(filled.x)
        filled.update({name: _number(filled, name, int) for name in ("status", "nit", "nfev", "njev", "nhev")})
        if "fun" in filled:
            filled.fun = _number(filled, "fun", float)
        end = self.objective.cached_point(filled.x)
        loss = None if end is None else end.loss
        if end is None and (trial := self.objective.trials.at(filled.x)) is not None:
            loss = trial.loss
        if loss is None and np.isfinite(filled.x).all():  # not a reported point
            end = self.objective.end_point(filled.x)
            loss = end.loss
        if end is not None:
            filled.x = end.x.copy()  # also for a difference only in the sign of a zero: a loss may depend on it
        undefined = (end is not None and not self.objective.finite(end)) or (loss is not None and not np.isfinite(loss))
        if (
            undefined or not np.isfinite(filled.x).all()
        ):  # SciPy's fun is the finite value in place of a NaN or infinite loss
            filled.update(UNDEFINED._asdict(), scipy_status=filled.status)
            self._put_best(filled)
        else:  # after a failed line search L-BFGS-B returns to x, but reports the loss of the trial
            filled.fun = loss
        jac = filled.get("jac")
        if end is not None and end.gradient is not None and isinstance(jac, np.ndarray) and jac.shape == filled.x.shape:
            filled.jac = end.gradient  # SLSQP and Newton-CG report the gradient of the previous point
        filled.update(success=bool(filled.success), message=str(filled.message))
        if not filled.success and self.objective.has_better_than(filled.x, filled.fun):
            self._put_best(filled)
        return filled

    def _put_best(self, filled: OptimizeResult) -> None:
        """The best point as x, instead of the method's last point, which becomes `scipy_x`."""
        given_up = filled.x
        for name in _POINT_FIELDS:
            filled.pop(name, None)
        filled.update(self._best_point(), scipy_x=given_up)
        violation = self.objective.violation
        if violation is not None:
            filled.update({name: violation(filled.x) for name in VIOLATIONS if name in filled})

    def _point(self, x: Any) -> NDArray[np.float64]:
        """The x of a result, shape (n,). Raises ArgumentTypeError."""
        try:
            found = np.array(x, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            found = np.empty(0)
        if found.size != self.flat.n:
            raise ArgumentTypeError(
                f"the method callable returned x={x!r}; return an OptimizeResult with x, {self.flat.n} numbers"
            )
        return found

    def _best_point(self) -> dict[str, Any]:
        best = self.objective.best
        if best is None:
            return {"x": self.start, "fun": np.nan}
        return {"x": best.x, "fun": best.loss} | ({} if best.gradient is None else {"jac": best.gradient})

    def _ending_of_overflow(self, error: BaseException) -> Ending | None:
        """SciPy's linear algebra refuses infinite entries that SciPy itself computed from finite derivatives."""
        return NONFINITE_CURVATURE if type(error) is ValueError and _INFINITE in str(error) else None

    def _translated(self, error: BaseException) -> BaseException:
        if type(error) not in _REFUSALS:
            return super()._translated(error)
        kind = ArgumentTypeError if isinstance(error, TypeError) else ArgumentError
        translated = kind(
            f"SciPy's {self.history.method} refused its arguments: {error}; "
            f"its options were {dict(self.history.options)}"
        )
        translated.__cause__ = error
        return translated


def _default_ending(result: Mapping[str, Any]) -> dict[str, Any]:
    """Success, status and message, for a method that returns only some of them."""
    success = bool(result["success"]) if "success" in result else result.get("status", 0) in (0, None)
    return {"success": success, "status": 0 if success else 1, "message": ""}


def _number(result: Mapping[str, Any], name: str, kind: type) -> Any:
    """One number of a result. Raises ArgumentTypeError."""
    try:
        return kind(np.asarray(result[name]).item())
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            f"the method callable returned {name}={result[name]!r}; return an OptimizeResult with a number there, or "
            f"leave it out"
        ) from None
