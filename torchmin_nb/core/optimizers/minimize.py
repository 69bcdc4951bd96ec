"""MinimizeWrapper: the only caller of `scipy.optimize.minimize`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Integral
from types import MappingProxyType
from typing import Any, Literal, Unpack, get_args

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, OptimizeResult

from ...errors import ArgumentError
from ..autodiff.closure import Closure
from ..autodiff.start_check import StartCheck
from ..covariance.covariance import Covariance
from ..covariance.of_loss import loss_covariance
from ..execution.engine import Engine
from ..execution.iterates import objective_of
from ..execution.optimality import EndingCheck, IterateResidual, tolerances_in_words
from ..execution.recorder import Recorder
from ..execution.scipy_engine import VIOLATIONS, ScipyEngine
from ..execution.scipy_iterates import ScipyCallback, ScipyIterates
from ..execution.torch_engine import TorchEngine, TorchRun
from ..execution.trust_region import PROBES
from ..methods.local import METHODS, MethodName
from ..methods.options import require_arrays
from ..objective.constraints import FEASIBLE, ConstraintSet
from ..objective.device_objective import DeviceObjective
from ..objective.objective import Derivatives, Objective
from ..objective.scaled_objective import SolverObjective
from ..objective.trials import Trials
from ..parameters.bounds import read_bounds
from ..parameters.device_variables import DeviceVariables
from ..parameters.flat import FlatParameters
from ..parameters.variables import Variables
from ..runtime.blas_threads import LARGE_DENSE
from ..runtime.user_function import shielded
from ..signatures import shares_parameters, shows_keywords
from ..validation import one_of, positive
from .arguments import read_loss_scale
from .common import COMMON, Common, LossScale
from .device_optimizer import DeviceOptimizer
from .device_run import (
    EngineName,
    Saved,
    choose_engine,
    make_solver,
    read_engine,
    scipy_only_argument,
    with_warm_start,
)
from .request import Request, as_mapping, read_request, require_fit, require_memory, without_method
from .several_processes import on_every_rank
from .state import continued

__all__ = ["Curvature", "MinimizeWrapper"]

Curvature = Literal["autograd", "finite-difference"]


@shares_parameters(DeviceOptimizer, Common)
class MinimizeWrapper(DeviceOptimizer):
    """`scipy.optimize.minimize` as a `torch.optim.Optimizer`: `step(closure)` runs the whole minimisation.

    SciPy always works in float64 vectors of shape (n,), n the number of trainable entries. The closure runs in the
    parameters' own dtype. Gradients, Hessians and Hessian-vector products come from autograd unless `jac`, `hess` or
    `hessp` say otherwise.

    Parameters
    ----------
    params : iterable of torch.Tensor, of (str, torch.Tensor) or of dict
        Tensors, named parameters or param groups. The dtypes float32 and float64 may be mixed. Tensors with
        ``requires_grad=False`` are not changed. A group may have ``bounds=(low, high)`` and ``scale=``, the typical
        size of its entries: numbers, or tensors of the parameter's shape. With a scale, SciPy minimises over x/scale.
        Trust radii and tolerances on steps are then in these units. Everything else is in units of x, also options that
        are arrays over the parameters.
    minimizer_args : dict, str, callable or None, optional
        What `scipy.optimize.minimize` takes besides `fun`, `x0` and `args`, under the same names: `method`, `options`,
        `tol`, `bounds`, `constraints`, `callback`, `jac`, `hess`, `hessp`. Or only the method; upper and lower case do
        not matter. The options ``maxiter`` and ``disp`` work for every method. The dict is not changed. If no method is
        named, it is chosen as in SciPy: SLSQP with constraints, L-BFGS-B with bounds (here or in a group), else BFGS.
    curvature : {"autograd", "finite-difference"}, optional
        How second derivatives are computed. "finite-difference" is for operations without a second derivative.
    hessian_chunk : int or None, optional
        Number of rows of a dense Hessian that are computed at once. Default: chosen by size.
    loss_scale : float or "auto", optional
        SciPy sees loss/loss_scale. Its tolerances are absolute, and the scale makes them fit a loss that is not of the
        order of one. Losses, gradients, inverse Hessians and multipliers that you see stay in units of the loss. "auto"
        takes the largest entry of the gradient at the start (without gradients: the loss there) if it is below one,
        rounded to a power of two. Default 1.
    engine : {"scipy", "torch", "auto"} or None, optional
        What runs the method. "scipy": SciPy. "torch": a solver whose vectors stay on the parameters' device and in
        their dtype, for CG, BFGS, L-BFGS-B, Newton-CG, dogleg, trust-ncg, trust-krylov and trust-exact, and for SSBFGS
        and SSBroyden, which SciPy does not have. "auto": torch, if it has the method and nothing you asked for needs
        SciPy. None, the default: SciPy, if it has the method. ``METHODS[name].engines`` lists the engines of a method.
    {shared}

    Attributes
    ----------
    result : Result or None
        SciPy's OptimizeResult of the last run; None before it has ended.
    history : History
        The iterations of the last run.
    name : str
        Name of the method.
    engine : str
        "scipy" or "torch".
    callbacks : list
        The callbacks, which may be changed between runs.

    Raises
    ------
    UnknownMethodError
        If there is no such method.
    UnknownOptionError
        If the method has no such option.
    ArgumentError
        If an argument has a value that is not allowed.
    ArgumentTypeError
        If an argument has a wrong type, or a keyword does not exist.
    ParameterError
        If the parameters cannot be minimised over: another dtype, no leaf tensors, shared memory.

    Notes
    -----
    The closure is called several times, more than once at the start. Each call needs the same data: do not take a batch
    from an iterator inside. A parameter that no gradient has reached in any call stays where it is.

    A loss that is NaN or infinite needs no gradient: the trial is rejected. A method with gradients also rejects a
    trial whose loss is a finite constant, with one ClosureWarning a run; at the start such a loss is an error.

    A run that SciPy ends with success leaves SciPy's x in the parameters. Every other run leaves the best point seen,
    also if SciPy ended it, for example after a failed line search; ``result.scipy_x`` is then where SciPy ended. The
    best point is inside the bounds. If a point violates the constraints by no more than 1e-6, the best point does so
    too.

    With bounds or constraints, and a gradient, ``result.kkt_residual`` has three numbers that say how far the end is
    from a solution: the largest part of the gradient that no multipliers explain, relative to the largest entry of the
    gradient there or at the start; the largest product of a multiplier and the distance to its bound or constraint,
    relative to the loss; and the constraint violation. A success with the first above 1e-2, the second above 5e-5 (3e-4
    in float32) or the third above 1e-6 gives a ConvergenceWarning. A success at the start, where the loss can still
    fall, gives a StartWarning.

    With constraints, ``result.multipliers`` has one array v for each, with ∇f + Σ Jᵀv = 0 where no bound is active. It
    is None if SciPy gives none.

    References
    ----------
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.minimize.html

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> optimizer = MinimizeWrapper([x], "trust-ncg")
    >>> loss = optimizer.step(lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    >>> optimizer.result.success, optimizer.result.x.round(4)
    (True, array([1., 1.]))
    >>> round(optimizer.history[0].loss, 3), optimizer.history[-1].loss < 1e-9
    (24.2, True)
    """

    supports_warm_start = True
    _minimizer_args: Mapping[str, Any] = MappingProxyType({})  # of a pickle that an earlier version wrote
    _loss_scale: float | str = 1.0  # of a pickle that an earlier version wrote
    _unnamed: dict[str, Any] | None = None

    @shows_keywords(COMMON)
    def __init__(
        self,
        params: Any,
        minimizer_args: Mapping[str, Any] | MethodName | str | Callable[..., Any] | None = None,
        *,
        curvature: Curvature = "autograd",
        hessian_chunk: int | None = None,
        loss_scale: LossScale = 1.0,
        engine: EngineName | None = None,
        solver_dtype: torch.dtype | None = None,
        keep_states: int | None = None,
        **common: Unpack[Common],
    ):
        self.request: Request
        self._requested_engine = read_engine(engine)
        self._minimizer_args = as_mapping(minimizer_args)
        self._unnamed = without_method(minimizer_args)
        if self._unnamed is None:
            self._take(read_request(minimizer_args))
        super().__init__(params, **common)
        self._require_arrays(self._flat().n)
        self._curvature = one_of("curvature", curvature, get_args(Curvature))
        self._hessian_chunk = positive("hessian_chunk", hessian_chunk, Integral)
        self._loss_scale = read_loss_scale(loss_scale)
        self._read_device(solver_dtype, keep_states)

    @property
    def engine(self) -> str:
        """The engine that runs the method, "scipy" or "torch"."""
        return self._engine_of(self.request)

    def _engine_of(self, request: Request) -> str:
        return choose_engine(request.spec, self._requested_engine, scipy_only_argument(request), METHODS.values())

    def _groups_changed(self) -> None:
        """Without a method, choose one that accepts the bounds of the groups."""
        if self._unnamed is not None:
            bounded = any(group.get("bounds") is not None for group in self.param_groups if _moves(group))
            self._take(read_request(self._unnamed, bounded=bounded))

    def _take(self, request: Request) -> None:
        self._engine_of(request)
        self.request, self.name = request, _method_name(request)

    @property
    def _options(self) -> Mapping[str, Any]:
        return self.request.options

    def covariance(self, closure: Closure | None = None, *, scale: float = 1.0) -> Covariance:
        """The covariance of the parameters, scale · H⁻¹, where H is the Hessian of the loss.

        Parameters
        ----------
        closure : callable or None, optional
            Its Hessian is computed by autograd at the parameters' present values; no count includes the call. None
            takes ``result.hess_inv`` of the last run instead, which should not be reported: BFGS and L-BFGS-B only
            approximate H⁻¹ from the steps they took, and poorly after few iterations. A run that converges ends before
            its last step has updated it.
        scale : float, optional
            1 if the loss is a negative log-likelihood; 1/m if it is the mean of m such terms; s², the residual
            variance, for half a sum of squares; 2s²/m for a mean squared error. Default 1.

        Returns
        -------
        Covariance
            Matrix of shape (n, n), float64, with standard errors by parameter name.

        Raises
        ------
        ArgumentError
            If there is neither a closure nor a ``hess_inv`` of the last run.
        NotAMinimumError
            If H has a negative eigenvalue.

        Warns
        -----
        CovarianceWarning
            If H is singular, or a parameter lies on a bound.

        Examples
        --------
        >>> x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        >>> optimizer = MinimizeWrapper([x], "BFGS")
        >>> closure = lambda: 0.5 * (x[0] - 1) ** 2 + 2.0 * (x[1] + 1) ** 2
        >>> loss = optimizer.step(closure)
        >>> optimizer.covariance(closure).matrix
        array([[1.  , 0.  ],
               [0.  , 0.25]])
        """
        flat, bounds = self._flat(), self._bounds(self._flat())

        def covariance() -> Covariance:
            return loss_covariance(
                closure,
                self.result,
                flat,
                self.param_groups,
                bounds=bounds,
                scale=scale,
                curvature=self._curvature,
                x_scale=self._variables(flat, bounds).scale,
            )

        return replace(on_every_rank(closure, flat, "covariance", covariance), parameters=tuple(flat.tensors))

    def _prepare(self, closure: Closure) -> tuple[Engine, Callable[[], object]]:
        spec, on_device = self.request.spec, self.engine == "torch"
        flat = self._flat()
        require_memory(spec, flat.n, self._memory_budget, on_device=on_device)
        self._require_arrays(flat.n)
        variables = self._variables(flat, self._bounds(flat))
        resume_from = self._begin_states()
        if on_device and resume_from is not None and self._can_resume(resume_from, variables):
            return self._prepare_on_device(closure, flat, variables, self.request, resume_from)
        request = self.request
        if resume_from is not None and resume_from.method != self.name:
            request = with_warm_start(request, resume_from)
        elif self._loaded is not None:
            history, result = self._loaded
            plain = variables.plain and history.n_parameters in (None, flat.n)
            request = continued(request, history, result, plain=plain)
        if on_device:
            return self._prepare_on_device(closure, flat, variables, request)
        calls = self._closure_calls(closure, flat, self._new_check(closure, flat, variables))
        constraints = ConstraintSet(request.constraints, calls, variables)
        recorder = Recorder(
            calls,
            self._new_history(flat, request.options),
            self.callbacks,
            initial_radius=request.initial_radius,
        )
        objective = Objective(
            calls,
            Derivatives(
                level=request.level,
                nonfinite=spec.nonfinite,
                gradient=request.jac if callable(request.jac) else None,
                curvature=self._curvature,
                shift=spec.shift,
                scale=variables.scale,
                chunk=self._hessian_chunk,
            ),
            recorder,
            violation=constraints.violation if constraints or variables.box is not None else None,
            bounds=variables.box,
            constrained=bool(request.constraints),
            trials=Trials(may_be_older=spec.gradient == "none"),
        )
        if spec.gradient != "none":
            variables.unreached = objective.unreached
            if objective.violation is not None:
                recorder.residual = IterateResidual(objective, variables, constraints)
        iterates = ScipyIterates(
            objective,
            recorder,
            radius=PROBES[spec.radius],
            max_iterations=request.max_iterations,
            skip_first=spec.first_callback_is_start,
            callback_at=spec.callback_at,
            counted_at_start=spec.counted_at_start,
            user=request.callback and ScipyCallback(request.callback),
            kept=self.states,
        )
        engine = ScipyEngine(
            objective,
            recorder,
            variables.to_user(variables.start),
            iterates=iterates,
            threads=self._threads(flat.n),
            disp=request.disp,
            check=self._ending_check(objective, variables, constraints) if spec.gradient != "none" else None,
            zero=spec.zero,
        )
        return engine, lambda: self._call_scipy(request, objective, iterates, variables, constraints)

    def _prepare_on_device(
        self,
        closure: Closure,
        flat: FlatParameters,
        variables: Variables,
        request: Request,
        resume_from: Saved | None = None,
    ) -> tuple[TorchEngine, Callable[[], object]]:
        """The same for a solver on the device. resume_from: the state at which it begins."""
        spec, device = request.spec, flat.tensors[0].device
        calls = self._closure_calls(closure, flat, self._new_check(closure, flat, variables))
        recorder = Recorder(
            calls, self._new_history(flat, request.options), self.callbacks, initial_radius=request.initial_radius
        )
        derivatives = Derivatives(
            level=request.level, nonfinite=spec.nonfinite, curvature=self._curvature, chunk=self._hessian_chunk
        )
        dtype = self._solver_dtype or flat.widest
        if variables.plain:  # one array as short as the parameters: SciPy, which writes to its start, is not called
            narrow = np.float32 if flat.widest == torch.float32 else np.float64
            variables.start = variables.base = variables.base.astype(narrow, copy=False)
        constraints = ConstraintSet((), calls, variables)
        objective = DeviceObjective(
            calls,
            derivatives,
            DeviceVariables(variables, dtype, device),
            recorder,
            violation=None if variables.box is None else constraints.violation,
        )
        state = None if resume_from is None else resume_from.state.copy()
        run = TorchRun(
            make_solver(spec, request.options, tol=request.tol, taken=resume_from),
            objective,
            recorder,
            variables,
            self.states,
            state=state,
            loss_scale=self._loss_scale if resume_from is None else resume_from.loss_scale,
            user=request.callback and ScipyCallback(request.callback),
            max_iterations=request.max_iterations,
        )
        engine = TorchEngine(
            objective,
            recorder,
            variables.to_user(variables.start),
            disp=request.disp,
            check=self._ending_check(objective, variables, constraints),
            zero=spec.zero,
        )

        return engine, self._saving_state(run, objective)

    def _changed(self, method: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """minimizer_args with another method, or other options."""
        arguments = {**self._minimizer_args, "bounds": self.request.bounds}
        if method is not None:
            arguments.update({"options": None, **as_mapping(method)})
        arguments["options"] = {**(arguments.get("options") or {}), **options}
        return {**arguments, "method": arguments.get("method") or self.request.spec.name}

    def _take_arguments(self, arguments: Mapping[str, Any]) -> None:
        self._minimizer_args, self._unnamed = arguments, None
        self._take(read_request(arguments))
        self._require_arrays(self._flat().n)

    def _ending_check(
        self, objective: Objective | DeviceObjective, variables: Variables, constraints: ConstraintSet
    ) -> EndingCheck:
        request, needs = self.request, "constraints" if constraints else "bounds"
        return EndingCheck(
            self.name,
            objective,
            variables,
            constraints.linearised,
            tolerances_in_words(request.spec.options, request.scipy_options(objective.flat.eps), request.tol),
            objective.violation,
            [other.name for other in METHODS.values() if other.gradient != "none" and getattr(other, needs)],
            goes_on=self._goes_on,
        )

    def _require_arrays(self, n: int) -> None:
        require_arrays(self.name, self.request.spec.options.values(), self.request.options, n)

    def _bounds(self, flat: FlatParameters) -> Bounds | None:
        """The bounds of minimizer_args or of the param groups, if the method accepts bounds."""
        of_groups = super()._bounds(flat)
        of_request = read_bounds(self.request.bounds, flat.n)
        if of_groups is not None:
            require_fit(self.request.spec, "bounds")
            if of_request is not None:
                raise ArgumentError("bounds were passed in minimizer_args and in param groups; pass them in one place")
        return of_groups if of_request is None else of_request

    def _call_scipy(
        self,
        request: Request,
        objective: Objective,
        iterates: ScipyIterates,
        variables: Variables,
        constraints: ConstraintSet,
    ) -> object:
        if not variables.n:
            return _fixed(objective, constraints, variables.base)
        variables.loss_scale = objective.loss_scale = self._scale_of_loss(objective, variables)
        form = request.spec.constraint_form
        seen = objective_of(request.spec.callback_at, objective, variables, iterates)

        def callback(z: NDArray[np.float64], *state: OptimizeResult) -> bool:
            return iterates.callback(variables.to_user(z), *map(variables.user_result, state))

        result = scipy.optimize.minimize(
            seen.value,
            variables.start,
            method=shielded(request.method),
            bounds=variables.bounds,
            constraints=constraints.for_scipy(form, curvature=request.spec.curvature != "none") if constraints else (),
            tol=request.tol,
            callback=callback,
            options=variables.solver_options(request.scipy_options(objective.flat.eps), request.spec.options),
            **self._derivatives(seen),
        )
        if not isinstance(result, OptimizeResult):
            return result
        if constraints:
            result["multipliers"] = constraints.multipliers(result, form)
        converted = variables.user_result(result)
        if isinstance(result.x, np.ndarray) and result.x.shape == variables.start.shape:
            converted.x = variables.to_user(result.x)
        iterates.ended(converted.x, int(converted.get("nit") or 0))
        end = objective.cached_point(converted.x)
        variables.fill_fixed(converted, None if end is None else end.gradient)
        if not variables.plain:  # SciPy's value is in the solver's variables
            converted.update({name: constraints.violation(converted.x) for name in VIOLATIONS if name in converted})
        return converted

    def _scale_of_loss(self, objective: Objective, variables: Variables) -> float:
        if self._loss_scale == "auto":
            return objective.typical_loss(variables.to_user(variables.start), variables.gradient_to_solver)
        return float(self._loss_scale)

    def _derivatives(self, objective: SolverObjective) -> dict[str, Any]:
        """jac, hess and hessp for this method: the user's, else autograd's."""
        request, spec = self.request, self.request.spec
        derivatives: dict[str, Any] = {
            "hess": objective.user_hess(request.hess) if callable(request.hess) else request.hess,
            "hessp": None if request.hessp is None else objective.user_hessp(request.hessp),
        }
        if spec.gradient != "none":
            own = callable(request.jac) or request.autograd_gradient
            derivatives["jac"] = objective.gradient if own else request.jac or None
        if request.hess is None and request.hessp is None:
            lazily = spec.custom and spec.gradient != "none"
            if spec.curvature == "dense" or lazily:
                derivatives["hess"] = objective.hessian
            if spec.curvature == "hvp" or lazily:
                derivatives["hessp"] = objective.hvp
        return {name: value for name, value in derivatives.items() if value is not None}

    def _new_check(self, closure: Closure, flat: FlatParameters, variables: Variables) -> StartCheck | None:
        curvature = self.request.level == "curvature" and self._curvature == "autograd"
        return self._new_start_check(
            closure,
            flat,
            variables,
            gradient=self.request.level != "value",
            curvature=curvature,
            measure=self.request.spec.dense,
            constrained=bool(self.request.constraints),
        )

    def _threads(self, n: int) -> int | None:
        if self._blas_threads != "auto":
            return self._blas_threads  # type: ignore[return-value]
        return None if self.request.spec.dense and n >= LARGE_DENSE else 1


def _fixed(objective: Objective, constraints: ConstraintSet, x: NDArray[np.float64]) -> OptimizeResult:
    """The result if all variables are fixed."""
    feasible = constraints.violation(x) <= FEASIBLE
    message = "All variables are fixed." if feasible else "All variables are fixed, and violate the constraints."
    fun, point = objective.value(x), objective.cached_point(x)
    gradient = {} if point is None or point.gradient is None else {"jac": point.gradient}
    return OptimizeResult(x=x, fun=fun, success=feasible, status=0 if feasible else 1, message=message, **gradient)


def _moves(group: Mapping[str, Any]) -> bool:
    """Whether a param group has a parameter that is optimised."""
    return any(tensor.requires_grad for tensor in group["params"])


def _method_name(request: Request) -> str:
    named = isinstance(request.method, str) or request.spec.solver is not None
    return request.spec.name if named else getattr(request.method, "__name__", "custom")
