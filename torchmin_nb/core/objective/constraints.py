"""Constraints: torch functions of the parameters, and SciPy's objects, in the form that each method needs.

A torch constraint gets its Jacobian from autograd and, for methods that use it, the Hessian of vᵀc as products. Values
are cached for the last point, and used by the method, for the feasibility of the best point and for the events.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import LinearConstraint, NonlinearConstraint, approx_fprime
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator

from ...errors import (
    ArgumentError,
    ArgumentTypeError,
    NonFiniteStartError,
    SecondDerivativeError,
)
from ..autodiff.capture import differentiable_gradient
from ..autodiff.graph import once_differentiable
from ..autodiff.hessian import HvpGraph, second_derivatives_named
from ..parameters.arrays import as_matrix
from ..parameters.bounds import outside
from ..runtime.control import Abort

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..parameters.variables import Variables

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..parameters.variables import Variables
    from .calls import Calls

__all__ = ["FEASIBLE", "Constraint", "ConstraintSet", "LinearisedConstraints", "read_constraints"]


class LinearisedConstraints(NamedTuple):
    """Constraints c(z) >= 0, or = 0 where `equal`, at a point: values (m,), Jacobian (m, n), equal (m,)."""

    values: NDArray[np.float64]
    jacobian: NDArray[np.float64]
    equal: NDArray[np.bool_]


FEASIBLE = 1e-6
"""Largest violation of the constraints at a point that counts as feasible in the choice of the best point."""

_REMEDY = "write the constraint without this operation, or choose a method without Hessians: SLSQP, COBYLA, COBYQA"


class Constraint:
    """lower <= fun(...) <= upper, for a torch function of the parameters.

    Parameters
    ----------
    fun : callable
        A function without arguments that reads the model, or of the trainable tensors in order; with `minimize`, of x.
        It returns a scalar or a vector, computed so that autograd can follow.
    lower : float or array_like of shape (m,), optional
        Lower limit of each component; None or -inf for none. Default: none.
    upper : float or array_like of shape (m,), optional
        Upper limit of each component; None or inf for none. Default: none. Where the limits are equal, it is an
        equality.

    Raises
    ------
    ArgumentTypeError
        If `fun` is not callable.

    Examples
    --------
    >>> on_a_line = Constraint(lambda x: x.sum(), lower=1, upper=1)
    >>> minimize(lambda x: (x**2).sum(), [0.0, 0.0], constraints=on_a_line).x.round(decimals=6)
    tensor([0.5000, 0.5000], dtype=torch.float64)
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
    listed = [constraints] if isinstance(constraints, Mapping) or not isinstance(constraints, Sequence) else constraints
    return [_read(constraint) for constraint in listed]


def _read(constraint: Any) -> Any:
    if isinstance(constraint, Constraint | NonlinearConstraint | LinearConstraint):
        return constraint
    if not isinstance(constraint, Mapping):
        raise ArgumentTypeError(
            f"a constraint must be a torchmin_nb.Constraint, a dict or a constraint object of SciPy, "
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
            f"a constraint dict has the keys fun, lower and upper (or SciPy's type and fun), got {sorted(constraint)}"
        )
    return Constraint(**constraint)


