"""Gauss-Newton: minimum-norm steps with a line search, and, if they stall, damped steps with geodesic acceleration.

If J has many singular values near zero, as with networks, the cost decreases along a narrow, curved valley.
Undamped steps leave the valley, and backtracking makes them very short. M. K. Transtrum, J. P. Sethna,
"Improvements to the Levenberg-Marquardt algorithm for nonlinear least-squares minimization", arXiv:1201.5885 (2012).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

import torch

from ..runtime.control import ITERATIONS, Ending, Status
from ..runtime.memory import available_bytes
from .least_squares import (
    LeastSquaresState,
    ResidualProblem,
    ResidualSample,
    budget_spent,
    ended,
    sample_of,
    triangle,
)
from .vectors import dot, numbers, wide

__all__ = ["GaussNewton", "GaussNewtonState"]

_HALVINGS = 30
_LOWER_RANKS = (1e1, 1e2, 1e3)
"""Multiples of rcond. If the full step leaves the valley, steps from fewer singular values can stay in it."""
_GOOD, _STALLED = 0.75, 0.02
"""Fractions of the largest decrease in the model: above the first nothing else is tried, below the second it stalls."""
_DAMPED_ITERATIONS = 10
_LAST_ITERATIONS = 2
"""The last iterations before `max_iter` are undamped, so that the run ends at the bottom of the valley."""
_FIRST_DAMPING = 1e-3
"""First damping, relative to the curvature of the model along the gradient."""
_ACCEPTED, _REJECTED, _REJECTIONS = 0.1, 2.0, 30
_PROBE = 0.1
_LONGEST_ACCELERATION = 1.5
_CORRECTIONS = 2
_CLIMB, _HIGHEST = 0.6, 3.0
"""Largest increase of the cost in a damped step, relative to the cost; and the limit, as a multiple of the lowest."""
_FITTED = 0.99
"""Smallest fraction of the cost that the model must be able to remove, for steps that increase the cost."""


@dataclass(slots=True, kw_only=True)
class GaussNewtonState(LeastSquaresState):
    """operator: whether only products with J are used. damping: λ of the next damped step, 0 before the first.

    damped: number of damped iterations that follow. lowest: the lowest cost so far.
    """

    operator: bool
    lowest: float
    damping: float = 0.0
    damped: int = 0


class GaussNewton:
    """Minimises ½‖r‖² in few Jacobians and many more residuals: about nine an iteration where the valley is narrow.

    The cost decreases, except in damped steps along such a valley, which may reach three times the lowest cost so far.

    ftol: ends where the cost decreased by less than ftol·cost, and the linear model promises no more than that. xtol:
    where ‖dx‖ ≤ xtol·(xtol + ‖x‖). gtol: where the cosine of the angle between r and the range of J is below it.
    max_nfev: residuals, line search included; 100·n where it is None. max_iter: no limit where it is None. rcond: the
    undamped step is that of least norm, of singular values above rcond times the largest.
    solver: "exact", by the singular values of J, or "cg", by products with J and Jᵀ, in O(m + n) memory; None chooses
    "exact" where J and what is made of it fit memory_budget, in bytes, by default what is available. cg_rtol: how far
    conjugate gradients reduce the gradient of the model. cg_max_iter: n where it is None.
    """

    def __init__(
        self,
        *,
        ftol: float = 1e-8,
        xtol: float = 1e-8,
        gtol: float = 1e-8,
        max_nfev: int | None = None,
        max_iter: int | None = None,
        rcond: float = 1e-6,
        solver: Literal["exact", "cg"] | None = None,
        cg_rtol: float = 1e-3,
        cg_max_iter: int | None = None,
        memory_budget: int | None = None,
    ):
        self._ftol, self._xtol, self._gtol = ftol, xtol, gtol
        self._max_nfev, self._max_iter = max_nfev, max_iter
        self._rcond, self._cg = rcond, (cg_rtol, cg_max_iter)
        self._solver, self._memory_budget = solver, memory_budget

    def init(self, problem: ResidualProblem) -> GaussNewtonState:
        """The state at the start: one evaluation and its gradient."""
        point = problem.residuals(problem.start())
        gradient = problem.adjoint(point, point.residuals)
        largest, norm = numbers(wide(gradient.abs().max()), dot(gradient, gradient).sqrt())
        sample = sample_of(point, gradient, largest, norm)
        return GaussNewtonState(sample, point=point, operator=self._needs_products(problem, point), lowest=point.cost)

    def step(self, problem: ResidualProblem, state: GaussNewtonState) -> GaussNewtonState:
        """One linearisation, and trials from it until the cost has decreased."""
        here, damping, damped = state.point, state.damping, state.damped
        model = self._linearised(problem, state)
        if not model.finite:
            return replace(state, ended=int(Status.NONFINITE_JACOBIAN))
        if model.possible <= self._gtol**2 * here.cost:
            return replace(state, ended=1)
        trials = _Trials(problem, here, state.nfev, self._max_nfev)
        converged = model.possible <= self._ftol * here.cost
        end, settled = None, False
        if not damped or self._last(state):
            end = _undamped_step(trials, model)
            gain = 0.0 if end is None else here.cost - end.cost
            settled = converged or gain >= _STALLED * model.possible
            damped = 0 if settled else _DAMPED_ITERATIONS
        if end is None and damped:
            damping = damping or _first_damping(model, state.sample.gradient)
            end, damping = _damped_step(trials, model, damping, _bound(model, state))
            damped -= 1
        if end is None and trials.spent:
            return replace(state, nfev=trials.nfev)
        memory: dict[str, Any] = dict(iteration=state.iteration + 1, nfev=trials.nfev, damping=damping, damped=damped)
        if end is None:
            code = 2 if converged else 3 if self._short(model.damped(damping, here.residuals), here.x) else None
            return replace(state, **memory, ended=code, accepted=False, step_norm=0.0)
        return self._moved(problem, state, end, memory, converged, settled)

    def terminate(self, problem: ResidualProblem, state: GaussNewtonState) -> Ending | None:
        """SciPy's status and message, or None."""
        if state.ended is not None:
            return ended(state.ended)
        if not state.sample.largest:
            return ended(1)
        if budget_spent(problem, state.nfev, self._max_nfev):
            return ended(0)
        return ITERATIONS if self._max_iter is not None and state.iteration >= self._max_iter else None

    def result(self, state: GaussNewtonState) -> dict[str, Any]:
        """`residuals`, shape (m,)."""
        return {"residuals": state.point.residuals}

    def _needs_products(self, problem: ResidualProblem, point: ResidualSample) -> bool:
        if self._solver is not None:
            return self._solver == "cg"
        n = len(point.x)
        m = len(point.residuals) if problem.whole else n
        limit = available_bytes() if self._memory_budget is None else self._memory_budget
        return 3 * (m + n) * n * point.x.element_size() > limit

    def _linearised(self, problem: ResidualProblem, state: GaussNewtonState) -> _Model:
        if state.operator:
            return _Products(problem, state.point, *self._cg)
        return _Factors(problem, state.point, self._rcond)

    def _last(self, state: GaussNewtonState) -> bool:
        return self._max_iter is not None and state.iteration >= self._max_iter - _LAST_ITERATIONS

    def _short(self, step: torch.Tensor, x: torch.Tensor) -> bool:
        length, size = numbers(dot(step, step).sqrt(), dot(x, x).sqrt())
        return length <= self._xtol * (self._xtol + size)

    def _moved(
        self,
        problem: ResidualProblem,
        state: GaussNewtonState,
        end: ResidualSample,
        memory: dict[str, Any],
        converged: bool,
        settled: bool,
    ) -> GaussNewtonState:
        gradient, step = problem.adjoint(end, end.residuals), end.x - state.point.x
        largest, norm, length, size = numbers(
            wide(gradient.abs().max()), *(dot(v, v).sqrt() for v in (gradient, step, end.x))
        )
        by_cost = converged and state.point.cost - end.cost <= self._ftol * state.point.cost
        by_step = settled and length <= self._xtol * (self._xtol + size)
        code = {(True, True): 4, (True, False): 2, (False, True): 3}.get((by_cost, by_step))
        sample = sample_of(end, gradient, largest, norm)
        memory.update(sample=sample, point=end, lowest=min(state.lowest, end.cost), step_norm=length)
        return replace(state, **memory, accepted=True, ended=code)


