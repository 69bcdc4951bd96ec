"""L-BFGS-B: SciPy's iterates, with correction pairs that stay on the device.

D. C. Liu, J. Nocedal, "On the limited memory BFGS method for large scale optimization", Math. Programming 45 (1989)
503–528; C. Zhu, R. H. Byrd, P. Lu, J. Nocedal, "Algorithm 778: L-BFGS-B", ACM TOMS 23 (1997) 550–560.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..runtime.control import NOISE_FLOOR, Ending
from .box import Box, Model
from .contract import Problem, Sample
from .correction_pairs import CorrectionPairs, InverseHessian
from .lbfgsb_search import EXACT, Losses, Path, Step, search
from .noise import NoisyState
from .vectors import dot

__all__ = ["LBFGSB", "LBFGSBState"]

_ABNORMAL = 2
_AT_FLOOR = int(NOISE_FLOOR.status)

_EXHAUSTED = Ending(1, False, "STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT")
_SPENT = Ending(1, False, "STOP: TOTAL NO. OF F,G EVALUATIONS EXCEEDS LIMIT")
_STATIONARY = Ending(0, True, "CONVERGENCE: NORM OF PROJECTED GRADIENT <= PGTOL")
_FLAT = Ending(0, True, "CONVERGENCE: RELATIVE REDUCTION OF F <= FACTR*EPSMCH")
_FAILED = "ABNORMAL: "

_FTOL = 1e7 * EXACT
_PATIENCE = 100
"""The noise floor: this many iterations, or 4 · maxcor, in which the loss decreased by less than its noise; …"""
_NEGLIGIBLE, _QUIET = 1e-3, 10
"""… or this many successive steps for which the slope predicts less than this fraction of the noise."""


@dataclass(slots=True, kw_only=True)
class LBFGSBState(NoisyState):
    """pairs: the correction pairs. optimality: largest entry of the projected gradient. decrease: of the loss in the
    last step. evaluations: so far, without those that measured the noise. quiet: number of successive steps with a
    predicted decrease far below the noise.
    """

    pairs: CorrectionPairs
    optimality: float
    decrease: float = math.inf
    evaluations: int = 1
    quiet: int = 0

    def __post_init__(self) -> None:
        pairs: Any = self.pairs
        if isinstance(pairs, dict):  # as packed
            self.pairs = CorrectionPairs(**pairs)


class LBFGSB:
    """The options are SciPy's; in float64 the iterates are too.

    Without bounds, numbers come to the host twice an iteration besides the evaluations, and 2 · maxcor + 8 vectors are
    enough. Bounds need more of both: breakpoints are sorted, and the products of the pairs among the free variables are
    computed again in each iteration, see `box`. There the iterates are SciPy's up to rounding.

    ftol: None is SciPy's 2.2e-9 where the loss is computed in float64. Elsewhere it is no tolerance: SciPy's would end
    runs that still gain, as it is absolute for losses below 1, and the noise floor ends them instead. A tolerance that
    is given counts as far as it is above the noise.
    """

    def __init__(
        self,
        *,
        maxcor: int = 10,
        ftol: float | None = None,
        gtol: float = 1e-5,
        maxfun: float = 15000,
        maxiter: float = 15000,
        maxls: int = 20,
    ):
        self.maxcor, self.ftol, self.gtol = maxcor, ftol, gtol
        self.maxfun, self.maxiter, self.maxls = maxfun, maxiter, maxls

    def init(self, problem: Problem) -> LBFGSBState:
        """The state at the start, which is moved into the bounds, without pairs."""
        x, box = problem.start(), Box.of(problem)
        sample = problem.evaluate(x if box is None else box.clip(x))
        pairs = CorrectionPairs.none(problem, self.maxcor)
        return LBFGSBState(sample, pairs=pairs, optimality=_optimality(sample, box))

    def step(self, problem: Problem, state: LBFGSBState) -> LBFGSBState:
        """One iteration. After a failed search, one more search without the pairs."""
        box, losses = Box.of(problem), Losses(problem, state)
        pairs = state.pairs if state.pairs.count else None
        found = self._find(problem, state, box, pairs, losses)
        if found is None and pairs is not None:
            pairs, found = None, self._find(problem, state, box, None, losses)
        state.noise, state.noise_loss = losses.noise, losses.noise_loss
        state.evaluations += losses.evaluations
        if pairs is None:
            state.pairs.clear()
        if found is None:
            state.ended = _AT_FLOOR if losses.lost else _ABNORMAL
        else:
            self._accept(problem, state, found, box)
        return state

    def terminate(self, problem: Problem, state: LBFGSBState) -> Ending | None:
        """The ending, if any, with SciPy's codes and messages."""
        begun, spent = state.iteration > 0, state.evaluations > self.maxfun
        if state.ended == _ABNORMAL:
            return Ending(1 if spent else _ABNORMAL, False, _FAILED)
        if begun and (state.iteration >= self.maxiter or spent):
            return _EXHAUSTED if state.iteration >= self.maxiter else _SPENT
        if state.optimality <= self.gtol:
            return _STATIONARY
        if begun and self._flat(problem, state):
            return _FLAT
        return NOISE_FLOOR if state.ended == _AT_FLOOR else None

    def result(self, state: LBFGSBState) -> dict[str, Any]:
        """hess_inv: SciPy's LbfgsInvHessProduct, made at its first use. noise: of the loss, None if not measured."""
        return {"hess_inv": InverseHessian(state.pairs), "noise": state.noise}

    def _find(
        self, problem: Problem, state: LBFGSBState, box: Box | None, pairs: CorrectionPairs | None, losses: Losses
    ) -> Step | None:
        """A step along the direction of the pairs; None if the search fails."""
        sample, target = state.sample, None
        if box is None:
            direction = -sample.gradient if pairs is None else pairs.direction(sample.gradient)
        else:
            target = _minimizer(sample, box, pairs)
            if target is None:
                return None
            direction = target - sample.x
        slope = dot(sample.gradient, direction).item()
        if not slope < 0:
            return None
        path = Path(problem, sample, direction, slope, box, target)
        return search(path, losses, first=state.iteration == 0, maxls=self.maxls)

    def _accept(self, problem: Problem, state: LBFGSBState, found: Step, box: Box | None) -> None:
        before, after, slope = state.sample, found.sample, found.path.slope
        state.step_norm = state.pairs.learn(before, after, keep=after.slope - slope > problem.eps * -slope)
        state.sample, state.iteration = after, state.iteration + 1
        state.optimality, state.decrease = _optimality(after, box), before.loss - after.loss

        noise = state.noise or 0.0
        state.quiet = state.quiet + 1 if -slope < _NEGLIGIBLE * noise else 0
        if state.noise is None or after.loss < state.lowest - noise:
            state.lowest, state.lowest_at = after.loss, state.iteration
        if state.quiet >= _QUIET or state.iteration - state.lowest_at >= max(_PATIENCE, 4 * self.maxcor):
            state.ended = _AT_FLOOR

    def _flat(self, problem: Problem, state: LBFGSBState) -> bool:
        loss = state.sample.loss
        scale = max(abs(loss), abs(loss + state.decrease), 1.0)
        if problem.eps <= EXACT:
            return state.decrease <= (_FTOL if self.ftol is None else self.ftol) * scale
        tolerance = 0.0 if self.ftol is None else self.ftol * scale
        return state.decrease <= tolerance and tolerance > (state.noise or problem.eps * abs(loss))


def _optimality(sample: Sample, box: Box | None) -> float:
    return sample.largest if box is None else box.optimality(sample)


def _minimizer(sample: Sample, box: Box, pairs: CorrectionPairs | None) -> torch.Tensor | None:
    try:
        return box.minimizer(sample, Model(pairs, sample.x))
    except np.linalg.LinAlgError:
        return None
