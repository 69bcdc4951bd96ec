"""The batches of several processes: each evaluates its own, and the sums are those of all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ..autodiff.closure import LEVELS, Steering
from ..autodiff.hessian import DenseHessian
from ..objective.residual_evaluator import HalfSquare
from .evaluator import DERIVED, BatchEvaluator, BatchGraph, Total
from .parts import Terms
from .ranked_residuals import ResidualShare
from .ranks import Attentive, Order, OrderKind, Ranks, position
from .residuals import BatchResiduals

if TYPE_CHECKING:
    from ..parameters.flat import FlatParameters

__all__ = ["RankedEvaluator", "serve"]

_LEVELS = list(LEVELS)


class RankedEvaluator(BatchEvaluator):
    """The evaluator of rank 0: the other ranks evaluate their batches at the same point."""

    def __init__(self, terms: Terms, flat: FlatParameters, control: Steering, ranks: Ranks):
        super().__init__(terms, flat, Attentive(ranks, control))
        self._ranks = ranks

    def total(self, level: str) -> Total:
        """See BatchEvaluator."""
        length = 2 + len(self.flat.tensors) + (self.flat.n if level in DERIVED else 0)
        order = self._order(OrderKind.EVALUATE, level=_LEVELS.index(level), length=length)
        return _unpacked(self._ranks.lead(order, lambda: _packed(super(RankedEvaluator, self).total(level))), self.flat)

    def product(self, v: torch.Tensor, *, extra: bool = True) -> torch.Tensor:
        """See BatchEvaluator."""
        order = self._order(OrderKind.PRODUCT, v=v, length=v.numel())
        return self._ranks.lead(order, lambda: super(RankedEvaluator, self).product(v, extra=extra)).to(v.device)

    def dense(self, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The sum of a matrix over all ranks."""
        like: list[torch.Tensor] = []

        def own() -> torch.Tensor:
            like.append(compute())
            return like[0].reshape(-1)

        whole = self._ranks.lead(self._order(OrderKind.HESSIAN), own)
        return whole.reshape(like[0].shape).to(like[0])

    def _graph(self, parts: list[torch.Tensor | None]) -> RankedGraph:
        return RankedGraph(parts, self)

    def _order(self, kind: OrderKind, **more: Any) -> Order:
        return Order(kind, position(self.flat, self._ranks), **more)


class RankedGraph(BatchGraph):
    """A BatchGraph of the batches of all ranks."""

    _evaluator: RankedEvaluator
    separable = False

    def summed(self, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """See HvpGraph."""
        return self._evaluator.dense(compute)


def serve(terms: Terms, flat: FlatParameters, ranks: Ranks, told: Callable[[Any], bool]) -> Any:
    """Evaluate the batches of this rank, whenever rank 0 orders it; returns what it sends at the end of the run.

    told: called with what rank 0 tells at a point; returns a vote, of which rank 0 gets the sum.
    """
    attentive = Attentive(ranks, None)
    evaluator = BatchEvaluator(terms, flat, attentive)
    own = BatchResiduals(terms, flat, attentive, HalfSquare(), extra=False)
    residuals = ResidualShare(own, flat, ranks, attentive.before_work)

    def share(order: Order) -> torch.Tensor:
        assert order.x is not None
        flat.write(order.x)
        if order.kind is OrderKind.EVALUATE:
            return _packed(evaluator.total(_LEVELS[order.level]))
        if order.kind is OrderKind.PRODUCT:
            assert order.v is not None
            return evaluator.product(order.v.to(flat.tensors[0].device), extra=False)
        if order.kind is OrderKind.TELL:
            return torch.tensor([told(ranks.broadcast())])
        if order.kind is not OrderKind.HESSIAN:
            return residuals(order)
        device = flat.tensors[0].device
        return DenseHessian(flat.n).summed(evaluator.pieces(extra=False), flat.n, _nothing, device=device).reshape(-1)

    def arrived(order: Order, whole: torch.Tensor) -> None:
        if order.kind is OrderKind.EVALUATE:
            evaluator.divisor = terms.divisor(_unpacked(whole, flat).samples)
        if order.kind is OrderKind.COUNT:
            residuals.counts = [int(count) for count in whole.tolist()]

    return ranks.follow(share, arrived)


def _packed(total: Total) -> torch.Tensor:
    """As one vector, to be added to those of other ranks."""
    numbers = torch.tensor([total.loss, total.samples, *total.reached], dtype=torch.float64)
    if total.gradient is None:
        return numbers
    return torch.cat([numbers.to(total.gradient.device), total.gradient.double()])


def _unpacked(whole: torch.Tensor, flat: FlatParameters) -> Total:
    """The inverse of `_packed`, for a sum."""
    count = 2 + len(flat.tensors)
    loss, samples, *reached = whole[:count].tolist()
    gradient = whole[count:].to(flat.tensors[0].device) if len(whole) > count else None
    return Total(loss, int(samples), [bool(there) for there in reached], gradient)


def _nothing() -> None:
    """Nothing stops a chunk."""
