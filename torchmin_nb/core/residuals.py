"""The residuals SciPy's least squares sees, and their Jacobian, from one closure.

The cost is an `Objective` of its own: counts, memo, best point, budgets and events are those of every other run. What is
added here is the vector behind the cost, and its derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import ArgumentError, ClosureError
from .closure import Closure, math_attention
from .control import Control
from .jacobian import DenseJacobian, JacobianGraph
from .objective import Derivatives, Objective

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .flat import FlatParameters

__all__ = ["Cost", "Residuals", "Trial", "as_residuals"]

_MEMO = 2
_RHO: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "linear": (lambda z: z, np.ones_like),
    "soft_l1": (lambda z: 2 * (np.sqrt(1 + z) - 1), lambda z: 1 / np.sqrt(1 + z)),
    "huber": (
        lambda z: np.where(z <= 1, z, 2 * np.sqrt(z) - 1),
        lambda z: 1 / np.sqrt(np.maximum(z, 1)),
    ),
    "cauchy": (np.log1p, lambda z: 1 / (1 + z)),
    "arctan": (np.arctan, lambda z: 1 / (1 + z**2)),
}


class Cost:
    """F = ½ C² Σ ρ((f/C)²), the cost of residuals f; C is `f_scale`, ρ the loss.

    loss: a name of SciPy's, or a callable that returns ρ, ρ' and ρ'' as an array of shape (3, m).
    Source: Triggs et al., "Bundle adjustment: a modern synthesis" (1999); scipy.optimize.least_squares.
    """

    def __init__(self, loss: str | Callable[..., Any] = "linear", f_scale: float = 1.0):
        self._loss = loss
        self._scale = f_scale

    def value(self, f: NDArray[np.float64]) -> float:
        """F(f)."""
        if self._loss == "linear":
            with np.errstate(over="ignore", invalid="ignore"):
                return 0.5 * float(f @ f)
        return 0.5 * self._scale**2 * float(np.sum(self._rho(f)[0]))

    def weighted(self, f: NDArray[np.float64]) -> NDArray[np.float64]:
        """dF/df = ρ' f, shape (m,)."""
        return f.copy() if self._loss == "linear" else self._rho(f)[1] * f

    def _rho(self, f: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        with np.errstate(all="ignore"):
            z = (f / self._scale) ** 2
            if isinstance(self._loss, str):
                rho, slope = _RHO[self._loss]
                return rho(z), slope(z)
            found = np.asarray(self._loss(z))
        if found.shape != (3, f.size):
            raise ArgumentError(
                f"the loss callable returned shape {found.shape} for {f.size} residuals; it must return rho, its first "
                f"and its second derivative: shape (3, {f.size})"
            )
        return found[0], found[1]


@dataclass(eq=False, slots=True)
class Trial:
    """One evaluated point: x (n,), residuals (m,), their graph until the Jacobian is made, and what was made of it."""

    x: NDArray[np.float64]
    residuals: NDArray[np.float64]
    cost: float
    graph: JacobianGraph | None
    gradient: NDArray[np.float64] | None = None
    jacobian: NDArray[np.float64] | None = None


class Residuals:
    """residuals and jacobian of a closure, as functions of a float64 vector of shape (n,).

    plan: given (m, n) at the first closure call, answers "dense" or "operator", or refuses.
    `objective` is the cost; `objective.counts.nhvp` counts products with an operator.
    """

    def __init__(
        self,
        closure: Closure,
        flat: FlatParameters,
        control: Control,
        *,
        cost: Cost,
        plan: Callable[[int, int], str],
        watch_first: bool = True,
    ):
        self._closure = closure
        self._flat = flat
        self._cost = cost
        self._plan = plan
        self.objective = Objective(self._evaluated_cost, flat, Derivatives("value"), control, watch_first=watch_first)
        self.mode = ""
        self.m = 0
        self._trials: list[Trial] = []
        self._linearised: Trial | None = None
        self._dense: DenseJacobian | None = None

    # What SciPy calls

    def values(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The residuals at x, shape (m,); NaN, from which all methods step back, where the cost is not finite."""
        trial = self._at(x)
        return trial.residuals.copy() if np.isfinite(trial.cost) else np.full(self.m, np.nan)

    def jacobian(self, x: NDArray[np.float64]) -> Trial:
        """The point at x with its derivative: `gradient` of the cost, and a dense `jacobian` where that is the plan."""
        trial = self._at(x)
        if trial is not self._linearised:
            if trial.graph is None:
                trial = self._again(trial)
            self.objective.requests.njev += 1
            self._linearise(trial)
            self._tell_gradient(trial)
        return trial

    def product(self, trial: Trial, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """J v, shape (m,)."""
        return self._operate(trial, lambda graph: graph.product(v))

    def transposed_product(self, trial: Trial, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Jᵀu, shape (n,)."""
        return self._operate(trial, lambda graph: graph.transposed_product(u))

    # What endings read

    def known(self, x: NDArray[np.float64]) -> Trial | None:
        """The remembered point at x, if any. Never evaluates."""
        kept = self._trials if self._linearised is None else [self._linearised, *self._trials]
        return next((trial for trial in reversed(kept) if np.array_equal(trial.x, x)), None)

    def release(self) -> None:
        """Drop all graphs."""
        for trial in (*self._trials, self._linearised):
            if trial is not None:
                trial.graph = None

    # Evaluation

    def _at(self, x: NDArray[np.float64]) -> Trial:
        x = np.array(x, dtype=np.float64).ravel()
        self.objective.requests.nfev += 1
        trial = self.known(x)
        if trial is None:
            self.objective.value(x)
            self.objective.requests.nfev -= 1
            trial = self.known(x)
        assert trial is not None
        return trial

    def _again(self, trial: Trial) -> Trial:
        """Its graph is gone: one closure call, outside the events."""
        self.objective.control.before_evaluation(self.objective.counts.nfev)
        self.objective.place(trial.x)
        self.objective.counts.nfev += 1
        trial.graph = self._graph(self._called())
        return trial

    def _evaluated_cost(self) -> float:
        """The closure of the cost. Its first call also linearises, which fills `.grad`: the start is always wanted."""
        vector = self._called()
        residuals = vector.detach().to("cpu", torch.float64).numpy().copy()
        first = not self.mode
        if first:
            self.m, self.mode = residuals.size, self._plan(residuals.size, self._flat.n)
        if residuals.size != self.m:
            raise ClosureError(f"the closure returned {residuals.size} residuals, and {self.m} at the start")
        trial = Trial(self._flat.read(), residuals, self._cost.value(residuals), self._graph(vector))
        self._remember(trial)
        if first and np.isfinite(trial.cost):
            self.objective.requests.njev += 1
            self._linearise(trial)
            assert trial.gradient is not None
            for tensor, part in zip(self._flat.tensors, self._flat.scatter(trial.gradient), strict=True):
                tensor.grad = part
        return trial.cost

    def _called(self) -> torch.Tensor:
        with torch.enable_grad(), math_attention():
            return as_residuals(self._closure())

    def _graph(self, vector: torch.Tensor) -> JacobianGraph:
        if not vector.requires_grad:
            raise ClosureError(
                "the residuals do not depend on the parameters: compute them from the very tensors given to the "
                "optimizer, without .detach(), .item() or torch.no_grad() on the way"
            )
        return JacobianGraph(vector, self._flat)

    def _remember(self, trial: Trial) -> None:
        self._trials.append(trial)
        del self._trials[:-_MEMO]
