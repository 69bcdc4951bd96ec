"""Inside a Nelder–Mead iteration: the simplex before, the points tried, the simplex after."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.history.history import History
from ..errors import HistoryError

__all__ = ["SimplexStep", "simplex_step"]


class SimplexStep(NamedTuple):
    """before, after: simplices (n+1, n), best first. trials (t, n), their losses (t,) and what each of them was."""

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    trials: NDArray[np.float64]
    losses: NDArray[np.float64]
    moves: tuple[str, ...]
    iteration: int
    words: tuple[str, ...]


class _Move(NamedTuple):
    names: tuple[str, ...]
    outcome: str


def simplex_step(history: History, k: int) -> SimplexStep:
    """Iteration k + 1 of Nelder–Mead, followed from the evaluations, which say where each point was tried.

    Source: Nelder & Mead (1965); the decisions are those of SciPy's `_minimize_neldermead`. Raises HistoryError where
    no trial points were kept, or the evaluations do not lead to the iterates that the run reports.
    """
    points = history.trials
    n = points.shape[1] if points.ndim == 2 else 0
    losses = np.array([e.loss for e in history.evaluations[: len(points)]])
    losses = np.where(np.isfinite(losses), losses, np.inf)
    if len(points) <= n:
        raise HistoryError("the run ended before its first simplex was complete; choose a longer run")
    simplex, values = _sorted(points[: n + 1], losses[: n + 1])
    groups = _per_iteration(history, n + 1, len(points))
    for iteration in range(1, k + 1):
        simplex, values, _ = _moved(simplex, values, points, losses, groups.get(iteration, []))
    indices = groups.get(k + 1, [])
    after, after_values, move = _moved(simplex, values, points, losses, indices)
    if not np.allclose(after[0], history.parameters[k + 1], rtol=1e-12, atol=1e-300):
        raise HistoryError(
            f"the evaluations of this history do not lead to its iterate {k + 1}; the simplex is unknown"
        )
    return SimplexStep(
        simplex, after, points[indices], losses[indices], move.names, k + 1, _words(move, values, after_values)
    )


def _per_iteration(history: History, first: int, last: int) -> dict[int, list[int]]:
    evaluations = history.evaluations[first:last]
    return {iteration: [e.index for e in group] for iteration, group in groupby(evaluations, key=lambda e: e.iteration)}


def _sorted(
    simplex: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    order = np.argsort(values, kind="stable")
    return simplex[order], values[order]


def _moved(
    simplex: NDArray[np.float64],
    values: NDArray[np.float64],
    points: NDArray[np.float64],
    losses: NDArray[np.float64],
    indices: list[int],
) -> tuple[NDArray[np.float64], NDArray[np.float64], _Move]:
    """The simplex after the trials of one iteration, by SciPy's decisions."""
    simplex, values = simplex.copy(), values.copy()
    if not indices:
        return simplex, values, _Move((), "no trial")
    reflected, *more = indices
    move, taken = _decide(values, losses, reflected, more)
    if taken is not None:
        simplex[-1], values[-1] = points[taken], losses[taken]
    elif len(more) > 1:
        shrunk = more[1 : len(simplex)]
        simplex[1 : 1 + len(shrunk)], values[1 : 1 + len(shrunk)] = points[shrunk], losses[shrunk]
    return (*_sorted(simplex, values), move)


def _decide(
    values: NDArray[np.float64], losses: NDArray[np.float64], reflected: int, more: list[int]
) -> tuple[_Move, int | None]:
    """The kinds of the trials, and the trial that replaces the worst vertex; None: the simplex shrinks."""
    loss, second = losses[reflected], more[0] if more else None
    if loss < values[0] and second is not None:
        taken = second if losses[second] < loss else reflected
        return _Move(("reflection", "expansion"), "expansion" if taken == second else "reflection"), taken
    if loss < values[-2] or second is None:
        return _Move(("reflection",), "reflection"), reflected
    outside = bool(loss < values[-1])
    name = "outside contraction" if outside else "inside contraction"
    holds = losses[second] <= loss if outside else losses[second] < values[-1]
    if holds:
        return _Move(("reflection", name), name), second
    return _Move(("reflection", name, *["shrunk vertex"] * (len(more) - 1)), "shrink"), None


_MEANING = {
    "reflection": "the worst vertex is reflected through the centre of the others",
    "expansion": "the reflected point is the best so far, and a point farther in that direction is even better",
    "outside contraction": "the reflected point is better only than the worst, so the simplex contracts towards it",
    "inside contraction": "the reflected point is no better than the worst, so the simplex contracts inside",
    "shrink": "no trial is better, so all vertices move halfway to the best",
}


def _words(move: _Move, before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[str, ...]:
    if move.outcome not in _MEANING:
        return ("There was no trial in this iteration.",)
    tried = len(move.names)
    return (
        f"{move.outcome.capitalize()}: {_MEANING[move.outcome]}.",
        f"{tried} closure call{'s' * (tried != 1)}; worst vertex {before[-1]:.4g} → {after[-1]:.4g}, "
        f"best {before[0]:.4g} → {after[0]:.4g}.",
    )
