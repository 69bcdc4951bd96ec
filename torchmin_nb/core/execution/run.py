"""Run: a minimisation in a worker thread that a notebook can watch and steer.

A blocking cell handles no button until it ends; with a run in a thread the kernel can. Pause, stop and budgets act
at the next closure call or product, `advance` at the end of an iteration. A paused run keeps the method's memory:
it continues exactly as without the pause.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ...errors import ArgumentError, BusyError
from ..display.hooks import diagnosis, show_panel, watch_run
from ..history.callbacks import Callback, notify
from ..history.history import History
from ..runtime import control as endings
from ..runtime.control import Control
from ..runtime.workers import WorkerThread, interruptible
from ..validation import count

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = [
    "Run",
    "SteeredOptimizer",
    "exclusive_parameters",
]

PENDING, RUNNING, PAUSED, STOPPED, FINISHED, FAILED = "pending", "running", "paused", "stopped", "finished", "failed"

_claims: set[int] = set()
_lock = threading.Lock()


@contextmanager
def exclusive_parameters(tensors: Sequence[torch.Tensor]) -> Iterator[None]:
    """Reserve these parameters for one run; BusyError if another run uses any of them."""
    ids = {id(tensor) for tensor in tensors}
    with _lock:
        if ids & _claims:
            raise BusyError(
                "another run is moving these parameters: wait for it (run.wait()), stop it (run.stop()), or use "
                "another model for this run"
            )
        _claims.update(ids)
    try:
        yield
    finally:
        with _lock:
            _claims.difference_update(ids)


class SteeredOptimizer(Protocol):
    """The part of an optimizer that a Run uses."""

    name: str
    callbacks: list[Callback]
    history: History
    result: OptimizeResult | None


class Branching(Protocol):
    """Starts a branch of a run. changes: of method, options, engine, callbacks. steering: arguments of `start`."""

    def __call__(
        self, run: Run, iteration: int | None, *, changes: Mapping[str, Any], steering: Mapping[str, Any]
    ) -> Run: ...


class _RunProgress:
    """Shared by a Run and its thread. The thread has no reference to the Run, so that an unused Run is freed."""

    def __init__(self, optimizer: SteeredOptimizer, control: Control):
        self.optimizer = optimizer
        self.control = control
        self.result: OptimizeResult | None = None
        self.exception: BaseException | None = None
        self.ended = threading.Event()
        self.kept: Any = ()
        self._before = History(optimizer.name)
        self._after: History | None = None
        self._begun = False
        self._lock = threading.Lock()
        self._waiters: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}

    @property
    def history(self) -> History:
        """The history of this run, not of an earlier or later run of the optimizer."""
        if self._after is not None:
            return self._after
        return self.optimizer.history if self._begun else self._before

    def execute(self, execute: Callable[[], object], claim: ExitStack, context: Callable[[], ExitStack]) -> None:
        """The whole run, in its thread."""
        with claim:  # held until all is stored, so that the next run of this optimizer is not confused with this one
            try:
                with context():
                    self.control.wait_for_start()
                    self._begin()
                    execute()
            except BaseException as error:
                self.exception = error
            self._after, self.result = self.optimizer.history, self.optimizer.result
            self.kept = getattr(self.optimizer, "states", ())
        self._notify_end()

    def refuse(self, error: BaseException) -> None:
        """End the run before it has begun."""
        self.exception = error
        self._notify_end()

    def outcome(self) -> OptimizeResult:
        """The result of a finished run; raises the error of the closure, if any."""
        if self.exception is not None:
            raise self.exception
        assert self.result is not None
        return self.result

    async def end(self) -> None:
        """Wait for the end without a thread; a cancelled wait leaves nothing behind."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        try:
            with self._lock:
                if self.ended.is_set():
                    return
                self._waiters[waiter] = loop
            await waiter
        finally:
            self._waiters.pop(waiter, None)

    def _begin(self) -> None:
        self.optimizer.history, self.optimizer.result = History(self.optimizer.name), None
        self._begun = True

    def _notify_end(self) -> None:
        with self._lock:
            self.ended.set()
            waiters, self._waiters = self._waiters, {}
        for waiter, loop in waiters.items():
            with suppress(RuntimeError):  # the event loop has been closed
                loop.call_soon_threadsafe(_wake, waiter)
        self.control.end()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Run:
    """A minimisation in a worker thread: what ``optimizer.start(closure)`` returns. It can be awaited.

    As the last line of a cell it shows its panel. A Run that nobody keeps goes on to its end; if it is paused, it ends
    there, since nobody could let it go on. If a script ends while a run goes on, the run stops at its next closure
    call.

    Attributes
    ----------
    state : str
        "pending" before the first closure call, then "running", "paused", "stopped" (by `stop`, a budget or a NaN: see
        `Status`), "finished" (the method ended it) or "failed".
    history : History
        The iterations so far.
    result : Result or None
        SciPy's result, once the run has ended.
    exception : BaseException or None
        What the closure or a callback raised.
    kept : mapping of int to state
        The kept states, by iteration.
    origin : Run or None
        The run that this one is a branch of.
    panel : object or None
        The panel that shows the run, if there is one.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> closure = lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> run = MinimizeWrapper([x], "trust-ncg").start(closure, iterations=3)
    >>> run.wait_until_paused(), run.state, len(run.history)
    (True, 'paused', 4)
    >>> run.resume()
    >>> run.wait().success, run.state
    (True, 'finished')
    """

    def __init__(
        self,
        optimizer: SteeredOptimizer,
        execute: Callable[[], object],
        control: Control,
        tensors: Sequence[torch.Tensor],
        *,
        held: AbstractContextManager[object] | None = None,
        branching: Branching | None = None,
        closure: Callable[[], Any] | None = None,
    ):
        self._optimizer = optimizer
        self._closure = closure
        self._control = control
        self._progress = progress = _RunProgress(optimizer, control)
        self._ended = progress.ended
        self._thread: WorkerThread | None = None
        self._branching = branching
        self.panel: Any = None
        self.origin: Run | None = None
        weakref.finalize(self, control.abandon).atexit = False
        context = _thread_context()
        with ExitStack() as claim:  # released again if a callback raises
            claim.enter_context(exclusive_parameters(tensors))
            claim.enter_context(held or nullcontext())
            self._announce(optimizer.callbacks)
            claim = claim.pop_all()
        # The notebook uses context variables to find the cell for a thread's output.
        work = partial(contextvars.copy_context().run, progress.execute, execute, claim, context)
        stop = partial(control.request, endings.STOPPED)
        self._thread = WorkerThread(work, name=f"torchmin_nb {optimizer.name}", stop=stop)
        self._launch(claim)

    def _launch(self, claim: ExitStack) -> None:
        assert self._thread is not None
        try:
            self._thread.start()
        except BaseException:
            claim.close()
            raise

    # Steering

    def pause(self) -> None:
        """Pause at the next closure call or product, or at the end of the iteration. The method keeps its memory."""
        self._control.pause()

    def resume(self) -> None:
        """Go on without limit."""
        self._control.resume()

    def advance(self, iterations: int = 1) -> None:
        """Go on for some iterations, then pause again.

        Parameters
        ----------
        iterations : int, optional
            Number of iterations, at least 1. Default 1.

        Raises
        ------
        ArgumentError
            If the number is not a positive integer.
        """
        self._control.resume(count("iterations of advance", iterations))

    def stop(self) -> None:
        """End at the next closure call or product. The best point seen stays in the parameters."""
        self._control.request(endings.STOPPED)

    def wait(self, timeout: float | None = None) -> OptimizeResult:
        """Wait for the end.

        A run that is paused does not end by itself.

        Parameters
        ----------
        timeout : float or None, optional
            Seconds to wait. Default: no limit.

        Returns
        -------
        Result
            The result of the run.

        Raises
        ------
        TimeoutError
            If the run has not ended by then. It goes on.
        BusyError
            In a callback or the closure of this run, which would wait for itself.
        Exception
            What the closure or a callback raised.
        """
        self._refuse_to_wait_for_itself("run.wait()", timeout)
        if not interruptible(lambda seconds: self._ended.wait(seconds) or None, timeout):
            raise TimeoutError(f"the run is {self.state} after {timeout} s; it continues")
        return self._progress.outcome()

    def wait_until_paused(self, timeout: float | None = None) -> bool:
        """Wait until the run is paused.

        Parameters
        ----------
        timeout : float or None, optional
            Seconds to wait; 0 only looks. Default: no limit.

        Returns
        -------
        bool
            Whether the run is paused. False if the timeout comes first, and at once for a run that has ended.

        Raises
        ------
        BusyError
            In a callback or the closure of this run, which would wait for itself.
        """
        self._refuse_to_wait_for_itself("run.wait_until_paused()", timeout)
        return bool(interruptible(self._control.wait_for_pause, timeout))

    def watch(self, interval: float = 1.0) -> None:
        """Draw the run in this cell again and again, until it pauses or ends. An interrupt of the kernel pauses it.

        The cell blocks meanwhile. It draws from the main thread and needs no widgets, so it works in every front end,
        also in those that do not show what other threads draw.

        Parameters
        ----------
        interval : float, optional
            Seconds between two drawings. Default 1.

        Raises
        ------
        ArgumentError
            If the interval is not positive.
        BusyError
            In a callback or the closure of this run, which would wait for itself.
        """
        if not interval > 0:
            raise ArgumentError(f"interval must be positive, the seconds between two drawings, got {interval!r}")
        self._refuse_to_wait_for_itself("run.watch()")
        watch_run(self, interval)

    def __await__(self) -> Generator[Any, None, OptimizeResult]:
        self._refuse_to_wait_for_itself("await run")
        return self._outcome().__await__()

    async def _outcome(self) -> OptimizeResult:
        await self._progress.end()
        return self._progress.outcome()

    def _refuse_to_wait_for_itself(self, call: str, timeout: float | None = None) -> None:
        if self._ended.is_set() or (timeout is not None and timeout <= 0):
            return
        if self._thread is None:
            raise BusyError(
                f"{call} in on_run would never return: the run begins after on_run of all callbacks; wait "
                f"after start() has returned"
            )
        if self._thread is threading.current_thread():
            raise BusyError(
                f"{call} in a callback or the closure of this run would wait for itself and never return; call "
                "run.stop() or run.pause(), return, and wait in another thread"
            )

    def branch(
        self,
        iteration: int | None = None,
        method: Any = None,
        *,
        options: Mapping[str, Any] | None = None,
        engine: str | None = None,
        callbacks: Any = None,
        iterations: int | None = None,
        pace: float = 0.0,
        paused: bool = False,
    ) -> Run:
        """Continue from a kept state of this run, which has ended, with other options, method or engine.

        Parameters
        ----------
        iteration : int or None, optional
            One of `kept`. Default: the last.
        method : str, dict or None, optional
            As in minimizer_args. Default: the method of this run. Its options then stay, except those in `options`, and
            ``maxiter`` still counts from the start of this run.
        options : dict or None, optional
            Options that change.
        engine : {"scipy", "torch", "auto"} or None, optional
            As for `MinimizeWrapper`. Default: the engine of this run.
        callbacks : callable, list of callables or None, optional
            In place of this run's. Default: the same ones.
        iterations : int or None, optional
            As for ``start``.
        pace : float, optional
            As for ``start``.
        paused : bool, optional
            As for ``start``.

        Returns
        -------
        Run
            The new run. Its `origin` is this one, which its panel draws beside it.

        Raises
        ------
        BusyError
            If this run has not ended.
        ArgumentError
            If the iteration was not kept, or the run is one of `observe` or of a global search.

        Warns
        -----
        StartWarning
            If the branch begins without something that the method had learned.

        Notes
        -----
        A branch with ``engine="torch"`` in which nothing is changed takes the same iterates again, on a CPU bit for
        bit. Every other branch begins at the kept point, with the inverse Hessian or trust radius of the kept state if
        the method has one.

        Examples
        --------
        >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
        >>> optimizer = MinimizeWrapper([x], "BFGS", engine="torch", keep_states=5)
        >>> run = optimizer.start(lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
        >>> end = run.wait()
        >>> branch = run.branch(10, "trust-ncg")
        >>> branch.wait().success, round(branch.history[0].loss / run.history[10].loss, 6)
        (True, 1.0)
        """
        if not self._ended.is_set():
            raise BusyError("the run still moves the parameters of the branch: call run.stop() or run.wait() first")
        if self._branching is None:
            raise ArgumentError("this run cannot be branched; only runs of MinimizeWrapper can")
        changes = {"method": method, "options": options, "engine": engine, "callbacks": callbacks}
        steering = {"iterations": iterations, "pace": pace, "paused": paused}
        return self._branching(self, iteration, changes=changes, steering=steering)

    def diagnose(self, *, budget: int | None = None) -> Any:
        """Why did it stop? Examines the loss where the run stands, and says what is wrong and what to change.

        A run that goes on is paused meanwhile. Parameters, gradients, buffers and random numbers are left as they are.

        Parameters
        ----------
        budget : int or None, optional
            Largest number of closure calls and Hessian-vector products. Default: 5 % of the run's, at least 50.

        Returns
        -------
        Report
            The verdict, its evidence and the remedies; ``report.rescue()`` tries them.

        Raises
        ------
        ArgumentError
            If the budget is not positive, or the run has no closure, as that of a stored history.
        BusyError
            In a callback or the closure of this run, and if another run moves the parameters.

        Examples
        --------
        >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
        >>> closure = lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        >>> run = MinimizeWrapper([x], dict(method="BFGS", options=dict(maxiter=5))).start(closure)
        >>> end = run.wait()
        >>> print(run.diagnose().rule)
        budget too small
        """
        if self._closure is None:
            raise ArgumentError("this run has no closure to examine; call optimizer.diagnose(closure)")
        self._refuse_to_wait_for_itself("run.diagnose()")
        goes_on = not self._ended.is_set() and not self._control.waiting
        if goes_on:
            self.pause()
            goes_on = self.wait_until_paused()
        try:
            with self._control.held():
                return diagnosis(self._optimizer, self._closure, run=self, budget=budget)
        finally:
            if goes_on:
                self.resume()

    @property
    def can_be_diagnosed(self) -> bool:
        """Whether it has a closure to examine, and stands still or has ended."""
        return self._closure is not None and (self._ended.is_set() or self._control.waiting)

    @property
    def kept(self) -> Any:
        """The kept states by iteration. The last one is among them once the run has ended."""
        return self._progress.kept

    # Watching

    @property
    def state(self) -> str:
        """Where the run is: "pending", "running", "paused", "stopped", "finished" or "failed"."""
        if not self._ended.is_set():
            if not len(self.history):
                return PENDING
            return PAUSED if self._control.waiting else RUNNING
        if self.exception is not None:
            return FAILED
        assert self.result is not None
        return STOPPED if self.history.ended_early and not self.result.success else FINISHED

    @property
    def history(self) -> History:
        """The iterations so far."""
        return self._progress.history

    @property
    def limits(self) -> dict[str, float]:
        """The budgets that it was given, by their names: "max_seconds", "max_evaluations"."""
        control = self._control
        given = {"max_seconds": control.max_seconds, "max_evaluations": control.max_evaluations}
        return {name: float(limit) for name, limit in given.items() if limit is not None}

    @property
    def batch(self) -> tuple[int, int] | None:
        """The batch of `full_batch` on which the run works, counted from 1, and the number of batches; else None."""
        return self._control.batch

    @property
    def result(self) -> OptimizeResult | None:
        """SciPy's result, once the run has ended."""
        return self._progress.result

    @property
    def exception(self) -> BaseException | None:
        """What the closure or a callback raised."""
        return self._progress.exception

    def _ipython_display_(self) -> None:
        """As the last line of a cell, a run shows its panel."""
        show_panel(self)

    def __repr__(self) -> str:
        return f"<Run {self.state}: {self.history.summary()}>"

    def _announce(self, callbacks: Sequence[Any]) -> None:
        """Call on_run in the caller's thread, so that a view opens in the cell that starts the run."""
        try:
            notify(callbacks, "on_run", self)
        except BaseException as error:  # callbacks that were called before see a failed run
            self._progress.refuse(error)
            raise


def _thread_context() -> Callable[[], ExitStack]:
    """A function that copies torch's thread-local settings from the caller; the worker calls it."""
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    casts = [(kind, torch.get_autocast_dtype(kind)) for kind in kinds]
    grad, device, threads = torch.is_grad_enabled(), torch.get_default_device(), torch.get_num_threads()

    def enter() -> ExitStack:
        torch.set_num_threads(threads)  # OpenMP and MKL of a new thread do not have the caller's setting
        stack = ExitStack()
        stack.enter_context(torch.set_grad_enabled(grad))
        stack.enter_context(torch.device(device))
        for kind, dtype in casts:
            stack.enter_context(torch.autocast(kind, dtype=dtype))
        return stack

    return enter
