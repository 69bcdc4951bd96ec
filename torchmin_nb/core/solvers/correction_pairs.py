"""The correction pairs of L-BFGS and the product of the inverse Hessian with the gradient, by two passes over them.

J. Nocedal, "Updating quasi-Newton matrices with limited storage", Math. Comp. 35 (1980) 773–782; R. H. Byrd,
J. Nocedal, R. B. Schnabel, "Representations of quasi-Newton matrices and their use in limited memory methods", Math.
Programming 63 (1994) 129–156.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import LbfgsInvHessProduct
from scipy.sparse.linalg import LinearOperator

from .contract import Problem, Sample
from .vectors import dot, wide

__all__ = ["CorrectionPairs", "InverseHessian"]


@dataclass
class CorrectionPairs:
    """The last steps s and the changes y of the gradient along them, in a ring of slots.

    rows: s and y of each slot, shape (maxcor, 2, n). first, count: the oldest used slot, and the number of used ones.
    theta: yᵀy/sᵀy of the newest pair; H starts as I/theta. The other arrays are small, on the CPU, and in the order of
    the slots. inverse: of R, the part of SᵀY in which s is not newer than y, shape (maxcor, maxcor); zero in unused
    slots. products: YᵀY. projections: Sᵀg and Yᵀg of the current gradient, shape (maxcor, 2).
    """

    rows: torch.Tensor
    inverse: torch.Tensor
    products: torch.Tensor
    projections: torch.Tensor
    first: int = 0
    count: int = 0
    theta: float = 1.0

    def __post_init__(self) -> None:
        self.inverse, self.products, self.projections = (
            small.cpu() for small in (self.inverse, self.products, self.projections)
        )
        self._small = self.inverse.numpy(), self.products.numpy(), self.projections.numpy()  # views
        size = self.rows.size(0)
        self._pairs, self._flat = [tuple(pair) for pair in self.rows], self.rows.flatten(0, 1)
        self._curvatures, self._weights = np.zeros(size), np.zeros((size, 2))
        for slot in self.slots():
            self._curvatures[slot] = 1 / self._small[0][slot, slot]
        self._found = torch.zeros(3 + 2 * size, dtype=wide(self.rows[0, 0, :0]).dtype, device=self.rows.device)
        self._on_host = self._found.device.type == "cpu"
        self._numbers = self._found.numpy() if self._on_host else np.zeros(3 + 2 * size)  # a view, or a copy of it
        self._now = self._numbers[3:].reshape(-1, 2)
        self._scalars = self._found[:3].unbind()
        self._use_slots()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @classmethod
    def none(cls, problem: Problem, maxcor: int) -> CorrectionPairs:
        """No pair yet, and memory for `maxcor` pairs."""
        rows = torch.zeros(maxcor, 2, problem.n, dtype=problem.dtype, device=problem.device)
        square = torch.zeros(maxcor, maxcor, dtype=torch.float64)
        return cls(rows, square, square.clone(), square.new_zeros(maxcor, 2))

    def clear(self) -> None:
        """Delete all pairs."""
        self.first, self.count, self.theta = 0, 0, 1.0
        self.inverse.zero_()
        self._use_slots()

    def slots(self) -> list[int]:
        """The used pairs, oldest first."""
        return [slot % self.rows.size(0) for slot in range(self.first, self.first + self.count)]

    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        """-H · gradient, for the current gradient. No transfer.

        With D the diagonal of R: Hg = (g - Yα)/θ + Sδ, Rα = Sᵀg, Rᵀδ = Dα - (Yᵀg - YᵀYα)/θ, which is the two-loop
        recursion with its inner products taken from `products` and `projections`.
        """
        inverse, products, projections = self._small
        alpha = inverse.dot(projections[:, 0])  # `dot` takes half the time of `@`
        rest = products.dot(alpha)
        np.subtract(projections[:, 1], rest, out=rest)
        rest /= self.theta
        rest -= self._curvatures * alpha
        alpha /= self.theta
        self._weights[:, 0], self._weights[:, 1] = rest.dot(inverse), alpha
        weights = self._used_weights.to(gradient.device, gradient.dtype, non_blocking=True)
        return torch.addmv(gradient, self._columns, weights, beta=-1 / self.theta)

    def learn(self, before: Sample, after: Sample, *, keep: bool) -> float:
        """Add a step: the new gradient, and possibly the pair, in place of the oldest one. One transfer.

        Sᵀy and Yᵀy of the older pairs are differences of products with the two gradients, without a pass over the rows.
        A pair with sᵀy ≤ 0, which is possible by rounding, is not kept. Returns the length of the step.
        """
        size, (inverse, products, projections) = len(self._pairs), self._small
        slot = (self.first + self.count) % size
        s, y = self._pairs[slot] if keep else (torch.empty_like(after.x), None)
        torch.sub(after.x, before.x, out=s)
        dot(s, s, out=self._scalars[0])
        if y is not None:
            torch.sub(after.gradient, before.gradient, out=y)
            dot(y, y, out=self._scalars[1])
            dot(s, y, out=self._scalars[2])
            if self.count == size:
                self.first = (slot + 1) % size
            else:
                self.count += 1
                self._use_slots()
        if self.rows.dtype == self._found.dtype:
            torch.mv(self.filled, after.gradient, out=self._projected)
        else:
            self._projected.copy_(torch.mv(self.filled, after.gradient))
        if not self._on_host:
            self._numbers[:] = self._found.cpu().numpy()
        square, change, curvature = self._numbers[:3].tolist()
        if keep:
            inverse[slot] = inverse[:, slot] = 0
            if curvature > 0:
                moved = self._now - projections
                column, along = inverse.dot(moved[:, 0]), moved[:, 1]
                column /= -curvature
                column[slot], along[slot] = 1 / curvature, change
                inverse[:, slot] = column
                products[slot] = products[:, slot] = along
                self._curvatures[slot], self.theta = 1 / (1 / curvature), change / curvature
            else:
                self.count -= 1
                self._use_slots()
        projections[:] = self._now
        return math.sqrt(square)

    def _use_slots(self) -> None:
        """Set the parts of the arrays for slots that may be in use. filled: s and y in turn, shape (2 · slots, n)."""
        used = len(self._flat) if self.first else 2 * self.count
        self.filled, self._projected = self._flat[:used], self._found[3 : 3 + used]
        self._columns, self._used_weights = self.filled.T, torch.from_numpy(self._weights.reshape(-1)[:used])


class InverseHessian(LinearOperator):  # type: ignore[misc]
    """SciPy's LbfgsInvHessProduct, shape (n, n), created at the first product: until then all pairs stay on the device.

    As in SciPy, H starts as I. The pair of the last step is included; SciPy omits it. The pairs belong to the state:
    compute a product before the state continues, or copy it.
    """

    def __init__(self, pairs: CorrectionPairs):
        n = pairs.rows.shape[-1]
        super().__init__(dtype=np.dtype(np.float64), shape=(n, n))
        self._rows, self._slots = pairs.rows, pairs.slots()

    @cached_property
    def _operator(self) -> Any:
        s, y = self._rows[self._slots].unbind(1)
        return LbfgsInvHessProduct(s.cpu().double().numpy(), y.cpu().double().numpy())

    def _matvec(self, x: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(self._operator.matvec(x))

    def todense(self) -> NDArray[np.float64]:
        """The matrix."""
        return np.asarray(self._operator.todense())
