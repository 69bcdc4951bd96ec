"""Residuals of all batches: their vector is kept, and the rows of the Jacobian are computed batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import torch

from ...errors import ClosureError
from ..autodiff.closure import ClosureResult, Steering, math_attention
from ..autodiff.jacobian import JacobianGraph
from ..objective.residual_evaluator import CostOfResiduals, ResidualEvaluator, as_residuals
from .parts import Part, Terms, named, parts_of
from .sums import Sum

if TYPE_CHECKING:
    from ..parameters.flat import FlatParameters

__all__ = ["BatchJacobian", "BatchResiduals"]

_SAME = 1e3
"""Residuals of the same batch in two passes may differ by this many roundings of the largest."""


class BatchResiduals(ResidualEvaluator):
    """See ResidualEvaluator. The residuals of the batches follow one another, those of the extra term come last."""

    whole = False

    def __init__(
        self, terms: Terms, flat: FlatParameters, control: Steering, cost: CostOfResiduals, *, extra: bool = True
    ):
        super().__init__(_called_as_a_loss, flat, cost)
        self._terms, self._control = terms, control
        self._extra = [] if terms.extra is None or not extra else [terms.extra]

    def evaluate(self, level: str) -> ClosureResult:
        """See Evaluator. The level is always that of the residuals."""
        self._flat.clear_gradients()
        first, graph = not self.m, self.linearised()
        whole = graph.residuals
        cost = self._cost.of(whole)
        if not math.isfinite(cost):
            return ClosureResult(cost, None, self._flat, residuals=whole)
        parts = self._filled(graph, self._cost.slope(whole)) if first else None
        return ClosureResult(cost, parts, self._flat, residuals=whole, jacobian=graph)

    def linearised(self) -> BatchJacobian:
        """The residuals at the parameters' current values, with their Jacobian. Raises ClosureError."""
        pieces = [vector for _, vector in self.vectors(graphs=False)]
        whole = torch.cat(pieces)
        if self.m and whole.numel() != self.m:
            raise ClosureError(f"this pass had {whole.numel()} residuals, the first one {self.m}; it must be as many")
        self.m = whole.numel()
        return BatchJacobian(self, whole, [len(piece) for piece in pieces], self._flat)

    def vectors(self, *, graphs: bool) -> Iterator[tuple[Part, torch.Tensor]]:
        """The residuals of each part, with their graph or without."""
        for part in chain(parts_of(self._terms, self._control), self._extra):
            with named(part), torch.enable_grad(), math_attention:
                vector = as_residuals(part.closure())
            yield part, vector if graphs else vector.detach()

    def _filled(self, graph: BatchJacobian, slope: torch.Tensor) -> list[torch.Tensor | None]:
        """The gradient of the cost, in `.grad` too."""
        total, reached = graph.gradient(slope)
        for tensor, part, there in zip(self._flat.tensors, self._flat.split(total), reached, strict=True):
            tensor.grad = part.clone() if there else None
        return self._flat.gradients()


def _called_as_a_loss() -> object:
    raise NotImplementedError  # batches are called one by one


class BatchJacobian(JacobianGraph):
    """The Jacobian of the residuals of all batches: each product goes through all batches again."""

    def __init__(self, source: BatchResiduals, residuals: torch.Tensor, sizes: list[int], flat: FlatParameters):
        super().__init__(residuals, flat)
        self._source, self._sizes = source, sizes

    @property
    def residuals(self) -> torch.Tensor:
        """The residuals, shape (m,), without a graph."""
        return self._residuals

    def pieces(self) -> Iterator[JacobianGraph]:
        """See JacobianGraph. Raises ClosureError if the batches come in another order than in the first pass."""
        known = iter(self._residuals.split(self._sizes))
        for part, vector in self._source.vectors(graphs=True):
            self._require_same(part, vector.detach(), next(known))
            yield JacobianGraph(vector, self._flat)
            del vector

    def adjoint(self, u: torch.Tensor) -> torch.Tensor:
        """See JacobianGraph."""
        return self.gradient(u)[0].to(u.dtype)

    def gradient(self, u: torch.Tensor) -> tuple[torch.Tensor, list[bool]]:
        """Jᵀu in the dtype of the sum, and the parameters that it depends on."""
        sums, reached = Sum(self.shape[1], u.device), [False] * len(self._flat.tensors)
        for piece, part in zip(self.pieces(), u.split(self._sizes), strict=True):
            found = piece.parts(part)
            reached = [before or now is not None for before, now in zip(reached, found, strict=True)]
            sums.add(self._flat.join(found, u.dtype, u.device))
        return sums.total, reached

    def rows(self, weights: torch.Tensor) -> torch.Tensor:
        """See JacobianGraph."""
        pairs = zip(self.pieces(), weights.split(self._sizes, dim=1), strict=True)
        return sum((piece.rows(part) for piece, part in pairs), start=weights.new_zeros(len(weights), self.shape[1]))

    def product(self, v: torch.Tensor) -> torch.Tensor:
        """See JacobianGraph."""
        return torch.cat([piece.product(v) for piece in self.pieces()])

    def columns(self, directions: torch.Tensor) -> torch.Tensor:
        """See JacobianGraph."""
        return torch.cat([piece.columns(directions) for piece in self.pieces()], dim=1)

    def _require_same(self, part: Part, now: torch.Tensor, before: torch.Tensor) -> None:
        rounding = _SAME * torch.finfo(now.dtype).eps
        if now.shape != before.shape or bool(((now - before).abs() > rounding * (1 + before.abs().max())).any()):
            raise ClosureError(
                f"{part.name} had other residuals in the pass before, at the same parameters: least squares needs the "
                f"same batches in the same order in each pass; use shuffle=False"
            )
