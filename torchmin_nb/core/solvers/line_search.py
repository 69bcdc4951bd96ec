"""Line searches for the strong Wolfe conditions, on Python floats: the trials are SciPy's.

J. J. Moré, D. J. Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM TOMS 20 (1994) 286–307, as
in MINPACK-2's dcsrch and dcstep; J. Nocedal, S. J. Wright, "Numerical Optimization" (1999), algorithms 3.5 and 3.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from enum import Enum
from typing import NamedTuple, Self

import torch

from ...errors import ArgumentError
from .contract import Problem, Sample
from .vectors import stands

__all__ = ["Along", "Found", "Line", "MoreThuente", "Task", "check_constants", "first_trial", "search"]


class Task(Enum):
    """The next task of a search: evaluate at `step`; end, both conditions hold; end, it cannot continue."""

    EVALUATE = "evaluate"
    CONVERGED = "converged"
    WARNING = "warning"


class MoreThuente:
    """The search of Moré and Thuente: evaluate at `step`, pass the values to `feed`, until `task` is an end.

    loss, slope: at 0; the slope is negative. step: the first trial. ftol, gtol: of sufficient decrease and curvature.
    xtol: relative width of a bracket at which the search ends. stpmin, stpmax: bounds of the step. After a warning
    `step` is the best step, and the last one passed to `feed`.
    """

    def __init__(
        self,
        loss: float,
        slope: float,
        step: float,
        *,
        ftol: float,
        gtol: float,
        xtol: float,
        stpmin: float,
        stpmax: float,
    ):
        self.step = step
        self.task = Task.WARNING if slope >= 0 or not stpmin <= step <= stpmax else Task.EVALUATE
        self._gtol, self._xtol, self._bounds = gtol, xtol, (stpmin, stpmax)
        self._loss, self._slope, self._decrease = loss, slope, ftol * slope
        self._modified = True  # the first stage minimises the loss minus the required decrease
        self._best = self._other = (0.0, loss, slope)
        self._bracketed = False
        self._width = stpmax - stpmin
        self._earlier_width = 2 * self._width
        self._low, self._high = 0.0, step + 4.0 * step

    def feed(self, loss: float, slope: float) -> Task:
        """Receive loss and slope at `step`; set `step` to the next trial, if another is needed."""
        step = self.step
        enough = loss <= self._loss + step * self._decrease
        if self._modified and enough and slope >= 0:
            self._modified = False
        self.task = self._judge(step, enough, slope)
        if self.task is Task.EVALUATE:
            self._move(step, loss, slope, enough)
        return self.task

    def _judge(self, step: float, enough: bool, slope: float) -> Task:
        if enough and abs(slope) <= self._gtol * -self._slope:
            return Task.CONVERGED
        stpmin, stpmax = self._bounds
        at_most = step == stpmax and enough and slope <= self._decrease
        at_least = step == stpmin and (not enough or slope >= self._decrease)
        return Task.WARNING if self._stuck(step) or at_most or at_least else Task.EVALUATE

    def _move(self, step: float, loss: float, slope: float, enough: bool) -> None:
        # An insufficient decrease says little about the loss, but much about the loss minus the required decrease.
        tilt = self._decrease if self._modified and loss <= self._best[1] and not enough else 0.0
        ends = [(at, f - at * tilt, g - tilt) for at, f, g in (self._best, self._other, (step, loss, slope))]
        best, other, step, self._bracketed = _next(ends, self._bracketed, self._low, self._high)
        self._best, self._other = ((at, f + at * tilt, g + tilt) for at, f, g in (best, other))

        near, far = self._best[0], self._other[0]
        if self._bracketed:
            if abs(far - near) >= 0.66 * self._earlier_width:
                step = near + 0.5 * (far - near)
            self._earlier_width, self._width = self._width, abs(far - near)
            self._low, self._high = min(near, far), max(near, far)
        else:
            self._low, self._high = step + 1.1 * (step - near), step + 4.0 * (step - near)
        step = _clipped(step, *self._bounds)
        self.step = near if self._stuck(step) else step
        if not math.isfinite(self.step):
            self.task = Task.WARNING

    def _stuck(self, step: float) -> bool:
        low, high = self._low, self._high
        return self._bracketed and (step <= low or step >= high or high - low <= self._xtol * high)


_Point = tuple[float, float, float]
"""A step, with its loss and slope."""


def _next(points: Sequence[_Point], bracketed: bool, low: float, high: float) -> tuple[_Point, _Point, float, bool]:
    """dcstep, from best point, other end and trial: the new ends, the next trial, and whether they bracket."""
    best, other, trial = points
    (x, fx, dx), (t, ft, dt) = best, trial
    if ft > fx:  # a higher loss
        cubic = _cubic(best, trial, _theta(best, trial))
        quadratic = x + _over(dx, _over(fx - ft, t - x) + dx) / 2.0 * (t - x)
        step = cubic if abs(cubic - x) <= abs(quadratic - x) else cubic + (quadratic - cubic) / 2.0
        return best, trial, step, True
    if dt < 0 < dx or dx < 0 < dt:
        cubic, secant = _cubic(trial, best, _theta(best, trial)), _secant(best, trial)
        return trial, best, cubic if abs(cubic - t) > abs(secant - t) else secant, True
    if abs(dt) < abs(dx):  # the slope has become flatter
        step = _flatter(best, other, trial, bracketed, low, high)
    elif bracketed:
        step = _cubic(trial, other, _theta(other, trial))
    else:
        step = high if t > x else low
    return trial, other, step, bracketed


def _flatter(best: _Point, other: _Point, trial: _Point, bracketed: bool, low: float, high: float) -> float:
    (x, _, dx), (t, _, dt), theta, secant = best, trial, _theta(best, trial), _secant(best, trial)
    gamma = math.copysign(_root(theta, dx, dt, least=0.0), x - t)
    r = _over((gamma - dt) + theta, (gamma + (dx - dt)) + gamma)
    cubic = t + r * (x - t) if r < 0 and gamma != 0 else high if t > x else low
    if not bracketed:
        return _clipped(cubic if abs(cubic - t) > abs(secant - t) else secant, low, high)
    step, limit = cubic if abs(cubic - t) < abs(secant - t) else secant, t + 0.66 * (other[0] - t)
    return min(limit, step) if t > x else max(limit, step)


def _cubic(start: _Point, end: _Point, theta: float) -> float:
    """The minimizer of the cubic through two points with slopes."""
    (a, _, da), (b, _, db) = start, end
    gamma = math.copysign(_root(theta, da, db), b - a)
    return a + _over((gamma - da) + theta, ((gamma - da) + gamma) + db) * (b - a)


def _theta(start: _Point, end: _Point) -> float:
    (a, fa, da), (b, fb, db) = start, end
    return _over(3.0 * (fa - fb), b - a) + da + db


def _root(theta: float, da: float, db: float, least: float = -math.inf) -> float:
    """√(θ² - da·db) without overflow; NaN if it is not real."""
    s = max(abs(theta), abs(da), abs(db))
    square = max(least, _over(theta, s) ** 2 - _over(da, s) * _over(db, s))
    return s * (math.sqrt(square) if square >= 0 else math.nan)


def _secant(best: _Point, trial: _Point) -> float:
    (x, _, dx), (t, _, dt) = best, trial
    return t + _over(dt, dt - dx) * (x - t)


def _over(a: float, b: float) -> float:
    """a / b as in IEEE 754: infinite or NaN if b is 0."""
    if b:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)


def _clipped(step: float, low: float, high: float) -> float:
    return min(max(step, low), high)


class Along(NamedTuple):
    """A search direction d, shape (n,), with gᵀd and dᵀd."""

    direction: torch.Tensor
    slope: float
    square: float

    @classmethod
    def steepest(cls, sample: Sample) -> Self:
        """Along the negative gradient."""
        return cls(-sample.gradient, -(sample.norm**2), sample.norm**2)


class Line:
    """The loss on a line: x + step · direction, from a sample with its slope along the direction.

    A step to the same point as the last one costs no evaluation, as in SciPy.
    """

    def __init__(self, problem: Problem, start: Sample, direction: torch.Tensor, slope: float):
        self.start, self.slope, self.direction = start, slope, direction
        self._problem = problem
        self._step = 0.0
        self._sample: Sample | None = None

    def at(self, step: float) -> Sample:
        """The sample at a step, with its slope."""
        if step != self._step:
            x = torch.add(self.start.x, self.direction, alpha=step)
            if not stands(self._sample or self.start, x, step * self.slope):
                self._sample = self._problem.evaluate(x, self.direction)
            self._step = step
        return self._sample or self._at_start()

    def _at_start(self) -> Sample:
        sample = copy(self.start)
        sample.slope = self.slope
        return sample


class Found(NamedTuple):
    """A step that a search accepted, and the sample there."""

    step: float
    sample: Sample


Accepts = Callable[[float, Sample], bool]


def check_constants(c1: float, c2: float) -> None:
    """Refuse constants for which there may be no step."""
    if not 0 < c1 < c2 < 1:
        raise ArgumentError(f"c1={c1:g} and c2={c2:g} are not allowed: they must be 0 < c1 < c2 < 1")


def search(
    line: Line,
    previous_loss: float,
    *,
    c1: float,
    c2: float,
    accepts: Accepts | None = None,
    bounds: tuple[float, float] = (1e-100, 1e100),
) -> Found | None:
    """A step that satisfies the strong Wolfe conditions: by Moré and Thuente, else by Nocedal and Wright.

    previous_loss: one iteration ago, for the first trial. c1, c2: of sufficient decrease and curvature. accepts: a
    further condition. bounds: of a step of Moré and Thuente. None if no step was found.
    """
    step = first_trial(line, previous_loss)
    found = _more_thuente(line, step, c1, c2, bounds)
    if found is not None and (accepts is None or accepts(*found)):
        return found
    return _Zoom(line, c1, c2, accepts).search(step)


def first_trial(line: Line, previous_loss: float) -> float:
    """The step, at most 1, at which a parabola has decreased as much as the loss did in the last iteration."""
    if line.slope == 0:
        return 1.0
    step = min(1.0, 1.01 * 2 * (line.start.loss - previous_loss) / line.slope)
    return 1.0 if step < 0 else step


def _more_thuente(line: Line, step: float, c1: float, c2: float, bounds: tuple[float, float]) -> Found | None:
    """SciPy's line_search_wolfe1: a warning is a failure; so is the hundredth trial."""
    stpmin, stpmax = bounds
    search = MoreThuente(line.start.loss, line.slope, step, ftol=c1, gtol=c2, xtol=1e-14, stpmin=stpmin, stpmax=stpmax)
    if search.task is Task.WARNING:
        return None
    for _ in range(99):
        sample = line.at(search.step)
        if search.feed(sample.loss, sample.slope) is not Task.EVALUATE:
            break
    if search.task is Task.EVALUATE:
        line.at(search.step)
    return Found(search.step, sample) if search.task is Task.CONVERGED else None


