"""The terms of a loss over batches, and one pass over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch.nn.parallel import DistributedDataParallel

from ...errors import ClosureError, DistributedError
from ..autodiff.closure import Steering
from .source import Source

__all__ = ["Part", "Terms", "named", "parts_of", "refuse_batch_statistics", "unwrapped_models"]


class Part(NamedTuple):
    """A term: a batch, or the extra term. weight: its factor in the sum over the batches; 1 for the extra term."""

    name: str
    closure: Callable[[], Any]
    weight: float


class Terms(Protocol):
    """A loss of several terms: the weighted sum over the batches, divided by `divisor(samples)`, and the extra term."""

    source: Source
    extra: Part | None

    def divisor(self, samples: float) -> float:
        """What the weighted sum is divided by, if the batches have so many samples."""
        ...

    def parts(self) -> Iterator[Part]:
        """The batches of one pass."""
        ...


def parts_of(terms: Terms, control: Steering) -> Iterator[Part]:
    """The batches of one pass; the run may end before each."""
    try:
        for number, part in enumerate(terms.parts(), 1):
            control.before_work()
            control.batch = (number, terms.source.total or number)
            yield part
    finally:
        control.batch = None


@contextmanager
def named(part: Part) -> Iterator[None]:
    """Name the part in a note on an error that is raised inside."""
    try:
        yield
    except Exception as error:
        error.add_note(f"raised in {part.name}")
        raise


@contextmanager
def unwrapped_models() -> Iterator[None]:
    """Raise DistributedError if DistributedDataParallel is called inside: it would add up gradients on its own."""

    def refuse(module: torch.nn.Module, inputs: object) -> None:
        if isinstance(module, DistributedDataParallel):
            raise DistributedError(
                "the loss calls a DistributedDataParallel, which adds up gradients on its own; call ddp.module instead"
            )

    hook = torch.nn.modules.module.register_module_forward_pre_hook(refuse)
    try:
        yield
    finally:
        hook.remove()


def refuse_batch_statistics(nodes: set[Any]) -> None:
    """Raise ClosureError if a BatchNorm in training mode is among the nodes of a batch's graph."""
    for node in nodes:
        training = "BatchNorm" in type(node).__name__ and getattr(node, "_saved_training", False)
        if training and node._saved_input.shape[0] > 1:  # InstanceNorm sees one sample with many channels
            raise ClosureError(
                "a BatchNorm in training mode normalises by the statistics of each batch, so the loss of all batches "
                "would depend on how they are cut; call model.eval(), or use GroupNorm or LayerNorm"
            )
