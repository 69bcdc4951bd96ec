"""Standard errors of what is computed from parameters, by the delta method: Var f ≈ J C Jᵀ with J from autograd.

G. W. Oehlert, "A note on the delta method", The American Statistician 46 (1992) 27–29; G. A. F. Seber, C. J. Wild,
"Nonlinear Regression" (1989), section 5.1.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import torch
from scipy import stats

from ...errors import ArgumentError, ArgumentTypeError, ClosureError
from ..autodiff.graph import leaves, nodes_of
from ..autodiff.jacobian import DenseJacobian, JacobianGraph
from ..autodiff.side_effects import preserved_buffers, restored_afterwards
from ..display.html import html, html_table
from ..display.tables import text_table
from ..parameters.flat import FlatParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Bands",
    "Estimate",
    "Linearised",
    "as_value",
    "bands_of",
    "connected",
    "entry_names",
    "linearised",
    "rounded",
]

_SHOWN = 40
Spread = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]
"""From J, shape (k, n), to a matrix Z, shape (k, r), with Z Zᵀ = J C Jᵀ; infinite rows for what is not determined."""


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """A value computed from parameters, with its standard error. Shown, it is ``value ± standard error``.

    Attributes
    ----------
    value : torch.Tensor
        The value, float64, of any shape with k elements.
    standard_error : torch.Tensor
        Its standard error, of the same shape; infinite for what the data do not determine.
    factor : ndarray of shape (k, r)
        A matrix with the covariance ``factor @ factor.T``.

    See Also
    --------
    Covariance : its method `of` computes it, and has an example.
    laplace : its result's method `predict` computes it too.
    """

    value: torch.Tensor
    standard_error: torch.Tensor
    factor: NDArray[np.float64]

    @property
    def variance(self) -> torch.Tensor:
        """The squares of the standard errors."""
        return self.standard_error**2

    @property
    def covariance(self) -> NDArray[np.float64]:
        """The covariance of the k elements, shape (k, k). Undetermined ones have infinite rows and columns."""
        loose = np.flatnonzero(np.isinf(self.factor).any(axis=1))
        known = self.factor.copy()
        known[loose] = 0.0
        matrix: NDArray[np.float64] = known @ known.T
        matrix[loose] = matrix[:, loose] = np.inf
        return matrix

    def __repr__(self) -> str:
        rows = [rounded(*pair) for pair in self._pairs()]
        if self.value.dim() == 0:
            return " ± ".join(rows[0])
        names = entry_names({"": self.value}, _SHOWN)
        table = [(name, f"{value} ± {error}") for name, (value, error) in zip(names, rows, strict=True)]
        more = self.value.numel() - _SHOWN
        return text_table([("entry", "value ± standard error"), *table], align="<<") + (
            f"\nand {more} more: see standard_error" if more > 0 else ""
        )

    def _repr_html_(self) -> str:
        return html("<pre>{text}</pre>", text=repr(self))

    def _pairs(self) -> list[tuple[float, float]]:
        values, errors = (part.reshape(-1)[:_SHOWN].tolist() for part in (self.value, self.standard_error))
        return list(zip(values, errors, strict=True))


@dataclass(frozen=True, eq=False, repr=False)
class Bands:
    """Predictions at x with their confidence band, and with the interval for new data if their spread is known.

    Draw them with `torchmin_nb.views.bands_figure`.

    Attributes
    ----------
    x : torch.Tensor
        Where.
    value : torch.Tensor
        The prediction, float64.
    standard_error : torch.Tensor
        Its standard error.
    low : torch.Tensor
        The lower end of the confidence band of the prediction, pointwise.
    high : torch.Tensor
        The upper end.
    new_low : torch.Tensor or None
        The lower end of the interval that contains a new measurement.
    new_high : torch.Tensor or None
        The upper end.
    level : float
        The probability of each interval.

    See Also
    --------
    Covariance : its method `bands` computes them, and has an example.
    curve_fit : its result has them too.
    """

    x: Any
    value: torch.Tensor
    standard_error: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    new_low: torch.Tensor | None
    new_high: torch.Tensor | None
    level: float

    def __repr__(self) -> str:
        return text_table(self._rows(), align=">" * len(self._rows()[0])) + self._rest()

    def _repr_html_(self) -> str:
        rows = self._rows()
        return html("{table}{rest}", table=html_table(rows, ["right"] * len(rows[0])), rest=self._rest().strip())

    def _rows(self) -> list[tuple[str, ...]]:
        columns: dict[str, torch.Tensor | None] = {
            "prediction": self.value,
            "low": self.low,
            "high": self.high,
            "new: low": self.new_low,
            "new: high": self.new_high,
        }
        if isinstance(self.x, torch.Tensor) and self.x.shape == self.value.shape:
            columns = {"x": self.x, **columns}
        kept = {name: part.reshape(-1)[:_SHOWN].tolist() for name, part in columns.items() if part is not None}
        return [tuple(kept), *(tuple(f"{number:.5g}" for number in row) for row in zip(*kept.values(), strict=True))]

    def _rest(self) -> str:
        more = self.value.numel() - _SHOWN
        return f"\nand {more} more: see value, low, high" if more > 0 else ""


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
    with preserved_buffers() if names is not None else restored_afterwards(flat):
        if names is None:
            flat.write(FlatParameters(own).join(own, flat.widest, own[0].device))
        yield lambda: function(*arguments), flat


def bands_of(estimate: Estimate, x: Any, level: float, sigma: Any, degrees_of_freedom: int | None) -> Bands:
    """Intervals around an estimate: of Student's t with these degrees of freedom, or normal for None."""
    if not 0 < level < 1:
        raise ArgumentError(f"level must be between 0 and 1, such as 0.95, got {level!r}")
    half = (1 + level) / 2
    factor = stats.norm.ppf(half) if degrees_of_freedom is None else stats.t.ppf(half, degrees_of_freedom)
    value, error = estimate.value, estimate.standard_error
    new = None
    if sigma is not None:
        noise = torch.as_tensor(sigma, dtype=torch.float64, device="cpu")
        if not bool((noise >= 0).all()):
            raise ArgumentError(f"sigma, the standard deviation of new data, must not be negative, got {sigma!r}")
        new = factor * torch.sqrt(estimate.variance + noise**2)
    return Bands(
        x,
        value,
        error,
        value - factor * error,
        value + factor * error,
        None if new is None else value - new,
        None if new is None else value + new,
        level,
    )


def entry_names(values: Mapping[str, torch.Tensor], most: int | None = None) -> list[str]:
    """One name for each entry: `weight[0, 1]`, or the parameter's name if it is a scalar; the first `most` of them."""
    names = (
        f"{name}[{', '.join(map(str, index))}]" if index else name
        for name, value in values.items()
        for index in np.ndindex(*value.shape)
    )
    return list(islice(names, most))


def rounded(value: float, error: float) -> tuple[str, str]:
    """Value and error as text: two digits of the error, and the value to the same decimal place."""
    if not (math.isfinite(error) and math.isfinite(value) and error > 0):
        return f"{value:.6g}", "∞" if error == math.inf else f"{error:.2g}"
    place = math.floor(math.log10(float(f"{error:.1e}")))
    if -6 < place < 6 and abs(value) < 1e9:
        decimals = max(0, 1 - place)
        return f"{value:.{decimals}f}", f"{error:.{decimals}f}"
    digits = max(0, math.floor(math.log10(abs(value))) - place + 1) if value else 1
    return f"{value:.{digits}e}", f"{error:.1e}"


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
