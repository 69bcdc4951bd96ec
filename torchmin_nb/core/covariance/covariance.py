"""Uncertainties of fitted parameters: covariance, standard errors and correlations at the end point of a run.

Least squares: C = s² (JᵀJ)⁻¹, with s² = 2·cost/(m − n) the residual variance. A negative log-likelihood: C = H⁻¹.
Sources: NIST/SEMATECH e-Handbook of Statistical Methods, section 4.6; G. A. F. Seber, C. J. Wild, "Nonlinear
Regression" (1989), section 2.1 and appendix E.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ...errors import ArgumentError, CovarianceWarning, NotAMinimumError
from ..display.html import html, joined
from ..display.tables import text_table
from .estimates import Bands, Estimate, bands_of, entry_names, linearised, rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.optimize import Bounds

__all__ = [
    "Covariance",
    "Undetermined",
    "covariance_of_loss",
    "covariance_of_residuals",
    "curve_bands",
    "named_values",
    "parameter_names",
    "warn_of_bounds",
]

_SHOWN = 40
_DOES_NOT_ENTER = 64
"""A share of a gradient below this many machine epsilons of the parameters counts as rounding."""


class Undetermined(NamedTuple):
    """Directions that the data do not determine: orthonormal rows (r, n) in variables that are multiplied by lengths.

    lengths: shape (n,).
    """

    directions: NDArray[np.float64]
    lengths: NDArray[np.float64]

    def enter(self, jacobian: NDArray[np.float64], eps: float) -> NDArray[np.bool_]:
        """Which rows of a Jacobian (k, n) change along these directions, shape (k,). eps: its precision."""
        scaled = jacobian / self.lengths
        tolerance = max(np.sqrt(np.finfo(np.float64).eps), _DOES_NOT_ENTER * eps)
        along = np.linalg.norm(scaled @ self.directions.T, axis=1)
        return np.asarray(along > tolerance * np.linalg.norm(scaled, axis=1))


@dataclass(frozen=True, eq=False, repr=False)
class Covariance:
    """The covariance of the parameters around `values`. Shown, it is a table of values ± standard errors.

    Attributes
    ----------
    matrix : ndarray of shape (n, n)
        The covariance, float64, in the order of the flat parameter vector. Fixed entries have zeros.
    values : dict of str to torch.Tensor
        Copies of the parameters, by name.
    undetermined : ndarray of shape (n,)
        bool, True for an entry that the data do not determine. Its standard error is infinite, and its row of `matrix`
        describes the other directions only.
    degrees_of_freedom : int or None
        Those of the estimated residual variance; None if no variance was estimated.
    residual_deviation : float or None
        The estimated standard deviation of the residuals; None if it was not estimated.
    root : ndarray of shape (n, r) or None
        A matrix with ``matrix = root @ root.T``, with more digits than `matrix` along directions of small variance.
    parameters : tuple of torch.Tensor
        The fitted tensors themselves, for functions that read them; empty in a copy that was loaded.
    directions : Undetermined or None
        The directions that the data do not determine, if there are any.

    References
    ----------
    NIST/SEMATECH e-Handbook of Statistical Methods, section 4.6.

    G. A. F. Seber, C. J. Wild, "Nonlinear Regression" (1989), section 2.1 and appendix E.

    Examples
    --------
    >>> t = torch.arange(6, dtype=torch.float64)
    >>> y = 2 * t + 1 + torch.tensor([0.1, -0.1, 0.1, -0.1, 0.1, -0.1])
    >>> slope, offset = torch.nn.Parameter(torch.zeros((), dtype=torch.float64)), torch.nn.Parameter(torch.zeros(()))
    >>> optimizer = LeastSquaresWrapper([("slope", slope), ("offset", offset)], "lm")
    >>> cost = optimizer.step(lambda: slope * t + offset - y)
    >>> print(optimizer.covariance())
    parameter  value ± standard error
    ─────────  ──────────────────────
    slope      1.983 ± 0.028
    offset     1.043 ± 0.085
    """

    matrix: NDArray[np.float64]
    values: Mapping[str, torch.Tensor]
    undetermined: NDArray[np.bool_]
    degrees_of_freedom: int | None = None
    residual_deviation: float | None = None
    root: NDArray[np.float64] | None = None
    parameters: tuple[torch.Tensor, ...] = ()
    directions: Undetermined | None = None

    def of(self, function: Callable[..., torch.Tensor]) -> Estimate:
        """The standard error of anything that is computed from the parameters, by the delta method.

        It is exact for linear functions, and good where the function is nearly linear within a few standard errors.

        Parameters
        ----------
        function : callable
            ``lambda: model(x)`` reads the parameters, as a closure does: they hold `values` meanwhile. Or its arguments
            have the names of parameters: ``lambda slope, offset: -offset / slope``. Returns a tensor of k elements.

        Returns
        -------
        Estimate
            Value, standard error, and the covariance of the k elements.

        Raises
        ------
        ArgumentError
            If an argument of the function is not the name of a parameter.

        Examples
        --------
        >>> t = torch.arange(6, dtype=torch.float64)
        >>> y = 2 * t + 1 + torch.tensor([0.1, -0.1, 0.1, -0.1, 0.1, -0.1])
        >>> fit = curve_fit(lambda t, slope, offset: slope * t + offset, t, y)
        >>> fit.covariance.of(lambda slope, offset: -offset / slope)
        -0.526 ± 0.049
        """
        return linearised(function, self.values, self.parameters).estimate(self.spread)

    def bands(self, function: Callable[..., torch.Tensor], x: Any, *, level: float = 0.95, sigma: Any = None) -> Bands:
        """The confidence band of a prediction, and the interval for new data.

        With an estimated residual variance the intervals are those of Student's t distribution, else normal ones.

        Parameters
        ----------
        function : callable
            ``function(x)`` reads the parameters, such as a model; further arguments have the names of parameters.
        x : torch.Tensor
            Where to predict.
        level : float, optional
            The probability of each interval, pointwise. Default 0.95.
        sigma : float, tensor or None, optional
            The standard deviation of a new measurement at x, such as `residual_deviation`. Default None: no interval
            for new data.

        Returns
        -------
        Bands
            Prediction, its standard error, and intervals.

        Examples
        --------
        >>> t = torch.arange(6, dtype=torch.float64)
        >>> y = 2 * t + 1 + torch.tensor([0.1, -0.1, 0.1, -0.1, 0.1, -0.1])
        >>> fit = curve_fit(lambda t, slope, offset: slope * t + offset, t, y)
        >>> fit.covariance.bands(lambda t, slope, offset: slope * t + offset, torch.tensor([0.0, 9.0]))
        x  prediction      low    high
        ─  ──────────  ───────  ──────
        0      1.0429  0.80754  1.2782
        9      18.889   18.366  19.411
        """
        return curve_bands(self, function, x, level, sigma)

    def spread(self, jacobian: NDArray[np.float64]) -> NDArray[np.float64]:
        """A matrix Z with Z Zᵀ = J C Jᵀ, the covariance of what has the Jacobian J.

        Parameters
        ----------
        jacobian : ndarray of shape (k, n)
            J, float64.

        Returns
        -------
        ndarray of shape (k, r)
            Z. Rows of what the data do not determine are infinite.

        Examples
        --------
        >>> x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        >>> covariance = MinimizeWrapper([x], "BFGS").covariance(lambda: (torch.tensor([8.0, 2.0]) * x**2).sum())
        >>> (covariance.spread(np.array([[1.0, 0.0], [1.0, 1.0]])) ** 2).sum(axis=1)
        array([0.0625, 0.3125])
        """
        factor: NDArray[np.float64] = jacobian @ (_root_of(self.matrix) if self.root is None else self.root)
        if self.directions is not None:
            eps = max(torch.finfo(value.dtype).eps for value in self.values.values())
            factor[self.directions.enter(jacobian, eps)] = np.inf
        return factor

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "parameters": ()}

    def standard_errors(self) -> dict[str, torch.Tensor]:
        """The standard errors by name: float64 tensors of the parameters' shapes, infinite for undetermined entries."""
        pieces = torch.from_numpy(self._errors()).split([value.numel() for value in self.values.values()])
        return {
            name: piece.reshape(value.shape).clone()
            for (name, value), piece in zip(self.values.items(), pieces, strict=True)
        }

    @property
    def correlation(self) -> NDArray[np.float64]:
        """The correlations, shape (n, n), float64, with ones on the diagonal.

        Beside the diagonal, undetermined entries have NaN and fixed entries 0.
        """
        errors = np.sqrt(np.diag(self.matrix))
        errors[errors == 0] = 1.0
        correlation: NDArray[np.float64] = self.matrix / np.outer(errors, errors)
        correlation[self.undetermined] = correlation[:, self.undetermined] = np.nan
        np.fill_diagonal(correlation, 1.0)
        return correlation

    def __repr__(self) -> str:
        rows = [(name, f"{value} ± {error}") for name, value, error in self._shown()]
        return text_table([("parameter", "value ± standard error"), *rows], align="<<") + self._rest()

    def _repr_html_(self) -> str:
        form = "<tr><td style='text-align:left'>{name}</td><td>{value}</td><td>± {error}</td></tr>"
        return html(
            "<table><thead><tr><th style='text-align:left'>parameter</th><th>value</th><th>standard error</th></tr>"
            "</thead><tbody>{body}</tbody></table>{rest}",
            body=joined(html(form, name=name, value=value, error=error) for name, value, error in self._shown()),
            rest=self._rest().strip(),
        )

    def _errors(self) -> NDArray[np.float64]:
        return np.asarray(np.where(self.undetermined, np.inf, np.sqrt(np.diag(self.matrix))))

    def _shown(self) -> list[tuple[str, str, str]]:
        entries = zip(entry_names(self.values), _flat_values(self.values), self._errors(), strict=True)
        return [(name, *rounded(value, error)) for _, (name, value, error) in zip(range(_SHOWN), entries, strict=False)]

    def _rest(self) -> str:
        more = len(self.matrix) - _SHOWN
        return f"\nand {more} more: see standard_errors()" if more > 0 else ""


