"""One run of a global search: the objective in the solver's variables, populations, progress, and the end."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, NonlinearConstraint, OptimizeResult

from ....errors import InconsistentClosureError, NonFiniteStartError
from ...execution.recorder import Recorder
from ...objective.constraints import ConstraintSet
from ...objective.objective import Derivatives, Objective, Point
from ...parameters.bounds import outside
from ...parameters.variables import Variables
from ...runtime.control import Abort
from .local import LocalSearch
from .minima import Minima
from .population import Population

__all__ = ["SAMPLING", "Search", "pairs"]

SAMPLING = Derivatives(level="value", finite_start=False)
"""The derivatives of a search between its descents: none, only the loss."""
_DIFFERENTIABLE = replace(SAMPLING, level="sample")
"""The same if the descents use gradients: a point without a gradient cannot be the end."""

_OF_ANOTHER = ("jac", "hess", "hess_inv", "grad", "lagrangian_grad", "multipliers", "v")

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Search:
    """The functions that a wrapper passes to SciPy.

    Points z are the solver's variables. start: the parameters' values, shape (n,), inside the bounds. vectorized:
    whether the method evaluates many points together; population: evaluates them, None if that is not possible.
    local: set after the start was evaluated, when it is known whether there is a gradient.
    """

    objective: Objective
    recorder: Recorder
    variables: Variables
    constraints: ConstraintSet
    start: NDArray[np.float64]
    minima: Minima
    vectorized: bool = False
    population: Population | None = None
    local: LocalSearch | None = None

    # The start

    def probe(self) -> bool:
        """The first evaluation, at the start. Returns whether the closure has a gradient."""
        self.objective.evaluate_as_fallback(self.start)
        first = self.objective.cached_point(self.start)
        assert first is not None
        self.objective.use_derivatives(SAMPLING)
        if self.population is not None:
            self._try_population(first.loss)
        return first.gradient is not None

    def use_local_search(self, local: LocalSearch) -> None:
        """The local method of this search."""
        self.local = local
        self.objective.use_derivatives(_DIFFERENTIABLE if local.differentiates else SAMPLING)

    def _try_population(self, loss: float) -> None:
        """Use the population only if it returns the closure's loss at the start. Two calls outside all counts."""
        assert self.population is not None
        try:
            self.objective.calls.write_parameters(self.start)
            self.population.fit()
            together = float(self.population.losses(self.start[None])[0])
        except Exception as error:
            self._without_population(error)
            return
        if not self.population.worthwhile:
            self._without_population("single points are large enough")
            return
        tolerance = 1e3 * self.objective.flat.eps
        if np.isclose(together, loss, rtol=tolerance, atol=tolerance, equal_nan=True):
            return
        message = f"the loss of the parameters is {together:.8g} at the start, and the closure returned {loss:.8g}"
        if self.population.explicit:
            raise Abort(InconsistentClosureError(f"{message}; loss= and the closure must compute the same"))
        self._without_population(message)

    def _without_population(self, reason: object) -> None:
        _log.debug("populations are evaluated one point at a time: %s", reason)
        self.population = None

    # What SciPy calls

    def value(self, z: NDArray[np.float64]) -> float:
        """The loss at z."""
        return self.objective.value(self.variables.to_user(z))

    def values(self, rows: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
        """The losses at several z, shape (k,): in one call if possible. Each point counts as one closure call."""
        points = self._user_rows(rows)
        parts: list[NDArray[np.float64]] = []
        while sum(map(len, parts)) < len(points):
            rest = points[sum(map(len, parts)) :]
            parts.append(self._together(rest) if self.population is not None else self._one_by_one(rest))
        return np.concatenate(parts) if parts else np.empty(0)

    def _one_by_one(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([self.objective.value(x) for x in points])

    def _together(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """As many points as one chunk and the budget allow; none after vmap has refused."""
        assert self.population is not None
        control, counts = self.objective.control, self.objective.counts
        control.before_evaluation(counts.nfev)
        room = len(points) if control.max_evaluations is None else control.max_evaluations - counts.nfev
        chunk = points[: min(self.population.chunk, room)]
        try:
            losses = self.population.losses(chunk)
        except self.objective.calls.nonfinite_errors:
            return self._one_by_one(chunk)  # at one of these points: the loop finds which
        except Exception as error:
            self._without_population(error)
            return np.empty(0)
        self.objective.requests.nfev += len(chunk)
        return self.objective.record_batch(chunk, losses)

    def record_iteration(self, metrics: Mapping[str, float], *, accepted: bool | None = None) -> None:
        """Report an iteration of the search."""
        minima = {"minima": float(len(self.minima))} if len(self.minima) else {}
        best = self.objective.best or Point(self.recorder.last.x, math.inf, None, {})
        point = replace(best, metrics={**metrics, **minima, **best.metrics})
        if point.violation is None and self.objective.violation is not None:
            point.violation = self.objective.violation(point.x)
        self.objective.iterated(point)
        self.recorder.iterated(point, accepted=accepted)

    # The end

    def completed_result(self, result: OptimizeResult) -> OptimizeResult:
        """SciPy's result in the user's variables, or the best point if that is lower; with the minima."""
        best = self.objective.best
        if best is None:
            raise Abort(NonFiniteStartError(_never_finite(self.objective)))
        completed = self._with_own_loss(self._in_user_variables(result))
        best = self.objective.best or best
        if self._lower(best.loss, completed):
            completed = _replaced(completed, best)
        self.variables.fill_fixed(completed, self._gradient(completed.x))
        self._update_violation(completed)
        message = completed.get("message", "")
        completed.message = "; ".join(map(str, message)) if isinstance(message, list) else str(message)
        if len(self.minima):
            completed.minima = self.minima.by_loss()
        if not self.recorder.history[-1].loss <= completed.fun:
            self.record_iteration({})
        return completed

    def _with_own_loss(self, result: OptimizeResult) -> OptimizeResult:
        """The result with the loss at its x, in place of SciPy's value."""
        if result.x is None or not np.isfinite(result.x).all():
            return OptimizeResult({**result, "x": None, "fun": np.inf})
        end = self.objective.end_point(result.x)
        loss = end.loss if np.isfinite(end.loss) else np.inf
        return OptimizeResult({**result, "x": end.x.copy(), "fun": loss})

    def _gradient(self, x: NDArray[np.float64]) -> NDArray[np.float64] | None:
        point = self.objective.cached_point(x)
        return None if point is None else point.gradient

    def _update_violation(self, result: OptimizeResult) -> None:
        """SciPy's fields about the constraints, at the x of this result."""
        if not self.constraints or not {"constr", "constr_violation", "maxcv"} & set(result):
            return
        z = self.variables.to_solver(result.x)
        result.constr = [violated(part, z) for part in self.constraints.for_scipy("object", curvature=False)]
        result.maxcv = result.constr_violation = float(np.concatenate(result.constr).max(initial=0.0))
        if result.maxcv > self.objective.feasible:
            result.update(
                success=False, message=f"The solution does not satisfy the constraints, MAXCV = {result.maxcv}"
            )

    def _in_user_variables(self, result: OptimizeResult) -> OptimizeResult:
        if result.get("x") is None:
            return OptimizeResult({**result, "x": None, "fun": np.inf})
        converted = self.variables.user_result(OptimizeResult({**result, "x": np.atleast_1d(result.x)}))
        if self.variables.plain:
            return converted
        converted.update({name: self._user_rows(converted[name]) for name in ("population", "xl") if name in converted})
        if "grid" in converted:
            axes = np.asarray(converted.grid).reshape(self.variables.n, -1)
            converted.grid = self._user_rows(axes.T).T.reshape(-1, *np.shape(converted.Jout))
        if "lowest_optimization_result" in converted:
            converted.lowest_optimization_result = self.variables.user_result(converted.lowest_optimization_result)
        return converted

    def _user_rows(self, rows: Any) -> NDArray[np.float64]:
        return np.array([self.variables.to_user(z) for z in rows])

    def _lower(self, loss: float, result: OptimizeResult) -> bool:
        """Whether the best point has a lower loss than SciPy's, among feasible points."""
        assert self.objective.best is not None
        if result.x is None:
            return True
        mine, its = self.violates(self.objective.best.x), self.violates(result.x)
        return its if mine != its else not loss >= result.fun

    def violates(self, x: NDArray[np.float64]) -> bool:
        """Whether x is infeasible."""
        objective = self.objective
        broken = 0.0 if objective.violation is None else objective.violation(x)
        return broken > objective.feasible or outside(x, objective.bounds) > 0

    def fixed(self) -> OptimizeResult:
        """The result if all variables are fixed."""
        fun = self.objective.value(self.start)
        return OptimizeResult(x=self.start, fun=fun, success=True, status=0, message="All variables are fixed.")

    def close(self) -> None:
        """Free all references: some SciPy solvers are reference cycles, and would keep these functions alive."""
        for owner in (self.local, self):
            if owner is not None:
                vars(owner).clear()

    def explained_failure(self, error: ValueError) -> BaseException:
        """The error itself; if SciPy stopped because no loss was finite, an error of torchmin_nb."""
        objective = self.objective
        gave_up = objective.best is None and objective.counts.nfev > 1
        return Abort(NonFiniteStartError(_never_finite(objective))) if gave_up else error


def _replaced(result: OptimizeResult, best: Point) -> OptimizeResult:
    """The result at the best point, without SciPy's fields for another point."""
    kept = {name: value for name, value in result.items() if name not in _OF_ANOTHER}
    known = {} if best.gradient is None else {"jac": best.gradient.copy()}
    return OptimizeResult({**kept, **known, "x": best.x.copy(), "fun": best.loss})


def violated(part: NonlinearConstraint | LinearConstraint, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The violation of each component of a constraint at z, shape (m,)."""
    values = np.atleast_1d(part.A @ z if isinstance(part, LinearConstraint) else part.fun(z))
    return np.asarray(np.maximum(part.lb - values, 0) + np.maximum(values - part.ub, 0))


def _never_finite(objective: Objective) -> str:
    return (
        f"the loss was NaN or infinite at all {objective.counts.nfev} evaluated points; check the data for NaN, "
        f"and pass bounds within which the loss is defined"
    )


def pairs(variables: Variables) -> list[tuple[Any, Any]]:
    """The bounds of the solver's variables, one (low, high) each."""
    assert variables.bounds is not None
    return list(zip(variables.bounds.lb.tolist(), variables.bounds.ub.tolist(), strict=True))
