"""Work that uses a closure of several processes: rank 0 does it, the others evaluate and receive what it returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from ...errors import DistributedError, described
from ..batches.full_batch import FullBatch
from ..batches.ranked import serve
from ..batches.ranks import Order, OrderKind, Ranks, position
from ..history.callbacks import Callback, notify
from ..history.history import History
from ..history.records import Iteration

if TYPE_CHECKING:
    from ..parameters.flat import FlatParameters

__all__ = ["Mirror", "has_ranks", "on_every_rank", "relays"]

T = TypeVar("T")


def has_ranks(closure: object) -> bool:
    """Whether a closure is of several processes."""
    return isinstance(closure, FullBatch) and closure.ranks is not None


def on_every_rank(
    closure: object,
    flat: FlatParameters,
    what: str,
    work: Callable[[], T],
    *,
    state: Callable[[], Any] = lambda: None,
    take: Callable[[Any], object] = lambda state: None,
    told: Callable[[Any], bool] = lambda event: False,
) -> T:
    """The return value of `work`, on every rank. With a closure of this process alone, simply `work()`.

    what: in words, the same on every rank. state: on rank 0, what the work has left besides parameters and `.grad`,
    also if it failed; take: receives it on the other ranks. told: there, called with what a Relay sends. Raises
    DistributedError if the parameters differ, and where another rank has failed.
    """
    ranks = closure.ranks if isinstance(closure, FullBatch) else None
    if ranks is None:
        return work()
    assert isinstance(closure, FullBatch)
    ranks.require_same({"what is run": what, "shapes and dtypes": _shapes(flat), "parameter values": _digest(flat)})
    if ranks.rank == 0:
        package: dict[str, Any] = {"error": None, "value": None}
        with ranks.leading():
            try:
                package["value"] = value = work()
                return value
            except BaseException as error:
                package["error"] = described(error)
                raise
            finally:
                ranks.finish({**package, "state": state(), "x": flat.read(), "gradients": flat.gradients()})
    package = serve(closure, flat, ranks, told)
    flat.write_final(package["x"])
    for tensor, gradient in zip(flat.tensors, package["gradients"], strict=True):
        tensor.grad = None if gradient is None else gradient.to(tensor)
    take(package["state"])
    ranks.raise_interrupt()
    if package["error"] is None:
        return package["value"]  # type: ignore[no-any-return]
    raise ranks.own_error or DistributedError(f"rank 0 ended: {package['error']}")


class Relay:
    """A callback of rank 0 that has the callbacks of the other ranks called. Each of them may stop the run."""

    def __init__(self, flat: FlatParameters, ranks: Ranks):
        self._flat, self._ranks = flat, ranks

    def __call__(self, iteration: Iteration) -> bool:
        """Send the iteration and its point."""

        def share() -> torch.Tensor:
            self._ranks.broadcast(iteration)
            return torch.zeros(1)

        return bool(self._ranks.lead(Order(OrderKind.TELL, position(self._flat, self._ranks)), share))


class Mirror:
    """Calls the callbacks of a rank that does not lead, with the iterations of rank 0."""

    def __init__(self, callbacks: Sequence[Callback], history: History):
        self._callbacks, self._history = callbacks, history

    def __call__(self, iteration: Iteration) -> bool:
        """One iteration. Returns whether the run is to stop."""
        if not len(self._history):
            notify(self._callbacks, "on_start", self._history)
        self._history.append(iteration)
        try:
            answers = [callback(iteration) for callback in self._callbacks]
        except StopIteration:
            return True
        return any(isinstance(answer, bool | np.bool_) and bool(answer) for answer in answers)

    def end(self, history: History) -> None:
        """The run is over; its history."""
        if len(self._history):
            notify(self._callbacks, "on_end", history)


def relays(closure: object, flat: FlatParameters) -> Iterable[Callback]:
    """What rank 0 adds to its callbacks, so that those of the other ranks are called too; mostly nothing."""
    if isinstance(closure, FullBatch) and closure.ranks is not None and closure.callbacks == "every rank":
        yield Relay(flat, closure.ranks)


def _shapes(flat: FlatParameters) -> str:
    return ", ".join(f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in flat.tensors)


def _digest(flat: FlatParameters) -> str:
    """A short text that differs if one bit of a parameter differs."""
    return hashlib.sha256(flat.read().tobytes()).hexdigest()[:12]
