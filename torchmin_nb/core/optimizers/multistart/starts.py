"""Where the runs start: points that are passed, or points drawn between bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds
from scipy.stats import qmc

from ....errors import ArgumentError, ArgumentTypeError
from ...parameters.flat import FlatParameters
from ...validation import count, one_of

__all__ = ["Sampling", "read_starts"]

Floats = NDArray[np.float64]
Sampling = Literal["latinhypercube", "sobol", "halton", "random"]


def read_starts(
    starts: Any, flat: FlatParameters, bounds: Bounds | None, sampling: str, rng: Any
) -> NDArray[np.float64]:
    """The starts as rows, shape (k, n): those passed, or for a number the present point and k - 1 drawn ones.

    Raises ArgumentError or ArgumentTypeError.
    """
    one_of("sampling", sampling, get_args(Sampling))
    if isinstance(starts, Integral):
        number = count("starts", starts)
        drawn = _drawn(number - 1, _box(bounds, flat.n, number), sampling, rng) if number > 1 else np.empty((0, flat.n))
        return np.concatenate([flat.read()[None], drawn])
    try:
        listed = list(starts)
    except TypeError:
        raise ArgumentTypeError(
            f"starts must be a number of starts, an array of shape (k, {flat.n}) or a list of starts, got "
            f"{type(starts).__name__}"
        ) from None
    if not listed:
        raise ArgumentError("starts is empty; pass at least one start")
    rows = np.array([_row(index, start, flat) for index, start in enumerate(listed)])
    wrong = ~np.isfinite(rows).all(axis=1)
    if wrong.any():
        raise ArgumentError(f"start {int(np.argmax(wrong))} has NaN or infinite entries; pass finite numbers")
    return rows


def _row(index: int, start: Any, flat: FlatParameters) -> Floats:
    """One start as a vector, from a vector, or from one tensor for each trainable parameter."""
    parts = list(start) if isinstance(start, list | tuple) and any(np.ndim(_plain(part)) for part in start) else [start]
    try:
        row = np.concatenate([np.ravel(np.asarray(_plain(part), dtype=np.float64)) for part in parts])
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            f"start {index} must be numbers, or one tensor for each trainable parameter, got {type(start).__name__}"
        ) from None
    if row.size != flat.n or (len(parts) > 1 and len(parts) != len(flat.tensors)):
        raise ArgumentError(
            f"start {index} has {row.size} numbers in {len(parts)} parts for {flat.n} variables; pass a vector of "
            f"shape ({flat.n},), or one tensor for each of the {len(flat.tensors)} trainable parameters"
        )
    return row


def _plain(part: Any) -> Any:
    return part.detach().cpu() if isinstance(part, torch.Tensor) else part


def _box(bounds: Bounds | None, n: int, number: int) -> tuple[Floats, Floats]:
    open_sides = n if bounds is None else int((~np.isfinite(bounds.ub - bounds.lb)).sum())
    if bounds is None or open_sides:
        raise ArgumentError(
            f"starts={number} draws points between bounds, and {open_sides} of {n} variables have no finite ones; pass "
            f"bounds=[(low, high), ...] to multistart, which uses them for the starts only, or pass the starts"
        )
    return bounds.lb, bounds.ub


def _drawn(number: int, box: tuple[Floats, Floats], sampling: str, rng: Any) -> Floats:
    try:
        generator = np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"rng must be an integer, a numpy.random.Generator or None, got {rng!r}") from error
    low, high = box
    return np.asarray(low + (high - low) * _SAMPLERS[sampling](low.size, number, generator))


def _sobol(n: int, number: int, rng: np.random.Generator) -> Floats:
    """The first points of a power of two, for which the sequence is balanced."""
    return np.asarray(qmc.Sobol(n, rng=rng).random_base2(math.ceil(math.log2(number)))[:number])


_SAMPLERS: Mapping[str, Callable[[int, int, np.random.Generator], Floats]] = {
    "latinhypercube": lambda n, number, rng: np.asarray(qmc.LatinHypercube(n, rng=rng).random(number)),
    "sobol": _sobol,
    "halton": lambda n, number, rng: np.asarray(qmc.Halton(n, rng=rng).random(number)),
    "random": lambda n, number, rng: rng.random((number, n)),
}
