"""The noise of a computed loss, and line searches that continue when changes of the loss are below it.

The noise is the standard deviation of the error from rounding, or from a closure that is not deterministic:
J. J. Moré, S. M. Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33 (2011) 1292–1314. The searches:
W. W. Hager, H. Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line search", SIAM J.
Optim. 16 (2005) 170–192.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from .contract import Problem, Sample, State
from .line_search import Accepts, Found, Line
from .scalars import dots

__all__ = ["NoisySearch", "NoisyState", "changed", "difference_table", "measure"]

_LOST = 10.0
"""Changes of the loss up to this many standard deviations of its noise count as noise."""
_PATIENCE = 100
"""Number of iterations without a decrease above the noise after which a run ends."""
_TRIALS = 20
_AGAIN = 0.5
"""The noise is measured again after the loss has changed by this factor."""


@dataclass(slots=True, kw_only=True)
class NoisyState(State):
    """noise: standard deviation of the noise when the loss was `noise_loss`; None if not measured.

    lowest: the loss after the last decrease by more than the noise, in iteration `lowest_at`.
    """

    noise: float | None = None
    noise_loss: float = math.inf
    lowest: float = math.inf
    lowest_at: int = 0


def measure(problem: Problem, sample: Sample, direction: torch.Tensor) -> float | None:
    """The noise in the loss near a sample, in units of the loss: 7 to 21 evaluations on a line through it.

    The sample itself is one of the points, so it is evaluated again. If the loss does not change, the noise is its
    rounding. None if the noise cannot be separated from the loss.
    """
    reach, length = dots((sample.x, sample.x), (direction, direction))
    spacing = 10 * problem.eps * math.sqrt((reach or 1.0) / length)
    for _ in range(3):
        losses = [problem.evaluate(_within(problem, sample.x, direction, i * spacing)).loss for i in range(-3, 4)]
        noise, factor = difference_table(losses)
        if noise is not None:
            return noise
        spacing *= factor
    return problem.eps * abs(sample.loss) if factor > 1 else None


def _within(problem: Problem, x: torch.Tensor, direction: torch.Tensor, step: float) -> torch.Tensor:
    x = torch.add(x, direction, alpha=step)
    if problem.lower is not None or problem.upper is not None:
        x = torch.clamp(x, problem.lower, problem.upper)
    return x


def changed(loss: float, before: float, factor: float) -> bool:
    """Whether the size of the loss has changed by this factor, which is below 1, in either direction."""
    low, high = sorted((abs(loss), abs(before)))
    return low < factor * high


def difference_table(losses: Sequence[float]) -> tuple[float | None, float]:
    """The noise in losses at equal spacing, or None and a factor for a better spacing.

    Differences of order k of noise grow with the square root of (2k)!/(k!)²; differences of a smooth function vanish.
    Noise is detected if three orders agree within a factor of 4, and the first has both signs.
    """
    low, high = min(losses), max(losses)
    if not all(map(math.isfinite, losses)) or high - low > 0.1 * max(abs(low), abs(high)):
        return None, 0.01
    levels, both_signs, differences, scale = [], [], list(losses), 1.0
    for order in range(1, len(losses)):
        differences = [b - a for a, b in pairwise(differences)]
        if order == 1 and 2 * differences.count(0.0) >= len(losses):
            return None, 100.0
        scale *= order / (4 * order - 2)
        levels.append(math.sqrt(scale * sum(d * d for d in differences) / len(differences)))
        both_signs.append(min(differences) < 0 < max(differences))
    for order, three in enumerate(zip(levels, levels[1:], levels[2:], strict=False)):
        if both_signs[order] and max(three) <= 4 * min(three):
            return three[0], 1.0
    return None, 0.01


class NoisySearch:
    """A line search that uses slopes if decreases are below the noise: approximate Wolfe conditions.

    `store` changes the state, after the last evaluation.
    """

    def __init__(self, problem: Problem, state: NoisyState, c2: float):
        self._problem, self._c2 = problem, c2
        self._noise, self._noise_loss = state.noise, state.noise_loss

    @classmethod
    def of(cls, problem: Problem, state: NoisyState, c2: float, *, as_scipy: bool) -> NoisySearch | None:
        """A search; None in double precision, where the run ends as in SciPy."""
        return None if as_scipy and problem.eps <= sys.float_info.epsilon else cls(problem, state, c2)

    def find(
        self, line: Line, step: float, ordinary: Callable[[], Found | None], accepts: Accepts | None = None
    ) -> Found | None:
        """A step from `ordinary`, or by slopes from a trial at `step`; None if there is none.

        The ordinary search is first as long as the predicted decrease of a parabola at `step` is above the noise.
        """
        if not line.slope < 0:
            return None
        if self._noise is None or -line.slope * step / 2 > _LOST * self._noise:
            found = ordinary()
            if found is not None:
                return found
        if self._noise is None or changed(line.start.loss, self._noise_loss, _AGAIN):
            noise = measure(self._problem, line.start, line.direction)
            self._noise, self._noise_loss = noise if noise is not None else self._noise, line.start.loss
        return None if self._noise is None else _by_slopes(line, step, _LOST * self._noise, self._c2, accepts)

    def store(self, state: NoisyState) -> None:
        """Write the measured values into the state."""
        state.noise, state.noise_loss = self._noise, self._noise_loss

    @staticmethod
    def stagnates(state: NoisyState) -> bool:
        """Whether the loss has not decreased by more than its noise for long; call it once in each iteration."""
        if state.noise is None or state.sample.loss < state.lowest - state.noise:
            state.lowest, state.lowest_at = state.sample.loss, state.iteration
        return state.iteration - state.lowest_at >= _PATIENCE


def _by_slopes(line: Line, step: float, allowed: float, c2: float, accepts: Accepts | None) -> Found | None:
    """A step to a flatter slope, with a loss that is at most `allowed` higher.

    The far end of the bracket has a positive slope or a too high loss; the slope is 0 between the ends.
    """
    (low, falling), high, rising = (0.0, line.slope), math.inf, 0.0
    for _ in range(_TRIALS):
        sample = line.at(step)
        enough = sample.loss <= line.start.loss + allowed
        if enough and abs(sample.slope) <= -c2 * line.slope and (accepts is None or accepts(step, sample)):
            return Found(step, sample)
        if enough and sample.slope < 0:
            low, falling = step, sample.slope
        else:
            high, rising = step, sample.slope
        if high == math.inf:
            step *= 5
            continue
        part = falling / (falling - rising) if rising > 0 else 0.5
        step = low + (high - low) * min(max(part, 0.1), 0.9)
    return None
