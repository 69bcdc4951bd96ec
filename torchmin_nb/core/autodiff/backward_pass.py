"""One pass backwards through a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = ["backward_pass"]

_run: Callable[..., Any] | None = getattr(torch.autograd.graph, "_engine_run_backward", None)
"""Private in torch: a version may be without it."""


def backward_pass(
    outputs: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor | None],
    *,
    create_graph: bool,
) -> tuple[torch.Tensor | None, ...]:
    """`torch.autograd.grad` of outputs that require grad, with weights of their shape; None for an unused input.

    The graph is kept. torch's function checks its arguments first, which takes a tenth of a product of a small net.
    """
    if _run is None:
        return torch.autograd.grad(
            outputs, inputs, weights, retain_graph=True, create_graph=create_graph, allow_unused=True
        )
    found: tuple[torch.Tensor | None, ...] = _run(
        tuple(outputs), tuple(weights), True, create_graph, tuple(inputs), True, accumulate_grad=False
    )
    return found
