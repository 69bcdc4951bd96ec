"""The order of convergence of a run with a known answer: the decrease of the error from step to step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.history.history import History
from ..errors import ArgumentError
from .landscape import Runs, named_runs

__all__ = ["Order", "order_data", "order_of_convergence"]

_FEWEST = 3
_SURE = 5
_LINEAR = 0.15


class Order(NamedTuple):
    """How fast the error of a run falls: the slope of log e(k+1) against log e(k), where the run converges.

    Attributes
    ----------
    name : str
        Name of the run.
    before : ndarray of shape (m,)
        The error before each step that moved, float64.
    after : ndarray of shape (m,)
        The error after it, float64.
    fitted : ndarray of shape (m,)
        bool, True for the steps that the slope is fitted to.
    order : float or None
        Slope of log10(after) = order · log10(before) + intercept. None if too few steps are left.
    intercept : float or None
        Intercept of the same line.
    rate : float or None
        Mean factor of the error over the fitted steps.
    floor : float
        Below this, rounding decides the error.
    measure : str
        What the error is, in words.
    words : str
        How far the order can be trusted, in words.

    See Also
    --------
    order_of_convergence : makes it, and has an example.
    """

    name: str
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    fitted: NDArray[np.bool_]
    order: float | None
    intercept: float | None
    rate: float | None
    floor: float
    measure: str
    words: str


def order_of_convergence(
    history: History,
    *,
    minimizer: Sequence[float] | NDArray[np.float64] | None = None,
    best_loss: float | None = None,
    floor: float | None = None,
    name: str = "",
) -> Order:
    """The order of convergence of one run, by the distance to the minimizer or by the loss above its minimum.

    Both have the same order at a minimum with a positive definite Hessian. Rejected steps are left out. The slope is
    fitted to the unbroken fall of the error that ends the run: to its lower half in decades, and at least to three
    steps.

    Parameters
    ----------
    history : History
        The run; with ``keep_parameters=True`` for a `minimizer`.
    minimizer : array_like of shape (n,) or None, optional
        The known minimizer. Pass this or `best_loss`.
    best_loss : float or None, optional
        The known loss there.
    floor : float or None, optional
        Smallest error that is more than rounding. Default: sqrt(eps) · max(1, ‖x*‖) for a distance, since a loss cannot
        distinguish closer points; 100 eps · max(1, abs(f*)) for a loss, with eps of the run's dtype.
    name : str, optional
        Name of the run. Default: its method.

    Returns
    -------
    Order
        Errors, slope, and how far to trust it.

    Raises
    ------
    ArgumentError
        If `minimizer` and `best_loss` are both given or both missing, or the minimizer has a wrong size.
    HistoryError
        If a minimizer is given and the run has kept no points.

    References
    ----------
    J. Nocedal, S. J. Wright, "Numerical Optimization" (2006), appendix A.2.

    Examples
    --------
    >>> x0 = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> history = minimize(rosenbrock, x0, "trust-exact", options=dict(gtol=1e-10), keep_parameters=True).history
    >>> order = order_of_convergence(history, minimizer=[1.0, 1.0])
    >>> order.order > 1.5, order.measure
    (True, 'distance to the minimizer')
    """
    errors, least, measure = _errors(history, minimizer, best_loss)
    least = least if floor is None else float(floor)
    moved = [k for k in range(1, len(errors)) if history[k].accepted is not False]
    before, after = errors[[k - 1 for k in moved]], errors[moved]
    known = np.isfinite(before) & np.isfinite(after) & (before > 0) & (after > 0)
    before, after = before[known], after[known]
    fitted = _asymptotic(before, after, least)
    order, intercept, rate = _fit(before[fitted], after[fitted])
    reached = bool((after < least).any())
    words = _words(name or history.method, order, rate, int(fitted.sum()), reached, least)
    return Order(name or history.method, before, after, fitted, order, intercept, rate, least, measure, words)


def order_data(
    histories: Runs,
    *,
    minimizer: Sequence[float] | NDArray[np.float64] | None = None,
    best_loss: float | None = None,
    floor: float | None = None,
) -> list[Order]:
    """`order_of_convergence` of one run or of several.

    Parameters
    ----------
    histories : History or dict of str to History
        The runs by name.
    minimizer : array_like of shape (n,) or None, optional
        The known minimizer. Pass this or `best_loss`.
    best_loss : float or None, optional
        The known loss there.
    floor : float or None, optional
        Smallest error that is more than rounding. Default: see `order_of_convergence`.

    Returns
    -------
    list of Order
        One for each run.

    Raises
    ------
    ArgumentError
        If `minimizer` and `best_loss` are both given or both missing, or the minimizer has a wrong size.
    HistoryError
        If a minimizer is given and a run has kept no points.

    Examples
    --------
    >>> runs = {name: minimize(lambda x: (x**4).sum(), [3.0, 4.0], name).history for name in ("BFGS", "Newton-CG")}
    >>> [(order.name, order.measure) for order in order_data(runs, best_loss=0.0)]
    [('BFGS', 'loss above its minimum'), ('Newton-CG', 'loss above its minimum')]
    """
    return [
        order_of_convergence(history, minimizer=minimizer, best_loss=best_loss, floor=floor, name=name)
        for name, history in named_runs(histories)
    ]


def _errors(
    history: History, minimizer: Sequence[float] | NDArray[np.float64] | None, best_loss: float | None
) -> tuple[NDArray[np.float64], float, str]:
    """Errors (k,), the floor of rounding, and a description of the errors."""
    if (minimizer is None) == (best_loss is None):
        raise ArgumentError("pass the known answer once: minimizer= (a point) or best_loss= (its loss)")
    eps = float(np.finfo(history.dtype or "float64").eps)
    if best_loss is not None:
        return history.loss - best_loss, 100 * eps * max(1.0, abs(best_loss)), "loss above its minimum"
    answer = np.asarray(minimizer, dtype=np.float64).ravel()
    path = history.parameters
    if len(path) and path.shape[1] != answer.size:
        raise ArgumentError(f"minimizer has {answer.size} entries; the run has {path.shape[1]} parameters")
    distance = np.linalg.norm(path - answer, axis=1) if len(path) else np.empty(0)
    return distance, math.sqrt(eps) * max(1.0, float(np.linalg.norm(answer))), "distance to the minimizer"


def _asymptotic(before: NDArray[np.float64], after: NDArray[np.float64], floor: float) -> NDArray[np.bool_]:
    """The steps of the last unbroken decrease above the floor: its lower half in decades, or its last three."""
    chosen = np.zeros(len(before), dtype=bool)
    usable = np.flatnonzero(after >= floor)
    if not usable.size:
        return chosen
    last = first = int(usable[-1])
    if after[last] >= before[last]:
        return chosen
    while first > 0 and after[first - 1] < before[first - 1]:
        first -= 1
    middle = math.sqrt(before[first] * after[last])
    lower = int(np.searchsorted(-before[first : last + 1], -middle)) + first
    chosen[max(first, min(lower, last + 1 - _FEWEST)) : last + 1] = True
    return chosen


def _fit(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    if len(before) < _FEWEST:
        return None, None, None
    order, intercept = np.polyfit(np.log10(before), np.log10(after), 1)
    return float(order), float(intercept), float(np.exp(np.mean(np.log(after / before))))


def _words(name: str, order: float | None, rate: float | None, steps: int, reached: bool, floor: float) -> str:
    ending = f"; errors below {floor:.1g} are rounding" if reached else ""
    if order is None:
        counted = f"only {steps} step{'s' * (steps != 1)}" if steps else "no step"
        return f"{name}: {counted} of steady convergence above rounding, too few to determine an order{ending}."
    text = f"{name}: order {order:.2f} over {steps} steps"
    if abs(order - 1) < _LINEAR:
        text += f", linear: each step leaves {rate:.2g} of the error"
    elif order < 1:
        text += ", the error falls unevenly"
    return f"{text}{'' if steps >= _SURE else ', few to be sure'}{ending}."
