"""The cost of a vector of residuals: half the sum of squares, or a robust one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Cost"]

_Function = Callable[[Any], Any]
_RHO: dict[str, tuple[_Function, _Function, _Function]] = {
    "linear": (lambda z: z, np.ones_like, np.zeros_like),
    "soft_l1": (lambda z: 2 * (np.sqrt(1 + z) - 1), lambda z: (1 + z) ** -0.5, lambda z: -0.5 * (1 + z) ** -1.5),
    "huber": (
        lambda z: np.where(z <= 1, z, 2 * np.sqrt(z) - 1),
        lambda z: np.maximum(z, 1) ** -0.5,
        lambda z: np.where(z <= 1, 0, -0.5 * np.maximum(z, 1) ** -1.5),
    ),
    "cauchy": (np.log1p, lambda z: 1 / (1 + z), lambda z: -((1 + z) ** -2)),
    "arctan": (np.arctan, lambda z: 1 / (1 + z**2), lambda z: -2 * z / (1 + z**2) ** 2),
}
"""ρ, ρ' and ρ'' of z = (f/C)²."""


class Cost:
    """F = ½ C² Σ ρ((f/C)²), the cost of residuals f; C is `f_scale`, ρ the loss.

    loss: one of SciPy's names, or a callable that returns ρ, ρ' and ρ'' as an array of shape (3, m).
    Source: Triggs et al., "Bundle adjustment: a modern synthesis" (1999); scipy.optimize.least_squares.
    """

    def __init__(self, loss: str | Callable[..., Any] = "linear", f_scale: float = 1.0):
        self._loss = loss
        self._scale = f_scale

    @property
    def linear(self) -> bool:
        """Whether F is half the sum of squares."""
        return self._loss == "linear"

    def value(self, f: NDArray[np.float64]) -> float:
        """F(f)."""
        if self._loss == "linear":
            with np.errstate(over="ignore", invalid="ignore"):
                return 0.5 * float(f @ f)
        return 0.5 * self._scale**2 * float(np.sum(self._rho(f)[0]))

    def of(self, residuals: torch.Tensor) -> float:
        """See CostOfResiduals."""
        return self.value(_as_array(residuals))

    def slope(self, residuals: torch.Tensor) -> torch.Tensor:
        """See CostOfResiduals."""
        return torch.from_numpy(self.weighted(_as_array(residuals))).to(residuals)

    def weighted(self, f: NDArray[np.float64]) -> NDArray[np.float64]:
        """dF/df = ρ' f, shape (m,)."""
        return f.copy() if self._loss == "linear" else self._rho(f)[1] * f

    def curvature(self, f: NDArray[np.float64]) -> NDArray[np.float64]:
        """√(ρ' + 2ρ''z), shape (m,): J scaled by it gives JᵀJ, the Gauss-Newton approximation of the cost's Hessian."""
        if self._loss == "linear":
            return np.ones_like(f)
        _, slope, bend = self._rho(f)
        eps = np.finfo(np.float64).eps
        return np.asarray(np.sqrt(np.maximum(slope + 2 * bend * (f / self._scale) ** 2, eps)))

    def _rho(self, f: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        with np.errstate(all="ignore"):
            z = (f / self._scale) ** 2
            if isinstance(self._loss, str):
                return tuple(part(z) for part in _RHO[self._loss])
            rho = np.asarray(self._loss(z))
        if rho.shape != (3, f.size):
            raise ArgumentError(
                f"the loss callable returned shape {rho.shape} for {f.size} residuals; it must return rho, its first "
                f"and its second derivative: shape (3, {f.size})"
            )
        return tuple(rho)


def _as_array(residuals: torch.Tensor) -> NDArray[np.float64]:
    return residuals.to("cpu", torch.float64).numpy()
