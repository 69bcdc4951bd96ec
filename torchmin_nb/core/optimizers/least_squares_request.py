"""Checks of `least_squares_args` before the first closure call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import Bounds

from ...errors import ArgumentError, ArgumentTypeError, UnknownMethodError, UnknownOptionError
from ..methods.least_squares import LEAST_SQUARES_METHODS, LeastSquaresSpec
from ..methods.options import OptionSpec, read_value
from ..parameters.bounds import read_bounds

__all__ = ["LeastSquaresRequest", "read_least_squares", "read_least_squares_bounds"]

_ARGUMENTS = ("method", "bounds", "callback")
_SUPPLIED = {
    **dict.fromkeys(("fun", "args", "kwargs"), "the function is the closure"),
    "x0": "the parameters' values are the start",
    **dict.fromkeys(
        ("jac", "diff_step", "jac_sparsity", "workers"), "the Jacobian comes from autograd; see `jacobian=`"
    ),
}


@dataclass(frozen=True)
class LeastSquaresRequest:
    """The checked arguments for `scipy.optimize.least_squares`."""

    spec: LeastSquaresSpec
    options: Mapping[str, Any] = field(default_factory=dict)
    bounds: Any = None
    callback: Callable[..., Any] | None = None

    def scipy_options(self) -> dict[str, Any]:
        """The options for SciPy: copies, except of functions."""
        options = deepcopy({name: value for name, value in self.options.items() if not callable(value)})
        return options | {name: value for name, value in self.options.items() if callable(value)}


def read_least_squares(arguments: Mapping[str, Any] | str) -> LeastSquaresRequest:
    """Check the arguments, or a method name. The caller's dict is not changed.

    Raises UnknownMethodError, UnknownOptionError, ArgumentError or ArgumentTypeError.
    """
    args = {"method": arguments} if isinstance(arguments, str) else arguments
    if not isinstance(args, Mapping):
        raise ArgumentTypeError(
            f"least_squares_args must be a dict such as dict(method='trf', ftol=1e-10) or a method name, "
            f"got {type(arguments).__name__}"
        )
    spec = _find(args.get("method", "trf"))
    callback = args.get("callback")
    if callback is not None and not callable(callback):
        raise ArgumentTypeError(f"callback must be callable, got {type(callback).__name__}")
    named = {name: value for name, value in args.items() if name not in _ARGUMENTS}
    for name in named:
        _require_known(spec, name)
    options = {name: _read_option(spec, spec.options[name], value) for name, value in named.items()}
    return LeastSquaresRequest(spec, options, args.get("bounds"), callback)


def read_least_squares_bounds(spec: LeastSquaresSpec, bounds: Any, n: int) -> Bounds | None:
    """SciPy's `(lb, ub)` or `Bounds`, for n parameters; None if all are open. Raises ArgumentError."""
    if bounds is None:
        return None
    checked = read_bounds(bounds if isinstance(bounds, Bounds) else _as_bounds(bounds), n)
    if checked is not None and (checked.lb == checked.ub).all():
        raise ArgumentError(
            f"bounds={bounds!r} fix all variables; least_squares expects all lower and all upper limits, (lb, ub), "
            f"not a pair for each variable"
        )
    if checked is None or not (np.isfinite(checked.lb).any() or np.isfinite(checked.ub).any()):
        return None
    return checked


def _as_bounds(bounds: Any) -> Bounds:
    try:
        low, high = (np.asarray(side, dtype=np.float64) for side in bounds)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"bounds must be a pair (lb, ub) of numbers or arrays, or a scipy.optimize.Bounds, got {bounds!r}"
        ) from None
    return Bounds(low, high)


def _find(name: Any) -> LeastSquaresSpec:
    if not isinstance(name, str):
        known = ", ".join(LEAST_SQUARES_METHODS)
        raise ArgumentTypeError(f"method must be a name, got {name!r}; names: {known}")
    if name.lower() not in LEAST_SQUARES_METHODS:
        raise UnknownMethodError(f"method {name!r} is not known; choose one of {', '.join(LEAST_SQUARES_METHODS)}")
    return LEAST_SQUARES_METHODS[name.lower()]


def _require_known(spec: LeastSquaresSpec, name: str) -> None:
    if name in spec.options:
        return
    if name in _SUPPLIED:
        raise ArgumentError(f"least_squares_args has the key {name!r}, leave it out: {_SUPPLIED[name]}")
    others = [other.name for other in LEAST_SQUARES_METHODS.values() if name in other.options]
    where = f" ({' and '.join(others)} do)" if others else ""
    known = ", ".join(sorted([*spec.options, *_ARGUMENTS]))
    raise UnknownOptionError(f"{spec.name} has no option {name!r}{where}; it has {known}")


def _read_option(spec: LeastSquaresSpec, row: OptionSpec, value: Any) -> Any:
    if row.kind != "loss":
        return read_value(spec.name, row, value)
    if not (callable(value) and spec.robust) and not (isinstance(value, str) and value in row.choices):
        robust = (
            ""
            if spec.robust
            else f"; robust losses need {' or '.join(o.name for o in LEAST_SQUARES_METHODS.values() if o.robust)}"
        )
        raise ArgumentError(
            f"option loss={value!r} of {spec.name} must be one of {row.choices}"
            f"{' or a callable' if spec.robust else ''}{robust}"
        )
    return value
