"""The Jacobian of a residual vector, from the graph of one closure call: products, and the dense matrix.

Jᵀu is one backward pass. J v is the derivative of u ↦ Jᵀu, a backward pass through a backward pass. With many residuals
and few parameters, as in most fits, n products J v are much cheaper than m products Jᵀu.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from ...errors import ClosureError, SecondDerivativeError, text_of
from .explained_errors import explained, is_compiled
from .hessian import second_derivatives_named

if TYPE_CHECKING:
    from ..parameters.flat import FlatParameters

__all__ = ["DenseJacobian", "JacobianGraph", "jacobian_error"]

_CACHE_BYTES = 64 * 2**20
_MAX_CHUNK = 256
_COLUMN_PRICE = 3
"""The cost of a product with J, in products with its transpose."""
_REMEDY = "replace it, or pass jacobian='dense', which does not need it"


class JacobianGraph:
    """The graph of the residuals at one point, for products with the Jacobian J, shape (m, n).

    residuals: shape (m,), differentiable. Valid while the parameters hold the values of that point.
    """

    def __init__(self, residuals: torch.Tensor, flat: FlatParameters):
        self._residuals = residuals
        self._flat = flat
        self.shape = (residuals.numel(), flat.n)
        self._dual: tuple[torch.Tensor, list[torch.Tensor], list[int]] | None = None

    def adjoint(self, u: torch.Tensor) -> torch.Tensor:
        """Jᵀu for u of shape (m,), shape (n,), in the dtype and on the device of u."""
        return self._flat.join(self.parts(u), u.dtype, u.device)

    def parts(self, u: torch.Tensor) -> Sequence[torch.Tensor | None]:
        """Jᵀu as one tensor for each parameter; None if no residual depends on that parameter."""
        return self._backward(u.to(self._residuals), batched=False)

    def rows(self, weights: torch.Tensor) -> torch.Tensor:
        """Jᵀu for each row u of shape (k, m), under vmap, shape (k, n)."""
        rows = weights.new_zeros(len(weights), self._flat.n)
        self._flat.join_rows(self._backward(weights.to(self._residuals), batched=True), rows)
        return rows

    def product(self, v: torch.Tensor) -> torch.Tensor:
        """J v for v of shape (n,), shape (m,), in the dtype and on the device of v. Raises SecondDerivativeError."""
        return self._forward(self._flat.split(v), v, (), batched=False)

    def columns(self, directions: torch.Tensor) -> torch.Tensor:
        """J v for each row v of shape (k, n), under vmap, shape (k, m). Raises SecondDerivativeError."""
        return self._forward(self._flat.split_rows(directions), directions, (len(directions),), batched=True)

    def pieces(self) -> Iterator[JacobianGraph]:
        """Graphs of consecutive rows of J, one at a time."""
        yield self

    def equations(
        self,
        dense: DenseJacobian,
        before_chunk: Callable[[], None],
        residuals: torch.Tensor,
        factors: torch.Tensor | None = None,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Chunks of rows of J with their residuals. dense: builds them. factors: shape (m,), of the rows.

        Or other equations with the same JᵀJ, Jᵀr and rᵀr, if the rows are in several processes. All are in the dtype
        of the residuals, shape (m,).
        """
        start = 0
        for rows in dense.rows(self, before_chunk, residuals.new_empty(0)):
            part = slice(start, start + len(rows))
            yield rows if factors is None else rows * factors[part, None], residuals[part]
            start = part.stop

    def _backward(self, weights: torch.Tensor, *, batched: bool) -> Sequence[torch.Tensor | None]:
        return torch.autograd.grad(
            self._residuals,
            self._flat.tensors,
            weights,
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=batched,
        )

    def _forward(
        self, directions: Sequence[torch.Tensor], like: torch.Tensor, batch: tuple[int, ...], *, batched: bool
    ) -> torch.Tensor:
        with second_derivatives_named(_REMEDY):
            dual, outputs, indices = self._dual = self._dual or self._transposed()
            products: tuple[torch.Tensor | None, ...] = (None,)
            if outputs:
                products = torch.autograd.grad(
                    outputs,
                    [dual],
                    [directions[index] for index in indices],
                    retain_graph=True,
                    allow_unused=True,
                    is_grads_batched=batched,
                )
        product = products[0]
        if product is None:
            return like.new_zeros(*batch, self.shape[0])
        return product.detach().to(like).reshape(*batch, self.shape[0])

    def _transposed(self) -> tuple[torch.Tensor, list[torch.Tensor], list[int]]:
        """u, and Jᵀu as a differentiable function of u: one tensor for each parameter that J depends on."""
        dual = torch.ones_like(self._residuals, requires_grad=True)
        parts = torch.autograd.grad(
            self._residuals, self._flat.tensors, dual, create_graph=True, retain_graph=True, allow_unused=True
        )
        kept = [(index, part) for index, part in enumerate(parts) if part is not None and part.requires_grad]
        return dual, [part for _, part in kept], [index for index, _ in kept]


