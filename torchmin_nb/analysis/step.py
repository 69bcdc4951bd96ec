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
    """Inside the step from iterate k to k + 1, by the method's own way: the `step` column of METHODS.

    loss: a function of x (n,), float64; or a closure, with its parameters: these, their .grad and buffers are left as
        they were. history: with keep_parameters=True, and keep_evaluations=True for trials and rejected steps.
    k: 0 to len(history) − 2; negative counts from the last step. scale: of the parameters, as in the run.

    Raises ArgumentError where k is out of range or the method finds its steps in another way; HistoryError where the
    history kept too little.
    """
    explain = _explainer(history.method)
    steps = len(history) - 1
    if not -steps <= k < steps:
        raise ArgumentError(f"step {k} is not in this history; choose one of 0 to {steps - 1}")
    widths = np.asarray(scale, dtype=np.float64)
    with opened(loss, parameters) as local:
        return explain(local, history, k % steps, float(widths) if widths.ndim == 0 else widths.ravel())


def explained_methods() -> list[str]:
    """The methods whose steps `step_data` explains."""
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
