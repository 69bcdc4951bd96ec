"""Loss, gradient and products of all batches: evaluated one after the other, so that one graph is alive at a time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ...errors import ClosureError, ClosureWarning
from ..autodiff.closure import LEVELS, Closure, ClosureResult, Steering
from ..autodiff.hessian import HvpGraph
from .sums import Sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..parameters.flat import FlatParameters
    from .full_batch import FullBatch

__all__ = ["BatchEvaluator", "BatchGraph", "Part"]

_DERIVED = ("gradient", "curvature", "probe")


class Part(NamedTuple):
    """A term of the loss: a batch, or the extra term. weight: its factor before the division by `FullBatch.divisor`."""

    name: str
    closure: Closure
    weight: float


class BatchEvaluator:
    """Evaluates by one closure call for each batch. Sums are in float64; see Evaluator.

    control: asked before each batch whether the run goes on.
    """

    def __init__(self, full: FullBatch, flat: FlatParameters, control: Steering):
        self._full, self._flat, self._control = full, flat, control
        self._warned = False

    def evaluate(self, level: str) -> ClosureResult:
        """See Evaluator."""
        derived, flat = level in _DERIVED, self._flat
        sums = Sum(flat.n, flat.tensors[0].device) if derived else None
        reached = [False] * len(flat.tensors)
        losses: list[tuple[Part, torch.Tensor | float]] = []
        one = level if level != "curvature" else "gradient"
        for part in self.parts():
            result = self._of(part, lambda closure: LEVELS[one](closure, flat))
            losses.append((part, result.value))
            if sums is None or result.parts is None:
                continue
            reached = [before or now is not None for before, now in zip(reached, result.parts, strict=True)]
            sums.add(flat.join(result.parts, flat.widest, sums.total.device), part.weight)
            del result
        loss = self._total(losses)
        if sums is None or not any(reached):
            return ClosureResult(loss)
        sums.scale(1 / self._full.divisor)
        parts = self._fill(sums.total, reached)
        graph = BatchGraph(self, parts) if level == "curvature" else None
        return ClosureResult(loss, parts, flat, graph)

    def parts(self) -> Iterator[Part]:
        """The terms of one pass; the run may end before each."""
        total = self._full.source.total
        for number, part in enumerate(self._full.parts(), 1):
            self._control.before_work()
            self._control.batch = (number, total or number)
            yield part
        self._control.batch = None

    def pieces(self) -> Iterator[tuple[HvpGraph, float]]:
        """The graph of each part and its factor. A graph is freed when the next one is made."""
        for part in self.parts():
            graph = self._of(part, lambda closure: LEVELS["curvature"](closure, self._flat)).graph
            if graph is not None:  # else the term is constant here
                yield graph, part.weight / self._full.divisor
            del graph

    def _of(self, part: Part, evaluate: Callable[[Closure], ClosureResult]) -> ClosureResult:
        try:
            result = evaluate(part.closure)
        except Exception as error:
            error.add_note(f"raised in {part.name}")
            raise
        return result

    def _total(self, losses: list[tuple[Part, torch.Tensor | float]]) -> float:
        """The loss, from one transfer."""
        tensors = [value for _, value in losses if isinstance(value, torch.Tensor)]
        moved = iter(torch.stack([value.double() for value in tensors]).tolist() if tensors else [])
        numbers = [next(moved) if isinstance(value, torch.Tensor) else value for _, value in losses]
        total = sum(part.weight * number for (part, _), number in zip(losses, numbers, strict=True))
        loss = total / self._full.divisor
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


def refuse_batch_statistics(nodes: set[Any]) -> None:
    """Raise ClosureError if a BatchNorm in training mode is among the nodes of a batch's graph."""
    for node in nodes:
        training = "BatchNorm" in type(node).__name__ and getattr(node, "_saved_training", False)
        if training and node._saved_input.shape[0] > 1:  # InstanceNorm sees one sample with many channels
            raise ClosureError(
                "a BatchNorm in training mode normalises by the statistics of each batch, so the loss of all batches "
                "would depend on how they are cut; call model.eval(), or use GroupNorm or LayerNorm"
            )
