"""Names of parameters and copies of their values, from param groups; and which of them lie on a bound."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import CovarianceWarning
from .estimates import entry_names

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.optimize import Bounds

__all__ = ["named_values", "parameter_names", "warn_of_bounds"]


def parameter_names(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """One name for each trainable parameter: its name if named parameters were passed to torch, else its position."""
    trainable = [
        (tensor, name)
        for group in groups
        for tensor, name in zip(group["params"], group.get("param_names", [None] * len(group["params"])), strict=True)
        if tensor.requires_grad
    ]
    return [str(index) if name is None else str(name) for index, (_, name) in enumerate(trainable)]


def named_values(groups: Sequence[Mapping[str, Any]], tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of the trainable tensors by name."""
    return dict(zip(parameter_names(groups), (tensor.detach().clone() for tensor in tensors), strict=True))


def warn_of_bounds(x: NDArray[np.float64], bounds: Bounds | None, values: Mapping[str, torch.Tensor]) -> None:
    """Issue a CovarianceWarning if a free entry is on a bound."""
    if bounds is None:
        return
    near = np.isclose(x, bounds.lb, rtol=1e-6, atol=0) | np.isclose(x, bounds.ub, rtol=1e-6, atol=0)
    names = [name for name, hit in zip(entry_names(values), near & (bounds.lb < bounds.ub), strict=True) if hit]
    if names:
        warnings.warn(
            f"on its bound: {', '.join(names[:8])}; there the errors are not normally distributed, and the covariance "
            f"describes the loss without the bound",
            CovarianceWarning,
            stacklevel=3,
        )
