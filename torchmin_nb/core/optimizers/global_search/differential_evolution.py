"""Differential evolution."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Unpack

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from scipy.optimize import Bounds, NonlinearConstraint, OptimizeResult

from ....errors import ArgumentError, ArgumentTypeError
from ...methods.global_search import GLOBAL_METHODS
from ...objective.constraints import ConstraintSet
from ...parameters.flat import FlatParameters
from ...parameters.variables import Variables
from ...runtime.user_function import shielded
from ...signatures import shares_parameters, shows_keywords
from ..common import COMMON, Common
from .base import GlobalOptimizer
from .kwargs import SearchCommon, with_random
from .local import as_polish
from .population import LossOfParameters
from .search import Search, pairs

__all__ = ["DifferentialEvolutionWrapper"]

_FEWEST = 5


@shares_parameters(Common)
class DifferentialEvolutionWrapper(GlobalOptimizer):
    """`scipy.optimize.differential_evolution`: a population that mutates and recombines.

    An iteration is a generation. Its metrics are ``generation``, ``population_spread``, the standard deviation of the
    members' losses, and ``convergence``; the run ends when that is above 1. Each point counts as one closure call.

    Parameters
    ----------
    params : iterable of torch.Tensor, of (str, torch.Tensor) or of dict
        Tensors, named parameters or param groups, as for `MinimizeWrapper`. A group may have ``bounds=(low, high)`` and
        ``scale=``.
    search_args : dict or None, optional
        SciPy's keywords: ``GLOBAL_METHODS["differential_evolution"].options`` lists them. ``bounds`` is one of them,
        unless the groups have bounds. ``x0`` is the parameters' values by default. ``polish=True``, the default,
        descends from the best member with L-BFGS-B (SLSQP with constraints). ``polish`` may also be the name of a
        method, minimizer_args, or a callable as in SciPy, ``polish(func, x0, bounds=..., constraints=...)``, that
        returns an OptimizeResult. Its work is counted. Its end is kept if it is lower, inside the bounds and feasible.
    loss : callable or None, optional
        The loss as a function of the list of parameters, in the order of the optimizer. With it, or with a closure that
        has ``model`` and ``loss(model)``, a generation is evaluated at once under `torch.func.vmap` (``vectorized``,
        with ``updating="deferred"``). Constraints are evaluated one by one. If vmap refuses, losses are evaluated one
        by one too, with the same result.
    {shared}

    Attributes
    ----------
    result : OptimizeResult or None
        SciPy's result of the last run, with ``minima``, a list of (loss, x), lowest first.
    history : History
        The generations of the last run.

    Raises
    ------
    UnknownMethodError
        If `polish` names no known method.
    UnknownOptionError
        If differential_evolution has no such keyword, or the local method no such option.
    ArgumentError
        If an argument has a value that is not allowed, or there are no finite bounds.
    ArgumentTypeError
        If an argument has a wrong type, or a keyword does not exist.
    ParameterError
        If the parameters cannot be minimised over.

    References
    ----------
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.differential_evolution.html

    R. Storn, K. Price, "Differential evolution", J. Glob. Optim. 11, 341 (1997).

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64))
    >>> rastrigin = lambda parameters: 20 + (parameters[0] ** 2 - 10 * torch.cos(2 * torch.pi * parameters[0])).sum()
    >>> optimizer = DifferentialEvolutionWrapper([x], dict(bounds=(-5, 5), rng=0), loss=rastrigin)
    >>> round(optimizer.step().item(), 6)
    0.0
    """

    spec = GLOBAL_METHODS["differential_evolution"]

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
        if self._kwargs.get("vectorized") and self._kwargs.get("updating") == "immediate":
            raise ArgumentError("vectorized=True needs updating='deferred': a generation is evaluated in one call")

    def _local_arguments(self, minimizer_args: Any, search_args: Any) -> Any:
        return as_polish(search_args, "polish")

    def _polishes(self) -> bool:
        polish = self._kwargs.get("polish", True)
        return polish is not False and polish is not None and not callable(polish)

    def _vectorizes(self, *, possible: bool) -> bool:
        wanted = self._kwargs.get("vectorized")
        if wanted is None:
            return possible and self._kwargs.get("updating") != "immediate" and not self._constraints
        return bool(wanted)

    def _solve(self, search: Search) -> OptimizeResult:
        kwargs = with_random(
            scipy.optimize.differential_evolution,
            self._passed("bounds", "x0", "polish", "disp", "constraints", "callback", "vectorized", "updating"),
        )
        result = scipy.optimize.differential_evolution(
            (lambda columns: search.values(columns.T)) if search.vectorized else search.value,
            pairs(search.variables),
            x0=self._x0(search),
            callback=_generation(search, self._user_callback),
            constraints=self._scipy_constraints(search),
            polish=False,
            vectorized=search.vectorized,
            updating="deferred" if search.vectorized else self._kwargs.get("updating") or "immediate",
            **kwargs,
        )
        polish = self._own_polish(search) or search.local
        if polish is not None:
            result = self._polished(search, result, polish)
        result.nfev = search.objective.requests.nfev  # SciPy counts a generation as one
        return result

    def _violation(self, constraints: ConstraintSet, variables: Variables) -> Callable[[Any], float] | None:
        """Also the distance of integer variables from integers: the start may be between integers."""
        violation, whole = super()._violation(constraints, variables), self._whole(variables.n)
        if not whole.any():
            return violation
        return lambda x: max(violation(x) if violation else 0.0, float(np.abs(x - np.round(x))[whole].max()))

    def _require(self, flat: FlatParameters) -> None:
        super()._require(flat)
        self._whole(flat.n)
        init = self._kwargs.get("init", "")
        if not isinstance(init, str) and (np.shape(init)[1] != flat.n or len(init) < _FEWEST):
            raise ArgumentError(
                f"init of {self.spec.name} has shape {np.shape(init)}; it must be (S, {flat.n}), S ≥ {_FEWEST}"
            )

    def _require_plain(self, variables: Variables) -> None:
        super()._require_plain(variables)
        if callable(self._kwargs.get("polish")) and not variables.plain:
            raise ArgumentError(
                "a callable polish uses the variables of the search, which scale= and equal bounds change; "
                "use only one of them"
            )

    def _scipy_constraints(self, search: Search) -> list[Any]:
        constraints = search.constraints.for_scipy("object", curvature=False)
        return [_by_columns(part) for part in constraints] if search.vectorized else constraints

    def _own_polish(self, search: Search) -> Callable[..., OptimizeResult] | None:
        """The user's polish, with the arguments that SciPy passes."""
        polish = shielded(self._kwargs.get("polish"))
        if not callable(polish):
            return None
        constraints = tuple(search.constraints.for_scipy("object", curvature=False))
        return lambda value, z, *, bounds: _checked(polish(value, np.copy(z), bounds=bounds, constraints=constraints))

    def _whole(self, n: int) -> NDArray[np.bool_]:
        """Which variables are integers."""
        integrality = self._kwargs.get("integrality")
        try:
            whole = np.asarray(False if integrality is None else integrality)
            if whole.dtype.kind in "biuf":
                return np.broadcast_to(whole.astype(bool), (n,))
        except ValueError:  # of another length, or ragged
            pass
        raise ArgumentError(f"integrality={integrality!r} must be True, False, or True or False for each variable")

    def _polished(
        self, search: Search, result: OptimizeResult, polish: Callable[..., OptimizeResult]
    ) -> OptimizeResult:
        """The end of a descent from the best member; the best member itself if that is no improvement."""
        bounds = search.variables.bounds
        assert bounds is not None
        whole = self._whole(search.variables.n)
        within = Bounds(np.where(whole, result.x, bounds.lb), np.where(whole, result.x, bounds.ub))
        end = polish(search.value, result.x, bounds=within)
        inside = bool(((end.x >= within.lb) & (end.x <= within.ub)).all())
        lower = end.fun < result.fun and end.success and inside and not search.violates(search.variables.to_user(end.x))
        counts = {name: end.get(name, 0) for name in ("njev", "nhev")}
        better = {"x": end.x, "fun": end.fun, **({"jac": end.jac} if "jac" in end else {})} if lower else {}
        return OptimizeResult({**result, **better, **counts})


