"""States kept for `run.branch`: states of a solver on the device, or points of a SciPy solver."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..runtime.memory import available_bytes
from ..solvers.contract import State

__all__ = ["KeptStates"]


class KeptStates:
    """Copies of states, or of points x (n,), by iteration, within a memory budget.

    every: keep every n-th iteration; None: only the last. budget: bytes; None: half of the available memory.
    loss_scale: the scale of the loss in the states.
    """

    loss_scale = 1.0

    def __init__(self, every: int | None = None, budget: int | None = None):
        self._every = every
        self._left = float("inf") if every is None else float(available_bytes() // 2 if budget is None else budget)
        self._states: dict[int, State | NDArray[np.float64]] = {}

    def offer(self, iteration: int, state: State | NDArray[np.float64]) -> None:
        """Keep a copy if this iteration is one of those to keep."""
        if self._every is None or iteration % self._every:
            return
        size = _bytes(state.packed() if isinstance(state, State) else state)
        if size <= self._left:
            self._left -= size
            self._states[iteration] = state.copy()

    def put_last(self, iteration: int, state: State | NDArray[np.float64]) -> None:
        """Keep the state at the end of the run, without copying, and without the graph of its sample."""
        self._states[iteration] = _without_graphs(state) if isinstance(state, State) else state

    def __getitem__(self, iteration: int) -> State | NDArray[np.float64]:
        return self._states[iteration]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._states))

    def __len__(self) -> int:
        return len(self._states)


def _without_graphs(state: State) -> State:
    """The state, whose samples have only the fields that are stored."""
    state = copy(state)
    for each in fields(state):
        sample = getattr(state, each.name)
        kind = getattr(sample, "packed_as", None)
        if kind is not None:
            setattr(state, each.name, kind(**{part.name: getattr(sample, part.name) for part in fields(kind)}))
    return state


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, list) else 0
