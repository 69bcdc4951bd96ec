"""The losses of many points in one call, under `torch.func.vmap`.

It needs the loss as a function of the parameters: the argument `loss`, or a closure with `model` and
`loss(model)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ....errors import ArgumentTypeError
from ...autodiff.closure import Closure
from ...autodiff.graph import saved_bytes
from ...parameters.flat import FlatParameters

__all__ = ["LossOfParameters", "Population", "population_of"]

LossOfParameters = Callable[[list[torch.Tensor]], torch.Tensor]

_CHUNK_BYTES = 8 * 2**20
_MAX_CHUNK = 1024
_WORTHWHILE = 16


class Population:
    """Evaluates rows of points together.

    `chunk`: the number of rows in one evaluation, at most 1024, chosen by `fit` so that the parameters and the values
    that the loss computes stay within 8 MB, in the cache. `worthwhile`: with fewer than 16 rows in a chunk the loop is
    as fast (measured). explicit: the loss is the user's argument, not from a closure.
    """

    def __init__(self, loss: LossOfParameters, flat: FlatParameters, *, explicit: bool):
        self._loss = loss
        self._batched = torch.func.vmap(lambda parts: loss(list(parts)))
        self._flat = flat
        self.explicit = explicit
        self.chunk = 1

    @property
    def worthwhile(self) -> bool:
        """Whether chunks are large enough to save time."""
        return self.chunk >= _WORTHWHILE

    def fit(self) -> None:
        """Choose the chunk: call the loss once, at the parameters' values, and measure the memory for backward."""
        with torch.enable_grad():
            _, kept = saved_bytes(lambda: self._loss(self._flat.tensors))
        self.chunk = int(np.clip(_CHUNK_BYTES // (8 * self._flat.n + (kept or 0)), 1, _MAX_CHUNK))

    def losses(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The losses at rows of shape (k, n), shape (k,). Raises the errors of vmap."""
        parts = tuple(self._flat.split_rows(torch.from_numpy(np.ascontiguousarray(rows))))
        losses = self._batched(parts).detach().to(device="cpu", dtype=torch.float64).numpy()
        if losses.size != len(rows):
            raise ArgumentTypeError(f"the loss returned shape {losses.shape[1:]} for a point; it must be a scalar")
        return np.array(losses.reshape(-1))


def population_of(closure: Closure, loss: LossOfParameters | None, flat: FlatParameters) -> Population | None:
    """The population for `loss`, else for the closure's model and loss, else None."""
    if loss is not None:
        return Population(loss, flat, explicit=True)
    model, own = getattr(closure, "model", None), getattr(closure, "loss", None)
    names = _names(model, flat.tensors) if isinstance(model, torch.nn.Module) and callable(own) else None
    if names is None:
        return None
    assert isinstance(model, torch.nn.Module)
    assert callable(own)
    return Population(_functional(model, own, names), flat, explicit=False)


def _names(model: torch.nn.Module, tensors: Sequence[torch.Tensor]) -> list[str] | None:
    """The name of each tensor in the model; None if a tensor does not belong to the model."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [known[id(tensor)] for tensor in tensors] if all(id(tensor) in known for tensor in tensors) else None


def _functional(model: torch.nn.Module, loss: Callable[[Any], Any], names: list[str]) -> LossOfParameters:
    whole = _WithLoss(model, loss)

    def of_parameters(parts: list[torch.Tensor]) -> torch.Tensor:
        values = {f"model.{name}": part for name, part in zip(names, parts, strict=True)}
        return torch.func.functional_call(whole, values, ())  # type: ignore[no-any-return]

    return of_parameters


class _WithLoss(torch.nn.Module):
    """loss(model) as the forward of a module, so that `functional_call` applies to everything in the loss."""

    def __init__(self, model: torch.nn.Module, loss: Callable[[Any], Any]):
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self) -> Any:
        return self._loss(self.model)