class ConstraintSet:
    """All constraints of one run: in the form that a method needs, and the violation at a point.

    Every constraint is called once here, at the start, so that wrong shapes and limits are errors before the run. The
    parameters are not changed.
    """

    def __init__(self, constraints: Sequence[Any], calls: Calls, variables: Variables):
        self._variables = variables
        self._constraints: list[_BoundedConstraint] = []
        if not constraints:
            return
        before, failure = calls.flat.read(), None
        try:
            self._constraints = [_bounded_constraint(constraint, calls, variables.base) for constraint in constraints]
        except Abort as abort:
            failure = abort.error
        finally:
            calls.write_parameters(before)
        if failure is not None:
            raise failure

    def __bool__(self) -> bool:
        return bool(self._constraints)

    @property
    def differentiable(self) -> bool:
        """Whether every Jacobian is known without finite differences."""
        return all(constraint.differences is None for constraint in self._constraints)

    def violation(self, x: NDArray[np.float64]) -> float:
        """The largest violation at x, of constraints and of bounds; 0 if feasible, infinite where one is NaN."""
        return max([outside(x, self._variables.box), *(constraint.violation(x) for constraint in self._constraints)])

    def linearised(self, x: NDArray[np.float64]) -> LinearisedConstraints | None:
        """All components at x, each as c >= 0 or c = 0 of the solver's variables; None without constraints."""
        parts = [part for constraint in self._constraints for part in constraint.linearised(x, self._variables)]
        return LinearisedConstraints(*map(np.concatenate, zip(*parts, strict=True))) if parts else None

    def for_scipy(self, form: str, *, curvature: bool) -> list[Any]:
        """The argument `constraints` of `scipy.optimize.minimize`, as functions of the solver's variables.

        form: "dict"; "inequalities", dicts where an equality is two of them; or "object". curvature: with the Hessian
        of vᵀc.
        """
        if form == "object":
            return [
                part
                for constraint in self._constraints
                for part in constraint.objects(self._variables, curvature=curvature)
            ]
        return [
            part
            for constraint in self._constraints
            for part in constraint.dicts(self._variables, equalities=form == "dict")
        ]

    def multipliers(self, result: Mapping[str, Any], form: str) -> list[NDArray[np.float64]] | None:
        """One array for each constraint, signed so that ∇f + Σ Jᵀv = 0 without active bounds, or None."""
        raw = result.get("v" if form == "object" else "multipliers")
        if raw is None:
            return None
        return _from_objects(self._constraints, raw) if form == "object" else _from_dicts(self._constraints, raw)


