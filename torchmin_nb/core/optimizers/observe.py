"""`observe`: torch's optimizers as runs that can be watched, steered and compared like SciPy's.

The optimizer's `step(closure)` is called as in an ordinary training loop, with a closure that also reports its
calls. There is no extra evaluation, and the parameters are bit for bit the same as in that loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from ...errors import ArgumentTypeError, ClosureError
from ..autodiff.closure import Closure, ClosureResult, as_loss, backpropagate, require_closure, require_gradient_parts
from ..autodiff.explained_errors import explained
from ..execution.recorder import Recorder
from ..execution.run import Run
from ..execution.scipy_engine import ScipyEngine
from ..history.callbacks import Callback
from ..history.history import History
from ..history.metrics import collecting
from ..objective.calls import Calls
from ..objective.objective import Derivatives, Objective, Point
from ..parameters.flat import FlatParameters, trainable
from ..runtime.control import NONFINITE_LOSS, Abort, Control, StopRun
from ..validation import count, number, positive
from .arguments import read_callbacks, refuse_several_processes
from .base import ScipyOptimizer

__all__ = ["observe"]


def observe(
    torch_optimizer: torch.optim.Optimizer,
    closure: Closure,
    steps: int,
    *,
    callbacks: Callback | list[Callback] | tuple[Callback, ...] = (),
    max_seconds: float | None = None,
    max_evaluations: int | None = None,
    target_loss: float | None = None,
    pace: float = 0.0,
    iterations: int | None = None,
    paused: bool = False,
    keep_parameters: bool = False,
    keep_evaluations: bool = False,
    evaluate_end: bool = False,
) -> Run:
    """Run a `torch.optim` optimizer for some steps in a worker thread; returns at once, with the Run to steer it.

    Parameters
    ----------
    torch_optimizer : torch.optim.Optimizer
        An optimizer of torch, such as Adam or LBFGS.
    closure : callable
        Computes the loss, as for `torch.optim.LBFGS`. It may draw random batches. Its own ``zero_grad`` counts:
        gradients that it leaves to accumulate do so. If it does not call ``backward()``, its gradients are cleared and
        its loss is backpropagated here. Inside it, ``torchmin_nb.record(name=value)`` puts numbers of your own on the
        iteration.
    steps : int
        Number of calls of ``torch_optimizer.step``, at least 1.
    callbacks : callable or list of callables, optional
        As for `MinimizeWrapper`.
    max_seconds : float or None, optional
        Wall-clock seconds, pauses not counted. Default: no limit.
    max_evaluations : int or None, optional
        Number of closure calls. Default: no limit.
    target_loss : float or None, optional
        The run ends as soon as a loss has this value or less. Default: no target.
    pace : float, optional
        Hold each iteration for this number of seconds. Default 0.
    iterations : int or None, optional
        Pause after this number of iterations, until `Run.advance` or `Run.resume`. Default: no pause.
    paused : bool, optional
        Begin only at the first `Run.resume` or `Run.advance`. Default False.
    keep_parameters : bool, optional
        Keep the point of every iteration in ``history.parameters``. Default False.
    keep_evaluations : bool, optional
        Keep every closure call in ``history.evaluations``. Default False.
    evaluate_end : bool, optional
        Make one closure call more, at the end point. Default False.

    Returns
    -------
    Run
        The run, which can be awaited.

    Raises
    ------
    ArgumentError
        If an argument has a value that is not allowed.
    ArgumentTypeError
        If an argument has a wrong type, or the optimizer is one of torchmin_nb's.
    ParameterError
        If parameters are neither float32 nor float64.
    BusyError
        If another run is moving the same parameters.
    DistributedError
        If the process group has more than one process.

    Notes
    -----
    ``run.wait()`` raises what the closure raised, and NonFiniteStartError.

    Iteration k is the point after k steps; index 0 is the start. Its loss and gradient norm are those of the first
    closure call there, which step k + 1 makes before it moves. No closure call is added, and callbacks find the
    parameters at that point. The end point, after the last step, is an iteration only if its loss is known: with
    `evaluate_end`, or if the optimizer itself evaluated it, as LBFGS with a line search does. Otherwise the history
    ends one step earlier, and the result's ``fun`` is the loss of the last closure call.

    A run that ends by its number of steps leaves the parameters, ``.grad`` and the optimizer's state where the training
    loop ``for _ in range(steps): optimizer.step(closure)`` leaves them, bit for bit. A run that is stopped, out of
    budget or failed leaves the best point seen. So does a run whose loss, gradient or parameters become NaN or
    infinite: it ends there with status 109. Infinite trials within a step are left to the optimizer. The optimizer's
    state is never changed here. If a step of several closure calls is stopped before its end, the state is as that
    optimizer left it.

    For a learning rate schedule, use a hook of torch:
    ``optimizer.register_step_post_hook(lambda *_: scheduler.step())``.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([3.0]))
    >>> run = observe(torch.optim.SGD([x], lr=0.25), lambda: (x**2).sum(), steps=3)
    >>> run.wait().message, run.history.loss.tolist(), x.item()
    ('The 3 steps are done.', [9.0, 2.25, 0.5625], 0.375)
    """
    _require(torch_optimizer)
    refuse_several_processes(closure)
    control = Control(
        positive("max_seconds", max_seconds),
        positive("max_evaluations", max_evaluations, Integral),
        number("target_loss", target_loss),
        iterations=positive("iterations", iterations, Integral),
        pace=positive("pace", pace or None) or 0.0,
        paused=paused,
    )
    observed = _Observed(
        torch_optimizer,
        require_closure(closure),
        count("steps", steps),
        read_callbacks(callbacks),
        evaluate_end=evaluate_end,
        keep={"keep_parameters": keep_parameters, "keep_evaluations": keep_evaluations},
    )
    tensors = trainable(torch_optimizer.param_groups)
    return Run(observed, lambda: observed.execute(control), control, tensors, closure=closure)


def _require(optimizer: object) -> None:
    if isinstance(optimizer, ScipyOptimizer):
        raise ArgumentTypeError(f"observe is for torch's optimizers; for {optimizer.name} call start(closure)")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ArgumentTypeError(
            f"observe takes a torch.optim.Optimizer, got {type(optimizer).__name__}; "
            f"pass e.g. torch.optim.Adam(model.parameters())"
        )


class _Observed:
    """The object that a Run steers: an optimizer of torch, with its closure and number of steps.

    `torch_optimizer` is that optimizer.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        closure: Closure,
        steps: int,
        callbacks: list[Callback],
        *,
        evaluate_end: bool,
        keep: dict[str, bool],
    ):
        self.name = type(optimizer).__name__
        self.callbacks = callbacks
        self.history = History(self.name)
        self.result: OptimizeResult | None = None
        self.torch_optimizer = optimizer
        self._closure = closure
        self._steps = steps
        self._evaluate_end = evaluate_end
        self._keep = keep

    def execute(self, control: Control) -> None:
        """The whole run; fills `history` and `result`."""
        flat = FlatParameters(trainable(self.torch_optimizer.param_groups))
        evaluator = _Evaluator(self._closure, self.torch_optimizer, flat)
        calls = _Calls(evaluator, flat, control)
        recorder = Recorder(calls, self._new_history(flat), self.callbacks)
        observer = _Observer(recorder)
        watched = _Watched(calls, Derivatives("gradient"), observer, requests=calls.counts)
        self.history = recorder.history
        engine = _Engine(watched, recorder, flat.read())

        def called() -> Any:
            watched.evaluate_here()
            returned, evaluator.returned = evaluator.returned, None
            return returned

        try:
            with evaluator.listening():
                engine.run(lambda: self._train(watched, observer, engine, called))
        finally:
            self.result = engine.result or None

    def _train(
        self, watched: _Watched, observer: _Observer, engine: _Engine, called: Callable[[], Any]
    ) -> OptimizeResult:
        """The training loop. called: the closure for torch's optimizer, with the return value of the user's closure."""
        for _ in range(self._steps):
            observer.await_iterate()
            self.torch_optimizer.step(called)
            if observer.awaiting:
                raise ClosureError(f"{self.name}.step did not call its closure; observe needs a step that calls it")
        x = watched.flat.read()
        if not np.isfinite(x).all():
            raise StopRun(NONFINITE_LOSS)
        end = watched.cached_point(x)
        if self._evaluate_end:
            observer.await_iterate()
            watched.evaluate_here()
        elif end is not None:
            observer.recorder.iterated(end)
        engine.keep_parameters_unchanged = True
        return watched.ended(x, self._steps)

    def _new_history(self, flat: FlatParameters) -> History:
        dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in flat.tensors})
        return History(
            self.name, options=self.torch_optimizer.defaults, n_parameters=flat.n, dtype="/".join(dtypes), **self._keep
        )


