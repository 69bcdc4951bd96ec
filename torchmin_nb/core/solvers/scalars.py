"""Products of vectors as Python floats."""

from __future__ import annotations

import math

import torch

from .contract import Sample
from .vectors import dot, numbers

__all__ = ["dots", "gradient_norm"]


def dots(*pairs: tuple[torch.Tensor, torch.Tensor]) -> list[float]:
    """a·b of each pair, summed in float64: one transfer."""
    return numbers(*(dot(a, b) for a, b in pairs))


def gradient_norm(sample: Sample, order: float) -> float:
    """SciPy's `norm` of the gradient. One transfer for orders other than 2 and inf, which the sample does not have."""
    if order == math.inf:
        return sample.largest
    return sample.norm if order == 2 else float(torch.linalg.vector_norm(sample.gradient, order))
