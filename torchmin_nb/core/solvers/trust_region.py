"""The loop of all trust-region methods, with SciPy's acceptance, radius and endings.

J. Nocedal, S. J. Wright, "Numerical Optimization", second edition (2006), algorithm 4.1, with SciPy's constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypedDict

import torch

from ...errors import ArgumentError
from ..runtime.control import Ending
from .contract import Problem, Sample, State
from .vectors import stands

__all__ = ["Proposal", "Subproblem", "TrustRegion", "TrustRegionOptions", "TrustRegionState", "to_sphere"]

_NO_REDUCTION, _NOT_SOLVED = 2, 3
_ENDINGS = {
    0: Ending(0, True, "Optimization terminated successfully."),
    1: Ending(1, False, "Maximum number of iterations has been exceeded."),
    _NO_REDUCTION: Ending(_NO_REDUCTION, False, "A bad approximation caused failure to predict improvement."),
    _NOT_SOLVED: Ending(_NOT_SOLVED, False, "A linalg error occurred, such as a non-psd Hessian."),
}


class TrustRegionOptions(TypedDict, total=False):
    """SciPy's options of these methods."""

    initial_trust_radius: float
    max_trust_radius: float
    eta: float
    gtol: float
    maxiter: int | None


class Proposal(NamedTuple):
    """A step p within the radius.

    step: shape (n,), valid until the next step is computed. length: its 2-norm. slope, curvature: gᵀp and pᵀHp, for
    the predicted reduction. keep: the model for a shorter step from the same point.
    """

    step: torch.Tensor
    length: float
    on_boundary: bool
    slope: float
    curvature: float
    keep: Callable[[], dict[str, Any]]


class Subproblem(Protocol):
    """The computation of a step."""

    def model(self, problem: Problem, sample: Sample) -> dict[str, Any]:
        """Tensors and numbers for all steps from this point: a Hessian, possibly factorised; or empty."""
        ...

    def solve(self, problem: Problem, sample: Sample, model: dict[str, Any], radius: float) -> Proposal | None:
        """A step within the radius that decreases the quadratic model; None if there is none."""
        ...


@dataclass(slots=True)
class TrustRegionState(State):
    """model: the data of the subproblem at this point, as tensors, numbers and lists of them.

    rejected_loss: the loss at the last trial, if it was rejected and is within the new radius: the same step will be
    proposed again.
    """

    model: dict[str, Any] = field(default_factory=dict)
    rejected_loss: float | None = None


class TrustRegion:
    """A trust-region method with SciPy's options; subclasses compute a step.

    maxiter: None means 200·n.
    """

    state_class = TrustRegionState

    def __init__(
        self,
        subproblem: Subproblem,
        *,
        initial_trust_radius: float = 1.0,
        max_trust_radius: float = 1000.0,
        eta: float = 0.15,
        gtol: float = 1e-4,
        maxiter: int | None = None,
    ):
        if not 0 < initial_trust_radius < max_trust_radius:
            raise ArgumentError(
                f"initial_trust_radius={initial_trust_radius:g} must be above 0 and below max_trust_radius, "
                f"{max_trust_radius:g}: set a larger max_trust_radius, or a smaller initial_trust_radius"
            )
        if not 0 <= eta < 0.25:
            raise ArgumentError(f"eta={eta:g} must be at least 0 and below 0.25; default 0.15")
        self._subproblem = subproblem
        self._radii = initial_trust_radius, max_trust_radius
        self._eta, self._gtol, self._maxiter = eta, gtol, maxiter

    def init(self, problem: Problem) -> TrustRegionState:
        """The state at the start: one evaluation, and the Hessian if the method uses it."""
        sample = problem.evaluate(problem.start())
        return TrustRegionState(sample, radius=self._radii[0], model=self._subproblem.model(problem, sample))

    def step(self, problem: Problem, state: TrustRegionState) -> TrustRegionState:
        """One trial, accepted or rejected."""
        sample, radius = state.sample, state.radius
        assert radius is not None
        found = self._subproblem.solve(problem, sample, state.model, radius)
        if found is None:
            state.ended = _NOT_SOLVED
            return state
        # The same sum as in SciPy, with its rounding: it ends the run when the loss cannot decrease any more.
        predicted = sample.loss - ((sample.loss + found.slope) + 0.5 * found.curvature)
        trial = self._trial(problem, state, found, predicted)
        if predicted <= 0:
            state.ended = _NO_REDUCTION
            return state
        ratio = (sample.loss - trial.loss) / predicted
        accepted = ratio > self._eta
        state.model = self._subproblem.model(problem, trial) if accepted else found.keep()
        state.radius = self._next_radius(radius, ratio, found.on_boundary)
        again = not accepted and not found.on_boundary and found.length < state.radius
        state.rejected_loss = trial.loss if again else None
        state.sample, state.step_norm = (trial, found.length) if accepted else (sample, 0.0)
        state.ratio, state.accepted = ratio, accepted
        state.iteration += 1
        return state

    def _trial(self, problem: Problem, state: TrustRegionState, found: Proposal, predicted: float) -> Sample:
        """The trial of a step. As in SciPy, the same trial is not evaluated twice in succession."""
        if state.rejected_loss is not None and not found.on_boundary:
            known = copy(state.sample)
            known.loss = state.rejected_loss
            return known
        x = state.sample.x + found.step
        return state.sample if stands(state.sample, x, predicted) else problem.evaluate(x)

    def terminate(self, problem: Problem, state: TrustRegionState) -> Ending | None:
        """SciPy's status and message, or None."""
        if state.ended is not None:
            return _ENDINGS[state.ended]
        if not state.sample.norm >= self._gtol:
            return _ENDINGS[0]
        limit = 200 * problem.n if self._maxiter is None else self._maxiter
        return _ENDINGS[1] if state.iteration >= max(limit, 1) else None  # SciPy's loop counts after the first step

    def result(self, state: TrustRegionState) -> dict[str, Any]:
        """The fields of the result: `hess`, if the method uses the Hessian."""
        return {"hess": state.model["hessian"]} if "hessian" in state.model else {}

    def _next_radius(self, radius: float, ratio: float, on_boundary: bool) -> float:
        if ratio < 0.25:
            return 0.25 * radius
        return min(2 * radius, self._radii[1]) if ratio > 0.75 and on_boundary else radius


def to_sphere(products: Sequence[float], radius: float) -> tuple[float, float]:
    """Both t, the lower first, for which p + t·d is of length `radius`; of the products p·p, p·d and d·d.

    G. H. Golub, C. F. Van Loan, "Matrix computations": the form that loses no digits.
    """
    pp, pd, a = products
    b, c = 2 * pd, pp - radius**2
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    aux = b + math.copysign(root, b)
    first, second = -aux / (2 * a), -2 * c / aux
    return min(first, second), max(first, second)
