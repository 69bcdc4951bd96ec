"""LEAST_SQUARES_METHODS: one row a method of `scipy.optimize.least_squares`, and its arguments read and refused early.

Options, defaults and their meaning:
https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.least_squares.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from scipy.optimize import Bounds

from ..errors import ArgumentError, ArgumentTypeError, MemoryBudgetError, UnknownMethodError, UnknownOptionError
from .bounds import read_bounds
from .memory import available_bytes, readable_bytes
from .methods import OptionSpec
from .option_values import read_value

__all__ = [
    "LARGE_JACOBIAN",
    "LEAST_SQUARES_METHODS",
    "LeastSquaresMethod",
    "LeastSquaresRequest",
    "LeastSquaresSpec",
    "read_least_squares",
    "read_least_squares_bounds",
]

LeastSquaresMethod = Literal["trf", "dogbox", "lm"]
"""The names of LEAST_SQUARES_METHODS, for editors and type checkers."""
_LOSSES = ("linear", "soft_l1", "huber", "cauchy", "arctan")
LARGE_JACOBIAN = 2**25
"""Entries of a Jacobian from which products are worth more than a factorisation."""


@dataclass(frozen=True, slots=True)
class LeastSquaresSpec:
    """One method: what it takes and what it needs.

    bounds, robust: whether it takes bounds, and losses besides the plain sum of squares. operator: whether it can do
    with products of the Jacobian. overdetermined: needs m >= n. arrays: doubles that SciPy and the Jacobian take for m
    residuals and n parameters. radius: how its trust radius is observed, a key of trust_region.PROBES. cost: what an
    iteration costs, in words.
    """

    name: str
    summary: str
    reference: str
    options: Mapping[str, OptionSpec]
    arrays: Callable[[int, int], float]
    bounds: bool = True
    robust: bool = True
    operator: bool = True
    overdetermined: bool = False
    radius: str = "loop"
    cost: str = "1 closure call, and a Jacobian of M×N where the point is accepted"

    def __reduce__(self) -> tuple[Callable[[str], LeastSquaresSpec], tuple[str]]:
        """A row is copied and pickled by name."""
        return _row, (self.name,)

    def plan(self, m: int, n: int, jacobian: str, tr_solver: str | None, budget: int | None) -> str:
        """ "dense" or "operator" for a Jacobian of shape (m, n). Raises ArgumentError or MemoryBudgetError."""
        if self.overdetermined and m < n:
            raise ArgumentError(
                f"{self.name} needs at least as many residuals as parameters, got {m} residuals for {n} parameters; "
                f"use trf or dogbox"
            )
        if jacobian == "operator":
            return jacobian
        needed, limit = 8 * self.arrays(m, n), available_bytes() if budget is None else budget
        free = jacobian == "auto" and self.operator and tr_solver != "exact"
        if free and (needed > limit or m * n >= LARGE_JACOBIAN):
            return "operator"
        if needed > limit:
            raise MemoryBudgetError(
                f"{self.name} needs about {readable_bytes(needed)} for a dense Jacobian of {m:,} residuals by {n:,} "
                f"parameters, and {readable_bytes(limit)} are available; trf with jacobian='operator' needs no array"
            )
        return "dense"


def _tolerance(name: str, help: str) -> OptionSpec:
    return OptionSpec(name, 1e-8, "float", help, low=0, tolerance=True)


_COMMON = (
    _tolerance("ftol", "Stop when the cost decreases by less than this, relatively."),
    _tolerance("xtol", "Stop when the step is smaller than this, relative to x."),
    _tolerance("gtol", "Stop when the (scaled) gradient is below this everywhere."),
    OptionSpec("max_nfev", None, "int", "Largest number of closure calls; default 100·n.", low=1, unlimited=2**31 - 1),
    OptionSpec(
        "x_scale", None, "any", "Characteristic scale of each variable, or 'jac': from the columns of the Jacobian."
    ),
    OptionSpec("verbose", 0, "choice", "What SciPy prints: nothing, a summary, every iteration.", choices=(0, 1, 2)),
)
_ROBUST = (
    OptionSpec("loss", "linear", "loss", "ρ of the cost ½ Σ ρ(f²): robust ones weigh outliers down.", choices=_LOSSES),
    OptionSpec(
        "f_scale", 1.0, "float", "Residual from which the robust losses count as outlier.", low=1e-150, high=1e150
    ),
    OptionSpec(
        "tr_solver",
        None,
        "choice",
        "Trust-region subproblems: SVD of a dense Jacobian, or LSMR with products.",
        choices=(None, "exact", "lsmr"),
    ),
    OptionSpec("tr_options", None, "mapping", "Options of the subproblem solver: a dict."),
)
_PLAIN = (
    OptionSpec("loss", "linear", "loss", "The plain sum of squares.", choices=("linear",)),
    *(replace(row, help=f"Without effect in lm. {row.help}") for row in _ROBUST if row.name != "loss"),
)


def _rows(*options: OptionSpec) -> Mapping[str, OptionSpec]:
    return MappingProxyType({option.name: option for option in options})


_REFERENCE = "https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.least_squares.html"
_ALL = (
    LeastSquaresSpec(
        "trf",
        "Trust region reflective: robust, takes bounds, small and large problems (Branch, Coleman, Li 1999).",
        _REFERENCE,
        _rows(*_COMMON, *_ROBUST),
        arrays=lambda m, n: 5.0 * (m + n) * n,
    ),
    LeastSquaresSpec(
        "dogbox",
        "Dogleg in a box: often quickest on small problems with bounds (Voglis and Lagaris 2004).",
        _REFERENCE,
        _rows(*_COMMON, *_ROBUST),
        arrays=lambda m, n: 4.0 * m * n + n * n,
    ),
    LeastSquaresSpec(
        "lm",
        "Levenberg-Marquardt of MINPACK: quick on small problems without bounds (Moré 1978).",
        _REFERENCE,
        _rows(*_COMMON, *_PLAIN),
        arrays=lambda m, n: 4.0 * m * n + n * n,
        bounds=False,
        robust=False,
        operator=False,
        overdetermined=True,
        radius="none",
    ),
)

LEAST_SQUARES_METHODS: Mapping[str, LeastSquaresSpec] = MappingProxyType({spec.name: spec for spec in _ALL})


def _row(name: str) -> LeastSquaresSpec:
    return LEAST_SQUARES_METHODS[name]


"""The methods of `scipy.optimize.least_squares`, keyed by SciPy's spelling."""

