"""The losses of a run's trials, stored without their x, for methods that return to earlier trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Trial", "Trials"]

_HASHED = 4096


class Trial(NamedTuple):
    """The stored part of an evaluation. `mark` identifies x, up to rounding."""

    loss: float
    metrics: Mapping[str, float]
    mark: float


class Trials:
    """The trials of the current iteration; of all iterations if an iterate `may_be_older`."""

    def __init__(self, *, may_be_older: bool = False):
        self._may_be_older = may_be_older
        self._trials: dict[int, Trial] = {}
        self._weights: NDArray[np.float64] | None = None

    def add(self, x: NDArray[np.float64], loss: float, metrics: Mapping[str, float]) -> None:
        """Store an evaluated point; loss: NaN where it is not defined."""
        self._trials[_key(x)] = Trial(loss, metrics, self._mark(x))

    def next_iteration(self) -> None:
        """End an iteration: drop earlier trials if the method cannot return to them."""
        if not self._may_be_older:
            self._trials.clear()

    def at(self, x: NDArray[np.float64]) -> Trial | None:
        """The trial at x, if it is stored."""
        return self._trials.get(_key(x))

    def nearest(self, x: NDArray[np.float64]) -> Trial:
        """The nearest trial, according to the marks."""
        mark = self._mark(x)
        return min(self._trials.values(), key=lambda trial: abs(trial.mark - mark))

    def _mark(self, x: NDArray[np.float64]) -> float:
        """A number that hardly changes when x is rounded, and changes when x moves."""
        if self._weights is None:
            self._weights = np.cos(np.arange(_sample(x).size))
        return float(self._weights @ _sample(x))


def _key(x: NDArray[np.float64]) -> int:
    """A key for the trials of one iteration; for a long x, its sum and a sample, because hashing all of it takes time.

    -0.0 is replaced by 0.0: it is the same point with other bytes.
    """
    if len(x) <= _HASHED:
        return hash((x + 0.0).tobytes())
    return hash((float(x.sum()), (_sample(x) + 0.0).tobytes()))


def _sample(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Some entries of a long x, all entries of a short one."""
    return x[:: max(1, len(x) // _HASHED)]
