"""What is computed from parameters, with its standard error, and with bands over x."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import stats

from ...errors import ArgumentError
from ..display.html import html, html_table
from ..display.tables import text_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Bands",
    "Estimate",
    "bands_of",
    "entry_names",
    "rounded",
]

_SHOWN = 40


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
