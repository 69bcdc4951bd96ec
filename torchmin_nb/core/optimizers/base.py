"""The base of all wrappers: a `torch.optim.Optimizer` with a `step(closure)` that runs a whole minimisation."""

from __future__ import annotations

import copy
import inspect
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from numbers import Integral
from typing import Any, Self, Unpack

import torch
from scipy.optimize import Bounds, OptimizeResult

from ...errors import StartWarning
from ..autodiff.closure import Closure, Evaluator, OwnEvaluator, evaluator_for, require_closure
from ..autodiff.closure_check import ClosureReport, check_closure
from ..autodiff.side_effects import autograd_enabled
from ..autodiff.start_check import StartCheck
from ..covariance.names import parameter_names
from ..display.hooks import diagnosis
from ..execution.engine import Engine, Evaluated
from ..execution.run import Branching, Run, exclusive_parameters
from ..history.callbacks import Callback
from ..history.history import History
from ..history.metrics import numbers
from ..objective.calls import Calls
from ..parameters.bounds import clipped, group_bounds, group_scale
from ..parameters.flat import FlatParameters, require_own_memory, trainable
from ..parameters.variables import Variables
from ..runtime.control import STOPPED, Control
from ..validation import positive
from .arguments import GROUP_DEFAULTS, group_errors, known_group_keys, refuse_several_processes, require_state_form
from .common import NONFINITE_ERRORS, Common, read_common
from .several_processes import Mirror, has_ranks, on_every_rank, relays
from .state import packed, unpacked

__all__ = ["ScipyOptimizer"]

_TORCH_PRIVATE = ("_optimizer_", "_zero_grad_profile_name")


