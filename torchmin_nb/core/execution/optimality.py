"""Is the end of a run a minimum? The KKT residual, and warnings if a method reports success too early.

SciPy's tolerances are absolute: for a small loss the start already satisfies them. And trust-constr reports success
when its trust radius is small, for any gradient.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from scipy.optimize import Bounds, OptimizeResult, nnls

from ...errors import ConvergenceWarning, StartWarning
from ..objective.constraints import LinearisedConstraints
from ..runtime.control import Abort, StopRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..methods.options import OptionSpec
    from ..objective.constraints import ConstraintSet
    from ..objective.objective import Point
    from ..parameters.flat import FlatParameters
    from ..parameters.variables import Variables

__all__ = ["EndingCheck", "IterateResidual", "Kkt", "kkt", "tolerances_in_words"]

_STATIONARY, _COMPLEMENTARY = 1e-2, 5e-5
"""Largest parts of the KKT residual for a believable success. An error of the gradient changes the loss by its square;
an error of complementarity changes the loss by its full size."""
_WEIGHTS = (1.0, _STATIONARY / _COMPLEMENTARY)
"""Weights of complementarity relative to stationarity, for the multipliers. At a solution both give small residuals."""
_FEASIBLE = 1e-6
_OF_THE_GAIN = 1e-3
_NEAR, _FAR = 1e-3, 1e2
"""If the loss would, to first order, reach zero within these multiples of the size of x, it is not at its minimum."""
_UNMOVED = 1e-8
_ROUNDS = 20
_LARGEST = 2**24
_LARGEST_OFTEN = 2**14
"""Largest numbers of entries of the equations for the multipliers: at the end of a run, and at every iteration, where
they take two milliseconds at most."""


class Kkt(NamedTuple):
    """The residuals of the KKT conditions at a point, with the best multipliers; all 0 at a solution.

    stationarity: the gradient of the Lagrangian, shape (n,), in units of the gradient. complementarity:
    the multipliers times the distance to their bound or constraint, shape (n + k,), in units of the loss.
    """

    stationarity: NDArray[np.float64]
    complementarity: NDArray[np.float64]


def kkt(
    gradient: NDArray[np.float64],
    z: NDArray[np.float64],
    bounds: Bounds | None,
    constraints: LinearisedConstraints | None,
    loss_unit: float,
    slope_unit: float,
) -> Kkt | None:
    """The KKT conditions at z, shape (n,), for a loss with this gradient.

    The multipliers minimise the sum of squares of both parts, in the given units, by non-negative least squares
    without the multipliers of the bounds, which are eliminated. None if the problem is too large or this fails.
    """
    box = _Box(z, bounds, slope_unit / loss_unit)
    rest, multipliers, room = gradient, np.empty(0), np.empty(0)
    if constraints is not None and constraints.equal.size:
        columns, room, equal = _changing(constraints)
        for _ in range(_ROUNDS if 0 < columns.size <= _LARGEST else 0):
            weight = box.remaining(rest) / slope_unit
            solution = _multipliers(weight * gradient, weight[:, None] * columns, room / loss_unit, equal)
            if solution is None:
                break
            before, rest, multipliers = rest, gradient - columns @ solution, solution
            if np.array_equal(before > 0, rest > 0):
                break
        if len(multipliers) != len(room):
            return None
    return Kkt(box.stationarity(rest), np.concatenate([box.complementarity(rest), multipliers * room]))


class _Box:
    """Bounds on z with their best multipliers: for a slope t at distance d from the bound that it points to,
    t / (1 + q²) with q = ratio · d."""

    def __init__(self, z: NDArray[np.float64], bounds: Bounds | None, ratio: float):
        self._bounds = bounds
        if bounds is not None:
            self._below, self._above = np.maximum(z - bounds.lb, 0), np.maximum(bounds.ub - z, 0)
            self._ratio = ratio

    def remaining(self, slope: NDArray[np.float64]) -> NDArray[np.float64]:
        """The weight of a slope in the sum of squares: 0 at the bound it points to, near 1 far from it."""
        return np.sqrt(self._inactive(slope)[0])

    def stationarity(self, slope: NDArray[np.float64]) -> NDArray[np.float64]:
        return slope * self._inactive(slope)[0]

    def complementarity(self, slope: NDArray[np.float64]) -> NDArray[np.float64]:
        inactive, room = self._inactive(slope)
        return np.abs(slope) * (1 - inactive) * np.where(inactive < 1, room, 0.0)

    def _inactive(self, slope: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """q² / (1 + q²), and the distance to the bound."""
        if self._bounds is None:
            return np.ones_like(slope), np.zeros_like(slope)
        room = np.where(slope > 0, self._below, self._above)
        with np.errstate(over="ignore", divide="ignore"):
            return 1 / (1 + (self._ratio * room) ** -2.0), room


class EvaluatedIterate(Protocol):
    """The part of an iterate that its residual needs: x and gradient, shape (n,)."""

    x: Any
    loss: float
    gradient: Any


class IterateResidual:
    """The KKT residual of an iterate: the largest entry of the gradient that no multiplier explains.

    With bounds alone it is that of the projected gradient, z − P(z − g). With constraints it is that of the Lagrangian,
    with the multipliers that fit best. No constraint is differentiated by finite differences for it.
    """

    def __init__(self, objective: EndedObjective, variables: Variables, constraints: ConstraintSet | None = None):
        self._objective, self._variables = objective, variables
        self._constraints = constraints or None
        self._latest: tuple[NDArray[np.float64], float | None] | None = None

    def __call__(self, point: EvaluatedIterate) -> float | None:
        """None where it is not known: without gradient, or with too many constraints for each iteration."""
        if point.gradient is None or not np.isfinite(point.gradient).all() or not self._variables.n:
            return None
        if self._latest is None or not np.array_equal(self._latest[0], point.x):
            self._latest = point.x, self._residual(point)
        return self._latest[1]

    def _residual(self, point: EvaluatedIterate) -> float | None:
        variables, z = self._variables, self._variables.to_solver(point.x)
        slope = np.asarray(variables.gradient_to_solver(point.gradient))
        if self._constraints is None:
            return _largest(slope if variables.bounds is None else _projected(slope, z, variables.bounds))
        linearised = self._constraints.linearised(point.x) if self._constraints.differentiable else None
        if linearised is None or sum(linearised.jacobian.shape) * len(linearised.values) > _LARGEST_OFTEN:
            return None
        units = _units(self._objective.first, variables, point.loss, point.gradient)
        conditions = kkt(slope, z, variables.bounds, linearised, *units)
        return None if conditions is None else _largest(conditions.stationarity)


def _projected(slope: NDArray[np.float64], z: NDArray[np.float64], bounds: Bounds) -> NDArray[np.float64]:
    return np.asarray(np.minimum(np.maximum(slope, z - bounds.ub), z - bounds.lb))


def _units(
    first: Point | None, variables: Variables, loss: float, gradient: NDArray[np.float64]
) -> tuple[float, float]:
    """Scales of loss and gradient: their sizes at a point, or the change since the first if that is larger."""
    losses = [loss] if first is None else [loss, _OF_THE_GAIN * (first.loss - loss)]
    gradients = [gradient] if first is None or first.gradient is None else [gradient, first.gradient]
    slope = max(_largest(variables.gradient_to_solver(each)) for each in gradients) or 1.0
    return max(map(abs, losses)) or slope, slope


def _changing(
    constraints: LinearisedConstraints,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Unit gradients (n, k), distances (k,), and which are equalities; constraints with zero gradient are left out."""
    lengths = np.linalg.norm(constraints.jacobian, axis=1)
    kept = lengths > 0
    distances = np.where(constraints.equal, 0.0, np.abs(constraints.values))[kept] / lengths[kept]
    return (constraints.jacobian[kept] / lengths[kept, None]).T, distances, constraints.equal[kept]


