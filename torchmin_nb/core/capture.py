"""Second derivatives from a closure that calls `backward()`, without patching anything.

Inside a `TorchFunctionMode`, `loss.backward()` is seen before it runs, and answered with
`torch.autograd.grad(..., create_graph=True)`: the gradient with its graph, and no reference cycle between a
parameter and its `.grad`. A closure's own `torch.autograd.grad` passes through untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["CaptureBackward", "differentiable_gradient"]

Gradient = tuple[torch.Tensor | None, ...]


def differentiable_gradient(
    outputs: torch.Tensor | Sequence[torch.Tensor],
    parameters: Sequence[torch.Tensor],
    grad_outputs: torch.Tensor | Sequence[torch.Tensor | None] | None = None,
) -> Gradient:
    """The gradient for each parameter, itself differentiable; None where `outputs` do not depend on it."""
    return torch.autograd.grad(outputs, parameters, grad_outputs, create_graph=True, allow_unused=True)


class CaptureBackward(TorchFunctionMode):
    """Answers `Tensor.backward` and `torch.autograd.backward` with a differentiable gradient.

    `gradient` is the sum over all calls, one entry a parameter; `.grad` holds a detached copy, as after a real
    `backward`. `gradient=` and `inputs=` are honoured. `total` is the sum of the scalars backpropagated.
    """

    def __init__(self, parameters: Sequence[torch.Tensor]):
        super().__init__()
        self._parameters = list(parameters)
        self.gradient: Gradient = (None,) * len(self._parameters)
        self.called = False
        self.total: float | None = 0.0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.backward:
            return self._tensor_backward(*args, **kwargs)
        if func is torch.autograd.backward:
            return self._autograd_backward(*args, **kwargs)
        return func(*args, **kwargs)

    def _tensor_backward(
        self,
        tensor: torch.Tensor,
        gradient: torch.Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: torch.Tensor | Sequence[torch.Tensor] | None = None,
    ) -> None:
        self._capture([tensor], [gradient], inputs)

    def _autograd_backward(
        self,
        tensors: torch.Tensor | Sequence[torch.Tensor],
        grad_tensors: torch.Tensor | Sequence[torch.Tensor | None] | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        grad_variables: Any = None,
        inputs: torch.Tensor | Sequence[torch.Tensor] | None = None,
    ) -> None:
        outputs = _as_list(tensors)
        gradients = [None] * len(outputs) if grad_tensors is None else _as_list(grad_tensors)
        self._capture(outputs, gradients, inputs)

    def _capture(
        self,
        outputs: Sequence[torch.Tensor],
        grad_outputs: Sequence[torch.Tensor | None],
        inputs: torch.Tensor | Sequence[torch.Tensor] | None,
    ) -> None:
        self.called = True
        self._add_to_total(outputs, grad_outputs)
        parts = differentiable_gradient(outputs, self._parameters, grad_outputs)
        if inputs is not None:
            wanted = {id(tensor) for tensor in _as_list(inputs)}
            parts = tuple(
                part if id(tensor) in wanted else None for tensor, part in zip(self._parameters, parts, strict=True)
            )
        self.gradient = tuple(_sum(old, new) for old, new in zip(self.gradient, parts, strict=True))
        for tensor, part in zip(self._parameters, parts, strict=True):
            if part is not None:
                # A clone: the closure may clip `.grad` in place, and the graph must not notice.
                tensor.grad = _sum(tensor.grad, part.detach().clone())

    def _add_to_total(self, outputs: Sequence[torch.Tensor], grad_outputs: Sequence[torch.Tensor | None]) -> None:
        plain = all(out.numel() == 1 and weight is None for out, weight in zip(outputs, grad_outputs, strict=True))
        if self.total is not None:
            self.total = self.total + sum(float(out.detach()) for out in outputs) if plain else None


def _as_list(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)


def _sum(old: torch.Tensor | None, new: torch.Tensor | None) -> torch.Tensor | None:
    if old is None or new is None:
        return new if old is None else old
    return old + new
