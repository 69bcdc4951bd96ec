"""`full_batch`: the loss over all batches of a loader as one closure."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
from torch.utils.data import Subset

from ...errors import ArgumentError, ArgumentTypeError, DistributedError
from ..autodiff.closure import Closure, OwnEvaluator, Steering, backpropagate, scalar_of
from ..autodiff.graph import nodes_of
from ..objective.residual_evaluator import CostOfResiduals
from ..parameters.flat import FlatParameters
from ..validation import one_of
from .evaluator import BatchEvaluator
from .parts import Part, refuse_batch_statistics, unwrapped_models
from .ranked import RankedEvaluator
from .ranked_residuals import RankedResiduals
from .ranks import Ranks
from .residuals import BatchResiduals
from .source import Batch, Source

__all__ = ["FullBatch", "full_batch", "shard"]

Reduction = Literal["mean", "sum"]
CallbackRanks = Literal["rank 0", "every rank"]


class FullBatch(OwnEvaluator):
    """The loss over all batches, made by `full_batch`. A closure: called, it fills `.grad` and returns the loss."""

    def __init__(
        self,
        loss: Callable[[Any], Any],
        source: Source,
        reduction: Reduction,
        extra: Callable[[], Any] | None,
        ranks: Ranks | None = None,
        callbacks: CallbackRanks = "rank 0",
    ):
        self.source, self.reduction, self.ranks, self.callbacks = source, reduction, ranks, callbacks
        self.extra = None if extra is None else Part("the extra term", extra, 1.0)
        self._loss = loss
        self._checked = False

    def __repr__(self) -> str:
        batches = "batches" if self.source.total is None else f"{self.source.total} batches"
        return f"<full_batch of {batches}, reduction={self.reduction!r}>"

    def divisor(self, samples: float) -> float:
        """See Terms."""
        return samples if self.reduction == "mean" else 1.0

    def __call__(self) -> torch.Tensor:
        """The loss, a scalar without a graph. `.grad` is filled, unless autograd is switched off.

        torch adds up `.grad` in its own dtype; a wrapper adds up in float64.
        """
        if self.ranks is not None:
            raise DistributedError("a full_batch with group= is for the wrappers of torchmin_nb: pass it to step()")
        reached: dict[int, weakref.ref[torch.Tensor]] = {}
        loss = sum(part.weight * self._backpropagated(part, reached) for part in self.parts())
        divisor = self.divisor(self.source.samples)
        for tensor in (alive() for alive in reached.values()):
            if tensor is not None and tensor.grad is not None:
                tensor.grad.div_(divisor)
        loss = loss / divisor
        return torch.as_tensor(loss if self.extra is None else loss + self._backpropagated(self.extra, reached))

    def _backpropagated(self, part: Part, reached: dict[int, weakref.ref[torch.Tensor]]) -> torch.Tensor | float:
        """The loss of a part, after its `backward()`; `.grad` of tensors that were not reached before is cleared."""
        returned = part.closure()
        loss = scalar_of(returned)
        if torch.is_grad_enabled():
            for tensor in (node.variable for node in nodes_of(returned) if hasattr(node, "variable")):
                if id(tensor) not in reached:
                    reached[id(tensor)], tensor.grad = weakref.ref(tensor), None
            backpropagate(part.weight * returned if isinstance(returned, torch.Tensor) else returned, loss)
        return loss

    def mapped(self, function: Callable[[Any], Any]) -> FullBatch:
        """The same batches, with a function of the loss of each as the loss."""
        loss, extra = self._loss, self.extra
        more = None if extra is None else lambda: function(extra.closure())
        return FullBatch(
            lambda data: function(loss(data)), self.source, self.reduction, more, self.ranks, self.callbacks
        )

    def evaluator(self, flat: FlatParameters, control: Steering) -> BatchEvaluator:
        """See OwnEvaluator."""
        if self.ranks is not None:
            return RankedEvaluator(self, flat, control, self.ranks)
        return BatchEvaluator(self, flat, control)

    def residual_evaluator(self, flat: FlatParameters, control: Steering, cost: CostOfResiduals) -> BatchResiduals:
        """The evaluator of a least-squares run, for which the loss returns residuals. Raises ArgumentError."""
        if self.reduction != "sum":
            raise ArgumentError(
                f"least squares adds up the squares of all residuals, but reduction={self.reduction!r}; pass "
                f"full_batch(residuals, batches, reduction='sum')"
            )
        if not self.source.keeps_order:
            raise ArgumentError(
                "least squares needs the batches in the same order in each pass, but the loader shuffles them; use "
                "shuffle=False"
            )
        if self.ranks is not None:
            return RankedResiduals(self, flat, control, cost, self.ranks)
        return BatchResiduals(self, flat, control, cost)

    def sample(self) -> Closure:
        """See OwnEvaluator: the loss of the first batch."""
        return self._closure_of(self.source.first())

    def parts(self) -> Iterator[Part]:
        """See Terms."""
        for batch in self.source:
            total = "" if self.source.total is None else f" of {self.source.total}"
            weight = batch.samples if self.reduction == "mean" else 1.0
            yield Part(f"batch {batch.number}{total}", self._closure_of(batch), weight)

    def _closure_of(self, batch: Batch) -> Closure:
        def loss_of_batch() -> Any:
            with nullcontext() if self._checked or self.ranks is None else unwrapped_models():
                returned = self._loss(batch.data)
            if not self._checked and isinstance(returned, torch.Tensor) and returned.requires_grad:
                refuse_batch_statistics(nodes_of(returned))
                self._checked = True
            return returned

        return loss_of_batch


def shard(dataset: Any, group: Any = None) -> Subset[Any]:
    """This rank's part of a data set: every k-th sample, for k ranks. No sample is repeated and none is left out.

    Parameters
    ----------
    dataset : Dataset or sequence
        The whole data set, the same on every rank.
    group : ProcessGroup or None, optional
        A process group of torch.distributed. Default: all processes; without torch.distributed, this one.

    Returns
    -------
    torch.utils.data.Subset
        The part. The parts of two ranks differ in length by one sample at most.

    Raises
    ------
    ArgumentError
        If there are fewer samples than ranks.

    Examples
    --------
    >>> from torchmin_nb import shard
    >>> len(shard(list(range(10))))
    10
    """
    several = dist.is_available() and dist.is_initialized()
    rank, size = (dist.get_rank(group), dist.get_world_size(group)) if several else (0, 1)
    if len(dataset) < size:
        raise ArgumentError(f"{len(dataset)} samples for {size} ranks: each rank needs at least one")
    return Subset(dataset, range(rank, len(dataset), size))


def full_batch(
    loss: Callable[[Any], Any],
    batches: Any,
    *,
    reduction: Reduction = "mean",
    size: Callable[[Any], int] | None = None,
    extra: Callable[[], Any] | None = None,
    device: torch.device | str | int | None = None,
    count: int | None = None,
    group: Any = None,
    callbacks: CallbackRanks = "rank 0",
) -> FullBatch:
    """The loss over all batches as one deterministic closure, in the memory of one batch.

    Each evaluation of a wrapper goes once through all batches: one graph is alive at a time. Gradients, products with
    the Hessian and the Hessian itself are sums over the batches, in float64.

    Parameters
    ----------
    loss : callable
        ``loss(batch)`` returns the loss of a batch: the mean over its samples with ``reduction="mean"``, their sum with
        ``"sum"``. It need not call ``backward()``.
    batches : DataLoader, sequence, iterable or callable
        What can be walked again and again: a DataLoader, a list of batches, another iterable, or a function of the
        index of a batch, with `count`. ``shuffle=True`` is possible, as the samples are the same. A sampler that
        repeats samples, or drops others in each pass, is refused.
    reduction : {"mean", "sum"}, optional
        The mean over all samples, or the sum over them. Default "mean".
    size : callable or None, optional
        ``size(batch)`` returns the number of samples of a batch. Default: the length of its tensors.
    extra : callable or None, optional
        A function without arguments that returns a term which is added once, such as weight decay or a prior.
    device : torch.device, str, int or None, optional
        Move the tensors of each batch there. The next batch is fetched while this one is used. Default: leave them.
    count : int or None, optional
        The number of batches, if `batches` is a function of the index.
    group : ProcessGroup or None, optional
        A process group of torch.distributed, such as ``torch.distributed.group.WORLD``: the loss is that of the batches
        of all ranks, each with its own part of the data (see `shard`). Every rank then calls ``step``; rank 0 runs the
        method, the others evaluate, and all end with the same parameters, result and history. Default: this process.
    callbacks : {"rank 0", "every rank"}, optional
        With `group`: where the optimizer's callbacks are called. On every rank they receive each iteration, `on_start`
        and `on_end`, and each may stop the run; an iteration then takes one more exchange. Default "rank 0".

    Returns
    -------
    FullBatch
        A closure, for every wrapper of torchmin_nb, for `observe` and for torch.optim.

    Raises
    ------
    ArgumentError
        If `reduction` or `callbacks` is unknown, or the sampler repeats samples or drops others in each pass.
    DistributedError
        If `group` is given and torch.distributed is not initialised.
    ArgumentTypeError
        If `loss` or `extra` is not callable, or `batches` cannot be walked more than once.

    Warns
    -----
    ClosureWarning
        If the loader leaves out samples, or starts its workers again in each pass.

    Examples
    --------
    >>> from torchmin_nb import full_batch
    >>> w = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    >>> inputs = torch.arange(12.0, dtype=torch.float64).reshape(4, 3).cos()
    >>> targets = inputs @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    >>> data = list(zip(inputs.split(3), targets.split(3)))
    >>> closure = full_batch(lambda batch: ((batch[0] @ w - batch[1]) ** 2).mean(), data)
    >>> optimizer = MinimizeWrapper([w], "trust-ncg")
    >>> optimizer.step(closure).item() < 1e-10
    True
    """
    for name, function in (("loss", loss), ("extra", extra)):
        if not callable(function) and not (name == "extra" and function is None):
            raise ArgumentTypeError(f"{name} must be callable, got {type(function).__name__}")
    one_of("reduction", reduction, get_args(Reduction))
    one_of("callbacks", callbacks, get_args(CallbackRanks))
    source = Source(batches, size=size, device=device, count=count)
    return FullBatch(loss, source, reduction, extra, None if group is None else Ranks(group), callbacks)
