"""The Jacobian of a residual vector, from the graph of one closure call: products, and the dense matrix.

Jᵀu is one backward pass. J v is the derivative of u ↦ Jᵀu, a backward pass through a backward pass: with many residuals
and few parameters, as in most fits, n such products are far cheaper than m rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...errors import SecondDerivativeError
from .hessian import second_derivatives_named

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..parameters.flat import FlatParameters

__all__ = ["DenseJacobian", "JacobianGraph"]

_CACHE_BYTES = 64 * 2**20
_MAX_CHUNK = 256
_COLUMN_PRICE = 3
"""What a product with J costs, in products with its transpose."""
_REMEDY = "replace it, or pass jacobian='dense', which can do without"


class JacobianGraph:
    """The graph of the residuals at one point, for products with the Jacobian J, shape (m, n).

    residuals: shape (m,), differentiable. Valid while the parameters hold the values of that point.
    """

    def __init__(self, residuals: torch.Tensor, flat: FlatParameters):
        self._residuals = residuals
        self._flat = flat
        self.shape = (residuals.numel(), flat.n)
        self._dual: tuple[torch.Tensor, list[torch.Tensor], list[int]] | None = None

    def transposed_product(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Jᵀu for u of shape (m,), shape (n,)."""
        return self._flat.gather(self._backward(self._weights(u), batched=False))

    def rows(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Jᵀu for each row u of shape (k, m), under vmap, shape (k, n)."""
        parts = self._backward(self._weights(weights), batched=True)
        rows = torch.zeros(len(weights), self._flat.n, dtype=torch.float64)
        self._flat.join_rows(parts, rows)
        return rows.numpy()

    def product(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """J v for v of shape (n,), shape (m,). Raises SecondDerivativeError."""
        return self._forward(self._flat.scatter(v), batched=False)

    def columns(self, directions: NDArray[np.float64]) -> NDArray[np.float64]:
        """J v for each row v of shape (k, n), under vmap, shape (k, m). Raises SecondDerivativeError."""
        return self._forward(self._flat.split_rows(torch.from_numpy(directions)), batched=True)

    def _weights(self, u: NDArray[np.float64]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(u)).to(self._residuals)

    def _backward(self, weights: torch.Tensor, *, batched: bool) -> Sequence[torch.Tensor | None]:
        return torch.autograd.grad(
            self._residuals,
            self._flat.tensors,
            weights,
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=batched,
        )

    def _forward(self, directions: list[torch.Tensor], *, batched: bool) -> NDArray[np.float64]:
        with second_derivatives_named(_REMEDY):
            dual, outputs, indices = self._dual = self._dual or self._transposed()
            shape = (len(directions[0]), dual.numel()) if batched else (dual.numel(),)
            if not outputs:
                return np.zeros(shape)
            products: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
                outputs,
                [dual],
                [directions[index] for index in indices],
                retain_graph=True,
                allow_unused=True,
                is_grads_batched=batched,
            )
        product = products[0]
        if product is None:
            return np.zeros(shape)
        return product.detach().to("cpu", torch.float64).numpy().reshape(shape).copy()

    def _transposed(self) -> tuple[torch.Tensor, list[torch.Tensor], list[int]]:
        """u, and Jᵀu as a differentiable function of it: one tensor a parameter, for those that J depends on."""
        dual = torch.ones_like(self._residuals, requires_grad=True)
        parts = torch.autograd.grad(
            self._residuals, self._flat.tensors, dual, create_graph=True, retain_graph=True, allow_unused=True
        )
        kept = [(index, part) for index, part in enumerate(parts) if part is not None and part.requires_grad]
        return dual, [part for _, part in kept], [index for index, _ in kept]


class DenseJacobian:
    """Builds J, shape (m, n), in batches that fit the cache: by columns where n is small beside m, else by rows.

    The first J built by columns is compared with one backward pass: an operation whose backward cannot itself be
    differentiated, with an error or silently, is met by rows from then on; one that vmap refuses, by single products.
    """

    def __init__(self, m: int, n: int, eps: float):
        self._eps = eps
        self.by_columns = _COLUMN_PRICE * n < m
        self.vectorised = True
        self._trusted = False
        self.chunk = int(np.clip(_CACHE_BYTES // (8 * max(m, n)), 1, _MAX_CHUNK))

    def build(self, graph: JacobianGraph, before_chunk: Callable[[], None]) -> NDArray[np.float64]:
        """J, a fresh array. `before_chunk` runs before each batch and may raise."""
        if self.by_columns:
            jacobian = self._try_columns(graph, before_chunk)
            if jacobian is not None:
                return jacobian
            self.by_columns, self.vectorised = False, True
        return self._stacked(graph.shape[0], graph.rows, graph.transposed_product, before_chunk)

    def _try_columns(self, graph: JacobianGraph, before_chunk: Callable[[], None]) -> NDArray[np.float64] | None:
        try:
            columns = self._stacked(graph.shape[1], graph.columns, graph.product, before_chunk)
        except SecondDerivativeError:
            return None
        jacobian = np.ascontiguousarray(columns.T)
        self._trusted = self._trusted or _agrees(jacobian, graph, self._eps)
        return jacobian if self._trusted else None

    def _stacked(
        self,
        count: int,
        batch: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        single: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        before_chunk: Callable[[], None],
    ) -> NDArray[np.float64]:
        """The products with all `count` unit vectors, one a row."""
        parts = []
        for start in range(0, count, self.chunk):
            before_chunk()
            stop = min(start + self.chunk, count)
            parts.append(self._products(np.eye(stop - start, count, k=start), batch, single))
        return np.concatenate(parts)

    def _products(
        self,
        units: NDArray[np.float64],
        batch: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        single: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        if self.vectorised and len(units) > 1:
            try:
                return batch(units)
            except (RuntimeError, ValueError) as error:
                if isinstance(error, torch.OutOfMemoryError | SecondDerivativeError):
                    raise
                self.vectorised = False
        return np.stack([single(unit) for unit in units])


def _agrees(jacobian: NDArray[np.float64], graph: JacobianGraph, eps: float) -> bool:
    """Whether Jᵀu is what one backward pass gives, for one u with nothing special about it. NaN agrees with NaN."""
    u = np.cos(np.arange(len(jacobian)))
    with np.errstate(invalid="ignore", over="ignore"):
        expected, size = graph.transposed_product(u), np.abs(jacobian.T) @ np.abs(u)
        difference = np.abs(jacobian.T @ u - expected)
        return bool((~np.isfinite(expected) | (difference <= np.sqrt(eps) * size)).all())
