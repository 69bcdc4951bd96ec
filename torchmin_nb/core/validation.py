"""Checks of single values. The error names the argument, its value and the allowed values."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from ..errors import ArgumentError, ArgumentTypeError

__all__ = ["count", "known_keywords", "number", "one_of", "positive", "shown", "truth"]


def known_keywords(name: str, keywords: Iterable[str], known: Iterable[str]) -> None:
    """Raise ArgumentTypeError for a keyword that does not exist."""
    for keyword in keywords:
        if keyword not in known:
            raise ArgumentTypeError(f"{name} has no keyword {keyword!r}; it has {', '.join(known)}")


def positive(name: str, value: Any, kind: type = Real, others: str = "") -> Any:
    """A positive number, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, kind) or not value > 0:  # type: ignore[operator]
        what = "integer" if kind is Integral else "number"
        raise ArgumentError(f"{name} must be a positive {what}{others} or None, got {value!r}")
    return value


def count(name: str, value: object) -> int:
    """A positive integer, NumPy's too."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def number(name: str, value: Any) -> Any:
    """A number, or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, Real) or value != value):
        raise ArgumentError(f"{name} must be a number or None, got {value!r}")
    return value


def truth(name: str, value: Any) -> bool:
    """A bool, also from NumPy's bool or 0 and 1."""
    try:
        return bool(value)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentError(f"{name} must be True or False, got {value!r}") from None


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """One of the allowed words."""
    if not isinstance(value, str) or value not in allowed:
        raise ArgumentError(f"{name}={value!r} is not known; choose one of {', '.join(allowed)}")
    return str(value)


def shown(value: Any) -> str:
    """The repr of a value; for an integer of thousands of digits, its number of bits."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)
