"""Products and norms summed in float64, and several numbers in one transfer."""

from __future__ import annotations

import math

import torch

from ..runtime.control import NONFINITE_CURVATURE, StopRun
from .contract import Sample

__all__ = ["dot", "finite_curvature", "norm1", "numbers", "stands", "wide"]

_SHORT, _BLOCK = 2**15, 2**17


def wide(x: torch.Tensor) -> torch.Tensor:
    """x in float64; unchanged on MPS, which has no float64."""
    return x if x.device.type == "mps" else x.double()


def dot(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """a·b of two vectors, a scalar in float64.

    On the CPU long float32 vectors are multiplied in blocks, and the blocks added in float64: a float64 copy would take
    longer than a Hessian-vector product.
    """
    if a.dtype == torch.float64:
        return torch.dot(a, b, out=out)
    return _narrow_dot(a, b) if out is None else out.copy_(_narrow_dot(a, b))


def _narrow_dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if a.numel() < _SHORT:
        return torch.dot(wide(a), wide(b))
    if a.device.type == "cpu" and a.numel() <= _BLOCK:
        return torch.dot(a, b).double()
    if a.device.type == "cpu":
        return torch.stack([torch.dot(*pair) for pair in zip(a.split(_BLOCK), b.split(_BLOCK), strict=True)]).sum(
            dtype=torch.float64
        )
    return _sum(a * b)


def norm1(a: torch.Tensor) -> torch.Tensor:
    """The sum of the absolute values of a vector, a scalar in float64."""
    return _sum(a.abs())  # torch.linalg.vector_norm takes twice as long


def _sum(a: torch.Tensor) -> torch.Tensor:
    return a.sum(dtype=None if a.device.type == "mps" else torch.float64)


def numbers(*values: torch.Tensor) -> list[float]:
    """Scalars of any floating dtype on one device as Python floats: one transfer."""
    return torch.stack(values).tolist()


def stands(sample: Sample, x: torch.Tensor, change: float) -> bool:
    """Whether x equals the sample's point; the loss should change by `change` in between.

    Compared only if that change is below rounding, because the comparison costs a transfer. SciPy evaluates no point
    twice.
    """
    return abs(change) <= 4 * torch.finfo(x.dtype).eps * abs(sample.loss) and torch.equal(x, sample.x)


def finite_curvature(*values: float) -> None:
    """Raise StopRun if a number computed from second derivatives is NaN or infinite."""
    if not all(map(math.isfinite, values)):
        raise StopRun(NONFINITE_CURVATURE)
