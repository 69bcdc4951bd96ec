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
from ...signatures import shares_parameters, shows_keywords
from ..common import COMMON, Common
from .base import GlobalOptimizer
from .kwargs import SearchCommon, with_random
from .search import Search, pairs

__all__ = ["DualAnnealingWrapper"]


@shares_parameters(Common)
class DualAnnealingWrapper(GlobalOptimizer):
    """`scipy.optimize.dual_annealing`: generalised simulated annealing, with local searches on autograd derivatives.

    An iteration is a temperature step of 2·n visits, n the number of variables. Its metrics are ``temperature`` (if
    SciPy shows it) and ``minima``, the number of distinct minima known so far.

    Parameters
    ----------
    params : iterable of torch.Tensor, of (str, torch.Tensor) or of dict
        Tensors, named parameters or param groups, as for `MinimizeWrapper`. A group may have ``bounds=(low, high)`` and
        ``scale=``.
    minimizer_args : dict, str, callable or None, optional
        The local method, as for `MinimizeWrapper`, but without ``callback``. Default: L-BFGS-B.
    search_args : dict or None, optional
        SciPy's other keywords: ``GLOBAL_METHODS["dual_annealing"].options`` lists them. ``bounds`` is one of them,
        unless the groups have bounds. ``x0`` is the parameters' values by default; None leaves it to SciPy.
    {shared}

    Attributes
    ----------
    result : OptimizeResult or None
        SciPy's result of the last run, with ``minima``, a list of (loss, x), lowest first.
    history : History
        The temperature steps of the last run.

    Raises
    ------
    UnknownMethodError
        If there is no such local method.
    UnknownOptionError
        If dual_annealing has no such keyword, or the local method no such option.
    ArgumentError
        If an argument has a value that is not allowed, or there are no finite bounds.
    ArgumentTypeError
        If an argument has a wrong type, or a keyword does not exist.
    ParameterError
        If the parameters cannot be minimised over.

    References
    ----------
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.dual_annealing.html

    Y. Xiang, D. Y. Sun, W. Fan, X. G. Gong, "Generalized simulated annealing algorithm and its application to the
    Thomson model", Phys. Lett. A 233, 216 (1997).

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64))
    >>> optimizer = DualAnnealingWrapper([x], search_args=dict(bounds=(-5, 5), maxiter=100, rng=0))
    >>> loss = optimizer.step(lambda: 20 + (x**2 - 10 * torch.cos(2 * torch.pi * x)).sum())
    >>> round(loss.item(), 6)
    0.0
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
