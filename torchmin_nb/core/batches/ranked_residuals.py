"""Residuals of several processes: rank 0 sees the vector of all of them, and never their Jacobian as a whole.

Each rank factorises the Jacobian of its own rows. Rank 0 gets the triangular factors, one below the other: equations
with the same JᵀJ and Jᵀr (J. Demmel et al., "Communication-optimal parallel and sequential QR and LU factorizations",
SIAM J. Sci. Comput. 34, 2012).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from ..autodiff.closure import Steering
from ..autodiff.jacobian import DenseJacobian
from ..objective.residual_evaluator import CostOfResiduals
from ..solvers.least_squares import bordered_triangle
from .parts import Terms
from .ranks import Attentive, Order, OrderKind, Ranks, position
from .residuals import BatchJacobian, BatchResiduals

if TYPE_CHECKING:
    from ..parameters.flat import FlatParameters

__all__ = ["RankedResiduals", "ResidualShare"]


class ResidualShare:
    """What one rank computes of the residuals of all ranks, when rank 0 orders it.

    counts: the number of residuals of each rank, [] before it is known. The vector of all residuals is theirs in the
    order of the ranks.
    """

    def __init__(self, own: BatchResiduals, flat: FlatParameters, ranks: Ranks, before_chunk: Callable[[], None]):
        self.counts: list[int] = []
        self._own, self._flat, self._ranks, self._before_chunk = own, flat, ranks, before_chunk
        self._x: torch.Tensor | None = None
        self._graph: BatchJacobian | None = None
        self._dense: DenseJacobian | None = None

    def __call__(self, order: Order) -> torch.Tensor:
        """The share of an order at the parameters' current values, the same length on every rank."""
        graph = self._at(order)
        if order.kind is OrderKind.COUNT:
            counts = torch.zeros(self._ranks.size)
            counts[self._ranks.rank] = graph.shape[0]
            return counts
        if order.kind is OrderKind.RESIDUALS:
            return self._placed(graph.residuals)
        assert order.v is not None
        v = order.v.to(graph.residuals.device)
        if order.kind is OrderKind.JACOBIAN_PRODUCT:
            return self._placed(graph.product(v))
        if order.kind is OrderKind.ADJOINT:
            total, reached = graph.gradient(v[self._slot])
            return torch.cat([torch.tensor(reached).to(total), total])
        return self._factor(graph, *v.chunk(2))

    def _at(self, order: Order) -> BatchJacobian:
        """The residuals at the order's point: evaluated again when they are what is ordered, or the point is new."""
        evaluated = order.kind in (OrderKind.COUNT, OrderKind.RESIDUALS)
        known = self._x is not None and order.x is not None and torch.equal(self._x, order.x)
        if self._graph is None or evaluated or not known:
            self._x, self._graph = order.x, self._own.linearised()
        return self._graph

    @property
    def _slot(self) -> slice:
        start = sum(self.counts[: self._ranks.rank])
        return slice(start, start + self.counts[self._ranks.rank])

    def _placed(self, part: torch.Tensor) -> torch.Tensor:
        whole = part.new_zeros(sum(self.counts))
        whole[self._slot] = part
        return whole

    def _factor(self, graph: BatchJacobian, residuals: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        self._dense = self._dense or DenseJacobian(*graph.shape, self._flat.eps)
        slot, side = self._slot, self._flat.n + 1
        equations = graph.equations(self._dense, self._before_chunk, residuals[slot], factors[slot])
        factor = bordered_triangle(equations)
        whole = factor.new_zeros(self._ranks.size, side, side)
        whole[self._ranks.rank, : len(factor)] = factor
        return whole.reshape(-1)


class RankedResiduals(BatchResiduals):
    """The evaluator of rank 0: the other ranks evaluate their residuals at the same point.

    The residuals of rank 0 come first, with those of the extra term.
    """

    def __init__(self, terms: Terms, flat: FlatParameters, control: Steering, cost: CostOfResiduals, ranks: Ranks):
        attentive = Attentive(ranks, control)
        super().__init__(terms, flat, attentive, cost)
        self._ranks = ranks
        self._share = ResidualShare(BatchResiduals(terms, flat, attentive, cost), flat, ranks, attentive.before_work)

    def linearised(self) -> BatchJacobian:
        """See BatchResiduals."""
        if not self._share.counts:
            self._share.counts = [int(count) for count in self.lead(OrderKind.COUNT).tolist()]
        whole = self.lead(OrderKind.RESIDUALS).to(self._flat.tensors[0].device, self._flat.widest)
        self.m = len(whole)
        return RankedJacobian(self, whole, self._share.counts, self._flat)

    def lead(self, kind: OrderKind, v: torch.Tensor | None = None) -> torch.Tensor:
        """The sum of the shares of all ranks, float64."""
        order = Order(kind, position(self._flat, self._ranks), v)
        return self._ranks.lead(order, lambda: self._share(order))


class RankedJacobian(BatchJacobian):
    """The Jacobian of the residuals of all ranks."""

    _source: RankedResiduals

    def gradient(self, u: torch.Tensor) -> tuple[torch.Tensor, list[bool]]:
        """See BatchJacobian."""
        whole = self._source.lead(OrderKind.ADJOINT, u).to(u.device)
        count = len(self._flat.tensors)
        return whole[count:], [bool(there) for there in whole[:count].tolist()]

    def product(self, v: torch.Tensor) -> torch.Tensor:
        """See JacobianGraph."""
        return self._source.lead(OrderKind.JACOBIAN_PRODUCT, v).to(v)

    def equations(
        self,
        dense: DenseJacobian,
        before_chunk: Callable[[], None],
        residuals: torch.Tensor,
        factors: torch.Tensor | None = None,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """See JacobianGraph: the triangular factor of each rank's rows, shape (n + 1, n)."""
        factors = torch.ones_like(residuals) if factors is None else factors
        side = self._flat.n + 1
        whole = self._source.lead(OrderKind.FACTOR, torch.cat([residuals, factors])).to(residuals)
        for factor in whole.view(-1, side, side):
            yield factor[:, :-1], factor[:, -1]
