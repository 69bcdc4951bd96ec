"""Brute force."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Unpack

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from scipy.optimize import Bounds, OptimizeResult

from ....errors import ArgumentError
from ...methods.global_search import GLOBAL_METHODS
from ...parameters.flat import FlatParameters
from ...parameters.variables import Variables
from ...runtime.user_function import shielded
from ...signatures import shares_parameters, shows_keywords
from ..common import COMMON, Common
from .base import GlobalOptimizer
from .grid import Grid, read_ranges, twice
from .kwargs import SearchCommon, is_pair
from .local import as_polish
from .population import LossOfParameters
from .search import Search, pairs

__all__ = ["BruteWrapper"]


@shares_parameters(Common)
class BruteWrapper(GlobalOptimizer):
    """`scipy.optimize.brute`: a grid, and a descent from its best point on autograd derivatives.

    An iteration is a fiftieth of the grid. Its metric ``searched`` is the part that is done.

    Parameters
    ----------
    params : iterable of torch.Tensor, of (str, torch.Tensor) or of dict
        Tensors, named parameters or param groups, as for `MinimizeWrapper`. A group may have ``bounds=(low, high)`` and
        ``scale=``.
    search_args : dict or None, optional
        SciPy's keywords: ``GLOBAL_METHODS["brute"].options`` lists them. ``ranges`` may be one pair for all variables;
        ``bounds``, or bounds of the groups, may take its place. ``finish=True``, the default, descends with L-BFGS-B
        within the ranges. ``finish`` may also be the name of a method, minimizer_args, or a function as in SciPy. None
        leaves the point of the grid.
    loss : callable or None, optional
        The loss as a function of the list of parameters, in the order of the optimizer. Parts of the grid are then
        evaluated at once under `torch.func.vmap`, as they are for a closure with ``model`` and ``loss(model)``.
    {shared}

    Attributes
    ----------
    result : OptimizeResult or None
        SciPy's result of the last run, with ``grid``, the grid, and ``Jout``, the losses on it, in SciPy's shapes.
    history : History
        The fiftieths of the grid in the last run.

    Raises
    ------
    UnknownMethodError
        If `finish` names no known method.
    UnknownOptionError
        If brute has no such keyword, or the local method no such option.
    ArgumentError
        If an argument has a value that is not allowed, or there are no finite bounds.
    ArgumentTypeError
        If an argument has a wrong type, or a keyword does not exist.
    ParameterError
        If the parameters cannot be minimised over.
    MemoryBudgetError
        If the grid would not fit in memory.

    References
    ----------
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.brute.html

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64))
    >>> optimizer = BruteWrapper([x], dict(ranges=(-4, 5), Ns=10))
    >>> round(optimizer.step(lambda: 20 + (x**2 - 10 * torch.cos(2 * torch.pi * x)).sum()).item(), 6)
    0.0
    >>> optimizer.result.Jout.shape
    (10, 10)
    """

    spec = GLOBAL_METHODS["brute"]

    @shows_keywords(COMMON)
    def __init__(
        self,
        params: Any,
        search_args: Mapping[str, Any] | None = None,
        *,
        loss: LossOfParameters | None = None,
        **common: Unpack[SearchCommon],
    ):
        super().__init__(params, None, search_args, loss=loss, **common)

    def _local_arguments(self, minimizer_args: Any, search_args: Any) -> Any:
        return as_polish(search_args, "finish")

    def _polishes(self) -> bool:
        finish = self._kwargs.get("finish", True)
        return finish is not None and finish is not False and not callable(finish)

    def _keyword_bounds(self, n: int) -> Bounds | None:
        ranges = self._kwargs.get("ranges")
        if ranges is None:
            return super()._keyword_bounds(n)
        if self._kwargs.get("bounds") is not None:
            raise ArgumentError("brute takes ranges or bounds, not both")
        return read_ranges([ranges] * n if is_pair(ranges) else ranges, n).bounds

    def _require(self, flat: FlatParameters) -> None:
        super()._require(flat)
        self._grid(flat).require_memory(self._memory_budget)

    def _grid(self, flat: FlatParameters) -> Grid:
        """The grid over the values of the free variables."""
        ranges, points = self._kwargs.get("ranges"), self._kwargs.get("Ns", 20)
        bounds = self._bounds(flat)
        assert bounds is not None
        if ranges is None or is_pair(ranges):
            return Grid.of_bounds(bounds, points)
        return read_ranges(ranges, flat.n, points)

    def _vectorizes(self, *, possible: bool) -> bool:
        return True

    def _solve(self, search: Search) -> OptimizeResult:
        finish = self._kwargs.get("finish", True)
        axes = self._axes(search.variables)
        single = len(axes) == 1 and axes[0] != twice(axes[0])
        x, fun, grid, losses = scipy.optimize.brute(
            search.value,
            [twice(axis) for axis in axes] if single else axes,
            full_output=True,
            finish=shielded(finish) if callable(finish) else self._finish(search) if search.local is not None else None,
            workers=lambda function, points: _searched(search, points),
        )
        if single:
            grid, losses = grid[:1], losses[:1]
        return OptimizeResult(
            x=x, fun=float(fun), grid=grid, Jout=losses, success=True, status=0, message="The grid has been searched."
        )

    def _axes(self, variables: Variables) -> list[slice]:
        """The grid over the solver's variables."""
        ranges, points = self._kwargs.get("ranges"), self._kwargs.get("Ns", 20)
        spanned = ranges is None or is_pair(ranges)
        return list(read_ranges(pairs(variables) if spanned else ranges, variables.n, points).axes)

    def _finish(self, search: Search) -> Callable[..., OptimizeResult]:
        def finish(fun: Callable[..., float], x: NDArray[np.float64], args: Any = ()) -> OptimizeResult:
            assert search.local is not None
            return search.local(search.value, x)

        return finish


def _searched(search: Search, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The losses on the grid, with an iteration every fiftieth."""
    rows = np.asarray(points).reshape(len(points), -1)
    size = -(-len(rows) // 50)
    losses = []
    for start in range(0, len(rows), size):
        losses.append(search.values(rows[start : start + size]))
        search.record_iteration({"searched": min(1.0, (start + size) / len(rows))})
    return np.concatenate(losses)
