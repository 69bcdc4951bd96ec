"""The base of quasi-Newton methods with a dense inverse Hessian: the line search, and the endings."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch

from ...errors import ArgumentError
from ..runtime.control import Ending
from .contract import Problem, Sample
from .endings import CONVERGED, PRECISION_LOSS, ending, failure
from .line_search import Along, Found, Line, check_constants, first_trial, search
from .noise import NoisySearch, NoisyState
from .scalars import dots, gradient_norm

__all__ = ["Change", "QuasiNewton", "QuasiNewtonState"]


@dataclass(slots=True, kw_only=True)
class QuasiNewtonState(NoisyState):
    """previous_loss: the loss one iteration ago, for the first trial of a search."""

    previous_loss: float


class Change(NamedTuple):
    """An iteration: the step s = `step`·d and the change y of the gradient, shape (n,), and the values before.

    image: the second result of `direction`.
    """

    s: torch.Tensor
    y: torch.Tensor
    step: float
    along: Along
    image: torch.Tensor


_S = TypeVar("_S", bound=QuasiNewtonState)


class QuasiNewton(ABC, Generic[_S]):
    """A line search along −Hg, then an update of H. The options are those of SciPy's BFGS.

    If the search fails, or the decrease is below the noise, it continues by slopes, then from H = I; as_scipy: not in
    float64.
    """

    as_scipy: ClassVar[bool] = False

    def __init__(
        self,
        *,
        gtol: float = 1e-5,
        norm: float = math.inf,
        maxiter: int | None = None,
        xrtol: float = 0.0,
        c1: float = 1e-4,
        c2: float = 0.9,
        hess_inv0: Any = None,
    ):
        check_constants(c1, c2)
        self.gtol, self.norm, self.maxiter, self.xrtol = gtol, norm, maxiter, xrtol
        self.c1, self.c2, self.hess_inv0 = c1, c2, hess_inv0

    @abstractmethod
    def begin(self, sample: Sample, hess_inv0: torch.Tensor) -> _S:
        """The state at the start; hess_inv0: symmetric and positive definite, shape (n, n), may be kept."""

    @abstractmethod
    def direction(self, state: _S) -> tuple[Along, torch.Tensor]:
        """−Hg, and a vector that `learn` needs."""

    @abstractmethod
    def learn(self, state: _S, change: Change) -> None:
        """Update H."""

    @abstractmethod
    def reset(self, state: _S) -> None:
        """H = I."""

    @abstractmethod
    def inverse_hessian(self, state: _S) -> torch.Tensor:
        """H, shape (n, n)."""

    def init(self, problem: Problem) -> _S:
        """The state at the start, with hess_inv0 or the identity."""
        hess_inv0 = _checked(self.hess_inv0, problem)
        return self.begin(problem.evaluate(problem.start()), hess_inv0)

    def step(self, problem: Problem, state: _S) -> _S:
        """One iteration."""
        before = state.sample
        along, image = self.direction(state)
        noisy = NoisySearch.of(problem, state, self.c2, as_scipy=self.as_scipy)
        found = self._search(Line(problem, before, along.direction, along.slope), state.previous_loss, noisy, 1.0)
        reset = found is None and noisy is not None
        if reset:
            along, previous_loss = Along.steepest(before), before.loss + before.norm / 2
            line = Line(problem, before, along.direction, along.slope)
            found = self._search(line, previous_loss, noisy, first_trial(line, previous_loss))
        if noisy is not None:
            noisy.store(state)
        if found is None:
            state.ended = failure(state.noise)
            return state
        if reset:
            self.reset(state)
            along, image = self.direction(state)
        state.sample, state.previous_loss = found.sample, before.loss
        state.iteration, state.step_norm = state.iteration + 1, found.step * math.sqrt(along.square)
        if gradient_norm(state.sample, self.norm) > self.gtol:
            state.ended = self._ended(state, noisy)
            if state.ended is None:
                s, y = state.sample.x - before.x, state.sample.gradient - before.gradient
                self.learn(state, Change(s, y, found.step, along, image))
        return state

    def terminate(self, problem: Problem, state: _S) -> Ending | None:
        """The ending, if any: with SciPy's codes and messages, or at the noise floor."""
        maxiter = 200 * problem.n if self.maxiter is None else self.maxiter
        return ending(state, gradient_norm(state.sample, self.norm), gtol=self.gtol, maxiter=maxiter)

    def result(self, state: _S) -> dict[str, Any]:
        """hess_inv: the inverse Hessian. noise: of the loss, if it was measured."""
        return {"hess_inv": self.inverse_hessian(state), "noise": state.noise}

    def _search(self, line: Line, previous_loss: float, noisy: NoisySearch | None, step: float) -> Found | None:
        def ordinary() -> Found | None:
            return search(line, previous_loss, c1=self.c1, c2=self.c2)

        return ordinary() if noisy is None else noisy.find(line, step, ordinary)

    def _ended(self, state: _S, noisy: NoisySearch | None) -> int | None:
        length = math.sqrt(dots((state.sample.x, state.sample.x))[0]) if self.xrtol > 0 else 0.0
        if state.step_norm <= self.xrtol * (self.xrtol + length):
            return CONVERGED
        if not math.isfinite(state.sample.loss):
            return PRECISION_LOSS
        return failure(state.noise) if noisy is not None and noisy.stagnates(state) else None


def _checked(hess_inv0: Any, problem: Problem) -> torch.Tensor:
    """The user's matrix as a new tensor; the identity without one.

    Rounding may have changed small eigenvalues of a matrix from an earlier run: they are raised above rounding.
    """
    if hess_inv0 is None:
        return torch.eye(problem.n, dtype=problem.dtype, device=problem.device)
    matrix = torch.as_tensor(hess_inv0, dtype=problem.dtype, device=problem.device).clone()
    shape = (problem.n, problem.n)
    if matrix.shape != shape:
        raise ArgumentError(f"hess_inv0 has shape {tuple(matrix.shape)}, but for these parameters it must be {shape}")
    if not torch.equal(matrix, matrix.T):
        raise ArgumentError("hess_inv0 is not symmetric; (A + A.T) / 2 is")
    low, high = torch.linalg.eigvalsh(matrix)[[0, -1]].tolist()
    rounding = 10 * problem.n * torch.finfo(problem.dtype).eps * high
    if not low > -rounding:
        raise ArgumentError(f"hess_inv0 must be positive definite, but it has an eigenvalue of {low:.3g}")
    if low < rounding:
        matrix.diagonal().add_(rounding - low)
    return matrix
