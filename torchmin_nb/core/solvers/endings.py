"""Endings of BFGS and CG: SciPy's codes and messages, and the noise floor."""

from __future__ import annotations

import math

from ..runtime.control import NOISE_FLOOR, Ending
from .contract import State

__all__ = ["CONVERGED", "PRECISION_LOSS", "ending", "failure"]

CONVERGED = 0
PRECISION_LOSS = 2
_AT_FLOOR = int(NOISE_FLOOR.status)

_ENDED = {
    CONVERGED: Ending(CONVERGED, True, "Optimization terminated successfully."),
    PRECISION_LOSS: Ending(PRECISION_LOSS, False, "Desired error not necessarily achieved due to precision loss."),
    _AT_FLOOR: NOISE_FLOOR,
}
_EXHAUSTED = Ending(1, False, "Maximum number of iterations has been exceeded.")
_UNDEFINED = Ending(3, False, "NaN result encountered.")


def failure(noise: float | None) -> int:
    """The reason why a run cannot continue, for `State.ended`: the measured noise of the loss, or lost precision."""
    return PRECISION_LOSS if noise is None else _AT_FLOOR


def ending(state: State, norm: float, *, gtol: float, maxiter: int) -> Ending | None:
    """The ending of BFGS or CG at this state, in SciPy's order; None if they continue. norm: of the gradient."""
    if state.ended in (PRECISION_LOSS, _AT_FLOOR):
        return _ENDED[state.ended]
    if state.iteration >= maxiter:
        return _EXHAUSTED
    if math.isnan(norm) or math.isnan(state.sample.loss):
        return _UNDEFINED
    return _ENDED[CONVERGED] if norm <= gtol or state.ended == CONVERGED else None
