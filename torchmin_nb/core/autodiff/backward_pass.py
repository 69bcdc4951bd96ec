"""One pass backwards through a graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.autograd.graph import _engine_run_backward

__all__ = ["backward_pass"]


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
    found: tuple[torch.Tensor | None, ...] = _engine_run_backward(
        tuple(outputs), tuple(weights), True, create_graph, tuple(inputs), True, accumulate_grad=False
    )
    return found
