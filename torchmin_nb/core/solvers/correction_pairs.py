"""The correction pairs of L-BFGS and the product of the inverse Hessian with the gradient, by two passes over them.

J. Nocedal, "Updating quasi-Newton matrices with limited storage", Math. Comp. 35 (1980) 773–782; R. H. Byrd,
J. Nocedal, R. B. Schnabel, "Representations of quasi-Newton matrices and their use in limited memory methods", Math.
Programming 63 (1994) 129–156.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtrs
from scipy.optimize import LbfgsInvHessProduct
from scipy.sparse.linalg import LinearOperator

from .contract import Problem, Sample
from .vectors import dot, wide

__all__ = ["CorrectionPairs", "InverseHessian"]


@dataclass
class CorrectionPairs:
    """The last steps s and the changes y of the gradient along them, in a ring of slots.

    rows: s and y of each slot, shape (maxcor, 2, n). first, count: the oldest used slot, and the number of used ones.
    theta:
    yᵀy/sᵀy of the newest pair; H starts as I/theta. On the CPU, oldest first, `count` of them in use: products, SᵀY, of
    which the upper triangle counts, and YᵀY, shape (2, maxcor, maxcor); projections, Sᵀg and Yᵀg of the current
    gradient, shape (2, maxcor).
    """

    rows: torch.Tensor
    products: torch.Tensor
    projections: torch.Tensor
    first: int = 0
    count: int = 0
    theta: float = 1.0

    def __post_init__(self) -> None:
        self.products, self.projections = self.products.cpu(), self.projections.cpu()
        self._small = self.products.numpy(), self.projections.numpy()  # views
        size = self.rows.size(0)
        self._pairs, self._flat = [tuple(pair) for pair in self.rows], self.rows.flatten(0, 1)
        self._ring = np.arange(2 * size) % size
        self._weights = np.zeros((size, 2))
        self._found = torch.empty(2 * size + 2, dtype=wide(self.rows[0, 0, :0]).dtype, device=self.rows.device)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @classmethod
    def none(cls, problem: Problem, maxcor: int) -> CorrectionPairs:
        """No pair yet, and memory for `maxcor` pairs."""
        rows = torch.zeros(maxcor, 2, problem.n, dtype=problem.dtype, device=problem.device)
        products = torch.zeros(2, maxcor, maxcor, dtype=torch.float64)
        return cls(rows, products, products[:, 0].clone())

    def clear(self) -> None:
        """Delete all pairs."""
        self.first, self.count, self.theta = 0, 0, 1.0

    def slots(self) -> NDArray[np.int_]:
        """The used pairs, oldest first."""
        return self._ring[self.first : self.first + self.count]

    def filled(self) -> torch.Tensor:
        """The rows of all slots that may be in use, shape (2 · slots, n): s and y in turn."""
        return self._flat if self.first else self._flat[: 2 * self.count]

    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        """-H · gradient, for the current gradient. No transfer.

        With R the upper triangle of SᵀY, D its diagonal: Hg = (g - Yα)/θ + Sδ, Rα = Sᵀg, Rᵀδ = Dα - (Yᵀg - YᵀYα)/θ,
        which is the two-loop recursion with its inner products taken from `products` and `projections`.
        """
        size, rows = self.count, self.filled()
        products, projections = self._small
        (sy, yy), (sg, yg) = products[:, :size, :size], projections[:, :size]
        alpha = dtrtrs(sy.T, sg, lower=1, trans=1)[0]
        delta = dtrtrs(sy.T, sy.diagonal() * alpha - (yg - yy @ alpha) / self.theta, lower=1)[0]
        slots, weights = self.slots(), self._weights
        weights[slots, 0], weights[slots, 1] = -delta, alpha / self.theta
        there = torch.from_numpy(weights.ravel()[: rows.size(0)]).to(rows.device, rows.dtype, non_blocking=True)
        return torch.addmv(gradient, rows.T, there, beta=-1 / self.theta)

    def learn(self, before: Sample, after: Sample, keep: bool) -> None:
        """Add a step: the new gradient, and possibly the pair, in place of the oldest one. One transfer.

        Sᵀy and Yᵀy of the older pairs are differences of products with the two gradients, without a pass over the rows.
        A pair with sᵀy ≤ 0, which is possible by rounding, is not kept.
        """
        size, older = self.rows.size(0), self.count
        full, slot = keep and older == size, (self.first + older) % size
        if keep:
            s, y = self._pairs[slot]
            torch.sub(after.x, before.x, out=s)
            torch.sub(after.gradient, before.gradient, out=y)
        rows = self._flat if self.first else self._flat[: 2 * (older + keep - full)]
        count, found = rows.size(0), self._found
        parts, values = [found[:count]], [torch.mv(rows, after.gradient)]
        if keep:
            parts += [found[count], found[count + 1]]
            values += [dot(s, y), dot(y, y)]
        torch._foreach_copy_(parts, values)
        here = found.cpu().numpy()

        products, projections = self._small
        if full:  # without the oldest pair
            products[:, :-1, :-1] = products[:, 1:, 1:]
            self.first, self.count, older = (self.first + 1) % size, older - 1, older - 1
        by_slot = here[:count].reshape(-1, 2).T
        now = by_slot[:, self.slots()]
        change = now - projections[:, full : full + older]
        projections[:, :older] = now
        if keep and here[count] > 0:
            products[:, :older, older] = products[:, older, :older] = change
            products[:, older, older] = here[count : count + 2]
            projections[:, older] = by_slot[:, slot]
            self.count, self.theta = older + 1, float(here[count + 1] / here[count])


class InverseHessian(LinearOperator):  # type: ignore[misc]
    """SciPy's LbfgsInvHessProduct, shape (n, n), created at the first product: until then all pairs stay on the device.

    As in SciPy, H starts as I. The pair of the last step is included; SciPy omits it. The pairs belong to the state:
    compute a product before the state continues, or copy it.
    """

    def __init__(self, pairs: CorrectionPairs):
        n = pairs.rows.shape[-1]
        super().__init__(dtype=np.dtype(np.float64), shape=(n, n))
        self._rows, self._slots = pairs.rows, pairs.slots().tolist()

    @cached_property
    def _operator(self) -> Any:
        s, y = self._rows[self._slots].unbind(1)
        return LbfgsInvHessProduct(s.cpu().double().numpy(), y.cpu().double().numpy())

    def _matvec(self, x: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(self._operator.matvec(x))

    def todense(self) -> NDArray[np.float64]:
        """The matrix."""
        return np.asarray(self._operator.todense())