class _Trials:
    """Residuals around a point, counted; after the budget is used, every trial is rejected."""

    def __init__(self, problem: ResidualProblem, here: ResidualSample, nfev: int, max_nfev: int | None):
        self._problem, self._max_nfev = problem, max_nfev
        self.here, self.nfev = here, nfev

    @property
    def spent(self) -> bool:
        return budget_spent(self._problem, self.nfev, self._max_nfev)

    def at(self, x: torch.Tensor) -> ResidualSample:
        """The residuals at x."""
        if self.spent:
            return ResidualSample(x, torch.full_like(self.here.residuals, torch.nan), float("inf"))
        self.nfev += 1
        return self._problem.residuals(x)


def _undamped_step(trials: _Trials, model: _Model) -> ResidualSample | None:
    """The full step, else the best step of lower rank, else a fraction of the full step; None without a decrease."""
    here = trials.here
    whole, *lower = model.newton()
    first = trials.at(here.x + whole)
    if here.cost - first.cost >= _GOOD * model.possible:
        return first
    best = min([first, *(trials.at(here.x + step) for step in lower)], key=lambda trial: trial.cost)
    if best.cost < here.cost:
        return best
    return _line_search(trials, whole)


def _line_search(trials: _Trials, step: torch.Tensor) -> ResidualSample | None:
    """The best point of x + step/2, x + step/4, …, up to the first rise after a decrease; None without a decrease."""
    best = None
    for k in range(1, _HALVINGS + 1):
        trial = trials.at(trials.here.x + 0.5**k * step)
        if best is not None and not trial.cost < best.cost:
            break
        if trial.cost < trials.here.cost:
            best = trial
    return best


