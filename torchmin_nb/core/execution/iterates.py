"""Iterates of a method whose SciPy callback does not come once an iteration.

SLSQP's comes at the first trial of each line search. It asks for the gradient at each point that it accepts, and
nowhere else; the last one it returns instead. COBYQA's comes at every evaluation, of which an iteration makes none, one
or several; its own count of iterations is read from its loop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from ..objective.scaled_objective import SolverObjective
from ..parameters.variables import Variables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..objective.objective import Objective
    from .scipy_iterates import ScipyIterates

__all__ = ["CountedObjective", "WatchedObjective", "objective_of"]

_DIFFERENCES = "approx_derivative"
_SOLVER = "minimize"
_COUNTING = "cobyqa.main"
_COUNT = "n_iter"


class WatchedObjective(SolverObjective):
    """An objective as a function of z that tells `accepted(x)` where a gradient is asked for."""

    def __init__(self, objective: Objective, variables: Variables, accepted: Callable[[NDArray[np.float64]], None]):
        super().__init__(objective, variables)
        self._accepted = accepted
        self._latest: NDArray[np.float64] | None = None

    def value(self, z: NDArray[np.float64]) -> float:
        """The loss. Within SciPy's finite differences the gradient is that of the last point before them."""
        if self._latest is not None and _in_differences():
            self._accepted(self._latest)
        else:
            self._latest = self._variables.to_user(z).copy()
        return super().value(z)

    def gradient(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gradient with respect to z."""
        gradient = super().gradient(z)
        self._accepted(self._variables.to_user(z).copy())
        return gradient


class CountedObjective(SolverObjective):
    """An objective as a function of z that tells `begun(iteration)`, where the method counts them, at each loss."""

    def __init__(self, objective: Objective, variables: Variables, begun: Callable[[int], None]):
        super().__init__(objective, variables)
        self._begun = begun

    def value(self, z: NDArray[np.float64]) -> float:
        """The loss."""
        iteration = _count()
        if iteration is not None:
            self._begun(iteration)
        return super().value(z)


def objective_of(
    callback_at: str, objective: Objective, variables: Variables, iterates: ScipyIterates
) -> SolverObjective:
    """What a method is given whose SciPy callback comes at "iterate", "trial" or "evaluation"."""
    if callback_at == "trial":
        return WatchedObjective(objective, variables, iterates.accepted)
    if callback_at == "evaluation":
        return CountedObjective(objective, variables, iterates.begun)
    return SolverObjective(objective, variables)


def _count() -> int | None:
    """The iteration that the method is in, 0 before the first; None where its loop is not found."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not frame.f_globals.get("__name__", "").endswith(_COUNTING):
        frame = frame.f_back
    while frame is not None and frame.f_code.co_name != _SOLVER:
        frame = frame.f_back
    return None if frame is None else int(frame.f_locals.get(_COUNT, 0))


def _in_differences() -> bool:
    """Whether SciPy is making a gradient of losses: its function is among the callers, within this minimisation."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name not in (_DIFFERENCES, _SOLVER):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name == _DIFFERENCES
