"""Return values of user functions, as an array or a matrix of the expected shape; the length of a vector."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator

from ...errors import ArgumentError, ArgumentTypeError

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["as_array", "as_matrix", "length"]


def as_array(value: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The return value of the user's function `name` as an array. Raises ArgumentTypeError, ArgumentError."""
    try:
        host = value.detach().cpu() if isinstance(value, torch.Tensor) else value
        array = np.asarray(host, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"{name} returned {value!r}; return an array of shape {shape}") from None
    if array.size != math.prod(shape):
        raise ArgumentError(f"{name} returned an array of shape {array.shape}; return one of shape {shape}")
    return array.reshape(shape)


def as_matrix(matrix: Any, name: str = "", shape: tuple[int, int] | None = None) -> Any:
    """A matrix as an array, unless it is sparse or a linear operator. shape: the required shape, if any."""
    if not (issparse(matrix) or isinstance(matrix, LinearOperator)):
        return np.asarray(matrix, dtype=np.float64) if shape is None else as_array(matrix, name, shape)
    if shape is not None and matrix.shape != shape:
        raise ArgumentError(f"{name} returned a matrix of shape {matrix.shape}; return one of shape {shape}")
    return matrix


def length(v: NDArray[np.float64]) -> float:
    """The 2-norm of a vector, also if the squares of its entries overflow: then without a warning."""
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(v))
    largest = float(np.abs(v).max(initial=0.0)) if norm == math.inf else 0.0
    return largest * float(np.linalg.norm(v / largest)) if 0 < largest < math.inf else norm
