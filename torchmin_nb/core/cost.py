"""The cost of a vector of residuals: half the sum of squares, or a robust one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Cost"]

_RHO: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "linear": (lambda z: z, np.ones_like),
    "soft_l1": (lambda z: 2 * (np.sqrt(1 + z) - 1), lambda z: 1 / np.sqrt(1 + z)),
    "huber": (
        lambda z: np.where(z <= 1, z, 2 * np.sqrt(z) - 1),
        lambda z: 1 / np.sqrt(np.maximum(z, 1)),
    ),
    "cauchy": (np.log1p, lambda z: 1 / (1 + z)),
    "arctan": (np.arctan, lambda z: 1 / (1 + z**2)),
}


class Cost:
    """F = ½ C² Σ ρ((f/C)²), the cost of residuals f; C is `f_scale`, ρ the loss.

    loss: a name of SciPy's, or a callable that returns ρ, ρ' and ρ'' as an array of shape (3, m).
    Source: Triggs et al., "Bundle adjustment: a modern synthesis" (1999); scipy.optimize.least_squares.
    """

    def __init__(self, loss: str | Callable[..., Any] = "linear", f_scale: float = 1.0):
        self._loss = loss
        self._scale = f_scale

    def value(self, f: NDArray[np.float64]) -> float:
        """F(f)."""
        if self._loss == "linear":
            with np.errstate(over="ignore", invalid="ignore"):
                return 0.5 * float(f @ f)
        return 0.5 * self._scale**2 * float(np.sum(self._rho(f)[0]))

    def weighted(self, f: NDArray[np.float64]) -> NDArray[np.float64]:
        """dF/df = ρ' f, shape (m,)."""
        return f.copy() if self._loss == "linear" else self._rho(f)[1] * f

    def _rho(self, f: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        with np.errstate(all="ignore"):
            z = (f / self._scale) ** 2
            if isinstance(self._loss, str):
                rho, slope = _RHO[self._loss]
                return rho(z), slope(z)
            found = np.asarray(self._loss(z))
        if found.shape != (3, f.size):
            raise ArgumentError(
                f"the loss callable returned shape {found.shape} for {f.size} residuals; it must return rho, its first "
                f"and its second derivative: shape (3, {f.size})"
            )
        return found[0], found[1]
