"""One job at a time: begun, followed by the clock, steered and ended. No widgets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager

from ...core.runtime.workers import interruptible
from ..ticker import POLL, Pace, Pulse, Ticker
from .jobs import Job, RunJob

__all__ = ["Conductor"]

_INTERVAL = 0.2
"""The shortest time between two drawings, in seconds."""
_SHARE = 0.1
"""The share of the time that drawing may take."""


class Conductor:
    """Follows one job. Calls `show(job)` when there is something new to draw, and `finish(job)` when the job has ended.

    Both are called in the clock's thread, with the lock held. If one of them raises, `fail(error)` is called.

    beat: for a Pulse, which tells the views that the kernel is there while a job runs. lock: whoever draws in the
    kernel's thread holds it too. clock: seconds, monotonic.
    """

    def __init__(
        self,
        lock: AbstractContextManager[object],
        *,
        show: Callable[[Job], object],
        finish: Callable[[Job], object],
        fail: Callable[[Exception], object],
        beat: Callable[..., int] = lambda *, whole: 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._lock = lock
        self._show, self._finish, self._fail = show, finish, fail
        self._job: Job | None = None
        self._seen: Hashable = None
        self._pace = Pace(_INTERVAL, _SHARE, clock=clock)
        self._pulse = Pulse(beat, clock=clock)
        self._beat = beat
        self._ticker: Ticker | None = None
        self._idle = threading.Event()
        self._idle.set()

    @property
    def job(self) -> Job | None:
        """The job that runs; None from the call of `finish` on."""
        return self._job

    @property
    def run_job(self) -> RunJob | None:
        """The job that runs, if it is a run."""
        return self._job if isinstance(self._job, RunJob) else None

    @property
    def running(self) -> bool:
        """Whether a job runs, or `finish` has not returned yet."""
        return not self._idle.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended and `finish` has returned. Returns False if the time was too short."""
        return bool(interruptible(lambda seconds: self._idle.wait(seconds) or None, timeout))

    def begin(self, job: Job) -> None:
        """Follow this job from now on; only while nothing is running."""
        self._idle.clear()
        self._job, self._seen = job, None
        self._pace.at_once()
        self._ticker = Ticker(self.look)
        self._ticker.start()

    def pause(self) -> None:
        """Have a run stand still, or go on."""
        run_job = self.run_job
        if run_job is not None and run_job.state == "paused":
            run_job.run.resume()
        elif run_job is not None:
            run_job.run.pause()

    def stop(self) -> None:
        """End the job early."""
        job = self._job
        if job is not None:
            job.stop()

    def close(self) -> None:
        """End the job, of which nobody hears any more. Takes no lock: the garbage collector calls it anywhere."""
        job, self._job = self._job, None
        if job is not None:
            job.stop()
        if self._ticker is not None:
            self._ticker.stop()
        self._idle.set()

    def look(self) -> float | None:
        """See how the job is doing; the seconds to the next look."""
        with self._lock:
            job = self._job
            if job is None:
                return None
            try:
                self._look(job)
            except Exception as error:  # a picture that fails must not end the clock
                self._fail(error)
            return POLL if self._job is not None else None

    def _look(self, job: Job) -> None:
        if job.ended:
            self._job = None
            try:
                self._finish(job)
            finally:
                self._idle.set()
            self._beat(whole=False)  # a view that missed the end asks
        elif (seen := job.seen) != self._seen and self._pace.due:
            self._seen = seen
            self._pulse.drawn()
            self._pace.draw(lambda: self._shown(job))
        self._pulse.tick()

    def _shown(self, job: Job) -> int:
        self._show(job)
        return 0
