"""Small ways to make widgets, and to let them go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ipywidgets as widgets
import traitlets

from ...core.display.html import Html, escaped

__all__ = ["HtmlLine", "button", "column", "dropdown", "free", "line", "row"]


class HtmlLine(widgets.HTML):  # type: ignore[misc]  # ipywidgets is untyped
    """Text that changes. What is not Html is text: it is escaped when it is set."""

    value: Any = traitlets.Unicode(help="Html, or text").tag(sync=True)

    @traitlets.validate("value")
    def _escape(self, proposal: Any) -> Html:
        return escaped(proposal["value"])


def button(label: str, tooltip: str, act: Callable[[], object], style: str = "", width: str = "auto") -> widgets.Button:
    """A button without an icon: a screen reader would read out its private character."""
    made = widgets.Button(
        description=label, tooltip=tooltip, button_style=style, layout=widgets.Layout(width=width, margin="0")
    )
    made.on_click(lambda _: act())
    return made


def dropdown(name: str, options: Any, value: Any, tooltip: str, width: str = "auto") -> widgets.Dropdown:
    """A choice with its name before it."""
    return widgets.Dropdown(
        options=options,
        value=value,
        description=name,
        tooltip=tooltip,
        style={"description_width": "initial"},
        layout=widgets.Layout(width=width, margin="0"),
    )


def line(value: str = "", *classes: str) -> HtmlLine:
    """Text that changes; Html is shown as such."""
    made = HtmlLine(value, layout=widgets.Layout(margin="0"))
    for name in classes:
        made.add_class(name)
    return made


def row(*children: Any, name: str = "tm-row") -> widgets.Box:
    """Side by side, one below the other where there is no room."""
    made = widgets.Box(list(children))
    made.add_class(name)
    return made


def column(*children: Any, name: str = "") -> widgets.VBox:
    """One below the other."""
    made = widgets.VBox(list(children), layout=widgets.Layout(overflow="visible"))
    if name:
        made.add_class(name)
    return made


def free(*roots: Any) -> None:
    """Close these widgets and all within, with the layouts and styles that are widgets too."""
    for root in roots:
        for widget in list(_within(root)):
            for part in (widget, getattr(widget, "layout", None), getattr(widget, "style", None)):
                if isinstance(part, widgets.Widget):
                    part.close()


def _within(widget: Any) -> Iterator[Any]:
    for child in getattr(widget, "children", ()):
        yield from _within(child)
    yield widget
