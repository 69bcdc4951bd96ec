"""The interface between residuals r(x), shape (m,), with the cost ½‖r‖², and a least-squares solver on the device.

As in `contract`: vectors stay on the device, numbers for decisions are Python floats. J: the Jacobian, shape (m, n).
Equations: rows of J, shape (k, n), and their residuals, shape (k,).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import torch

from ...errors import ArgumentError
from ..runtime.control import NONFINITE_JACOBIAN, Ending, Status
from .contract import Sample, State

__all__ = [
    "LeastSquaresState",
    "ResidualProblem",
    "ResidualSample",
    "Triangle",
    "bordered_triangle",
    "budget_spent",
    "ended",
    "sample_of",
    "scaled",
    "triangle",
]

_MESSAGES = (
    "The maximum number of function evaluations is exceeded.",
    "`gtol` termination condition is satisfied.",
    "`ftol` termination condition is satisfied.",
    "`xtol` termination condition is satisfied.",
    "Both `ftol` and `xtol` termination conditions are satisfied.",
)
"""SciPy's messages, by the status in `scipy.optimize.least_squares`; all except the first are successes."""


@dataclass(slots=True)
class ResidualSample:
    """A point and its residuals.

    x: shape (n,). residuals: shape (m,). cost: ½‖residuals‖², +inf where that is not a finite number.
    """

    x: torch.Tensor
    residuals: torch.Tensor
    cost: float


class ResidualProblem(Protocol):
    """m residuals of n variables. Counting, stops, budgets and scale are its affair.

    eps: machine epsilon of the arithmetic in which the residuals are computed. Derivatives are asked for at the start
    and at accepted points. A sample that the problem has not seen, as one of a loaded state, is evaluated again. whole:
    whether a solver may keep J; else it uses chunks and products.
    """

    n: int
    dtype: torch.dtype
    device: torch.device
    eps: float
    whole: bool

    def start(self) -> torch.Tensor:
        """A fresh x to begin at, shape (n,)."""
        ...

    def residuals(self, x: torch.Tensor) -> ResidualSample:
        """The residuals at x, which it keeps: do not write to x afterwards. One closure call, one transfer."""
        ...

    def jacobian(self, sample: ResidualSample) -> torch.Tensor:
        """J at the sample, shape (m, n): a fresh tensor. No transfer."""
        ...

    def equations(self, sample: ResidualSample) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """J and r at the sample in chunks of rows, of which one is in memory at a time. No transfer.

        Or other equations with the same JᵀJ, Jᵀr and rᵀr, if the rows are in several processes.
        """
        ...

    def product(self, sample: ResidualSample, v: torch.Tensor) -> torch.Tensor:
        """J v, shape (m,): a fresh tensor. No transfer."""
        ...

    def adjoint(self, sample: ResidualSample, u: torch.Tensor) -> torch.Tensor:
        """Jᵀu, shape (n,): a fresh tensor. No transfer."""
        ...


@dataclass(slots=True, kw_only=True)
class LeastSquaresState(State):
    """A state with the cost as the loss of its `sample`.

    point: the problem's sample at the same point. nfev: number of evaluations of the residuals.
    """

    point: ResidualSample
    nfev: int = 1

    @classmethod
    def unpacked(cls, values: dict[str, Any], *, copy: bool = False) -> Self:
        """The state of `packed` fields."""
        found = super(LeastSquaresState, cls).unpacked(values, copy=copy)
        fields: Any = found.point
        found.point = ResidualSample(**fields)
        return found


class Triangle(NamedTuple):
    """J = QR, thin: R, shape (k, n), and Qᵀr, shape (k,), with k = min(m, n)."""

    r: torch.Tensor
    qtr: torch.Tensor


def triangle(chunks: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Triangle:
    """The QR factorisation of J from chunks of its rows: n² numbers in memory besides a chunk."""
    factor = bordered_triangle(chunks)
    n = factor.shape[1] - 1
    return Triangle(factor[:n, :n], factor[:n, n])


def bordered_triangle(chunks: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """R of [J r] = QR, shape (min(m, n + 1), n + 1): equations with the same JᵀJ, Jᵀr and rᵀr.

    Twice the work of JᵀJ, but more accurate: in JᵀJ, rounding hides singular values below √eps of the largest. Q is
    not formed.
    """
    factor: torch.Tensor | None = None
    for rows, residuals in chunks:
        columns = torch.cat([rows, residuals[:, None]], 1)
        factor = torch.linalg.qr(columns if factor is None else torch.cat([factor, columns]), mode="r").R
    assert factor is not None
    return factor


def scaled(x_scale: Any, columns: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
    """The factors of the variables, shape (n,): SciPy's 1/x_scale.

    columns: the norms of the columns of J. "jac" uses the largest so far; a column of zeros has norm 1 at the start.
    before: the factors at the last point, or None at the start. Raises ArgumentError.
    """
    if isinstance(x_scale, str):
        return torch.where(columns > 0, columns, 1.0) if before is None else torch.maximum(columns, before)
    if before is not None:
        return before
    try:
        return 1 / torch.as_tensor(x_scale, dtype=columns.dtype, device=columns.device).expand(columns.shape)
    except RuntimeError as error:
        raise ArgumentError(
            f"x_scale has shape {tuple(torch.as_tensor(x_scale).shape)}; pass 'jac', a positive number or "
            f"{len(columns)} positive numbers"
        ) from error


def sample_of(point: ResidualSample, gradient: torch.Tensor, largest: float, norm: float) -> Sample:
    """The sample for the run, with the gradient Jᵀr of the cost."""
    return Sample(point.x, point.cost, gradient, 0.0, largest, norm)


def budget_spent(problem: ResidualProblem, nfev: int, max_nfev: int | None) -> bool:
    """Whether the budget of residuals is used; the default is SciPy's, 100·n."""
    return nfev >= (100 * problem.n if max_nfev is None else max_nfev)


def ended(code: int | None) -> Ending | None:
    """The ending for SciPy's status, or for NONFINITE_JACOBIAN."""
    if code is None:
        return None
    if code == Status.NONFINITE_JACOBIAN:
        return NONFINITE_JACOBIAN
    return Ending(code, code > 0, _MESSAGES[code])
