"""Covariance: the record of a fit's uncertainties, and what follows from it for functions of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..display.html import html, joined
from ..display.tables import text_table
from .delta import linearised
from .estimates import Bands, Estimate, bands_of, entry_names, rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Covariance",
    "Undetermined",
    "curve_bands",
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


def _flat_values(values: Mapping[str, torch.Tensor]) -> Iterator[float]:
    for value in values.values():
        yield from value.reshape(-1).tolist()


def _root_of(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix R, shape (n, n), with R Rᵀ = the covariance."""
    lengths = np.sqrt(np.diag(matrix))
    lengths[lengths == 0] = 1.0
    variances, vectors = np.linalg.eigh(matrix / np.outer(lengths, lengths))
    return np.asarray(lengths[:, None] * vectors * np.sqrt(np.maximum(variances, 0.0)))
