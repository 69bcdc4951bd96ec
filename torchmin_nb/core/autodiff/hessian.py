"""Hessian-vector products and dense Hessians from a gradient that kept its graph.

Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994): H v is the gradient of
g(x)·v. It costs a few gradients and does not need the Hessian.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import torch

from ...errors import SecondDerivativeError, text_of
from .backward_pass import backward_pass
from .explained_errors import COMPILED, is_compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..parameters.flat import FlatParameters

__all__ = [
    "ChangedGraphError",
    "DenseHessian",
    "HvpGraph",
    "finite_difference_product",
    "positive_definite",
    "second_derivatives_named",
]

Gradient = Sequence[torch.Tensor | None]
_CACHE_BYTES = 64 * 2**20
_MAX_CHUNK = 256
_REMEDY = "replace it, or pass curvature='finite-difference' (differences of gradients: two closure calls a product)"
_CHANGED = "modified by an inplace operation"
_MISSING = re.compile(
    r"derivative for '?(?P<name>[\w:]+)'? is not implemented|support double backward|differentiate twice"
)


class ChangedGraphError(RuntimeError):
    """A later closure call has changed in place, as it changes a buffer, what products with this graph need."""


class HvpGraph:
    """The graph of one gradient, for products with the Hessian at its point.

    gradient: differentiable, one tensor for each parameter, None if the loss does not depend on it. Valid while the
    parameters hold the values of that point.
    """

    separable = True
    """Whether the Hessian is the sum of the pieces' Hessians: not where other processes have more of them."""

    def __init__(self, gradient: Gradient, flat: FlatParameters):
        self._flat = flat
        self.gradient = gradient

    @cached_property
    def vector(self) -> torch.Tensor:
        """The gradient as one tensor of shape (n,), with its graph: a product passes through one output."""
        return self._flat.concatenated(self.gradient)

    def hvp(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """H @ v, shape (n,), float64."""
        return self._flat.gather(self.parts(torch.from_numpy(v)))

    def parts(self, v: torch.Tensor) -> Gradient:
        """H @ v, one tensor for each parameter; None if no gradient depends on that parameter."""
        return self._backward(v, batched=False)

    def product(self, v: torch.Tensor) -> torch.Tensor:
        """H @ v on the device of v (n,), in its dtype."""
        return self._flat.join(self._backward(v, batched=False), v.dtype, v.device)

    def rows(self, rows: torch.Tensor, out: torch.Tensor) -> None:
        """H @ each row of shape (k, n) under vmap, into `out`, which is zeros before."""
        self._flat.join_rows(self._backward(rows, batched=True), out)

    def pieces(self) -> Iterator[tuple[HvpGraph, float]]:
        """Graphs of terms of the loss, with their factors, one at a time."""
        yield self, 1.0

    def summed(self, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The return value of `compute`, summed over all processes that have pieces."""
        return compute()

    def _backward(self, weights: torch.Tensor, *, batched: bool) -> Gradient:
        if not self.vector.requires_grad:  # a linear loss: its gradient is constant
            return [None] * len(self._flat.tensors)
        weights = weights.to(self.vector)
        try:
            if not batched:
                return backward_pass([self.vector], self._flat.tensors, [weights], create_graph=False)
            return torch.autograd.grad(
                self.vector, self._flat.tensors, weights, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
        except (RuntimeError, NotImplementedError) as error:
            if _CHANGED in text_of(error):
                raise ChangedGraphError(text_of(error)) from error
            with second_derivatives_named():
                raise


class DenseHessian:
    """Builds the N×N Hessian from batches of products, in chunks that fit the cache.

    `bytes_per_row`: estimated memory of one product. `chunk`: the number of rows in a batch, instead of the automatic
    choice. If vmap refuses an operation of the closure, all later products are computed one at a time.
    """

    def __init__(self, n: int, bytes_per_row: int | None = None, chunk: int | None = None):
        per_row = max(bytes_per_row or 0, 8 * n)
        self.chunk = chunk or int(np.clip(_CACHE_BYTES // per_row, 1, min(_MAX_CHUNK, n)))
        self.vectorised = True

    def build(
        self,
        graph: HvpGraph,
        n: int,
        before_chunk: Callable[[], None],
        dtype: torch.dtype = torch.float64,
        device: torch.device | None = None,
    ) -> torch.Tensor:
        """The symmetric Hessian, shape (n, n). `before_chunk` is called before each batch and may raise."""
        hessian = graph.summed(lambda: self.summed(graph.pieces(), n, before_chunk, dtype, device))
        hessian += hessian.T.clone()
        return hessian.mul_(0.5)

    def summed(
        self,
        pieces: Iterator[tuple[HvpGraph, float]],
        n: int,
        before_chunk: Callable[[], None],
        dtype: torch.dtype = torch.float64,
        device: torch.device | None = None,
    ) -> torch.Tensor:
        """The sum of the pieces' Hessians, as computed: not exactly symmetric."""
        hessian = torch.zeros(n, n, dtype=dtype, device=device)
        for index, (piece, factor) in enumerate(pieces):
            for start, units in self._units(n, dtype, device):
                before_chunk()
                rows = torch.zeros_like(units) if index else hessian[start : start + len(units)]
                self._fill(piece, units, rows)
                rows *= factor
                if index:
                    hessian[start : start + len(units)] += rows
        return hessian

    def diagonal(
        self, graph: HvpGraph, n: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None
    ) -> torch.Tensor:
        """The diagonal of the Hessian, shape (n,), in the memory of one chunk of rows."""
        diagonal = torch.zeros(n, dtype=dtype, device=device)
        if not graph.separable:
            for start, units in self._units(n, dtype, device):
                rows = torch.stack([graph.product(unit) for unit in units])
                diagonal[start : start + len(units)] = rows.diagonal(start)
            return diagonal
        for piece, factor in graph.pieces():
            for start, units in self._units(n, dtype, device):
                rows = torch.zeros_like(units)
                self._fill(piece, units, rows)
                diagonal[start : start + len(units)] += factor * rows.diagonal(start)
        return diagonal

    def _units(self, n: int, dtype: torch.dtype, device: torch.device | None) -> Iterator[tuple[int, torch.Tensor]]:
        """The unit vectors in chunks, one in each row, and the number of the first."""
        for start in range(0, n, self.chunk):
            units = torch.zeros(min(self.chunk, n - start), n, dtype=dtype, device=device)
            units.diagonal(start).fill_(1)
            yield start, units

    def _fill(self, graph: HvpGraph, units: torch.Tensor, out: torch.Tensor) -> None:
        if self.vectorised:
            try:
                graph.rows(units, out)
                return
            except (RuntimeError, ValueError) as error:
                if isinstance(error, torch.OutOfMemoryError | SecondDerivativeError | ChangedGraphError):
                    raise
                self.vectorised = False
        for unit, row in zip(units, out, strict=True):
            row.copy_(graph.product(unit))


def finite_difference_product(
    gradient: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    x: NDArray[np.float64],
    v: NDArray[np.float64],
    eps: float,
    scale: NDArray[np.float64] | float = 1.0,
) -> NDArray[np.float64]:
    """H(x) @ v by a central difference of gradients along v. Two gradients; error O(h²) + O(eps/h).

    If one of them is not finite, a one-sided difference with the other one and a third one at x; error O(h).
    Lengths are measured in x/scale and v/scale.
    """
    length = float(np.linalg.norm(v / scale))
    if length == 0:
        return np.zeros_like(v)
    h = eps ** (1 / 3) * (1 + float(np.linalg.norm(x / scale))) / length
    ahead, behind = gradient(x + h * v), gradient(x - h * v)
    if np.isfinite(ahead).all() == np.isfinite(behind).all():
        return np.asarray((ahead - behind) / (2 * h))
    here = gradient(x)
    return np.asarray((ahead - here if np.isfinite(ahead).all() else here - behind) / h)


def positive_definite(hessian: NDArray[np.float64], eps: float) -> NDArray[np.float64]:
    """The Hessian if it is positive definite; else the Hessian plus the multiple of the identity that makes it so.

    Dogleg needs it: Nocedal & Wright (2006), section 4.1 and, for the shift, section 3.4.
    """
    if _has_cholesky(hessian):
        return hessian
    lowest, highest = scipy.linalg.eigvalsh(hessian)[[0, -1]]
    margin = eps ** (2 / 3) * max(abs(lowest), abs(highest), eps)
    return np.asarray(hessian + (margin - min(lowest, 0.0)) * np.eye(len(hessian)))


def _has_cholesky(matrix: NDArray[np.float64]) -> bool:
    try:
        scipy.linalg.cho_factor(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


@contextmanager
def second_derivatives_named(remedy: str = _REMEDY) -> Iterator[None]:
    """Turn torch's errors for a missing second derivative into a SecondDerivativeError with operation and remedy."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        match = _MISSING.search(text_of(error))
        if not (match or is_compiled(error)):
            raise
        if is_compiled(error):
            raise SecondDerivativeError(f"{COMPILED}, or {remedy.partition(', or ')[2]}") from error
        name = (match and match["name"]) or "an operation of the closure"
        raise SecondDerivativeError(f"{name} has no second derivative in torch; {remedy}") from error
