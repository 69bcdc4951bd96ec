"""What happens when the form changes, a button is pressed, or a job reports something new."""

from __future__ import annotations

import threading
from contextlib import suppress

from ...explore import Call, RunRow, Subject, Traits, traits
from ..live_panel.header import Header
from ..palette import style
from . import remember
from .compare_panel import ComparePanel
from .conductor import Conductor
from .fields import Files
from .form_panel import FormPanel
from .jobs import Job, RaceJob, RunJob
from .layout import BUDGET, COMPARE, OPTIONS, SETTINGS, build_layout
from .parts import free
from .pictures import Pictures
from .race_panel import RacePanel, race_names
from .stage import Shown, Stage
from .steering import Steering, of_job, of_race, of_row, ready, starting, with_error
from .take_away import FILES, code_of, made_file
from .timing import timed
from .words import explained

__all__ = ["Workbench"]

_OVERLAID = 12
"""So many runs at most are drawn over each other."""


class Workbench:
    """Form, pictures, runs and table, tied together; `widget` is all of it.

    subject: the user's own problem. message: to be said at first. height: of curves and picture, in pixels.
    lock: held by all that draws or begins, in the kernel's thread and in the clock's.

    Its widgets hold it, and so it lives until it is closed.
    """

    def __init__(self, subject: Subject | None, *, message: str, height: int):
        self.lock = threading.RLock()
        self.closed = False
        self.alert = ""
        self.header = ready(None)
        self._focus = ""
        self._message = message
        self.conductor = Conductor(
            self.lock, show=self._follow, finish=self._finish, fail=self._failed, beat=self._beat
        )
        self.form = FormPanel(subject, self._changed)
        self.steering = Steering(run=self._start, pause=self.conductor.pause, step=self._step, stop=self.conductor.stop)
        self.pictures = Pictures(
            height=height, lock=self.lock, pressed=self.steering.press, clicked=self._clicked, sample=self._sample
        )
        self.compare = ComparePanel(self._changed)
        self.race = RacePanel(self._start_race)
        self.files = Files(files=list(FILES))
        self.files.on_want(lambda key: made_file(key, self.compare.table))
        self.widget, self.drawers = build_layout(self.form, self.pictures, self.compare, self.race, self.files)
        self._restage()

    @property
    def shown(self) -> Shown:
        """The runs on the present problem that are drawn: the first dozen of the table, and the one under way."""
        here = {row.name: row.history for row in self.compare.table.shown if self._here(row.call)}
        drawn = {name: here[name] for index, name in enumerate(here) if index < _OVERLAID or name == self._focus}
        run_job = self.conductor.run_job
        if run_job is not None and self._here(run_job.call):
            drawn[run_job.name] = run_job.history
        return Shown({name: history for name, history in drawn.items() if len(history)}, self._focus)

    def offer_methods(self) -> None:
        """Those of the user's own among them that were registered since."""
        if self.form.traits is not None:
            self.form.offer_methods()
            self.race.offer(self.form.traits)

    def close(self) -> None:
        """Stop what runs, and free all widgets. Takes no lock: the garbage collector calls it anywhere."""
        self.closed = True
        self.conductor.close()
        free(self.widget)

    # What outlives it

    def memory(self) -> remember.Memory:
        """What is chosen and what was run, for `recall`."""
        panel = self.pictures.panel
        axes = {"x": panel.x, "scale": panel.scale, "zoom": panel.zoom}
        return remember.Memory(self.form.choices(), axes, self.compare.table)

    def recall(self, memory: remember.Memory) -> None:
        """Show the same."""
        self.compare.table = memory.table
        self.form.recall(memory.choices)
        for name, value in memory.axes.items():
            setattr(self.pictures.panel, name, value)
        self.compare.refresh()
        self._refocus()

    # Changes

    def _changed(self, name: str) -> None:
        with self.lock:
            if self.closed:
                return
            if name in ("problem", "limits", "start"):
                self._restage()
            elif name == "method":
                self.form.choose_method()
                self._show_reading()
            elif name in ("options", "budget"):
                self._show_reading()
            elif name in ("table", "focus"):
                self._refocus()

    def _restage(self) -> None:
        """The problem is another, or made otherwise: look at it, and offer what fits."""
        call = self.form.problem_call
        if call is None:
            self._show_reading()
            return
        try:
            stage, known = self._looked_at(call)
        except Exception as error:
            self._say(explained(error))
            return
        self._say(self._message)
        self._message = ""
        self.form.show(stage.problem, known)
        self.race.offer(known)
        self.pictures.set_stage(stage)
        self._focus = self._latest()
        self._show_reading()
        self._draw()

    def _looked_at(self, call: Call) -> tuple[Stage, Traits]:
        problem = call.make(place=False)
        known = traits(problem, call.spec, bounds=call.bounds, constraints=call.constraints)
        return Stage(call, problem), known if self.conductor.running else timed(known, problem)

    def _show_reading(self) -> None:
        """Say in place what is wrong with a field; then the code of the run in focus and how it ended, or without one
        the code of what Run would start.
        """
        call = self.form.show_messages().call
        if self.conductor.job is not None:
            return
        if self._focus in self.compare.table.names:
            row = self.compare.table[self._focus]
            self._show_code(row.call)
            self._tell(of_row(row))
        else:
            self._show_code(call)
            self._tell(ready(call))

    def _show_code(self, call: Call | None) -> None:
        self.files.code = "" if call is None else code_of(call)

    def _say(self, message: str) -> None:
        """What is wrong, until something else is said; empty: nothing is."""
        self.alert = message
        self._tell(self.header)

    def _tell(self, header: Header) -> None:
        """Have the panel say this, and offer what can be done now."""
        self.header = header
        job = self.conductor.job
        self.steering.show(job)
        self.race.go.disabled = self.pictures.sample_button.disabled = job is not None
        self.pictures.tell(with_error(header, self.alert), self.steering.buttons)

    def _beat(self, *, whole: bool) -> int:
        return self.pictures.panel.beat(whole=whole)

    def _clicked(self, point: tuple[float, float]) -> None:
        with self.lock:
            if not self.conductor.running:
                self._focus = ""
                self.form.problem.place(point)

    # Jobs are begun

    def _start(self, *, paused: bool = False) -> RunJob | None:
        with self.lock:
            call, fit = self._checked(), self.form.fit
            if call is None:
                return None
            if fit is not None and not fit:
                self._say(f"{call.label} does not fit this problem: {fit.reason}. Choose another method.")
                return None
            self.alert = ""
            self._tell(starting(call))
            try:
                run_job = RunJob(call, self.compare.free_name(call.label), paused=paused)
            except Exception as error:
                self._refocus()
                self._say(explained(error))
                return None
            self._focus = run_job.name
            self._begin(run_job)
            return run_job

    def _step(self) -> None:
        with self.lock:
            run_job = self.conductor.run_job or self._start(paused=True)
            if run_job is not None:
                run_job.run.advance(1)

    def _start_race(self) -> None:
        with self.lock:
            ticked = bool(self.race.methods.value)
            self.race.message.value = "" if ticked else "Select the methods to race."
            call = self._checked() if ticked else None
            if call is not None:
                calls = self.race.calls(call, self.form.kept_options)
                price = 2.0 if self.form.traits is None else self.form.traits.product_cost
                self._begin(RaceJob(calls, race_names(calls), workers=self.race.workers.value, price=price))

    def _sample(self) -> None:
        with self.lock:
            job = None if self.conductor.running or self.closed else self.pictures.sampling()
            if job is not None:
                self._begin(job)

    def _checked(self) -> Call | None:
        """The call to begin now; None, with the reason, where there is none."""
        if self.conductor.running or self.closed:
            return None
        reading = self.form.reading
        if reading.call is None:
            name, message = next(iter(reading.messages.items()))
            drawer = OPTIONS if name.startswith("options") else BUDGET if "max" in name else SETTINGS
            self.drawers.selected_index = drawer
            self._say(f"{name.split('.')[-1]}: {message}")
        return reading.call

    def _begin(self, job: Job) -> None:
        self.alert = ""
        self.conductor.begin(job)
        self._tell(of_job(job))

    # Jobs go on, and end

    def _follow(self, job: Job) -> None:
        """There is something new to see of it."""
        self._tell(of_job(job))
        if isinstance(job, RunJob):
            with suppress(Exception):  # the history grows during the drawing; `finish` reports an error that remains
                self._draw()
        elif isinstance(job, RaceJob) and self._gather(job):
            self._draw()

    def _finish(self, job: Job) -> None:
        if job.error is not None:
            self.alert = explained(job.error)
        try:
            if isinstance(job, RunJob):
                self._focus = self.compare.add(job.row)
            elif isinstance(job, RaceJob):
                self._end_race(job)
            self._draw()
        finally:
            self._show_reading()
            if isinstance(job, RaceJob):
                self._tell(of_race(job))

    def _end_race(self, race: RaceJob) -> None:
        self._gather(race)
        profile = race.profile()
        if profile is not None:
            self.pictures.set_profile(profile)
        self.drawers.selected_index = COMPARE

    def _gather(self, race: RaceJob) -> list[RunRow]:
        rows = race.take()
        for row in rows:
            self._focus = self.compare.add(row)
        return rows

    def _failed(self, error: Exception) -> None:
        self._say(f"The picture cannot be drawn: {error}")

    # The runs

    def _here(self, call: Call) -> bool:
        """Whether its run is one on the present problem."""
        stage = self.pictures.stage
        return stage is not None and stage.holds(call)

    def _latest(self) -> str:
        names = [row.name for row in self.compare.table.rows if self._here(row.call) and not row.hidden]
        return names[-1] if names else ""

    def _refocus(self) -> None:
        if self.conductor.run_job is None:
            chosen = [name for name in self.compare.chosen if self._here(self.compare.table[name].call)]
            self._focus = chosen[-1] if chosen else self._latest()
            self.alert = ""
            self._show_reading()
        self._draw()

    def _draw(self) -> None:
        shown = self.shown
        self.pictures.draw(shown)
        self.compare.paint({name: style(index)[0] for index, name in enumerate(shown.histories)})
