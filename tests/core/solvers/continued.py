"""A run ended at every step, saved, read back and gone on with."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch

from torchmin_nb.core.solvers.contract import Solver, State


def saved_and_read(state: State) -> State:
    """The state after torch.save and torch.load(weights_only=True)."""
    file = io.BytesIO()
    torch.save(state.packed(), file)
    file.seek(0)
    return type(state).unpacked(torch.load(file, weights_only=True))


def points(
    solver: Callable[[], Solver[Any]], problem: Callable[[], Any], steps: int, *, resume_at: int | None = None
) -> list[torch.Tensor]:
    """x after every step; at `resume_at` the run goes on in a new solver, from a saved state, on a new problem."""
    method, here = solver(), problem()
    state = method.init(here)
    found = []
    for k in range(steps):
        if k == resume_at:
            method, here, state = solver(), problem(), saved_and_read(state)
        if method.terminate(here, state) is not None:
            break
        state = method.step(here, state)
        found.append(state.sample.x.clone())
    return found
