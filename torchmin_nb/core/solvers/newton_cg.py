"""Newton-CG: Newton's step by conjugate gradients that stop early, then a line search; SciPy's iterates.

J. Nocedal, S. J. Wright, "Numerical Optimization", second edition (2006), algorithm 7.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ...errors import ArgumentError
from ..runtime.control import Ending
from .contract import Problem, Sample, State
from .line_search import Line, search
from .vectors import dot, finite_curvature, norm1, numbers

__all__ = ["NewtonCG", "NewtonCGState"]

_LOST, _NOT_CONVERGED = 2, 3
_SUCCESS = Ending(0, True, "Optimization terminated successfully.")
_EXHAUSTED = Ending(1, False, "Warning: Maximum number of iterations has been exceeded.")
_UNDEFINED = Ending(3, False, "NaN result encountered.")
_FAILED = {
    _LOST: Ending(_LOST, False, "Warning: Desired error not necessarily achieved due to precision loss."),
    _NOT_CONVERGED: Ending(
        _NOT_CONVERGED, False, "Warning: CG iterations didn't converge. The Hessian is not positive definite."
    ),
}
_FLAT = 3 * 2.0**-52
"""Curvature up to this counts as zero, as in SciPy."""
_STEPS = 1e-8, 50.0
"""Bounds of a step in the first line search, as in SciPy."""


@dataclass(slots=True)
class NewtonCGState(State):
    """previous_loss: the loss one iteration ago, for the first trial of a search. moved: 1-norm of the last step."""

    previous_loss: float = math.inf
    moved: float = math.inf


class _Direction(NamedTuple):
    """vector: shape (n,), valid until the next one. slope: its product with the gradient. norm1, norm2: its norms."""

    vector: torch.Tensor
    slope: float
    norm1: float
    norm2: float


class NewtonCG:
    """The options are those of SciPy's Newton-CG. Products only. maxiter: None means 200·n."""

    def __init__(self, *, xtol: float = 1e-5, maxiter: int | None = None, c1: float = 1e-4, c2: float = 0.9):
        if not 0 < c1 < c2 < 1:
            raise ArgumentError(f"c1={c1:g} and c2={c2:g} must be 0 < c1 < c2 < 1; default 1e-4 and 0.9")
        self._xtol, self._maxiter, self._c1, self._c2 = xtol, maxiter, c1, c2

    def init(self, problem: Problem) -> NewtonCGState:
        """The state at the start, with one evaluation."""
        return NewtonCGState(problem.evaluate(problem.start()))

    def step(self, problem: Problem, state: NewtonCGState) -> NewtonCGState:
        """One iteration."""
        sample, direction = state.sample, _direction(problem, state.sample)
        if direction is None:
            state.ended = _NOT_CONVERGED
            return state
        line = Line(problem, sample, direction.vector, direction.slope)
        found = search(line, state.previous_loss, c1=self._c1, c2=self._c2, bounds=_STEPS)
        if found is None:
            state.ended = _LOST
            return state
        state.sample, state.previous_loss = found.sample, sample.loss
        state.iteration, state.step_norm = state.iteration + 1, found.step * direction.norm2
        state.moved = found.step * direction.norm1
        return state

    def terminate(self, problem: Problem, state: NewtonCGState) -> Ending | None:
        """SciPy's status and message, or None."""
        if state.ended is not None:
            return _FAILED[state.ended]
        if not state.moved > problem.n * self._xtol:
            return _UNDEFINED if math.isnan(state.moved) or math.isnan(state.sample.loss) else _SUCCESS
        limit = 200 * problem.n if self._maxiter is None else self._maxiter
        return _EXHAUSTED if state.iteration >= limit else None

    def result(self, state: NewtonCGState) -> dict[str, Any]:
        """No other fields."""
        return {}


def _direction(problem: Problem, sample: Sample) -> _Direction | None:
    """An approximate Newton step; None if conjugate gradients do not converge."""
    vector = _conjugate_gradients(problem, sample)
    if vector is None:
        return None
    slope, length, square = numbers(dot(sample.gradient, vector), norm1(vector), dot(vector, vector))
    return _Direction(vector, slope, length, math.sqrt(square))


def _conjugate_gradients(problem: Problem, sample: Sample) -> torch.Tensor | None:
    """The step p. r: the gradient of the model there. s: the search direction, negated, which saves a pass."""
    r = s = sample.gradient
    p: torch.Tensor | None = None
    rr = dot(r, r)
    left, square = numbers(norm1(r), rr)
    enough = min(0.5, math.sqrt(left)) * left
    for _ in range(20 * problem.n):
        if left <= enough:
            return torch.zeros_like(r) if p is None else p
        product = problem.product(sample, s)
        curving = dot(s, product)
        alpha = rr / curving
        r = torch.addcmul(r, product, alpha, value=-1, out=None if p is None else r)
        next_rr = dot(r, r)
        curvature, left, next_square = numbers(curving, norm1(r), next_rr)
        finite_curvature(curvature)
        if curvature <= _FLAT:
            return p if p is not None else sample.gradient * (square / curvature if curvature < 0 else 0.0)
        if p is None:
            p = s * -alpha
            s = torch.addcmul(r, s, next_rr / rr)
        else:
            p.addcmul_(s, alpha, value=-1)
            torch.addcmul(r, s, next_rr / rr, out=s)
        rr, square = next_rr, next_square
    return None
