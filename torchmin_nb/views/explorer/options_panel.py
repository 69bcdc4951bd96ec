"""The options of a method as a form, made from its rows; and the budgets of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets

from ...core.display.html import html
from ...core.methods.options import OptionSpec
from ...explore import Entry
from .fields import Range
from .parts import button, column, free, line, row
from .words import default_words

__all__ = ["BudgetPanel", "OptionField", "OptionsPanel", "option_field"]

_LOWEST = -16.0
_CLOSURE_CALL = (
    "A closure call computes the loss once, and its gradient if the method needs it; SciPy calls it an evaluation. "
    "An iteration takes one or more of them, so they are the fairer measure of the work."
)


class OptionField:
    """One option: SciPy's name, a widget for its type, and its default and help, or what is wrong."""

    def __init__(self, option: OptionSpec, value: Any, changed: Callable[[], None]):
        self.option = option
        self._changed = changed
        self.name = line(html("<code>{name}</code>", name=option.name))
        self.input = _INPUTS.get(_kind(option), _text)(option, value)
        self.slider: Range | None = None
        self.shown: Any = self.input
        if option.tolerance and isinstance(option.default, float) and 0 < option.default <= 1:
            self.slider = Range(
                min=_LOWEST, max=0.0, step=0.1, label=f"{option.name}, on a logarithmic scale", hint=option.help
            )
            self.slider.add_class("tm-tolerance")
            self.slider.observe(self._slid, "value")
            self.shown = row(self.input, self.slider, name="tm-pair")
            self._follow()
        self.note = line(default_words(option))
        self.input.observe(self._edited, "value")

    @property
    def value(self) -> Any:
        """The raw value, as a Form takes it."""
        return self.input.value

    @value.setter
    def value(self, value: Any) -> None:
        self.input.value = _raw(self.option, value)

    def show_message(self, message: str) -> None:
        """Show what is wrong, or the default."""
        self.note.value = default_words(self.option, message)

    def _edited(self, _: Any) -> None:
        self._follow()
        self._changed()

    def _slid(self, change: Any) -> None:
        value = _rounded(change["new"])
        if self.slider is not None and _position(self.input.value) != change["new"]:
            self.input.value = _plain(value)

    def _follow(self) -> None:
        if self.slider is not None:
            at = _position(self.input.value)
            self.slider.text = "" if at is None else f"10^{at:.1f}"
            if at is not None:
                self.slider.value = min(max(at, _LOWEST), 0.0)


