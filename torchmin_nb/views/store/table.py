"""StoreTable: the runs of a RunStore in a notebook, to sort, filter, rename, compare, delete and write as a page.

The cell shows the plain table. The widget has no view: its script finds that table in the page and puts a living one
in its place. So a saved notebook, and a page without widgets, keep the plain one.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ...core.callbacks.run_store import COLUMNS, FORMATS, RunStore, StoredRun, cells
from ...core.display.html import Html, html, joined
from ...core.execution.run import FINISHED
from ...errors import TorchminError
from ..cells import Cells, place_here
from ..frontend import NOTEBOOK, front_end
from ..live_panel.header import Header
from ..live_panel.state import panel_state
from ..live_panel.widget import PanelWidget

__all__ = ["StoreTable", "StoreWidget", "show_store"]

_FILES = files(__package__)
_PANELS = ("loss", "gradient norm")
_BUTTONS = {
    "compare": ("Compare", "Draw the ticked runs over each other"),
    "rename": ("Rename", "Give the ticked run another name"),
    "delete": ("Delete", "Delete the ticked runs and their files"),
    "page": ("Write page", "Write the ticked runs, or all that are shown, as one HTML page beside the folder"),
    "refresh": ("Refresh", "Read the folder again"),
}


def _text(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")


class StoreWidget(anywidget.AnyWidget):
    """What the page knows. key: of the places where the table is shown. html: the table with its buttons.

    said: what came of the last action. figure: the model of the PanelWidget below the table; empty without one.
    """

    _esm = _text("store.js")
    key = traitlets.Unicode().tag(sync=True)
    html: Any = traitlets.Unicode().tag(sync=True)
    said = traitlets.Unicode().tag(sync=True)
    figure = traitlets.Unicode().tag(sync=True)


class StoreTable:
    """A RunStore as a table to be used with the mouse. `show` puts it into the cell that is running."""

    def __init__(self, store: RunStore):
        self.store = store
        self.widget = StoreWidget(key=uuid.uuid4().hex[:12])
        self.panel: PanelWidget | None = None
        self._actions: Mapping[str, Callable[[dict[str, Any]], Sequence[str] | None]] = {
            "compare": self._compare,
            "rename": self._rename,
            "delete": self._delete,
            "page": self._write_page,
            "refresh": self._refresh,
        }
        self.widget.on_msg(lambda _, content, __: self.act(content))
        self._read()

    def act(self, asked: dict[str, Any]) -> None:
        """Do what a person asked for: {"do": an action, "names": of runs}. What is wrong is said in the table."""
        ticked = None
        try:
            ticked = self._actions[asked["do"]](asked)
        except TorchminError as error:
            self.widget.said = f"{error}."
        finally:
            self.widget.send({"done": asked["do"], "ticked": ticked})

    def show(self) -> None:
        """The plain table, which the widget's script replaces where it runs."""
        from IPython.display import display

        form = '<div data-tmnb-store="{key}">{table}</div>'
        plain = html(form, key=self.widget.key, table=Html(self.store._repr_html_()))
        display({"text/html": plain, "text/plain": repr(self.store)}, raw=True)

    def close(self) -> None:
        """Free the widgets. The plain table stays."""
        self._close_figure()
        self.widget.close()

    # What is asked; returned are the runs that are ticked afterwards, None for the same as before

    def _compare(self, asked: dict[str, Any]) -> None:
        histories = self.store.histories(asked["names"])
        last = {name: history[-1].loss for name, history in histories.items() if len(history)}
        lowest = min((name for name in last if math.isfinite(last[name])), key=last.__getitem__, default="")
        verdict = f"The lowest loss is that of {lowest}." if lowest and len(last) > 1 else ""
        header = Header(FINISHED, _runs(len(histories)), verdict=verdict)
        notes = {name: f"loss {loss:.4g}" for name, loss in last.items()}
        self._close_figure()
        self.panel = PanelWidget(panel_state(histories, header, panels=_PANELS, notes=notes, told=1), x="closure calls")
        self.widget.figure, self.widget.said = self.panel.model_id, ""

    def _rename(self, asked: dict[str, Any]) -> Sequence[str]:
        self.store.rename(asked["names"][0], asked["new"])
        self._read()
        return [asked["new"].strip()]

    def _delete(self, asked: dict[str, Any]) -> Sequence[str]:
        self.store.delete(asked["names"])
        self._read()
        self.widget.said = f"{_runs(len(asked['names']))} deleted."
        return []

    def _write_page(self, asked: dict[str, Any]) -> None:
        path = _free(self.store.path)
        self.store.write_html(path, asked["names"])
        self.widget.said = f"{path.name}, beside the folder, has {_runs(len(asked['names']))}."

    def _refresh(self, asked: dict[str, Any]) -> None:
        self._read()

    def _read(self) -> None:
        self.widget.said = ""
        self.widget.html = table_html(self.store.runs, self.store.path.name)

    def _close_figure(self) -> None:
        self.widget.figure = ""
        if self.panel is not None:
            self.panel.close()
            self.panel = None


