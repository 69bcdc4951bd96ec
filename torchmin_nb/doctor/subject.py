"""What is examined: the loss, the point where the run stood, the method, and the record of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds
from torch.autograd.function import once_differentiable

from ..core.autodiff.closure import Closure, require_closure
from ..core.batches.full_batch import FullBatch
from ..core.covariance.names import parameter_names
from ..core.execution.run import Run
from ..core.history.history import History
from ..core.methods.least_squares import LEAST_SQUARES_METHODS
from ..core.methods.local import METHODS, MethodSpec
from ..core.methods.row import MethodRow
from ..core.objective.robust_loss import Cost
from ..core.optimizers.base import ScipyOptimizer
from ..core.optimizers.least_squares import LeastSquaresWrapper
from ..core.optimizers.minimize import MinimizeWrapper
from ..core.parameters.bounds import group_bounds, group_scale, read_bounds
from ..core.parameters.flat import FlatParameters, trainable
from ..core.parameters.variables import Variables

__all__ = ["Subject", "subject_of"]

_GROUP_KEYS = ("params", "param_names", "bounds", "scale")


@dataclass(frozen=True, eq=False)
class Subject:
    """A loss at the point x (n,) where a run stood, with what is known of the run.

    closure: returns the loss. given: the user's closure, which returns residuals if `residuals`. groups: param groups,
    with bounds and scales. names: one for each tensor. variables: the solver's variables at x. history: empty without a
    run. end: SciPy's result, or {}. exception: what ended the run. under_way: paused, not ended. spec: the row of the
    method; None for optimizers of torch. arguments: minimizer_args. jac, products: functions of x (and v) that the user
    gave in place of autograd's. loss_scale: what the method's losses are divided by. start_loss: at the start of the
    first run, if this one goes on from others.
    """

    closure: Closure
    given: Closure
    groups: Sequence[Mapping[str, Any]]
    flat: FlatParameters
    names: Sequence[str]
    x: NDArray[np.float64]
    variables: Variables
    history: History
    end: Mapping[str, Any]
    exception: BaseException | None = None
    inner: torch.optim.Optimizer | None = None
    under_way: bool = False
    spec: MethodRow | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "scipy"
    constraints: tuple[Any, ...] = ()
    residuals: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    run: Run | None = None
    callbacks: Sequence[Any] = ()
    jac: Callable[..., Any] | None = None
    products: Callable[[NDArray[np.float64], NDArray[np.float64]], Any] | None = None
    loss_scale: float = 1.0
    start_loss: float | None = None

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.history.method

    @property
    def curved(self) -> bool:
        """Whether the method uses second derivatives of the loss."""
        return isinstance(self.spec, MethodSpec) and self.spec.curvature != "none"

    @property
    def gradient_free(self) -> bool:
        """Whether the method sees losses only."""
        return isinstance(self.spec, MethodSpec) and self.spec.gradient == "none"

    @property
    def single(self) -> bool:
        """Whether a parameter is float32."""
        return self.flat.eps > float(np.finfo(np.float64).eps)

    @property
    def bounded(self) -> bool:
        """Whether the solver's variables have bounds."""
        return self.variables.bounds is not None

    @property
    def spent(self) -> int:
        """Closure calls and products of the run."""
        totals, last = self.history.totals, self.history[-1] if len(self.history) else None
        counted = totals or last
        return 0 if counted is None else counted.nfev + counted.nhvp

    def option(self, name: str) -> Any:
        """The value of an option, or its default; None if the method has none of this name."""
        if name in self.options:
            return self.options[name]
        return self.spec.options[name].default if self.spec is not None and name in self.spec.options else None

    def owners(self) -> NDArray[np.intp]:
        """The index of the tensor of each of the solver's variables."""
        sizes = [tensor.numel() for tensor in self.flat.tensors]
        owner = np.repeat(np.arange(len(sizes)), sizes)
        return owner if self.variables.free is None else owner[self.variables.free]

    def views(self, x: NDArray[np.float64]) -> list[torch.Tensor]:
        """The pieces of a point x (n,), with the shapes of the parameters; writing into them changes x."""
        sizes = [tensor.numel() for tensor in self.flat.tensors]
        pieces = torch.from_numpy(x).split(sizes)
        return [piece.view(tensor.shape) for piece, tensor in zip(pieces, self.flat.tensors, strict=True)]

    def entry_names(self) -> list[str]:
        """A name for each of the solver's variables: "weight[3]", or "rate" for a tensor of one entry."""
        names = []
        for name, tensor in zip(self.names, self.flat.tensors, strict=True):
            shown = f"parameter {name}" if name.isdigit() else name
            indices = np.ndindex(*tensor.shape) if tensor.dim() else [()]
            names += [f"{shown}{list(index)}" if tensor.numel() > 1 else shown for index in indices]
        free = self.variables.free
        return names if free is None else [name for name, kept in zip(names, free, strict=True) if kept]

    def tensor_name(self, index: int) -> str:
        """Name of a tensor, in words."""
        name = self.names[index]
        return f"parameter {name}" if name.isdigit() else name


