"""Stop and budgets: they end a run from outside the method.

SciPy's callback can be hundreds of closure calls away. So the objective raises a private exception at the next
closure call or product. No SciPy solver catches it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NamedTuple

from ...errors import text_of

__all__ = [
    "ABANDONED",
    "CALLBACK",
    "EVALUATIONS",
    "EXHAUSTED",
    "FAILED",
    "INTERRUPTED",
    "ITERATIONS",
    "NOISE_FLOOR",
    "NONFINITE_CURVATURE",
    "NONFINITE_GRADIENT",
    "NONFINITE_JACOBIAN",
    "NONFINITE_LOSS",
    "SECONDS",
    "STOPPED",
    "TARGET",
    "UNCONVERGED",
    "UNDEFINED",
    "UNDER_WAY",
    "WORK",
    "Abort",
    "Control",
    "Ending",
    "Status",
    "StopRun",
]


class Status(IntEnum):
    """Why torchmin_nb ended a run, or did not accept SciPy's ending: ``result.status``, which equals the integer.

    SciPy's own codes are small numbers, whose meaning depends on the method. They stay plain integers. 0 stands for
    success only; if SciPy ends with 0 without success, ``result.scipy_status`` keeps it. A method of your own may
    return any other number: ``history.ended_early`` says whether torchmin_nb ended the run.

    Attributes
    ----------
    label : str
        What ``result.message`` says; a message may say more.

    Examples
    --------
    >>> Status(103).name, Status.STOPPED == 99
    ('MAX_SECONDS', True)
    >>> Status.TARGET_REACHED.label
    'The target loss has been reached.'
    """

    label: str

    NONFINITE_GRADIENT = 98, "jac has NaN or infinite entries where the loss is finite."
    STOPPED = 99, "Stopped on request."
    MAX_ITERATIONS = 101, "Maximum number of iterations has been exceeded."
    MAX_EVALUATIONS = 102, "The budget of closure calls (max_evaluations) is spent."
    MAX_SECONDS = 103, "The time budget (max_seconds) is spent."
    TARGET_REACHED = 104, "The target loss has been reached."
    NONFINITE_CURVATURE = 105, "A Hessian-vector product is NaN or infinite."
    INTERRUPTED = 106, "Interrupted."
    FAILED = 107, "Failed: an error was raised."
    NONFINITE_JACOBIAN = 108, "The Jacobian has NaN or infinite entries where the residuals are finite."
    NONFINITE_LOSS = 109, "The loss or its gradient became NaN or infinite."
    UNDEFINED = 110, "SciPy ended where the loss is not finite; the best point seen is kept."
    UNCONVERGED = 111, "The method did not converge."
    UNDER_WAY = 112, "Under way when it was saved."
    NOISE_FLOOR = 113, "The noise floor of the loss is reached: steps change it by less than its noise."

    def __new__(cls, number: int, label: str = "") -> Status:
        """A member: its number, and its label, which is also its docstring."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.label = member.__doc__ = label
        return member

    @classmethod
    def read(cls, number: int) -> int:
        """The member with this number, or the number itself if there is none.

        Parameters
        ----------
        number : int
            A status of a stored run.

        Returns
        -------
        Status or int
            The status.
        """
        try:
            return cls(number)
        except ValueError:
            return number


class Ending(NamedTuple):
    """Why a run ended: the status, success and message of its result.

    Attributes
    ----------
    status : int
        A `Status` if torchmin_nb ended the run. A solver on the device has SciPy's small numbers.
    success : bool
        Whether the method has converged, or the target was reached.
    message : str
        Why it ended, in words.

    Examples
    --------
    >>> Ending(0, True, "The gradient is small.").success
    True
    """

    status: int
    success: bool
    message: str

    @classmethod
    def of(cls, status: Status, message: str = "") -> Ending:
        """An ending with this status. Only that at the target is a success.

        Parameters
        ----------
        status : Status
            The status.
        message : str, optional
            Default: the label of the status.

        Returns
        -------
        Ending
            The ending.
        """
        return cls(status, status is Status.TARGET_REACHED, message or status.label)


