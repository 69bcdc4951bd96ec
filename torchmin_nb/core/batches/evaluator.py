"""Loss, gradient and products of all batches: evaluated one after the other, so that one graph is alive at a time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
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

__all__ = ["DERIVED", "BatchEvaluator", "BatchGraph", "Total"]

DERIVED = ("gradient", "curvature", "probe")
"""Levels that need a gradient."""


@dataclass
class Total:
    """A sum over batches: of the losses, their samples and their gradients, and which parameters a gradient reached."""

    loss: float
    samples: int
    reached: list[bool]
    gradient: torch.Tensor | None


class BatchEvaluator:
    """Evaluates by one closure call for each batch. Sums are in float64; see Evaluator.

    control: asked before each batch whether the run goes on.
    """

    def __init__(self, terms: Terms, flat: FlatParameters, control: Steering):
        self.terms, self.flat, self._control = terms, flat, control
        self.divisor = 1.0
        self._warned = False

    def evaluate(self, level: str) -> ClosureResult:
        """See Evaluator."""
        total = self.total(level)
        self.divisor = self.terms.divisor(total.samples)
        loss, reached, gradient = total.loss / self.divisor, total.reached, total.gradient
        if gradient is not None:
            gradient /= self.divisor
        extra = self.terms.extra
        if extra is not None:
            more = self._sum(level, iter([extra]))
            loss, reached = loss + more.loss, [a or b for a, b in zip(reached, more.reached, strict=True)]
            if gradient is not None and more.gradient is not None:
                gradient += more.gradient
        if gradient is None or not any(reached):
            return ClosureResult(loss)
        parts = self._fill(gradient, reached)
        return ClosureResult(loss, parts, self.flat, self._graph(parts) if level == "curvature" else None)

    def total(self, level: str) -> Total:
        """The sum over all batches, at the parameters' current values."""
        return self._sum(level, parts_of(self.terms, self._control))

    def pieces(self, *, extra: bool = True) -> Iterator[tuple[HvpGraph, float]]:
        """The graph of each term and its factor. A graph is freed when the next one is made."""
        for part in parts_of(self.terms, self._control):
            graph = self._graph_of(part)
            if graph is not None:
                yield graph, part.weight / self.divisor
            del graph
        if extra and self.terms.extra is not None:
            graph = self._graph_of(self.terms.extra)
            if graph is not None:
                yield graph, 1.0

    def product(self, v: torch.Tensor, *, extra: bool = True) -> torch.Tensor:
        """H v, shape (n,), in float64: another pass over the batches."""
        sums = Sum(v.numel(), v.device)
        for graph, factor in self.pieces(extra=extra):
            sums.add(graph.product(v), factor)
        return sums.total

    def _graph(self, parts: list[torch.Tensor | None]) -> BatchGraph:
        return BatchGraph(parts, self)

    def _graph_of(self, part: Part) -> HvpGraph | None:
        """The graph of a term; None if it is constant here."""
        with named(part):
            return LEVELS["curvature"](part.closure, self.flat).graph

    def _sum(self, level: str, parts: Iterator[Part]) -> Total:
        flat, one = self.flat, "gradient" if level == "curvature" else level
        sums = Sum(flat.n, flat.tensors[0].device) if level in DERIVED else None
        reached = [False] * len(flat.tensors)
        losses: list[tuple[Part, torch.Tensor | float]] = []
        for part in parts:
            with named(part):
                result = LEVELS[one](part.closure, flat)
            losses.append((part, result.value))
            if sums is not None and result.parts is not None:
                reached = [before or now is not None for before, now in zip(reached, result.parts, strict=True)]
                sums.add(flat.join(result.parts, flat.widest, sums.total.device), part.weight)
            del result
        return Total(self._loss(losses), self.terms.source.samples, reached, None if sums is None else sums.total)

    def _loss(self, losses: list[tuple[Part, torch.Tensor | float]]) -> float:
        """The weighted sum of the losses, from one transfer."""
        tensors = [value for _, value in losses if isinstance(value, torch.Tensor)]
        moved = iter(torch.stack([wide(value) for value in tensors]).tolist() if tensors else [])
        numbers = [next(moved) if isinstance(value, torch.Tensor) else value for _, value in losses]
        bad = [part.name for (part, _), number in zip(losses, numbers, strict=True) if not math.isfinite(number)]
        if bad and not self._warned:
            self._warned = True
            more = f", and in {len(bad) - 1} more" if len(bad) > 1 else ""
            warnings.warn(f"the loss is not finite: first in {bad[0]}{more}", ClosureWarning, stacklevel=2)
        return sum(part.weight * number for (part, _), number in zip(losses, numbers, strict=True))

    def _fill(self, gradient: torch.Tensor, reached: list[bool]) -> list[torch.Tensor | None]:
        """`.grad`, and the parts of the gradient in the dtype of the sum."""
        parts = [part if there else None for part, there in zip(self.flat.pieces(gradient), reached, strict=True)]
        for tensor, part in zip(self.flat.tensors, parts, strict=True):
            tensor.grad = None if part is None else part.to(tensor, copy=True)
        return parts


class BatchGraph(HvpGraph):
    """Products with the Hessian of all batches. Each product goes through all batches again."""

    def __init__(self, gradient: list[torch.Tensor | None], evaluator: BatchEvaluator):
        super().__init__(gradient, evaluator.flat)
        self._evaluator = evaluator

    def parts(self, v: torch.Tensor) -> list[torch.Tensor | None]:
        """See HvpGraph."""
        return list(self._flat.pieces(self.product(v)))

    def hvp(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """See HvpGraph."""
        return self.product(torch.from_numpy(np.array(v, dtype=np.float64))).numpy()

    def product(self, v: torch.Tensor) -> torch.Tensor:
        """See HvpGraph."""
        return self._evaluator.product(v).to(v.dtype)

    def pieces(self) -> Iterator[tuple[HvpGraph, float]]:
        """See HvpGraph."""
        return self._evaluator.pieces()
