"""Levenberg-Marquardt like MINPACK's lmder: a damped step within a trust radius, which the gain ratio updates.

J is factorised in chunks of rows. The singular values of its factor R are computed, so that each trial from a point
costs n². J. J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory", Numerical Analysis, Lecture Notes
in Mathematics 630 (1978) 105–116; J. J. Moré, B. S. Garbow, K. E. Hillstrom, "User guide for MINPACK-1" (1980).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from ..runtime.control import Ending, Status
from .least_squares import (
    LeastSquaresState,
    ResidualProblem,
    ResidualSample,
    budget_spent,
    ended,
    sample_of,
    scaled,
    triangle,
)
from .vectors import dot, numbers, wide

__all__ = ["LevenbergMarquardt", "LevenbergMarquardtState"]

_FACTOR = 100.0
"""The first radius, relative to the scaled norm of x, as in MINPACK."""
_ACCEPTED = 1e-4
_NEAR = 0.1
_ROUNDS = 10
_SMALLEST = torch.finfo(torch.float64).tiny


@dataclass(slots=True, kw_only=True)
class LevenbergMarquardtState(LeastSquaresState):
    """The scaled Jacobian J/D = USVᵀ:

    scale: D, shape (n,). axes: V, shape (n, k), k = min(m, n). curvatures: S², shape (k,), 0 where lost in rounding.
    slopes: SUᵀr, shape (k,). full_rank: whether no curvature was lost. slope: ‖slopes‖. newton, newton_slope: the
    length of the undamped step, and its relative derivative by the damping. cosine: the largest |cos| of the angles
    between r
    and the columns of J. x_norm: ‖Dx‖. damping: λ of the last step.
    """

    scale: torch.Tensor
    axes: torch.Tensor
    curvatures: torch.Tensor
    slopes: torch.Tensor
    full_rank: bool
    slope: float
    newton: float
    newton_slope: float
    cosine: float
    x_norm: float
    damping: float = 0.0


class _Move(NamedTuple):
    """A step p, shape (n,), from −(JᵀJ + λD²)⁻¹Jᵀr. scaled: ‖Dp‖. length: ‖p‖. change: ‖Jp‖²."""

    step: torch.Tensor
    damping: float
    scaled: float
    length: float
    change: float


class LevenbergMarquardt:
    """SciPy's `lm` with its options; m may be below n. The tolerances count as at least machine epsilon.

    ftol: ends where actual and predicted decrease of the cost are below ftol·cost. xtol: where the radius is below
    xtol·‖Dx‖. gtol: where the cosine of the angle between r and each column of J is. max_nfev: 100·n where it is None.
    x_scale: "jac", D from the columns of J, or a number, or numbers (n,), of which D is the inverse.
    """

    def __init__(
        self,
        *,
        ftol: float = 1e-8,
        xtol: float = 1e-8,
        gtol: float = 1e-8,
        max_nfev: int | None = None,
        x_scale: Any = "jac",
    ):
        self._ftol, self._xtol, self._gtol = ftol, xtol, gtol
        self._max_nfev, self._x_scale = max_nfev, x_scale

    def init(self, problem: ResidualProblem) -> LevenbergMarquardtState:
        """The state at the start: one evaluation and one Jacobian."""
        state = self._linearised(problem, problem.residuals(problem.start()), None)
        state.radius = _FACTOR * state.x_norm or _FACTOR
        return state

    def step(self, problem: ResidualProblem, state: LevenbergMarquardtState) -> LevenbergMarquardtState:
        """Trials until one is accepted, or until the method ends."""
        cost, nfev = state.point.cost, state.nfev
        radius, damping = state.radius, state.damping
        assert radius is not None
        while True:
            move = _move(state, radius, damping)
            if not state.iteration:
                radius = min(radius, move.scaled)
            trial = problem.residuals(state.point.x + move.step)
            nfev += 1
            gain = 1 - trial.cost / cost
            predicted, slope = _predicted(move, cost)
            ratio = gain / predicted if predicted else 0.0
            radius, damping = _adapted(radius, move, gain, ratio, slope)
            accepted = ratio >= _ACCEPTED
            if accepted:
                state = self._accepted(problem, trial, state, move)
            state = replace(state, radius=radius, damping=damping, ratio=ratio, accepted=accepted, nfev=nfev)
            state.ended = self._converged(problem, state, gain, predicted)
            if accepted or self.terminate(problem, state) is not None:
                return state

    def terminate(self, problem: ResidualProblem, state: LevenbergMarquardtState) -> Ending | None:
        """SciPy's status and message, or None."""
        if state.ended is not None:
            return ended(state.ended)
        if state.cosine <= max(self._gtol, problem.eps):
            return ended(1)
        return ended(0) if budget_spent(problem, state.nfev, self._max_nfev) else None

    def result(self, state: LevenbergMarquardtState) -> dict[str, Any]:
        """`residuals`, shape (m,)."""
        return {"residuals": state.point.residuals}

    def _converged(
        self, problem: ResidualProblem, state: LevenbergMarquardtState, gain: float, predicted: float
    ) -> int | None:
        assert state.ratio is not None
        assert state.radius is not None
        if state.ended is not None:
            return state.ended
        ftol, xtol = max(self._ftol, problem.eps), max(self._xtol, problem.eps)
        by_cost = abs(gain) <= ftol and predicted <= ftol and state.ratio <= 2
        if state.radius <= xtol * state.x_norm:
            return 4 if by_cost else 3
        return 2 if by_cost else None

    def _accepted(
        self, problem: ResidualProblem, trial: ResidualSample, state: LevenbergMarquardtState, move: _Move
    ) -> LevenbergMarquardtState:
        found = self._linearised(problem, trial, state.scale)
        found.iteration, found.step_norm = state.iteration + 1, move.length
        return found

    def _linearised(
        self, problem: ResidualProblem, point: ResidualSample, before: torch.Tensor | None
    ) -> LevenbergMarquardtState:
        """The state at a point, with NONFINITE_JACOBIAN where the derivative is not finite. before: D of the last."""
        r, qtr = triangle(problem.equations(point))
        finite = r.isfinite().all()
        r = torch.where(finite, r, 0.0)
        columns = torch.linalg.vector_norm(r, dim=0)
        scale = scaled(self._x_scale, columns, before)
        u, s, axes = torch.linalg.svd(r / scale, full_matrices=False)
        s = torch.where(s > problem.n * torch.finfo(s.dtype).eps * s[0], s, 0.0)
        curvatures, slopes, gradient = s**2, s * (u.T @ qtr), r.T @ qtr
        newton = _step_along(curvatures, slopes, 0.0)
        square = dot(newton, newton)
        cosines = torch.where(columns > 0, gradient.abs() / columns, 0.0)
        shown = numbers(
            wide(finite),
            wide(gradient.abs().max()),
            dot(gradient, gradient).sqrt(),
            wide(cosines.max()),
            torch.linalg.vector_norm(wide((scale if before is None else before) * point.x)),
            dot(slopes, slopes).sqrt(),
            square.sqrt(),
            dot(newton, torch.where(s > 0, newton / curvatures, 0.0)) / square,
            wide((s > 0).all()),
        )
        finite_, largest, norm, cosine, x_norm, slope, length, shrinks, full = shown
        residual = math.sqrt(2 * point.cost)
        return LevenbergMarquardtState(
            sample_of(point, gradient, largest, norm),
            ended=None if finite_ else int(Status.NONFINITE_JACOBIAN),
            point=point,
            scale=scale,
            axes=axes.T,
            curvatures=curvatures,
            slopes=slopes,
            full_rank=bool(full),
            slope=slope,
            newton=length,
            newton_slope=shrinks,
            cosine=cosine / residual if residual else 0.0,
            x_norm=x_norm,
        )


