"""Dot products summed in float64, and several numbers in one transfer."""

from __future__ import annotations

import math

import torch

from ..control import NONFINITE_CURVATURE, StopRun

__all__ = ["dot", "finite_curvature", "numbers", "wide"]

_BLOCK = 1024
_MANY = 64 * _BLOCK


def wide(x: torch.Tensor) -> torch.Tensor:
    """x in float64; as it is on MPS, which has none."""
    return x if x.device.type == "mps" else x.double()


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a·b of two vectors, a scalar in float64.

    Long float32 vectors are multiplied and added in blocks in float32, and the blocks added in float64: a copy of a
    long vector in float64 costs more than a Hessian-vector product.
    """
    if a.dtype == torch.float64:
        return torch.dot(a, b)
    if a.numel() < _MANY:
        return torch.dot(wide(a), wide(b))
    whole = a.numel() // _BLOCK * _BLOCK
    blocks = torch.linalg.vecdot(a[:whole].view(-1, _BLOCK), b[:whole].view(-1, _BLOCK))
    return wide(blocks).sum() + torch.dot(wide(a[whole:]), wide(b[whole:]))


def numbers(*values: torch.Tensor) -> list[float]:
    """Scalars of one dtype as Python floats: one transfer."""
    return torch.stack(values).tolist()


def finite_curvature(*values: float) -> None:
    """Raise StopRun where a number made of second derivatives is NaN or infinite."""
    if not all(map(math.isfinite, values)):
        raise StopRun(NONFINITE_CURVATURE)