_ARGUMENTS = ("method", "bounds", "callback")
_SUPPLIED = {
    **dict.fromkeys(("fun", "args", "kwargs"), "the closure is the function"),
    "x0": "the parameters' values are the start",
    **dict.fromkeys(
        ("jac", "diff_step", "jac_sparsity", "workers"), "the Jacobian comes from autograd; see `jacobian=`"
    ),
}


@dataclass(frozen=True)
class LeastSquaresRequest:
    """What the user asked `scipy.optimize.least_squares` for, checked."""

    spec: LeastSquaresSpec
    options: Mapping[str, Any] = field(default_factory=dict)
    bounds: Any = None
    callback: Callable[..., Any] | None = None

    def scipy_options(self) -> dict[str, Any]:
        """The options as SciPy takes them: a copy, but for functions."""
        given = deepcopy({name: value for name, value in self.options.items() if not callable(value)})
        return given | {name: value for name, value in self.options.items() if callable(value)}


def read_least_squares(arguments: Mapping[str, Any] | str) -> LeastSquaresRequest:
    """Check the arguments, or a bare method name. The caller's dict is not touched.

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
    given = {name: value for name, value in args.items() if name not in _ARGUMENTS}
    for name in given:
        _require_known(spec, name)
    options = {name: _read_option(spec, spec.options[name], value) for name, value in given.items()}
    return LeastSquaresRequest(spec, options, args.get("bounds"), callback)


def read_least_squares_bounds(spec: LeastSquaresSpec, bounds: Any, n: int) -> Bounds | None:
    """SciPy's `(lb, ub)` or `Bounds`, over n parameters; None where all are open. Raises ArgumentError."""
    if bounds is None:
        return None
    found = read_bounds(bounds if isinstance(bounds, Bounds) else _as_bounds(bounds), n)
    if found is not None and (found.lb == found.ub).all():
        raise ArgumentError(
            f"bounds={bounds!r} leave nothing to move: least_squares takes all lower and all upper limits, (lb, ub), "
            f"not a pair for each variable"
        )
    if found is None or not (np.isfinite(found.lb).any() or np.isfinite(found.ub).any()):
        return None
    return found


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
        raise ArgumentError(f"least_squares_args has the key {name!r}, which torchmin_nb supplies: {_SUPPLIED[name]}")
    others = [other.name for other in _ALL if name in other.options]
    where = f" ({' and '.join(others)} do)" if others else ""
    known = ", ".join(sorted([*spec.options, *_ARGUMENTS]))
    raise UnknownOptionError(f"{spec.name} has no option {name!r}{where}; it has {known}")


def _read_option(spec: LeastSquaresSpec, row: OptionSpec, value: Any) -> Any:
    if row.kind != "loss":
        return read_value(spec.name, row, value)
    if not (callable(value) and spec.robust) and not (isinstance(value, str) and value in row.choices):
        robust = "" if spec.robust else f"; robust losses need {' or '.join(o.name for o in _ALL if o.robust)}"
        raise ArgumentError(
            f"option loss={value!r} of {spec.name} must be one of {row.choices}"
            f"{' or a callable' if spec.robust else ''}{robust}"
        )
    return value
