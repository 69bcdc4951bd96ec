"""Standard errors of what is computed from parameters, by the delta method: Var f ≈ J C Jᵀ with J from autograd.

G. W. Oehlert, "A note on the delta method", The American Statistician 46 (1992) 27–29; G. A. F. Seber, C. J. Wild,
"Nonlinear Regression" (1989), section 5.1.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import torch

from ...errors import ArgumentError, ArgumentTypeError, ClosureError
from ..autodiff.graph import leaves, nodes_of
from ..autodiff.jacobian import DenseJacobian, JacobianGraph
from ..autodiff.side_effects import autograd_enabled, preserved_buffers, restored_afterwards
from ..parameters.flat import FlatParameters
from .estimates import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Linearised", "as_value", "connected", "linearised"]

Spread = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]
"""From J, shape (k, n), to a matrix Z, shape (k, r), with Z Zᵀ = J C Jᵀ; infinite rows for what is not determined."""


@dataclass(frozen=True, eq=False)
class Linearised:
    """A function at the parameters' values: value, a tensor of k elements, and its Jacobian, shape (k, n), float64."""

    value: torch.Tensor
    jacobian: NDArray[np.float64]

    def estimate(self, spread: Spread) -> Estimate:
        """With its standard errors."""
        factor = spread(self.jacobian)
        if factor.shape[1] > len(factor) and np.isfinite(factor).all():
            factor = scipy.linalg.qr(factor.T, mode="r")[0][: len(factor)].T  # k² numbers in place of k·n
        error = torch.from_numpy(np.sqrt((factor**2).sum(axis=1))).reshape(self.value.shape)
        return Estimate(self.value, error, factor)


def linearised(
    function: Callable[..., Any],
    values: Mapping[str, torch.Tensor],
    live: Sequence[torch.Tensor],
    *leading: Any,
    names: Sequence[str] | None = None,
) -> Linearised:
    """A function of parameters, with its Jacobian at `values`.

    It is called with `leading`, and with the parameters that its further arguments name (`names`, in place of its
    arguments). If it has none, it reads the live parameters: they hold `values` meanwhile, and are restored afterwards.
    Raises ArgumentError for arguments that are no parameters, ClosureError for a result that does not depend on the
    parameters.
    """
    with connected(function, values, live, leading, names) as (call, flat), torch.enable_grad():
        return _with_jacobian(call(), flat)


@contextmanager
def connected(
    function: Callable[..., Any],
    values: Mapping[str, torch.Tensor],
    live: Sequence[torch.Tensor],
    leading: Sequence[Any] = (),
    names: Sequence[str] | None = None,
) -> Iterator[tuple[Callable[[], Any], FlatParameters]]:
    """The function without arguments, and the parameters that it reads, which hold `values`. See `linearised`."""
    names = _named_arguments(function, values, len(leading)) if names is None else names
    if names is None and not live:
        raise ArgumentError(
            f"this object was loaded, so it is not connected with the live parameters; pass a function with arguments "
            f"that have the names of parameters ({', '.join(list(values)[:8])})"
        )
    own = [value.detach().clone().requires_grad_() for value in values.values()]
    flat = FlatParameters(own if names is not None else live)
    by_name = dict(zip(values, own, strict=True))
    arguments = [*leading, *(by_name[name] for name in names or ())]
    with autograd_enabled(), preserved_buffers() if names is not None else restored_afterwards(flat):
        if names is None:
            flat.write(FlatParameters(own).join(own, flat.widest, own[0].device))
        yield lambda: function(*arguments), flat


def _named_arguments(function: Any, values: Mapping[str, torch.Tensor], leading: int) -> Sequence[str] | None:
    """The parameters that a function takes by the names of its arguments; None if it takes none."""
    if not callable(function):
        raise ArgumentTypeError(f"function must be callable, got {type(function).__name__}; pass e.g. lambda: model(x)")
    try:
        arguments = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if isinstance(function, torch.nn.Module):
        arguments = []
    required = [each for each in arguments if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    names = [each.name for each in required[leading:] if each.default is each.empty]
    unknown = [name for name in names if name not in values]
    if unknown:
        listed = ", ".join(list(values)[:8]) + (", …" if len(values) > 8 else "")
        raise ArgumentError(
            f"the function has the argument {unknown[0]!r}, which is not a parameter ({listed}); name its arguments "
            f"like parameters, or let it read them itself, e.g. lambda: model(x)"
        )
    return names or None


def _with_jacobian(returned: Any, flat: FlatParameters) -> Linearised:
    value = as_value(returned)
    reached = {id(returned)} if returned.is_leaf else leaves(nodes_of(returned))
    if not any(id(tensor) in reached for tensor in flat.tensors):
        raise ClosureError(
            "the value does not depend on the parameters: no gradient reaches them; compute it from the same tensors "
            "that were fitted, without .detach(), .item() or torch.no_grad()"
        )
    if not returned.numel():
        return Linearised(value, np.zeros((0, flat.n)))
    graph = JacobianGraph(returned.reshape(-1), flat)
    builder = DenseJacobian(returned.numel(), flat.n, flat.eps)
    jacobian = builder.build(graph, lambda: None, torch.float64, torch.device("cpu"))
    return Linearised(value, jacobian.numpy())


def as_value(returned: Any) -> torch.Tensor:
    """What a function returned, float64 on the host. Raises ClosureError if it is not finite."""
    if not isinstance(returned, torch.Tensor) or not returned.dtype.is_floating_point:
        what = returned.dtype if isinstance(returned, torch.Tensor) else type(returned).__name__
        raise ArgumentTypeError(f"the function must return a tensor of real numbers, got {what}")
    value = returned.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(value).all()):
        raise ClosureError("the value is not finite at these values of the parameters, so it has no standard error")
    return value
