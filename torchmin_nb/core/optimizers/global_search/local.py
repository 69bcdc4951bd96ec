"""The local method inside a global search: SciPy's `minimize`, on autograd derivatives of the same objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from scipy.optimize import Bounds, OptimizeResult

from ....errors import ArgumentError, ArgumentTypeError, ClosureError
from ...objective.constraints import ConstraintSet
from ...objective.objective import Derivatives, Objective, Point
from ...objective.scaled_objective import SolverObjective
from ...parameters.variables import Variables
from ...runtime.control import UNDEFINED
from ...runtime.user_function import shielded
from ...validation import shown
from ..request import Request, read_request
from .minima import Minima

__all__ = ["LocalSearch", "as_arguments", "as_polish", "local_derivatives", "read_local"]

_UNSTARTED = "The loss or its gradient is not finite where the local method would begin."
_LIMIT_REACHED = "The local method has reached its maximum number of iterations."
_KINK = "The loss has no gradient here, and no neighbouring point is lower."
_ROUNDS = 20
_SUSPECTS = 32
_ROUNDING = 16


def as_arguments(minimizer_args: Any) -> dict[str, Any]:
    """A copy of `minimizer_args`, which may also be the name of a method, or None for the default."""
    if minimizer_args is None:
        return {}
    if isinstance(minimizer_args, str) or callable(minimizer_args):
        return {"method": minimizer_args}
    if not isinstance(minimizer_args, Mapping):
        raise ArgumentTypeError(
            f"minimizer_args must be a dict such as dict(method='L-BFGS-B', options=dict(maxiter=100)), a method name "
            f"or None, got {type(minimizer_args).__name__}"
        )
    if minimizer_args.get("callback") is not None:
        raise ArgumentError(
            "minimizer_args takes no callback here: SciPy would call it within every local search; use callbacks="
        )
    return dict(minimizer_args)


def as_polish(kwargs: Any, name: str) -> dict[str, Any]:
    """The value of `polish` or `finish`, converted to minimizer_args."""
    value = kwargs.get(name, True) if isinstance(kwargs, Mapping) else True
    if value is True or value is False or value is None or callable(value):
        return {}
    if not isinstance(value, str | Mapping):
        raise ArgumentError(
            f"{name}={shown(value)} must be True, False, a method name, a dict like minimizer_args or a callable"
        )
    return as_arguments(value)


def read_local(arguments: Mapping[str, Any], *, bounded: bool, constrained: bool) -> Request:
    """The request for the local method. Default: SLSQP with constraints, L-BFGS-B with bounds, else BFGS."""
    own = {name: value for name, value in arguments.items() if name != "bounds"}
    if own.get("method") is None:
        own["method"] = "SLSQP" if constrained else "L-BFGS-B" if bounded else "BFGS"
    return read_request(own)


def local_derivatives(request: Request, variables: Variables, *, differentiable: bool) -> Derivatives:
    """The derivatives while the local method runs. Raises ClosureError if it needs a gradient and there is none."""
    level = request.level
    if not differentiable and level == "curvature":
        raise ClosureError(
            f"{request.spec.name} needs a gradient and the closure gives none; return the loss tensor outside "
            f"torch.no_grad(), or choose a local method that takes differences: L-BFGS-B, BFGS, CG, TNC, SLSQP"
        )
    return Derivatives(
        level=level if differentiable else "value",
        nonfinite=request.spec.nonfinite,
        gradient=request.jac if callable(request.jac) else None,
        finite_start=False,
        shift=request.spec.shift,
        scale=variables.scale,
    )


class LocalSearch:
    """A local method as SciPy's global optimizers call it: `minimize(fun, x0, method=search)`.

    It uses the solver's variables. While it runs, `active` is true and the objective computes the derivatives that it
    needs. After convergence the end point is kept in `minima`. `ended` is called with the result of each descent,
    `heard`, the user's callback, in each of its iterations.

    At a kink autograd's derivative is one of many, or undefined: 0 for |x| at 0, NaN for √x. So if a descent ends with
    a gradient that is 0 or NaN along some variables, the loss is evaluated on both sides of that point. If it is lower
    there, the descent continues from the lower point.
    """

    def __init__(
        self,
        request: Request,
        objective: Objective,
        variables: Variables,
        constraints: ConstraintSet,
        derivatives: Derivatives,
        minima: Minima,
    ):
        self.active = False
        self.minima = minima
        self.ended: Callable[[OptimizeResult], None] = lambda result: None
        self.user_callback: Callable[..., Any] | None = None
        self._request = request
        self._objective = objective
        self._variables = variables
        self._solver_objective = SolverObjective(objective, variables)
        self._constraints = constraints
        self._derivatives = derivatives

    @property
    def differentiates(self) -> bool:
        """Whether the gradient of the closure is used."""
        return self._derivatives.level != "value"

    def lower(self) -> str:
        """SciPy's word for a callable method: shgo calls `lower()` on a method."""
        return "_custom"

    def __call__(
        self, fun: Callable[..., float], z: NDArray[np.float64], *, bounds: Any = None, **ignored: Any
    ) -> OptimizeResult:
        """Descend from z, within `bounds`; default: the bounds of the search."""
        within = self._within(bounds)
        z = self._point(z)
        z = z if within is None else np.clip(z, within.lb, within.ub)
        with self._descending():
            result = self._descend(fun, z, within)
        if result.message == _UNSTARTED:
            return result
        self._keep(result)
        self.ended(result)
        return result

    def _point(self, z: Any) -> NDArray[np.float64]:
        """A copy of the start of a descent. Raises ArgumentError, because the user's take_step may have returned it."""
        try:
            point = np.array(z, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            point = np.empty(0)
        if point.size != self._variables.n:
            raise ArgumentError(f"take_step returned {z!r}; it must return {self._variables.n} numbers")
        return point

    def _descend(self, fun: Callable[..., float], z: NDArray[np.float64], within: Bounds | None) -> OptimizeResult:
        """Descend from z, and again from a lower neighbour of the end point as long as there is one."""
        result = self._begin(fun, z, within)
        for _ in range(_ROUNDS):
            lower = self._lower_neighbour(np.asarray(result.x), within) if np.isfinite(result.fun) else None
            further = None if lower is None else self._begin(fun, lower, within)
            if further is None or not further.fun < result.fun:
                return result
            counts = {name: result.get(name, 0) + further.get(name, 0) for name in ("nfev", "njev", "nhev", "nit")}
            result = OptimizeResult({**further, **counts})
        return result

    def _begin(self, fun: Callable[..., float], z: NDArray[np.float64], within: Bounds | None) -> OptimizeResult:
        """One descent from z; no descent if the loss has no gradient there."""
        x = self._variables.to_user(z)
        if self._objective.evaluate_as_fallback(x):
            return self._minimize(fun, z, within)
        point = self._objective.cached_point(x)
        if point is None or not np.isfinite(point.loss) or point.violation == np.inf:
            return _failed(z, _UNSTARTED)
        return OptimizeResult({**_failed(z, _KINK, point.loss), "success": True, "status": 0})

    def _lower_neighbour(self, z: NDArray[np.float64], within: Bounds | None) -> NDArray[np.float64] | None:
        """A lower point next to z, along variables with a gradient of 0 or NaN there; None if there is none."""
        if not self._by_autograd:
            return None
        self._objective.evaluate_as_fallback(self._variables.to_user(z))
        point = self._objective.cached_point(self._variables.to_user(z))
        if point is None or point.gradient is None:
            return None
        slope = np.asarray(self._variables.gradient_to_solver(point.gradient))
        suspects = np.flatnonzero(~np.isfinite(slope) | (slope == 0))[:_SUSPECTS]
        return self._lowest_of(self._neighbours(z, suspects, within), point)

    def _neighbours(
        self, z: NDArray[np.float64], along: NDArray[np.intp], within: Bounds | None
    ) -> Iterator[NDArray[np.float64]]:
        """Points one step to both sides of z along some of the variables, inside the bounds."""
        step = self._objective.flat.eps ** (1 / 3)
        bounds = within or self._variables.bounds
        for index in along:
            for side in (-1, 1):
                beside = z.copy()
                beside[index] += side * step * max(1.0, abs(z[index]))
                beside = beside if bounds is None else np.clip(beside, bounds.lb, bounds.ub)
                if beside[index] != z[index]:
                    yield beside

    def _lowest_of(self, points: Iterator[NDArray[np.float64]], centre: Point) -> NDArray[np.float64] | None:
        """The lowest point with a loss below the centre's by more than rounding, and no larger violation."""
        objective = self._objective
        lowest, lowest_point = centre.loss - _ROUNDING * objective.flat.eps * abs(centre.loss), None
        for z in points:
            x = self._variables.to_user(z)
            loss = objective.value(x)
            if loss < lowest and objective.infeasibility_at(x) <= objective.infeasibility_at(centre.x):
                lowest, lowest_point = loss, z
        return lowest_point

    @property
    def _by_autograd(self) -> bool:
        return self._derivatives.level != "value" and self._derivatives.gradient is None

    def _within(self, bounds: Any) -> Bounds | None:
        """The bounds of a descent, if the method accepts bounds: a cell of shgo, as pairs, or those of the search."""
        if not self._request.spec.bounds or bounds is None:
            return self._variables.bounds if self._request.spec.bounds else None
        return bounds if isinstance(bounds, Bounds) else Bounds(*np.array(bounds, dtype=np.float64).T)

    def _minimize(self, fun: Callable[..., float], z: NDArray[np.float64], bounds: Bounds | None) -> OptimizeResult:
        request, spec = self._request, self._request.spec
        constraints = (
            self._constraints.for_scipy(spec.constraint_form, curvature=spec.curvature != "none")
            if spec.constraints
            else []
        )
        limit = _Limit(request.max_iterations, self.user_callback)
        try:
            result = scipy.optimize.minimize(
                fun,
                z,
                method=shielded(request.method),
                bounds=bounds,
                constraints=constraints or (),
                tol=request.tol,
                callback=limit if limit.needed else None,
                options=self._variables.solver_options(request.scipy_options(self._objective.flat.eps), spec.options),
                **self._derivative_arguments(),
            )
        except _LimitReached as enough:
            result = _failed(enough.z, _LIMIT_REACHED, float(fun(enough.z)))
        return self._finite(result)

    def _finite(self, result: OptimizeResult) -> OptimizeResult:
        """The result with the loss at its x: infinite if the method ended at a finite value that replaced NaN."""
        x = self._variables.to_user(result.x)
        end = self._objective.end_point(x) if np.isfinite(x).all() else None
        if end is None or not self._objective.finite(end):
            result.update(fun=np.inf, **UNDEFINED._asdict())
        else:
            result.fun = end.loss
        counts = {name: result.get(name, 0) for name in ("nfev", "njev", "nhev")}  # basinhopping sums them
        result.update(counts, fun=float(result.fun))
        return result

    def _derivative_arguments(self) -> dict[str, Any]:
        """jac, hess and hessp for the method's row: the user's, else autograd's."""
        request, spec, solver_objective = self._request, self._request.spec, self._solver_objective
        derivatives: dict[str, Any] = {
            "hess": solver_objective.user_hess(request.hess) if callable(request.hess) else request.hess,
            "hessp": None if request.hessp is None else solver_objective.user_hessp(request.hessp),
        }
        if spec.gradient != "none":
            by_us = self._derivatives.level != "value" or self._derivatives.gradient is not None
            derivatives["jac"] = (
                solver_objective.gradient if by_us else request.jac if isinstance(request.jac, str) else None
            )
        if request.hess is None and request.hessp is None and self._derivatives.level != "value":
            if spec.curvature == "dense" or spec.custom:
                derivatives["hess"] = solver_objective.hessian
            if spec.curvature == "hvp" or spec.custom:
                derivatives["hessp"] = solver_objective.hvp
        return {name: value for name, value in derivatives.items() if value is not None}

    def _keep(self, result: OptimizeResult) -> None:
        x = self._variables.to_user(result.x)
        if result.success and np.isfinite(result.fun) and self._inside(np.asarray(result.x)):
            self.minima.add(result.fun, x)

    def _inside(self, z: NDArray[np.float64]) -> bool:
        bounds: Bounds | None = self._variables.bounds
        return bounds is None or bool(((z >= bounds.lb) & (z <= bounds.ub)).all())

    @contextmanager
    def _descending(self) -> Iterator[None]:
        before = self._objective.derivatives
        self._objective.use_derivatives(self._derivatives)
        self.active = True
        try:
            yield
        finally:
            self.active = False
            self._objective.use_derivatives(before)


class _LimitReached(BaseException):
    """Ends a solver that does not count iterations. A BaseException, so that no solver catches it."""

    def __init__(self, z: NDArray[np.float64]):
        super().__init__(_LIMIT_REACHED)
        self.z = z


class _Limit:
    """A SciPy callback that ends a descent after this many iterations, or if the user's callback requests it."""

    def __init__(self, most: int | None, user_callback: Callable[..., Any] | None = None):
        self.needed = most is not None or user_callback is not None
        self._left = np.inf if most is None else most
        self._user_callback = user_callback

    def __call__(self, xk: NDArray[np.float64], *state: Any) -> bool:
        self._left -= 1
        z = np.array(xk, dtype=np.float64)
        if self._asked_to_stop(z) or self._left <= 0:
            raise _LimitReached(z)
        return False

    def _asked_to_stop(self, z: NDArray[np.float64]) -> bool:
        """Call the user's callback. Returns whether it ends the descent."""
        try:
            if self._user_callback is not None:
                self._user_callback(z.copy())
        except StopIteration:
            return True
        return False


def _failed(z: NDArray[np.float64], message: str, fun: float = np.inf) -> OptimizeResult:
    return OptimizeResult(x=z, fun=fun, success=False, status=1, message=message, nfev=0, njev=0, nhev=0, nit=0)