def _multipliers(
    gradient: NDArray[np.float64], matrix: NDArray[np.float64], penalties: NDArray[np.float64], equal: NDArray[np.bool_]
) -> NDArray[np.float64] | None:
    """The minimizer λ of ‖gradient − matrix λ‖² + ‖penalties λ‖², with λ ≥ 0 except for equalities."""
    stacked = np.concatenate([matrix, np.diag(penalties)])
    both = np.concatenate([stacked, -stacked[:, equal]], axis=1)
    largest = np.linalg.norm(both, axis=0)
    unit, length = np.where(largest > 0, largest, 1.0), float(np.linalg.norm(gradient)) or 1.0
    try:
        solution, _ = nnls(both / unit, np.concatenate([gradient / length, np.zeros(len(penalties))]))
    except RuntimeError:
        return None
    solution = length * solution / unit
    multipliers = solution[: len(penalties)].copy()
    multipliers[equal] -= solution[len(penalties) :]
    return np.asarray(multipliers)


def tolerances_in_words(rows: Mapping[str, OptionSpec], options: Mapping[str, Any], tol: float | None = None) -> str:
    """The active tolerances: "gtol=1e-05, ftol=2.22e-09"; empty if there are none."""
    named = [(row.name, options.get(row.name, row.default if tol is None else tol)) for row in rows.values()]
    return ", ".join(f"{name}={value:.3g}" for name, value in named if rows[name].tolerance and value is not None)