def curve_bands(
    covariance: Covariance,
    function: Callable[..., torch.Tensor],
    x: Any,
    level: float,
    sigma: Any,
    names: Sequence[str] | None = None,
) -> Bands:
    """See Covariance.bands. names: of the parameters that the function takes after x, if not its arguments say so."""
    found = linearised(function, covariance.values, covariance.parameters, x, names=names)
    return bands_of(found.estimate(covariance.spread), x, level, sigma, covariance.degrees_of_freedom)


def covariance_of_residuals(
    jacobian: NDArray[np.float64],
    m: int,
    cost: float,
    values: Mapping[str, torch.Tensor],
    *,
    absolute_sigma: bool,
    eps: float,
    free: NDArray[np.bool_] | None = None,
) -> Covariance:
    """C = s² (JᵀJ)⁻¹ from J of m rows, by the singular values of J with its columns scaled to unit length.

    jacobian: J, or a matrix of n columns with the same JᵀJ. absolute_sigma: s² = 1, because the residuals are divided
    by known standard deviations. eps: precision of J. free: shape (n,), false for fixed entries. Raises ArgumentError
    if m ≤ n, because s² then cannot be estimated; warns if J does not have full rank.
    """
    free = np.ones(jacobian.shape[1], dtype=bool) if free is None else free
    columns = jacobian[:, free]
    n = columns.shape[1]
    if m <= n and not absolute_sigma:
        raise ArgumentError(
            f"{m} residuals for {n} free parameters leave no residual variance to estimate; "
            f"pass absolute_sigma=True if the residuals are divided by their standard deviations"
        )
    lengths = _nonzero(np.linalg.norm(columns, axis=0))
    _, singular, directions = np.linalg.svd(columns / lengths, full_matrices=True)
    curvature = np.zeros(n)
    curvature[: singular.size] = np.where(singular > max(m, n) * eps * max(singular, default=0.0), singular, 0.0) ** 2
    variance = 1.0 if absolute_sigma else 2 * cost / (m - n)
    found = _assembled(curvature, directions, lengths, variance, values, free)
    if absolute_sigma:
        return found
    return replace(found, degrees_of_freedom=m - n, residual_deviation=float(np.sqrt(variance)))


