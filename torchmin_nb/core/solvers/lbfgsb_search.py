"""The line search of L-BFGS-B: within bounds, and also in the noise of a loss that is not computed in float64.

J. J. Moré, D. J. Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM TOMS 20 (1994) 286–307;
W. W. Hager, H. Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line search", SIAM J.
Optim. 16 (2005) 170–192.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from .box import Box
from .contract import Problem, Sample
from .line_search import Line, MoreThuente, Task
from .noise import NoisyState, changed, measure

__all__ = ["EXACT", "Losses", "Path", "Step", "search"]

EXACT = torch.finfo(torch.float64).eps
"""For a loss that is computed with this machine epsilon, noise is ignored."""

_DECREASE, _CURVATURE, _WIDTH = 1e-3, 0.9, 0.1
_LONGEST = 1e10
_LOST = 10.0
"""Changes of the loss up to this multiple of its noise count as noise."""
_SMALL = 1e-2
"""Changes up to this fraction of the loss are compared with the prediction of the slopes."""
_AGAIN = 0.25
"""The noise is measured again after the loss has changed by this factor, in either direction."""


class Path(Line):
    """A line within bounds. target: the exact point at step 1, None without bounds."""

    def __init__(
        self,
        problem: Problem,
        start: Sample,
        direction: torch.Tensor,
        slope: float,
        box: Box | None = None,
        target: torch.Tensor | None = None,
    ):
        super().__init__(problem, start, direction, slope)
        self._box, self._target = box, target

    def longest(self, first: bool) -> float:
        """The longest step: to the first bound; 1 in the first iteration."""
        if self._box is None:
            return _LONGEST
        room = 1.0 if first else self._box.room(self.start.x, self.direction).min().item()
        return min(max(room, 1.0), _LONGEST)

    def trial(self, first: bool) -> float:
        """The first trial step."""
        closed = self._box is not None and self._box.closed
        if not first or closed:
            return 1.0
        return min(1 / float(torch.linalg.vector_norm(self.direction)), self.longest(first))

    def knows(self, step: float) -> bool:
        """Whether `at` needs no evaluation."""
        return step == self._step

    def at(self, step: float) -> Sample:
        """The sample at a step. The sample at the last step is freed before, to save memory."""
        if not self.knows(step):
            self._sample, self._step = None, math.nan
            self._sample = self._problem.evaluate(self._point(step), self.direction)
            self._step = step
        return self._sample or self._at_start()

    def _point(self, step: float) -> torch.Tensor:
        if self._target is not None and step == 1:
            return self._target
        x = torch.add(self.start.x, self.direction, alpha=step)
        return x if self._box is None else self._box.clip(x)


class Losses:
    """The loss for a search: in float64 the loss itself, or a large finite value if it is infinite.

    In other dtypes, if a change of the loss is below its noise, the change is predicted from the slopes at both ends
    by the trapezoidal rule. Then the Wolfe conditions are the approximate ones of Hager and Zhang. The noise is
    measured when losses and slopes first contradict each other, or when a search fails. lost: whether the change at
    the last trial was below the noise.
    """

    def __init__(self, problem: Problem, state: NoisyState):
        self.exact, self.lost, self.evaluations = problem.eps <= EXACT, False, 0
        self.noise, self.noise_loss = state.noise, state.noise_loss
        self._problem = problem

    def seen(self, path: Path, step: float) -> tuple[float, float]:
        """The loss for the search at a step, and the slope."""
        self.evaluations += not path.knows(step)
        trial, start = path.at(step), path.start.loss
        if not math.isfinite(trial.loss):
            return start + 10 * (1 + abs(start)), trial.slope
        if self.exact:
            return trial.loss, trial.slope
        promised, change = start + step * (path.slope + trial.slope) / 2, abs(trial.loss - start)
        if self._unknown(start):
            wanted = start + _DECREASE * step * path.slope
            contradiction = (trial.loss <= wanted) != (promised <= wanted) and change <= _SMALL * abs(start)
            if contradiction or self._hides(change):
                self.measure(path)
        self.lost = self._hides(change)
        return promised if self.lost else trial.loss, trial.slope

    def measure(self, path: Path) -> bool:
        """Measure the noise at the start of a path. Returns False if it is known already, or not needed."""
        start = path.start.loss
        if self.exact or not self._unknown(start):
            return False
        noise, self.noise_loss = measure(self._problem, path.start, path.direction), start
        self.noise = self._problem.eps * abs(start) if noise is None else noise
        return True

    def _unknown(self, loss: float) -> bool:
        return self.noise is None or changed(loss, self.noise_loss, _AGAIN)

    def _hides(self, change: float) -> bool:
        return self.noise is not None and change <= _LOST * self.noise


class Step(NamedTuple):
    """A step that was accepted, and the sample to which it leads."""

    step: float
    sample: Sample
    path: Path


def search(path: Path, losses: Losses, *, first: bool, maxls: int) -> Step | None:
    """A step that satisfies the strong Wolfe conditions, or the best step if rounding stops the search.

    first: whether this is the first iteration. maxls: largest number of trials. None if no step was found.
    """
    found = _search(path, losses, first, maxls)
    return _search(path, losses, first, maxls) if found is None and losses.measure(path) else found


def _search(path: Path, losses: Losses, first: bool, maxls: int) -> Step | None:
    trials = MoreThuente(
        path.start.loss,
        path.slope,
        path.trial(first),
        ftol=_DECREASE,
        gtol=_CURVATURE,
        xtol=_WIDTH,
        stpmin=0.0,
        stpmax=path.longest(first),
    )
    for _ in range(maxls):
        step = trials.step
        if trials.feed(*losses.seen(path, step)) is not Task.EVALUATE:
            usable = math.isfinite(trials.step) and (step > 0 or losses.exact)
            return Step(step, path.at(step), path) if usable else None
    return None