class OptionsPanel:
    """The form of the chosen method. What was set for another method is remembered for its return."""

    def __init__(self, changed: Callable[[str], None]):
        self._changed = changed
        self._kept: dict[str, dict[str, Any]] = {}
        self._method = ""
        self.fields: dict[str, OptionField] = {}
        self.reset = button("Reset options", "Reset all options to their defaults", self._reset)
        self._grid = row(name="tm-options")
        self.drawer = column(self._grid, row(self.reset, name="tm-bar"))

    def form(self) -> dict[str, Any]:
        """The field of a Form that is here."""
        return {"options": {name: field.value for name, field in self.fields.items()}}

    def kept(self, method: str) -> Mapping[str, Any]:
        """The raw values set for a method that was chosen before, or is."""
        return self.all_kept.get(method, {})

    def recall(self, kept: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what was set in an earlier panel."""
        self._kept |= {method: dict(values) for method, values in kept.items()}

    @property
    def all_kept(self) -> dict[str, dict[str, Any]]:
        """The raw values by method, of all that were chosen; also of options that only the other engine has."""
        if not self._method:
            return dict(self._kept)
        return {**self._kept, self._method: {**self._kept.get(self._method, {}), **self.form()["options"]}}

    def show(self, entry: Entry, values: Mapping[str, Any] | None = None) -> None:
        """The form of this method, with these values or those that were set before."""
        self._kept = self.all_kept
        chosen = self._kept.get(entry.name, {}) if values is None else values
        old = [part for field in self.fields.values() for part in (field.name, field.shown, field.note)]
        self._method = entry.name
        self.fields = {
            name: OptionField(option, chosen.get(name, option.default), self._edited)
            for name, option in entry.options.items()
        }
        self._grid.children = [part for field in self.fields.values() for part in (field.name, field.shown, field.note)]
        free(*old)

    def show_messages(self, messages: Mapping[str, str]) -> None:
        """Show what is wrong with which field: {"options.gtol": …}."""
        for name, field in self.fields.items():
            field.show_message(messages.get(f"options.{name}", ""))

    def _edited(self) -> None:
        self._changed("options")

    def _reset(self) -> None:
        self._kept.pop(self._method, None)
        for field in self.fields.values():
            field.value = field.option.default


class BudgetPanel:
    """When a run is ended at the latest."""

    def __init__(self, changed: Callable[[str], None], *, iterations: str = "1000", seconds: str = "60"):
        self.iterations = _budget("Iterations", iterations, "The run ends after this number; empty: the default")
        self.evaluations = _budget("Closure calls", "", "The run ends after this number; empty: no limit")
        self.seconds = _budget("Seconds", seconds, "The run ends after this time; empty: no limit")
        self.message = line("", "tm-note")
        self.drawer = column(
            row(self.iterations, self.evaluations, self.seconds), line(_CLOSURE_CALL, "tm-note"), self.message
        )
        for field in (self.iterations, self.evaluations, self.seconds):
            field.observe(lambda _: changed("budget"), "value")

    def form(self) -> dict[str, Any]:
        """The fields of a Form that are here."""
        return {
            "max_iterations": self.iterations.value,
            "max_evaluations": self.evaluations.value,
            "max_seconds": self.seconds.value,
        }


def _budget(name: str, value: str, tooltip: str) -> widgets.Text:
    return widgets.Text(
        value,
        description=name,
        tooltip=tooltip,
        placeholder="no limit",
        continuous_update=False,
        style={"description_width": "initial"},
        layout=widgets.Layout(width="200px"),
    )


def _kind(option: OptionSpec) -> str:
    if option.choices:
        return "choice"
    if option.kind == "bool" and isinstance(option.default, bool):
        return "bool"
    return "int" if option.kind == "int" and isinstance(option.default, int) else "text"


def _common(option: OptionSpec) -> dict[str, Any]:
    return {
        "description": option.name,
        "tooltip": option.help,
        "style": {"description_width": "0"},
        "layout": widgets.Layout(width="100%", margin="0", min_width="120px"),
    }


def _check(option: OptionSpec, value: Any) -> widgets.Checkbox:
    return widgets.Checkbox(bool(value), indent=False, **{**_common(option), "style": {}})


def _choice(option: OptionSpec, value: Any) -> widgets.Dropdown:
    choices = dict.fromkeys([str(option.default), *map(str, option.choices)])
    return widgets.Dropdown(options=list(choices), value=str(value), **_common(option))


def _whole(option: OptionSpec, value: Any) -> widgets.IntText:
    return widgets.IntText(int(value), continuous_update=False, **_common(option))


def _text(option: OptionSpec, value: Any) -> widgets.Text:
    hint = "SciPy chooses" if option.default is None else str(option.default)
    return widgets.Text(_plain(value), placeholder=hint, continuous_update=False, **_common(option))


_INPUTS: Mapping[str, Callable[[OptionSpec, Any], Any]] = {
    "bool": _check,
    "choice": _choice,
    "int": _whole,
    "text": _text,
}


def option_field(option: OptionSpec) -> OptionField:
    """A field at its default, which nobody hears of."""
    return OptionField(option, option.default, lambda: None)


def _raw(option: OptionSpec, value: Any) -> Any:
    """A value as the option's widget takes it."""
    kind = _kind(option)
    return value if kind in ("bool", "int") else str(value) if kind == "choice" else _plain(value)


def _plain(value: Any) -> str:
    """As a person would type it; empty for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def _position(text: Any) -> float | None:
    """Where a tolerance is on its slider; None for what is no positive number."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return round(math.log10(value), 9) if 0 < value < math.inf else None


def _rounded(position: float) -> float:
    """The tolerance at a position, of two digits."""
    return float(f"{10**position:.1e}")
