"""What autograd's graph of a closure's result tells of the call that made it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

__all__ = ["leaves", "made_before", "nodes_of", "precision"]


def nodes_of(result: object) -> set[Any]:
    """All nodes behind a tensor; none behind anything else. A backward pass frees what they saved, and leaves them."""
    return _reachable([result.grad_fn]) if isinstance(result, torch.Tensor) else set()


def leaves(nodes: Iterable[Any]) -> set[int]:
    """The ids of the tensors for which the graph accumulates gradients."""
    return {id(node.variable) for node in nodes if hasattr(node, "variable")}


def made_before(first: set[Any], second: set[Any], parameters: Sequence[torch.Tensor]) -> bool:
    """Whether the graphs of two calls share a node that leads to a parameter: neither call made it."""
    shared = {node for node in first & second if not hasattr(node, "variable")}
    return not leaves(_reachable(shared)).isdisjoint(map(id, parameters))


def precision(result: object, nodes: Iterable[Any]) -> float:
    """Machine epsilon of the coarsest dtype that took part: of the result, and of what lies behind it; 0 if unknown."""
    dtypes = {data.dtype for node in nodes for data in getattr(node, "_input_metadata", ())}
    if isinstance(result, torch.Tensor):
        dtypes.add(result.dtype)
    found = (dtype for dtype in dtypes if dtype.is_floating_point or dtype.is_complex)
    return max((torch.finfo(dtype).eps for dtype in found), default=0.0)


def _reachable(start: Iterable[Any]) -> set[Any]:
    waiting, seen = list(start), set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(following for following, _ in node.next_functions)
    return seen
