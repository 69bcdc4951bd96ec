"""`minimize(fun, x0)`: the optimizer for a function of a tensor, or of a dict of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from scipy.optimize import OptimizeResult

from ..errors import ArgumentTypeError
from .constraints import Constraint, read_constraints
from .optimizer import MinimizeWrapper
from .result import Result

__all__ = ["minimize"]

_SCIPY = ("options", "tol", "bounds", "constraints", "callback", "jac", "hess", "hessp")


def minimize(
    fun: Callable[[Any], torch.Tensor],
    x0: Any,
    method: str | Callable[..., Any] | None = None,
    **kwargs: Any,
) -> OptimizeResult:
    """Minimise fun(x), a scalar tensor, over a tensor x, or a dict of tensors.

    x0: a float32 or float64 tensor, a dict of them, or numbers (float64 then). Not changed.
    fun is called several times, more than once at the start, and needs the same data each time.
    method, options, tol, bounds, constraints, callback, jac, hess, hessp: as `scipy.optimize.minimize` takes them;
    every other keyword as MinimizeWrapper takes it.

    Returns SciPy's OptimizeResult with `x` in the form of x0 (detached), and `history`.
    Raises what MinimizeWrapper raises.

    >>> minimize(lambda x: ((x - 3) ** 2).sum(), torch.zeros(2)).x.round(decimals=3)
    tensor([3., 3.])
    """
    if not callable(fun):
        raise ArgumentTypeError(f"fun must be a function of x, got {type(fun).__name__}")
    leaves = {name: _leaf(name, value) for name, value in _as_dict(x0).items()}
    x: Any = leaves if isinstance(x0, Mapping) else leaves["x0"]
    minimizer_args = {name: kwargs.pop(name) for name in _SCIPY if name in kwargs}
    if method is not None:
        minimizer_args["method"] = method
    if minimizer_args.get("constraints") is not None:
        minimizer_args["constraints"] = [_of_x(each, x) for each in read_constraints(minimizer_args["constraints"])]
    optimizer = MinimizeWrapper([(str(name), leaf) for name, leaf in leaves.items()], minimizer_args, **kwargs)
    optimizer.step(lambda: fun(x))
    assert optimizer.result is not None
    ended = {name: leaf.detach() for name, leaf in leaves.items()}
    result = Result.of_run(optimizer.result, optimizer.history)
    result.update(x=ended if isinstance(x0, Mapping) else ended["x0"], history=optimizer.history)
    return result


def _of_x(constraint: Any, x: Any) -> Any:
    """A torch constraint on x, in the form of x0, as one of no arguments."""
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
