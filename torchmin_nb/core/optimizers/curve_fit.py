"""`curve_fit(function, x, y)`: parameters of a curve with their standard errors, as from SciPy's `curve_fit`."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Unpack, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import ArgumentError, ArgumentTypeError, ConvergenceWarning, CovarianceWarning
from ..covariance.covariance import Covariance, curve_bands
from ..covariance.estimates import Bands
from ..display.html import Html, html
from ..execution.result import Result
from ..history.history import History
from ..signatures import keyword_only, shares_parameters, shows_keywords
from ..validation import known_keywords, one_of
from .common import COMMON, Common
from .device_run import EngineName
from .least_squares import LeastSquaresWrapper

__all__ = ["CurveFit", "NanPolicy", "curve_fit"]

NanPolicy = Literal["raise", "omit"]
Side = Any
"""A number, or one number for each parameter."""


@dataclass(frozen=True, eq=False, repr=False)
class CurveFit:
    """A fitted curve. It unpacks as ``popt, pcov``, can be called with new x, and shows a report with standard errors.

    Attributes
    ----------
    popt : ndarray of shape (n,)
        The parameters, float64.
    pcov : ndarray of shape (n, n)
        Their covariance, float64. Rows and columns of parameters that the data do not determine are infinite.
    names : tuple of str
        Names of the parameters, from the function's signature.
    result : Result
        Of the run: ``residuals`` (m,) are (f - y)/sigma, ``cost`` is half the sum of their squares.
    history : History
        The iterations.
    y : torch.Tensor of shape (m,)
        The data that were fitted, float64: without those that were omitted.
    covariance : Covariance or None
        The covariance with names; None if there are too few data to estimate it.
    function : callable
        The curve.
    weighted : bool
        Whether the residuals are divided by a sigma.

    Examples
    --------
    >>> t = torch.linspace(0, 4, 30, dtype=torch.float64)
    >>> y = 2.5 * torch.exp(-1.3 * t) + 0.01 * torch.cos(40 * t)
    >>> fit = curve_fit(lambda t, a, rate: a * torch.exp(-rate * t), t, y, [1.0, 1.0])
    >>> fit.names, fit.popt.round(2)
    (('a', 'rate'), array([2.51, 1.3 ]))
    >>> fit([0.0, 1.0]).round(2)
    array([2.51, 0.68])
    """

    popt: NDArray[np.float64]
    pcov: NDArray[np.float64]
    names: tuple[str, ...]
    result: Result
    history: History
    y: torch.Tensor
    covariance: Covariance | None
    function: Callable[..., torch.Tensor]
    weighted: bool

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        return iter((self.popt, self.pcov))

    def __call__(self, x: Any) -> NDArray[np.float64]:
        """The curve at x, in the form that the function takes: an array, float64."""
        with torch.no_grad():
            values = self.function(_as_tensors(x), *torch.from_numpy(self.popt).unbind())
        return torch.as_tensor(values).cpu().numpy()

    def bands(self, x: Any, *, level: float = 0.95, sigma: Any = None) -> Bands:
        """The curve at x with its confidence band, and the interval for new data.

        Draw them with `torchmin_nb.views.bands_figure`.

        Parameters
        ----------
        x : torch.Tensor, array_like, or tuple of them
            What the function takes first.
        level : float, optional
            The probability of each interval, pointwise. Default 0.95.
        sigma : float, array_like or None, optional
            The standard deviation of new data at x. Default None: the residual deviation, or no interval for new data
            if the data were weighted by a sigma.

        Returns
        -------
        Bands
            Intervals of Student's t distribution; normal ones with ``absolute_sigma=True``.

        Raises
        ------
        ArgumentError
            If there are too few data for standard errors.

        Examples
        --------
        >>> t = torch.arange(8, dtype=torch.float64)
        >>> y = 2 * t + 1 + torch.tensor([0.1, -0.1] * 4)
        >>> curve_fit(lambda t, slope, offset: slope * t + offset, t, y).bands([3.5, 10.0])
          x  prediction     low    high  new: low  new: high
        ───  ──────────  ──────  ──────  ────────  ─────────
        3.5           8  7.9025  8.0975    7.7075     8.2925
         10      20.938  20.645  21.231    20.536     21.341
        """
        if self.covariance is None:
            raise ArgumentError(
                f"{self.y.numel()} data for {len(self.popt)} parameters leave nothing to estimate errors from; use "
                f"more data, or pass sigma with absolute_sigma=True to curve_fit"
            )
        if sigma is None and not self.weighted:
            sigma = self.covariance.residual_deviation
        return curve_bands(self.covariance, self.function, _as_tensors(x), level, sigma, self.names)

    @property
    def standard_errors(self) -> NDArray[np.float64]:
        """Standard errors of the parameters, shape (n,), float64; infinite for undetermined ones."""
        return np.sqrt(np.diag(self.pcov))

    @property
    def degrees_of_freedom(self) -> int:
        """The number of data minus the number of parameters."""
        return self.y.numel() - len(self.popt)

    @property
    def chi_square(self) -> float:
        """The sum of the squares of the residuals, divided by sigma if it is given."""
        return float(np.square(self.result.residuals).sum())

    @cached_property
    def _facts(self) -> list[tuple[str, str]]:
        free, name = self.degrees_of_freedom, "χ²" if self.weighted else "sum of squares"
        facts = [("data", f"{self.y.numel():,}"), ("degrees of freedom", f"{free:,}"), (name, f"{self.chi_square:.6g}")]
        if free > 0:
            each = ("reduced χ²", self.chi_square / free) if self.weighted else ("residual deviation", self._deviation)
            facts.append((each[0], f"{each[1]:.4g}"))
        return [*facts, ("ended", "converged" if self.result.success else f"not converged: {self.result.message}")]

    @property
    def _deviation(self) -> float:
        return float(np.sqrt(self.chi_square / self.degrees_of_freedom))

    def __repr__(self) -> str:
        values = [f"{name} = {value:.6g}" for name, value in zip(self.names, self.popt, strict=True)]
        table = "\n".join(values) if self.covariance is None else repr(self.covariance)
        return "\n".join([table, "", *(f"{name}: {text}" for name, text in self._facts)])

    def _repr_html_(self) -> str:
        if self.covariance is None:
            return html("<pre>{text}</pre>", text=repr(self))
        facts = " · ".join(f"{name} {text}" for name, text in self._facts)
        return html("{table}<p>{facts}</p>", table=Html(self.covariance._repr_html_()), facts=facts)


@shares_parameters(LeastSquaresWrapper)
@shows_keywords(COMMON)
def curve_fit(
    function: Callable[..., torch.Tensor],
    x: Any,
    y: Any,
    p0: Sequence[float] | Any = None,
    *,
    sigma: Any = None,
    absolute_sigma: bool = False,
    bounds: tuple[Side, Side] | None = None,
    nan_policy: NanPolicy = "raise",
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    engine: EngineName | None = "auto",
    **common: Unpack[Common],
) -> CurveFit:
    """Fit the parameters of a curve to data by least squares, with derivatives from autograd.

    Parameters
    ----------
    function : callable
        ``function(x, a, b, …)`` returns the curve at x, a tensor of shape (m,). The parameters are tensors of shape ();
        their names in the report are those of the signature. It uses torch's operations.
    x : torch.Tensor, array_like, or tuple of them
        What the function takes first, converted to float64 tensors.
    y : torch.Tensor or array_like of shape (m,)
        The data.
    p0 : array_like of shape (n,) or None, optional
        The start. Default: ones, moved inside the bounds.
    sigma : float, array_like of shape (m,) or (m, m), or None, optional
        Standard deviations of y, or its covariance. Default: all data count alike.
    absolute_sigma : bool, optional
        True if `sigma` is known absolutely. False, the default: only relatively, and `pcov` is scaled so that the
        reduced χ² is one.
    bounds : (low, high) or None, optional
        Numbers, or sequences of n numbers; infinities for open sides. Default: no bounds.
    nan_policy : {"raise", "omit"}, optional
        What is done if x, y or sigma have NaN: an error, or these data are left out. In x they are counted along the
        last axis, or along the first if only that has length m. Default "raise".
    method : {"lm", "gauss-newton", "trf", "dogbox"} or None, optional
        Default: "lm" without bounds, "trf" with bounds.
    options : dict or None, optional
        What `LeastSquaresWrapper` takes besides `method` and `bounds`, such as ``dict(xtol=1e-12)``.
    engine : {"scipy", "torch", "auto"} or None, optional
        What runs the method, as for `LeastSquaresWrapper`. Default "auto": "lm" and "gauss-newton" on torch, else
        SciPy.
    {shared}

    Returns
    -------
    CurveFit
        ``popt, pcov = curve_fit(...)`` as in SciPy; the whole object is a report.

    Raises
    ------
    ArgumentError
        If shapes do not fit, data are not finite, or `sigma` is not positive.
    ArgumentTypeError
        If `function` is not callable, or data are no numbers.
    TorchminError
        What `LeastSquaresWrapper` and its ``step`` raise.

    Warns
    -----
    ConvergenceWarning
        If the fit did not converge.
    CovarianceWarning
        If the data do not determine all parameters, or there are too few of them for standard errors.

    References
    ----------
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.curve_fit.html

    Examples
    --------
    >>> t = torch.arange(8, dtype=torch.float64)
    >>> y = 2 * t + 1 + torch.tensor([0.1, -0.1] * 4)
    >>> popt, pcov = curve_fit(lambda t, slope, offset: slope * t + offset, t, y)
    >>> popt.round(3)
    array([1.99 , 1.033])
    >>> print(curve_fit(lambda t, slope, offset: slope * t + offset, t, y))
    parameter  value ± standard error
    ─────────  ──────────────────────
    slope      1.990 ± 0.017
    offset     1.033 ± 0.073
    <BLANKLINE>
    data: 8
    degrees of freedom: 6
    sum of squares: 0.0761905
    residual deviation: 0.1127
    ended: converged
    """
    if not callable(function):
        raise ArgumentTypeError(f"function must be callable as function(x, a, b, …), got {type(function).__name__}")
    one_of("nan_policy", nan_policy, get_args(NanPolicy))
    known_keywords("curve_fit", common, [each.name for each in keyword_only(curve_fit)])
    points, data, divided = _read_data(x, y, sigma, nan_policy)
    names = _names(function, p0)
    low, high = _read_bounds(bounds, len(names))
    start = _read_start(p0, low, high)
    parameters = [torch.nn.Parameter(torch.tensor(value)) for value in start]
    sides = [{} if bounds is None else {"bounds": pair} for pair in zip(low.tolist(), high.tolist(), strict=True)]
    groups = [
        {"params": [(name, parameter)], **side} for name, parameter, side in zip(names, parameters, sides, strict=True)
    ]
    arguments = {"method": method or ("lm" if bounds is None else "trf"), **(options or {})}
    optimizer = LeastSquaresWrapper(groups, arguments, engine=engine, **common)

    def residuals() -> torch.Tensor:
        curve = function(points, *parameters)
        if not isinstance(curve, torch.Tensor) or curve.shape != data.shape:
            shown = tuple(curve.shape) if isinstance(curve, torch.Tensor) else type(curve).__name__
            raise ArgumentError(f"the function returned {shown} for data of shape {tuple(data.shape)}")
        return divided(curve - data)

    optimizer.step(residuals)
    assert optimizer.result is not None
    result = Result.of_run(optimizer.result, optimizer.history)
    if not result.success:
        warnings.warn(f"the fit did not converge: {result.message}", ConvergenceWarning, stacklevel=2)
    covariance = _covariance(optimizer, residuals, data.numel(), absolute_sigma)
    popt = np.array([parameter.item() for parameter in parameters])
    return CurveFit(
        popt,
        _with_infinities(covariance, len(popt)),
        names,
        result,
        optimizer.history,
        data,
        covariance,
        function,
        sigma is not None,
    )


def _covariance(
    optimizer: LeastSquaresWrapper, residuals: Callable[[], torch.Tensor], m: int, absolute_sigma: bool
) -> Covariance | None:
    n = len(optimizer.param_groups)
    if m <= n and not absolute_sigma:
        warnings.warn(
            f"{m} data for {n} parameters leave nothing to estimate standard errors from; use more data, or pass "
            f"sigma with absolute_sigma=True",
            CovarianceWarning,
            stacklevel=3,
        )
        return None
    return optimizer.covariance(residuals, absolute_sigma=absolute_sigma)


def _with_infinities(covariance: Covariance | None, n: int) -> NDArray[np.float64]:
    if covariance is None:
        return np.full((n, n), np.inf)
    matrix = covariance.matrix.copy()
    matrix[covariance.undetermined] = matrix[:, covariance.undetermined] = np.inf
    return matrix


def _names(function: Callable[..., Any], p0: Any) -> tuple[str, ...]:
    """The parameters' names, from the signature; p0, p1, … if it has ``*parameters``."""
    try:
        _, *parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise ArgumentError("the parameters cannot be read from the function; wrap it: lambda x, a, b: …") from None
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        if p0 is None:
            raise ArgumentError("a function with *parameters does not tell how many there are; pass p0")
        return tuple(f"p{index}" for index in range(np.size(p0)))
    names = tuple(each.name for each in parameters if each.kind is not each.KEYWORD_ONLY)
    if p0 is not None and np.ndim(p0) == 1 and len(names) > np.size(p0):
        needed = [each.name for each in parameters if each.default is each.empty]
        names = names[: np.size(p0)] if len(needed) <= np.size(p0) else names
    if not names:
        raise ArgumentError("the function has no parameter besides x to fit")
    return names


