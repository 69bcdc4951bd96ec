"""The table of rules: signal → verdict → remedy, the most serious first."""

from .closures import (
    DEAD_LAYER,
    ERROR,
    KINK,
    NONFINITE,
    RANDOM_STEPS,
    STOCHASTIC,
    UNUSED,
    WRONG_CURVATURE,
    WRONG_GRADIENT,
)
from .constraints import DEPENDENT, INFEASIBLE, NOT_STATIONARY, REDUNDANT, WRONG_BOUND
from .endings import BUDGET, CONVERGED, FLOAT32, NOISE, NOTHING, STOPPED, TOLERANCE
from .shapes import (
    BADLY_SCALED,
    FLAT,
    ILL_CONDITIONED,
    NO_MINIMUM,
    SADDLE,
    SEPARABLE,
    SMALL_MEMORY,
    SUM_OF_SQUARES,
    UNIDENTIFIABLE,
)

__all__ = ["LAST", "RULES"]

RULES = (
    RANDOM_STEPS,
    STOCHASTIC,
    NONFINITE,
    ERROR,
    WRONG_GRADIENT,
    NO_MINIMUM,
    DEAD_LAYER,
    INFEASIBLE,
    DEPENDENT,
    NOT_STATIONARY,
    KINK,
    WRONG_BOUND,
    WRONG_CURVATURE,
    FLAT,
    SADDLE,
    FLOAT32,
    NOISE,
    UNUSED,
    BADLY_SCALED,
    SMALL_MEMORY,
    TOLERANCE,
    SUM_OF_SQUARES,
    ILL_CONDITIONED,
    BUDGET,
    UNIDENTIFIABLE,
    CONVERGED,
    REDUNDANT,
    SEPARABLE,
)
LAST = (STOPPED, NOTHING)
"""Where no other rule holds: the first of these."""
