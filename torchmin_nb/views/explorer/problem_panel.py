"""Which problem, with which settings, from which start."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from ...explore import Subject, Traits
from ...explore.call import DTYPES
from ...problems import PROBLEMS, Problem, ProblemSpec, Setting
from .fields import Choice, Menu, Range
from .parts import column, free, line, row
from .words import problem_card, subject_card

__all__ = ["OWN", "ProblemPanel"]

OWN = "(your own)"
"""The value of the menu's entry for the user's own problem."""


class ProblemPanel:
    """The problem's fields. A change calls `changed(name)`: "problem", "limits" or "start".

    subject: the user's own problem, first in the menu. menu and card stand at the top, the rest in a drawer.
    """

    def __init__(self, subject: Subject | None, changed: Callable[[str], None]):
        self._changed = changed
        self._subject = subject
        self._quiet = False
        self.menu = Menu(label="Problem", value=OWN if subject is not None else next(iter(PROBLEMS)))
        self.menu.offer(_choices(subject))
        self.card = line("", "tm-note")
        self.settings: dict[str, Range] = {}
        self.seed = _text("0", "Seed", "0: the usual start; other numbers: a random start")
        self.start = _text("", "Start x", "numbers such as -1.2, 1; empty: the start of the seed")
        self.dtype = widgets.Dropdown(
            options=list(DTYPES), value="float64", description="dtype", layout=widgets.Layout(width="200px")
        )
        self.bounds = _tick("use the bounds", "If not selected, methods without bounds can also run")
        self.constraints = _tick("use the constraints", "If not selected, methods without constraints can also run")
        self.message = line("", "tm-note")
        self._settings_box = column()
        self.drawer = column(
            self._settings_box, row(self.seed, self.start, self.dtype), row(self.bounds, self.constraints), self.message
        )
        self.menu.observe(self._problem_changed, "value")
        for field, name in (
            (self.seed, "start"),
            (self.start, "start"),
            (self.dtype, "problem"),
            (self.bounds, "limits"),
            (self.constraints, "limits"),
        ):
            field.observe(lambda _, name=name: self._notify(name), "value")
        self._show_settings()

    @property
    def problem(self) -> str | Subject:
        """What a Form takes."""
        return self._subject if self._subject is not None and self.menu.value == OWN else str(self.menu.value)

    @property
    def spec(self) -> ProblemSpec | None:
        """The problem's row; None for the user's own."""
        return PROBLEMS.get(self.menu.value)

    def form(self) -> dict[str, Any]:
        """The fields of a Form that are here."""
        return {
            "problem": self.problem,
            "settings": {name: setting_value(self._row(name), field.value) for name, field in self.settings.items()},
            "seed": self.seed.value,
            "start": self.start.value,
            "dtype": self.dtype.value,
            "bounds": self.bounds.value,
            "constraints": self.constraints.value,
        }

    def place(self, point: Sequence[float]) -> None:
        """Start here, as a click on the contours asks."""
        self.start.value = ", ".join(f"{each:.4g}" for each in point)

    def show(self, problem: Problem, traits: Traits) -> None:
        """Say what the problem is, and show the fields that it has."""
        spec = self.spec
        self.card.value = problem_card(spec, traits) if spec is not None else subject_card(self._own(), traits)
        self.bounds.layout.display = "" if problem.bounds is not None else "none"
        self.constraints.layout.display = "" if problem.constraints else "none"

    def _own(self) -> Subject:
        assert self._subject is not None
        return self._subject

    def _row(self, name: str) -> Setting:
        assert self.spec is not None
        return next(setting for setting in self.spec.settings if setting.name == name)

    def _problem_changed(self, _: Any) -> None:
        self._quiet = True  # one change, not four
        self.start.value, self.seed.value = "", "0"
        self._quiet = False
        self._show_settings()
        self._notify("problem")

    def _show_settings(self) -> None:
        old = list(self.settings.values())
        self.settings = {setting.name: self._slider(setting) for setting in (self.spec.settings if self.spec else ())}
        self._settings_box.children = list(self.settings.values())
        free(*old)

    def _slider(self, setting: Setting) -> Range:
        low, high, value = (setting_position(setting, each) for each in (setting.low, setting.high, setting.default))
        field = Range(
            label=setting.name.replace("_", " "),
            min=low,
            max=high,
            step=_step(setting),
            value=value,
            text=_shown(setting, value),
            hint=setting.help,
        )

        def moved(change: Any) -> None:
            field.text = _shown(setting, change["new"])
            self._notify("problem")

        field.observe(moved, "value")
        return field

    def _notify(self, name: str) -> None:
        if not self._quiet:
            self._changed(name)


def setting_position(setting: Setting, value: float) -> float:
    """Where a value is on its slider: at its decimal logarithm on a logarithmic one that allows it."""
    return math.log10(value) if _logarithmic(setting) else float(value)


def setting_value(setting: Setting, position: float) -> float | int:
    """The value at a position, of three digits on a logarithmic slider; whole where the setting is."""
    value = float(f"{10**position:.3g}") if _logarithmic(setting) else float(position)
    value = min(max(value, float(setting.low)), float(setting.high))
    return round(value) if isinstance(setting.default, int) else value


def _logarithmic(setting: Setting) -> bool:
    return setting.log and setting.low > 0


def _step(setting: Setting) -> float:
    if isinstance(setting.default, int) and not _logarithmic(setting):
        return 1.0
    return 0.0


def _shown(setting: Setting, position: float) -> str:
    return f"{setting_value(setting, position):g}"


def _choices(subject: Subject | None) -> dict[str, list[Choice]]:
    own = {} if subject is None else {"yours": [Choice(OWN, subject.name)]}
    gallery: dict[str, list[Choice]] = {}
    for spec in PROBLEMS.values():
        gallery.setdefault(spec.group, []).append(Choice(spec.name, spec.name))
    return {**own, **gallery}


def _text(value: str, name: str, tooltip: str) -> widgets.Text:
    return widgets.Text(
        value,
        description=name,
        tooltip=tooltip,
        continuous_update=False,
        style={"description_width": "initial"},
        layout=widgets.Layout(width="240px"),
    )


def _tick(name: str, tooltip: str) -> widgets.Checkbox:
    return widgets.Checkbox(True, description=name, tooltip=tooltip, indent=False, layout=widgets.Layout(width="auto"))
