"""The whole form: which problem, which method with which options, under which budgets, and how fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...explore import Call, Fit, Form, Reading, Subject, Suggestion, Traits, read_form
from ...problems import Problem
from .method_panel import MethodPanel
from .options_panel import BudgetPanel, OptionsPanel
from .parts import dropdown
from .problem_panel import ProblemPanel
from .remember import Choices, put_back, values
from .words import alert

__all__ = ["SPEEDS", "FormPanel"]

SPEEDS = {"full speed": 0.0, "20 iterations a second": 0.05, "5 a second": 0.2, "1 a second": 1.0}
"""Seconds to hold each iteration."""
_OF_THE_PROBLEM = ("start", "seed", "dtype", "settings")
_BUDGETS = ("max_iterations", "max_evaluations", "max_seconds")


class FormPanel:
    """The fields that together say what to run.

    A change calls `changed(name)`: "problem", "limits", "start", "method", "options" or "budget".

    subject: as ProblemPanel's.
    """

    def __init__(self, subject: Subject | None, changed: Callable[[str], None]):
        self._changed = changed
        self._quiet = False
        self.traits: Traits | None = None
        self.problem = ProblemPanel(subject, self._notify)
        self.method = MethodPanel(self._notify, self._take)
        self.options = OptionsPanel(self._notify)
        self.budget = BudgetPanel(self._notify)
        self.speed = dropdown("Speed", list(SPEEDS), "full speed", "Time to wait after each iteration", "200px")
        self.speed.observe(lambda _: self._notify("budget"), "value")

    @property
    def raw(self) -> Form:
        """The raw values of all fields."""
        return Form(
            **self.problem.form(),
            **self.method.form(),
            **self.options.form(),
            **self.budget.form(),
            pace=SPEEDS[self.speed.value],
        )

    @property
    def reading(self) -> Reading:
        """The form, read: the call, or what is wrong with which field."""
        return read_form(self.raw)

    @property
    def problem_call(self) -> Call | None:
        """A call on this problem, by whatever method; None where a field of the problem is wrong."""
        return read_form(Form(**self.problem.form(), method=self.method.menu.value or "BFGS")).call

    @property
    def fit(self) -> Fit | None:
        """Whether the chosen method fits the problem."""
        return self.method.fit

    def kept_options(self, method: str, engine: str | None = None) -> Mapping[str, Any]:
        """The options set for a method that was chosen before, those of its engine; none where one is wrong."""
        kept = self.options.kept(method)
        read = read_form(Form(problem=self.problem.problem, method=method, engine=engine, options=kept))
        return {} if read.call is None else read.call.options

    def show(self, problem: Problem, known: Traits) -> None:
        """Say what the problem is, and offer the methods that fit it."""
        self.traits = known
        self.problem.show(problem, known)
        self.offer_methods()
        self._show_method()

    def offer_methods(self) -> None:
        """All that fit; those of the user's own among them that were registered since."""
        if self.traits is not None:
            self.method.offer(self.traits)

    def choose_method(self) -> None:
        """Another method is chosen: show its options and what it costs."""
        self.options.show(self.method.entry)
        self._show_method()

    def show_messages(self) -> Reading:
        """Say in place what is wrong with a field; returns what was read."""
        reading = self.reading
        self.options.show_messages(reading.messages)
        self.problem.message.value = _wrong(reading, _OF_THE_PROBLEM)
        self.budget.message.value = _wrong(reading, _BUDGETS)
        return reading

    def _take(self, suggestion: Suggestion) -> None:
        self._quiet = True  # the options are made once
        self.method.menu.value, self.method.engine.value = suggestion.method, suggestion.engine or "scipy"
        self._quiet = False
        self.options.show(self.method.entry, suggestion.options)
        self._show_method()
        self._notify("options")

    def _show_method(self) -> None:
        if self.traits is not None:
            self.method.show(self.traits)

    def _notify(self, name: str) -> None:
        if not self._quiet:
            self._changed(name)

    # What outlives it

    def choices(self) -> Choices:
        """What is chosen, for `recall`."""
        return Choices(values(self._fields()), values(self.problem.settings), self.options.all_kept)

    def recall(self, choices: Choices) -> None:
        """Choose the same; of a problem that is no longer offered, the method and the speed."""
        self.options.recall(choices.options)
        fields, method = self._fields(), self.method.menu
        if choices.fields["problem"] in self.problem.menu.enabled:
            put_back(choices.fields, fields)
            put_back(choices.settings, self.problem.settings)
        else:
            put_back(choices.fields, {"method": method, "engine": self.method.engine, "speed": self.speed})
        if method.value in choices.options:
            self.options.show(self.method.entry, choices.options[method.value])

    def _fields(self) -> dict[str, Any]:
        """In the order in which they are put back: the problem clears its seed and its start."""
        problem, budget = self.problem, self.budget
        return {
            "problem": problem.menu,
            "seed": problem.seed,
            "start": problem.start,
            "dtype": problem.dtype,
            "bounds": problem.bounds,
            "constraints": problem.constraints,
            "method": self.method.menu,
            "engine": self.method.engine,
            "iterations": budget.iterations,
            "evaluations": budget.evaluations,
            "seconds": budget.seconds,
            "speed": self.speed,
        }


def _wrong(reading: Reading, names: tuple[str, ...]) -> str:
    messages = [
        f"{name.split('.')[-1]}: {message}" for name, message in reading.messages.items() if name.split(".")[0] in names
    ]
    return alert("; ".join(messages))
