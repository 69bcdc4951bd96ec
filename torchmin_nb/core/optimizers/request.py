"""Checks of `minimizer_args` before the first closure call."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
from scipy.optimize import HessianUpdateStrategy

from ...errors import ArgumentError, ArgumentTypeError, MemoryBudgetError, UnknownOptionError
from ..methods.local import CUSTOM, METHODS, MethodSpec, find_method
from ..methods.options import read_value
from ..objective.constraints import read_constraints
from ..runtime.memory import available_bytes, readable_bytes
from ..validation import shown

__all__ = ["Differences", "Request", "as_mapping", "read_request", "require_fit", "require_memory", "without_method"]

MinimizerArgs = Mapping[str, Any] | str | Callable[..., Any] | None

_KEYS = ("method", "options", "tol", "bounds", "constraints", "callback", "jac", "hess", "hessp")
Differences = Literal["2-point", "3-point"]
_DIFFERENCES = get_args(Differences)
_SUPPLIED = "torchmin_nb sets it: `fun` is the closure, `x0` the parameters' values"


@dataclass(frozen=True)
class Request:
    """The checked arguments for `scipy.optimize.minimize`."""

    spec: MethodSpec
    method: str | Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    tol: float | None = None
    bounds: Any = None
    constraints: tuple[Any, ...] = ()
    callback: Callable[..., Any] | None = None
    jac: Any = None
    hess: Any = None
    hessp: Callable[..., Any] | None = None

    @property
    def autograd_gradient(self) -> bool:
        """Whether the gradient comes from autograd: not if the user passes one or requests differences."""
        return self.jac is None or self.jac is True

    @property
    def level(self) -> str:
        """The level of a closure call: "value", "gradient" or "curvature"."""
        if not self.autograd_gradient and self.spec.level != "curvature":
            return "value"
        if self.hess is not None or self.hessp is not None:
            return "gradient" if self.autograd_gradient else "value"
        return self.spec.level

    def scipy_options(self, eps: float) -> dict[str, Any]:
        """The options for SciPy, with defaults that fit the parameters' precision `eps`."""
        rows = self.spec.options
        options = {name: value for name, value in self.options.items() if name not in rows or not rows[name].ours}
        if "maxiter" in self.options:
            options = {**self.spec.forced, **options}
        if eps <= np.finfo(np.float64).eps:
            return options
        return {**self._float32_defaults(), **options}

    def _float32_defaults(self) -> dict[str, Any]:
        return {
            row.name: row.float32
            for row in self.spec.options.values()
            if row.float32 is not None and not (row.tolerance and self.tol is not None)
        }

    @property
    def max_iterations(self) -> int | None:
        """The limit of iterations that torchmin_nb enforces for a solver without such an option."""
        row = self.spec.options.get("maxiter")
        return self.options.get("maxiter") if row is not None and row.ours else None

    @property
    def initial_radius(self) -> float | None:
        """The trust radius at the start, for a method with a trust region."""
        name = self.spec.radius_option
        return None if name is None else float(self.options.get(name, self.spec.options[name].default))

    @property
    def disp(self) -> bool:
        """Whether to print a summary at the end."""
        return bool(self.options.get("disp", False)) and "disp" in self.spec.options


def without_method(minimizer_args: MinimizerArgs) -> dict[str, Any] | None:
    """A copy of `minimizer_args` if the bounds of param groups choose the method; None if these args do.

    Raises ArgumentTypeError.
    """
    args = as_mapping(minimizer_args)
    if args.get("method") is not None or args.get("bounds") is not None or _has_constraints(args):
        return None
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in args.items()}


def read_request(minimizer_args: MinimizerArgs, *, bounded: bool = False) -> Request:
    """Check `minimizer_args`, or a method name. The caller's dict is not changed.

    bounded: the param groups have bounds, so the default method must accept bounds. Raises
    UnknownMethodError, UnknownOptionError, ArgumentError or ArgumentTypeError.
    """
    args = as_mapping(minimizer_args)
    for key in args:
        if key not in _KEYS:
            reason = _SUPPLIED if key in ("fun", "x0", "args") else f"allowed are {', '.join(_KEYS)}"
            raise ArgumentError(f"minimizer_args has the key {key!r}; {reason}")
    method = _default_method(args, bounded=bounded) if args.get("method") is None else args["method"]
    spec = CUSTOM if callable(method) else find_method(_require_name(method))
    request = Request(
        spec=spec,
        method=method if callable(method) else spec.solver or spec.name,
        options=_read_options(spec, args.get("options")),
        tol=_read_tol(args.get("tol")),
        bounds=list(args["bounds"]) if isinstance(args.get("bounds"), Iterator) else args.get("bounds"),
        constraints=() if args.get("constraints") is None else tuple(read_constraints(args["constraints"])),
        callback=_read_callable(args.get("callback"), "callback"),
        jac=_read_jac(spec, args.get("jac")),
        hess=_read_hess(spec, args.get("hess")),
        hessp=_read_callable(args.get("hessp"), "hessp"),
    )
    _require_fit(request)
    return request


