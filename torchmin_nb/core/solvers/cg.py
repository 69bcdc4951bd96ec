"""Nonlinear conjugate gradients, Polak–Ribière+: the iterates are SciPy's.

J. C. Gilbert, J. Nocedal, "Global convergence properties of conjugate gradient methods for optimization", SIAM J.
Optimization 2 (1992) 21–42.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from ..runtime.control import Ending
from .contract import Problem, Sample
from .endings import ending, failure
from .line_search import Along, Found, Line, check_constants, first_trial, search
from .noise import NoisySearch, NoisyState
from .scalars import dots, gradient_norm

__all__ = ["CG", "CGState"]

_DESCENT = 0.01
"""Smallest |gᵀp|/‖g‖² of the next direction p: σ₃ of Gilbert and Nocedal."""


@dataclass(slots=True, kw_only=True)
class CGState(NoisyState):
    """direction: of the next search, shape (n,); slope: its product with the gradient; square: its product with itself.

    previous_loss: the loss one iteration ago, for the first trial of a search.
    """

    direction: torch.Tensor
    slope: float
    square: float
    previous_loss: float


class CG:
    """Polak–Ribière+ with a check of descent in the line search. The options are those of SciPy's CG."""

    def __init__(
        self,
        *,
        gtol: float = 1e-5,
        norm: float = math.inf,
        maxiter: int | None = None,
        c1: float = 1e-4,
        c2: float = 0.4,
    ):
        check_constants(c1, c2)
        self.gtol, self.norm, self.maxiter = gtol, norm, maxiter
        self.c1, self.c2 = c1, c2

    def init(self, problem: Problem) -> CGState:
        """The state at the start, with the direction of steepest descent."""
        sample = problem.evaluate(problem.start())
        return CGState(sample, **Along.steepest(sample)._asdict(), previous_loss=sample.loss + sample.norm / 2)

    def step(self, problem: Problem, state: CGState) -> CGState:
        """One iteration."""
        before, along = state.sample, Along(state.direction, state.slope, state.square)
        noisy = NoisySearch.of(problem, state, self.c2, as_scipy=True)
        found, following = self._search(problem, state, along, noisy)
        if found is None and noisy is not None:
            along = Along.steepest(before)
            found, following = self._search(problem, state, along, noisy)
        if noisy is not None:
            noisy.store(state)
        if found is None:
            state.ended = failure(state.noise)
            return state
        beta, slope = following.of(*found)
        after = found.sample
        state.direction = along.direction.mul_(beta).sub_(after.gradient)
        state.slope = slope
        state.square = max(after.norm**2 - 2 * beta * after.slope + beta**2 * along.square, 0.0)
        state.sample, state.previous_loss = after, before.loss
        state.iteration, state.step_norm = state.iteration + 1, found.step * math.sqrt(along.square)
        if noisy is not None and noisy.stagnates(state) and gradient_norm(after, self.norm) > self.gtol:
            state.ended = failure(state.noise)
        return state

    def terminate(self, problem: Problem, state: CGState) -> Ending | None:
        """The ending, if any: with SciPy's codes and messages, or at the noise floor."""
        maxiter = 200 * problem.n if self.maxiter is None else self.maxiter
        return ending(state, gradient_norm(state.sample, self.norm), gtol=self.gtol, maxiter=maxiter)

    def result(self, state: CGState) -> dict[str, Any]:
        """noise: of the loss, where it was measured."""
        return {"noise": state.noise}

    def _search(
        self, problem: Problem, state: CGState, along: Along, noisy: NoisySearch | None
    ) -> tuple[Found | None, _Following]:
        line = Line(problem, state.sample, along.direction, along.slope)
        following = _Following(self, state.sample)

        def ordinary() -> Found | None:
            return search(line, state.previous_loss, c1=self.c1, c2=self.c2, accepts=following.descends)

        if noisy is None:
            return ordinary(), following
        # The last decrease of the loss may be noise. Then it does not help to choose the next step: the length is
        # repeated.
        repeated = state.noise is not None and along.square > 0
        step = state.step_norm / math.sqrt(along.square) if repeated else first_trial(line, state.previous_loss)
        return noisy.find(line, step, ordinary, following.descends), following


class _Following:
    """The direction that would follow a step: β and its slope. The last one is kept."""

    def __init__(self, solver: CG, before: Sample):
        self._solver, self._before = solver, before
        self._step = math.nan
        self._values = (0.0, 0.0)

    def of(self, step: float, sample: Sample) -> tuple[float, float]:
        """β, and the slope of β·direction − gradient, after a step that leads to the sample."""
        if step != self._step:
            (product,) = dots((sample.gradient - self._before.gradient, sample.gradient))
            beta = max(0.0, product / self._before.norm**2)
            self._step, self._values = step, (beta, beta * sample.slope - sample.norm**2)
        return self._values

    def descends(self, step: float, sample: Sample) -> bool:
        """Whether the direction descends enough, or the run has converged and needs no direction."""
        _, slope = self.of(step, sample)
        return gradient_norm(sample, self._solver.norm) <= self._solver.gtol or slope <= -_DESCENT * sample.norm**2
