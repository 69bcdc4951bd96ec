"""Is the end of a run a minimum? The KKT residual, and the warnings where a method's success is not one.

SciPy's tolerances are absolute: beside a small loss they are met where the run begins. And trust-constr ends with
success once its trust radius is small, whatever the gradient.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import Bounds, OptimizeResult, nnls

from ..errors import ConvergenceWarning, StartWarning
from .control import Abort, StopRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .methods import OptionSpec
    from .objective import Objective
    from .variables import Variables

__all__ = ["EndingCheck", "LinearisedConstraints", "kkt_vector", "tolerances_in_words"]

_SMALL_RESIDUAL = 1e-3
"""KKT residual from which a success is warned about."""
_NEAR, _FAR = 1e-3, 1e2
"""A loss that falls to zero within these multiples of the size of x, to first order, is not at its minimum."""
_UNMOVED = 1e-8
_ROUNDS = 20
_LARGEST = 2**24


class LinearisedConstraints(NamedTuple):
    """Constraints c(z) >= 0, or = 0 where `equal`, at a point: values (m,), Jacobian (m, n), equal (m,)."""

    values: NDArray[np.float64]
    jacobian: NDArray[np.float64]
    equal: NDArray[np.bool_]


def kkt_vector(
    gradient: NDArray[np.float64],
    z: NDArray[np.float64],
    bounds: Bounds | None,
    constraints: LinearisedConstraints | None = None,
) -> NDArray[np.float64] | None:
    """What of the gradient (n,) at z no multipliers of bounds and constraints explain; 0 at a stationary point.

    The multipliers are those that make it smallest, by non-negative least squares. A multiplier of a constraint that is
    not active counts by the distance to it, relative to the size of z: complementarity is part of the vector. None
    where the least-squares problem cannot be solved.
    """
    size = _size(z)
    weights = _weights(z, bounds, size)
    if constraints is None or not constraints.equal.size:
        return weights(gradient) * gradient
    matrix, penalties, equal = _normalised(constraints, size)
    if matrix.size > _LARGEST:
        return None
    rest, multipliers = gradient, np.zeros(len(penalties))
    for _ in range(_ROUNDS):
        weight = weights(rest)
        found = _multipliers(weight * gradient, weight[:, None] * matrix, penalties, equal)
        if found is None:
            return None
        before, rest, multipliers = rest, gradient - matrix @ found, found
        if np.array_equal(before > 0, rest > 0):
            break
    return np.concatenate([weights(rest) * rest, penalties * multipliers])


def _size(z: NDArray[np.float64]) -> float:
    return float(np.max(np.abs(z), initial=0.0)) or 1.0


def _weights(
    z: NDArray[np.float64], bounds: Bounds | None, size: float
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """By what entries of a gradient count: 0 for one that points out of an active bound, near 1 far from any."""
    if bounds is None:
        return np.ones_like
    below, above = (_saturating(np.maximum(room, 0) / size) for room in (z - bounds.lb, bounds.ub - z))
    return lambda gradient: np.where(gradient > 0, below, above)


def _saturating(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """distance / sqrt(1 + distance²): what remains of a unit slope beside the best multiplier of a bound."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / np.sqrt(1 + (1 / np.maximum(distance, 1e-300)) ** 2))


