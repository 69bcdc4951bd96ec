"""Loss, gradient and products of all batches: evaluated one after the other, so that one graph is alive at a time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...errors import ClosureWarning
from ..autodiff.closure import LEVELS, ClosureResult, Steering
from ..autodiff.hessian import HvpGraph
from ..solvers.vectors import wide
from .parts import Part, Terms, named, parts_of
from .sums import Sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..parameters.flat import FlatParameters

__all__ = ["BatchEvaluator", "BatchGraph"]

_DERIVED = ("gradient", "curvature", "probe")


class BatchEvaluator:
    """Evaluates by one closure call for each batch. Sums are in float64; see Evaluator.

    control: asked before each batch whether the run goes on.
    """

    def __init__(self, terms: Terms, flat: FlatParameters, control: Steering):
        self._terms, self._flat, self._control = terms, flat, control
        self._warned = False

    def evaluate(self, level: str) -> ClosureResult:
        """See Evaluator."""
        derived, flat = level in _DERIVED, self._flat
        sums = Sum(flat.n, flat.tensors[0].device) if derived else None
        reached = [False] * len(flat.tensors)
        losses: list[tuple[Part, torch.Tensor | float]] = []
        one = level if level != "curvature" else "gradient"
        for part in parts_of(self._terms, self._control):
            with named(part):
                result = LEVELS[one](part.closure, flat)
            losses.append((part, result.value))
            if sums is None or result.parts is None:
                continue
            reached = [before or now is not None for before, now in zip(reached, result.parts, strict=True)]
            sums.add(flat.join(result.parts, flat.widest, sums.total.device), part.weight)
            del result
        loss = self._total(losses)
        if sums is None or not any(reached):
            return ClosureResult(loss)
        sums.scale(1 / self._terms.divisor)
        parts = self._fill(sums.total, reached)
        graph = BatchGraph(self, parts) if level == "curvature" else None
        return ClosureResult(loss, parts, flat, graph)

    def pieces(self) -> Iterator[tuple[HvpGraph, float]]:
        """The graph of each part and its factor. A graph is freed when the next one is made."""
        for part in parts_of(self._terms, self._control):
            with named(part):
                graph = LEVELS["curvature"](part.closure, self._flat).graph
            if graph is not None:  # else the term is constant here
                yield graph, part.weight / self._terms.divisor
            del graph

    def _total(self, losses: list[tuple[Part, torch.Tensor | float]]) -> float:
        """The loss, from one transfer."""
        tensors = [value for _, value in losses if isinstance(value, torch.Tensor)]
        moved = iter(torch.stack([wide(value) for value in tensors]).tolist() if tensors else [])
        numbers = [next(moved) if isinstance(value, torch.Tensor) else value for _, value in losses]
        total = sum(part.weight * number for (part, _), number in zip(losses, numbers, strict=True))
        loss = total / self._terms.divisor
        if not math.isfinite(loss) and not self._warned:
            self._warned = True
            bad = [part.name for (part, _), number in zip(losses, numbers, strict=True) if not math.isfinite(number)]
            if bad:
                more = f", and in {len(bad) - 1} more" if len(bad) > 1 else ""
                warnings.warn(f"the loss is {loss}: first in {bad[0]}{more}", ClosureWarning, stacklevel=2)
        return loss

    def _fill(self, total: torch.Tensor, reached: list[bool]) -> list[torch.Tensor | None]:
        """`.grad`, and the parts of the gradient in the dtype of the sum."""
        parts = [part if any_of else None for part, any_of in zip(self._flat.pieces(total), reached, strict=True)]
        for tensor, part in zip(self._flat.tensors, parts, strict=True):
            tensor.grad = None if part is None else part.to(tensor, copy=True)
        return parts


class BatchGraph(HvpGraph):
    """Products with the Hessian of all batches. Each product goes through all batches again."""

    def __init__(self, evaluator: BatchEvaluator, gradient: list[torch.Tensor | None]):
        super().__init__(gradient, evaluator._flat)
        self._evaluator = evaluator

    def parts(self, v: NDArray[np.float64]) -> list[torch.Tensor | None]:
        """See HvpGraph."""
        return list(self._flat.pieces(self.product(torch.from_numpy(np.asarray(v, dtype=np.float64)))))

    def hvp(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """See HvpGraph."""
        return self.product(torch.from_numpy(np.asarray(v, dtype=np.float64))).numpy()

    def product(self, v: torch.Tensor) -> torch.Tensor:
        """See HvpGraph."""
        sums = Sum(v.numel(), v.device)
        for graph, weight in self._evaluator.pieces():
            sums.add(graph.product(v), weight)
        return sums.total.to(v.dtype)

    def pieces(self) -> Iterator[tuple[HvpGraph, float]]:
        """See HvpGraph."""
        return self._evaluator.pieces()