class _Observer:
    """Reports each closure call to the recorder, and the first call at each iterate as an iteration."""

    def __init__(self, recorder: Recorder):
        self.recorder = recorder
        self.awaiting = True

    def await_iterate(self) -> None:
        """Note that the next closure call is the first of a step."""
        self.awaiting = True

    def evaluated(self, point: Point) -> None:
        first, started = self.awaiting, len(self.recorder.history) > 0
        self.awaiting = False
        self.recorder.evaluated(point)  # also reports index 0
        if first and not _finite(point):
            raise StopRun(NONFINITE_LOSS)
        if first and started:
            self.recorder.iterated(point)


class _Engine(ScipyEngine):
    """Ends a complete run without changing the parameters."""

    keep_parameters_unchanged = False

    def _translated(self, error: BaseException) -> BaseException:
        return error  # of torch's optimizer

    def _write_end_point(self, x: NDArray[np.float64]) -> None:
        if not self.keep_parameters_unchanged:
            super()._write_end_point(x)


class _Evaluator:
    """The closure's loss and the `.grad` after it, as torch's optimizer will see them."""

    def __init__(self, closure: Closure, optimizer: torch.optim.Optimizer, flat: FlatParameters):
        self.returned: Any = None
        self._closure = closure
        self._optimizer = optimizer
        self._flat = flat
        self._reached = False

    def evaluate(self, level: str) -> ClosureResult:
        """See Evaluator; afterwards `returned` is the return value of the closure."""
        before = [(gradient, _version(gradient)) for gradient in self._flat.gradients()]
        self._reached = False
        self.returned = self._closure()
        loss = as_loss(self.returned)
        if not self._reached and not any(map(_replaced, self._flat.gradients(), before)):
            self._optimizer.zero_grad()
            if math.isfinite(loss):
                backpropagate(self.returned, loss)
        return ClosureResult(loss, require_gradient_parts(self._flat, loss), self._flat)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Register hooks that note each gradient that a `backward` adds to a parameter."""
        handles = [tensor.register_post_accumulate_grad_hook(self._hear) for tensor in self._flat.tensors]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hear(self, tensor: torch.Tensor) -> None:
        self._reached = True


class _Calls(Calls):
    """Calls at the current parameters: torch moves them, and clears their gradients."""

    def call(self, x: Any, level: str) -> ClosureResult:
        """See Calls."""
        self.control.before_evaluation(self.counts.nfev)
        self.metrics = {}
        self.counts.nfev += 1
        try:
            with torch.enable_grad(), collecting(self.metrics):
                result = self.evaluator.evaluate(level)
        except Exception as error:
            raise Abort(explained(error)) from error
        self.counts.njev += 1
        return result

    def write_parameters(self, x: Any) -> None:
        """Do nothing: torch moves the parameters."""


class _Watched(Objective):
    """An objective that is evaluated at the current parameters."""

    last_loss = math.nan

    def evaluate_here(self) -> None:
        """One evaluation, reported to the observer."""
        self.trials.next_iteration()  # torch's optimizers do not return to earlier points
        self.last_loss = self._evaluate(self.flat.read(), "gradient").loss

    def end_point(self, x: NDArray[np.float64]) -> Point:
        """The end point, with the last loss, because it is not evaluated."""
        return self.cached_point(x) or Point(x, self.last_loss, None, {})

    def ended(self, x: NDArray[np.float64], steps: int) -> OptimizeResult:
        """The result at x (n,), after all steps."""
        end = self.cached_point(x)
        gradient = {} if end is None or end.gradient is None else {"jac": end.gradient}
        fun = self.last_loss if end is None else end.loss
        done = f"The {steps} steps are done." if steps > 1 else "The step is done."
        return OptimizeResult(x=x, fun=fun, **gradient, success=True, status=0, message=done, nit=steps)


def _version(gradient: torch.Tensor | None) -> int:
    return 0 if gradient is None else gradient._version


def _replaced(gradient: torch.Tensor | None, before: tuple[torch.Tensor | None, int]) -> bool:
    """Whether the closure set a `.grad` without `backward`. Setting it to zero in place does not count."""
    if gradient is None:
        return False
    return gradient is not before[0] or (gradient._version != before[1] and bool(gradient.any()))


def _finite(point: Point) -> bool:
    return math.isfinite(point.loss) and (point.gradient is None or bool(np.isfinite(point.gradient).all()))
