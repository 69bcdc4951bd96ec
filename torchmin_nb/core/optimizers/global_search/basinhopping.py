"""Basin hopping."""

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
from .kwargs import SearchCommon, with_random
from .search import Search

__all__ = ["BasinHoppingWrapper"]


class BasinHoppingWrapper(GlobalOptimizer):
    """`scipy.optimize.basinhopping`: random hops, each followed by a local method with autograd derivatives.

    params: as MinimizeWrapper takes them. minimizer_args: the local method, as MinimizeWrapper takes it; BFGS if
    None, or L-BFGS-B within bounds (of minimizer_args or of the param groups). search_args: SciPy's other
    keywords; see GLOBAL_METHODS. Dicts are not mutated. The other
    keywords, callbacks and budgets among them: as MinimizeWrapper.

    An iteration is a hop; its metrics are `candidate`, the hop's local minimum, and `minima`, how many distinct ones
    are known; `accepted` says whether Metropolis took it. A closure without gradients is served by finite
    differences.

    Sources: https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.basinhopping.html; D. J. Wales, J. P.
    K. Doye, "Global optimization by basin-hopping", J. Phys. Chem. A 101, 5111 (1997).
    """

    spec = GLOBAL_METHODS["basinhopping"]

    @shows_keywords(COMMON)
    def __init__(
        self,
        params: Any,
        minimizer_args: Any = None,
        search_args: Mapping[str, Any] | None = None,
        **common: Unpack[SearchCommon],
    ):
        super().__init__(params, minimizer_args, search_args, **common)

    def _solve(self, search: Search) -> OptimizeResult:
        kwargs = with_random(scipy.optimize.basinhopping, self._passed("disp", "callback"))
        user = self._user_callback

        def hopped(x: NDArray[np.float64], f: float, accept: bool) -> Any:
            search.record_iteration({"candidate": float(f)}, accepted=bool(accept))
            return user(x, f, accept) if user is not None else None

        result = scipy.optimize.basinhopping(
            search.value,
            search.variables.to_solver(search.start),
            minimizer_kwargs={"method": search.local},
            callback=hopped,
            **kwargs,
        )
        if not result.success:  # SciPy's message describes the hops, its success the lowest local search
            lowest = result.lowest_optimization_result
            result.update(status=1, message=f"The lowest local search did not converge: {lowest.message}")
        return result
