"""Second derivatives from a closure that calls `backward()`, without patching anything.

A `TorchFunctionMode` intercepts `loss.backward()` and replaces it by
`torch.autograd.grad(..., create_graph=True)`: the gradient with its graph, and no reference cycle between a
parameter and its `.grad`. A closure's own `torch.autograd.grad` passes through untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .backward_pass import backward_pass

__all__ = ["CaptureBackward", "differentiable_gradient"]

Gradient = tuple[torch.Tensor | None, ...]
_TENSOR_BACKWARD, _BACKWARD = torch.Tensor.backward, torch.autograd.backward


def differentiable_gradient(
    outputs: torch.Tensor | Sequence[torch.Tensor],
    parameters: Sequence[torch.Tensor],
    grad_outputs: torch.Tensor | Sequence[torch.Tensor | None] | None = None,
) -> Gradient:
    """The gradient for each parameter, itself differentiable; None if `outputs` do not depend on the parameter."""
    outputs = _as_list(outputs)
    grad_outputs_list = [None] * len(outputs) if grad_outputs is None else _as_list(grad_outputs)
    weights = [_tracked(output, weight) for output, weight in zip(outputs, grad_outputs_list, strict=True)]
    if all(map(_fits, outputs, weights)):
        return backward_pass(outputs, parameters, weights, create_graph=True)
    return torch.autograd.grad(outputs, parameters, weights, create_graph=True, allow_unused=True)


def _fits(output: torch.Tensor, weight: torch.Tensor | None) -> bool:
    """Whether a backward pass can start there; `torch.autograd.grad` says what is wrong otherwise."""
    return output.requires_grad and weight is not None and weight.shape == output.shape


def _tracked(output: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor | None:
    """The weight as a tensor that requires grad: a once_differentiable backward then leaves a mark in the graph."""
    if weight is None:
        return torch.ones_like(output, requires_grad=True) if output.numel() == 1 else None
    return weight if weight.requires_grad else weight.detach().requires_grad_()


class CaptureBackward(TorchFunctionMode):
    """Answers `Tensor.backward` and `torch.autograd.backward` with a differentiable gradient.

    `gradient` is the sum over all calls, one entry for each parameter; `.grad` holds a detached copy, as after a real
    `backward`. `gradient=` and `inputs=` are honoured. A call that reaches no parameter, or whose `inputs` name other
    tensors, works as without this mode. `scalars`: those that were backpropagated; None if other values were too.
    """

    def __init__(self, parameters: Sequence[torch.Tensor]):
        super().__init__()
        self._parameters = list(parameters)
        self.gradient: Gradient = (None,) * len(self._parameters)
        self.called = False
        self.scalars: list[torch.Tensor] | None = []

    @property
    def total(self) -> float | None:
        """The sum of the backpropagated scalars; None if something else was backpropagated."""
        return None if self.scalars is None else sum(map(float, self.scalars))

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _TENSOR_BACKWARD:
            return self._tensor_backward(*args, **kwargs)
        if func is _BACKWARD:
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
        if inputs is None:
            self._capture_parameters(outputs, grad_outputs)
            return
        wanted, known = _as_list(inputs), {id(tensor) for tensor in self._parameters}
        others = [tensor for tensor in wanted if id(tensor) not in known]
        if others:
            torch.autograd.backward(outputs, grad_outputs, retain_graph=True, inputs=others)
        if len(others) < len(wanted):
            self._capture_parameters(outputs, grad_outputs, {id(tensor) for tensor in wanted})

    def _capture_parameters(
        self,
        outputs: Sequence[torch.Tensor],
        grad_outputs: Sequence[torch.Tensor | None],
        wanted: set[int] | None = None,
    ) -> None:
        reached = differentiable_gradient(outputs, self._parameters, grad_outputs)
        if all(part is None for part in reached):  # a backward pass that reaches no parameter, as of an inner problem
            torch.autograd.backward(outputs, grad_outputs)
            return
        self._note_scalars(outputs, grad_outputs)
        if wanted is not None:
            reached = tuple(
                part if id(tensor) in wanted else None for tensor, part in zip(self._parameters, reached, strict=True)
            )
        self.gradient = tuple(map(_sum, self.gradient, reached)) if self.called else reached
        self.called = True
        for tensor, part in zip(self._parameters, reached, strict=True):
            if part is not None:
                # A clone: the closure may clip `.grad` in place, and the graph must not notice.
                tensor.grad = _sum(tensor.grad, part.detach().clone())

    def _note_scalars(self, outputs: Sequence[torch.Tensor], grad_outputs: Sequence[torch.Tensor | None]) -> None:
        plain = all(out.numel() == 1 and weight is None for out, weight in zip(outputs, grad_outputs, strict=True))
        if plain and self.scalars is not None:
            self.scalars += [out.detach() for out in outputs]
        else:
            self.scalars = None


def _as_list(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)


def _sum(old: torch.Tensor | None, new: torch.Tensor | None) -> torch.Tensor | None:
    if old is None or new is None:
        return new if old is None else old
    return old + new
