"""Small tanh networks as plain lists of parameters, drawn without touching torch's global generator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

__all__ = ["forward", "layers"]


def layers(widths: Sequence[int], dtype: torch.dtype, seed: int) -> list[torch.nn.Parameter]:
    """Weights (in, out), normal with variance 1/in, each followed by its biases (out,), zero.

    Drawn in float64, so that both dtypes start at the same point. Seed 0 is an ordinary draw.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = []
    for into, out in pairwise(widths):
        weight = torch.randn(into, out, dtype=torch.float64, generator=generator) / into**0.5
        parameters += [weight.to(dtype), torch.zeros(out, dtype=dtype)]
    return [torch.nn.Parameter(each) for each in parameters]


def forward(parameters: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The network's output for x (k, in), shape (k, out): tanh after every layer except the last."""
    *hidden, (weight, bias) = list(zip(parameters[::2], parameters[1::2], strict=True))
    for each_weight, each_bias in hidden:
        x = torch.tanh(x @ each_weight + each_bias)
    return x @ weight + bias