class EndedObjective(Protocol):
    """The facts about a finished run: its first point, and the cached point at x, if any."""

    flat: FlatParameters
    first: Point | None

    def cached_point(self, x: NDArray[np.float64]) -> Point | None: ...


@dataclass(eq=False)
class EndingCheck:
    """Called with the result of a run: adds `kkt_residual` if there are constraints, and warns about a false success.

    linearised: the constraints at x, None without constraints. tolerances: the active ones, in words. violation: of
    bounds and constraints at x; None without both. others: methods that accept the same bounds and constraints.
    goes_on: whether the run goes on from another one's end, where it may well be done at once.
    """

    name: str
    objective: EndedObjective
    variables: Variables
    linearised: Callable[[NDArray[np.float64]], LinearisedConstraints | None]
    tolerances: str
    violation: Callable[[NDArray[np.float64]], float] | None
    others: Sequence[str] = ()
    goes_on: bool = False

    def __call__(self, result: OptimizeResult, *, ended_by_method: bool) -> None:
        """ended_by_method: the method itself ended the run. Only then its success is checked."""
        gradient = self._gradient(result)
        if gradient is None or not np.isfinite(gradient).all() or not self.variables.n:
            return
        try:
            parts = self._parts(result, gradient)
            violation = 0.0 if self.violation is None else self.violation(result.x)
        except (Abort, StopRun):  # a constraint that raises, or a stop request
            return
        if not parts:
            return
        if self.violation is not None:
            result.kkt_residual = max(min(map(max, parts)), violation)
        if result.success and ended_by_method:
            self._warn(result, gradient, suspect=violation > _FEASIBLE or not any(map(self._is_solution, parts)))

    def _parts(self, result: OptimizeResult, gradient: NDArray[np.float64]) -> list[tuple[float, float]]:
        """Relative stationarity and complementarity, for multipliers with each of the two weights."""
        if self.violation is None:
            return [(0.0, 0.0)]
        conditions = [self._kkt(result, gradient, weight) for weight in _WEIGHTS]
        loss, slope = self._units(result, gradient)
        parts = [
            (_largest(each.stationarity) / slope, float(np.sum(np.abs(each.complementarity))) / loss)
            for each in conditions
            if each is not None
        ]
        return [each for each in parts if np.isfinite(each).all()]

    def _is_solution(self, parts: tuple[float, float]) -> bool:
        stationarity, complementarity = parts
        return stationarity <= _STATIONARY and complementarity <= max(_COMPLEMENTARY, self.objective.flat.eps**0.5)

    def _gradient(self, result: OptimizeResult) -> NDArray[np.float64] | None:
        """The gradient with respect to x, shape (n,); None if neither the run nor its method has it."""
        point = self.objective.cached_point(result.x)
        if point is not None and point.gradient is not None:
            return point.gradient
        reported = next((result[name] for name in ("grad", "jac") if isinstance(result.get(name), np.ndarray)), None)
        return reported if reported is not None and reported.shape == result.x.shape else None

    def _kkt(self, result: OptimizeResult, gradient: NDArray[np.float64], weight: float) -> Kkt | None:
        variables, slope = self.variables, np.asarray(self.variables.gradient_to_solver(gradient))
        z, (loss_unit, slope_unit) = variables.to_solver(result.x), self._units(result, gradient)
        return kkt(slope, z, variables.bounds, self.linearised(result.x), loss_unit / weight, slope_unit)

    def _units(self, result: OptimizeResult, gradient: NDArray[np.float64]) -> tuple[float, float]:
        return _units(self.objective.first, self.variables, result.fun, gradient)

    def _warn(self, result: OptimizeResult, gradient: NDArray[np.float64], *, suspect: bool) -> None:
        z = self.variables.to_solver(result.x)
        if self._moved(z) and not suspect:
            return
        slopes = self._slopes(result, gradient)
        if not self._moved(z) and self._can_still_fall(result, z, slopes):
            if self.goes_on:
                return
            warnings.warn(_UNMOVED_WORDS.format(**self._words(result, slopes)), StartWarning, stacklevel=7)
        elif suspect and self.violation is not None:
            warnings.warn(_RESIDUAL_WORDS.format(**self._words(result, slopes)), ConvergenceWarning, stacklevel=7)

    def _slopes(self, result: OptimizeResult, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gradient with respect to z that no multiplier of a bound balances."""
        conditions = self._kkt(result, gradient, _WEIGHTS[-1])
        return np.zeros(1) if conditions is None else conditions.stationarity

    def _moved(self, z: NDArray[np.float64]) -> bool:
        """Whether the end point differs from the start."""
        return float(np.linalg.norm(z - self.variables.start)) > _UNMOVED * (float(np.linalg.norm(z)) or 1.0)

    def _can_still_fall(self, result: OptimizeResult, z: NDArray[np.float64], slopes: NDArray[np.float64]) -> bool:
        """Whether the loss, to first order, decreases by its own size within a short distance."""
        reach = float(np.linalg.norm(slopes)) * (float(np.linalg.norm(z)) or 1.0)
        return _NEAR * reach < abs(float(result.fun)) < _FAR * reach

    def _words(self, result: OptimizeResult, slopes: NDArray[np.float64]) -> dict[str, object]:
        because = f": its tolerances ({self.tolerances}) are absolute" if self.tolerances else ""
        slope = _largest(slopes)
        return {
            "name": self.name,
            "loss": result.fun,
            "slope": slope,
            "residual": result.get("kkt_residual", 0.0),
            "because": because,
            "scale": "'auto'" if slope < 1 else f"{slope:.0e}",  # "auto" does not scale a steep loss
            "others": " or ".join(name for name in self.others if name != self.name) or "another method",
        }


def _largest(values: NDArray[np.float64]) -> float:
    return float(np.max(np.abs(values), initial=0.0))


_UNMOVED_WORDS = (
    "{name} reports success at the start, without a step, although the gradient ({slope:.3g}) is not small compared "
    "with the loss ({loss:.3g}){because}. Pass loss_scale={scale} or smaller tolerances, start inside the bounds and "
    "not on them, or choose another method"
)
_RESIDUAL_WORDS = (
    "{name} reports success although the KKT residual, relative to loss and gradient, is {residual:.2g}: the "
    "conditions of a minimum are not satisfied. Continue from here with {others}, or run again with another start, "
    "smaller tolerances or loss_scale={scale}"
)
