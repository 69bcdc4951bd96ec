"""The covariance at the end point of a run: from residuals, or from the Hessian of a loss.

Least squares: C = s² (JᵀJ)⁻¹, with s² = 2·cost/(m − n) the residual variance. A negative log-likelihood: C = H⁻¹.
Sources: NIST/SEMATECH e-Handbook of Statistical Methods, section 4.6; G. A. F. Seber, C. J. Wild, "Nonlinear
Regression" (1989), section 2.1 and appendix E.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...errors import ArgumentError, CovarianceWarning, NotAMinimumError
from .covariance import Covariance, Undetermined
from .estimates import entry_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["covariance_of_loss", "covariance_of_residuals"]


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
