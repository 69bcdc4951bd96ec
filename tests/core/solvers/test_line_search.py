"""The trials of the line searches, against SciPy's own on the same functions of one number."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import _dcsrch, _linesearch

from torchmin_nb.core.solvers.contract import Sample
from torchmin_nb.core.solvers.line_search import Line, MoreThuente, Task, search

FUNCTIONS = {
    "quadratic": (lambda t: (t - 0.7) ** 2, lambda t: 2 * (t - 0.7)),
    "far minimum": (lambda t: (t - 300.0) ** 2, lambda t: 2 * (t - 300.0)),
    "near minimum": (lambda t: (t - 1e-5) ** 2, lambda t: 2 * (t - 1e-5)),
    "quartic": (lambda t: (t - 3) ** 4 - 2 * t, lambda t: 4 * (t - 3) ** 3 - 2),
    "Moré and Thuente 1": (lambda t: -t / (t**2 + 2), lambda t: (t**2 - 2) / (t**2 + 2) ** 2),
    "Moré and Thuente 2": (lambda t: (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4,
                           lambda t: 5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3),
    "waves": (lambda t: math.sin(9 * t) + 0.3 * (t - 2) ** 2 - 2 * t,
              lambda t: 9 * math.cos(9 * t) + 0.6 * (t - 2) - 2),
    "kink": (lambda t: abs(t - 0.3), lambda t: math.copysign(1.0, t - 0.3)),
    "unbounded": (lambda t: -t, lambda t: -1.0),
    "flat": (lambda t: 1.0 - 1e-18 * t, lambda t: -1e-18),
    "wrong slope": (lambda t: t, lambda t: -1.0),
    "uphill": (lambda t: (t + 1) ** 2, lambda t: 2 * (t + 1)),
    "noise": (lambda t: (t - 0.7) ** 2 + 1e-3 * math.sin(1e6 * t), lambda t: 2 * (t - 0.7)),
    "infinite beyond": (lambda t: (t - 1) ** 2 if t < 0.4 else math.inf, lambda t: 2 * (t - 1) if t < 0.4 else 0.0),
    "undefined beyond": (lambda t: (t - 1) ** 2 if t < 0.4 else math.nan, lambda t: 2 * (t - 1)),
}  # fmt: skip
STEPS = (1.0, 1e-3, 0.25, 40.0)


class OneNumber:
    """A function of one number as the Problem that a line needs; the trials are kept."""

    def __init__(self, value, slope):
        self.value, self.slope, self.trials = value, slope, []

    def evaluate(self, x, along):
        t = x.item()
        self.trials.append(t)
        return Sample(x, self.value(t), along, self.slope(t), abs(self.slope(t)), abs(self.slope(t)))


class Counted:
    """The function as SciPy calls it: the last point is remembered, at first 0, as by SciPy's ScalarFunction."""

    def __init__(self, value, slope):
        self._value, self._slope, self.trials = value, slope, []

    def _at(self, t):
        if t != (self.trials[-1] if self.trials else 0.0):
            self.trials.append(float(t))

    def value(self, t):
        self._at(t)
        return np.float64(self._value(float(t)))

    def slope(self, t):
        self._at(t)
        return np.float64(self._slope(float(t)))


def scipys(value, slope, previous, c1, c2, accepts=None):
    """Trials and step of SciPy's two searches, one after the other as in BFGS."""
    counted, loss, g = Counted(value, slope), np.float64(value(0.0)), np.float64(slope(0.0))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        step = _linesearch.scalar_search_wolfe1(
            counted.value, counted.slope, loss, previous, g, c1=c1, c2=c2, amin=1e-100, amax=1e100
        )[0]
        if step is None or (accepts is not None and not accepts(step)):
            step = _linesearch.scalar_search_wolfe2(
                counted.value, counted.slope, loss, previous, g, c1=c1, c2=c2, amax=1e100,
                extra_condition=accepts and (lambda t, _: accepts(t)),
            )[0]  # fmt: skip
    return step, counted.trials


def ours(value, slope, previous, c1, c2, accepts=None):
    problem = OneNumber(value, slope)
    one = torch.ones(1, dtype=torch.float64)
    start = Sample(0 * one, value(0.0), one * slope(0.0), 0.0, abs(slope(0.0)), abs(slope(0.0)))
    line = Line(problem, start, one, slope(0.0))
    found = search(line, previous, c1=c1, c2=c2, accepts=accepts and (lambda t, _: accepts(t)))
    return (None, problem.trials) if found is None else (found.step, problem.trials)


@pytest.mark.parametrize("constants", [(1e-4, 0.9), (1e-4, 0.4), (0.1, 0.11)])
@pytest.mark.parametrize("previous", [1e3, 1.0, 0.0, -5.0])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_trials_are_scipys(name, previous, constants):
    value, slope = FUNCTIONS[name]
    expected, trials = scipys(value, slope, value(0.0) + previous, *constants)
    found, own = ours(value, slope, value(0.0) + previous, *constants)
    assert own == pytest.approx(trials, rel=1e-12, nan_ok=True)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))


@pytest.mark.parametrize("seed", range(200))
def test_trials_are_scipys_on_random_functions(seed):
    draw = np.random.default_rng(seed)
    a, b, c, d, e = (draw.normal(size=5) * 10.0 ** draw.integers(-3, 3, 5)).tolist()

    def value(t):
        return a * math.sin(b * t) + c * t + d * d * (t - e) ** 2

    def slope(t):
        return a * b * math.cos(b * t) + c + 2 * d * d * (t - e)

    allowed = None if seed % 3 else lambda t: (t * 1e3) % 1.0 < 0.3
    previous = value(0.0) + float(draw.normal()) + 0.5
    expected, trials = scipys(value, slope, previous, 1e-4, 0.4, allowed)
    found, own = ours(value, slope, previous, 1e-4, 0.4, allowed)
    assert own == pytest.approx(trials, rel=1e-9)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-9))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("stpmax", [1.0, 50.0, 1e10])
def test_the_steps_are_minpacks_with_the_constants_of_l_bfgs_b(name, step, stpmax):
    """Warnings included: there the step is the best one found."""
    value, slope = FUNCTIONS[name]
    step = min(step, stpmax)
    constants = dict(ftol=1e-3, gtol=0.9, xtol=0.1, stpmin=0.0, stpmax=stpmax)
    theirs = _dcsrch.DCSRCH(None, None, **constants)
    at, _, _, task = theirs._iterate(step, np.float64(value(0.0)), np.float64(slope(0.0)), b"START")
    own = MoreThuente(value(0.0), slope(0.0), step, **constants)
    for _ in range(40):
        if task[:2] != b"FG" or not math.isfinite(at):
            break
        assert (own.task, own.step) == (Task.EVALUATE, pytest.approx(at, rel=1e-14))
        own.feed(value(own.step), slope(own.step))
        with np.errstate(all="ignore"):
            at, _, _, task = theirs._iterate(at, np.float64(value(float(at))), np.float64(slope(float(at))), task)
    if math.isfinite(at):
        tasks = {b"FG": Task.EVALUATE, b"CO": Task.CONVERGED}
        assert (own.task, own.step) == (tasks.get(task[:2], Task.WARNING), pytest.approx(at, rel=1e-14))
