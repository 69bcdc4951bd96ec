"""OptionSpec: one option of a solver as a row; and a value for SciPy, checked against the row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..storage.stored_fields import fields_by_name, set_fields
from ..validation import shown

__all__ = ["LARGEST", "OptionSpec", "read_value", "refuse_value", "require_arrays"]


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """One option of a method.

    Attributes
    ----------
    name : str
        Name of the option.
    default : object
        SciPy's own default. None: SciPy derives it, and `help` says how.
    kind : str
        "int", "float", "bool", "choice", "array", "step" (of differences), "map", "mapping", "any", or a kind of one
        family of methods.
    help : str
        What it does, in a sentence.
    low : float or None
        Smallest allowed value.
    high : float or None
        Largest allowed value.
    choices : tuple
        Values that are allowed besides, or the allowed values of a choice.
    tolerance : bool
        Whether ``tol`` sets it.
    float32 : object
        Our default if a parameter is float32 and SciPy's default assumes float64.
    ours : bool
        Whether torchmin_nb handles it and SciPy is not handed it.
    both_axes : bool
        Whether an array runs over the variables in both axes; otherwise in its last axis.
    loss_power : int
        The option is in units of the loss to this power, which ``loss_scale`` changes.
    unlimited : float or None
        What SciPy is handed for inf, in an option that is a limit.
    shape : tuple of str
        Shape of an array, in words of N.
    none : bool
        Whether SciPy takes None too, for something else than the default.
    scipy_only : bool
        Whether a solver on the device has no use for it.

    Examples
    --------
    >>> METHODS["BFGS"].options["gtol"].default, METHODS["BFGS"].options["gtol"].help
    (1e-05, 'Stop when the gradient norm is below this.')
    """

    name: str
    default: Any
    kind: str
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()
    tolerance: bool = False
    float32: Any = None
    ours: bool = False
    both_axes: bool = False
    loss_power: int = 0
    unlimited: float | None = None
    shape: tuple[str, ...] = ()
    none: bool = False
    scipy_only: bool = False

    __getstate__ = fields_by_name
    __setstate__ = set_fields


LARGEST = 2**31 - 1
"""The largest integer that SciPy's compiled solvers take."""


def read_value(method: str, row: OptionSpec, value: Any) -> Any:
    """The value for SciPy: an integral float as an integer, inf as SciPy's form of no limit. Raises ArgumentError."""
    reader = _READERS.get(row.kind)
    if value is None or reader is None:
        return value
    try:
        return reader(row, value)
    except (TypeError, ValueError, OverflowError):
        raise refuse_value(method, row, value) from None


def refuse_value(method: str, row: OptionSpec, value: Any) -> ArgumentError:
    """The error, with the allowed values."""
    return ArgumentError(
        f"option {row.name}={shown(value)} of {method} must be {_allowed(row)}; default {row.default!r}"
    )


def require_arrays(method: str, rows: Iterable[OptionSpec], options: Mapping[str, Any], n: int) -> None:
    """Raise ArgumentError for an array option whose shape does not fit n variables."""
    for row in rows:
        value = options.get(row.name)
        if value is None or not row.shape:
            continue
        shape = tuple({"N": n, "N+1": n + 1}[size] for size in row.shape)
        actual = np.shape(value)
        if actual != shape and not (row.kind == "step" and actual == ()):
            raise ArgumentError(
                f"option {row.name} of {method} has shape {actual}; for {n} variables it must be {shape}"
            )


def _integer(row: OptionSpec, value: Any) -> Any:
    if not isinstance(value, Real):
        raise TypeError
    if row.unlimited is not None and value >= LARGEST:  # type: ignore[operator]
        return row.unlimited
    if not isinstance(value, Integral) and not float(value).is_integer():
        raise ValueError
    whole = int(value) if isinstance(value, Integral) else int(float(value))
    _within(row, whole)
    return whole


def _number(row: OptionSpec, value: Any) -> float:
    if not isinstance(value, Real):
        raise TypeError
    number = float(value)
    return number if number in row.choices else float(_within(row, number))


def _within(row: OptionSpec, value: float) -> float:
    if value != value or (row.low is not None and value < row.low) or (row.high is not None and value > row.high):
        raise ValueError
    return value


def _truth(row: OptionSpec, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_ | Integral):
        raise TypeError
    return bool(value)


def _choice(row: OptionSpec, value: Any) -> Any:
    if not isinstance(value, str | Real) or value not in row.choices:
        raise ValueError
    return value


def _array(row: OptionSpec, value: Any) -> Any:
    """Finite numbers; their shape is checked later, when the number of variables is known."""
    if not np.isfinite(np.asarray(value, dtype=np.float64)).all():
        raise ValueError
    return value


def _step(row: OptionSpec, value: Any) -> Any:
    """A step of differences: positive or negative numbers; with False SciPy chooses."""
    found = np.asarray(value, dtype=np.float64)
    if not (value is False or (np.isfinite(found) & (found != 0)).all()) or found.ndim > 1 or not found.size:
        raise ValueError
    return value


def _mapping(row: OptionSpec, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return dict(value)


def _map(row: OptionSpec, value: Any) -> Any:
    if not callable(value) and not (isinstance(value, Integral) and value == 1):
        raise TypeError
    return value if callable(value) else None


def _allowed(row: OptionSpec) -> str:
    if row.kind == "choice":
        return f"one of {row.choices}"
    low = "" if row.low is None else f" of at least {row.low:g}"
    high = "" if row.high is None else f"{' and' if low else ''} at most {row.high:g}"
    endless = "" if row.unlimited is None else ", or inf for no limit"
    others = "".join(f", or {choice}" for choice in row.choices)
    return f"{_WORDS[row.kind]}{low}{high}{endless}{others}"


_READERS: Mapping[str, Callable[[OptionSpec, Any], Any]] = {
    "int": _integer,
    "float": _number,
    "bool": _truth,
    "choice": _choice,
    "array": _array,
    "step": _step,
    "map": _map,
    "mapping": _mapping,
}
_WORDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "True or False",
    "array": "an array of finite numbers",
    "step": "a number other than 0, or one for each variable",
    "map": "a callable such as map; workers cannot run in parallel, because all closure calls use the same parameters",
    "mapping": "a dict",
}
