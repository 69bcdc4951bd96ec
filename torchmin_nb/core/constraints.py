"""Constraints: torch functions of the parameters, and SciPy's own objects, as each method takes them.

A torch constraint gets its Jacobian from autograd and, for methods that use it, the Hessian of vᵀc as products. Values
are remembered for the last point, and serve the method, the feasibility of the best point and the events.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import LinearConstraint, NonlinearConstraint
from scipy.sparse.linalg import LinearOperator

from ..errors import ArgumentError, ArgumentTypeError
from .control import Abort

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .objective import Objective
    from .variables import Variables

__all__ = ["FEASIBLE", "Constraint", "ConstraintSet", "read_constraints"]

FEASIBLE = 1e-6
"""A point that violates its constraints by no more than this counts as feasible when the best point is kept."""


class Constraint:
    """lower <= fun(...) <= upper, for a torch function of the parameters.

    fun: a function of no arguments that reads the model, or of the trainable tensors in order (of x itself with
        `minimize`); returns a scalar or vector tensor, computed so that autograd can follow.
    lower, upper: numbers or arrays of the function's length; infinite for none. Where they are equal, an equality.

    >>> Constraint(lambda x: x.sum(), lower=1, upper=1)
    Constraint(lower=1, upper=1)
    """

    def __init__(self, fun: Callable[..., torch.Tensor], lower: Any = -np.inf, upper: Any = np.inf):
        if not callable(fun):
            raise ArgumentTypeError(f"a constraint's fun must be callable, got {type(fun).__name__}")
        self.fun = fun
        self.lower = lower
        self.upper = upper

    def __repr__(self) -> str:
        return f"Constraint(lower={self.lower!r}, upper={self.upper!r})"


def read_constraints(constraints: Any) -> list[Any]:
    """One constraint or several, as a list: ours, SciPy's objects and dicts. A dict without a `type` is read as ours.

    Raises ArgumentError or ArgumentTypeError for anything else.
    """
    given = [constraints] if isinstance(constraints, Mapping) or not isinstance(constraints, Sequence) else constraints
    return [_read(constraint) for constraint in given]


def _read(constraint: Any) -> Any:
    if isinstance(constraint, Constraint | NonlinearConstraint | LinearConstraint):
        return constraint
    if not isinstance(constraint, Mapping):
        raise ArgumentTypeError(
            f"a constraint must be a torchmin_nb.Constraint, a dict or an object of SciPy's, "
            f"got {type(constraint).__name__}"
        )
    if "type" in constraint:
        if str(constraint["type"]).lower() not in ("eq", "ineq") or not callable(constraint.get("fun")):
            raise ArgumentError(
                f"a constraint dict needs type 'eq' or 'ineq' and a callable fun, got {dict(constraint)!r}"
            )
        return constraint
    if "fun" not in constraint or not set(constraint) <= {"fun", "lower", "upper"}:
        raise ArgumentError(
            f"a constraint dict takes fun, lower and upper (or SciPy's type and fun), got {sorted(constraint)}"
        )
    return Constraint(**constraint)


class ConstraintSet:
    """All constraints of one run: in the form a method takes, and the violation at a point.

    form: "dict" (SLSQP, COBYLA) or "object" (trust-constr, COBYQA). curvature: give the Hessian of vᵀc too.
    Torch constraints are called once here, so that wrong shapes are known before the run.
    """

    def __init__(self, constraints: Sequence[Any], objective: Objective, variables: Variables):
        self._sides = [_side_of(constraint, objective) for constraint in constraints]
        self._given = list(constraints)
        self._variables = variables

    def __bool__(self) -> bool:
        return bool(self._sides)

    def violation(self, x: NDArray[np.float64]) -> float:
        """The largest violation at x, 0 if feasible."""
        return max((side.violation(x) for side in self._sides), default=0.0)

    def for_scipy(self, form: str, *, curvature: bool) -> list[Any]:
        """What `scipy.optimize.minimize(constraints=)` takes, as functions of the solver's variables."""
        if form == "dict":
            return [part for side in self._sides for part in side.dicts(self._variables)]
        return [part for side in self._sides for part in side.objects(self._variables, curvature=curvature)]

    def multipliers(self, result: Mapping[str, Any], form: str) -> list[NDArray[np.float64]] | None:
        """One array a constraint, signed so that ∇f + Σ Jᵀv = 0, or None where SciPy gives none."""
        raw = result.get("multipliers") if form == "dict" else result.get("v")
        if raw is None or not all(isinstance(side, _TorchSide) for side in self._sides):
            return None
        return _from_dicts(self._sides, raw) if form == "dict" else _from_objects(self._sides, raw)


