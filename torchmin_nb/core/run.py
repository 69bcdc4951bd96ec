"""Run: a minimisation in a worker thread, to be watched and steered from the notebook.

A cell that blocks hears no button until it ends; a run in a thread lets the kernel answer. Pause, stop and budgets act
at the next closure call or product, `advance` at the end of an iteration. A run that stands still keeps the method's
memory: it goes on as if it had never paused.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ..errors import BusyError
from . import control as endings
from .arguments import count
from .control import Control
from .events import Callback, History, tell

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["Run", "Steered", "claimed", "panel_shown_by"]

PENDING, RUNNING, PAUSED, STOPPED, FINISHED, FAILED = "pending", "running", "paused", "stopped", "finished", "failed"

_claims: set[int] = set()
_lock = threading.Lock()
_show_panel: Callable[[Run], None] | None = None


def panel_shown_by(show: Callable[[Run], None]) -> None:
    """Say how a run shows itself in a notebook; this package knows no views."""
    global _show_panel
    _show_panel = show


@contextmanager
def claimed(tensors: Sequence[torch.Tensor]) -> Iterator[None]:
    """Hold these parameters for one run; BusyError if another has any of them."""
    ids = {id(tensor) for tensor in tensors}
    with _lock:
        if ids & _claims:
            raise BusyError(
                "another run is moving these parameters: wait for it (run.wait()), stop it (run.stop()), or give this "
                "run a model of its own"
            )
        _claims.update(ids)
    try:
        yield
    finally:
        with _lock:
            _claims.difference_update(ids)


class Steered(Protocol):
    """What a Run reads of the optimizer that it runs."""

    name: str
    callbacks: list[Callback]
    history: History
    result: OptimizeResult | None


class Run:
    """A minimisation under way: what `optimizer.start(closure)` returns. Awaitable.

    state: "pending" (no closure call yet), "running", "paused", "stopped" (by `stop` or a budget), "finished" (SciPy
    ended it), "failed". As the last line of a cell it shows its panel.
    """

    def __init__(
        self,
        optimizer: Steered,
        execute: Callable[[], object],
        control: Control,
        tensors: Sequence[torch.Tensor],
    ):
        self._optimizer = optimizer
        self._control = control
        self._result: OptimizeResult | None = None
        self._history: History | None = None
        self._exception: BaseException | None = None
        self._ended = threading.Event()
        self._begun = threading.Event()
        self._empty = History(optimizer.name)
        self.panel: Any = None
        claim = ExitStack()
        claim.enter_context(claimed(tensors))
        context = _thread_context()
        with claim:  # let go again if a callback raises
            self._announce(optimizer.callbacks)
            claim = claim.pop_all()
        # The notebook finds the cell that a thread's output belongs to by its context variables.
        work = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=work, args=(self._work, execute, claim, context), name=f"torchmin_nb {optimizer.name}", daemon=True
        )
        self._thread.start()

    # Steering

    def pause(self) -> None:
        """Stand still at the next closure call or product, or at the end of the iteration."""
        self._control.pause()

    def resume(self) -> None:
        """Go on without limit."""
        self._control.resume()

    def advance(self, iterations: int = 1) -> None:
        """Go on for so many iterations, then stand still again."""
        self._control.resume(count("iterations of advance", iterations))

    def stop(self) -> None:
        """End at the next closure call or product; the best point seen stays in the parameters."""
        self._control.request(endings.STOPPED)

    def wait(self, timeout: float | None = None) -> OptimizeResult:
        """Wait for the end and return the result; raises what the closure raised.

        timeout: seconds; TimeoutError if the run has not ended by then, and the run goes on. A run that stands still
        does not end by itself.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"the run is {self.state} after {timeout} s; it goes on")
        if self._exception is not None:
            raise self._exception
        assert self._result is not None
        return self._result

    def wait_until_paused(self, timeout: float | None = None) -> bool:
        """Wait until the run stands still; whether it does. False at once for a run that has ended."""
        while not self._ended.is_set():
            step = 0.05 if timeout is None else min(0.05, timeout)
            if self._control.await_standstill(step):
                return True
            timeout = None if timeout is None else timeout - step
            if timeout is not None and timeout <= 0:
                break
        return False

    def __await__(self) -> Generator[Any, None, OptimizeResult]:
        return asyncio.to_thread(self.wait).__await__()

    # Watching

    @property
    def state(self) -> str:
        """Where the run is."""
        if not self._ended.is_set():
            if not len(self.history):
                return PENDING
            return PAUSED if self._control.waiting else RUNNING
        if self._exception is not None:
            return FAILED
        assert self._result is not None
        return STOPPED if self._result.status in _OURS and not self._result.success else FINISHED

    @property
    def history(self) -> History:
        """The iterations so far."""
        if self._history is not None:
            return self._history
        return self._optimizer.history if self._begun.is_set() else self._empty

    @property
    def result(self) -> OptimizeResult | None:
        """SciPy's result, once the run has ended."""
        return self._result

    @property
    def exception(self) -> BaseException | None:
        """What the closure or a callback raised."""
        return self._exception

    def _ipython_display_(self) -> None:
        """As the last line of a cell, a run is its panel."""
        if _show_panel is None:
            print(repr(self))
        else:
            _show_panel(self)

    def __repr__(self) -> str:
        return f"<Run {self.state}: {self.history.summary()}>"

    def _announce(self, callbacks: Sequence[Any]) -> None:
        """In the caller's thread, so that a view opens in the cell that starts the run."""
        try:
            tell(callbacks, "on_run", self)
        except BaseException as error:  # those that were told see a run that has failed
            self._exception = error
            self._ended.set()
            raise

    def _begin(self) -> None:
        self._optimizer.history = History(self._optimizer.name)
        self._begun.set()

    def _work(self, execute: Callable[[], object], claim: ExitStack, context: Callable[[], ExitStack]) -> None:
        with claim:  # until all is noted, or the next run of this optimizer could be taken for this one
            try:
                with context():
                    self._control.await_go()
                    self._begin()
                    execute()
            except BaseException as error:
                self._exception = error
            self._history, self._result = self._optimizer.history, self._optimizer.result
        self._ended.set()


_OURS = range(98, 110)
"""The statuses of endings that are ours: see control.Ending."""


def _thread_context() -> Callable[[], ExitStack]:
    """What torch keeps for each thread, as it is in the caller's; called in the worker, it makes it so there."""
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    casts = [(kind, torch.get_autocast_dtype(kind)) for kind in kinds]
    grad, device, threads = torch.is_grad_enabled(), torch.get_default_device(), torch.get_num_threads()

    def enter() -> ExitStack:
        torch.set_num_threads(threads)  # a new thread's OpenMP and MKL do not know of the caller's choice
        stack = ExitStack()
        stack.enter_context(torch.set_grad_enabled(grad))
        stack.enter_context(torch.device(device))
        for kind, dtype in casts:
            stack.enter_context(torch.autocast(kind, dtype=dtype))
        return stack

    return enter
