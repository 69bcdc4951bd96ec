"""Runs on the device: the choice of the engine, the solver, and the state from which a run continues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import torch

from ...errors import ArgumentError, ArgumentTypeError, HistoryError
from ..methods.local import find_method
from ..methods.row import MethodRow
from ..solvers.contract import Solver, State
from ..solvers.table import SOLVERS, SolverSpec
from ..validation import one_of
from .request import Request

__all__ = [
    "EngineName",
    "Saved",
    "choose_engine",
    "make_solver",
    "read_engine",
    "read_solver_dtype",
    "scipy_only_argument",
    "scipy_only_option",
    "with_warm_start",
]

EngineName = Literal["scipy", "torch", "auto"]


class Saved(NamedTuple):
    """The state at the end of a run on the device. counts: whether its iterations count for `maxiter`."""

    method: str
    loss_scale: float
    state: State
    counts: bool = False

    def packed(self) -> dict[str, Any]:
        """As plain types and tensors."""
        return {"method": self.method, "loss_scale": self.loss_scale, "state": self.state.copy().packed()}

    @classmethod
    def unpacked(cls, values: Any) -> Saved:
        """The inverse of `packed`. Raises HistoryError for other values."""
        try:
            spec = SOLVERS.get(values["method"]) or solver_spec(find_method(values["method"]))
            return cls(values["method"], float(values["loss_scale"]), spec.state.unpacked(values["state"], copy=True))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise HistoryError(
                f"the state_dict contains no state of a solver on the device: {type(error).__name__}: {error}; pass "
                "the return value of state_dict()"
            ) from error


def read_engine(engine: object) -> EngineName | None:
    """`engine=`, checked. Raises ArgumentError."""
    if engine is not None:
        one_of("engine", engine, get_args(EngineName))
    return engine  # type: ignore[return-value]


def read_solver_dtype(dtype: object) -> torch.dtype | None:
    """`solver_dtype=`, checked. Raises ArgumentTypeError."""
    if dtype not in (None, torch.float32, torch.float64):
        raise ArgumentTypeError(f"solver_dtype must be torch.float32, torch.float64 or None, got {dtype!r}")
    return dtype


def choose_engine(spec: MethodRow, asked: EngineName | None, against: str, rows: Iterable[MethodRow]) -> str:
    """The engine that runs this method, "scipy" or "torch". Raises ArgumentError if the requested one cannot.

    against: an argument that only SciPy supports, in words, or "". rows: the table.
    """
    if asked == "auto":
        return "torch" if "torch" in spec.engines and not against else _first(spec)
    engine = _first(spec) if asked is None else asked
    if engine not in spec.engines:
        able = [other.name for other in rows if engine in other.engines]
        raise ArgumentError(
            f"engine={engine!r} cannot run {spec.name}; it can run {', '.join(able)}; {spec.name} needs "
            f"engine={spec.engines[0]!r}"
        )
    if engine == "torch" and against:
        remedy = "leave it out" if spec.engines == ("torch",) else "leave it out, or use engine='scipy'"
        raise ArgumentError(f"{against} of {spec.name} needs engine='scipy', and engine='torch' was chosen: {remedy}")
    return engine


def with_warm_start(request: Request, saved: Saved) -> Request:
    """The request of another method that begins at this state: with its inverse Hessian or trust radius."""
    options, spec, state = dict(request.options), request.spec, saved.state
    hess_inv = _result_fields(saved).get("hess_inv") if "hess_inv0" in spec.options else None
    if isinstance(hess_inv, torch.Tensor):
        matrix = hess_inv.to("cpu", torch.float64).numpy()
        options.setdefault("hess_inv0", (matrix + matrix.T) / 2)
    if spec.radius_option is not None and state.radius is not None:
        options.setdefault(spec.radius_option, state.radius)
    return replace(request, options=options)


def _result_fields(saved: Saved) -> dict[str, Any]:
    return SOLVERS[saved.method].solver().result(saved.state) if saved.method in SOLVERS else {}


def make_solver(
    spec: MethodRow, options: Mapping[str, Any], *, tol: float | None = None, taken: Saved | None = None
) -> Solver[Any]:
    """The solver, with the user's options. tol: replaces every tolerance. taken: the state from which it continues."""
    rows = spec.options
    options = {name: value for name, value in options.items() if name not in rows or not rows[name].ours}
    if tol is not None:
        tolerances = [row.name for row in rows.values() if row.tolerance and not row.scipy_only]
        options = {**dict.fromkeys(tolerances, tol), **options}
    for limit in ("maxiter", "max_iter"):
        if taken is not None and not taken.counts and options.get(limit) is not None:
            options[limit] += taken.state.iteration
    solver: Solver[Any] = solver_spec(spec).solver(**options)
    return solver


def solver_spec(spec: MethodRow) -> SolverSpec:
    """The classes of a method's solver and state; a user's class names its state class in `state`."""
    own = getattr(spec, "solver", None)
    return SOLVERS[spec.name] if own is None else SolverSpec(own, getattr(own, "state", State))


def _first(spec: MethodRow) -> str:
    return "scipy" if "scipy" in spec.engines else spec.engines[0]


def scipy_only_argument(request: Request) -> str:
    """The argument of the request that a solver on the device does not support, in words; empty if none."""
    asked: Mapping[str, Any] = {
        "constraints": request.constraints,
        "jac": None if request.autograd_gradient else request.jac,
        "hess": request.hess,
        "hessp": request.hessp,
    }
    named = [name for name, value in asked.items() if value is not None and value != ()]
    return named[0] if named else scipy_only_option(request.spec, request.options)


def scipy_only_option(spec: MethodRow, options: Mapping[str, Any]) -> str:
    """The first option that a solver on the device does not support, in words; empty if none."""
    named = [name for name in options if name in spec.options and spec.options[name].scipy_only]
    return f"option {named[0]}" if named else ""
