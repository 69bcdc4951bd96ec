"""All runs as one HTML table, with a bar of actions on the rows that are ticked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import ipywidgets as widgets

from ...core.display.html import Html, html, joined
from ...errors import ArgumentError
from ...explore import COLUMNS, RunRow, RunTable
from .fields import TableView
from .parts import button, column, line, row

__all__ = ["ComparePanel", "table_html"]


class ComparePanel:
    """Keeps the table of runs. Calls `changed("table")` for a new table, `changed("focus")` if rows are selected."""

    def __init__(self, changed: Callable[[str], None], table: RunTable | None = None):
        self._changed = changed
        self.table = table or RunTable()
        self.colours: Mapping[str, str] = {}
        self.view = TableView()
        self.pin = button("Pin", "Pin the selected runs at the top, or unpin them", self._pin)
        self.hide = button("Hide", "Hide the selected runs in the figures, or show them again", self._hide)
        self.delete = button("Delete", "Delete the selected runs", self._delete)
        self.name = widgets.Text(
            "",
            placeholder="new name",
            description="New name",
            style={"description_width": "initial"},
            layout=widgets.Layout(width="200px", margin="0"),
        )
        self.rename = button("Rename", "Give the selected run this name", self._rename)
        self.message = line("", "tm-note")
        self.drawer = column(
            row(self.pin, self.hide, self.name, self.rename, self.delete, self.message, name="tm-bar"), self.view
        )
        self.view.on_sort(self.sort)
        self.view.observe(self._ticked, "chosen")
        self.refresh()

    @property
    def chosen(self) -> list[str]:
        """The ticked rows that are there."""
        return [name for name in self.view.chosen if name in self.table.names]

    def add(self, row: RunRow) -> str:
        """A row more; returns the name that it got."""
        self.table = self.table.add(row)
        self.refresh()
        return self.table.names[-1]

    def free_name(self, name: str) -> str:
        """The name that a run of this name would get."""
        taken, free, count = set(self.table.names), name, 1
        while free in taken:
            count += 1
            free = f"{name} {count}"
        return free

    def paint(self, colours: Mapping[str, str]) -> None:
        """Mark the runs with their colours in the pictures."""
        if colours != self.colours:
            self.colours = colours
            self.refresh()

    def sort(self, column: str) -> None:
        """Sort by a column, or the other way round."""
        if column in COLUMNS:
            self._set(self.table.toggled(column))

    def refresh(self) -> None:
        """Write the table anew."""
        self.view.html = table_html(self.table, self.colours)
        for each in (self.pin, self.hide, self.rename, self.delete):
            each.disabled = not self.chosen
        hidden = bool(self.chosen) and all(self.table[name].hidden for name in self.chosen)
        pinned = bool(self.chosen) and all(self.table[name].pinned for name in self.chosen)
        self.hide.description = "Show again" if hidden else "Hide"
        self.pin.description = "Let go" if pinned else "Pin"

    def _pin(self) -> None:
        pinned = self.pin.description == "Pin"
        self._to_each(lambda table, name: table.pin(name, pinned))

    def _hide(self) -> None:
        hidden = self.hide.description == "Hide"
        self._to_each(lambda table, name: table.hide(name, hidden))

    def _delete(self) -> None:
        self._to_each(RunTable.delete)
        self.view.chosen = []

    def _to_each(self, change: Callable[[RunTable, str], RunTable]) -> None:
        """Do this to each of the ticked runs."""
        self._set(reduce(change, self.chosen, self.table))

    def _rename(self) -> None:
        if len(self.chosen) != 1:
            self.message.value = "Select one run to rename."
            return
        (name,) = self.chosen
        try:
            table = self.table.rename(name, self.name.value)
        except ArgumentError as error:
            self.message.value = str(error)
            return
        self._set(table)
        self.view.chosen = [self.name.value.strip()]
        self.name.value = ""

    def _set(self, table: RunTable) -> None:
        self.table, self.message.value = table, ""
        self.refresh()
        self._changed("table")

    def _ticked(self, _: Any) -> None:
        self.message.value = ""
        self.refresh()
        self._changed("focus")


def table_html(table: RunTable, colours: Mapping[str, str]) -> Html:
    """The table with ticks and heads to click; hidden rows come last, faint. colours: of the runs in the pictures."""
    if not len(table):
        return Html('<p class="tm-note">Each run becomes a row here.</p>')
    rows = [*table.shown, *(row for row in table.rows if row.hidden)]
    count = len(table)
    return html(
        "<table><caption>{count} run{s}; click a heading to sort, select runs to use the buttons</caption>"
        "<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>",
        count=count,
        s="s" * (count != 1),
        head=joined(_head(name, table) for name in COLUMNS),
        body=joined(_row(each, colours.get(each.name, "")) for each in rows),
    )


def _head(name: str, table: RunTable) -> Html:
    sorted_ = name == table.sort
    return html(
        '<th scope="col" aria-sort="{order}" class="{classes}">'
        '<button type="button" data-sort="{name}" data-key="sort {name}">{heading}</button>'
        '<span aria-hidden="true">{arrow}</span></th>',
        order=("descending" if table.descending else "ascending") if sorted_ else "none",
        classes=_classes(name),
        name=name,
        heading=COLUMNS[name].heading,
        arrow=("▾" if table.descending else "▴") if sorted_ else "",
    )


def _row(row: RunRow, colour: str) -> Html:
    states = {"pinned": row.pinned, "hidden": row.hidden, "failed": row.failed}
    key = html('<span class="tm-key" style="border-color:{colour}" aria-hidden="true"></span>', colour=colour)
    cell = '<td class="{classes}">{cell}</td>'
    return html(
        '<tr class="{classes}">'
        '<td><input type="checkbox" data-run="{name}" data-key="run {name}" aria-label="choose {name}"></td>'
        '<th scope="row">{key}{name}{pin}</th>{cells}</tr>',
        classes=" ".join(name for name, holds in states.items() if holds),
        name=row.name,
        key=key if colour else "",
        pin=" (pinned)" if row.pinned else "",
        cells=joined(html(cell, classes=_classes(each), cell=_cell(each, row)) for each in list(COLUMNS)[1:]),
    )


def _classes(name: str) -> str:
    column_ = COLUMNS[name]
    return "tm-number" if column_.number else "tm-long" if column_.long else ""


def _cell(name: str, row: RunRow) -> str:
    column_ = COLUMNS[name]
    value = column_.value(row)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = format(value, column_.number) if column_.number else str(value)
    return text if len(text) <= 120 else text[:119] + "…"