def _checked(end: Any) -> OptimizeResult:
    """The return value of the user's polish. Raises ArgumentTypeError."""
    if not isinstance(end, OptimizeResult) or "x" not in end or "fun" not in end:
        raise ArgumentTypeError(f"polish returned {type(end).__name__}; return an OptimizeResult with x and fun")
    return OptimizeResult({"success": True, **end, "x": np.array(end.x, dtype=np.float64), "fun": float(end.fun)})


def _by_columns(part: Any) -> Any:
    """A constraint as a function of points in columns, (n, k) to (m, k): SciPy's form for a whole generation."""
    if not isinstance(part, NonlinearConstraint):
        return part
    fun = part.fun

    def columns(z: NDArray[np.float64]) -> NDArray[np.float64]:
        return fun(z) if z.ndim == 1 else np.stack([np.atleast_1d(fun(point)) for point in z.T], axis=1)

    return NonlinearConstraint(columns, part.lb, part.ub)


def _generation(search: Search, user: Callable[..., Any] | None) -> Callable[..., Any]:
    """SciPy's callback after each generation; calls the user's callback in the form of its signature."""
    named = user is not None and set(inspect.signature(user).parameters) == {"intermediate_result"}

    def generation(intermediate_result: OptimizeResult) -> Any:
        state = intermediate_result
        energies = state.population_energies
        spread = float(np.std(energies[np.isfinite(energies)])) if np.isfinite(energies).any() else math.nan
        numbers = {"generation": float(state.nit), "convergence": float(state.convergence), "population_spread": spread}
        search.record_iteration(numbers)
        search.objective.control.before_work()  # without a feasible point SciPy evaluates linear constraints only
        if user is None:
            return False
        return user(intermediate_result=state) if named else user(np.copy(state.x), convergence=state.convergence)

    return generation
