"""Products and norms summed in float64, and several numbers in one transfer."""

from __future__ import annotations

import math

import torch

from ..runtime.control import NONFINITE_CURVATURE, StopRun
from .contract import Sample

__all__ = ["dot", "finite_curvature", "norm1", "numbers", "stands", "wide"]

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


def norm1(a: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """The sum of the absolute values of a vector, a scalar in float64. out: room for them."""
    return torch.abs(a, out=out).sum(dtype=None if a.device.type == "mps" else torch.float64)


def numbers(*values: torch.Tensor) -> list[float]:
    """Scalars of one dtype as Python floats: one transfer."""
    return torch.stack(values).tolist()


def stands(sample: Sample, x: torch.Tensor, change: float) -> bool:
    """Whether x is the sample's, a step from which the loss should change by `change`.

    Looked at only where that is lost in rounding: SciPy evaluates no point again, and it costs a transfer.
    """
    return abs(change) <= torch.finfo(x.dtype).eps * abs(sample.loss) and torch.equal(x, sample.x)


def finite_curvature(*values: float) -> None:
    """Raise StopRun where a number made of second derivatives is NaN or infinite."""
    if not all(map(math.isfinite, values)):
        raise StopRun(NONFINITE_CURVATURE)