class ScipyOptimizer(torch.optim.Optimizer):
    """A solver of SciPy as a torch optimizer. Subclasses build a run in `_prepare`.

    `result` is the last run's OptimizeResult, `history` its iterations. `name`, the method's, is set by subclasses:
    before the constructor here, or when the groups are known.
    """

    name: str
    supports_warm_start = False
    """Whether the method can continue with the memory of a loaded run."""
    _built = False
    _goes_on = False
    """Whether a run begins at the end of another one, so that it may be done at once."""
    _nonfinite_errors: tuple[type[Exception], ...] = NONFINITE_ERRORS  # missing in pickles of an earlier version

    def __init__(self, params: Any, **common: Unpack[Common]):
        common_values = read_common(type(self).__name__, _own_keywords(type(self)), common)
        with group_errors():
            super().__init__(params, dict(GROUP_DEFAULTS))
        self._built = True
        self._groups_changed()
        self._bounds(self._flat())
        group_scale(self.param_groups, trainable(self.param_groups))
        self.callbacks: list[Callback] = common_values["callbacks"]
        self._budgets = {name: common_values[name] for name in ("max_seconds", "max_evaluations", "target_loss")}
        self._keep = {name: common_values[name] for name in ("keep_parameters", "keep_evaluations")}
        self._memory_budget: int | None = common_values["memory_budget"]
        self._blas_threads: int | str | None = common_values["blas_threads"]
        self._start_check: bool = common_values["start_check"]
        self._nonfinite_errors: tuple[type[Exception], ...] = common_values["nonfinite_errors"]
        self._objective: Evaluated | None = None
        self._running: Control | None = None
        self._loaded: tuple[History, OptimizeResult] | None = None
        self.history: History = History(self.name)
        self.result: OptimizeResult | None = None

    @abstractmethod
    def _prepare(self, closure: Closure) -> tuple[Engine, Callable[[], object]]:
        """The engine of one run, and its call of SciPy. Raises for arguments with which no run is possible."""

    @property
    @abstractmethod
    def _options(self) -> Mapping[str, Any]:
        """The options of the method that the user has set."""

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options.items())
        count = sum(tensor.numel() for tensor in trainable(self.param_groups))
        return f"{type(self).__name__}({self.name!r}, options=dict({options}), parameters={count})"

    @property
    def res(self) -> OptimizeResult | None:
        """The same as `result`."""
        return self.result

    def step(self, closure: Closure | None = None) -> torch.Tensor:  # type: ignore[override]
        """Run the whole minimisation.

        Parameters
        ----------
        closure : callable
            Computes the loss from the parameters and returns it, a scalar tensor. It may call ``backward()`` once,
            several times or not at all. It is called several times, and needs the same data each time.

        Returns
        -------
        torch.Tensor
            The loss at the end point, a tensor of shape () with dtype and device of the first parameter. ``result``
            then has SciPy's OptimizeResult, ``history`` the iterations.

        Raises
        ------
        ArgumentTypeError
            If the closure is not callable.
        ClosureError
            If the loss or the gradient cannot be used, and if the start check finds an error.
        MemoryBudgetError
            If arrays of the method would not fit in memory.
        BusyError
            If another run is moving the same parameters.
        DistributedError
            If the process group has more than one process.
        """
        closure = require_closure(closure)
        refuse_several_processes(closure)
        control = Control(**self._budgets)
        with exclusive_parameters(trainable(self.param_groups)), self._steered_by(control):
            return self._execute_on_ranks(closure) if has_ranks(closure) else self._execute(closure)

    def start(self, closure: Closure, *, iterations: int | None = None, pace: float = 0.0, paused: bool = False) -> Run:
        """Do the same as `step` in a worker thread. Returns at once, with the Run to watch and steer it.

        Parameters
        ----------
        closure : callable
            Computes the loss, as for `step`.
        iterations : int or None, optional
            Pause after this number of iterations, until `Run.advance` or `Run.resume`. Default: no pause.
        pace : float, optional
            Hold each iteration for this number of seconds. Default 0.
        paused : bool, optional
            Begin only at the first `Run.resume` or `Run.advance`. Default False.

        Returns
        -------
        Run
            The run, which can be awaited.

        Raises
        ------
        ArgumentError
            If `iterations` or `pace` is not positive.
        ArgumentTypeError
            If the closure is not callable.
        ParameterError
            If the parameters cannot be minimised over.
        BusyError
            If another run is moving the same parameters.
        DistributedError
            If the process group has more than one process.

        Notes
        -----
        What `step` raises later, `Run.wait` raises here.

        torch's step hooks are called as around `step`, but in the worker thread: the pre hooks when the run begins (for
        a paused run, after the first `resume` or `advance`), the post hooks when it has ended, before `wait` returns. A
        run that raises has no post hooks. What a hook raises, `wait` raises.

        Examples
        --------
        >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
        >>> optimizer = MinimizeWrapper([x], "BFGS")
        >>> run = optimizer.start(lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, iterations=5)
        >>> run.wait_until_paused(), len(run.history) - 1
        (True, 5)
        >>> run.resume()
        >>> run.wait().success
        True
        """
        closure = require_closure(closure)
        refuse_several_processes(closure)
        positive("iterations", iterations, Integral)
        control = Control(
            **self._budgets, iterations=iterations, pace=positive("pace", pace or None) or 0.0, paused=paused
        )
        self._groups_changed()
        tensors = trainable(self.param_groups)
        return Run(
            self,
            lambda: self._execute_with_hooks(closure),
            control,
            tensors,
            held=self._steered_by(control),
            branching=self._branching(closure),
            closure=closure,
        )

    def _forgetful(self) -> Self:
        """A copy for the same parameters that remembers no earlier run."""
        fresh = copy.copy(self)
        fresh.callbacks = list(self.callbacks)
        fresh.history, fresh.result, fresh._loaded = History(self.name), None, None
        return fresh

    def _branching(self, closure: Closure) -> Branching | None:
        """The function that starts a branch of a run of this closure; None if branches are not possible."""
        return None

    @contextmanager
    def _steered_by(self, control: Control) -> Iterator[None]:
        """Connect `stop` to this control, from the reservation of the parameters to the end of the run."""
        self._running = control
        try:
            yield
        finally:
            self._running = None

    def _execute_on_ranks(self, closure: Closure) -> torch.Tensor:
        """`_execute` on rank 0; the other ranks evaluate, and take the run."""
        self._groups_changed()
        flat = FlatParameters(trainable(self.param_groups))
        mirror = Mirror(self.callbacks, self._new_history(flat))

        def take(run: Mapping[str, Any]) -> None:
            self.history, self.result = unpacked(run)
            self._loaded = None
            mirror.end(self.history)

        with self._more_callbacks(relays(closure, flat)):
            return on_every_rank(
                closure,
                flat,
                f"{type(self).__name__} {self.name}",
                lambda: self._execute(closure),
                state=lambda: packed(self.history, self.result),
                take=take,
                told=mirror,
            )

    @contextmanager
    def _more_callbacks(self, more: Iterable[Callback]) -> Iterator[None]:
        """Call these too."""
        own, self.callbacks = self.callbacks, [*self.callbacks, *more]
        try:
            yield
        finally:
            self.callbacks = own

    def _execute(self, closure: Closure) -> torch.Tensor:
        self._groups_changed()
        self.result, self.history = None, History(self.name)
        try:
            if self._loaded is not None and not self.supports_warm_start:
                message = f"{self.name} continues from the loaded point without its memory of earlier iterations"
                warnings.warn(message, StartWarning, stacklevel=4)
            with autograd_enabled(), self._callbacks_bound():
                engine, solve = self._prepare(closure)
                self._loaded, self.history, self._objective = None, engine.history, engine.objective
                engine.objective.calls.nonfinite_errors = self._nonfinite_errors  # not during the set-up
                try:
                    engine.run(solve)
                finally:
                    self.result = engine.result or None
        finally:
            self._objective = None
        first = engine.flat.tensors[0]
        return torch.tensor(engine.result.fun, dtype=first.dtype, device=first.device)

    @torch.optim.Optimizer.profile_hook_step
    def _execute_with_hooks(self, closure: Closure) -> torch.Tensor:
        """Like torch's wrapper of `step`: a pre hook may replace the closure, a post hook can read the result."""
        closure = require_closure(closure)
        return self._execute_on_ranks(closure) if has_ranks(closure) else self._execute(closure)

    @contextmanager
    def _callbacks_bound(self) -> Iterator[None]:
        """Call on_bind and on_release of the callbacks around a run."""
        with ExitStack() as stack:
            for callback in self.callbacks:
                if hasattr(callback, "on_bind"):
                    callback.on_bind(self)
                if hasattr(callback, "on_release"):
                    stack.callback(callback.on_release, self)
            yield

    def best_point(self) -> tuple[list[torch.Tensor], float] | None:
        """The best point seen by the run that is under way: a pair of tensors and loss, or None.

        The tensors are new ones, one for each trainable parameter, in their shapes and dtypes. None outside a run, and
        before the first finite loss.
        """
        objective = self._objective
        best = None if objective is None else objective.best
        if objective is None or best is None:
            return None
        return objective.flat.scatter(best.x), best.loss

    def stop(self) -> None:
        """End the run at its next closure call or product, or before its first. Any thread may call it."""
        running = self._running
        if running is not None:
            running.request(STOPPED)

    def record(self, **metrics: float | torch.Tensor) -> None:
        """Put numbers of your own on this evaluation and its iteration. Call it inside the closure.

        Outside a run it does nothing.

        Parameters
        ----------
        **metrics : float or torch.Tensor of one element
            Numbers by name. They are in ``Iteration.metrics`` and ``History.metrics``.

        Raises
        ------
        ArgumentTypeError
            If a value is not a number.
        ArgumentError
            If a name is one of the fields of Iteration.
        """
        recorded = numbers(metrics)
        if self._objective is not None:
            self._objective.calls.metrics.update(recorded)

    def check(self, closure: Closure) -> ClosureReport:
        """Check a closure without a run: determinism, gradient and curvature against differences, and its times.

        Steps are taken in the scaled parameters of ``scale=``. Parameters and random number generators are restored.

        Parameters
        ----------
        closure : callable
            Computes the loss, as for `step`.

        Returns
        -------
        ClosureReport
            What was found, problems in words.

        Raises
        ------
        ArgumentTypeError
            If the closure is not callable.
        ClosureError
            If the closure returns something that is no loss.

        Examples
        --------
        >>> x = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        >>> report = MinimizeWrapper([x]).check(lambda: (x**4).sum())
        >>> report.ok, report.loss, report.gradient_error < 1e-6
        (True, 3.0, True)
        """
        flat = FlatParameters(trainable(self.param_groups))
        scale = group_scale(self.param_groups, flat.tensors)
        closure, scales = require_closure(closure), 1.0 if scale is None else scale
        return on_every_rank(closure, flat, "check", lambda: check_closure(closure, flat, scale=scales))

    def diagnose(self, closure: Closure, *, budget: int | None = None) -> Any:
        """Why did it stop? Examines the loss where the last run ended, and says what is wrong and what to change.

        Without a run before, it examines the present values of the parameters. Parameters, gradients, buffers and
        random numbers are left as they are.

        Parameters
        ----------
        closure : callable
            The closure of the last run.
        budget : int or None, optional
            Largest number of closure calls and Hessian-vector products. Default: 5 % of the run's, at least 50.

        Returns
        -------
        Report
            The verdict, its evidence and the remedies; ``report.rescue()`` tries them.

        Raises
        ------
        ArgumentError
            If the budget is not positive.
        ArgumentTypeError
            If the closure is not callable.
        BusyError
            If a run is moving the parameters: use `Run.diagnose`, which pauses it.
        DistributedError
            If the closure is one of several processes.

        Examples
        --------
        >>> x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
        >>> optimizer = MinimizeWrapper([x], "BFGS")
        >>> closure = lambda: x.abs().sum() + 0.1 * (x**2).sum()
        >>> loss = optimizer.step(closure)
        >>> report = optimizer.diagnose(closure)
        >>> report.rule, report.evaluations + report.products <= 50
        ('kink', True)
        """
        return diagnosis(self, require_closure(closure), budget=positive("budget", budget, Integral))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a param group, as torch does. The next run moves its parameters too.

        Parameters
        ----------
        param_group : dict
            ``params``, and optionally ``bounds`` and ``scale``.

        Raises
        ------
        ArgumentError
            If the group has another key, such as ``lr``.
        ArgumentTypeError
            If the group is not a dict of tensors.
        ParameterError
            If a parameter is in a group already, or is no leaf tensor.
        """
        with group_errors():
            if isinstance(param_group, Mapping):
                known_group_keys([param_group])
            super().add_param_group(param_group)
        if self._built:  # called by torch's constructor for each of the first groups
            self._groups_changed()

    def state_dict(self) -> dict[str, Any]:
        """torch's state_dict, with history and result of the last run under "run": plain types and tensors only."""
        return {**super().state_dict(), "run": packed(self.history, self.result)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take groups, history and result from a state_dict. The next `step` continues where that run ended.

        The parameters travel with the model. Trust radius, inverse Hessian, simplex and directions are used again if
        the method has them. If something is lost, `step` names it in a StartWarning.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returned.

        Raises
        ------
        ArgumentError
            If it is no state_dict, or that of another kind of optimizer.
        HistoryError
            If the run in it cannot be read.
        ValueError
            By torch, if the param groups differ.
        """
        require_state_form(state_dict)
        known_group_keys(state_dict["param_groups"])
        run = unpacked(state_dict["run"]) if "run" in state_dict else None
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "run"})
        self._groups_changed()
        if run is not None:
            self.history, self.result = run
            self._loaded = None if self.result is None else (self.history, self.result)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: torch's state and ours, without hooks."""
        own = {name: value for name, value in self.__dict__.items() if not name.startswith(_TORCH_PRIVATE)}
        return {**super().__getstate__(), **own, "_objective": None, "_running": None}

    def _groups_changed(self) -> None:
        """Called when the param groups exist, after each change of them, and before each run."""

    def _flat(self) -> FlatParameters:
        """The trainable parameters as one vector. Raises ParameterError if they share memory."""
        tensors = trainable(self.param_groups)
        require_own_memory(tensors)
        return FlatParameters(tensors)

    def _bounds(self, flat: FlatParameters) -> Bounds | None:
        """The bounds of the param groups over the flat vector."""
        return group_bounds(self.param_groups, flat.tensors)

    def _variables(self, flat: FlatParameters, bounds: Bounds | None) -> Variables:
        """The solver's variables for the current values of the parameters, clipped to the bounds."""
        return Variables(clipped(flat.read(), bounds, flat.eps), group_scale(self.param_groups, flat.tensors), bounds)

    def _new_start_check(
        self, closure: Closure, flat: FlatParameters, variables: Variables, **what: Any
    ) -> StartCheck | None:
        """The start check of a run, unless start_check=False; `what`: its other arguments."""
        if not self._start_check:
            return None
        apart = isinstance(closure, OwnEvaluator)
        checked = closure.sample() if isinstance(closure, OwnEvaluator) else closure
        return StartCheck(checked, flat, variables, self._labels(), apart=apart, **what)

    def _labels(self) -> list[str]:
        """One label for each trainable parameter: its name, or its position, and its shape."""
        tensors = trainable(self.param_groups)
        return [
            f"parameter {name} of shape {tuple(tensor.shape)}"
            for name, tensor in zip(parameter_names(self.param_groups), tensors, strict=True)
        ]

    def _closure_calls(self, closure: Closure, flat: FlatParameters, check: StartCheck | None) -> Calls:
        """The closure calls of the run under way, for a closure that returns the loss."""
        return self._calls(evaluator_for(closure, flat, self._control()), flat, check)

    def _calls(self, evaluator: Evaluator, flat: FlatParameters, check: StartCheck | None) -> Calls:
        """The closure calls of the run under way."""
        return Calls(evaluator, flat, self._control(), check)

    def _control(self) -> Control:
        """The budgets and stop request of the run under way."""
        assert self._running is not None
        return self._running

    def _new_history(self, flat: FlatParameters, options: Any = None) -> History:
        dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in flat.tensors})
        return History(self.name, options=options, n_parameters=flat.n, dtype="/".join(dtypes), **self._keep)


def _own_keywords(wrapper: type) -> list[str]:
    parameters = inspect.signature(wrapper).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
