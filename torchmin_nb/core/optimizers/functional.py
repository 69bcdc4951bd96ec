"""`minimize(fun, x0)`: the optimizer for a function of a tensor, or of a dict of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Unpack

import torch
from scipy.optimize import HessianUpdateStrategy, OptimizeResult

from ...errors import ArgumentTypeError
from ..execution.result import Result
from ..methods.local import MethodName
from ..objective.constraints import Constraint, read_constraints
from ..signatures import keyword_only, shares_parameters, shows_keywords
from ..validation import known_keywords
from .common import COMMON, Common, LossScale
from .device_run import EngineName
from .minimize import Curvature, MinimizeWrapper
from .request import Differences

__all__ = ["minimize"]


@shares_parameters(MinimizeWrapper)
@shows_keywords(COMMON)
def minimize(
    fun: Callable[[Any], torch.Tensor],
    x0: Any,
    method: MethodName | str | Callable[..., Any] | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    tol: float | None = None,
    bounds: Any = None,
    constraints: Any = None,
    callback: Callable[..., Any] | None = None,
    jac: Callable[..., Any] | Differences | bool | None = None,
    hess: Callable[..., Any] | Differences | HessianUpdateStrategy | None = None,
    hessp: Callable[..., Any] | None = None,
    curvature: Curvature = "autograd",
    hessian_chunk: int | None = None,
    loss_scale: LossScale = 1.0,
    engine: EngineName | None = None,
    solver_dtype: torch.dtype | None = None,
    **common: Unpack[Common],
) -> OptimizeResult:
    """Minimise fun(x), a scalar tensor, over a tensor x or a dict of tensors.

    Parameters
    ----------
    fun : callable
        Function of x that returns a scalar tensor. It is called several times, more than once at the start, and needs
        the same data each time.
    x0 : torch.Tensor, dict of torch.Tensor, or array_like
        The start: a float32 or float64 tensor, or a dict of them. Numbers become float64. It is not changed.
    method : str, callable or None, optional
        Name of the method. Default: SLSQP with constraints, L-BFGS-B with bounds, else BFGS.
    options : dict or None, optional
        Options of the method: the names in ``METHODS[name].options``.
    tol : float or None, optional
        One number for all tolerances of the method, at least 0.
    bounds : sequence of (low, high), scipy.optimize.Bounds or None, optional
        Bounds on the flat vector of shape (n,); None for an open side.
    constraints : Constraint, dict, SciPy constraint, or list of them, optional
        Constraints. The function of a `Constraint` is called with x in the form of `x0`.
    callback : callable or None, optional
        SciPy's own callback. See `callbacks` for ours.
    jac : callable, {"2-point", "3-point"}, bool or None, optional
        Your own gradient as a function of the flat vector, or differences by SciPy. Default: autograd.
    hess : callable, {"2-point", "3-point"}, HessianUpdateStrategy or None, optional
        Your own Hessian as a function of the flat vector, or one by SciPy. Default: autograd.
    hessp : callable or None, optional
        Your own Hessian-vector product, a function of the flat vector and a direction. Default: autograd.
    {shared}

    Returns
    -------
    Result
        SciPy's OptimizeResult. Its ``x`` has the form of `x0` and is detached. It has a ``history``.

    Raises
    ------
    ArgumentTypeError
        If `fun` is not callable, or `x0` is not made of float32 or float64 tensors or numbers.
    TorchminError
        What `MinimizeWrapper` and its ``step`` raise.

    References
    ----------
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.minimize.html

    Examples
    --------
    >>> minimize(lambda x: ((x - 3) ** 2).sum(), torch.zeros(2)).x.round(decimals=3)
    tensor([3., 3.])
    >>> result = minimize(lambda p: (p["a"] - 1) ** 2 + (p["b"] ** 2).sum(), dict(a=torch.tensor(5.0), b=torch.ones(2)))
    >>> result.x["a"].round(decimals=3), result.history[0].loss
    (tensor(1.), 18.0)
    """
    if not callable(fun):
        raise ArgumentTypeError(f"fun must be a function of x, got {type(fun).__name__}")
    leaves = {name: _leaf(name, value) for name, value in _as_dict(x0).items()}
    x: Any = leaves if isinstance(x0, Mapping) else leaves["x0"]
    minimizer_args = {
        "method": method,
        "options": options,
        "tol": tol,
        "bounds": bounds,
        "callback": callback,
        "jac": jac,
        "hess": hess,
        "hessp": hessp,
        "constraints": None if constraints is None else [_of_x(each, x) for each in read_constraints(constraints)],
    }
    known_keywords("minimize", common, [each.name for each in keyword_only(minimize)])
    optimizer = MinimizeWrapper(
        [(str(name), leaf) for name, leaf in leaves.items()],
        {name: value for name, value in minimizer_args.items() if value is not None},
        curvature=curvature,
        hessian_chunk=hessian_chunk,
        loss_scale=loss_scale,
        engine=engine,
        solver_dtype=solver_dtype,
        **common,
    )
    optimizer.step(lambda: fun(x))
    assert optimizer.result is not None
    ended = {name: leaf.detach() for name, leaf in leaves.items()}
    result = Result.of_run(optimizer.result, optimizer.history)
    result.update(x=ended if isinstance(x0, Mapping) else ended["x0"], history=optimizer.history)
    return result


def _of_x(constraint: Any, x: Any) -> Any:
    """A torch constraint on x, in the form of x0, as a constraint without arguments."""
    if not isinstance(constraint, Constraint):
        return constraint
    return Constraint(lambda: constraint.fun(x), constraint.lower, constraint.upper)


def _as_dict(x0: Any) -> Mapping[str, Any]:
    return x0 if isinstance(x0, Mapping) else {"x0": x0}


def _leaf(name: str, value: Any) -> torch.Tensor:
    try:
        tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(value, dtype=torch.float64)
        return tensor.detach().clone().requires_grad_()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(
            f"{name} must be a float32 or float64 tensor, numbers, or a dict of them: {error}"
        ) from error