def covariance_of_loss(
    hessian: NDArray[np.float64],
    values: Mapping[str, torch.Tensor],
    *,
    scale: float,
    eps: float,
    free: NDArray[np.bool_] | None = None,
) -> Covariance:
    """C = scale · H⁻¹ from H of shape (n, n), by the eigenvalues of H with its diagonal scaled to one.

    Raises NotAMinimumError where H has a negative eigenvalue; warns where it is singular.
    """
    free = np.ones(len(hessian), dtype=bool) if free is None else free
    block = hessian[np.ix_(free, free)]
    lengths = _nonzero(np.sqrt(np.abs(np.diag(block))))
    curvature, directions = np.linalg.eigh(block / np.outer(lengths, lengths))
    smallest = len(block) * eps * np.abs(curvature).max(initial=0.0)
    if curvature.min(initial=0.0) < -smallest:
        raise NotAMinimumError(
            f"the Hessian has a negative eigenvalue ({curvature.min():.3g} with its diagonal scaled to one), so the "
            f"end point is not a minimum and has no covariance; continue the run, or use a smaller tolerance"
        )
    curvature = np.where(curvature > smallest, curvature, 0.0)
    return _assembled(curvature, directions.T, lengths, scale, values, free)


def parameter_names(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """One name for each trainable parameter: its name if named parameters were passed to torch, else its position."""
    trainable = [
        (tensor, name)
        for group in groups
        for tensor, name in zip(group["params"], group.get("param_names", [None] * len(group["params"])), strict=True)
        if tensor.requires_grad
    ]
    return [str(index) if name is None else str(name) for index, (_, name) in enumerate(trainable)]


def named_values(groups: Sequence[Mapping[str, Any]], tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of the trainable tensors by name."""
    return dict(zip(parameter_names(groups), (tensor.detach().clone() for tensor in tensors), strict=True))


def warn_of_bounds(x: NDArray[np.float64], bounds: Bounds | None, values: Mapping[str, torch.Tensor]) -> None:
    """Issue a CovarianceWarning if a free entry is on a bound."""
    if bounds is None:
        return
    near = np.isclose(x, bounds.lb, rtol=1e-6, atol=0) | np.isclose(x, bounds.ub, rtol=1e-6, atol=0)
    names = [name for name, hit in zip(entry_names(values), near & (bounds.lb < bounds.ub), strict=True) if hit]
    if names:
        warnings.warn(
            f"on its bound: {', '.join(names[:8])}; there the errors are not normally distributed, and the covariance "
            f"describes the loss without the bound",
            CovarianceWarning,
            stacklevel=3,
        )


def _assembled(
    curvature: NDArray[np.float64],
    directions: NDArray[np.float64],
    lengths: NDArray[np.float64],
    variance: float,
    values: Mapping[str, torch.Tensor],
    free: NDArray[np.bool_],
) -> Covariance:
    """From curvatures along orthogonal directions (rows) of the scaled variables; no curvature: not determined."""
    known = curvature > 0
    root = np.zeros((free.size, int(known.sum())))
    root[free] = np.sqrt(variance) * (directions[known].T / np.sqrt(curvature[known])) / lengths[:, None]
    loose = (np.abs(directions[~known]) > np.sqrt(np.finfo(np.float64).eps)).any(axis=0)
    matrix = root @ root.T
    undetermined = np.zeros(free.size, dtype=bool)
    undetermined[free] = loose
    if known.all():
        return Covariance(matrix, values, undetermined, root=root)
    _warn_of_rank(int(known.sum()), known.size, undetermined, values)
    rows, whole = np.zeros((int((~known).sum()), free.size)), np.ones(free.size)
    rows[:, free], whole[free] = directions[~known], lengths
    return Covariance(matrix, values, undetermined, root=root, directions=Undetermined(rows, whole))


def _warn_of_rank(rank: int, n: int, undetermined: NDArray[np.bool_], values: Mapping[str, torch.Tensor]) -> None:
    names = [name for name, loose in zip(entry_names(values), undetermined, strict=True) if loose]
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    warnings.warn(
        f"only {rank} of {n} directions of the parameters are determined: {listed} trade off without changing the fit, "
        f"and have infinite standard errors; fix some of them, or use more data",
        CovarianceWarning,
        stacklevel=5,
    )


def _nonzero(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(lengths > 0, lengths, 1.0)


def _flat_values(values: Mapping[str, torch.Tensor]) -> Iterator[float]:
    for value in values.values():
        yield from value.reshape(-1).tolist()


def _root_of(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix R, shape (n, n), with R Rᵀ = the covariance."""
    lengths = _nonzero(np.sqrt(np.diag(matrix)))
    variances, vectors = np.linalg.eigh(matrix / np.outer(lengths, lengths))
    return np.asarray(lengths[:, None] * vectors * np.sqrt(np.maximum(variances, 0.0)))