NONFINITE_GRADIENT = Ending.of(Status.NONFINITE_GRADIENT)
STOPPED = Ending.of(Status.STOPPED)
CALLBACK = Ending.of(Status.STOPPED, "Stopped by a callback.")
ABANDONED = Ending.of(Status.STOPPED, "Stopped: the run was paused, and nothing was left that could resume it.")
ITERATIONS = Ending.of(Status.MAX_ITERATIONS)
EVALUATIONS = Ending.of(Status.MAX_EVALUATIONS)
EXHAUSTED = Ending.of(Status.MAX_EVALUATIONS, "The maximum number of function evaluations is exceeded.")
WORK = Ending.of(Status.MAX_EVALUATIONS, "The budget of closure calls and products is spent.")
SECONDS = Ending.of(Status.MAX_SECONDS)
TARGET = Ending.of(Status.TARGET_REACHED)
NONFINITE_CURVATURE = Ending.of(Status.NONFINITE_CURVATURE)
INTERRUPTED = Ending.of(Status.INTERRUPTED)
FAILED = Ending.of(Status.FAILED)
NONFINITE_JACOBIAN = Ending.of(Status.NONFINITE_JACOBIAN)
NONFINITE_LOSS = Ending.of(Status.NONFINITE_LOSS)
UNDEFINED = Ending.of(Status.UNDEFINED)
UNCONVERGED = Ending.of(Status.UNCONVERGED)
UNDER_WAY = Ending.of(Status.UNDER_WAY)
NOISE_FLOOR = Ending.of(Status.NOISE_FLOOR)


class StopRun(BaseException):
    """Ends SciPy's solver from inside. A BaseException, so that no solver catches it."""

    def __init__(self, ending: Ending):
        super().__init__(ending.message)
        self.ending = ending


class Abort(BaseException):
    """Carries an exception of the user's code through SciPy unharmed."""

    def __init__(self, error: BaseException):
        super().__init__(f"{type(error).__name__}: {text_of(error)}")
        self.error = error


