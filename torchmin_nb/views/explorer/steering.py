"""The buttons of a run, as the panel shows them, and what it says of a job."""

from __future__ import annotations

from collections.abc import Callable

from ...core.execution.run import FINISHED, PENDING, RUNNING
from ...explore import Call, RunRow
from ..live_panel.header import Button, Header, header_of
from ..live_panel.sources import RunSource
from .jobs import Job, RaceJob, RunJob, SamplingJob
from .words import outcome

__all__ = ["READY", "STARTING", "Control", "Steering", "of_job", "of_race", "of_row", "ready", "starting", "with_error"]

READY, STARTING = "ready", "starting"
"""Badges: no run yet; a run that is being made, or in its first closure call."""


class Control:
    """A button that is drawn by the panel: in Python it is clicked and read like a widget."""

    def __init__(self, action: str, label: str, tip: str, act: Callable[[], object], says: str = ""):
        self.action, self.description, self.tooltip = action, label, tip
        self.disabled = False
        self._act, self._says = act, says

    def click(self) -> None:
        """Do what a click does."""
        self._act()

    @property
    def button(self) -> Button:
        """As the panel shows it."""
        return Button(self.action, self.description, self.tooltip, not self.disabled, self._says)


class Steering:
    """Run, Pause, Step and Stop, each of which calls what it is given."""

    def __init__(
        self,
        *,
        run: Callable[[], object],
        pause: Callable[[], object],
        step: Callable[[], object],
        stop: Callable[[], object],
    ):
        self.run = Control("run", "Run", "Start a run of this method on this problem", run, STARTING)
        self.pause = Control("pause", "Pause", "Pause or resume the run", pause)
        self.step = Control("step", "Step", "One iteration, then pause", step)
        self.stop = Control("stop", "Stop", "End the run at the best point", stop)
        self.show(None)

    @property
    def controls(self) -> tuple[Control, ...]:
        """From left to right."""
        return self.run, self.pause, self.step, self.stop

    @property
    def buttons(self) -> tuple[Button, ...]:
        """As the panel shows them now."""
        return tuple(control.button for control in self.controls)

    def press(self, action: str, _: int) -> None:
        """A button was pressed in a view."""
        for control in self.controls:
            if control.action == action:
                control.click()

    def show(self, job: Job | None) -> None:
        """Enable what can be done now."""
        run_job = job if isinstance(job, RunJob) else None
        paused = run_job is not None and run_job.state == "paused"
        self.run.disabled = job is not None
        self.pause.disabled = run_job is None
        self.pause.description = "Resume" if paused else "Pause"
        self.step.disabled = job is not None and not paused
        self.stop.disabled = job is None or isinstance(job, SamplingJob)


# What is said


def ready(call: Call | None) -> Header:
    """Before a run. call: what Run would start; None if a field is wrong."""
    if call is None:
        return Header(READY, "", verdict="A field is wrong: its message says what.")
    return Header(READY, call.label, verdict=f"Press Run: {call.label} starts on {call.title}.")


def starting(call: Call) -> Header:
    """While its problem and its optimizer are made."""
    return Header(STARTING, call.label, verdict=f"The run on {call.title} starts.")


def of_job(job: Job) -> Header:
    """How a job is doing."""
    if isinstance(job, RunJob):
        header = RunSource(job.run, job.name, {}).moment().header
        return header._replace(method=job.name, badge=STARTING if header.badge == PENDING else header.badge)
    if isinstance(job, RaceJob):
        return Header(RUNNING, "Race", (), job.at / len(job.calls), job.words)
    return Header(RUNNING, "Sampling", verdict="The loss is evaluated on a grid of points in this plane …")


def of_row(row: RunRow) -> Header:
    """How a run ended, and whether it found the known answer."""
    header = header_of(row.history, "failed" if row.failed else None, error=row.reason if row.failed else "")
    how = outcome(row.history, row.solved)
    tone = "warning" if row.solved is False and header.tone == "good" else header.tone
    return header._replace(
        method=row.name, verdict=" · ".join(filter(None, [header.verdict, how])), tone=tone, progress=None
    )


def of_race(race: RaceJob) -> Header:
    """How a race ended."""
    solved = sum(bool(row.solved) for row in race.rows)
    words = f"{len(race.rows)} run{'s' * (len(race.rows) != 1)}, {solved} solved."
    first = race.ranking().words() if race.rows else ""
    return Header(FINISHED, "Race", verdict=" ".join(filter(None, [words, first])))


def with_error(header: Header, message: str) -> Header:
    """The same, with what is wrong in place of the verdict."""
    return header._replace(verdict=message, original="", tone="error") if message else header
