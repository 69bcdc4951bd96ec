"""Dual annealing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from ...methods.global_search import GLOBAL_METHODS
from ...signatures import shows_keywords
from ..common import COMMON
from .base import GlobalOptimizer
from .kwargs import SearchCommon, with_random
from .search import Search, pairs

__all__ = ["DualAnnealingWrapper"]


class DualAnnealingWrapper(GlobalOptimizer):
    """`scipy.optimize.dual_annealing`: generalised simulated annealing, with local searches on autograd derivatives.

    search_args: SciPy's keywords, `bounds` among them unless the param groups carry them. `x0` is the parameters'
    values unless given; None leaves it to SciPy. minimizer_args: the local method; L-BFGS-B if None. Else as
    BasinHoppingWrapper.

    An iteration is a temperature step of 2·N visits; its metrics are `temperature` (where SciPy lets it be seen) and
    `minima`.

    Sources: https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.dual_annealing.html; Y. Xiang, D. Y.
    Sun, W. Fan, X. G. Gong, "Generalized simulated annealing algorithm and its application to the Thomson model",
    Phys. Lett. A 233, 216 (1997).
    """

    spec = GLOBAL_METHODS["dual_annealing"]

    @shows_keywords(COMMON)
    def __init__(
        self,
        params: Any,
        minimizer_args: Any = None,
        search_args: Mapping[str, Any] | None = None,
        **common: Unpack[SearchCommon],
    ):
        super().__init__(params, minimizer_args, search_args, **common)

    def _polishes(self) -> bool:
        return not self._kwargs.get("no_local_search", False)

    def _solve(self, search: Search) -> OptimizeResult:
        kwargs = with_random(scipy.optimize.dual_annealing, self._passed("bounds", "x0"))
        return scipy.optimize.dual_annealing(
            _Annealing(search).visit,
            pairs(search.variables),
            x0=self._x0(search),
            minimizer_kwargs=None if search.local is None else {"method": search.local},
            **kwargs,
        )


class _Annealing:
    """Counts the visits between local searches: each temperature step makes 2·N of them."""

    def __init__(self, search: Search):
        self._search = search
        self._chain = 2 * search.variables.n
        self._visits = -1  # the start is not a visit

    def visit(self, z: NDArray[np.float64]) -> float:
        loss = self._search.value(z)
        if self._search.local is None or not self._search.local.active:
            self._visits += 1
            if self._visits and self._visits % self._chain == 0:
                self._search.record_iteration(_temperature())
        return loss


def _temperature() -> dict[str, float]:
    """The current temperature, read from SciPy's loop; empty if it cannot be read."""
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "dual_annealing":
        frame = frame.f_back  # type: ignore[assignment]
    temperature = None if frame is None else frame.f_locals.get("temperature")
    return {"temperature": float(temperature)} if isinstance(temperature, float | np.floating) else {}
