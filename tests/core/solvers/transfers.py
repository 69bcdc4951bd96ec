"""Numbers that leave the device, counted on the CPU, where they cost nothing and no torch mode sees them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

_METHODS = ("item", "tolist", "numpy", "__array__", "__float__", "__int__", "__bool__", "__index__")


@contextmanager
def counted_transfers() -> Iterator[list[int]]:
    """How many numbers each transfer brings, in order."""
    found: list[int] = []

    def counted(name):
        original = getattr(torch.Tensor, name)

        def method(self, *args, **kwargs):
            found.append(self.numel())
            return original(self, *args, **kwargs)

        return method

    with pytest.MonkeyPatch.context() as patch:
        for name in _METHODS:
            patch.setattr(torch.Tensor, name, counted(name))
        yield found
