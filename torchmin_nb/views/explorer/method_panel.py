"""Which method: all of them by family, those that do not fit disabled with the reason; and a suggestion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...explore import Advice, Entry, Fit, Suggestion, Traits, catalogue, fit, groups, suggest
from .fields import Choice, Menu
from .parts import button, column, line, row
from .words import method_card, suggestion_card

__all__ = ["MethodPanel", "choices"]


class MethodPanel:
    """The menu of methods with a card on the one chosen, and the suggestion. `changed("method")` is told of a choice.

    suggested: its button takes the suggestion, options included, through `take(suggestion)`.
    """

    def __init__(self, changed: Callable[[str], None], take: Callable[[Suggestion], None]):
        self._take = take
        self.fits: Mapping[str, Fit] = {}
        self.advice = Advice(None)
        self.menu = Menu(label="Method")
        self.card = line("", "tm-note")
        self.suggestion = line("", "tm-note")
        self.suggested = button("Use the suggestion", "Choose the method that is suggested first", self._use, "primary")
        self.drawer = column(self.suggestion, row(self.suggested, name="tm-bar"))
        self.menu.observe(lambda _: changed("method"), "value")

    @property
    def entry(self) -> Entry:
        """The method chosen."""
        return catalogue()[self.menu.value]

    def form(self) -> dict[str, Any]:
        """The field of a Form that is here."""
        return {"method": self.menu.value}

    def offer(self, traits: Traits) -> None:
        """Put up the methods for such a problem; one that no longer fits gives way to the suggestion."""
        self.fits = {each.name: fit(each, traits) for each in catalogue().values()}
        self.advice = suggest(traits)
        self.menu.offer(choices(traits))
        self.suggestion.value = suggestion_card(self.advice, traits)
        self.suggested.disabled = self.advice.best is None
        if not self.fits.get(self.menu.value):
            self._use()

    def show(self, traits: Traits) -> None:
        """Say what the chosen method needs and costs here."""
        if self.menu.value in self.fits:
            self.card.value = method_card(self.entry, self.fits[self.menu.value], traits)

    def _use(self) -> None:
        if self.advice.best is not None:
            self._take(self.advice.best)
        elif self.menu.value not in self.fits:
            self.menu.value = next(iter(self.fits))


def choices(traits: Traits) -> dict[str, list[Choice]]:
    """All methods by family, with a note on each that does not fit."""
    return {
        family: [Choice(each.name, each.name, fit(each, traits).reason) for each in entries]
        for family, entries in groups().items()
    }