class DenseJacobian:
    """Builds J, shape (m, n), in batches that fit the cache: by columns if n is much smaller than m, else by rows.

    The first J built by columns is compared with one backward pass. If the backward of an operation cannot be
    differentiated (an error, or a wrong result), J is built by rows from then on; if vmap refuses it, by single
    products.
    """

    def __init__(self, m: int, n: int, eps: float):
        self._eps = eps
        self.by_columns = _COLUMN_PRICE * n < m
        self.vectorised = True
        self._trusted = False
        self.chunk = min(max(_CACHE_BYTES // (8 * max(m, n)), 1), _MAX_CHUNK)

    def build(
        self,
        graph: JacobianGraph,
        before_chunk: Callable[[], None],
        dtype: torch.dtype = torch.float64,
        device: torch.device | None = None,
    ) -> torch.Tensor:
        """J, a new tensor. `before_chunk` is called before each batch and may raise."""
        like = torch.empty(0, dtype=dtype, device=device)
        built = [self._built(piece, before_chunk, like) for piece in graph.pieces()]
        return built[0] if len(built) == 1 else torch.cat(built)

    def _built(self, graph: JacobianGraph, before_chunk: Callable[[], None], like: torch.Tensor) -> torch.Tensor:
        if self.by_columns:
            jacobian = self._try_columns(graph, before_chunk, like)
            if jacobian is not None:
                return jacobian
            self.by_columns, self.vectorised = False, True
        return torch.cat(list(self._by_rows(graph, before_chunk, like)))

    def rows(
        self, graph: JacobianGraph, before_chunk: Callable[[], None], like: torch.Tensor
    ) -> Iterator[torch.Tensor]:
        """J in batches of rows, in the dtype and on the device of `like`."""
        for piece in graph.pieces():
            if piece is graph:
                yield from self._by_rows(piece, before_chunk, like)
            else:
                yield self._built(piece, before_chunk, like)

    def _by_rows(
        self, graph: JacobianGraph, before_chunk: Callable[[], None], like: torch.Tensor
    ) -> Iterator[torch.Tensor]:
        return self._products(graph.shape[0], graph.rows, graph.adjoint, before_chunk, like)

    def _try_columns(
        self, graph: JacobianGraph, before_chunk: Callable[[], None], like: torch.Tensor
    ) -> torch.Tensor | None:
        try:
            columns = torch.cat(list(self._products(graph.shape[1], graph.columns, graph.product, before_chunk, like)))
        except SecondDerivativeError:
            return None
        jacobian = columns.T.contiguous()
        self._trusted = self._trusted or _agrees(jacobian, graph, self._eps)
        return jacobian if self._trusted else None

    def _products(
        self,
        count: int,
        batch: Callable[[torch.Tensor], torch.Tensor],
        single: Callable[[torch.Tensor], torch.Tensor],
        before_chunk: Callable[[], None],
        like: torch.Tensor,
    ) -> Iterator[torch.Tensor]:
        """The products with all `count` unit vectors, one in each row, batch by batch."""
        for start in range(0, count, self.chunk):
            before_chunk()
            units = like.new_zeros(min(self.chunk, count - start), count)
            units.diagonal(start).fill_(1)
            yield self._batch(units, batch, single)

    def _batch(
        self,
        units: torch.Tensor,
        batch: Callable[[torch.Tensor], torch.Tensor],
        single: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        if self.vectorised and len(units) > 1:
            try:
                return batch(units)
            except (RuntimeError, ValueError) as error:
                if isinstance(error, torch.OutOfMemoryError | SecondDerivativeError):
                    raise
                self.vectorised = False
        return torch.stack([single(unit) for unit in units])


def jacobian_error(error: Exception) -> Exception:
    """Turn torch's error for a freed graph, or for compiled code, into a ClosureError."""
    if is_compiled(error):
        return explained(error)
    if not (isinstance(error, RuntimeError) and "second time" in text_of(error)):
        return error
    freed = ClosureError(
        "the graph of the residuals was freed by a backward() in the closure; remove backward(): the Jacobian is "
        "computed from the residuals that the closure returns"
    )
    freed.__cause__ = error
    return freed


def _agrees(jacobian: torch.Tensor, graph: JacobianGraph, eps: float) -> bool:
    """Whether Jᵀu equals the result of one backward pass, for one ordinary u. NaN equals NaN."""
    u = torch.cos(torch.arange(len(jacobian), dtype=jacobian.dtype, device=jacobian.device))
    expected, size = graph.adjoint(u), jacobian.T.abs() @ u.abs()
    difference = (jacobian.T @ u - expected).abs()
    return bool((~torch.isfinite(expected) | (difference <= math.sqrt(eps) * size)).all())
