"""Eigenvalues of a symmetric matrix from its products: the Lanczos iteration with full reorthogonalisation.

C. C. Paige, "Accuracy and effectiveness of the Lanczos algorithm for the symmetric eigenproblem", Linear Algebra and
its Applications 34 (1980) 235–258; G. H. Golub, C. F. Van Loan, "Matrix Computations" (2013), section 10.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import torch

from ...errors import ClosureError
from ..solvers.vectors import dot, numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Product", "RitzPairs", "drawn", "lanczos"]

Product = Callable[[torch.Tensor], torch.Tensor]
"""The matrix times a vector of shape (n,)."""

_ROOM = 32
"""Number of vectors for which the basis has memory at first."""
_ROUNDING = 64
"""A new vector shorter than this many machine epsilons, relative to the matrix, counts as rounding."""


@dataclass(frozen=True, eq=False, slots=True)
class RitzPairs:
    """Approximate eigenvalues and eigenvectors from a basis of m vectors. Memory: the basis, m·n numbers.

    values: shape (m,), float64, ascending. residuals: shape (m,), ‖A v − value·v‖ for each, at least the rounding of
    the products; within this distance of a value there is an eigenvalue of A. coordinates: shape (m, m), the vectors in
    the basis, one in each column. diagonal, off: the tridiagonal matrix, shapes (m,) and (m − 1,); a 0 in `off` begins
    a new Krylov space. basis: shape (m, n), orthonormal rows. converged: whether the wanted values are within the
    tolerance.
    """

    values: NDArray[np.float64]
    residuals: NDArray[np.float64]
    coordinates: NDArray[np.float64]
    diagonal: NDArray[np.float64]
    off: NDArray[np.float64]
    basis: torch.Tensor
    converged: bool

    @property
    def complete(self) -> bool:
        """Whether the basis spans the whole space, so that all n eigenvalues are known."""
        return self.basis.shape[0] == self.basis.shape[1]

    def vectors(self, indices: NDArray[np.intp]) -> torch.Tensor:
        """The unit vectors of these values, shape (k, n), on the basis' device."""
        chosen = torch.from_numpy(np.ascontiguousarray(self.coordinates[:, indices].T)).to(self.basis)
        rows: torch.Tensor = chosen @ self.basis
        rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        return rows


