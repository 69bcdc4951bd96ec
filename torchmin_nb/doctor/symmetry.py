"""Hidden layers whose units are all alike: they get the same gradient, so no descent tells them apart."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .subject import Subject

__all__ = ["alike_layers", "told_apart"]

_ALIKE = 1e-6
"""Largest difference of weights that are the same but for what rounding made of them in a run, relative to them."""


def alike_layers(subject: Subject) -> list[int]:
    """The weights, by the index of the tensor, of hidden layers whose units have the same weights in and out."""
    values = [part.numpy() for part in subject.views(subject.x)]
    found = []
    for index, weight in enumerate(values):
        units = weight.shape[0] if weight.ndim > 1 else 1
        following = next((i for i in range(index + 1, len(values)) if values[i].ndim > 1), None)
        if units < 2 or following is None or values[following].shape[1] != units:
            continue
        beside = [each for each in values[index:following] if each.shape[:1] == (units,)]
        if all(_are_alike(each) for each in (*beside, values[following].swapaxes(0, 1))):
            found.append(index)
    return found


def told_apart(subject: Subject, layers: list[int]) -> NDArray[np.float64]:
    """The point with the weights of these layers, and of those after them, drawn anew; shape (n,)."""
    random, x = np.random.default_rng(5), subject.x.copy()
    parts = subject.views(x)
    weights = [index for index, part in enumerate(parts) if part.dim() > 1]
    drawn = {each for layer in layers for each in (layer, weights[weights.index(layer) + 1])}
    for index in drawn:
        part = parts[index]
        most = 1 / np.sqrt(part[0].numel())
        part.copy_(torch.from_numpy(random.uniform(-most, most, tuple(part.shape))))
    return x


def _are_alike(units: NDArray[np.float64]) -> bool:
    """Whether all rows are the same."""
    return bool(np.abs(units - units[:1]).max(initial=0.0) <= _ALIKE * np.abs(units).max(initial=0.0))
