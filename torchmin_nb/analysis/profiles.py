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
    """What each method needed to pass the convergence test on each problem.

    Attributes
    ----------
    cost : dict of str to dict of str to float
        ``cost[problem][method]``; infinity if the method never passed.
    measure : str
        What is counted: "closure calls", "iterations" or "seconds".
    test : str
        The convergence test, in words.

    See Also
    --------
    cost_table : makes it, and has an example.
    """

    cost: dict[str, dict[str, float]]
    measure: str
    test: str


class Profile(NamedTuple):
    """The share of problems that each method solves within x, as step functions.

    Attributes
    ----------
    steps : dict of str to (ndarray, ndarray)
        x and share by method, each of shape (m,), float64. x is ascending; each share holds from its x on.
    problems : int
        Number of problems.
    axis : str
        What x is, in words.
    note : str
        When a problem counts as solved, in words.

    See Also
    --------
    performance_profile : makes it, and has an example.
    """

    steps: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    problems: int
    axis: str
    note: str = ""

    def at(self, method: str, x: float) -> float:
        """The share of problems that a method solves within x.

        Parameters
        ----------
        method : str
            Name of the method.
        x : float
            Position on the axis.

        Returns
        -------
        float
            The share, from 0 to 1.
        """
        positions, share = self.steps[method]
        index = int(np.searchsorted(positions, x, side="right"))
        return float(share[index - 1]) if index else 0.0


def performance_profile(costs: Costs | CostTable) -> Profile:
    """The share of problems that each method solves at no more than τ times the cost of the best method there: ρ(τ).

    Parameters
    ----------
    costs : CostTable or dict of str to dict of str to float
        ``costs[problem][method]``, at least 0. NaN, infinity or a missing entry: never solved. A problem that no method
        solves counts, and is solved by none.

    Returns
    -------
    Profile
        A step function of τ for each method, from τ = 1.

    Raises
    ------
    ArgumentError
        If the table is empty or a cost is negative.

    References
    ----------
    E. D. Dolan, J. J. Moré, "Benchmarking optimization software with performance profiles" (2002).

    Examples
    --------
    >>> profile = performance_profile({"easy": {"BFGS": 10, "CG": 20}, "hard": {"BFGS": np.inf, "CG": 90}})
    >>> profile.at("BFGS", 1), profile.at("CG", 1), profile.at("CG", 2)
    (0.5, 0.5, 1.0)
    """
    table, methods, note = _matrix(costs)
    best = np.min(table, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.isfinite(table), np.where(table == best, 1.0, table / best), np.inf)
    measure = costs.measure if isinstance(costs, CostTable) else "cost"
    return Profile(_shares(ratio, methods, 1.0), len(table), f"τ, {measure} relative to the best method", note)


def data_profile(costs: Costs | CostTable, dimensions: Mapping[str, int]) -> Profile:
    """The share of problems that each method solves within κ (n + 1) closure calls: d(κ).

    n + 1 calls are one gradient by differences, or one simplex.

    Parameters
    ----------
    costs : CostTable or dict of str to dict of str to float
        ``costs[problem][method]``, as for `performance_profile`.
    dimensions : dict of str to int
        Number n of parameters of each problem.

    Returns
    -------
    Profile
        A step function of κ for each method, from κ = 0.

    Raises
    ------
    ArgumentError
        If the table is empty, a cost is negative, or a problem has no dimension.

    References
    ----------
    J. J. Moré, S. M. Wild, "Benchmarking derivative-free optimization algorithms" (2009).

    Examples
    --------
    >>> profile = data_profile({"easy": {"BFGS": 12}, "hard": {"BFGS": np.inf}}, {"easy": 2, "hard": 5})
    >>> profile.at("BFGS", 3.9), profile.at("BFGS", 4.0)
    (0.0, 0.5)
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
    """What each run needed to pass f(x) ≤ f_L + τ (f(x₀) − f_L).

    f(x₀) is the loss at the run's own start. f_L is the smaller of the known loss and the lowest loss of any run on
    that problem. Points that violate their constraints by more than 1e-6 do not pass.

    Parameters
    ----------
    runs : dict of str to dict of str to History
        ``runs[problem][method]``.
    tau : float, optional
        The share τ of the possible decrease that may be left, between 0 and 1. Default 1e-3.
    measure : {"closure calls", "iterations", "seconds"}, optional
        What is counted, up to the end of the iteration that passes. Default "closure calls".
    best_losses : dict of str to float or None, optional
        Known lowest loss by problem. Default: that of the runs only.

    Returns
    -------
    CostTable
        The costs; infinity if a run never passed.

    Raises
    ------
    ArgumentError
        If the measure is not known or `tau` is outside (0, 1).

    References
    ----------
    J. J. Moré, S. M. Wild, "Benchmarking derivative-free optimization algorithms" (2009).

    Examples
    --------
    >>> sphere = {name: minimize(lambda x: (x**2).sum(), [3.0, 4.0], name).history for name in ("BFGS", "CG")}
    >>> table = cost_table({"sphere": sphere}, measure="iterations")
    >>> sorted(table.cost["sphere"]), table.measure
    (['BFGS', 'CG'], 'iterations')
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
