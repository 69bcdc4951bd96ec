"""Performance and data profiles: how methods compare over a set of problems.

Sources: Dolan & Moré, "Benchmarking optimization software with performance profiles" (2002); Moré & Wild,
"Benchmarking derivative-free optimization algorithms" (2009), whose convergence test and data profiles are used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.history.history import History
from ..core.objective.constraints import FEASIBLE
from ..core.signatures import shows_keywords
from ..errors import ArgumentError

__all__ = ["CostTable", "Profile", "cost_table", "data_profile", "performance_profile"]

Costs = Mapping[str, Mapping[str, float]]
Measure = Literal["closure calls", "iterations", "seconds"]
_MEASURES = {"closure calls": "nfev", "iterations": "index", "seconds": "elapsed"}


class CostTable(NamedTuple):
    """cost[problem][method]: to pass the test, infinity where it never did. measure: of what; test: in words."""

    cost: dict[str, dict[str, float]]
    measure: str
    test: str


class Profile(NamedTuple):
    """The share of problems that each method solves within x: a step function each.

    steps: {method: (x (m,), share (m,))}, x ascending, each share in force from its x on. problems: how many there are.
    axis: what x is. note: how a problem counts as solved.
    """

    steps: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    problems: int
    axis: str
    note: str = ""

    def at(self, method: str, x: float) -> float:
        """The method's share at x."""
        positions, share = self.steps[method]
        index = int(np.searchsorted(positions, x, side="right"))
        return float(share[index - 1]) if index else 0.0


def performance_profile(costs: Costs | CostTable) -> Profile:
    """ρ_s(τ): the share of problems that method s solves at no more than τ times the cost of the best method there.

    costs: cost[problem][method] >= 0; NaN, infinity or a missing entry: never solved. A problem that no method solves
    counts, and is solved by none. Raises ArgumentError for an empty table or a negative cost.
    """
    table, methods, note = _matrix(costs)
    best = np.min(table, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.isfinite(table), np.where(table == best, 1.0, table / best), np.inf)
    measure = costs.measure if isinstance(costs, CostTable) else "cost"
    return Profile(_shares(ratio, methods, 1.0), len(table), f"τ, {measure} relative to the best method", note)


def data_profile(costs: Costs | CostTable, dimensions: Mapping[str, int]) -> Profile:
    """d_s(κ): the share of problems that method s solves within κ (n + 1) closure calls, n = dimensions[problem].

    n + 1 calls are one gradient by differences, or one simplex. Raises ArgumentError as `performance_profile` does, and
    for a problem without a dimension.
    """
    table, methods, note = _matrix(costs)
    problems = costs.cost if isinstance(costs, CostTable) else costs
    missing = [name for name in problems if name not in dimensions]
    if missing:
        raise ArgumentError(f"dimensions has no entry for {', '.join(missing)}; pass n for each problem")
    units = np.array([[dimensions[name] + 1.0] for name in problems])
    measure = costs.measure if isinstance(costs, CostTable) else "cost"
    return Profile(_shares(table / units, methods, 0.0), len(table), f"κ, {measure} / (n + 1)", note)


@shows_keywords()
def cost_table(
    runs: Mapping[str, Mapping[str, History]],
    *,
    tau: float = 1e-3,
    measure: Measure = "closure calls",
    best_losses: Mapping[str, float] | None = None,
) -> CostTable:
    """What each run took to pass f(x) <= f_L + τ (f(x0) − f_L), runs[problem][method].

    f_L: best_losses[problem], else the lowest loss of any run on that problem. f(x0): the run's own start. measure:
    "closure calls", "iterations" or "seconds", up to the end of the iteration that passes. Points that violate their
    constraints by more than 1e-6 do not pass.

    Raises ArgumentError for an unknown measure or a tau outside (0, 1).
    """
    if measure not in _MEASURES:
        raise ArgumentError(f"measure={measure!r} is not known; choose one of {', '.join(map(repr, _MEASURES))}")
    if not 0 < tau < 1:
        raise ArgumentError(f"tau={tau!r} must be between 0 and 1: the share of the possible decrease that may remain")
    lowest = {problem: _lowest(list(by.values()), (best_losses or {}).get(problem)) for problem, by in runs.items()}
    cost = {
        problem: {method: _cost(history, lowest[problem], tau, measure) for method, history in by.items()}
        for problem, by in runs.items()
    }
    return CostTable(cost, measure, f"Solved: f(x) ≤ f_L + {tau:g} (f(x₀) − f_L), with f_L the lowest loss known.")


def _lowest(histories: list[History], known: float | None) -> float:
    lowest = [float(losses.min()) for history in histories if (losses := _feasible_losses(history)).size]
    return min([*lowest, *([] if known is None else [float(known)])], default=math.nan)


def _feasible_losses(history: History) -> NDArray[np.float64]:
    losses = np.asarray(history.loss, dtype=np.float64)
    return losses[np.isfinite(losses) & _feasible(history)]


def _feasible(history: History) -> NDArray[np.bool_]:
    violation = history.constraint_violation
    return np.asarray(np.isnan(violation) | (violation <= FEASIBLE))


def _cost(history: History, lowest: float, tau: float, measure: str) -> float:
    if not len(history):
        return math.inf
    target = lowest + tau * (history.loss[0] - lowest)
    passed = np.flatnonzero((history.loss <= target) & _feasible(history))
    return float(history.column(_MEASURES[measure])[passed[0]]) if passed.size else math.inf


def _matrix(costs: Costs | CostTable) -> tuple[NDArray[np.float64], list[str], str]:
    """Costs (problems, methods), infinity for never; the methods; the convergence test."""
    cost, note = (costs.cost, costs.test) if isinstance(costs, CostTable) else (costs, "")
    methods = list(dict.fromkeys(method for by in cost.values() for method in by))
    if not methods:
        raise ArgumentError("the table of costs is empty; pass cost[problem][method]")
    table = np.array([[float(by.get(method, math.inf)) for method in methods] for by in cost.values()])
    if (table < 0).any():
        raise ArgumentError(
            f"a cost is {np.nanmin(table):g}; costs must not be negative; use NaN or inf for a run that failed"
        )
    return np.where(np.isnan(table), np.inf, table), methods, note


def _shares(
    positions: NDArray[np.float64], methods: list[str], start: float
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The step function of each column, all from `start` to the same end."""
    finite = positions[np.isfinite(positions)]
    end = max(1.05 * float(finite.max(initial=start)), start + 1.0)
    steps = {}
    for column, method in zip(positions.T, methods, strict=True):
        at, counts = np.unique(column[np.isfinite(column)], return_counts=True)
        share = np.cumsum(counts) / len(positions)
        if not at.size or at[0] > start:
            at, share = np.concatenate([[start], at]), np.concatenate([[0.0], share])
        steps[method] = np.append(at, end), np.append(share, share[-1])
    return steps
