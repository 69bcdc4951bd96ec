"""Uncertainties of fitted parameters: covariance, standard errors and correlations at the end point of a run.

Least squares: C = s² (JᵀJ)⁻¹, with s² = 2·cost/(m − n) the residual variance. A negative log-likelihood: C = H⁻¹.
Sources: NIST/SEMATECH e-Handbook of Statistical Methods, section 4.6; G. A. F. Seber, C. J. Wild, "Nonlinear
Regression" (1989), section 2.1 and appendix E.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import ArgumentError, CovarianceWarning, NotAMinimumError
from ..display.html import html, joined
from ..display.tables import text_table

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.optimize import Bounds

__all__ = [
    "Covariance",
    "covariance_of_loss",
    "covariance_of_residuals",
    "named_values",
    "parameter_names",
    "warn_of_bounds",
]

_SHOWN = 40


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
        entries = zip(_entry_names(self.values), _flat_values(self.values), self._errors(), strict=True)
        return [
            (name, *_rounded(value, error)) for _, (name, value, error) in zip(range(_SHOWN), entries, strict=False)
        ]

    def _rest(self) -> str:
        more = len(self.matrix) - _SHOWN
        return f"\nand {more} more: see standard_errors()" if more > 0 else ""


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
    return _assembled(curvature, directions, lengths, variance, values, free)


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
    names = [name for name, hit in zip(_entry_names(values), near & (bounds.lb < bounds.ub), strict=True) if hit]
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
    inverse = (directions[known].T / curvature[known]) @ directions[known]
    loose = (np.abs(directions[~known]) > np.sqrt(np.finfo(np.float64).eps)).any(axis=0)
    matrix = np.zeros((free.size, free.size))
    matrix[np.ix_(free, free)] = variance * inverse / np.outer(lengths, lengths)
    undetermined = np.zeros(free.size, dtype=bool)
    undetermined[free] = loose
    if not known.all():
        _warn_of_rank(int(known.sum()), known.size, undetermined, values)
    return Covariance(matrix, values, undetermined)


def _warn_of_rank(rank: int, n: int, undetermined: NDArray[np.bool_], values: Mapping[str, torch.Tensor]) -> None:
    names = [name for name, loose in zip(_entry_names(values), undetermined, strict=True) if loose]
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    warnings.warn(
        f"only {rank} of {n} directions of the parameters are determined: {listed} trade off without changing the fit, "
        f"and have infinite standard errors; fix some of them, or use more data",
        CovarianceWarning,
        stacklevel=5,
    )


def _nonzero(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(lengths > 0, lengths, 1.0)


def _entry_names(values: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """One name for each entry: `weight[0, 1]`, or the parameter's name if it is a scalar."""
    for name, value in values.items():
        for index in product(*map(range, value.shape)):
            yield f"{name}[{', '.join(map(str, index))}]" if index else name


def _flat_values(values: Mapping[str, torch.Tensor]) -> Iterator[float]:
    for value in values.values():
        yield from value.reshape(-1).tolist()


def _rounded(value: float, error: float) -> tuple[str, str]:
    """Value and error as text: two digits of the error, and the value to the same decimal place."""
    if not (isfinite(error) and isfinite(value) and error > 0):
        return f"{value:.6g}", "∞" if error == np.inf else f"{error:.2g}"
    place = floor(log10(float(f"{error:.1e}")))
    if -6 < place < 6 and abs(value) < 1e9:
        decimals = max(0, 1 - place)
        return f"{value:.{decimals}f}", f"{error:.{decimals}f}"
    digits = max(0, floor(log10(abs(value))) - place + 1) if value else 1
    return f"{value:.{digits}e}", f"{error:.1e}"
