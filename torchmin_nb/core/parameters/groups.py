"""The parameters that a function takes, in the forms of torch.optim, as param groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ...errors import ArgumentError, ArgumentTypeError

__all__ = ["read_groups"]

_KEYS = ("params", "param_names", "bounds", "scale")


def read_groups(params: Any) -> list[dict[str, Any]]:
    """Param groups with lists of tensors, and their names where they are known.

    params: a module, a tensor, tensors, pairs (name, tensor), a dict of tensors, or param groups of them, such as those
    of an optimizer.
    """
    if isinstance(params, torch.nn.Module):
        params = params.named_parameters()
    if isinstance(params, Mapping) and "params" not in params:
        params = params.items()
    rows = [params] if isinstance(params, torch.Tensor | Mapping) else _listed(params)
    return [_group(row) for row in rows] if rows and isinstance(rows[0], Mapping) else [_group({"params": rows})]


def _group(group: Any) -> dict[str, Any]:
    if not isinstance(group, Mapping) or "params" not in group:
        raise ArgumentTypeError(f"a param group must be a dict with the key 'params', got {type(group).__name__}")
    unknown = [key for key in group if key not in _KEYS and not _of_torch(key, group)]
    if unknown:
        raise ArgumentError(f"a param group has the key {unknown[0]!r}; allowed are {', '.join(_KEYS)}")
    params = group["params"]
    rows = [params] if isinstance(params, torch.Tensor) else _listed(params)
    named = [row if isinstance(row, tuple) else (None, row) for row in rows]
    for row in named:
        if len(row) != 2 or not isinstance(row[1], torch.Tensor):
            raise ArgumentTypeError(
                f"params must be tensors or pairs (name, tensor), got {type(row[-1]).__name__}; pass "
                f"model.parameters(), model.named_parameters(), a list of tensors, or param groups"
            )
    names = group.get("param_names") or [name for name, _ in named]
    read = {**group, "params": [tensor for _, tensor in named]}
    return {**read, "param_names": list(names)} if None not in names else read


def _of_torch(key: Any, group: Mapping[str, Any]) -> bool:
    """Whether the group is one of another torch optimizer, whose other keys say how it steps."""
    return isinstance(key, str) and any(known in group for known in ("lr", "weight_decay"))


def _listed(rows: Any) -> list[Any]:
    if not isinstance(rows, Iterable) or isinstance(rows, str):
        raise ArgumentTypeError(
            f"params must be tensors, got {type(rows).__name__}; pass model.parameters(), a list of tensors, or param "
            f"groups"
        )
    return list(rows)
