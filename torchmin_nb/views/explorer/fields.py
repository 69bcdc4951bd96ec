"""Fields that ipywidgets lacks: a menu with headings and disabled choices, ticks, a range, a table, files to save.

All are native HTML elements with labels, so that keyboard and screen reader know them. The scripts are in `static`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anywidget
import traitlets

from ...core.display.html import Html, escaped

__all__ = ["STYLE", "Checks", "Choice", "Files", "Menu", "Range", "TableView"]

_STATIC = Path(__file__).parent / "static"
STYLE = (_STATIC / "explorer.css").read_text(encoding="utf-8")
"""The style sheet of the panel; colours are JupyterLab's, with fallbacks."""


def _script(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


class Choice(NamedTuple):
    """One choice of a menu. note: why it cannot be chosen, where it is not empty."""

    value: str
    text: str
    note: str = ""


def _grouped(choices: Mapping[str, Sequence[Choice]]) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "items": [
                {"value": each.value, "text": each.text, "disabled": bool(each.note), "note": each.note}
                for each in items
            ],
        }
        for label, items in choices.items()
    ]


class Menu(anywidget.AnyWidget):
    """A drop-down of choices under headings; those with a note are disabled, and say it."""

    _esm = _script("menu.js")
    label = traitlets.Unicode().tag(sync=True)
    groups: Any = traitlets.List().tag(sync=True)
    value = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)

    def offer(self, choices: Mapping[str, Sequence[Choice]]) -> None:
        """Put these choices up; a note is part of the text, as it is read out there."""
        labels = {
            label: [each._replace(text=f"{each.text} — {each.note}") if each.note else each for each in items]
            for label, items in choices.items()
        }
        self.groups = _grouped(labels)

    @property
    def enabled(self) -> tuple[str, ...]:
        """The values that can be chosen."""
        return _enabled(self.groups)


class Checks(anywidget.AnyWidget):
    """Tick boxes under headings; value: the ticked ones. every: the name of the tick that stands for all."""

    _esm = _script("checks.js")
    label = traitlets.Unicode().tag(sync=True)
    every = traitlets.Unicode("all").tag(sync=True)
    groups: Any = traitlets.List().tag(sync=True)
    value = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def offer(self, choices: Mapping[str, Sequence[Choice]]) -> None:
        """Put these choices up; what is ticked and still can be stays ticked."""
        groups = _grouped(choices)
        enabled = _enabled(groups)
        self.value = [each for each in self.value if each in enabled]
        self.groups = groups

    @property
    def enabled(self) -> tuple[str, ...]:
        """The values that can be ticked."""
        return _enabled(self.groups)


def _enabled(groups: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(item["value"] for group in groups for item in group["items"] if not item["disabled"])


class Range(anywidget.AnyWidget):
    """A slider. text: the value in words, shown beside it and read out. step: 0 for a continuous one."""

    _esm = _script("range.js")
    label = traitlets.Unicode().tag(sync=True)
    min = traitlets.Float(0.0).tag(sync=True)
    max = traitlets.Float(1.0).tag(sync=True)
    step = traitlets.Float(1.0).tag(sync=True)
    value = traitlets.Float(0.0).tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)


class TableView(anywidget.AnyWidget):
    """Shows the HTML of a table; what is not Html is escaped.

    chosen: names of the ticked rows; `asked(column)` hears of clicks on a head.
    """

    _esm = _script("table.js")
    html: Any = traitlets.Unicode().tag(sync=True)
    chosen = traitlets.List(traitlets.Unicode()).tag(sync=True)

    @traitlets.validate("html")
    def _escape(self, proposal: Any) -> Html:
        return escaped(proposal["value"])

    def on_sort(self, asked: Callable[[str], None]) -> None:
        """Have `asked(column)` called at a click on a column's head."""
        self.on_msg(lambda _, content, __: asked(str(content.get("sort", ""))))


class Files(anywidget.AnyWidget):
    """Code in a text box with a button to copy it, and buttons for files that the browser saves.

    files: [{"key", "text"}]; a click asks `made(key)` for (file name, MIME type, text).
    """

    _esm = _script("files.js")
    code = traitlets.Unicode().tag(sync=True)
    files: Any = traitlets.List().tag(sync=True)

    def on_want(self, made: Callable[[str], tuple[str, str, str]]) -> None:
        """Have `made(key)` called at a click on the button of a file."""

        def answer(_: Any, content: dict[str, Any], __: Any) -> None:
            try:
                name, kind, text = made(str(content.get("want", "")))
            except Exception as error:  # shown where the person looks
                self.send({"error": str(error)})
            else:
                self.send({"name": name, "type": kind, "text": text})

        self.on_msg(answer)
