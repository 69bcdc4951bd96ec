"""A run of a solver on the device: one loop that calls the solver, reports to the recorder, and keeps states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import OptimizeResult

from ..objective.device_objective import OnDevice
from ..runtime.control import ITERATIONS, StopRun
from ..solvers.contract import State
from .engine import Engine
from .kept_states import KeptStates
from .recorder import Recorder
from .scipy_iterates import ScipyCallback
from .trust_region import TrustRegion

if TYPE_CHECKING:
    from ..parameters.variables import Variables

__all__ = ["TorchEngine", "TorchRun"]


class TorchRun:
    """The loop.

    state: the state from which to continue, None for a new run; loss_scale is then the number of that state. user: the
    user's SciPy callback. max_iterations: for a solver without this option.
    """

    def __init__(
        self,
        solver: Any,
        objective: OnDevice,
        recorder: Recorder,
        variables: Variables,
        kept: KeptStates,
        *,
        state: State | None = None,
        loss_scale: float | str = 1.0,
        user: ScipyCallback | None = None,
        max_iterations: int | None = None,
    ):
        self._solver, self._objective, self._recorder, self._variables = solver, objective, recorder, variables
        self._kept, self._user, self._loss_scale = kept, user, loss_scale
        self._max_iterations = max_iterations
        self.state = state

    def solve(self) -> OptimizeResult:
        """Iterate until the solver ends or StopRun is raised. `state` is always the last complete state."""
        solver, objective = self._solver, self._objective
        state = self._initial_state()
        try:
            while (ending := solver.terminate(objective, state)) is None:
                before = state.iteration
                state = solver.step(objective, state)
                self.state = state
                if state.iteration > before:
                    self._record_iteration(state)
        finally:
            if self.state is not None:
                self._kept.put_last(self._recorder.iterations, self.state)
        end = objective.finish_at(state)
        more = solver.result(state) if hasattr(solver, "result") else {}
        result = OptimizeResult({name: _to_host(value) for name, value in more.items()})
        x = end.x if self._variables.plain else self._variables.to_solver(end.x)
        result.update(x=x, success=ending.success, status=ending.status)
        result = self._variables.user_result(result)
        end_fields = {"x": end.x, "fun": end.loss, "message": ending.message}
        return OptimizeResult({**result, **end_fields, **objective.result_fields(state)})

    def _initial_state(self) -> State:
        objective, scale = self._objective, self._loss_scale
        if self.state is not None or scale != "auto":
            objective.use_scale(float(scale))
        else:
            objective.scale_by_start()
        self._variables.loss_scale = self._kept.loss_scale = objective.loss_scale
        if self.state is None:
            self.state = self._solver.init(objective)
        else:
            self.state.ended = None
            objective.begin_at(self.state)
        self._kept.offer(0, self.state)
        return self.state

    def _record_iteration(self, state: State) -> None:
        """An iteration is over."""
        point = self._objective.point_of(state)
        step = state.step_norm if self._variables.plain else None
        region = TrustRegion(state.radius, state.ratio)
        self._kept.offer(self._recorder.iterations + 1, state)
        residual = None
        if self._variables.box is not None and hasattr(state, "optimality"):
            residual = state.optimality * self._objective.loss_scale
        self._recorder.iterated(point, region, step=step, accepted=state.accepted, residual=residual)
        if self._user is not None:
            self._objective.calls.write_parameters(point.x)
            self._user(point.position(), point.loss)
            self._objective.calls.invalidate()
        if self._max_iterations is not None and self._recorder.iterations >= self._max_iterations:
            raise StopRun(ITERATIONS)


class TorchEngine(Engine):
    """An Engine for TorchRun, whose results are complete."""

    objective: OnDevice

    def _completed(self, result: Any) -> OptimizeResult:
        best = self.objective.best
        complete = OptimizeResult({**self._counted(), **result})
        if not complete.success and best is not None and best.loss < complete.fun:
            complete.update(scipy_x=complete.x, **self._best_point())
        return complete

    def _best_point(self) -> dict[str, Any]:
        best = self.objective.best_on_host()
        if best is None:
            return {"x": self.start.astype(np.float64), "fun": np.nan}
        return {"x": best.x, "fun": best.loss, "jac": best.gradient}


def _to_host(value: Any) -> Any:
    return value.to("cpu", torch.float64).numpy() if isinstance(value, torch.Tensor) else value