def drawn(
    n: int, generator: torch.Generator, *, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> torch.Tensor:
    """Normal random numbers, shape (n,), drawn in float64 on the host: the same numbers on each device."""
    return torch.randn(n, generator=generator, dtype=torch.float64).to(dtype=dtype, device=device)


def lanczos(
    product: Product,
    n: int,
    *,
    lowest: int = 0,
    highest: int = 1,
    steps: int | None = None,
    tolerance: float = 1e-6,
    seed: int = 0,
    start: torch.Tensor | None = None,
    restart: bool = True,
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> RitzPairs:
    """Ritz pairs of a symmetric matrix, by at most `steps` products (default: n).

    It ends early when the `lowest` and `highest` values have residuals up to tolerance·(largest |value|). A Krylov
    space that cannot grow is followed by another one, from a new random vector, until the wanted values are known with
    their multiplicities; with restart=False it ends there. tolerance 0: all steps are made. start: the first vector;
    default: drawn by `seed` from a generator of its own. Raises ClosureError if a product is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    first = drawn(n, generator, dtype=dtype, device=device) if start is None else start
    space, most = _Space(first), min(n, steps or n)
    while True:
        space.grow(product)
        ended = space.m == most or (space.off[-1] == 0 and not restart)
        if ended or (tolerance > 0 and (space.off[-1] == 0 or space.m >= space.check_at)):
            found = space.pairs(lowest, highest, tolerance)
            if ended or found.converged:
                return found
        if space.off[-1] == 0:
            space.begin(generator)


class _Space:
    """An orthonormal basis in which the matrix is tridiagonal.

    off: below the diagonal, with the length of the next vector as its last entry: 0 where the space is invariant.
    begun: the index of the vector that began the last Krylov space. check_at: the m at which to look at the values.
    """

    def __init__(self, first: torch.Tensor):
        self.rows = first.new_empty(min(_ROOM, first.numel()), first.numel())
        self.rows[0] = first / torch.linalg.vector_norm(first)
        self.diagonal: list[float] = []
        self.off: list[float] = []
        self.begun = 0
        self.check_at = 1
        self._eps = max(_ROUNDING, math.sqrt(first.numel())) * torch.finfo(first.dtype).eps

    @property
    def m(self) -> int:
        """The number of vectors whose products are known."""
        return len(self.diagonal)

    def grow(self, product: Product) -> None:
        """One product; its part that is orthogonal to the basis becomes the next vector."""
        k = self.m
        q = self.rows[k]
        w = product(q)
        along = dot(q, w)
        w = self._orthogonal(w, k + 1)
        diagonal, square = numbers(along, dot(w, w))
        if not (math.isfinite(diagonal) and math.isfinite(square)):
            raise ClosureError(
                "the Hessian is not finite at the present parameters: a product with it has NaN or infinite entries; "
                "choose a point where the loss has second derivatives"
            )
        self.diagonal.append(diagonal)
        size, length = max(map(abs, (*self.diagonal, *self.off))), math.sqrt(square)
        more = k + 1 < self.rows.shape[1]
        self.off.append(length if more and length > self._eps * size else 0.0)
        if self.off[-1]:
            self._put(w / length)

    def begin(self, generator: torch.Generator) -> None:
        """Begin another Krylov space, with a random vector that is orthogonal to the basis."""
        fresh = self.rows[0]
        fresh = self._orthogonal(drawn(len(fresh), generator, dtype=fresh.dtype, device=fresh.device), self.m)
        fresh = self._orthogonal(fresh / torch.linalg.vector_norm(fresh), self.m)
        self.begun = self.m
        self._put(fresh / torch.linalg.vector_norm(fresh))

    def pairs(self, lowest: int, highest: int, tolerance: float) -> RitzPairs:
        """The Ritz pairs now; `converged` if the wanted ones are known, with their multiplicities."""
        self.check_at = self.m + max(1, self.m // 8)
        diagonal, off = np.array(self.diagonal), np.array(self.off[:-1])
        values, coordinates = scipy.linalg.eigh_tridiagonal(diagonal, off)
        largest = float(np.abs(values).max())
        residuals = np.maximum(np.abs(self.off[-1] * coordinates[-1]), self._eps * largest)
        limit = max(tolerance, self._eps) * largest
        wanted = _ends(self.m, lowest, highest)
        complete = self.m == self.rows.shape[1]
        enough = complete or self.m >= lowest + highest
        converged = enough and bool((residuals[wanted] <= limit).all())
        if converged and self.begun and not complete:
            converged = self._nothing_new(values, lowest, highest, limit)
        basis = self.rows[: self.m]
        return RitzPairs(values, residuals, coordinates, diagonal, off, basis, converged)

    def _nothing_new(self, values: NDArray[np.float64], lowest: int, highest: int, limit: float) -> bool:
        """Whether the last Krylov space is known at its ends and has changed none of the wanted values."""
        begun = self.begun
        last, vectors = scipy.linalg.eigh_tridiagonal(self.diagonal[begun:], self.off[begun:-1])
        ends = _ends(len(last), min(lowest, 1), min(highest, 1))
        if begun < lowest + highest or (np.abs(self.off[-1] * vectors[-1, ends]) > limit).any():
            return False
        before = scipy.linalg.eigvalsh_tridiagonal(self.diagonal[:begun], self.off[: begun - 1])
        known, now = before[_ends(begun, lowest, highest)], values[_ends(self.m, lowest, highest)]
        return bool((np.abs(known - now) <= limit).all())

    def _orthogonal(self, w: torch.Tensor, k: int) -> torch.Tensor:
        """w without its components along the first k vectors: twice, because rounding leaves some."""
        basis = self.rows[:k]
        for _ in range(2):
            w = torch.addmv(w, basis.T, basis @ w, alpha=-1)
        return w

    def _put(self, row: torch.Tensor) -> None:
        if self.m == len(self.rows):
            more = min(len(self.rows), self.rows.shape[1] - len(self.rows))
            self.rows = torch.cat((self.rows, self.rows.new_empty(more, self.rows.shape[1])))
        self.rows[self.m] = row


def _ends(m: int, lowest: int, highest: int) -> NDArray[np.intp]:
    """The indices of the wanted values, among m in ascending order."""
    return np.unique([*range(min(lowest, m)), *range(max(m - highest, 0), m)]).astype(np.intp)
