"""Work that uses a closure of several processes: rank 0 does it, the others evaluate and receive what it returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import DistributedError, described
from ..batches.full_batch import FullBatch
from ..batches.ranked import serve

if TYPE_CHECKING:
    from ..parameters.flat import FlatParameters

__all__ = ["has_ranks", "on_every_rank"]

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
) -> T:
    """The return value of `work`, on every rank. With a closure of this process alone, simply `work()`.

    what: in words, the same on every rank. state: on rank 0, what the work has left besides parameters and `.grad`,
    also if it failed; take: receives it on the other ranks. Raises DistributedError if the parameters differ, and where
    another rank has failed.
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
    package = serve(closure, flat, ranks)
    flat.write_final(package["x"])
    for tensor, gradient in zip(flat.tensors, package["gradients"], strict=True):
        tensor.grad = None if gradient is None else gradient.to(tensor)
    take(package["state"])
    if package["error"] is None:
        return package["value"]  # type: ignore[no-any-return]
    raise ranks.own_error or DistributedError(f"rank 0 ended: {package['error']}")


def _shapes(flat: FlatParameters) -> str:
    return ", ".join(f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in flat.tensors)


def _digest(flat: FlatParameters) -> str:
    """A short text that differs if one bit of a parameter differs."""
    return hashlib.sha256(flat.read().tobytes()).hexdigest()[:12]
