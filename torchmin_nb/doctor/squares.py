"""Whether a loss is a sum of squares, from its graph."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["is_sum_of_squares"]

_PASS = (
    "MulBackward0",
    "DivBackward0",
    "MeanBackward0",
    "MeanBackward1",
    "SumBackward0",
    "SumBackward1",
    "ToCopyBackward0",
    "ViewBackward0",
    "ReshapeAliasBackward0",
    "SqueezeBackward0",
    "UnsafeViewBackward0",
)
"""Operations that a sum of squares may go through on its way to the loss."""
_DEEP = 12


def is_sum_of_squares(loss: Any) -> bool:
    """Whether the loss is a sum of terms, each a mean or sum of squares times a constant."""
    return isinstance(loss, torch.Tensor) and loss.grad_fn is not None and _squares(loss.grad_fn, _DEEP)


def _squares(node: Any, deep: int) -> bool:
    name, following = node.name(), [parent for parent, _ in node.next_functions if parent is not None]
    if not deep:
        return False
    if name == "MseLossBackward0":
        return True
    if name == "PowBackward0":
        return getattr(node, "_saved_exponent", None) == 2
    if name in ("DotBackward0", "MulBackward0") and len(following) == 2:
        return following[0] is following[1]
    if name == "AddBackward0":
        return bool(following) and all(_squares(each, deep - 1) for each in following)
    return name in _PASS and len(following) == 1 and _squares(following[0], deep - 1)
