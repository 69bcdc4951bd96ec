"""The keywords of a global method, checked before any work, and handed on in the form of the installed SciPy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds

from ...errors import ArgumentError, ArgumentTypeError, UnknownOptionError
from ..bounds import read_bounds
from ..methods import OptionSpec
from ..request import require_value
from .table import GlobalSpec

__all__ = ["is_pair", "read_kwargs", "read_search_bounds", "read_start", "require_finite", "with_random"]

_SUPPLIED = ("func", "args", "minimizer_kwargs", "workers", "full_output")
_SHGO_OPTIONS = (
    "maxfev",
    "f_min",
    "f_tol",
    "maxiter",
    "maxev",
    "maxtime",
    "minhgrd",
    "symmetry",
    "minimize_every_iter",
    "local_iter",
    "infty_constraints",
)


def read_kwargs(spec: GlobalSpec, kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """A checked copy of the keywords. Raises UnknownOptionError, ArgumentError or ArgumentTypeError."""
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping):
        raise ArgumentTypeError(f"the keywords of {spec.name} must be a dict, got {type(kwargs).__name__}")
    for name, value in kwargs.items():
        if name not in spec.kwargs:
            known = ", ".join(sorted(spec.kwargs))
            reason = "torchmin_nb supplies it; " if name in _SUPPLIED else ""
            raise UnknownOptionError(f"{spec.name} has no keyword {name!r}; {reason}it has {known}")
        _require_value(spec, spec.kwargs[name], value)
    if kwargs.get("rng") is not None and kwargs.get("seed") is not None:
        raise ArgumentError(f"{spec.name} takes rng or seed, not both; seed feeds SciPy's legacy generators")
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in kwargs.items()}


def with_random(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords with `rng` as this SciPy knows it: before 1.15 it was called `seed`, and took generators too."""
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
    """What `read_bounds` takes, or one (low, high) pair for all n variables."""
    if is_pair(bounds):
        return read_bounds([tuple(bounds)] * n, n)
    return read_bounds(bounds, n)


def require_finite(spec: GlobalSpec, bounds: Bounds | None) -> None:
    """ArgumentError where a method that searches a box has none, or one that is open."""
    if bounds is None:
        raise ArgumentError(
            f"{spec.name} searches a box: give bounds, one (low, high) pair for all variables or one for each, or "
            f"bounds=(low, high) in every param group"
        )
    openly = ~(np.isfinite(bounds.lb) & np.isfinite(bounds.ub))
    if openly.any():
        index = int(np.argmax(openly))
        raise ArgumentError(
            f"{spec.name} needs finite bounds; those of variable {index} are ({bounds.lb[index]}, {bounds.ub[index]})"
        )


def read_start(spec: GlobalSpec, x0: Any, start: NDArray[np.float64], bounds: Bounds) -> NDArray[np.float64] | None:
    """Where the search starts, shape (n,): the parameters' values, the user's point inside the bounds, or SciPy's."""
    if isinstance(x0, str) and x0 == "start":
        return start
    if x0 is None:
        return None
    try:
        given = np.array(x0, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.shape != start.shape:
        raise ArgumentError(f"x0 of {spec.name} must be 'start', None or an array of {start.size} numbers, got {x0!r}")
    if not ((given >= bounds.lb) & (given <= bounds.ub)).all():
        raise ArgumentError(f"x0 of {spec.name} lies outside the bounds")
    return given


def is_pair(value: Any) -> bool:
    """Whether it is two numbers, and not two pairs."""
    try:
        return len(value) == 2 and all(np.ndim(side) == 0 and _is_number(side) for side in value)
    except TypeError:
        return False


def _is_number(value: Any) -> bool:
    return not isinstance(value, slice) and (value is None or np.issubdtype(np.asarray(value).dtype, np.number))


def _require_value(spec: GlobalSpec, row: OptionSpec, value: Any) -> None:
    if row.kind == "any" or (value is None and row.default is None):
        return
    if value is not None and row.kind not in _CHECKS:
        require_value(spec.name, row, value)
        return
    fits, allowed = _CHECKS[row.kind](row, value) if row.kind in _CHECKS else (False, "given, or left out")
    if not fits:
        raise ArgumentError(f"{row.name}={value!r} of {spec.name} must be {allowed}; default {row.default!r}")


def _callable(row: OptionSpec, value: Any) -> tuple[bool, str]:
    return callable(value), "callable"


def _choice(row: OptionSpec, value: Any) -> tuple[bool, str]:
    fits = value in row.choices if isinstance(value, str) else callable(value)
    return fits, f"one of {', '.join(row.choices)} or a callable"


def _choice_or_array(row: OptionSpec, value: Any) -> tuple[bool, str]:
    fits = value in row.choices if isinstance(value, str) else np.ndim(value) == 2
    return fits, f"one of {', '.join(row.choices)} or an array of points"


def _weight(row: OptionSpec, value: Any) -> tuple[bool, str]:
    sides = value if is_pair(value) else [value]
    fits = all(isinstance(side, Real) and 0 <= float(side) < 2 for side in sides)
    return fits, "a number in [0, 2) or a pair of them"


def _options(row: OptionSpec, value: Any) -> tuple[bool, str]:
    fits = isinstance(value, Mapping) and set(value) <= set(_SHGO_OPTIONS)
    return fits, f"a dict with keys out of {', '.join(_SHGO_OPTIONS)}"


_CHECKS: dict[str, Callable[[OptionSpec, Any], tuple[bool, str]]] = {
    "callable": _callable,
    "choice or callable": _choice,
    "choice or array": _choice_or_array,
    "weight": _weight,
    "dict": _options,
}