def _bound(model: _Model, state: GaussNewtonState) -> float:
    """The cost below which a damped step may end.

    Without increases, steps from the bottom of a curved valley would be tiny. Near a minimum with nonzero residuals,
    or with as many variables as residuals, increases are not allowed, because they lead away from it.
    """
    cost = state.point.cost
    if model.possible < _FITTED * cost or len(state.point.residuals) <= len(state.point.x):
        return cost
    return max(cost, min((1 + _CLIMB) * cost, _HIGHEST * state.lowest))


def _damped_step(trials: _Trials, model: _Model, damping: float, below: float) -> tuple[ResidualSample | None, float]:
    """A point with a cost below a bound, and the damping for the next time; every rejection doubles it."""
    for _ in range(_REJECTIONS):
        end = trials.at(trials.here.x + _bent_step(trials, model, damping))
        if end.cost < below:
            return _corrected(trials, model, damping, end), _ACCEPTED * damping
        damping *= _REJECTED
    return None, damping


def _bent_step(trials: _Trials, model: _Model, damping: float) -> torch.Tensor:
    """The damped step d and, if it is not too long, half the acceleration of the geodesic along d.

    Its second derivative r″ of the residuals along d is a difference from one more evaluation.
    """
    here = trials.here
    d = model.damped(damping, here.residuals)
    probe = trials.at(here.x + _PROBE * d)
    second = (2 / _PROBE) * ((probe.residuals - here.residuals) / _PROBE - model.product(d))
    half = 0.5 * model.damped(damping, second)
    return d + torch.where(dot(half, half) <= _LONGEST_ACCELERATION**2 * dot(d, d), half, 0.0)


def _corrected(trials: _Trials, model: _Model, damping: float, end: ResidualSample) -> ResidualSample:
    """Continue with steps of the same model from the new residuals, as long as the cost decreases."""
    for _ in range(_CORRECTIONS):
        trial = trials.at(end.x + model.damped(damping, end.residuals))
        if not trial.cost < end.cost:
            break
        end = trial
    return end


def _first_damping(model: _Model, gradient: torch.Tensor) -> float:
    bent = model.product(gradient)
    curvature, square = numbers(dot(bent, bent), dot(gradient, gradient))
    return _FIRST_DAMPING * curvature / square if curvature else _FIRST_DAMPING


