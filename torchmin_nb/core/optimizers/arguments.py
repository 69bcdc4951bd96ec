"""Checks of the arguments that all wrappers share, before any work starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

import torch

from ...errors import ArgumentError, ArgumentTypeError, DistributedError, ParameterError, TorchminError
from ..batches.full_batch import FullBatch
from ..history.callbacks import Callback
from ..validation import positive

__all__ = [
    "GROUP_DEFAULTS",
    "group_errors",
    "known_group_keys",
    "read_callbacks",
    "read_errors",
    "read_loss_scale",
    "read_threads",
    "refuse_several_processes",
    "require_state_form",
]


GROUP_DEFAULTS: Mapping[str, None] = MappingProxyType({"bounds": None, "scale": None})
"""The keys of a param group besides `params`."""

_GROUP_KEYS = ("params", "param_names", *GROUP_DEFAULTS)


@contextmanager
def group_errors() -> Iterator[None]:
    """torch's checks of the parameters, with errors of torchmin_nb."""
    try:
        yield
    except TorchminError:
        raise
    except TypeError as error:
        raise ArgumentTypeError(f"{error}; pass model.parameters(), a list of tensors, or param groups") from error
    except ValueError as error:
        raise ParameterError(f"{error}; pass model.parameters(), a list of leaf tensors, or param groups") from error


def known_group_keys(groups: Iterable[Mapping[str, Any]]) -> None:
    """Raise ArgumentError for a param-group key without a meaning here, such as lr or weight_decay."""
    for group in groups:
        for key in group:
            if key not in _GROUP_KEYS:
                raise ArgumentError(
                    f"a param group has the key {key!r}; allowed are params, bounds and scale: the methods choose "
                    f"their steps themselves, and weight decay must be a part of the loss"
                )


def require_state_form(state_dict: Any) -> None:
    """Raise ArgumentError for a value without the form of a state_dict, which torch does not check."""
    formed = isinstance(state_dict, Mapping) and isinstance(state_dict.get("state"), Mapping)
    groups = state_dict.get("param_groups") if formed else None
    if not isinstance(groups, list) or not all(map(_has_group_form, groups)):
        raise ArgumentError("this is not the state_dict of an optimizer; pass the return value of state_dict()")


def _has_group_form(group: Any) -> bool:
    if not isinstance(group, Mapping) or not isinstance(group.get("params"), list):
        return False
    names = group.get("param_names", [])
    return all(type(number) is int for number in group["params"]) and isinstance(names, list | tuple)


def read_callbacks(callbacks: Any) -> list[Callback]:
    """One callable or several, as a list."""
    try:
        listed: Sequence[Any] = [callbacks] if callable(callbacks) else list(callbacks)
    except TypeError:
        raise ArgumentTypeError(f"callbacks must be a callable or a list of them, got {callbacks!r}") from None
    for callback in listed:
        if not callable(callback):
            raise ArgumentTypeError(f"a callback must be callable with an Iteration, got {type(callback).__name__}")
    return list(listed)


def read_errors(name: str, value: Any) -> tuple[type[Exception], ...]:
    """One or several exception classes, as a tuple. Raises ArgumentTypeError."""
    remedy = f"pass a tuple of exception classes, such as {name}=(torch.linalg.LinAlgError,), or () for none"
    try:
        classes = (value,) if isinstance(value, type) else tuple(value)
    except TypeError:
        raise ArgumentTypeError(f"{name} must be exception classes, got {value!r}; {remedy}") from None
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, Exception)):
            raise ArgumentTypeError(f"{name} contains {each!r}, which is not an exception class; {remedy}")
    return classes


def read_threads(threads: Any) -> int | str | None:
    """A number of BLAS threads, "auto" or None."""
    if threads is None or (isinstance(threads, str) and threads == "auto"):
        return threads
    return int(positive("blas_threads", threads, Integral, ", 'auto'"))


def read_loss_scale(value: Any) -> float | str:
    """A positive number, or "auto"."""
    if isinstance(value, str) and value == "auto":
        return value
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < float("inf"):
        raise ArgumentError(f"loss_scale must be a positive number or 'auto', got {value!r}; default 1")
    return float(value)


def refuse_several_processes(closure: object) -> None:
    """Raise DistributedError if torch.distributed uses several processes, and the closure is not made for them."""
    distributed = torch.distributed
    if isinstance(closure, FullBatch) and closure.ranks is not None:
        return
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        raise DistributedError(
            f"the process group has {distributed.get_world_size()} processes, and this closure knows only the data of "
            f"one; pass full_batch(loss, loader, group=torch.distributed.group.WORLD), each with its part of the "
            f"data, see shard()"
        )