def _read_start(p0: Any, low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    if p0 is None:
        return np.array([_inside(*sides) for sides in zip(low.tolist(), high.tolist(), strict=True)])
    start = _numbers("p0", p0)
    if start.shape != low.shape:
        raise ArgumentError(f"p0 has shape {tuple(start.shape)}, but the function has {len(low)} parameters")
    return start


def _inside(low: float, high: float) -> float:
    """Where a parameter starts, as in SciPy."""
    if math.isfinite(low):
        return (low + high) / 2 if math.isfinite(high) else low + 1
    return high - 1 if math.isfinite(high) else 1.0


def _read_bounds(bounds: Any, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if bounds is None:
        return np.full(n, -np.inf), np.full(n, np.inf)
    try:
        sides = [np.broadcast_to(_numbers("bounds", side), (n,)) for side in bounds]
    except ValueError:
        raise ArgumentError(f"bounds must be (low, high), each a number or {n} numbers; got {bounds!r}") from None
    if len(sides) != 2:
        raise ArgumentError(f"bounds must be (low, high), each a number or {n} numbers; got {bounds!r}")
    return sides[0], sides[1]


Divide = Callable[[torch.Tensor], torch.Tensor]


def _read_data(x: Any, y: Any, sigma: Any, nan_policy: NanPolicy) -> tuple[Any, torch.Tensor, Divide]:
    """x and y, and the function that divides residuals by the standard deviations."""
    points, data = _as_tensors(x), _as_tensor("y", y).reshape(-1)
    parts, m = list(points) if isinstance(points, tuple) else [points], data.numel()
    spread = None if sigma is None else _as_tensor("sigma", sigma)
    if spread is not None and spread.shape not in ((), (m,), (m, m)):
        raise ArgumentError(f"sigma has shape {tuple(spread.shape)}; it must be a number, ({m},) or ({m}, {m})")
    rows = [data, *(_rows(part, m) for part in parts), *([] if spread is None or not spread.dim() else [spread])]
    known = torch.stack([~row.isnan().reshape(m, -1).any(1) for row in rows]).all(0)
    if not known.all():
        if nan_policy == "raise":
            missing = int((~known).sum())
            raise ArgumentError(f"{missing} of {m} data have NaN; nan_policy='omit' leaves them out")
        parts = [part[..., known] if part.shape[-1:] == (m,) else part[known] for part in parts]
        points = tuple(parts) if isinstance(points, tuple) else parts[0]
        data = data[known]
        if spread is not None and spread.dim():
            spread = spread[known] if spread.dim() == 1 else spread[known][:, known]
    if not data.numel():
        raise ArgumentError("there are no data to fit")
    for name, part in (("y", data), *(("x", part) for part in parts)):
        if not part.isfinite().all():
            raise ArgumentError(f"{name} has infinite entries; leave these data out")
    return points, data, _division(spread)


def _rows(part: torch.Tensor, m: int) -> torch.Tensor:
    """A part of x with the data along its first axis. What does not belong to single data has no rows."""
    if part.shape[-1:] == (m,):
        return part.movedim(-1, 0)
    if part.shape[:1] == (m,):
        return part
    if part.isnan().any():
        raise ArgumentError(f"x has NaN, and no axis of its shape {tuple(part.shape)} counts the {m} data")
    return part.new_zeros(m, 0)


def _division(spread: torch.Tensor | None) -> Divide:
    if spread is None:
        return lambda residuals: residuals
    if spread.dim() < 2:
        if not bool((spread > 0).all() and spread.isfinite().all()):
            raise ArgumentError(f"sigma must be positive and finite, but it has {float(spread.min()):g}")
        return lambda residuals: residuals / spread
    factor, failed = torch.linalg.cholesky_ex(spread)
    if int(failed) or not torch.allclose(spread, spread.T):
        raise ArgumentError("sigma, a covariance matrix, must be symmetric and positive definite")

    def divided(residuals: torch.Tensor) -> torch.Tensor:
        whole: torch.Tensor = torch.linalg.solve_triangular(factor, residuals.unsqueeze(-1), upper=False)
        return whole.squeeze(-1)

    return divided


def _as_tensors(x: Any) -> Any:
    """x as a tensor, or a tuple as a tuple of tensors."""
    return tuple(_as_tensor("x", part) for part in x) if isinstance(x, tuple) else _as_tensor("x", x)


def _as_tensor(name: str, value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.detach().double()
    return torch.from_numpy(_numbers(name, value))


def _numbers(name: str, value: Any) -> NDArray[np.float64]:
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"{name} must be numbers: {error}") from error
