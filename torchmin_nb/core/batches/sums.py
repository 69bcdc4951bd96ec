"""Sums of vectors over batches, more exact than the dtype of the batches."""

from __future__ import annotations

import torch

__all__ = ["Sum"]


class Sum:
    """A running sum of vectors of shape (n,), in float64.

    On a device without float64 it is compensated: the rounding errors are summed in a second vector.
    """

    def __init__(self, n: int, device: torch.device):
        self._exact = device.type != "mps"
        self.total = torch.zeros(n, dtype=torch.float64 if self._exact else torch.float32, device=device)
        self._rest = None if self._exact else torch.zeros_like(self.total)

    def add(self, v: torch.Tensor, weight: float = 1.0) -> None:
        """Add weight · v."""
        if self._rest is None:
            self.total.add_(v, alpha=weight)
            return
        term = v * weight - self._rest
        total = self.total + term
        torch.sub(total - self.total, term, out=self._rest)
        self.total = total

    def scale(self, factor: float) -> None:
        """Multiply the sum."""
        self.total.mul_(factor)
        if self._rest is not None:
            self._rest.mul_(factor)
