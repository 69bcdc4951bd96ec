"""Which method: all of them by family, those that do not fit disabled with the reason; and a suggestion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...explore import Advice, Entry, Fit, Suggestion, Traits, catalogue, fit, groups, suggest
from .fields import Choice, Menu
from .parts import button, column, dropdown, line, row
from .words import method_card, suggestion_card

__all__ = ["MethodPanel", "choices"]

_ENGINES = (("SciPy", "scipy"), ("torch, on the device", "torch"))
_ENGINE_HELP = (
    "The engine that runs the method. SciPy: on the CPU, in float64. torch: on the parameters' device, in their dtype; "
    "often faster with many parameters"
)


class MethodPanel:
    """The menu of methods with a card on the chosen one, and the suggestion. A choice calls `changed("method")`.

    engine: the choice of who runs the method, shown where both can; it stays as it is when other methods are chosen.
    suggested: its button takes the suggestion, options included, through `take(suggestion)`.
    """

    def __init__(self, changed: Callable[[str], None], take: Callable[[Suggestion], None]):
        self._take = take
        self._traits: Traits | None = None
        self.advice = Advice(None)
        self.menu = Menu(label="Method")
        self.engine = dropdown("Engine", _ENGINES, "scipy", _ENGINE_HELP, "210px")
        self.engine.layout.display = "none"
        self.card = line("", "tm-note")
        self.suggestion = line("", "tm-note")
        self.suggested = button("Use the suggestion", "Choose the suggested method", self._use, "primary")
        self.drawer = column(self.suggestion, row(self.suggested, name="tm-bar"))
        self.menu.observe(lambda _: self._show_engine(), "value")
        for field in (self.menu, self.engine):
            field.observe(lambda _: changed("method"), "value")

    @property
    def entry(self) -> Entry:
        """The method chosen, by the engine chosen."""
        row = catalogue()[self.menu.value]
        return row.on(self.engine.value) if len(row.engines) > 1 else row

    @property
    def fit(self) -> Fit | None:
        """Whether that fits the problem; None where there is no problem, or no such method any more."""
        if self._traits is None or self.menu.value not in catalogue():
            return None
        return fit(self.entry, self._traits)

    def form(self) -> dict[str, Any]:
        """The fields of a Form that are here."""
        known = self.menu.value in catalogue()
        return {"method": self.menu.value, "engine": self.entry.engine if known else None}

    def offer(self, traits: Traits) -> None:
        """Put up the methods for such a problem; one that no longer fits gives way to the suggestion."""
        self._traits = traits
        self.advice = suggest(traits)
        self.menu.offer(choices(traits))
        self.suggestion.value = suggestion_card(self.advice, traits)
        self.suggested.disabled = self.advice.best is None
        if not self.fit:
            self._use()

    def show(self, traits: Traits) -> None:
        """Say what the chosen method needs and costs here."""
        if self.fit is not None:
            self.card.value = method_card(self.entry, self.fit, traits)

    def _show_engine(self) -> None:
        row = catalogue().get(self.menu.value)
        self.engine.layout.display = "" if row is not None and len(row.engines) > 1 else "none"

    def _use(self) -> None:
        if self.advice.best is not None:
            self._take(self.advice.best)
        elif self.menu.value not in catalogue():
            self.menu.value = next(iter(catalogue()))


def choices(traits: Traits) -> dict[str, list[Choice]]:
    """All methods by family, with a note on each that does not fit by any of its engines."""
    return {
        family: [Choice(each.name, each.name, _reason(each, traits)) for each in entries]
        for family, entries in groups().items()
    }


def _reason(entry: Entry, traits: Traits) -> str:
    fits = [fit(entry.on(engine), traits) for engine in entry.engines]
    return "" if any(fits) else fits[0].reason