class _TorchSide:
    """A torch constraint as NumPy functions of x."""

    def __init__(self, constraint: Constraint, objective: Objective):
        self._objective = objective
        self._flat = objective.flat
        self._call = _caller(constraint.fun, self._flat.tensors)
        self._x: NDArray[np.float64] | None = None
        self._tensor: torch.Tensor | None = None
        self._jacobian: NDArray[np.float64] | None = None
        values = self.values(self._flat.read())
        self.lower, self.upper = (_limits(name, getattr(constraint, name), values.size) for name in ("lower", "upper"))
        if (self.lower > self.upper).any():
            raise ArgumentError(f"a constraint has lower {self.lower} above upper {self.upper}")
        self.equal = self.lower == self.upper

    def values(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """c(x), shape (m,)."""
        return self._at(x).detach().to(torch.float64).cpu().numpy().copy()

    def jacobian(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """dc/dx, shape (m, n)."""
        tensor = self._at(x)
        if self._jacobian is None:
            self._objective.place(x)
            self._jacobian = (
                np.stack([self._row(entry) for entry in tensor]) if tensor.numel() else np.empty((0, x.size))
            )
        return self._jacobian.copy()

    def hessian(self, x: NDArray[np.float64], v: NDArray[np.float64]) -> LinearOperator:
        """The Hessian of vᵀc at x, as products."""
        tensor = self._at(x)
        self._objective.place(x)
        weights = torch.as_tensor(v, dtype=tensor.dtype, device=tensor.device)
        parts = self._gradient((tensor * weights).sum(), create_graph=True)

        def product(p: NDArray[np.float64]) -> NDArray[np.float64]:
            self._objective.place(x)
            return self._flat.gather(self._directional(parts, self._flat.scatter(np.ascontiguousarray(p).ravel())))

        return LinearOperator((x.size, x.size), matvec=product, dtype=np.float64)

    def violation(self, x: NDArray[np.float64]) -> float:
        c = self.values(x)
        return float(max(np.max(self.lower - c, initial=0.0), np.max(c - self.upper, initial=0.0)))

    def dicts(self, variables: Variables) -> list[dict[str, Any]]:
        """Equalities, lower sides and upper sides, in this order, as SciPy's dicts."""
        return [
            self._dict(variables, kind, mask, limit, sign)
            for kind, mask, limit, sign in (
                ("eq", self.equal, self.lower, 1),
                ("ineq", ~self.equal & np.isfinite(self.lower), self.lower, 1),
                ("ineq", ~self.equal & np.isfinite(self.upper), self.upper, -1),
            )
            if mask.any()
        ]

    def objects(self, variables: Variables, *, curvature: bool) -> list[NonlinearConstraint]:
        """Equalities and inequalities apart, as SciPy wants them."""
        return [self._object(variables, mask, curvature) for mask in (self.equal, ~self.equal) if mask.any()]

    def _dict(
        self, variables: Variables, kind: str, mask: NDArray[np.bool_], limit: NDArray[np.float64], sign: int
    ) -> dict[str, Any]:
        return {
            "type": kind,
            "fun": lambda z: sign * (self.values(variables.to_user(z)) - limit)[mask],
            "jac": lambda z: sign * variables.covector(self.jacobian(variables.to_user(z))[mask]),
        }

    def _object(self, variables: Variables, mask: NDArray[np.bool_], curvature: bool) -> NonlinearConstraint:
        def hessian(z: NDArray[np.float64], v: NDArray[np.float64]) -> LinearOperator:
            whole = np.zeros(self.lower.size)
            whole[mask] = v
            inner = self.hessian(variables.to_user(z), whole)
            return LinearOperator(
                (variables.n, variables.n),
                matvec=lambda p: variables.covector(inner.matvec(variables.direction(p))),
                dtype=np.float64,
            )

        return NonlinearConstraint(
            lambda z: self.values(variables.to_user(z))[mask],
            self.lower[mask],
            self.upper[mask],
            jac=lambda z: variables.covector(self.jacobian(variables.to_user(z))[mask]),
            **({"hess": hessian} if curvature else {}),
        )

    def _at(self, x: NDArray[np.float64]) -> torch.Tensor:
        if self._tensor is None or self._x is None or not np.array_equal(self._x, x):
            self._objective.place(x)
            try:
                with torch.enable_grad():
                    self._tensor = _as_vector(self._call())
            except Exception as error:
                raise Abort(error) from error
            self._x, self._jacobian = np.array(x), None
        return self._tensor

    def _row(self, entry: torch.Tensor) -> NDArray[np.float64]:
        return self._flat.gather(self._gradient(entry, create_graph=False))

    def _gradient(self, value: torch.Tensor, *, create_graph: bool) -> Sequence[torch.Tensor | None]:
        if not value.requires_grad:
            return [None] * len(self._flat.tensors)
        return torch.autograd.grad(
            value, self._flat.tensors, retain_graph=True, create_graph=create_graph, allow_unused=True
        )

    def _directional(
        self, parts: Sequence[torch.Tensor | None], weights: list[torch.Tensor]
    ) -> Sequence[torch.Tensor | None]:
        pairs = [(p, w) for p, w in zip(parts, weights, strict=True) if p is not None and p.requires_grad]
        if not pairs:
            return [None] * len(parts)
        outputs, grad_outputs = zip(*pairs, strict=True)
        return torch.autograd.grad(outputs, self._flat.tensors, grad_outputs, retain_graph=True, allow_unused=True)


class _ScipySide:
    """A constraint of SciPy's own: a function of x as a NumPy vector."""

    def __init__(self, constraint: Any):
        self._constraint = constraint

    def violation(self, x: NDArray[np.float64]) -> float:
        given = self._constraint
        if isinstance(given, Mapping):
            c = np.atleast_1d(given["fun"](x, *given.get("args", ())))
            return float(np.max(np.abs(c) if str(given["type"]).lower() == "eq" else -c, initial=0.0))
        c = given.A @ x if isinstance(given, LinearConstraint) else np.atleast_1d(given.fun(x))
        return float(max(np.max(given.lb - c, initial=0.0), np.max(c - given.ub, initial=0.0)))

    def dicts(self, variables: Variables) -> list[Any]:
        return [self._translated(variables)]

    def objects(self, variables: Variables, *, curvature: bool) -> list[Any]:
        return [self._translated(variables)]

    def _translated(self, variables: Variables) -> Any:
        given = self._constraint
        if variables.plain:
            return given
        if isinstance(given, LinearConstraint):
            offset = np.asarray(given.A @ variables.to_user(np.zeros(variables.n))).ravel()
            matrix = variables.covector(np.asarray(given.A.toarray() if hasattr(given.A, "toarray") else given.A))
            return LinearConstraint(matrix, given.lb - offset, given.ub - offset, given.keep_feasible)
        if isinstance(given, Mapping):
            told = {**given, "fun": _of_user(given["fun"], variables)}
            if callable(given.get("jac")):
                told["jac"] = lambda z, *args: variables.covector(np.asarray(given["jac"](variables.to_user(z), *args)))
            return told
        jac = given.jac
        return NonlinearConstraint(
            _of_user(given.fun, variables),
            given.lb,
            given.ub,
            jac=(lambda z: variables.covector(np.asarray(jac(variables.to_user(z))))) if callable(jac) else jac,
        )


def _of_user(function: Callable[..., Any], variables: Variables) -> Callable[..., Any]:
    return lambda z, *args: function(variables.to_user(z), *args)


def _side_of(constraint: Any, objective: Objective) -> _TorchSide | _ScipySide:
    return _TorchSide(constraint, objective) if isinstance(constraint, Constraint) else _ScipySide(constraint)


def _caller(fun: Callable[..., torch.Tensor], tensors: Sequence[torch.Tensor]) -> Callable[[], object]:
    """fun as a function of no arguments: some read the model, some want the tensors."""
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):
        return fun
    positional = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return (lambda: fun(*tensors)) if positional or several else fun


def _as_vector(value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise ArgumentTypeError(
            f"a constraint returned {type(value).__name__}; it must return a scalar or vector tensor"
        )
    if value.dim() > 1 or value.is_complex():
        raise ArgumentError(
            f"a constraint returned shape {tuple(value.shape)}, {value.dtype}; it must be real, a scalar or a vector"
        )
    return value.reshape(-1)


def _limits(name: str, value: Any, m: int) -> NDArray[np.float64]:
    try:
        given = value.detach().cpu() if isinstance(value, torch.Tensor) else value
        return np.broadcast_to(np.asarray(given, dtype=np.float64), (m,)).copy()
    except (TypeError, ValueError):
        raise ArgumentError(f"a constraint's {name} must be a number or have its length {m}, got {value!r}") from None


def _from_objects(sides: Sequence[Any], v: Sequence[Any]) -> list[NDArray[np.float64]]:
    parts = iter(v)
    found = []
    for side in sides:
        whole = np.zeros(side.lower.size)
        for mask in (side.equal, ~side.equal):
            if mask.any():
                whole[mask] = np.ravel(next(parts))
        found.append(whole)
    return found


def _from_dicts(sides: Sequence[Any], multipliers: Any) -> list[NDArray[np.float64]]:
    """SLSQP lists all equalities first, then all inequalities, with ∇f = Σ Jᵀλ."""
    values = np.asarray(multipliers, dtype=np.float64)
    found = [np.zeros(side.lower.size) for side in sides]
    at = 0
    for whole, side in zip(found, sides, strict=True):
        count = int(side.equal.sum())
        whole[side.equal] = -values[at : at + count]
        at += count
    for whole, side in zip(found, sides, strict=True):
        for mask, sign in (
            (~side.equal & np.isfinite(side.lower), -1),
            (~side.equal & np.isfinite(side.upper), 1),
        ):
            count = int(mask.sum())
            whole[mask] += sign * values[at : at + count]
            at += count
    return found
