"""Problems of a plain vector: one parameter x, shape (n,), and a function of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .problem import Problem

__all__ = ["Box", "Builder", "Function", "Window", "drawn", "plane_problem", "vector_problem"]

Box = tuple[float, float]
Window = tuple[Box, Box]
Function = Callable[[torch.Tensor], torch.Tensor]
Builder = Callable[..., Problem]


def drawn(usual: Sequence[float], boxes: Sequence[Box], seed: int) -> torch.Tensor:
    """The usual start (seed 0), or a random point in the boxes, one for each coordinate; shape (n,).

    Drawn in float64 by a new generator, so that both dtypes start at the same point and no global state changes.
    """
    if seed == 0:
        return torch.tensor(usual, dtype=torch.float64)
    low, high = torch.tensor(boxes, dtype=torch.float64).T
    share = torch.rand(len(usual), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x: torch.Tensor = low + (high - low) * share
    return x


def vector_problem(
    function: Function,
    usual: Sequence[float],
    boxes: Sequence[Box],
    *,
    dtype: torch.dtype,
    seed: int,
    **known: Any,
) -> Problem:
    """The problem of function(x), x (..., n) -> (...), from `drawn(usual, boxes, seed)`. `known` goes to Problem."""
    parameter = torch.nn.Parameter(drawn(usual, boxes, seed).to(dtype))
    return Problem([parameter], lambda: function(parameter), function=function, **known)


def plane_problem(function: Function, usual: Box, window: Window, **known: Any) -> Builder:
    """A builder of the problem of function(x), x (..., 2), that starts at random within the window."""

    def build(*, dtype: torch.dtype, seed: int) -> Problem:
        return vector_problem(function, usual, window, dtype=dtype, seed=seed, window=window, **known)

    return build
