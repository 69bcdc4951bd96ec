"""Inside a line search: the loss along the step, the trials, and the conditions that the step had to meet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.history.history import History
from ..core.methods.local import MethodSpec, find_method
from .loss import Local

__all__ = ["LineStep", "line_step", "wolfe_constants"]

_SAMPLES = 161
_FARTHEST = 8.0
_ON_LINE = 1e-6
_TNC_ETA = 0.25


class LineStep(NamedTuple):
    """φ(α) = f(x_k + α s) with s = x_{k+1} − x_k, so that α = 1 is the step that was taken.

    alpha, phi, slope (m,): the loss and its derivative along the line; NaN where not finite. admissible (m,): where the
    conditions hold. trials, trial_losses (t,): this iteration's closure calls on the line, in order; hidden: how many
    lie beyond the line's drawn part, or on no line at all. c1, c2: the method's constants. length: of s,
    in units of x.
    """

    alpha: NDArray[np.float64]
    phi: NDArray[np.float64]
    slope: NDArray[np.float64]
    admissible: NDArray[np.bool_]
    trials: NDArray[np.float64]
    trial_losses: NDArray[np.float64]
    hidden: int
    c1: float
    c2: float
    length: float
    iteration: int
    words: tuple[str, ...]

    @property
    def start(self) -> tuple[float, float]:
        """φ(0) and φ'(0)."""
        return _at(self, 0.0)

    @property
    def accepted(self) -> tuple[float, float]:
        """φ(1) and φ'(1)."""
        return _at(self, 1.0)

    @property
    def armijo(self) -> NDArray[np.float64]:
        """The line φ(0) + c1 α φ'(0), below which a step decreases the loss enough; shape (m,)."""
        phi, slope = self.start
        return phi + self.c1 * self.alpha * slope


def line_step(loss: Local, history: History, k: int) -> LineStep:
    """The step from iterate k to k + 1 of a line-search method. Trials need keep_evaluations=True.

    Source: Nocedal & Wright (2006), equations 3.6 and 3.7: sufficient decrease and the strong Wolfe conditions.
    They hold or fail for a point whatever the length of the search direction, which SciPy does not report. A method
    that takes constraints asks them of the loss plus a penalty on violations; here they are those of the loss.
    """
    x, after = history.parameters[[k, k + 1]]
    s = after - x
    alpha_trials, trial_losses, off = _trials(history, k, x, s)
    shown = alpha_trials <= _FARTHEST
    far = max([1.0, *alpha_trials[shown]])
    alpha = np.unique(np.concatenate([np.linspace(-0.08 * far, 1.15 * far, _SAMPLES), [0.0, 1.0]]))
    rows = x + alpha[:, None] * s
    phi, slope = loss.values(rows), loss.slopes(rows, s)
    c1, c2 = wolfe_constants(find_method(history.method), history.options)
    step = LineStep(
        alpha,
        phi,
        slope,
        np.zeros(len(alpha), dtype=bool),
        alpha_trials[shown],
        trial_losses[shown],
        off + int((~shown).sum()),
        c1,
        c2,
        float(np.linalg.norm(s)),
        k + 1,
        (),
    )
    return step._replace(admissible=_admissible(step), words=(*_words(step), *_merit_words(history, k)))


def wolfe_constants(spec: MethodSpec, options: Mapping[str, Any]) -> tuple[float, float]:
    """(c1, c2) of a method's line search with these options."""
    assert spec.wolfe is not None
    c1, c2 = (_constant(each, spec, options) for each in spec.wolfe)
    return c1, c2


def _constant(value: float | str, spec: MethodSpec, options: Mapping[str, Any]) -> float:
    if not isinstance(value, str):
        return value
    chosen = float(options.get(value, spec.options[value].default))
    # With a negative eta TNC uses its default.
    return chosen if chosen >= 0 else _TNC_ETA


def _trials(
    history: History, k: int, x: NDArray[np.float64], s: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """α and loss of the iteration's closure calls on the line, and the number of the others."""
    if not history.keep_evaluations or not (length := float(s @ s)):
        return np.empty(0), np.empty(0), 0
    points = history.trials
    chosen = [e for e in history.evaluations[: len(points)] if e.iteration == k + 1]
    steps = points[[e.index for e in chosen]].reshape(len(chosen), len(x)) - x
    alpha = steps @ s / length
    distance = np.linalg.norm(steps - alpha[:, None] * s, axis=1)
    on_line = distance <= _ON_LINE * np.maximum(np.linalg.norm(steps, axis=1), math.sqrt(length)) + 1e-12
    # Points of finite differences are not trials.
    on_line &= np.abs(alpha) > _ON_LINE
    losses = np.array([e.loss for e in chosen])
    return alpha[on_line], losses[on_line], int((~on_line).sum())


def _admissible(step: LineStep) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        decrease = step.phi <= step.armijo
        flat = np.abs(step.slope) <= step.c2 * abs(step.start[1])
    return np.asarray(decrease & flat & (step.alpha > 0))


def _at(step: LineStep, alpha: float) -> tuple[float, float]:
    index = int(np.searchsorted(step.alpha, alpha))
    return float(step.phi[index]), float(step.slope[index])


def _words(step: LineStep) -> tuple[str, ...]:
    (phi0, slope0), (phi1, slope1) = step.start, step.accepted
    lines = [f"{len(step.trials) or 'No'} trial{'s' * (len(step.trials) != 1)} on the line; α = 1 is the step taken."]
    if slope0 >= 0:
        return (*lines, "The step does not start downhill, so the conditions of a line search do not apply.")
    holds = "holds" if phi1 <= phi0 + step.c1 * slope0 else "fails"
    lines.append(f"Sufficient decrease {holds}: the loss falls by {phi0 - phi1:.3g}, c₁ = {step.c1:g}.")
    if math.isfinite(step.c2):
        ratio = abs(slope1 / slope0)
        verdict = "holds" if ratio <= step.c2 else "fails"
        lines.append(f"Curvature condition {verdict}: |φ′(1)| = {ratio:.3g} |φ′(0)|, limit c₂ = {step.c2:g}.")
    if step.hidden:
        lines.append(
            f"Not shown, because not on this line or far outside: {step.hidden} closure call{'s' * (step.hidden > 1)}."
        )
    return tuple(lines)


def _merit_words(history: History, k: int) -> tuple[str, ...]:
    if not find_method(history.method).constraints or history[k].constraint_violation is None:
        return ()
    return ("With constraints the search also uses their violation; the conditions here are for the loss only.",)
