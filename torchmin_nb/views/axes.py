"""The range and the labelled ticks of an axis: at least three of them, whatever the values are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Axis", "axis_of", "x_axis_of"]

_POWERS_ALONE = 1.3
"""Over fewer decades than this, a log axis is labelled between the powers of ten too."""
_FEWEST, _MOST = 3, 6
_LARGEST = 1e306
"""Values beyond are drawn at the edge: sums of larger ones overflow."""
_FLATTEST = 1e-5
"""Values that differ by less than this part of the largest are drawn as one: labels would need many digits."""
_NARROWEST = 1e-295
"""Of a linear axis: steps between smaller numbers round to 0."""
_SUBNORMAL = -290.0
"""Below this power of ten there are too few numbers for labels between the powers."""
_MARGIN = 0.05
_STEPS = (1.0, 2.0, 2.5, 5.0)
_DECADES = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Axis(NamedTuple):
    """log: whether it is logarithmic. range: its ends, as log10 of the values where it is. ticks: where there are
    labels, as values; labels: their texts.
    """

    log: bool
    range: tuple[float, float]
    ticks: tuple[float, ...]
    labels: tuple[str, ...]


def axis_of(values: NDArray[np.float64], *, log: bool) -> Axis:
    """The axis for finite values of shape (k,). log: logarithmic, where all of them are positive."""
    values = np.clip(values, -_LARGEST, _LARGEST)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    return _log_axis(low, high) if log and values.size and low > 0 else _linear_axis(low, high)


def x_axis_of(largest: float, *, whole: bool) -> Axis:
    """A linear axis from 0 on. whole: what it counts comes in whole numbers."""
    largest = max(largest, 2.0) if whole else largest or 1.0
    ends = (-_MARGIN * largest / 2, largest * (1 + _MARGIN / 2))
    ticks = [tick for tick in _linear_ticks(0.0, largest, whole=whole) if tick >= 0]
    return Axis(False, ends, tuple(ticks), _labels(ticks))


def _log_axis(low: float, high: float) -> Axis:
    first, last = math.log10(low), math.log10(high)
    margin = max(_MARGIN * (last - first), 0.02 if first > _SUBNORMAL else 3.0)
    first, last = max(first - margin, -323.5), min(last + margin, 308.0)
    return Axis(True, (first, last), *_log_ticks(first, last))


def _log_ticks(first: float, last: float) -> tuple[tuple[float, ...], tuple[str, ...]]:
    if last - first > _POWERS_ALONE:
        for step in _DECADES:
            powers = range(step * math.ceil(first / step), math.floor(last) + 1, step)
            if _FEWEST <= len(powers) <= _MOST:
                return tuple(10.0**power for power in powers), _powers(powers)
    for factors in (1, 2, 5), (1, 3):
        between = [factor * 10.0**power for power in _powers_around(first, last) for factor in factors]
        ticks = [tick for tick in between if first <= math.log10(tick) <= last]
        if _FEWEST <= len(ticks) <= _MOST:
            return tuple(ticks), _labels(ticks)
    ticks = _linear_ticks(10.0**first, 10.0**last)
    return tuple(ticks), _labels(ticks)


def _powers_around(first: float, last: float) -> range:
    return range(max(math.floor(first), -323), min(math.ceil(last), 307) + 1)


def _linear_axis(low: float, high: float) -> Axis:
    largest = max(abs(low), abs(high))
    span = high - low
    if span < _FLATTEST * largest:
        span = 0.1 * largest
    span = max(span, _NARROWEST) if largest else 2.0
    middle = low / 2 + high / 2
    low, high = min(low, middle - span / 2), max(high, middle + span / 2)
    first, last = low - _MARGIN * span, high + _MARGIN * span
    ticks = _linear_ticks(first, last)
    return Axis(False, (first, last), tuple(ticks), _labels(ticks))


def _linear_ticks(first: float, last: float, *, whole: bool = False) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten, the fewest that are at least three where that can be."""
    found: list[float] = []
    power = math.floor(math.log10(last - first)) + 1
    for step in (factor * 10.0**p for p in (power, power - 1, power - 2) for factor in reversed(_STEPS)):
        if whole and step != round(step):
            continue
        ticks = [round(k * step, 12 - math.floor(math.log10(step))) for k in _multiples(first, last, step)]
        if len(ticks) > _MOST and len(found) >= _FEWEST:
            break
        found = ticks
        if len(found) >= _FEWEST + 1:
            break
    return found


def _multiples(first: float, last: float, step: float) -> range:
    rounding = 1e-9
    return range(math.ceil(first / step - rounding), math.floor(last / step + rounding) + 1)


def _powers(powers: Iterable[int]) -> tuple[str, ...]:
    """Powers of ten: written out where all are near 1."""
    powers = list(powers)
    if all(-3 <= power <= 4 for power in powers):
        return tuple(f"{10.0**power:,.{max(0, -power)}f}" for power in powers)
    return tuple("1" if power == 0 else "10" + str(power).translate(_SUPERSCRIPT) for power in powers)


def _labels(ticks: Iterable[float]) -> tuple[str, ...]:
    """Numbers with as many digits as tell them apart, all in one form."""
    ticks = list(ticks)
    largest = max((abs(tick) for tick in ticks), default=0.0)
    apart = min((b - a for a, b in pairwise(ticks)), default=largest) or 1.0
    if largest == 0 or 1e-3 <= largest < 1e6:
        digits = _digits(apart, ticks)
        return tuple(f"{tick:,.{digits}f}".replace("-", "−") for tick in ticks)
    unit = 10.0 ** math.floor(math.log10(largest))
    digits = _digits(apart / unit, [tick / unit for tick in ticks])
    return tuple("0" if tick == 0 else _short(f"{tick:.{digits}e}") for tick in ticks)


def _digits(apart: float, ticks: list[float]) -> int:
    """Decimals that tell numbers this far apart, and write them as they are where seven are enough."""
    least = max(0, -math.floor(math.log10(apart) + 1e-9))
    for digits in range(least, 8):
        if all(abs(tick - round(tick, digits)) < 1e-6 * apart for tick in ticks):
            return digits
    return min(least + 1, 8)


def _short(text: str) -> str:
    """'2.50e-07' as '2.50e−7'."""
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−")
