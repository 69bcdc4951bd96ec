"""The losses at all starts before the runs, to keep the best starts: together under vmap where that is possible."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ....errors import InconsistentClosureError
from ...autodiff.closure import Closure
from ...parameters.flat import FlatParameters
from ..global_search.population import LossOfParameters, Population, population_of

__all__ = ["Screening", "screen"]


class Screening(NamedTuple):
    """The losses at all starts, shape (k,), NaN where the loss is not defined. together: under vmap."""

    losses: NDArray[np.float64]
    together: bool

    def best(self, keep: int) -> list[int]:
        """The numbers of the best starts, the lowest loss first."""
        order: list[int] = np.argsort(self.losses, kind="stable").tolist()  # NaN comes last
        return order[:keep]


def screen(
    rows: NDArray[np.float64], closure: Closure, loss: LossOfParameters | None, flat: FlatParameters
) -> Screening:
    """The losses at rows of shape (k, n); NaN where the closure raises an error. The parameters are put back.

    Raises InconsistentClosureError if `loss` and the closure differ.
    """
    before = flat.read()
    try:
        return _screened(rows, closure, loss, flat)
    finally:
        flat.write_final(before)
        flat.clear_gradients()


def _screened(
    rows: NDArray[np.float64], closure: Closure, loss: LossOfParameters | None, flat: FlatParameters
) -> Screening:
    population = population_of(closure, loss, flat)
    if population is not None:
        losses = _together(rows, closure, population, flat)
        if losses is not None:
            return Screening(losses, together=True)
    return Screening(np.array([_loss_at(x, closure, flat) for x in rows]), together=False)


def _together(
    rows: NDArray[np.float64], closure: Closure, population: Population, flat: FlatParameters
) -> NDArray[np.float64] | None:
    """None if vmap refuses the loss, or if it does not compute what the closure computes at the first start."""
    first = _loss_at(rows[0], closure, flat)
    try:
        population.fit()
        chunks = [rows[at : at + population.chunk] for at in range(0, len(rows), population.chunk)]
        losses = np.concatenate([population.losses(chunk) for chunk in chunks])
    except Exception:
        return None
    tolerance = 1e3 * flat.eps
    if np.isclose(losses[0], first, rtol=tolerance, atol=tolerance, equal_nan=True):
        return losses
    if population.explicit:
        raise InconsistentClosureError(
            f"the loss of the parameters is {losses[0]:.8g} at the first start, and the closure returned {first:.8g}; "
            f"loss= and the closure must compute the same"
        )
    return None


def _loss_at(x: NDArray[np.float64], closure: Closure, flat: FlatParameters) -> float:
    """The loss at x; of residuals, half the sum of their squares."""
    flat.write(x)
    flat.clear_gradients()
    try:
        with torch.enable_grad():
            returned = torch.as_tensor(closure()).detach().double()
    except Exception:  # a run from here reports the error
        return math.nan
    return float(returned if returned.numel() == 1 and not returned.dim() else 0.5 * returned.square().sum())