class _Zoom:
    """SciPy's line_search_wolfe2: algorithms 3.5 and 3.6 of Nocedal and Wright, ten trials each."""

    def __init__(self, line: Line, c1: float, c2: float, accepts: Accepts | None):
        self._line, self._accepts = line, accepts
        self._c1, self._flat = c1, -c2 * line.slope

    def search(self, step: float) -> Found | None:
        earlier: _Point = (0.0, self._line.start.loss, self._line.slope)
        sample = self._line.at(step)
        for index in range(10):
            if step == 0:
                return None
            here: _Point = (step, sample.loss, sample.slope)
            if self._too_high(step, sample.loss) or (index > 0 and sample.loss >= earlier[1]):
                return self._zoom(earlier, here)
            if self._holds(step, sample):
                return Found(step, sample)
            if sample.slope >= 0:
                return self._zoom(here, earlier)
            earlier, step = here, 2 * step
            sample = self._line.at(step)
        return Found(step, sample)

    def _zoom(self, low: _Point, high: _Point) -> Found | None:
        """low has the lower loss; the interval holds a step that satisfies the conditions."""
        left_out: _Point | None = None
        for _ in range(11):
            step = self._interpolated(low, high, left_out)
            sample = self._line.at(step)
            here: _Point = (step, sample.loss, sample.slope)
            if self._too_high(step, sample.loss) or sample.loss >= low[1]:
                left_out, high = high, here
                continue
            if self._holds(step, sample):
                return Found(step, sample)
            if sample.slope * (high[0] - low[0]) >= 0:
                left_out, high = high, low
            else:
                left_out = low
            low = here
        return None

    def _too_high(self, step: float, loss: float) -> bool:
        return loss > self._line.start.loss + self._c1 * step * self._line.slope

    def _holds(self, step: float, sample: Sample) -> bool:
        return abs(sample.slope) <= self._flat and (self._accepts is None or self._accepts(step, sample))

    @staticmethod
    def _interpolated(low: _Point, high: _Point, left_out: _Point | None) -> float:
        """The minimizer of a cubic, else of a parabola, if it is not too near to the ends; else the middle."""
        width = high[0] - low[0]
        left, right = min(low[0], high[0]), max(low[0], high[0])
        if left_out is not None:
            step, margin = _cubic_through(low, high, left_out), 0.2 * width
            if step is not None and left + margin <= step <= right - margin:
                return step
        step, margin = _parabola_through(low, high), 0.1 * width
        if step is not None and left + margin <= step <= right - margin:
            return step
        return low[0] + 0.5 * width


def _cubic_through(low: _Point, high: _Point, third: _Point) -> float | None:
    """The minimizer of the cubic through three points, with the slope of the first; None if there is none."""
    (a, fa, slope), (b, fb, _), (c, fc, _) = low, high, third
    db, dc = b - a, c - a
    rise_b, rise_c = fb - fa - slope * db, fc - fa - slope * dc
    try:
        scale = (db * dc) ** 2 * (db - dc)
        cubic = (dc**2 * rise_b - db**2 * rise_c) / scale
        square = (-(dc**3) * rise_b + db**3 * rise_c) / scale
        step = a + (-square + math.sqrt(square * square - 3 * cubic * slope)) / (3 * cubic)
    except (ArithmeticError, ValueError):
        return None
    return step if math.isfinite(step) else None


def _parabola_through(low: _Point, high: _Point) -> float | None:
    """The minimizer of the parabola through two points, with the slope of the first; None if there is none."""
    (a, fa, slope), (b, fb, _) = low, high
    width = b - a
    try:
        step = a - slope / (2.0 * ((fb - fa - slope * width) / (width * width)))
    except ArithmeticError:
        return None
    return step if math.isfinite(step) else None