def subject_of(optimizer: Any, closure: Closure, run: Run | None) -> Subject:
    """The subject of an optimizer, or of what `observe` runs, with its closure. The parameters are not changed."""
    closure = require_closure(closure)
    inner = getattr(optimizer, "torch_optimizer", optimizer)
    groups = [{key: group[key] for key in _GROUP_KEYS if key in group} for group in inner.param_groups]
    flat = FlatParameters(trainable(groups))
    history = run.history if run is not None else optimizer.history
    result = run.result if run is not None else optimizer.result
    under_way = run is not None and run.state in ("pending", "running", "paused")
    x = _where(optimizer, flat, under_way=under_way)
    residuals = isinstance(optimizer, LeastSquaresWrapper)
    request = optimizer.request if isinstance(optimizer, MinimizeWrapper | LeastSquaresWrapper) else None
    bounds = group_bounds(groups, flat.tensors)
    if bounds is None and request is not None:
        bounds = _bounds_of(request.bounds, flat.n)
    known = {**METHODS, **LEAST_SQUARES_METHODS}
    own = isinstance(optimizer, ScipyOptimizer)
    return Subject(
        closure=_loss_of(closure, optimizer._cost()) if isinstance(optimizer, LeastSquaresWrapper) else closure,
        given=closure,
        groups=groups,
        flat=flat,
        names=parameter_names(groups),
        x=x,
        variables=Variables(x, group_scale(groups, flat.tensors), bounds),
        history=history,
        end=result or {},
        exception=run.exception if run is not None else None,
        inner=None if own else inner,
        under_way=under_way,
        spec=request.spec if request is not None else known.get(history.method) if own else None,
        options=dict(request.options) if request is not None else dict(getattr(inner, "defaults", {})),
        arguments=_arguments(request),
        engine=getattr(optimizer, "engine", "torch" if not own else "scipy"),
        constraints=tuple(getattr(request, "constraints", ())),
        residuals=residuals,
        limits=_limits(optimizer, run),
        run=run,
        callbacks=list(getattr(optimizer, "callbacks", ())),
        jac=jac if callable(jac := getattr(request, "jac", None)) else None,
        products=_products(request),
        loss_scale=_loss_scale(optimizer),
        start_loss=_start_loss(run),
    )


def _products(request: Any) -> Callable[[NDArray[np.float64], NDArray[np.float64]], Any] | None:
    """The user's products with the Hessian, from `hessp` or `hess`."""
    hess, hessp = getattr(request, "hess", None), getattr(request, "hessp", None)
    if callable(hessp):
        return lambda x, v: np.asarray(hessp(x, v), dtype=np.float64).ravel()
    if callable(hess):
        return lambda x, v: np.asarray(hess(x) @ v, dtype=np.float64).ravel()
    return None


def _loss_scale(optimizer: Any) -> float:
    """NaN if the run chose it."""
    scale = getattr(optimizer, "_loss_scale", 1.0)
    return float(scale) if isinstance(scale, int | float) else math.nan


def _start_loss(run: Run | None) -> float | None:
    """The first loss of the run from which this one goes on, or of that one's; None if it goes on from none."""
    losses = []
    while run is not None and run.origin is not None:
        run = run.origin
        losses += [float(run.history.loss[0])] if len(run.history) else []
    return max((loss for loss in losses if math.isfinite(loss)), default=None)


def _where(optimizer: Any, flat: FlatParameters, *, under_way: bool) -> NDArray[np.float64]:
    """The best point of a run that is paused; else the present values of the parameters."""
    best = optimizer.best_point() if under_way and hasattr(optimizer, "best_point") else None
    return flat.read() if best is None else flat.gather(best[0])


def _bounds_of(given: Any, n: int) -> Bounds | None:
    if isinstance(given, tuple) and len(given) == 2 and n != 2:  # least squares: (low, high)
        low, high = (np.broadcast_to(np.asarray(side, dtype=np.float64), (n,)).copy() for side in given)
        return Bounds(low, high)
    return read_bounds(given, n)


def _arguments(request: Any) -> dict[str, Any]:
    """What of minimizer_args stays if the method changes."""
    kept = {name: getattr(request, name, None) for name in ("bounds", "constraints", "tol")}
    return {name: value for name, value in kept.items() if value is not None and value != ()}


def _limits(optimizer: Any, run: Run | None) -> dict[str, float]:
    if run is not None:
        return run.limits
    budgets = getattr(optimizer, "_budgets", {})
    return {name: budgets[name] for name in ("max_seconds", "max_evaluations") if budgets.get(name) is not None}


def _loss_of(residuals: Closure, cost: Cost) -> Closure:
    """The cost that the run of `LeastSquaresWrapper` minimises, also of a robust loss."""

    def cost_of(values: Any) -> Any:
        return values.square().sum() / 2 if cost.linear else _RobustCost.apply(values, cost)

    if isinstance(residuals, FullBatch):
        return residuals.mapped(cost_of)
    call: Callable[[], Any] = residuals
    return lambda: cost_of(call())


class _RobustCost(torch.autograd.Function):
    """A cost with its first derivatives; second ones are taken from differences of these."""

    @staticmethod
    def forward(ctx: Any, residuals: torch.Tensor, cost: Cost) -> torch.Tensor:
        ctx.save_for_backward(residuals)
        ctx.cost = cost
        return residuals.new_tensor(cost.of(residuals.detach().ravel()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, None]:
        (residuals,) = ctx.saved_tensors
        return slope * ctx.cost.slope(residuals.ravel()).reshape(residuals.shape), None
