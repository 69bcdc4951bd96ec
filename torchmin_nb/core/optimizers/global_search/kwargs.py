"""The keywords of a global method: checked before any work, and converted for the installed SciPy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds

from ....errors import ArgumentError, ArgumentTypeError, UnknownOptionError
from ...methods.global_search import SHGO_OPTIONS, GlobalSpec
from ...methods.options import OptionSpec, read_value
from ...parameters.bounds import read_bounds
from ...validation import shown
from ..common import Common

__all__ = [
    "SearchCommon",
    "by_one_name",
    "is_pair",
    "read_kwargs",
    "read_search_bounds",
    "read_start",
    "require_finite",
    "require_width",
    "with_random",
]

_SUPPLIED = ("func", "args", "minimizer_kwargs", "workers", "full_output")


class SearchCommon(Common, total=False):
    """Keywords of every global wrapper, and the earlier names of `search_args`."""

    basinhopping_kwargs: Mapping[str, Any] | None
    brute_kwargs: Mapping[str, Any] | None
    da_kwargs: Mapping[str, Any] | None
    de_kwargs: Mapping[str, Any] | None
    direct_kwargs: Mapping[str, Any] | None
    shgo_kwargs: Mapping[str, Any] | None


def by_one_name(
    wrapper: str, older: str, search_args: Mapping[str, Any] | None, common: SearchCommon
) -> tuple[Mapping[str, Any] | None, Common]:
    """`search_args`, also under its earlier name, and the keywords without it. Raises ArgumentError."""
    others = {name: value for name, value in common.items() if name != older}
    older_args = cast("Mapping[str, Any]", common).get(older)
    if search_args is not None and older_args is not None:
        raise ArgumentError(
            f"{wrapper} got both search_args={shown(search_args)} and {older}={shown(older_args)}, its earlier name; "
            f"pass search_args only"
        )
    return older_args if search_args is None else search_args, cast("Common", others)


def read_kwargs(spec: GlobalSpec, kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """A checked copy of the keywords. Raises UnknownOptionError, ArgumentError or ArgumentTypeError."""
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping):
        raise ArgumentTypeError(f"the keywords of {spec.name} must be a dict, got {type(kwargs).__name__}")
    for name in kwargs:
        if name not in spec.options:
            known = ", ".join(sorted(spec.options))
            reason = "torchmin_nb sets it; " if name in _SUPPLIED else ""
            raise UnknownOptionError(f"{spec.name} has no keyword {name!r}; {reason}it has {known}")
    if kwargs.get("rng") is not None and kwargs.get("seed") is not None:
        raise ArgumentError(f"{spec.name} takes rng or seed, not both; seed is for SciPy's legacy generators")
    return {name: _read(spec, spec.options[name], value) for name, value in kwargs.items()}


def with_random(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords with `rng` for the installed SciPy: before 1.15 it was called `seed`, and accepted generators."""
    known = inspect.signature(function).parameters
    passed = {name: value for name, value in kwargs.items() if name not in ("rng", "seed")}
    if kwargs.get("seed") is not None:
        return {**passed, "seed": kwargs["seed"]}
    if kwargs.get("rng") is None:
        return passed
    if "rng" in known:
        return {**passed, "rng": kwargs["rng"]}
    return {**passed, "seed": np.random.default_rng(kwargs["rng"])}


def read_search_bounds(bounds: Any, n: int) -> Bounds | None:
    """Bounds in the forms of `read_bounds`, or one (low, high) pair for all n variables."""
    if is_pair(bounds):
        return read_bounds([tuple(bounds)] * n, n)
    return read_bounds(bounds, n)


def require_finite(spec: GlobalSpec, bounds: Bounds | None) -> None:
    """Raise ArgumentError if a method that searches a box has no bounds, or infinite ones."""
    if bounds is None:
        raise ArgumentError(
            f"{spec.name} searches a box: pass bounds, one (low, high) pair for all variables or one for each, or "
            f"bounds=(low, high) in every param group"
        )
    openly = ~(np.isfinite(bounds.lb) & np.isfinite(bounds.ub))
    if openly.any():
        index = int(np.argmax(openly))
        raise ArgumentError(
            f"{spec.name} needs finite bounds; those of variable {index} are ({bounds.lb[index]}, {bounds.ub[index]})"
        )


