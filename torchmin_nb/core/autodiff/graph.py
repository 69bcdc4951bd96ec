"""Facts about a closure call that autograd's graph of its result shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch

__all__ = ["leaves", "made_before", "nodes_of", "once_differentiable", "precision", "saved_bytes"]

_Result = TypeVar("_Result")


def once_differentiable(gradient: Sequence[torch.Tensor | None]) -> bool:
    """Whether the gradient's graph has the node that once_differentiable leaves; products cannot go through it."""
    waiting = [part.grad_fn for part in gradient if part is not None]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("::Error"):
            return True
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions)
    return False


def saved_bytes(call: Callable[[], _Result], rewind: Callable[[], None] = lambda: None) -> tuple[_Result, int | None]:
    """The return value of `call`, and the bytes that autograd saves for backward; None if they cannot be counted.

    torch.func refuses the hooks that count. Then `call` is called once more without them, after `rewind`.
    """
    total = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            return call(), total
    except RuntimeError as error:
        if "support saved tensor hooks" not in str(error):
            raise
    rewind()
    return call(), None


def nodes_of(result: object) -> set[Any]:
    """All graph nodes of a tensor; empty for other values. A backward pass frees their saved tensors, not the nodes."""
    return _reachable([result.grad_fn]) if isinstance(result, torch.Tensor) else set()


def leaves(nodes: Iterable[Any]) -> set[int]:
    """The ids of the tensors for which the graph accumulates gradients."""
    return {id(node.variable) for node in nodes if hasattr(node, "variable")}


def made_before(first: set[Any], second: set[Any], parameters: Sequence[torch.Tensor]) -> bool:
    """Whether the graphs of two calls share a node that leads to a parameter: then it was made before both calls."""
    shared = {node for node in first & second if not hasattr(node, "variable")}
    return not leaves(_reachable(shared)).isdisjoint(map(id, parameters))


def precision(result: object, nodes: Iterable[Any]) -> float:
    """Machine epsilon of the coarsest dtype in which the result was computed; 0 if unknown.

    A leaf counts by what is computed from it: float32 data that are cast to float64 do not make the result coarse.
    """
    inner = (node for node in nodes if not hasattr(node, "variable"))
    dtypes = {data.dtype for node in inner for data in getattr(node, "_input_metadata", ())}
    if isinstance(result, torch.Tensor):
        dtypes.add(result.dtype)
    inexact = (dtype for dtype in dtypes if dtype.is_floating_point or dtype.is_complex)
    return max((torch.finfo(dtype).eps for dtype in inexact), default=0.0)


def _reachable(start: Iterable[Any]) -> set[Any]:
    waiting, seen = list(start), set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(following for following, _ in node.next_functions)
    return seen
