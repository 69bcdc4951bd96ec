"""A loss as values, slopes, gradients and Hessian-vector products at any x, from a function or from a closure.

A closure's parameters, their `.grad` and the buffers of its modules are restored at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.autodiff.closure import Closure, ClosureResult, evaluator_for
from ..core.autodiff.hessian import HvpGraph, second_derivatives_named
from ..core.autodiff.side_effects import preserved_buffers
from ..core.parameters.flat import FlatParameters
from ..errors import ArgumentError, ClosureError

__all__ = ["ClosureLoss", "FunctionLoss", "Local", "LossAt", "opened"]


class LossAt(Protocol):
    """The loss at one point: value, gradient (n,), and product(v) = H v, shape (n,)."""

    value: float
    gradient: NDArray[np.float64]

    def product(self, v: NDArray[np.float64]) -> NDArray[np.float64]: ...


class Local(Protocol):
    """The loss at rows of points, shape (k, n) -> (k,), NaN if it is not finite; and at one point x (n,)."""

    def values(self, rows: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def slopes(self, rows: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def at(self, x: NDArray[np.float64]) -> LossAt: ...


class _Graph:
    def __init__(self, value: float, gradient: NDArray[np.float64], product: Callable[..., NDArray[np.float64]]):
        self.value = value
        self.gradient = gradient
        self.product = product


class FunctionLoss:
    """The loss from a function x (n,) -> scalar, or (..., n) -> (...). Evaluated in float64."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        self._function = function

    def values(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (k, n) -> (k,)."""
        with torch.no_grad():
            return _finite(self._mapped(torch.from_numpy(rows)).numpy())

    def slopes(self, rows: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """The derivative along the direction (n,) at each row."""
        leaf = torch.from_numpy(np.array(rows)).requires_grad_()
        with torch.enable_grad():
            (gradients,) = torch.autograd.grad(self._mapped(leaf).sum(), [leaf])
        return _finite(gradients.numpy() @ direction)

    def _mapped(self, rows: torch.Tensor) -> torch.Tensor:
        """The function of each row: in one call under vmap, if that is possible."""
        try:
            values: torch.Tensor = torch.vmap(self._function)(rows)
            return values.reshape(len(rows))
        except (RuntimeError, ValueError):
            return torch.stack([self._function(row).reshape(()) for row in rows])

    def at(self, x: NDArray[np.float64]) -> LossAt:
        """Value, gradient and products at x (n,)."""
        leaf = torch.from_numpy(np.array(x, dtype=np.float64)).requires_grad_()
        flat = FlatParameters([leaf])
        with torch.enable_grad(), second_derivatives_named("use only twice differentiable operations in the closure"):
            loss = self._function(leaf)
            graph = torch.autograd.grad(loss, [leaf], create_graph=True)
        return _Graph(float(loss.detach()), flat.gather(graph), HvpGraph(graph, flat).hvp)


class ClosureLoss:
    """The loss from a closure over parameters. Use it inside `opened`."""

    def __init__(self, closure: Closure, flat: FlatParameters):
        self._evaluator = evaluator_for(closure, flat)
        self._flat = flat

    def values(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (k, n) -> (k,): one closure call for each row."""
        return _finite([self._evaluated("value", row).loss for row in rows])

    def slopes(self, rows: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """The derivative along the direction (n,) at each row: one closure call with gradient for each."""
        gradients = [self._evaluated("gradient", row).gradient for row in rows]
        return _finite([np.nan if gradient is None else gradient @ direction for gradient in gradients])

    def at(self, x: NDArray[np.float64]) -> LossAt:
        """Value, gradient and products at x (n,)."""
        x = np.array(x, dtype=np.float64)
        result = self._evaluated("curvature", x)
        gradient, graph = result.gradient, result.graph
        if graph is None or gradient is None:
            raise ClosureError(f"the loss is {result.loss} at x={x!r} and has no gradient there")

        def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
            self._flat.write(x)  # the graph reads the parameters
            return graph.hvp(np.array(v, dtype=np.float64))

        return _Graph(result.loss, gradient, product)

    def _evaluated(self, level: str, x: NDArray[np.float64]) -> ClosureResult:
        self._flat.write(np.array(x, dtype=np.float64))
        return self._evaluator.evaluate(level)


@contextmanager
def opened(loss: Callable[..., Any], parameters: Iterable[torch.Tensor] | None = None) -> Iterator[Local]:
    """Context manager for a loss: a function of x, or, with parameters, a closure over them; all state is restored.

    Raises ArgumentError if no entry of `parameters` requires grad.
    """
    if parameters is None:
        yield FunctionLoss(loss)
        return
    tensors = [tensor for tensor in parameters if tensor.requires_grad]
    if not tensors:
        raise ArgumentError("none of the parameters requires grad; pass the parameters that the run optimised")
    flat = FlatParameters(tensors)
    values, gradients = [tensor.detach().clone() for tensor in tensors], [tensor.grad for tensor in tensors]
    try:
        with preserved_buffers():
            yield ClosureLoss(loss, flat)
    finally:
        with torch.no_grad():
            for tensor, value, gradient in zip(tensors, values, gradients, strict=True):
                tensor.copy_(value)
                tensor.grad = gradient


def _finite(values: Any) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    return np.where(np.isfinite(array), array, np.nan)
