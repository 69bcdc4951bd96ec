"""DIRECT: dividing rectangles."""

from __future__ import annotations

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
from .kwargs import SearchCommon
from .search import Search

__all__ = ["DirectWrapper"]


class DirectWrapper(GlobalOptimizer):
    """`scipy.optimize.direct`: divides the box into ever smaller rectangles; deterministic, and without gradients.

    search_args: SciPy's keywords, `bounds` among them unless the param groups carry them. Else as
    BasinHoppingWrapper. An iteration is one of SciPy's.

    Sources: https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.direct.html; D. R. Jones, C. D.
    Perttunen, B. E. Stuckman, "Lipschitzian optimization without the Lipschitz constant", J. Optim. Theory Appl. 79,
    157 (1993).
    """

    spec = GLOBAL_METHODS["direct"]

    @shows_keywords(COMMON)
    def __init__(self, params: Any, search_args: Mapping[str, Any] | None = None, **common: Unpack[SearchCommon]):
        super().__init__(params, None, search_args, **common)

    def _solve(self, search: Search) -> OptimizeResult:
        user = self._user_callback

        def divided(x: NDArray[np.float64]) -> None:
            search.record_iteration({})
            if user is not None:
                user(np.array(x))

        bounds = search.variables.bounds
        assert bounds is not None
        try:
            return scipy.optimize.direct(search.value, bounds, callback=divided, **self._passed("bounds", "callback"))
        except SystemError as error:  # before SciPy 1.15 it hides the error that the loss raised
            if error.__cause__ is None:
                raise
            raise error.__cause__ from None