def _step_along(curvatures: torch.Tensor, slopes: torch.Tensor, damping: float) -> torch.Tensor:
    """The absolute step along each axis; 0 along axes with a curvature that is lost in rounding."""
    return torch.where(curvatures > 0, slopes / (curvatures + damping), 0.0)


def _move(state: LevenbergMarquardtState, radius: float, damping: float) -> _Move:
    """The undamped step if it is within the radius, else a step whose length is the radius within a tenth (lmpar)."""
    excess = state.newton - radius
    if excess <= _NEAR * radius:
        return _measured(state, 0.0)[0]
    low = excess / (radius * state.newton_slope) if state.full_rank else 0.0
    high = state.slope / radius or _SMALLEST / min(radius, 0.1)
    damping = min(max(damping, low), high) or state.slope / state.newton
    for _ in range(_ROUNDS):
        damping = damping or max(_SMALLEST, 1e-3 * high)
        move, shrinks = _measured(state, damping)
        before, excess = excess, move.scaled - radius
        if abs(excess) <= _NEAR * radius or (not low and excess <= before < 0):
            break
        low, high = (max(low, damping), high) if excess > 0 else (low, min(high, damping))
        damping = max(low, damping + excess / (radius * shrinks))
    return move


def _measured(state: LevenbergMarquardtState, damping: float) -> tuple[_Move, float]:
    """The step for a damping, and the relative derivative of its scaled length by the damping."""
    along = _step_along(state.curvatures, state.slopes, damping)
    step = (state.axes @ along) / -state.scale
    square, shrinks, change, length = numbers(
        dot(along, along),
        dot(along, torch.where(state.curvatures > 0, along / (state.curvatures + damping), 0.0)),
        dot(along, state.curvatures * along),
        dot(step, step),
    )
    return _Move(step, damping, math.sqrt(square), math.sqrt(length), change), shrinks / square if square else 0.0


def _predicted(move: _Move, cost: float) -> tuple[float, float]:
    """The relative decrease of the cost that the damped model predicts, and the model's slope along the step."""
    change, damped = move.change / (2 * cost), move.damping * move.scaled**2 / (2 * cost)
    return change + 2 * damped, -(change + damped)


def _adapted(radius: float, move: _Move, gain: float, ratio: float, slope: float) -> tuple[float, float]:
    """Radius and damping for the next trial."""
    if ratio <= 0.25:
        shrink = 0.5 if gain >= 0 else max(0.5 * slope / (slope + 0.5 * gain), 0.1)
        return shrink * min(radius, 10 * move.scaled), move.damping / shrink
    if ratio >= 0.75 or not move.damping:
        return 2 * move.scaled, 0.5 * move.damping
    return radius, move.damping
