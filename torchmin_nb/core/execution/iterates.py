"""Iterates of methods that do not call SciPy's callback exactly once in each iteration.

SLSQP calls it at the first trial of each line search. SLSQP evaluates the gradient exactly at accepted points; only
the last accepted point has none, and is returned. COBYQA calls it at every evaluation; an iteration has none, one or
several of them. COBYQA's count of iterations is read from its loop.
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
    """An objective as a function of z that calls `accepted(x)` when the method evaluates a gradient."""

    def __init__(self, objective: Objective, variables: Variables, accepted: Callable[[NDArray[np.float64]], None]):
        super().__init__(objective, variables)
        self._accepted = accepted
        self._latest: NDArray[np.float64] | None = None

    def value(self, z: NDArray[np.float64]) -> float:
        """The loss. During SciPy's finite differences the gradient belongs to the last point before them."""
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
    """An objective as a function of z that calls `begun(iteration)` at each loss, with the method's own count."""

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
    """The objective for a method that calls SciPy's callback at each "iterate", "trial" or "evaluation"."""
    if callback_at == "trial":
        return WatchedObjective(objective, variables, iterates.accepted)
    if callback_at == "evaluation":
        return CountedObjective(objective, variables, iterates.begun)
    return SolverObjective(objective, variables)


def _count() -> int | None:
    """The method's current iteration, 0 before the first; None if its loop is not on the stack."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not frame.f_globals.get("__name__", "").endswith(_COUNTING):
        frame = frame.f_back
    while frame is not None and frame.f_code.co_name != _SOLVER:
        frame = frame.f_back
    return None if frame is None else int(frame.f_locals.get(_COUNT, 0))


def _in_differences() -> bool:
    """Whether SciPy is computing finite differences: its function is among the callers, within this minimisation."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name not in (_DIFFERENCES, _SOLVER):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name == _DIFFERENCES
