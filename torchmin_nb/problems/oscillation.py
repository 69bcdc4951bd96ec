"""Two unknown periods in a real time series: the air pressure over the South Pacific (El Niño)."""

from __future__ import annotations

import math

import torch

from .problem import ProblemSpec
from .vector import Function, plane_problem

__all__ = ["SOUTHERN_OSCILLATION", "pressures", "two_periods"]

# Of 168 months; NIST certifies the sum of the squares, 788.53978668, and both periods, in months.
_BEST = 7.8853978668e02 / 168
_PERIODS = (44.311088700 / 12, 26.887614440 / 12)
_TABLE = """
    12.9 11.3 10.6 11.2 10.9 7.5 7.7 11.7 12.9 14.3 10.9 13.7 17.1 14.0 15.3 8.5 5.7 5.5 7.6 8.6 7.3 7.6 12.7 11.0
    12.7 12.9 13.0 10.9 10.4 10.2 8.0 10.9 13.6 10.5 9.2 12.4 12.7 13.3 10.1 7.8 4.8 3.0 2.5 6.3 9.7 11.6 8.6 12.4
    10.5 13.3 10.4 8.1 3.7 10.7 5.1 10.4 10.9 11.7 11.4 13.7 14.1 14.0 12.5 6.3 9.6 11.7 5.0 10.8 12.7 10.8 11.8 12.6
    15.7 12.6 14.8 7.8 7.1 11.2 8.1 6.4 5.2 12.0 10.2 12.7 10.2 14.7 12.2 7.1 5.7 6.7 3.9 8.5 8.3 10.8 16.7 12.6
    12.5 12.5 9.8 7.2 4.1 10.6 10.1 10.1 11.9 13.6 16.3 17.6 15.5 16.0 15.2 11.2 14.3 14.5 8.5 12.0 12.7 11.3 14.5 15.1
    10.4 11.5 13.4 7.5 0.6 0.3 5.5 5.0 4.6 8.2 9.9 9.2 12.5 10.9 9.9 8.9 7.6 9.5 8.4 10.7 13.6 13.7 13.7 16.5
    16.8 17.1 15.4 9.5 6.1 10.1 9.3 5.3 11.2 16.6 15.6 12.0 11.5 8.6 13.8 8.7 8.6 8.6 8.7 12.8 13.2 14.0 13.4 14.8
"""


def pressures() -> torch.Tensor:
    """Monthly differences of air pressure between Easter Island and Darwin, 168 months, shape (168,), float64.

    Source: NIST Statistical Reference Datasets, ENSO, https://www.itl.nist.gov/div898/strd/nls/data/enso.shtml; D.
    Kahaner, C. Moler, S. Nash, Numerical Methods and Software (1989).
    """
    return torch.tensor([float(value) for value in _TABLE.split()], dtype=torch.float64)


def two_periods(y: torch.Tensor) -> Function:
    """The mean squared residual of a constant and three waves, in x (..., 2) -> (...); y monthly values, shape (m,).

    One wave has a period of a year, the others of x[..., 0] and x[..., 1] years. Constant and amplitudes are linear
    parameters, so their best values are computed (variable projection: G. Golub, V. Pereyra, SIAM J. Numer. Anal. 10,
    413, 1973). The normal equations are shifted by the square root of epsilon, for equal periods; the loss changes by
    the square of the shift.
    """

    def loss(x: torch.Tensor) -> torch.Tensor:
        years = torch.arange(1, len(y) + 1, dtype=x.dtype, device=x.device) / 12
        series = y.to(x)
        angle = 2 * math.pi * years / torch.cat([torch.ones_like(x[..., :1]), x], -1)[..., None]
        columns = torch.cat([torch.ones_like(angle[..., :1, :]), angle.cos(), angle.sin()], -2)
        shift = torch.finfo(x.dtype).eps ** 0.5 * torch.eye(7, dtype=x.dtype, device=x.device)
        amplitudes = torch.linalg.solve(columns @ columns.mT / len(y) + shift, columns @ series / len(y))
        residuals = (amplitudes[..., None, :] @ columns).squeeze(-2) - series
        mean: torch.Tensor = residuals.square().mean(-1)
        return mean

    return loss


SOUTHERN_OSCILLATION = ProblemSpec(
    "Southern Oscillation",
    "curve fit",
    hard="two unknown periods in a noisy series: about thirty local minima, because every wrong period fits a little",
    answer="4.6936892 with periods of 3.69259 and 2.24063 years, in either order; NIST certifies 11 digits",
    source="https://www.itl.nist.gov/div898/strd/nls/data/enso.shtml",
    build=plane_problem(
        two_periods(pressures()),
        (1.5, 1.7),
        ((1.25, 5.0), (1.25, 5.0)),
        best_loss=_BEST,
        tolerance=1e-4,
        minimizers=(_PERIODS, _PERIODS[::-1]),
    ),
    many_minima=True,
)
