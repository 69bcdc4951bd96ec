"""Problems that are stopped, transfers that are counted, and states that are compared."""

from __future__ import annotations

import math
from contextlib import contextmanager

import torch

from tests.core.solvers.plain import FunctionProblem
from torchmin_nb.core.runtime.control import STOPPED, StopRun


class StopAfter(FunctionProblem):
    """Raises StopRun at the work of this number, once."""

    left = math.inf

    def _work(self):
        self.left -= 1
        if self.left == 0:
            self.left = math.inf
            raise StopRun(STOPPED)

    def evaluate(self, x, along=None):
        self._work()
        return super().evaluate(x, along)

    def product(self, sample, v, known=None):
        self._work()
        return super().product(sample, v, known)

    def hessian(self, sample):
        self._work()
        return super().hessian(sample)


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b or (a != a and b != b)


@contextmanager
def transfers(monkeypatch):
    """Sizes of the tensors that go to the host, a list that grows."""
    sizes: list[int] = []

    def counted(function):
        def count(tensor, *args, **kwargs):
            sizes.append(tensor.numel())
            return function(tensor, *args, **kwargs)

        return count

    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "numpy", "__array__", "__bool__", "__float__", "__int__", "__index__", "cpu"):
            patch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
        patch.setattr(torch, "equal", lambda a, b, equal=torch.equal: sizes.append(1) or equal(a, b))
        yield sizes


class Silent(FunctionProblem):
    """Its own transfers are not counted: an evaluation has one, a product and a Hessian none."""

    def __init__(self, *args, sizes):
        super().__init__(*args)
        self.sizes = sizes

    def _own(self, work, *args):
        before = len(self.sizes)
        found = work(*args)
        del self.sizes[before:]
        return found

    def evaluate(self, x, along=None):
        return self._own(super().evaluate, x, along)

    def product(self, sample, v, known=None):
        return self._own(super().product, sample, v, known)

    def hessian(self, sample):
        return self._own(super().hessian, sample)
