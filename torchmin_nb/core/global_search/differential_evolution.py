"""Differential evolution."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Unpack

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from scipy.optimize import Bounds, OptimizeResult

from ...errors import ArgumentError
from ..base import Common
from ..constraints import ConstraintSet
from ..variables import Variables
from .base import GlobalOptimizer
from .kwargs import with_random
from .local import as_polish
from .population import LossOfParameters
from .search import Search, pairs
from .table import GLOBAL_METHODS

__all__ = ["DifferentialEvolutionWrapper"]


class DifferentialEvolutionWrapper(GlobalOptimizer):
    """`scipy.optimize.differential_evolution`: a population that mutates and recombines.

    de_kwargs: SciPy's keywords, `bounds` among them unless the param groups carry them. `x0` is the parameters'
    values unless given. `polish`: True descends from the best with L-BFGS-B (SLSQP with constraints); or name a
    method, or give minimizer_args; what it costs is counted, and it is kept where it is lower, inside the bounds and
    feasible. loss: the loss as a function of the list of parameters, in the order of the optimizer. With it, or a
    closure that has `model` and `loss(model)`, a generation is evaluated at once under `torch.func.vmap`
    (`vectorized`, which makes `updating` deferred); where vmap refuses, one by one, with the same result. Each point
    counts as one closure call. Else as BasinHoppingWrapper.

    An iteration is a generation; its metrics are `generation` and `convergence`, above which 1 ends
    the run.

    Sources: https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.differential_evolution.html; R.
    Storn, K. Price, "Differential evolution", J. Glob. Optim. 11, 341 (1997).
    """

    spec = GLOBAL_METHODS["differential_evolution"]

    def __init__(
        self,
        params: Any,
        de_kwargs: Mapping[str, Any] | None = None,
        *,
        loss: LossOfParameters | None = None,
        **common: Unpack[Common],
    ):
        super().__init__(params, as_polish(de_kwargs, "polish"), de_kwargs, loss=loss, **common)
        if self._kwargs.get("vectorized") and self._kwargs.get("updating") == "immediate":
            raise ArgumentError("vectorized=True needs updating='deferred': a generation is evaluated at once")
        if self._kwargs.get("vectorized") and self._constraints:
            raise ArgumentError("vectorized=True cannot be combined with constraints: those are evaluated one by one")

    def _polishes(self) -> bool:
        return self._kwargs.get("polish", True) is not False

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
            callback=_generation(search, self._kwargs.get("callback")),
            constraints=search.constraints.for_scipy("object", curvature=False),
            polish=False,
            vectorized=search.vectorized,
            updating="deferred" if search.vectorized else self._kwargs.get("updating") or "immediate",
            **kwargs,
        )
        if search.local is not None:
            result = self._polished(search, result)
        result.nfev = search.objective.requests.nfev  # SciPy counts a generation as one
        return result

    def _violation(self, constraints: ConstraintSet, variables: Variables) -> Callable[[Any], float] | None:
        """Besides, how far integers are from being so: the start may be."""
        violation, whole = super()._violation(constraints, variables), self._whole(variables.n)
        if not whole.any():
            return violation
        return lambda x: max(violation(x) if violation else 0.0, float(np.abs(x - np.round(x))[whole].max()))

    def _whole(self, n: int) -> NDArray[np.bool_]:
        """Which variables are integers."""
        given = self._kwargs.get("integrality")
        return np.broadcast_to(np.asarray(False if given is None else given, dtype=bool), (n,))

    def _polished(self, search: Search, result: OptimizeResult) -> OptimizeResult:
        """The end of a descent from the best of the population; the population's best where that is no improvement."""
        assert search.local is not None
        bounds = search.variables.bounds
        assert bounds is not None
        whole = self._whole(search.variables.n)
        within = Bounds(np.where(whole, result.x, bounds.lb), np.where(whole, result.x, bounds.ub))
        end = search.local(search.value, result.x, bounds=within)
        inside = bool(((end.x >= within.lb) & (end.x <= within.ub)).all())
        lower = end.fun < result.fun and end.success and inside and not search.violates(search.variables.to_user(end.x))
        counts = {name: end.get(name, 0) for name in ("njev", "nhev")}
        better = {"x": end.x, "fun": end.fun, **({"jac": end.jac} if "jac" in end else {})} if lower else {}
        return OptimizeResult({**result, **better, **counts})


def _generation(search: Search, user: Callable[..., Any] | None) -> Callable[..., Any]:
    """SciPy's callback after each generation, and the user's own in the form it is written in."""
    named = user is not None and set(inspect.signature(user).parameters) == {"intermediate_result"}

    def generation(intermediate_result: OptimizeResult) -> Any:
        state = intermediate_result
        search.progressed({"generation": float(state.nit), "convergence": float(state.convergence)})
        search.objective.control.before_work()  # without a feasible point SciPy evaluates linear constraints only
        if user is None:
            return False
        return user(intermediate_result=state) if named else user(np.copy(state.x), convergence=state.convergence)

    return generation