_shown: Cells[StoreTable] = Cells()


def show_store(store: RunStore) -> bool:
    """Show the table that is used with the mouse, where widgets live; else return False."""
    if front_end() != NOTEBOOK:
        return False
    place = place_here()
    before = _shown.previous(place)
    if before is not None:
        before.close()
    table = StoreTable(store)
    _shown.register(place, table)
    table.show()
    return True


def table_html(runs: Sequence[StoredRun], folder: str) -> Html:
    """The table with a bar of buttons above it; the script sorts, filters and ticks its rows."""
    button = '<button type="button" data-do="{do}" data-key="{do}" title="{tip}">{label}</button>'
    bar = joined(html(button, do=do, label=label, tip=tip) for do, (label, tip) in _BUTTONS.items())
    return html(
        '<style>{style}</style><div class="tmnb-store" data-lm-suppress-shortcuts="true"><div class="tmnb-store-bar">'
        '<input type="search" data-key="filter" placeholder="Filter" aria-label="Show only runs with these words">'
        '{bar}<span data-part="confirm" role="alert"></span><span data-part="said" role="status"></span></div>'
        '<div class="tmnb-store-wide" tabindex="0" role="region" aria-label="Runs"><table>'
        '<caption>{runs} in {folder}<span data-part="shown"></span></caption>'
        '<thead><tr><td><input type="checkbox" data-all data-key="all" aria-label="Tick all"></td>{head}</tr></thead>'
        '<tbody>{body}</tbody></table></div><div data-part="figure"></div></div>',
        style=Html(_text("store.css")),
        bar=bar,
        runs=_runs(len(runs)),
        folder=folder,
        head=joined(_head(name) for name in COLUMNS),
        body=joined(_row(run, place) for place, run in enumerate(runs)),
    )


def _head(name: str) -> Html:
    form = (
        '<th scope="col" class="{side}"><button type="button" data-sort="{name}" data-key="sort {name}">{name}</button>'
        '<span aria-hidden="true"></span></th>'
    )
    return html(form, side=_side(name), name=name)


def _row(run: StoredRun, place: int) -> Html:
    first, *others = zip(COLUMNS, cells(run), strict=True)
    cell = '<td class="{side}" data-value="{value}">{text}</td>'
    return html(
        '<tr data-run="{name}" data-place="{place}">'
        '<td><input type="checkbox" data-key="tick {name}" aria-label="Tick {name}"></td>'
        '<th scope="row" data-value="{name}">{text}</th>{cells}</tr>',
        name=run.name,
        place=place,
        text=first[1],
        cells=joined(html(cell, side=_side(name), value=_value(run, name), text=text) for name, text in others),
    )


def _side(name: str) -> str:
    return "tmnb-number" if name in FORMATS else "tmnb-long" if name == "ending" else ""


def _value(run: StoredRun, name: str) -> str:
    """By which the script sorts; empty for what is not known."""
    value = COLUMNS[name](run)
    return "" if value is None else str(value)


def _runs(number: int) -> str:
    return f"{number} run{'s' * (number != 1)}"


def _free(folder: Path) -> Path:
    """A page beside the folder that is not there yet."""
    names = (f"{folder.name}{'' if number == 1 else f'-{number}'}.html" for number in count(1))
    return next(path for path in map(folder.with_name, names) if not path.exists())
