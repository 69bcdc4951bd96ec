"""The buttons of a run, and how it is doing in words."""

from __future__ import annotations

from collections.abc import Callable

from .jobs import Job, RunJob, SamplingJob
from .parts import button, line

__all__ = ["Steering"]


class Steering:
    """Run, Pause, Step and Stop, each of which calls what it is given, and the status."""

    def __init__(
        self,
        *,
        run: Callable[[], object],
        pause: Callable[[], object],
        step: Callable[[], object],
        stop: Callable[[], object],
    ):
        self.run = button("Run", "Start a run of this method on this problem", run, "primary", "6em")
        self.pause = button("Pause", "Pause or resume the run", pause, width="6em")
        self.step = button("Step", "One iteration, then pause", step, width="5em")
        self.stop = button("Stop", "End the run at the best point", stop, "warning", "5em")
        self.status = line("", "tm-status", "tm-note")

    def show(self, job: Job | None) -> None:
        """Enable what can be done now."""
        run_job = job if isinstance(job, RunJob) else None
        paused = run_job is not None and run_job.state == "paused"
        self.run.disabled = job is not None
        self.pause.disabled = run_job is None
        self.pause.description = "Resume" if paused else "Pause"
        self.step.disabled = job is not None and not paused
        self.stop.disabled = job is None or isinstance(job, SamplingJob)
