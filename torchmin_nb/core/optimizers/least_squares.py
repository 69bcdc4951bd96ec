"""LeastSquaresWrapper: the only caller of `scipy.optimize.least_squares`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, Unpack, get_args

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds

from ...errors import ArgumentError
from ..autodiff.closure import Closure, require_closure
from ..autodiff.closure_check import ClosureReport
from ..autodiff.side_effects import restored_afterwards
from ..batches.full_batch import FullBatch
from ..covariance.covariance import Covariance
from ..covariance.inverse import covariance_of_residuals
from ..covariance.names import named_values, warn_of_bounds
from ..execution.engine import Engine
from ..execution.optimality import EndingCheck, IterateResidual, tolerances_in_words
from ..execution.recorder import Recorder
from ..execution.scipy_engine import ScipyEngine
from ..execution.scipy_iterates import ScipyCallback, ScipyIterates
from ..execution.torch_engine import TorchEngine, TorchRun
from ..execution.trust_region import PROBES
from ..methods.least_squares import LARGE_JACOBIAN, LEAST_SQUARES_METHODS, LeastSquaresMethod
from ..objective.calls import Calls
from ..objective.device_residuals import DeviceResiduals
from ..objective.residual_evaluator import CostOfResiduals, HalfSquare, ResidualEvaluator, as_residuals
from ..objective.residuals import CompressedResiduals, ResidualObjective, ResidualPoint
from ..objective.robust_loss import Cost
from ..objective.scaled_residuals import SolverResiduals, least_squares_callback
from ..parameters.bounds import SMALLEST_SCALE, outside
from ..parameters.device_variables import DeviceVariables
from ..parameters.flat import FlatParameters
from ..parameters.variables import Variables
from ..runtime.blas_threads import LARGE_DENSE
from ..runtime.control import Abort, Control
from ..runtime.user_function import shielded
from ..signatures import shares_parameters, shows_keywords
from ..validation import one_of, shown
from .arguments import read_loss_scale
from .common import COMMON, Common, LossScale
from .device_optimizer import DeviceOptimizer
from .device_run import EngineName, Saved, choose_engine, make_solver, read_engine, scipy_only_option
from .least_squares_request import LeastSquaresRequest, read_least_squares, read_least_squares_bounds
from .several_processes import on_every_rank

__all__ = ["LeastSquaresWrapper"]

Jacobian = Literal["auto", "dense", "operator"]


@shares_parameters(DeviceOptimizer, Common)
class LeastSquaresWrapper(DeviceOptimizer):
    """`scipy.optimize.least_squares` as a `torch.optim.Optimizer`: minimises ½ Σ ρ(fᵢ²) over residuals f.

    The closure returns the residuals, a tensor of any shape with m elements; ``backward()`` is not needed. It is called
    several times, up to three times more at the start (see `start_check`), and needs the same data each time.
    ``step(closure)`` returns the final cost. One step of the method uses all residuals and their Jacobian. On fits,
    such a step is worth many steps of a method that sees only the sum of squares.

    Parameters
    ----------
    params : iterable of torch.Tensor, of (str, torch.Tensor) or of dict
        Tensors, named parameters or param groups, as for `MinimizeWrapper`. A group may have ``bounds=(low, high)`` and
        ``scale=``.
    least_squares_args : dict or str, optional
        What `scipy.optimize.least_squares` takes besides `fun`, `x0` and `jac`, under the same names: `method`,
        `bounds`, `ftol`, `xtol`, `gtol`, `x_scale`, `loss`, `f_scale`, `max_nfev`, `tr_solver`, `tr_options`,
        `verbose`, `callback`. Or only the name of the method: "trf", "dogbox", "lm" or "gauss-newton". The dict is not
        changed. Default "trf".
    jacobian : {"auto", "dense", "operator"}, optional
        "dense": an array of shape (m, n), computed in batches. "operator": only products with it, for problems whose
        Jacobian would not fit in memory; for trf and dogbox, with ``tr_solver="lsmr"``. "auto", the default: dense if
        it fits the memory budget and is not very large.
    loss_scale : float or "auto", optional
        SciPy sees cost/loss_scale, as for `MinimizeWrapper`. Default 1.
    engine : {"scipy", "torch", "auto"} or None, optional
        What runs the method, as for `MinimizeWrapper`. With "torch" there are "lm", damped by its gain ratio, and
        "gauss-newton", whose steps have minimum norm. Neither takes bounds or robust losses.
    {shared}

    Attributes
    ----------
    result : Result or None
        SciPy's OptimizeResult of the last run. ``fun`` and ``cost`` are the final cost, a number, as in every other
        result. ``residuals``, shape (m,), is what SciPy calls ``fun``. ``jac``, shape (m, n), is scaled by the robust
        loss as in SciPy; it is missing with an operator, and if torchmin_nb ended the run. ``grad`` has shape (n,).
        ``nit`` counts accepted points. With an operator, ``nhvp`` counts products with J and Jᵀ.
    history : History
        The accepted points of the last run. ``loss`` is the cost, the gradient is Jᵀρ'f.
    name : str
        Name of the method.
    engine : str
        "scipy" or "torch".

    Raises
    ------
    UnknownMethodError
        If there is no such method.
    UnknownOptionError
        If the method has no such option.
    ArgumentError
        If an argument has a value that is not allowed. From `step`: if lm has fewer residuals than parameters.
    ArgumentTypeError
        If an argument has a wrong type, or a keyword does not exist.
    ParameterError
        If the parameters cannot be minimised over.

    References
    ----------
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.least_squares.html

    trf: M. A. Branch, T. F. Coleman, Y. Li, "A subspace, interior, and conjugate gradient method for large-scale
    bound-constrained minimization problems", SIAM J. Sci. Comput. 21 (1999).

    dogbox: C. Voglis, I. E. Lagaris, "A rectangular trust region dogleg approach for unconstrained and bound
    constrained nonlinear optimization" (2004).

    lm: J. J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory" (1978).

    Examples
    --------
    >>> b = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> optimizer = LeastSquaresWrapper([b], "lm")
    >>> cost = optimizer.step(lambda: torch.stack([1 - b[0], 10 * (b[1] - b[0] ** 2)]))
    >>> optimizer.result.x.round(6)
    array([1., 1.])
    >>> optimizer.result.jac.shape
    (2, 2)
    """

    @shows_keywords(COMMON)
    def __init__(
        self,
        params: Any,
        least_squares_args: Mapping[str, Any] | LeastSquaresMethod | str = "trf",
        *,
        jacobian: Jacobian = "auto",
        loss_scale: LossScale = 1.0,
        engine: EngineName | None = None,
        solver_dtype: torch.dtype | None = None,
        keep_states: int | None = None,
        **common: Unpack[Common],
    ):
        self._requested_engine = read_engine(engine)
        self.request: LeastSquaresRequest = read_least_squares(least_squares_args)
        self._jacobian = one_of("jacobian", jacobian, get_args(Jacobian))
        self._loss_scale = read_loss_scale(loss_scale)
        self._read_device(solver_dtype, keep_states)
        self._take_arguments(least_squares_args)
        super().__init__(params, **common)
        _read_scale(self.request.options.get("x_scale"), self._flat().n)

    @property
    def _options(self) -> Mapping[str, Any]:
        return self.request.options

    @property
    def supports_warm_start(self) -> bool:  # type: ignore[override]
        """Whether a loaded run continues with the memory of the method: with ``engine="torch"`` only."""
        return self.engine == "torch"

    @property
    def engine(self) -> str:
        """The engine that runs the method, "scipy" or "torch"."""
        against = scipy_only_option(self.request.spec, self.request.options)
        against = against or ("jacobian='operator'" if self._jacobian == "operator" else "")
        return choose_engine(self.request.spec, self._requested_engine, against, LEAST_SQUARES_METHODS.values())

    def _changed(self, method: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """least_squares_args with another method, or other options."""
        if method is None:
            return {**self._arguments, **options}
        kept = {name: self._arguments[name] for name in ("bounds", "callback") if name in self._arguments}
        return {**kept, **({"method": method} if isinstance(method, str) else method), **options}

    def _take_arguments(self, arguments: Mapping[str, Any] | str) -> None:
        self.request = read_least_squares(arguments)
        self._arguments = {"method": arguments} if isinstance(arguments, str) else dict(arguments)
        self.name = self.request.spec.name
        if self.engine == "scipy":
            _require_solver(self.request, self._jacobian)

    def check(self, closure: Closure) -> ClosureReport:
        """Check the closure's half sum of squares without a run.

        Parameters
        ----------
        closure : callable
            Returns the residuals, a tensor of any shape.

        Returns
        -------
        ClosureReport
            What was found, as from ``MinimizeWrapper.check``.

        Raises
        ------
        ArgumentTypeError
            If the closure is not callable.
        ClosureError
            If the closure returns something that is no residuals.
        """
        closure = require_closure(closure)
        if isinstance(closure, FullBatch):
            return super().check(closure.mapped(_half_square))
        return super().check(lambda: _half_square(closure()))

    def covariance(self, closure: Closure | None = None, *, absolute_sigma: bool = False) -> Covariance:
        """The covariance of the parameters, s² (JᵀJ)⁻¹ with s² = 2·cost/(m − n).

        Parameters
        ----------
        closure : callable or None, optional
            Returns the residuals. It is called at the parameters' present values; no count includes the call. None
            takes the Jacobian of the last run's result.
        absolute_sigma : bool, optional
            True if the residuals are divided by known standard deviations; s² is then 1. Default False.

        Returns
        -------
        Covariance
            Matrix of shape (n, n), float64, with standard errors by parameter name.

        Raises
        ------
        ArgumentError
            If the last run has left no Jacobian, or if m ≤ n without `absolute_sigma`.

        Warns
        -----
        CovarianceWarning
            If the data do not determine all parameters. Also if a parameter lies on a bound: its error is not normally
            distributed there.

        Examples
        --------
        >>> t = torch.arange(6, dtype=torch.float64)
        >>> y = 2 * t + 1 + torch.tensor([0.1, -0.1, 0.1, -0.1, 0.1, -0.1])
        >>> line = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        >>> optimizer = LeastSquaresWrapper([("line", line)], "lm")
        >>> cost = optimizer.step(lambda: line[0] * t + line[1] - y)
        >>> optimizer.covariance().standard_errors()["line"].round(decimals=3)
        tensor([0.0280, 0.0850], dtype=torch.float64)
        """
        flat, bounds = self._flat(), self._bounds(self._flat())

        def covariance() -> Covariance:
            jacobian, m, cost = self._jacobian_now(closure, flat) if closure else self._jacobian_then(flat.n)
            values = named_values(self.param_groups, flat.tensors)
            warn_of_bounds(flat.read(), bounds, values)
            free = None if bounds is None else bounds.lb < bounds.ub
            return covariance_of_residuals(
                jacobian, m, cost, values, absolute_sigma=absolute_sigma, eps=flat.eps, free=free
            )

        found = on_every_rank(closure, flat, "covariance", covariance)
        return replace(found, parameters=tuple(flat.tensors))

    def _jacobian_then(self, n: int) -> tuple[NDArray[np.float64], int, float]:
        if self.result is None or "cost" not in self.result or np.shape(self.result.get("jac"))[1:] != (n,):
            raise ArgumentError(
                f"there is no Jacobian of a last run for the {n} parameters (there was no run, it was stopped, it used "
                "an operator, or it had other parameters); pass the closure: covariance(closure)"
            )
        return self.result.jac, len(self.result.jac), float(self.result.cost)

    def _jacobian_now(self, closure: Closure, flat: FlatParameters) -> tuple[NDArray[np.float64], int, float]:
        """J at the current parameters, scaled for a robust loss as in SciPy, or a matrix with the same JᵀJ; m; cost."""
        cost, control = self._cost(), Control()
        calls = Calls(_evaluator_of(require_closure(closure), flat, cost, control), flat, control)
        kind = CompressedResiduals if isinstance(closure, FullBatch) else ResidualObjective
        objective = kind(calls, cost, self._plan("dense"))
        try:
            with restored_afterwards(flat):
                point = objective.linearise(flat.read())
        except Abort as abort:
            raise abort.error from None
        finally:
            objective.release()
        assert point.jacobian is not None
        assert point.residuals is not None
        m = len(point.residuals)
        if objective.compressed:
            return point.jacobian, m, point.loss
        return cost.curvature(point.residuals)[:, None] * point.jacobian, m, point.loss

    def _cost(self) -> Cost:
        return Cost(self.request.options.get("loss", "linear"), self.request.options.get("f_scale") or 1.0)

    def _plan(self, jacobian: str) -> Callable[[int, int], str]:
        spec, solver = self.request.spec, self.request.options.get("tr_solver")
        return lambda m, n: spec.plan(m, n, jacobian, solver, self._memory_budget)

    def _prepare(self, closure: Closure) -> tuple[Engine, Callable[[], object]]:
        request = self.request
        flat = self._flat()
        variables = self._variables(flat, self._bounds(flat))
        resume_from = self._begin_states()
        if self.engine == "torch":
            may = resume_from is not None and self._can_resume(resume_from, variables)
            return self._prepare_on_device(closure, flat, variables, resume_from if may else None)
        cost = self._cost()
        calls = self._residual_calls(closure, _evaluator_of(closure, flat, cost, self._control()), flat, variables)
        recorder = Recorder(calls, self._new_history(flat, request.options), self.callbacks)
        kind, plan = self._objective_of(closure)
        objective = kind(calls, cost, plan, observer=recorder, bounds=variables.box)
        if variables.box is not None:
            recorder.residual = IterateResidual(objective, variables)
        iterates = ScipyIterates(
            objective,
            recorder,
            radius=PROBES[self.request.spec.radius],
            user=request.callback and ScipyCallback(least_squares_callback(request.callback, objective)),
            kept=self.states,
        )
        start = variables.to_user(variables.start)
        check = EndingCheck(
            self.name,
            objective,
            variables,
            lambda x: None,
            tolerances_in_words(request.spec.options, request.options),
            None if variables.box is None else lambda x: outside(x, variables.box),
            goes_on=self._goes_on,
        )
        engine = LeastSquaresEngine(
            objective,
            recorder,
            start,
            iterates=iterates,
            threads=self._threads(flat.n),
            check=check,
            zero=request.spec.zero,
        )
        return engine, lambda: self._call_scipy(objective, variables, iterates, start)

    def _prepare_on_device(
        self, closure: Closure, flat: FlatParameters, variables: Variables, resume_from: Saved | None
    ) -> tuple[TorchEngine, Callable[[], object]]:
        """The same for a solver on the device. resume_from: the state at which it begins."""
        request, device = self.request, flat.tensors[0].device
        evaluator = _evaluator_of(closure, flat, HalfSquare(), self._control())
        calls = self._residual_calls(closure, evaluator, flat, variables)
        recorder = Recorder(calls, self._new_history(flat, request.options), self.callbacks)
        on_device = DeviceVariables(variables, self._solver_dtype or flat.widest, device)
        residuals = DeviceResiduals(evaluator, calls, on_device, recorder)
        state = None if resume_from is None else resume_from.state.copy()
        budget = {"memory_budget": self._memory_budget} if request.spec.operator else {}
        run = TorchRun(
            make_solver(request.spec, {**request.options, **budget}, taken=resume_from),
            residuals,
            recorder,
            variables,
            self.states,
            state=state,
            loss_scale=self._loss_scale if resume_from is None else resume_from.loss_scale,
            user=request.callback and ScipyCallback(request.callback),
        )
        tolerances = tolerances_in_words(request.spec.options, request.options)
        engine = TorchEngine(
            residuals,
            recorder,
            variables.to_user(variables.start),
            check=EndingCheck(self.name, residuals, variables, _none, tolerances, None, goes_on=self._goes_on),
            zero=request.spec.zero,
        )
        return engine, self._saving_state(run, residuals)

    def _objective_of(self, closure: Closure) -> tuple[type[ResidualObjective], Callable[[int, int], str]]:
        """The class of the objective, and its plan. Batches have no whole Jacobian; robust losses need an operator."""
        if not isinstance(closure, FullBatch):
            return ResidualObjective, self._plan(self._jacobian)
        robust = self.request.options.get("loss", "linear") != "linear"
        return CompressedResiduals, self._plan("operator" if robust else self._jacobian)

    def _residual_calls(
        self, closure: Closure, evaluator: ResidualEvaluator, flat: FlatParameters, variables: Variables
    ) -> Calls:
        checked = closure if isinstance(closure, FullBatch) else evaluator.residuals
        return self._calls(evaluator, flat, self._new_start_check(checked, flat, variables, loss=evaluator.cost))

    def _bounds(self, flat: FlatParameters) -> Bounds | None:
        """The bounds of least_squares_args or of the param groups. Without bounds, a method may still fix variables."""
        of_groups = super()._bounds(flat)
        of_request = read_least_squares_bounds(self.request.spec, self.request.bounds, flat.n)
        if of_groups is not None and of_request is not None:
            raise ArgumentError("bounds were passed in least_squares_args and in param groups; pass them in one place")
        bounds = of_groups if of_request is None else of_request
        if bounds is not None and not self.request.spec.bounds and _bounded(bounds):
            raise ArgumentError(f"{self.request.spec.name} cannot take bounds; methods that can: trf, dogbox")
        return bounds

    def _call_scipy(
        self, objective: ResidualObjective, variables: Variables, iterates: ScipyIterates, start: NDArray[np.float64]
    ) -> object:
        try:
            variables.loss_scale = self._scale_of_loss(objective, variables)
            seen = SolverResiduals(objective, variables, iterates.callback)
            if not variables.n:
                return seen.only_point(start)
            result = scipy.optimize.least_squares(
                seen.values,
                variables.start,
                jac=seen.jacobian,
                **self._scipy_arguments(variables),
            )
            return seen.user_result(result)
        finally:
            objective.release()

    def _scale_of_loss(self, objective: ResidualObjective, variables: Variables) -> float:
        if self._loss_scale == "auto":
            return objective.typical_loss(variables.to_user(variables.start), variables.gradient_to_solver)
        return float(self._loss_scale)

    def _scipy_arguments(self, variables: Variables) -> dict[str, Any]:
        arguments = {"method": self.request.spec.name, **self.request.scipy_options()}
        if arguments.get("f_scale") is None:
            arguments.pop("f_scale", None)
        else:
            arguments["f_scale"] /= math.sqrt(variables.loss_scale)
        if "loss" in arguments:
            arguments["loss"] = shielded(arguments["loss"])
        if variables.bounds is not None:
            arguments["bounds"] = (variables.bounds.lb, variables.bounds.ub)
        scale = _read_scale(arguments.pop("x_scale", None), self._flat().n)
        if scale is not None:
            arguments["x_scale"] = scale if isinstance(scale, str) else variables.to_solver(scale)
        return arguments

    def _threads(self, n: int) -> int | None:
        if self._blas_threads != "auto":
            return self._blas_threads  # type: ignore[return-value]
        dense = self._jacobian == "dense" or (self._jacobian == "auto" and n * n < LARGE_JACOBIAN)
        return None if dense and n >= LARGE_DENSE else 1


class LeastSquaresEngine(ScipyEngine):
    """An Engine whose best point has the fields of a least-squares result."""

    def _best_point(self) -> dict[str, Any]:
        best = self.objective.best
        if best is None:
            return {"x": self.start, "fun": np.nan, "cost": np.nan}
        fields: dict[str, Any] = {"x": best.x, "fun": best.loss, "cost": best.loss}
        if best.gradient is not None:
            fields["grad"] = best.gradient
        if isinstance(best, ResidualPoint):
            fields["residuals"] = best.residuals
        return fields


def _evaluator_of(closure: Closure, flat: FlatParameters, cost: CostOfResiduals, control: Control) -> ResidualEvaluator:
    """The evaluator of a closure that returns residuals."""
    if isinstance(closure, FullBatch):
        return closure.residual_evaluator(flat, control, cost)
    return ResidualEvaluator(closure, flat, cost)


def _require_solver(request: LeastSquaresRequest, jacobian: str) -> None:
    """Raise ArgumentError for options that need a dense Jacobian."""
    if jacobian != "operator":
        return
    spec, options = request.spec, request.options
    if not spec.operator:
        raise ArgumentError(f"jacobian='operator': {spec.name} needs a dense Jacobian; use trf or dogbox")
    if options.get("tr_solver") == "exact":
        raise ArgumentError(
            "jacobian='operator' needs tr_solver='lsmr', got 'exact', which factorises a dense Jacobian"
        )
    if isinstance(options.get("x_scale"), str):
        raise ArgumentError("jacobian='operator' does not allow x_scale='jac', which needs the columns; pass numbers")


def _read_scale(scale: Any, n: int) -> str | NDArray[np.float64] | None:
    """x_scale over n variables. Raises ArgumentError."""
    if scale is None or (isinstance(scale, str) and scale == "jac"):
        return scale
    try:
        scales = np.broadcast_to(np.asarray(scale, dtype=np.float64), (n,))
    except (TypeError, ValueError, OverflowError):
        scales = np.zeros(1)
    if not ((scales >= SMALLEST_SCALE) & (scales <= 1 / SMALLEST_SCALE)).all():
        raise ArgumentError(
            f"x_scale must be 'jac', a positive number or {n} positive numbers, got {shown(scale)}; the smallest is "
            f"{SMALLEST_SCALE:g}, the largest {1 / SMALLEST_SCALE:g}"
        )
    return scales


def _half_square(residuals: Any) -> torch.Tensor:
    return 0.5 * as_residuals(residuals).square().sum()


def _none(x: NDArray[np.float64]) -> None:
    """No constraints at any x."""


def _bounded(bounds: Bounds) -> bool:
    """Whether a variable is bounded but not fixed."""
    return bool(((np.isfinite(bounds.lb) | np.isfinite(bounds.ub)) & (bounds.lb < bounds.ub)).any())
