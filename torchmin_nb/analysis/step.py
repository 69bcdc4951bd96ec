"""The step between two iterates, for every kind of method: line search, trust region or simplex."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from ..core.history.history import History
from ..core.methods.local import METHODS, find_method
from ..errors import ArgumentError
from .line_search import LineStep, line_step
from .loss import Local, opened
from .simplex import SimplexStep, simplex_step
from .trust_region_step import RegionStep, region_step

__all__ = ["Step", "explained_methods", "step_data"]

Step = LineStep | RegionStep | SimplexStep


def step_data(
    loss: Callable[..., Any],
    history: History,
    k: int,
    *,
    parameters: Iterable[torch.Tensor] | None = None,
    scale: Any = 1.0,
) -> Step:
    """What happened inside the step from iterate k to iterate k + 1.

    The picture depends on how the method finds its steps: by a line search, in a trust region or with a simplex.

    Parameters
    ----------
    loss : callable
        A function of x, shape (n,), float64. Or a closure; then give its `parameters`.
    history : History
        A run with ``keep_parameters=True``; also with ``keep_evaluations=True`` for trials and rejected steps.
    k : int
        The step: 0 to len(history) − 2. Negative numbers count from the last step.
    parameters : iterable of torch.Tensor or None, optional
        Parameters of a closure. They, their ``.grad`` and buffers are restored.
    scale : float or array_like of shape (n,), optional
        Scale of the parameters, as in the run. Default 1.

    Returns
    -------
    LineStep, RegionStep or SimplexStep
        The data of the step, as named tuples of arrays.

    Raises
    ------
    ArgumentError
        If k is out of range, or the method finds its steps in another way.
    HistoryError
        If the history has not kept enough.

    Examples
    --------
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> x0 = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    >>> history = minimize(rosenbrock, x0, "trust-ncg", keep_parameters=True, keep_evaluations=True).history
    >>> step = step_data(rosenbrock, history, 0)
    >>> type(step).__name__
    'RegionStep'
    """
    explain = _explainer(history.method)
    steps = len(history) - 1
    if not -steps <= k < steps:
        raise ArgumentError(f"step {k} is not in this history; choose one of 0 to {steps - 1}")
    widths = np.asarray(scale, dtype=np.float64)
    with opened(loss, parameters) as local:
        return explain(local, history, k % steps, float(widths) if widths.ndim == 0 else widths.ravel())


def explained_methods() -> list[str]:
    """The methods whose steps `step_data` explains.

    Returns
    -------
    list of str
        Their names.

    Examples
    --------
    >>> "trust-ncg" in explained_methods(), "COBYLA" in explained_methods()
    (True, False)
    """
    return [name for name, spec in METHODS.items() if spec.step in _EXPLAINERS]


def _explainer(method: str) -> Callable[[Local, History, int, Any], Step]:
    kind = find_method(method).step if method in METHODS else ""
    if kind not in _EXPLAINERS:
        raise ArgumentError(
            f"the steps of {method or 'this run'} cannot be drawn; choose a run by one of "
            f"{', '.join(explained_methods())}"
        )
    return _EXPLAINERS[kind]


_EXPLAINERS: dict[str, Callable[[Local, History, int, Any], Step]] = {
    "line search": lambda loss, history, k, scale: line_step(loss, history, k),
    "trust region": region_step,
    "simplex": lambda loss, history, k, scale: simplex_step(history, k),
}