def require_memory(spec: MethodSpec, n: int, budget: int | None = None, *, on_device: bool = False) -> None:
    """Raise MemoryBudgetError if the N×N arrays do not fit, with their size and with methods that fit."""
    needed = 8 * (spec.device_arrays * n * n if on_device else spec.arrays(n))
    if not needed:
        return
    limit = available_bytes() if budget is None else budget
    if needed > limit:
        fitting = [other.name for other in METHODS.values() if other.gradient != "none" and not other.dense]
        raise MemoryBudgetError(
            f"{spec.name} needs about {readable_bytes(needed)} of N×N arrays for N = {n:,} parameters, and "
            f"{readable_bytes(limit)} are available; methods that need no such array: {', '.join(fitting)}"
        )


def as_mapping(minimizer_args: object) -> Mapping[str, Any]:
    """`minimizer_args` as a dict, also if it is only a method. Raises ArgumentTypeError."""
    if minimizer_args is None:
        return {}
    if isinstance(minimizer_args, Mapping):
        return minimizer_args
    if isinstance(minimizer_args, str) or callable(minimizer_args):
        return {"method": minimizer_args}
    raise ArgumentTypeError(
        f"minimizer_args must be a dict such as dict(method='L-BFGS-B', options=dict(maxiter=100)) or a method name, "
        f"got {type(minimizer_args).__name__}"
    )


def _has_constraints(args: Mapping[str, Any]) -> bool:
    constraints = args.get("constraints")
    return constraints is not None and np.size(constraints) > 0


def _default_method(args: Mapping[str, Any], *, bounded: bool) -> str:
    """The default method: SciPy's choice."""
    if _has_constraints(args):
        return "SLSQP"
    return "L-BFGS-B" if bounded or args.get("bounds") is not None else "BFGS"


def _require_name(method: object) -> str:
    if not isinstance(method, str):
        raise ArgumentTypeError(f"method must be a name or a callable, got {method!r}; names: {', '.join(METHODS)}")
    return method


def _read_options(spec: MethodSpec, options: object) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ArgumentTypeError(f"options must be a dict, got {type(options).__name__}")
    for name in options:
        if name not in spec.options and not spec.any_options:
            raise UnknownOptionError(f"{spec.name} has no option {name!r}; it has {', '.join(sorted(spec.options))}")
    rows = spec.options
    left_out = {
        name for name, value in options.items() if value is None and name in rows and rows[name].default is not None
    }
    return {
        name: read_value(spec.name, rows[name], value) if name in rows else value
        for name, value in options.items()
        if name not in left_out
    }


def _read_tol(tol: object) -> float | None:
    if tol is None:
        return None
    try:
        number = float(tol) if isinstance(tol, Real) else math.nan
    except OverflowError:
        number = math.nan
    if not number >= 0:
        raise ArgumentError(f"tol must be a number of at least 0, got {shown(tol)}")
    return number


def _read_callable(value: Any, name: str) -> Callable[..., Any] | None:
    if value is not None and not callable(value):
        raise ArgumentTypeError(f"{name} must be callable, got {type(value).__name__}")
    return value  # type: ignore[no-any-return]


def _read_jac(spec: MethodSpec, jac: Any) -> Any:
    if jac is None or jac is True or callable(jac):
        return jac
    if jac is False or (isinstance(jac, str) and jac in _DIFFERENCES):
        if spec.level != "value" and not spec.custom and "finite_diff_rel_step" not in spec.options:
            able = [other.name for other in METHODS.values() if "finite_diff_rel_step" in other.options]
            raise ArgumentError(
                f"jac={jac!r}: {spec.name} needs a gradient and does not accept finite differences; leave jac out to "
                f"use autograd, or choose one of {', '.join(able)}"
            )
        return jac
    named = isinstance(jac, str) and jac == "cs"
    remedy = "'cs' needs complex parameters; leave it out" if named else "leave it out to use autograd"
    raise ArgumentError(f"jac={jac!r} is not allowed: a callable, '2-point', '3-point', True, False or None; {remedy}")


def _read_hess(spec: MethodSpec, hess: Any) -> Any:
    by_scipy = isinstance(hess, HessianUpdateStrategy) or (isinstance(hess, str) and hess in _DIFFERENCES)
    if hess is None or (callable(hess) and not inspect.isclass(hess)) or (by_scipy and spec.curvature != "dense"):
        return hess
    others = "" if spec.curvature == "dense" else ", '2-point', '3-point', a strategy such as scipy.optimize.BFGS()"
    raise ArgumentError(
        f"hess={hess!r} is not allowed for {spec.name}: a callable{others} or None; leave it out to use autograd"
    )


def require_fit(spec: MethodSpec, name: str) -> None:
    """Raise ArgumentError if the method does not accept `name`, "bounds" or "constraints"."""
    if not getattr(spec, name):
        able = [other.name for other in METHODS.values() if getattr(other, name)]
        raise ArgumentError(f"{spec.name} cannot take {name}; methods that can: {', '.join(able)}")


def _require_fit(request: Request) -> None:
    if request.bounds is not None:
        require_fit(request.spec, "bounds")
    if request.constraints:
        require_fit(request.spec, "constraints")
    if request.spec.curvature == "dense" and request.hessp is not None and request.hess is None:
        raise ArgumentError(f"{request.spec.name} accepts hess, not hessp; pass hess, or neither to use autograd")