class _Model(Protocol):
    """The residuals at a point, linearised: r + J d.

    finite: whether J is finite. possible: the largest decrease of ½‖r + J d‖² from ½‖r‖².
    """

    finite: bool
    possible: float

    def newton(self) -> Iterator[torch.Tensor]:
        """The undamped step, shape (n,), and those of lower rank."""
        ...

    def damped(self, damping: float, u: torch.Tensor) -> torch.Tensor:
        """−(JᵀJ + λ)⁻¹Jᵀu for u of shape (m,), shape (n,)."""
        ...

    def product(self, v: torch.Tensor) -> torch.Tensor:
        """J v, shape (m,)."""
        ...


class _Factors:
    """J with its singular values S and right singular vectors V, from its triangular factor."""

    def __init__(self, problem: ResidualProblem, point: ResidualSample, rcond: float):
        self._problem, self._point = problem, point
        self._jacobian = problem.jacobian(point) if problem.whole else None
        kept = None if self._jacobian is None else [(self._jacobian, point.residuals)]
        r, qtr = triangle(kept or problem.equations(point))
        finite = r.isfinite().all()
        u, s, vh = torch.linalg.svd(torch.where(finite, r, 0.0), full_matrices=False)
        self._curvatures, self._axes = s**2, vh.T
        along, rounding = torch.mv(u.T, qtr), problem.n * torch.finfo(s.dtype).eps
        self._relative, self._along = s / s[0], along / -s
        self._rcond = max(rcond, rounding)
        certain = torch.where(s > rounding * s[0], along, 0.0)
        whole, square = numbers(wide(finite), dot(certain, certain))
        self.finite, self.possible = bool(whole), square / 2

    def newton(self) -> Iterator[torch.Tensor]:
        for factor in (1.0, *_LOWER_RANKS):
            kept = self._relative > factor * self._rcond
            yield torch.mv(self._axes, torch.where(kept, self._along, 0.0))

    def damped(self, damping: float, u: torch.Tensor) -> torch.Tensor:
        slope = self._problem.adjoint(self._point, u) if self._jacobian is None else self._jacobian.T @ u
        along = (self._axes.T @ slope) / (self._curvatures + damping)
        return torch.mv(self._axes, along).neg()

    def product(self, v: torch.Tensor) -> torch.Tensor:
        return self._problem.product(self._point, v) if self._jacobian is None else torch.mv(self._jacobian, v)


class _Solution(NamedTuple):
    """step: d, shape (n,). finite: whether all products were. decrease: of ½‖u + J d‖²."""

    step: torch.Tensor
    finite: bool
    decrease: float


class _Products:
    """Products with J, and conjugate gradients on (JᵀJ + λ) d = −Jᵀu in the form CGLS, which never forms JᵀJ.

    C. C. Paige, M. A. Saunders, "LSQR: an algorithm for sparse linear equations and sparse least squares", ACM TOMS 8
    (1982) 43–71. Started at zero, it converges to the solution of least norm.
    """

    def __init__(self, problem: ResidualProblem, point: ResidualSample, rtol: float, max_iter: int | None):
        self._problem, self._point = problem, point
        self._rtol, self._max_iter = rtol, problem.n if max_iter is None else max_iter
        self._newton, self.finite, self.possible = self._solved(0.0, point.residuals)

    def newton(self) -> Iterator[torch.Tensor]:
        yield self._newton

    def damped(self, damping: float, u: torch.Tensor) -> torch.Tensor:
        return self._solved(damping, u).step

    def product(self, v: torch.Tensor) -> torch.Tensor:
        return self._problem.product(self._point, v)

    def _solved(self, damping: float, u: torch.Tensor) -> _Solution:
        d, left = torch.zeros_like(self._point.x), -u
        p = slope = self._problem.adjoint(self._point, left)
        square = dot(slope, slope)
        goal: float | None = None
        for _ in range(self._max_iter):
            image = self.product(p)
            length = square / (dot(image, image) + damping * dot(p, p))
            d, left = d + length * p, left - length * image
            slope = self._problem.adjoint(self._point, left) - damping * d
            before, square = square, dot(slope, slope)
            now, first = numbers(square, before)
            goal = self._rtol**2 * first if goal is None else goal
            if not now > goal:
                break
            p = slope + (square / before) * p
        size, rest, finite = numbers(dot(u, u), dot(left, left), wide(d.isfinite().all()).double())
        return _Solution(d, bool(finite), (size - rest) / 2)