class Control:
    """Budgets of one run, and the requests that any thread may make: stop, pause, resume, advance by n iterations.

    max_seconds: wall-clock seconds without pauses. max_evaluations: closure calls. target_loss: stop when reached.
    iterations: pause after this many, None for no limit. pace: wait this many seconds after each iteration. max_work:
    closure calls and products, together.
    """

    def __init__(
        self,
        max_seconds: float | None = None,
        max_evaluations: int | None = None,
        target_loss: float | None = None,
        *,
        max_work: int | None = None,
        iterations: int | None = None,
        pace: float = 0.0,
        paused: bool = False,
    ):
        self.max_seconds = max_seconds
        self.max_evaluations = max_evaluations
        self.max_work = max_work
        self.target_loss = target_loss
        self.pace = pace
        self.progress: dict[str, int] = {}
        """Of a closure call over several batches: "batch", counted from 1, and "batches". Empty between two calls."""
        self._started = time.perf_counter()
        self._idle = 0.0
        self._iterations = iterations
        self._paused = paused
        self._resumes = 0
        self._paused_at: int | None = None
        self._abandoned = False
        self._held = False
        self._over = False
        self._requested: Ending | None = None
        self._changed = threading.Condition()

    @property
    def batch(self) -> tuple[int, int] | None:
        """The batch on which a closure call works, counted from 1, and the number of batches."""
        now = dict(self.progress)
        return (now["batch"], now["batches"]) if now else None

    @batch.setter
    def batch(self, batch: tuple[int, int] | None) -> None:
        if batch is None:
            self.progress.clear()
        else:
            self.progress.update(batch=batch[0], batches=batch[1])

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, without pauses."""
        return time.perf_counter() - self._started - self._idle

    @property
    def waiting(self) -> bool:
        """Whether the run is paused and has not been resumed since.

        Each `resume` has a number, and a paused run stores the last number that it has seen. So a run that was
        resumed a moment ago does not count as paused, even if its thread has not continued yet.
        """
        return self._paused_at == self._resumes

    # Called by any thread

    @property
    def ending(self) -> bool:
        """Whether the run has been asked to end."""
        return self._requested is not None

    def request(self, ending: Ending) -> None:
        """Request the end of the run at its next closure call or product. The first request wins."""
        with self._changed:
            self._requested = self._requested or ending
            self._changed.notify_all()

    def pause(self) -> None:
        """Request a pause at the next closure call or product, or at the end of the iteration."""
        with self._changed:
            self._paused = True

    def resume(self, iterations: int | None = None) -> None:
        """Resume the run: without limit, or for this many iterations."""
        with self._changed:
            self._paused, self._iterations = False, iterations
            self._resumes += 1
            self._changed.notify_all()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a paused run inside: no resume and no stop lets it go on before the end."""
        with self._changed:
            self._held = True
        try:
            yield
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()

    def abandon(self) -> None:
        """Nothing is left that could resume the run: end it when it is paused, now or later."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def wait_for_pause(self, timeout: float | None = None) -> bool | None:
        """Wait until the run is paused: True. False when it has ended, None after the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self.waiting or self._over, timeout)
            return True if self.waiting else False if self._over else None

    # Called by the run

    def wait_for_start(self) -> None:
        """Called before all work; the clock begins here."""
        if self._paused:
            self._wait_while_paused()
        self._started, self._idle = time.perf_counter(), 0.0

    def before_work(self) -> None:
        """Called before each closure call and product; waits while paused, raises StopRun if the run must end."""
        if self._paused:
            self._wait_while_paused()
        self.require_running()

    def require_running(self) -> None:
        """Raise StopRun if the run must end."""
        if self._requested:
            raise StopRun(self._requested)
        if self.max_seconds is not None and self.elapsed >= self.max_seconds:
            raise StopRun(SECONDS)

    def before_evaluation(self, evaluations: int, products: int = 0) -> None:
        """Called before each closure call, with the numbers of calls and products so far."""
        self.before_product(evaluations + products)
        if self.max_evaluations is not None and evaluations >= self.max_evaluations:
            raise StopRun(EVALUATIONS)

    def before_product(self, work: int, products: int = 1) -> None:
        """Called before so many products, with the number of calls and products so far."""
        self.before_work()
        if self.max_work is not None and work + products > self.max_work:
            raise StopRun(WORK)

    def after_evaluation(self, loss: float, *, feasible: bool = True) -> None:
        """Called after each closure call; raises StopRun if the target is reached at a feasible point."""
        if self.target_loss is not None and feasible and loss <= self.target_loss:
            raise StopRun(TARGET)

    def after_iteration(self, index: int) -> bool:
        """Called after an iteration was reported; index 0 is the start, which does not count as an iteration.

        Returns whether it has waited, so that other code may have run.
        """
        idle = self._idle
        if self.pace:
            self._hold_pace()
        if self._iterations is not None and index > 0:
            with self._changed:
                if self._iterations is not None:  # it may have been resumed without a limit
                    self._iterations -= 1
                    self._paused = self._paused or self._iterations <= 0
        if self._paused:
            self._wait_while_paused()
        if self._requested:
            raise StopRun(self._requested)
        return self._idle > idle

    def _hold_pace(self) -> None:
        begun = time.perf_counter()
        with self._changed:
            self._changed.wait_for(lambda: self._requested is not None, self.pace)
        self._idle += time.perf_counter() - begun

    def end(self) -> None:
        """Called when the run is over: wakes all who wait for a pause."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _wait_while_paused(self) -> None:
        begun = time.perf_counter()
        with self._changed:
            while self._paused and self._requested is None:  # paused again before the thread continued
                self._paused_at = self._resumes
                self._changed.notify_all()
                self._changed.wait_for(self._may_continue)
                if self._abandoned:
                    self._requested = self._requested or ABANDONED
            self._paused_at = None
        self._idle += time.perf_counter() - begun

    def _may_continue(self) -> bool:
        return not self._held and (not self.waiting or self._requested is not None or self._abandoned)
