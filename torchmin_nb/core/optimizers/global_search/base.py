"""The base of the global wrappers: bounds from three places, the evaluation of the start, the local method."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, OptimizeResult

from ....errors import ArgumentError, ArgumentTypeError
from ...autodiff.closure import Closure, require_closure
from ...autodiff.start_check import StartCheck
from ...execution.engine import Engine
from ...execution.recorder import Recorder
from ...execution.run import Run
from ...execution.scipy_engine import ScipyEngine
from ...methods.global_search import GlobalSpec
from ...methods.options import require_arrays
from ...objective.constraints import ConstraintSet, read_constraints
from ...objective.objective import Derivatives, Objective
from ...parameters.flat import FlatParameters, trainable
from ...parameters.variables import Variables
from ...runtime.user_function import shielded
from ...signatures import shares_parameters
from ..base import ScipyOptimizer
from ..request import Request, require_fit
from .kwargs import (
    SearchCommon,
    by_one_name,
    is_pair,
    read_kwargs,
    read_search_bounds,
    read_start,
    require_finite,
    require_width,
)
from .local import LocalSearch, as_arguments, local_derivatives, read_local
from .minima import Minima
from .population import LossOfParameters, population_of
from .search import Search

__all__ = ["GlobalOptimizer"]


class GlobalOptimizer(ScipyOptimizer):
    """A global method of SciPy on a closure. Subclasses name their row and make the call in `_solve`."""

    spec: ClassVar[GlobalSpec]

    def __init__(
        self,
        params: Any,
        minimizer_args: Any,
        search_args: Mapping[str, Any] | None,
        *,
        loss: LossOfParameters | None = None,
        **common: Unpack[SearchCommon],
    ):
        search_keywords, shared = by_one_name(type(self).__name__, self.spec.older, search_args, common)
        self._arguments = as_arguments(self._local_arguments(minimizer_args, search_keywords))
        self._kwargs = read_kwargs(self.spec, search_keywords)
        if loss is not None and not callable(loss):
            raise ArgumentTypeError(f"loss must be a function of the list of parameters, got {type(loss).__name__}")
        self._loss = loss
        self._constraints = self._read_constraints()
        self.name = self.spec.name
        super().__init__(params, **shared)
        self._require(self._flat())
        self.request: Request | None = self._read_local(self._bounds(self._flat())) if self._polishes() else None

    @property
    def _options(self) -> Mapping[str, Any]:
        return self._kwargs

    def step(self, closure: Closure | None = None) -> torch.Tensor:  # type: ignore[override]
        """Run the whole search.

        Parameters
        ----------
        closure : callable or None, optional
            Computes the loss from the parameters, a scalar tensor, with or without gradients. It may be left out if the
            wrapper was given ``loss``. It is called many times, and needs the same data each time.

        Returns
        -------
        torch.Tensor
            The loss at the end point, a tensor of shape () with dtype and device of the first parameter.
            ``result.minima`` then lists (loss, x) of the distinct local minima that were found, lowest first.

        Raises
        ------
        ArgumentTypeError
            If there is no callable closure and no ``loss``.
        ClosureError
            If the loss or the gradient cannot be used, and if the start check finds an error.
        BusyError
            If another run is moving the same parameters.
        DistributedError
            If the process group has more than one process.
        """
        return super().step(self._closure(closure))

    @shares_parameters(ScipyOptimizer.start)
    def start(
        self,
        closure: Closure | None = None,
        *,
        iterations: int | None = None,
        pace: float = 0.0,
        paused: bool = False,
    ) -> Run:
        """Do the same as `step` in a worker thread. Returns at once, with the Run to watch and steer it.

        Parameters
        ----------
        closure : callable or None, optional
            Computes the loss, as for `step`.
        {shared}

        Returns
        -------
        Run
            The run, which can be awaited.

        Raises
        ------
        ArgumentError
            If `iterations` or `pace` is not positive.
        ArgumentTypeError
            If there is no callable closure and no ``loss``.
        BusyError
            If another run is moving the same parameters.
        DistributedError
            If the process group has more than one process.
        """
        return super().start(self._closure(closure), iterations=iterations, pace=pace, paused=paused)

    def _closure(self, closure: Closure | None) -> Closure:
        """The closure, or a closure made from `loss`."""
        if closure is not None or self._loss is None:
            return require_closure(closure)
        tensors, loss = trainable(self.param_groups), self._loss
        return lambda: loss(tensors)

    @abstractmethod
    def _solve(self, search: Search) -> OptimizeResult:
        """SciPy's result, its x in the solver's variables."""

    def _polishes(self) -> bool:
        """Whether this run has a local method."""
        return self.spec.local

    # Arguments

    def _local_arguments(self, minimizer_args: Any, search_args: Any) -> Any:
        """The arguments of the local method, from either place."""
        return minimizer_args

    def _keyword_bounds(self, n: int) -> Bounds | None:
        return read_search_bounds(self._kwargs.get("bounds"), n)

    def _bounds(self, flat: FlatParameters) -> Bounds | None:
        """The bounds from the keywords, minimizer_args or the param groups: from one place, or all equal."""
        places = [
            self._keyword_bounds(flat.n),
            read_search_bounds(self._arguments.get("bounds"), flat.n),
            super()._bounds(flat),
        ]
        specified = [bounds for bounds in places if bounds is not None]
        if not all(_alike(bounds, specified[0]) for bounds in specified):
            raise ArgumentError(
                "different bounds were passed in two places: keywords, minimizer_args or param groups; pass them once, "
                "because the search and its local method use the same bounds"
            )
        return specified[0] if specified else None

    def _require(self, flat: FlatParameters) -> None:
        """Refuse arguments that this method does not support for these parameters."""
        bounds = self._bounds(flat)
        if self.spec.bounds:
            require_finite(self.spec, bounds)
        if bounds is not None and "x0" in self._kwargs:
            read_start(self.spec, self._kwargs["x0"], flat.read(), bounds)

    def _read_constraints(self) -> list[Any]:
        places = [self._kwargs.get("constraints"), self._arguments.get("constraints")]
        specified = [part for part in places if part is not None and not (isinstance(part, list | tuple) and not part)]
        if len(specified) > 1:
            raise ArgumentError("constraints were passed in the keywords and in minimizer_args; pass them in one place")
        if specified and not self.spec.constraints:
            raise ArgumentError(f"{self.spec.name} takes no constraints; shgo and differential_evolution do")
        return read_constraints(specified[0]) if specified else []

    def _read_local(self, bounds: Bounds | None) -> Request:
        own = {name: value for name, value in self._arguments.items() if name not in ("bounds", "constraints")}
        arguments = {**self.spec.local_arguments(own), "constraints": self._constraints or None}
        request = read_local(arguments, bounded=bounds is not None, constrained=bool(self._constraints))
        if bounds is not None and not self.spec.bounds:
            require_fit(request.spec, "bounds")
        return request

    def _passed(self, *names: str) -> dict[str, Any]:
        """The keywords, without those of these names."""
        return {name: shielded(value) for name, value in self._kwargs.items() if name not in names}

    @property
    def _user_callback(self) -> Callable[..., Any] | None:
        return shielded(self._kwargs.get("callback"))  # type: ignore[no-any-return]

    # The run

    def _prepare(self, closure: Closure) -> tuple[Engine, Callable[[], object]]:
        flat = self._flat()
        self._require(flat)
        variables = self._variables(flat, self._bounds(flat))
        self._require_plain(variables)
        require_width(self.spec, variables.bounds)
        if self.request is not None:
            require_arrays(self.request.spec.name, self.request.spec.options.values(), self.request.options, flat.n)
        start = variables.to_user(variables.start)
        calls = self._closure_calls(closure, flat, self._new_check(closure, flat, variables))
        constraints = ConstraintSet(self._constraints, calls, variables)
        recorder = Recorder(calls, self._new_history(flat, self._kwargs), self.callbacks)
        objective = Objective(
            calls,
            Derivatives(level="probe", finite_start=not self.spec.bounds),
            recorder,
            violation=self._violation(constraints, variables),
            bounds=variables.box,
            constrained=bool(self._constraints),
        )
        width = variables.box.ub - variables.box.lb if self.spec.bounds and variables.box is not None else None
        search = Search(objective, recorder, variables, constraints, start, Minima(width))
        population = population_of(closure, self._loss, flat)
        search.vectorized = self._vectorizes(possible=population is not None)
        search.population = population if search.vectorized else None
        engine = ScipyEngine(
            objective, recorder, start, threads=self._threads(), disp=self._disp(), zero=self.spec.zero
        )
        return engine, lambda: self._run(search)

    def _run(self, search: Search) -> OptimizeResult:
        try:
            differentiable = search.probe()
            if not search.variables.n:
                return search.fixed()
            if self.request is not None:
                search.use_local_search(self._local(self.request, search, differentiable))
            return search.completed_result(self._solve(search))
        except ValueError as error:
            raise search.explained_failure(error) from error
        finally:
            search.close()

    def _local(self, request: Request, search: Search, differentiable: bool) -> LocalSearch:
        derivatives = local_derivatives(request, search.variables, differentiable=differentiable)
        return LocalSearch(request, search.objective, search.variables, search.constraints, derivatives, search.minima)

    def _violation(self, constraints: ConstraintSet, variables: Variables) -> Callable[[Any], float] | None:
        """The function for the violation at a point, for the choice of the best point; None without constraints."""
        return constraints.violation if constraints or variables.box is not None else None

    def _x0(self, search: Search) -> NDArray[np.float64] | None:
        """`x0` in the solver's variables."""
        bounds = self._bounds(search.objective.flat)
        assert bounds is not None
        x0 = read_start(self.spec, self._kwargs.get("x0", "start"), search.start, bounds)
        return None if x0 is None else search.variables.to_solver(x0)

    def _disp(self) -> bool:
        """Whether to print a summary at the end."""
        return bool(self._kwargs.get("disp", False))

    def _vectorizes(self, *, possible: bool) -> bool:
        """Whether the method evaluates many points together; `possible`: the loss is known as a function."""
        return False

    def _require_plain(self, variables: Variables) -> None:
        if variables.plain:
            return
        for name in self.spec.variable_space_options:
            value = self._kwargs.get(name)
            if value is not None and not isinstance(value, str) and not is_pair(value):
                raise ArgumentError(
                    f"{name} of {self.spec.name} uses the variables of the search, which scale= and equal bounds "
                    f"change; use only one of them"
                )

    def _new_check(self, closure: Closure, flat: FlatParameters, variables: Variables) -> StartCheck | None:
        request = self.request
        curvature = request is not None and request.level == "curvature"
        gradient = request is not None and request.level != "value"
        measure = request is not None and request.spec.dense
        return self._new_start_check(
            closure,
            flat,
            variables,
            gradient=gradient,
            curvature=curvature,
            measure=measure,
            constrained=bool(self._constraints),
        )

    def _threads(self) -> int | None:
        return 1 if self._blas_threads == "auto" else self._blas_threads  # type: ignore[return-value]


def _alike(one: Bounds, other: Bounds) -> bool:
    return bool((one.lb == other.lb).all() and (one.ub == other.ub).all())
