"""DeviceOptimizer: the base of wrappers with solvers on the device: states are kept, saved and branched from."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from scipy.optimize import OptimizeResult

from ...errors import ArgumentError, StartWarning
from ..autodiff.closure import Closure
from ..execution.kept_states import KeptStates
from ..execution.run import Branching, Run
from ..execution.torch_engine import TorchRun
from ..history.history import History
from ..history.records import Iteration
from ..objective.device_objective import OnDevice
from ..parameters.flat import FlatParameters
from ..parameters.variables import Variables
from ..solvers.contract import State
from ..validation import positive
from .arguments import read_callbacks, require_state_form
from .base import ScipyOptimizer
from .device_run import EngineName, Saved, read_engine, read_solver_dtype

__all__ = ["DeviceOptimizer"]


class DeviceOptimizer(ScipyOptimizer):
    """A wrapper whose methods run by SciPy, or by a solver on the device.

    `states`: of the last run, the solver's states, or the points of SciPy's, by iteration. The keywords of its
    wrappers:

    Parameters
    ----------
    solver_dtype : torch.float32, torch.float64 or None, optional
        dtype of a solver with ``engine="torch"``. Default: the widest dtype among the parameters.
    keep_states : int or None, optional
        Keep the state of the solver every so many iterations, within `memory_budget`, for
        ``run.branch(iteration=...)``. The last state is always kept. For SciPy's solvers the kept state is the point.
        Default: the last state only.
    """

    states = KeptStates()
    _requested_engine: EngineName | None = None  # of a pickle that an earlier version wrote, as what follows
    _solver_dtype: torch.dtype | None = None
    _keep_states: int | None = None
    _saved: Saved | None = None
    _resume_from: Saved | None = None
    _left: Iteration | None = None
    """The iteration of the first run after which the next run begins, as its branch."""

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: without the kept states. `state_dict` contains the last one, as plain types."""
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("states", "_saved", "_going_on")}

    def _read_device(self, solver_dtype: torch.dtype | None, keep_states: int | None) -> None:
        self._solver_dtype = read_solver_dtype(solver_dtype)
        self._keep_states = positive("keep_states", keep_states, Integral)

    @abstractmethod
    def _changed(self, method: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of this wrapper with another method, or other options."""

    @abstractmethod
    def _take_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Replace the arguments of the constructor by these."""

    def state_dict(self) -> dict[str, Any]:
        """torch's state_dict, with the last run under "run", and the state of a solver on the device under "solver"."""
        solver = {} if self._saved is None else {"solver": self._saved.packed()}
        return {**super().state_dict(), **solver}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take groups, history, result and solver state from a state_dict; the next `step` continues that run.

        The parameters travel with the model. Trust radius, inverse Hessian, simplex and directions are used again if
        the method has them. If something is lost, `step` names it in a StartWarning. A run with ``engine="torch"``
        continues from the solver's state, on a CPU bit for bit. It begins at the point of that state, also if the run
        before has left a better point in the parameters. If the parameters are at neither point, the run begins anew,
        with a StartWarning.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returned.

        Raises
        ------
        ArgumentError
            If it is no state_dict, or that of another kind of optimizer.
        HistoryError
            If the run or the solver state in it cannot be read.
        ValueError
            By torch, if the param groups differ.

        Examples
        --------
        >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
        >>> closure = lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        >>> first = MinimizeWrapper([x], "L-BFGS-B", engine="torch", max_evaluations=20)
        >>> loss = first.step(closure)
        >>> second = MinimizeWrapper([x], "L-BFGS-B", engine="torch")
        >>> second.load_state_dict(first.state_dict())
        >>> second.step(closure).item() < 1e-10
        True
        """
        require_state_form(state_dict)
        solver = Saved.unpacked(state_dict["solver"]) if "solver" in state_dict else None
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "solver"})
        self._saved = self._resume_from = solver

    def _forgetful(self) -> Self:
        fresh = super()._forgetful()
        fresh._saved = fresh._resume_from = None
        return fresh

    def _new_history(self, flat: FlatParameters, options: Any = None) -> History:
        history = super()._new_history(flat, options)
        history.origin, self._left = self._left, None
        return history

    def _begin_states(self) -> Saved | None:
        """Prepare to keep the states of a new run. Returns the state from which it continues, if any."""
        resume_from, self._resume_from, self._saved = self._resume_from, None, None
        self.states = KeptStates(self._keep_states, self._memory_budget)
        return resume_from

    def _saving_state(self, run: TorchRun, objective: OnDevice) -> Callable[[], OptimizeResult]:
        """Solve, and keep the state at the end, after every ending."""

        def solve() -> OptimizeResult:
            try:
                return run.solve()
            finally:
                if run.state is not None:
                    self._saved = Saved(self.name, objective.loss_scale, run.state)

        return solve

    def _can_resume(self, saved: Saved, variables: Variables) -> bool:
        """Whether a loaded state belongs to this method and to the current values of the parameters."""
        x = saved.state.sample.x
        if saved.method != self.name or x.numel() != variables.n:
            return False
        ended = [x.to("cpu", torch.float64).numpy()]
        if self._loaded is not None and self._loaded[1] is not None:
            ended.append(variables.to_solver(self._loaded[1].x))
        rounding = 4 * torch.finfo(x.dtype).eps * float(np.abs(variables.start).max(initial=0.0))  # of scale=
        here = any(float(np.abs(each - variables.start).max(initial=0.0)) <= rounding for each in ended)
        if not here:
            message = f"{self.name} starts without the loaded state, because the parameters have other values"
            warnings.warn(message, StartWarning, stacklevel=5)
        return here

    def _branching(self, closure: Closure) -> Branching:
        def branch(run: Run, iteration: int | None, *, changes: Mapping[str, Any], steering: Mapping[str, Any]) -> Run:
            branched = self._branched(run, iteration, **changes)
            started = branched.start(closure, **steering)
            started.origin = run
            return started

        return branch

    def _branched(
        self, run: Run, iteration: int | None, *, method: Any, options: Any, engine: Any, callbacks: Any
    ) -> DeviceOptimizer:
        """A wrapper of the same parameters, at the point after this iteration, with the changed arguments."""
        kept, last = run.kept, run.history[-1].index if len(run.history) else None
        iteration = last if iteration is None else iteration
        if iteration in kept:
            state = kept[iteration]
        elif iteration == last and run.result is not None:
            state = run.result.x
        else:
            raise ArgumentError(
                f"iteration {iteration} was not kept; kept are {', '.join(map(str, kept)) or 'none'}, and the last: "
                f"keep_states=1 keeps every iteration within memory_budget"
            )
        branched, saved = self._forgetful(), None
        branched._requested_engine = self._requested_engine if engine is None else read_engine(engine)
        branched._take_arguments(self._changed(method, options or {}))
        branched.history = History(branched.name)
        branched._left = next((each for each in run.history if each.index == iteration), None)
        if callbacks is not None:
            branched.callbacks = read_callbacks(callbacks)
        variables = self._variables(self._flat(), self._bounds(self._flat()))
        if isinstance(state, State):
            x = variables.to_user(state.sample.x.to("cpu", torch.float64).numpy())
            saved = Saved(run.history.method, kept.loss_scale, state.copy(), counts=True)
        else:
            x = state
            if iteration != last and branched.name == run.history.method:
                message = f"{self.name} continues from the kept point without its memory of earlier iterations"
                warnings.warn(message, StartWarning, stacklevel=5)
        self._flat().write_final(x)
        branched._resume_from = saved
        branched._loaded = (run.history, run.result) if iteration == last and saved is None else None
        return branched
