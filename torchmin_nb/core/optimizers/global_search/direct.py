"""DIRECT: dividing rectangles."""

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
from .kwargs import SearchCommon
from .search import Search

__all__ = ["DirectWrapper"]


@shares_parameters(Common)
class DirectWrapper(GlobalOptimizer):
    """`scipy.optimize.direct`: divides the box into smaller and smaller rectangles; deterministic, without gradients.

    An iteration is one of SciPy's.

    Parameters
    ----------
    params : iterable of torch.Tensor, of (str, torch.Tensor) or of dict
        Tensors, named parameters or param groups, as for `MinimizeWrapper`. A group may have ``bounds=(low, high)`` and
        ``scale=``.
    search_args : dict or None, optional
        SciPy's keywords: ``GLOBAL_METHODS["direct"].options`` lists them. ``bounds`` is one of them, unless the groups
        have bounds.
    {shared}

    Attributes
    ----------
    result : OptimizeResult or None
        SciPy's result of the last run.
    history : History
        The iterations of the last run.

    Raises
    ------
    UnknownOptionError
        If direct has no such keyword.
    ArgumentError
        If an argument has a value that is not allowed, or there are no finite bounds.
    ArgumentTypeError
        If an argument has a wrong type, or a keyword does not exist.
    ParameterError
        If the parameters cannot be minimised over.

    References
    ----------
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.direct.html

    D. R. Jones, C. D. Perttunen, B. E. Stuckman, "Lipschitzian optimization without the Lipschitz constant", J. Optim.
    Theory Appl. 79, 157 (1993).

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64))
    >>> optimizer = DirectWrapper([x], dict(bounds=(-4, 5)))
    >>> round(optimizer.step(lambda: 20 + (x**2 - 10 * torch.cos(2 * torch.pi * x)).sum()).item(), 3)
    0.0
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
