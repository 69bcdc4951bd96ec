"""Basin hopping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from ...methods.global_search import GLOBAL_METHODS
from ...signatures import shares_parameters, shows_keywords
from ..common import COMMON, Common
from .base import GlobalOptimizer
from .kwargs import SearchCommon, with_random
from .search import Search

__all__ = ["BasinHoppingWrapper"]


@shares_parameters(Common)
class BasinHoppingWrapper(GlobalOptimizer):
    """`scipy.optimize.basinhopping`: random hops, each followed by a local method with autograd derivatives.

    An iteration is a hop. Its metrics are ``candidate``, the loss of the hop's local minimum, and ``minima``, the
    number of distinct minima known so far. ``accepted`` says whether the Metropolis test took it. A closure without
    gradients gets finite differences.

    Parameters
    ----------
    params : iterable of torch.Tensor, of (str, torch.Tensor) or of dict
        Tensors, named parameters or param groups, as for `MinimizeWrapper`. A group may have ``bounds=(low, high)`` and
        ``scale=``.
    minimizer_args : dict, str, callable or None, optional
        The local method, as for `MinimizeWrapper`, but without ``callback``. Default: BFGS, or L-BFGS-B with bounds
        (here or in a group). The dict is not changed.
    search_args : dict or None, optional
        SciPy's other keywords, such as ``niter``, ``T``, ``stepsize`` and ``rng``:
        ``GLOBAL_METHODS["basinhopping"].options`` lists them. The dict is not changed.
    {shared}

    Attributes
    ----------
    result : OptimizeResult or None
        SciPy's result of the last run, with ``minima``, a list of (loss, x), lowest first.
    history : History
        The hops of the last run.

    Raises
    ------
    UnknownMethodError
        If there is no such local method.
    UnknownOptionError
        If basinhopping has no such keyword, or the local method no such option.
    ArgumentError
        If an argument has a value that is not allowed.
    ArgumentTypeError
        If an argument has a wrong type, or a keyword does not exist.
    ParameterError
        If the parameters cannot be minimised over.

    References
    ----------
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.basinhopping.html

    D. J. Wales, J. P. K. Doye, "Global optimization by basin-hopping", J. Phys. Chem. A 101, 5111 (1997).

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    >>> optimizer = BasinHoppingWrapper([x], search_args=dict(niter=25, rng=0))
    >>> loss = optimizer.step(lambda: torch.cos(14.5 * x - 0.3).sum() + ((x + 0.2) * x).sum())
    >>> round(loss.item(), 4), x.detach().round(decimals=3)
    (-1.0009, tensor([-0.1950], dtype=torch.float64))
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
