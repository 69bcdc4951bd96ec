"""The user's numbers: values that a closure records during a call."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import torch

from ...errors import ArgumentError, ArgumentTypeError
from .records import FIELDS

__all__ = ["collecting", "numbers", "record"]


_target: ContextVar[dict[str, float] | None] = ContextVar("torchmin_nb_metrics", default=None)


def record(**metrics: float | torch.Tensor) -> None:
    """Put numbers of your own on this evaluation and its iteration. Call it inside any closure, of any run.

    It is for closures that serve several optimizers, and for `observe`. It does the same as the ``record`` of a
    wrapper. Outside a closure call it does nothing.

    Parameters
    ----------
    **metrics : float or torch.Tensor of one element
        Numbers by name. They are in ``Iteration.metrics`` and ``History.metrics``.

    Raises
    ------
    ArgumentTypeError
        If a value is not a number.
    ArgumentError
        If a name is one of the fields of Iteration.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([3.0]))
    >>> def closure():
    ...     record(distance=x.abs().sum())
    ...     return (x**2).sum()
    >>> run = observe(torch.optim.SGD([x], lr=0.25), closure, steps=3)
    >>> run.wait().success, run.history.metrics["distance"].tolist()
    (True, [3.0, 1.5, 0.75])
    """
    recorded = numbers(metrics)
    target = _target.get()
    if target is not None:
        target.update(recorded)


def numbers(metrics: Mapping[str, float | torch.Tensor]) -> dict[str, float]:
    """The recorded values, as numbers by name. Raises ArgumentTypeError, and ArgumentError for a field of Iteration."""
    for name in metrics:
        if name in FIELDS:
            raise ArgumentError(
                f"record({name}=...) uses the name of a field of Iteration: {', '.join(FIELDS)}; "
                f"choose another name, such as my_{name}"
            )
    return {name: _as_number(name, value) for name, value in metrics.items()}


class collecting:  # noqa: N801 - a context manager, entered in each closure call
    """Store the values that a closure records during a call in `target`."""

    def __init__(self, target: dict[str, float]):
        self._collected = target

    def __enter__(self) -> None:
        self._token = _target.set(self._collected)

    def __exit__(self, *error: object) -> None:
        _target.reset(self._token)


def _as_number(name: str, value: Any) -> float:
    """An argument of `record` as a float."""
    try:
        return float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentTypeError(f"record({name}=...) needs a number or a scalar tensor, got {value!r}") from None