class _BoundedConstraint(ABC):
    """lower <= values(x) <= upper, all of shape (m,).

    calls: of the same run. Their control is checked before each value for SciPy, which may need only constraints for
    long.
    """

    differences: Any = None
    """SciPy's word for the finite differences of a missing Jacobian."""

    def __init__(
        self,
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        at_start: NDArray[np.float64],
        calls: Calls,
    ):
        wrong = ~(lower <= upper) | (lower == np.inf) | (upper == -np.inf)
        if wrong.any():
            index = int(np.argmax(wrong))
            raise ArgumentError(
                f"a constraint has lower={lower[index]} and upper={upper[index]} in component {index}; "
                f"lower must not exceed upper"
            )
        if not np.isfinite(at_start).all():
            raise NonFiniteStartError(f"a constraint is {at_start} at the starting point; start where it is defined")
        self.lower, self.upper, self.equal = lower, upper, lower == upper
        self._calls = calls

    @abstractmethod
    def values(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """c(x), shape (m,)."""

    @abstractmethod
    def jacobian(self, x: NDArray[np.float64]) -> Any:
        """dc/dx, shape (m, n)."""

    @abstractmethod
    def objects(self, variables: Variables, *, curvature: bool) -> list[Any]:
        """The same as SciPy's constraint objects."""

    def values_for_scipy(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """c(x) for SciPy, shape (m,). Checks for a stop, a pause and the time budget."""
        self._calls.control.before_work()
        return self.values(x)

    def jacobian_for_scipy(self, x: NDArray[np.float64]) -> Any:
        """dc/dx for SciPy, shape (m, n)."""
        self._calls.control.before_work()
        return self.jacobian(x)

    def violation(self, x: NDArray[np.float64]) -> float:
        """The largest violation at x."""
        c = self.values(x)
        beyond = np.maximum(self.lower - c, c - self.upper)
        return math.inf if np.isnan(beyond).any() else float(np.max(beyond, initial=0.0))

    def blocks(self, *, equalities: bool = True) -> list[tuple[str, NDArray[np.bool_], NDArray[np.float64], int]]:
        """The parts of SciPy's dicts, in this order: (type, components, their limit, sign of c)."""
        equal = self.equal if equalities else np.zeros_like(self.equal)
        blocks = [
            ("eq", equal, self.lower, 1),
            ("ineq", ~equal & np.isfinite(self.lower), self.lower, 1),
            ("ineq", ~equal & np.isfinite(self.upper), self.upper, -1),
        ]
        return [block for block in blocks if block[1].any()]

    def linearised(self, x: NDArray[np.float64], variables: Variables) -> list[tuple[NDArray[Any], ...]]:
        """The blocks at x: values (k,), Jacobian (k, n) with respect to z, and which are equalities."""
        c, jacobian = self.values(x), _dense(variables.gradient_to_solver(self.jacobian(x)))
        return [
            (sign * (c - limit)[mask], sign * jacobian[mask], np.full(int(mask.sum()), kind == "eq"))
            for kind, mask, limit, sign in self.blocks()
        ]

    def dicts(self, variables: Variables, *, equalities: bool) -> list[dict[str, Any]]:
        """The blocks as SciPy's dicts."""
        return [self._dict(variables, *block) for block in self.blocks(equalities=equalities)]

    def _dict(
        self, variables: Variables, kind: str, mask: NDArray[np.bool_], limit: NDArray[np.float64], sign: int
    ) -> dict[str, Any]:
        jacobian = {
            "jac": lambda z: (
                sign * _dense(variables.gradient_to_solver(self.jacobian_for_scipy(variables.to_user(z))))[mask]
            )
        }
        return {
            "type": kind,
            "fun": lambda z: sign * (self.values_for_scipy(variables.to_user(z)) - limit)[mask],
            **(jacobian if self.differences is None else {}),
        }


class _TorchConstraint(_BoundedConstraint):
    """A torch constraint as NumPy functions of x."""

    def __init__(self, constraint: Constraint, calls: Calls, start: NDArray[np.float64]):
        self._calls = calls
        self._flat = calls.flat
        self._call = _caller(constraint.fun, self._flat.tensors)
        self._x: NDArray[np.float64] | None = None
        self._tensor: torch.Tensor | None = None
        self._jacobian: NDArray[np.float64] | None = None
        self._size: int | None = None
        c = self.values(start)
        self._size = c.size
        lower = _limits("lower", constraint.lower, c.size, -np.inf)
        upper = _limits("upper", constraint.upper, c.size, np.inf)
        super().__init__(lower, upper, c, calls)
        self._tensor = None  # other checks of the start may write to the parameters, which invalidates the graph

    def values(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._at(x).detach().to(torch.float64).cpu().numpy().copy()

    def jacobian(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        tensor = self._at(x)
        if self._jacobian is None:
            self._calls.write_parameters(x)
            rows = [self._row(entry) for entry in tensor]
            self._jacobian = np.stack(rows) if rows else np.empty((0, x.size))
        return self._jacobian.copy()

    def hessian(self, x: NDArray[np.float64], v: NDArray[np.float64]) -> LinearOperator:
        """The Hessian of vᵀc at x, as products."""
        tensor = self._at(x)
        self._calls.write_parameters(x)
        weights = torch.as_tensor(v, dtype=tensor.dtype, device=tensor.device)
        with second_derivatives_named(_REMEDY):
            gradient = self._gradient(tensor, weights)
        if once_differentiable(gradient):
            raise SecondDerivativeError(f"a constraint hides its second derivative (once_differentiable); {_REMEDY}")
        graph = HvpGraph(gradient, self._flat)

        def product(p: NDArray[np.float64]) -> NDArray[np.float64]:
            self._calls.write_parameters(x)
            with second_derivatives_named(_REMEDY):
                return graph.hvp(np.ascontiguousarray(p).ravel())

        return LinearOperator((x.size, x.size), matvec=product, dtype=np.float64)

    def objects(self, variables: Variables, *, curvature: bool) -> list[NonlinearConstraint]:
        """Equalities and inequalities apart."""
        return [self._object(variables, mask, curvature) for mask in (self.equal, ~self.equal) if mask.any()]

    def _object(self, variables: Variables, mask: NDArray[np.bool_], curvature: bool) -> NonlinearConstraint:
        def hessian(z: NDArray[np.float64], v: NDArray[np.float64]) -> LinearOperator:
            self._calls.control.before_work()
            whole = np.zeros(self.lower.size)
            whole[mask] = v
            return variables.hessian_to_solver(self.hessian(variables.to_user(z), whole))

        return NonlinearConstraint(
            lambda z: self.values_for_scipy(variables.to_user(z))[mask],
            self.lower[mask],
            self.upper[mask],
            jac=lambda z: variables.gradient_to_solver(self.jacobian_for_scipy(variables.to_user(z))[mask]),
            **({"hess": hessian} if curvature else {}),
        )

    def _at(self, x: NDArray[np.float64]) -> torch.Tensor:
        if self._tensor is None or self._x is None or not np.array_equal(self._x, x):
            self._calls.write_parameters(x)
            try:
                with torch.enable_grad():
                    self._tensor = _as_vector(self._call(), self._size)
            except Exception as error:
                self._tensor = self._undefined(error)
            self._x, self._jacobian = np.array(x), None
        return self._tensor

    def _undefined(self, error: Exception) -> torch.Tensor:
        """NaN if the constraint raised one of nonfinite_errors; at the start the error is raised."""
        if self._size is None:
            raise Abort(error) from error
        self._calls.count_nonfinite_error(error)
        return torch.full((self._size,), torch.nan, dtype=torch.float64)

    def _row(self, entry: torch.Tensor) -> NDArray[np.float64]:
        if not entry.requires_grad:
            return np.zeros(self._flat.n)
        return self._flat.gather(torch.autograd.grad(entry, self._flat.tensors, retain_graph=True, allow_unused=True))

    def _gradient(self, tensor: torch.Tensor, weights: torch.Tensor) -> Sequence[torch.Tensor | None]:
        """The gradient of vᵀc, itself differentiable."""
        if not tensor.requires_grad:
            return [None] * len(self._flat.tensors)
        return differentiable_gradient(tensor, self._flat.tensors, weights)


class _ScipyConstraint(_BoundedConstraint):
    """A constraint in SciPy's form: functions of x as a NumPy vector."""

    def __init__(self, constraint: Any, calls: Calls, start: NDArray[np.float64]):
        self._constraint = constraint
        self._size: int | None = None
        self._x: NDArray[np.float64] | None = None
        self._c = np.empty(0)
        fun, jac, low, high = _parts(constraint, start.size)
        self._fun = _shielded(fun)
        self._jac = _shielded(jac) if callable(jac) else None
        self.differences = None if callable(jac) else jac
        try:
            c = np.asarray(self._fun(start.copy()), dtype=np.float64).ravel()
        except (TypeError, ValueError):
            raise ArgumentTypeError("a constraint's fun must return a number or a vector of them") from None
        lower, upper = _limits("lb", low, c.size, -np.inf), _limits("ub", high, c.size, np.inf)
        super().__init__(lower, upper, c, calls)
        self._size = c.size

    def values(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._x is None or not np.array_equal(self._x, x):
            self._x, self._c = x.copy(), self._called(x)
        return self._c.copy()

    def _called(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """c(x), shape (m,); NaN if the function raised one of nonfinite_errors."""
        try:
            return np.asarray(self._fun(x.copy())).ravel()
        except Abort as abort:
            if self._size is None or not isinstance(abort.error, Exception):
                raise
            self._calls.count_nonfinite_error(abort.error)
            return np.full(self._size, np.nan)

    def jacobian(self, x: NDArray[np.float64]) -> Any:
        if self._jac is None:
            return np.atleast_2d(approx_fprime(x, lambda at: np.asarray(self._fun(at), dtype=np.float64).ravel()))
        matrix = as_matrix(self._jac(x.copy()))
        return matrix if issparse(matrix) else np.atleast_2d(matrix)

    def objects(self, variables: Variables, *, curvature: bool) -> list[Any]:
        constraint = self._constraint
        if isinstance(constraint, LinearConstraint):
            matrix = variables.gradient_to_solver(constraint.A)  # sparse only for methods with Hessians
            offset = np.asarray(constraint.A @ variables.to_user(np.zeros(variables.n))).ravel()
            return [
                LinearConstraint(
                    matrix if curvature else _dense(matrix),
                    self.lower - offset,
                    self.upper - offset,
                    constraint.keep_feasible,
                )
            ]
        return [
            NonlinearConstraint(
                lambda z: self.values_for_scipy(variables.to_user(z)),
                self.lower,
                self.upper,
                jac=self.differences
                or (lambda z: variables.gradient_to_solver(self.jacobian_for_scipy(variables.to_user(z)))),
                **(_nonlinear_extras(constraint, variables) if isinstance(constraint, NonlinearConstraint) else {}),
            )
        ]


def _parts(constraint: Any, n: int) -> tuple[Callable[..., Any], Any, Any, Any]:
    """fun, its Jacobian or the method of finite differences, lower and upper of a SciPy constraint."""
    if isinstance(constraint, LinearConstraint):
        if constraint.A.shape[-1] != n:
            raise ArgumentError(f"a LinearConstraint has A of shape {constraint.A.shape}; there are {n} variables")
        return (lambda x: constraint.A @ x), (lambda x: constraint.A), constraint.lb, constraint.ub
    if isinstance(constraint, NonlinearConstraint):
        return constraint.fun, constraint.jac, constraint.lb, constraint.ub
    fun, jac, arguments = constraint["fun"], constraint.get("jac"), constraint.get("args", ())
    upper = 0.0 if str(constraint["type"]).lower() == "eq" else np.inf
    jacobian = (lambda x: jac(x, *arguments)) if callable(jac) else jac or "2-point"
    return (lambda x: fun(x, *arguments)), jacobian, 0.0, upper


def _nonlinear_extras(constraint: NonlinearConstraint, variables: Variables) -> dict[str, Any]:
    """The other fields of a NonlinearConstraint: its Hessian, and the options of finite differences."""
    hess = constraint.hess
    extras = {"keep_feasible": constraint.keep_feasible, "finite_diff_rel_step": constraint.finite_diff_rel_step}
    if variables.plain:
        extras["finite_diff_jac_sparsity"] = constraint.finite_diff_jac_sparsity
    if not callable(hess):
        return {**extras, "hess": hess}
    product = _shielded(hess)
    return {**extras, "hess": lambda z, v: variables.hessian_to_solver(as_matrix(product(variables.to_user(z), v)))}


def _shielded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The user's function, wrapped so that the solver cannot catch its errors."""

    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            raise Abort(error) from error

    return call


def _dense(matrix: Any) -> NDArray[np.float64]:
    return np.asarray(matrix.toarray() if issparse(matrix) else matrix)


def _bounded_constraint(constraint: Any, calls: Calls, start: NDArray[np.float64]) -> _BoundedConstraint:
    if isinstance(constraint, Constraint):
        return _TorchConstraint(constraint, calls, start)
    return _ScipyConstraint(constraint, calls, start)


def _caller(fun: Callable[..., torch.Tensor], tensors: Sequence[torch.Tensor]) -> Callable[[], object]:
    """fun as a function without arguments: some constraints read the model, others need the tensors as arguments."""
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):
        return lambda: fun(*tensors)  # a built-in such as torch.sum
    positional = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return (lambda: fun(*tensors)) if positional or several else fun


def _as_vector(value: object, size: int | None) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise ArgumentTypeError(
            f"a constraint returned {type(value).__name__}; it must return a scalar or vector tensor"
        )
    if value.dim() > 1 or value.is_complex():
        raise ArgumentError(
            f"a constraint returned shape {tuple(value.shape)}, {value.dtype}; it must be real, a scalar or a vector"
        )
    if size is not None and value.numel() != size:
        raise ArgumentError(
            f"a constraint returned {value.numel()} components, but {size} at the start; return {size} each time"
        )
    return value.reshape(-1)


def _limits(name: str, value: Any, m: int, default: float) -> NDArray[np.float64]:
    try:
        numbers = value.detach().cpu() if isinstance(value, torch.Tensor) else default if value is None else value
        return np.broadcast_to(np.asarray(numbers, dtype=np.float64), (m,)).copy()
    except (TypeError, ValueError):
        raise ArgumentError(f"a constraint's {name} must be a number or have its length {m}, got {value!r}") from None


def _from_objects(constraints: Sequence[_BoundedConstraint], v: Sequence[Any]) -> list[NDArray[np.float64]]:
    parts = iter(v)
    multipliers = []
    for constraint in constraints:
        whole = np.zeros(constraint.lower.size)
        masks = (
            (constraint.equal, ~constraint.equal)
            if isinstance(constraint, _TorchConstraint)
            else (np.ones_like(constraint.equal),)
        )
        for mask in masks:
            if mask.any():
                whole[mask] = np.ravel(next(parts))
        multipliers.append(whole)
    return multipliers


def _from_dicts(constraints: Sequence[_BoundedConstraint], reported: Any) -> list[NDArray[np.float64]]:
    """From SLSQP's order: all equalities first, then all inequalities, with ∇f = Σ Jᵀλ."""
    values = np.asarray(reported, dtype=np.float64)
    multipliers = [np.zeros(constraint.lower.size) for constraint in constraints]
    at = 0
    for kind in ("eq", "ineq"):
        for whole, constraint in zip(multipliers, constraints, strict=True):
            for mask, sign in ((mask, sign) for its_kind, mask, _, sign in constraint.blocks() if its_kind == kind):
                count = int(mask.sum())
                whole[mask] -= sign * values[at : at + count]
                at += count
    return multipliers
