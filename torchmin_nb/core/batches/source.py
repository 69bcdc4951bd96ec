"""The batches of a data set: where they come from, how many samples each has, and what makes a pass differ."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from ...errors import ArgumentError, ArgumentTypeError, ClosureError, ClosureWarning, text_of
from ..validation import count as positive_count

__all__ = ["Batch", "Source", "samples_in"]

_WALKED = 10**6
"""Samplers of up to this many samples are walked once to see which samples they return."""
_SHOWN = 5


class Batch(NamedTuple):
    """A batch of data, its number in the pass, from 0, and the number of its samples."""

    number: int
    data: Any
    samples: int


class Source:
    """Batches that can be walked again and again.

    batches: a DataLoader, a sequence, another iterable, or a function of the index, with `count` batches. size: the
    number of samples of a batch. device: where the batches are moved. `total`: the number of batches, None before it is
    known. `samples`: of one pass, 0 before the first.
    """

    def __init__(
        self,
        batches: Any,
        *,
        size: Callable[[Any], int] | None = None,
        device: torch.device | str | int | None = None,
        count: int | None = None,
    ):
        self._batches = _iterable(batches, count)
        self._size = size or samples_in
        self.device = None if device is None else torch.device(device)
        self.total = _length(self._batches)
        self.samples = 0
        if isinstance(batches, DataLoader):
            _require_all_samples(batches)
            _warn_of_new_workers(batches)

    @property
    def keeps_order(self) -> bool:
        """Whether each pass has the same batches in the same order, as far as the source shows."""
        loader = self._batches
        return not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset) or _in_order(loader)

    def first(self) -> Batch:
        """The first batch alone."""
        for data in self._batches:
            return self._batch(0, data)
        raise ClosureError(_EMPTY)

    def __iter__(self) -> Iterator[Batch]:
        """One pass. Raises ClosureError if it has another number of samples than the first."""
        samples = index = 0
        for index, data in enumerate(self._ahead()):
            batch = self._batch(index, data)
            samples += batch.samples
            yield batch
        if not samples:
            raise ClosureError(_EMPTY)
        if self.samples and samples != self.samples:
            raise ClosureError(
                f"this pass over the batches had {samples:,} samples, the first one {self.samples:,}; every pass must "
                f"have the same samples: the methods compare losses of different passes"
            )
        self.samples, self.total = samples, index + 1

    def _batch(self, index: int, data: Any) -> Batch:
        samples = self._size(data)
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise ClosureError(
                f"batch {index} has {samples!r} samples; size= must return a positive integer for each batch"
            )
        return Batch(index, data, samples)

    def _ahead(self) -> Iterator[Any]:
        """The data of each batch, on the device; the next one is fetched while the caller works on this one."""
        if isinstance(self._batches, list | tuple) and self.device is None:
            yield from self._batches
            return
        each = iter(self._batches)
        with ThreadPoolExecutor(1, thread_name_prefix="torchmin_nb-batches") as pool:
            fetched = pool.submit(self._fetch, each)
            while (data := fetched.result()) is not _END:
                fetched = pool.submit(self._fetch, each)
                yield data

    def _fetch(self, each: Iterator[Any]) -> Any:
        data = next(each, _END)
        return data if data is _END or self.device is None else _moved(data, self.device)


_END = object()
_EMPTY = "there are no batches; pass a loader with at least one batch"


class _Indexed:
    """Batches from a function of their index."""

    def __init__(self, function: Callable[[int], Any], count: int):
        self._function, self._count = function, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return map(self._function, range(self._count))


def samples_in(batch: Any) -> int:
    """The length of the first tensor in a batch: a tensor, or sequences and mappings of tensors.

    Raises ClosureError if the tensors have different lengths, or there is none.
    """
    lengths = list(dict.fromkeys(_lengths(batch)))
    if len(lengths) == 1:
        return lengths[0]
    found = f"tensors of {' and '.join(map(str, lengths))} samples" if lengths else f"no tensor in {type(batch)}"
    raise ClosureError(f"the number of samples of a batch is not known: {found}; pass size=, a function of a batch")


def _lengths(batch: Any) -> Iterator[int]:
    if isinstance(batch, torch.Tensor):
        yield len(batch) if batch.ndim else 1
    elif isinstance(batch, Mapping):
        for part in batch.values():
            yield from _lengths(part)
    elif isinstance(batch, list | tuple):
        for part in batch:
            yield from _lengths(part)


def _moved(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor on the device. An object of another type is asked by its own `to`."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return type(batch)({name: _moved(part, device) for name, part in batch.items()})  # type: ignore[call-arg]
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_moved(part, device) for part in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(_moved(part, device) for part in batch)
    return batch.to(device) if hasattr(batch, "to") else batch


def _iterable(batches: Any, count: int | None) -> Iterable[Any]:
    if isinstance(batches, torch.Tensor):
        raise ArgumentTypeError(
            f"the batches are one tensor of shape {tuple(batches.shape)}; pass its parts, such as "
            f"tensor.split(1000), or a DataLoader"
        )
    if isinstance(batches, Iterator):
        raise ArgumentTypeError(
            f"{type(batches).__name__} can be walked only once, but every closure call needs all batches; pass a "
            f"DataLoader, a list, or a function of the index of a batch with count="
        )
    if callable(batches) and not isinstance(batches, Iterable):
        if count is None:
            raise ArgumentError("a function of the index needs count=, the number of batches")
        return _Indexed(batches, positive_count("count", count))
    if count is not None:
        raise ArgumentError(f"count={count!r} is for a function of the index, not for {type(batches).__name__}")
    if not isinstance(batches, Iterable) and not hasattr(batches, "__getitem__"):
        raise ArgumentTypeError(
            f"the batches must be a DataLoader, a sequence, an iterable or a function of the index, got "
            f"{type(batches).__name__}"
        )
    return cast("Iterable[Any]", batches)


def _length(batches: Iterable[Any]) -> int | None:
    """The number of batches; None if it is not known, as for an IterableDataset without a length."""
    try:
        return len(batches) if isinstance(batches, Sized) else None
    except TypeError:
        return None


def _in_order(loader: DataLoader[Any]) -> bool:
    """Whether the sampler returns the same indices in two walks. A sampler too long to walk counts as one that does."""
    if len(cast("Sized", loader.dataset)) > _WALKED:
        return True
    first, second = _two_walks(loader)
    return first == second


def _two_walks(loader: DataLoader[Any]) -> tuple[list[Any], list[Any]]:
    """The indices of two passes. The random numbers that the sampler draws are put back."""
    generators = {id(each): each for each in (torch.default_generator, loader.generator, _generator_of(loader))}
    states = [(each, each.get_state()) for each in generators.values() if each is not None]
    try:
        return _walked(loader), _walked(loader)
    finally:
        for generator, state in states:
            generator.set_state(state)


def _walked(loader: DataLoader[Any]) -> list[Any]:
    batches: Iterable[Any] = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    return [index for batch in batches for index in (batch if isinstance(batch, Sequence) else [batch])]


def _generator_of(loader: DataLoader[Any]) -> Any:
    return getattr(loader.sampler, "generator", None)


def _require_all_samples(loader: DataLoader[Any]) -> None:
    """Raise ArgumentError for a sampler that repeats samples, or drops samples and others each time."""
    if isinstance(loader.dataset, IterableDataset):
        return
    size = len(cast("Sized", loader.dataset))
    if size > _WALKED:
        return
    try:
        first, second = _two_walks(loader)
    except Exception as error:
        raise ArgumentError(f"{_name(loader)} cannot be walked: {type(error).__name__}: {text_of(error)}") from error
    repeated = len(first) - len(set(first))
    if repeated:
        raise ArgumentError(
            f"{_name(loader)} repeats samples: {repeated:,} of {len(first):,} in one pass are there already; a full "
            f"batch needs each sample once: use no sampler, or one without replacement"
        )
    if set(first) != set(second):
        other = sorted(set(first) ^ set(second))[:_SHOWN]
        raise ArgumentError(
            f"{_name(loader)} drops other samples in each pass ({', '.join(map(str, other))}, …: in one of two passes "
            f"only); a full batch needs the same samples every time: use drop_last=False"
        )
    if len(first) < size:
        warnings.warn(
            f"{_name(loader)} leaves out {size - len(first):,} of the {size:,} samples, the same ones in each pass",
            ClosureWarning,
            stacklevel=4,
        )


def _name(loader: DataLoader[Any]) -> str:
    sampler, batches = loader.sampler, loader.batch_sampler
    own = batches is not None and type(batches) is not BatchSampler
    dropping = isinstance(batches, BatchSampler) and batches.drop_last
    return f"the loader's {type(batches if own else sampler).__name__}" + (" with drop_last=True" if dropping else "")


def _warn_of_new_workers(loader: DataLoader[Any]) -> None:
    if loader.num_workers and not loader.persistent_workers:
        warnings.warn(
            f"the loader starts its {loader.num_workers} workers again for each pass, that is for every closure call "
            f"and product; pass persistent_workers=True to the DataLoader",
            ClosureWarning,
            stacklevel=4,
        )
