"""Constraints at the end point: are they met, can they be met, and are their gradients independent (LICQ)?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from ..core.autodiff.closure import evaluator_for
from ..core.objective.calls import Calls
from ..core.objective.constraints import ConstraintSet, LinearisedConstraints
from ..core.runtime.control import Abort, Control
from .laboratory import Laboratory, OutOfBudget
from .slopes import sizes_of
from .subject import Subject

__all__ = ["FEASIBLE", "Feasibility", "feasibility_of", "violation_of", "wrong_bounds"]

Array = NDArray[np.float64]

FEASIBLE = 1e-6
"""A violation up to this one is none."""
_ROUNDS = 12
_SHORTER = 8.0
_ACTIVE = FEASIBLE
_RANK = 1e-3
"""At a cusp the gradients become dependent only in the limit, and the end point is a little before it."""
_VANISHING = 0.05
_NEARER = 1e-6
"""What a step of full reach costs beside a violation of 1."""
_LARGEST = 2000


@dataclass(frozen=True, eq=False)
class Feasibility:
    """Constraints c(z) >= 0 or = 0 at the end point.

    violation: the largest there. least: the smallest violation that was found by following the linearised constraints
    from there, at z_feasible. active: number of active constraints and bounds; rank: of their gradients. multiplier:
    the size of the multipliers that explain the loss's gradient best, if all gradients had length 1.
    """

    violation: float
    least: float
    active: int
    rank: int
    multiplier: float
    z_feasible: Array | None = None


def feasibility_of(lab: Laboratory, gradient: Array | None) -> Feasibility | None:
    """The constraints of the run at its end point; None without any. One evaluation of each for each point.

    gradient: of the loss there, with respect to the solver's variables.
    """
    subject = lab.subject
    if not subject.constraints or lab.z.size > _LARGEST:
        return None
    calls = Calls(evaluator_for(subject.closure, lab.flat), lab.flat, Control())
    try:
        constraints = ConstraintSet(subject.constraints, calls, lab.variables)
        here = constraints.linearised(subject.x)
        if here is None:
            return None
        violation = constraints.violation(subject.x)
        random = np.random.default_rng(6).choice([-0.1, 0.1], lab.z.size)
        lab.spend()
        beside = constraints.linearised(lab.variables.to_user(lab.inside(lab.z + random * sizes_of(lab)))) or here
        slopes = np.zeros(lab.z.size) if gradient is None else gradient
        active, rank, multiplier = _rank(lab, here, np.linalg.norm(beside.jacobian, axis=1), slopes)
        least, z, reach = violation, lab.z, 1 + float(np.abs(lab.z).max(initial=0.0))
        for _ in range(_ROUNDS if violation > _ACTIVE else 0):
            moved = _towards(lab, here, z, reach)
            if moved is None or lab.left < 1:
                break
            lab.spend()
            x = lab.variables.to_user(moved)
            found = constraints.violation(x)
            if not found < 0.999 * least:
                reach /= _SHORTER  # so far away the constraints are not what they are here
                continue
            here = constraints.linearised(x) or here
            least, z = found, moved
            if least <= _ACTIVE:
                break
    except (Abort, OutOfBudget):
        return None
    return Feasibility(violation, least, active, rank, multiplier, z if least < violation else None)


def violation_of(subject: Subject, x: Array) -> float:
    """The largest violation of the run's constraints at x; 0 without constraints, NaN if one of them fails."""
    if not subject.constraints:
        return 0.0
    calls = Calls(evaluator_for(subject.closure, subject.flat), subject.flat, Control())
    try:
        return ConstraintSet(subject.constraints, calls, subject.variables).violation(x)
    except Abort:
        return math.nan


def _towards(lab: Laboratory, here: LinearisedConstraints, z: Array, reach: float) -> Array | None:
    """The point, each variable within reach, at which the linearised constraints are violated least; the nearest one of
    several, as far away the constraints are others."""
    n = z.size
    rows = np.concatenate([-here.jacobian, here.jacobian[here.equal]])
    limits = np.concatenate([here.values, -here.values[here.equal]])
    low, high = np.full(n, -reach), np.full(n, reach)
    if lab.variables.bounds is not None:
        low, high = np.maximum(low, lab.variables.bounds.lb - z), np.minimum(high, lab.variables.bounds.ub - z)
    cost = np.concatenate([np.full(2 * n, _NEARER / reach), [1.0]])
    box = np.concatenate([np.maximum(high, 0.0), np.maximum(-low, 0.0), [np.inf]])
    found = linprog(cost, np.hstack([rows, -rows, -np.ones((len(rows), 1))]), limits, bounds=[(0, top) for top in box])
    return np.asarray(z + found.x[:n] - found.x[n : 2 * n]) if found.status == 0 else None


def _rank(lab: Laboratory, here: LinearisedConstraints, typical: Array, gradient: Array) -> tuple[int, int, float]:
    """The number of active constraints and bounds, the rank of their gradients, the size of multipliers.

    typical: the lengths of the gradients at a point close by. One that is much shorter here counts as 0, as that of a
    squared constraint, which vanishes where the constraint holds.
    """
    size = 1 + float(np.abs(lab.z).max(initial=0.0))
    lengths = np.linalg.norm(here.jacobian, axis=1)
    close = here.equal | (here.values <= 1e-4 * np.maximum(lengths, 1e-3) * size)
    vanishing = lengths < _VANISHING * typical
    unit = here.jacobian / np.where(lengths > 0, lengths, 1.0)[:, None] * np.where(vanishing, 0.0, 1.0)[:, None]
    rows = [unit[close]]
    bounds = lab.variables.bounds
    if bounds is not None:
        at = (np.abs(lab.z - bounds.lb) <= _ACTIVE * size) | (np.abs(bounds.ub - lab.z) <= _ACTIVE * size)
        rows.append(np.eye(lab.z.size)[at])
    active = np.concatenate(rows)
    if not len(active):
        return 0, 0, 0.0
    slope = float(np.linalg.norm(gradient))
    singular = np.linalg.svd(active, compute_uv=False)
    multipliers = np.linalg.lstsq(active.T, gradient / (slope or 1.0), rcond=1e-12)[0]
    rank = int((singular > _RANK * max(float(singular[0]), 1e-300)).sum())
    vanished = bool((vanishing & close).any())
    return len(active), rank, math.inf if vanished else float(np.linalg.norm(multipliers))


def wrong_bounds(lab: Laboratory, gradient: Array) -> tuple[NDArray[np.intp], Array]:
    """Variables at a bound although the loss falls away from it: their indices, and slopes."""
    bounds = lab.variables.bounds
    if bounds is None:
        return np.empty(0, dtype=np.intp), np.empty(0)
    near = 1e-8 * (1 + np.abs(lab.z))
    wrong = ((lab.z - bounds.lb <= near) & (gradient < 0)) | ((bounds.ub - lab.z <= near) & (gradient > 0))
    indices = np.flatnonzero(wrong & (bounds.lb < bounds.ub))
    return indices, gradient[indices]