def require_width(spec: GlobalSpec, bounds: Bounds | None) -> None:
    """Raise ArgumentError if the width of the box, in the solver's variables, overflows."""
    if bounds is None or not spec.bounds:
        return
    with np.errstate(over="ignore", invalid="ignore"):
        wide = ~np.isfinite(bounds.ub - bounds.lb)
    if wide.any():
        index = int(np.argmax(wide))
        raise ArgumentError(
            f"{spec.name} needs a box with a width below the largest float64; the bounds divided by the scale are "
            f"({bounds.lb[index]}, {bounds.ub[index]}): choose a larger scale, or narrower bounds"
        )


def read_start(spec: GlobalSpec, x0: Any, start: NDArray[np.float64], bounds: Bounds) -> NDArray[np.float64] | None:
    """The start of the search, shape (n,): the parameters' values, the user's point, or SciPy's choice."""
    if isinstance(x0, str) and x0 == "start":
        return start
    if x0 is None:
        return None
    try:
        point = np.array(x0, dtype=np.float64).ravel()
    except (TypeError, ValueError, OverflowError):
        point = np.empty(0)
    if point.shape != start.shape:
        raise ArgumentError(
            f"x0 of {spec.name} must be 'start', None or an array of {start.size} numbers, got {shown(x0)}"
        )
    if not ((point >= bounds.lb) & (point <= bounds.ub)).all():
        raise ArgumentError(f"x0 of {spec.name} is outside the bounds")
    return point


def is_pair(value: Any) -> bool:
    """Whether the value is two numbers, and not two pairs."""
    try:
        return (
            not isinstance(value, str | Mapping)
            and len(value) == 2
            and all(np.ndim(side) == 0 and _is_number(side) for side in value)
        )
    except TypeError:
        return False


def _is_number(value: Any) -> bool:
    return not isinstance(value, slice) and (value is None or np.issubdtype(np.asarray(value).dtype, np.number))


def _read(spec: GlobalSpec, row: OptionSpec, value: Any) -> Any:
    """The value for SciPy; dicts are copied. Raises ArgumentError."""
    if row.kind == "any" or (value is None and (row.default is None or row.none)):
        return dict(value) if isinstance(value, Mapping) else value
    if value is not None and row.kind not in _CHECKS:
        return read_value(spec.name, row, value)
    check, allowed = _CHECKS.get(row.kind, (_nothing, "set, or left out"))
    try:
        fits = check(row, value)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        choices = f"one of {', '.join(row.choices)} or " if row.choices else ""
        raise ArgumentError(
            f"{row.name}={shown(value)} of {spec.name} must be {choices}{allowed}; default {row.default!r}"
        )
    return _shgo_options(spec, value) if row.kind == "dict" else value


def _nothing(row: OptionSpec, value: Any) -> bool:
    return False


def _callable(row: OptionSpec, value: Any) -> bool:
    return callable(value)


def _choice(row: OptionSpec, value: Any) -> bool:
    return value in row.choices if isinstance(value, str) else callable(value)


def _choice_or_array(row: OptionSpec, value: Any) -> bool:
    if isinstance(value, str):
        return value in row.choices
    return np.ndim(value) == 2 and bool(np.isfinite(np.asarray(value, dtype=np.float64)).all())


def _weight(row: OptionSpec, value: Any) -> bool:
    sides = value if is_pair(value) else [value]
    return all(isinstance(side, Real) and 0 <= float(side) < 2 for side in sides)


def _options(row: OptionSpec, value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) <= set(SHGO_OPTIONS)


def _shgo_options(spec: GlobalSpec, options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: read_value(spec.name, SHGO_OPTIONS[name], value) for name, value in options.items()}


def _rng(row: OptionSpec, value: Any) -> bool:
    return np.random.default_rng(value) is not None


def _seed(row: OptionSpec, value: Any) -> bool:
    if isinstance(value, np.random.Generator | np.random.RandomState):
        return True
    return isinstance(value, Integral) and 0 <= int(value) < 2**32


_CHECKS: dict[str, tuple[Callable[[OptionSpec, Any], bool], str]] = {
    "callable": (_callable, "callable"),
    "choice or callable": (_choice, "a callable"),
    "choice or array": (_choice_or_array, "an array of points"),
    "weight": (_weight, "a number in [0, 2) or a pair of them"),
    "dict": (_options, f"a dict with keys from {', '.join(SHGO_OPTIONS)}"),
    "rng": (_rng, "an integer of at least 0, or a numpy.random.Generator"),
    "seed": (_seed, "an integer in [0, 2**32), or a generator of numpy.random"),
}