def _normalised(
    constraints: LinearisedConstraints, size: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Gradients of unit length (n, k) of the constraints that may be active, their distances (k,), which are equal."""
    lengths = np.linalg.norm(constraints.jacobian, axis=1)
    steep = np.where(lengths > 0, lengths, 1.0)
    distances = np.where(constraints.equal, 0.0, np.abs(constraints.values) / steep / size)
    kept = (lengths > 0) & (distances < 1)
    rows = constraints.jacobian[kept] / steep[kept, None]
    return rows.T, distances[kept], constraints.equal[kept]


def _multipliers(
    gradient: NDArray[np.float64], matrix: NDArray[np.float64], penalties: NDArray[np.float64], equal: NDArray[np.bool_]
) -> NDArray[np.float64] | None:
    """λ, not negative but for equalities, that makes ‖gradient − matrix λ‖² + ‖penalties λ‖² least."""
    stacked = np.concatenate([matrix, np.diag(penalties)])
    both = np.concatenate([stacked, -stacked[:, equal]], axis=1)
    length = float(np.linalg.norm(gradient)) or 1.0
    try:
        found, _ = nnls(both, np.concatenate([gradient / length, np.zeros(len(penalties))]))
    except RuntimeError:
        return None
    multipliers = length * found[: len(penalties)]
    multipliers[equal] -= length * found[len(penalties) :]
    return np.asarray(multipliers)


def tolerances_in_words(rows: Mapping[str, OptionSpec], given: Mapping[str, Any], tol: float | None = None) -> str:
    """The tolerances in force: "gtol=1e-05, ftol=2.22e-09"."""
    named = [(row.name, given.get(row.name, row.default if tol is None else tol)) for row in rows.values()]
    return ", ".join(f"{name}={value:.3g}" for name, value in named if rows[name].tolerance and value is not None)


@dataclass(eq=False)
class EndingCheck:
    """Called with the result of a run: adds `kkt_residual` where there are constraints, and warns of a false success.

    linearised: the constraints at x, None where there are none. tolerances: those in force, in words. violation: of
    bounds and constraints at x; None where there are neither.
    """

    name: str
    objective: Objective
    variables: Variables
    linearised: Callable[[NDArray[np.float64]], LinearisedConstraints | None]
    tolerances: str
    violation: Callable[[NDArray[np.float64]], float] | None

    def __call__(self, result: OptimizeResult) -> None:
        gradient = self._gradient(result)
        if gradient is None or not np.isfinite(gradient).all() or not self.variables.n:
            return
        try:
            vector = self._vector(result.x, gradient)
            if vector is None or not np.isfinite(vector).all():
                return
            if self.violation is not None:
                result.kkt_residual = self._relative(vector, gradient, result.x)
        except (Abort, StopRun):  # a constraint that fails, or a stop that was asked for meanwhile
            return
        if result.success:
            self._warn(result, vector)

    def _gradient(self, result: OptimizeResult) -> NDArray[np.float64] | None:
        """With respect to x, shape (n,); None where neither the run nor its method knows it."""
        point = self.objective.known(result.x)
        if point is not None and point.gradient is not None:
            return point.gradient
        given = next((result[name] for name in ("grad", "jac") if isinstance(result.get(name), np.ndarray)), None)
        return given if given is not None and given.shape == result.x.shape else None

    def _vector(self, x: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64] | None:
        variables = self.variables
        z, slope = variables.to_solver(x), np.asarray(variables.covector(gradient))
        return kkt_vector(slope, z, variables.bounds, self.linearised(x))

    def _relative(self, vector: NDArray[np.float64], gradient: NDArray[np.float64], x: NDArray[np.float64]) -> float:
        """The vector's largest entry beside that of the gradients at the end and the start; or the violation."""
        seen = [gradient] if self.objective.first_gradient is None else [gradient, self.objective.first_gradient]
        largest = max(float(np.max(np.abs(self.variables.covector(g)))) for g in seen)
        stationarity = float(np.max(np.abs(vector))) / largest if largest else 0.0
        return max(stationarity, self.violation(x) if self.violation else 0.0)

    def _warn(self, result: OptimizeResult, vector: NDArray[np.float64]) -> None:
        residual = result.get("kkt_residual", 0.0)
        if self._stalled(result, vector):
            warnings.warn(_UNMOVED_WORDS.format(**self._words(result, vector)), StartWarning, stacklevel=6)
        elif residual > _SMALL_RESIDUAL:
            warnings.warn(_RESIDUAL_WORDS.format(**self._words(result, vector)), ConvergenceWarning, stacklevel=6)

    def _stalled(self, result: OptimizeResult, vector: NDArray[np.float64]) -> bool:
        """Whether the run ended where it began, and the loss could fall by its own size not far away."""
        z, slope = self.variables.to_solver(result.x), float(np.linalg.norm(vector))
        size = float(np.linalg.norm(z)) or 1.0
        moved = float(np.linalg.norm(z - self.variables.start)) > _UNMOVED * size
        return not moved and _NEAR * size * slope < abs(result.fun) < _FAR * size * slope

    def _words(self, result: OptimizeResult, vector: NDArray[np.float64]) -> dict[str, object]:
        slope, residual = float(np.max(np.abs(vector))), result.get("kkt_residual", 0.0)
        words = f"its tolerances ({self.tolerances}) are absolute" if self.tolerances else "its tests are absolute"
        return dict(name=self.name, loss=result.fun, slope=slope, residual=residual, tolerances=words)


_UNMOVED_WORDS = (
    "{name} reports success at the start, without a step, although the gradient ({slope:.3g}) is not small beside the "
    "loss ({loss:.3g}): {tolerances}. Pass loss_scale='auto' or smaller tolerances, start inside the bounds rather "
    "than on them, or choose another method"
)
_RESIDUAL_WORDS = (
    "{name} reports success where the KKT residual is {residual:.2g}, and {tolerances}: this is not a minimum under "
    "the constraints yet. Step again from here, pass loss_scale='auto' or smaller tolerances, start elsewhere, or "
    "choose another method that takes the constraints"
)
