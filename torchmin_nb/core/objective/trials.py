"""The losses of a run's trials, remembered without their x: a method may come back to one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Trial", "Trials"]

_HASHED = 4096


class Trial(NamedTuple):
    """What is remembered of an evaluation: `mark` tells x from others, up to rounding."""

    loss: float
    metrics: Mapping[str, float]
    mark: float


class Trials:
    """Of the iteration under way; of all iterations where an iterate `may_be_older`."""

    def __init__(self, *, may_be_older: bool = False):
        self._may_be_older = may_be_older
        self._trials: dict[int, Trial] = {}
        self._weights: NDArray[np.float64] | None = None

    def add(self, x: NDArray[np.float64], loss: float, metrics: Mapping[str, float]) -> None:
        """Remember an evaluated point; loss: NaN where it is not defined."""
        self._trials[_key(x)] = Trial(loss, metrics, self._mark(x))

    def next_iteration(self) -> None:
        """An iteration is over: forget what came before, where no method comes back to it."""
        if not self._may_be_older:
            self._trials.clear()

    def at(self, x: NDArray[np.float64]) -> Trial | None:
        """The trial at x, if it is remembered."""
        return self._trials.get(_key(x))

    def nearest(self, x: NDArray[np.float64]) -> Trial:
        """The trial that lies nearest, as far as the marks tell."""
        mark = self._mark(x)
        return min(self._trials.values(), key=lambda trial: abs(trial.mark - mark))

    def _mark(self, x: NDArray[np.float64]) -> float:
        """A number that hardly changes when x is rounded, and does when it is moved."""
        if self._weights is None:
            self._weights = np.cos(np.arange(_sample(x).size))
        return float(self._weights @ _sample(x))


def _key(x: NDArray[np.float64]) -> int:
    """Tells the trials of one iteration apart; a long x by its sum and a sample, since hashing it all shows.

    -0.0 is made 0.0, which are the same point and not the same bytes.
    """
    if len(x) <= _HASHED:
        return hash((x + 0.0).tobytes())
    return hash((float(x.sum()), (_sample(x) + 0.0).tobytes()))


def _sample(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Some entries of a long x, all of another."""
    return x[:: max(1, len(x) // _HASHED)]
