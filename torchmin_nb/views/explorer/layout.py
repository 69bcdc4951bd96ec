"""Where everything stands: what is always in sight, and the drawers."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from ...core.display.html import Html, html
from .compare_panel import ComparePanel
from .fields import STYLE, Files
from .form_panel import FormPanel
from .parts import column, row
from .pictures import Pictures
from .race_panel import RacePanel

__all__ = ["BUDGET", "COMPARE", "OPTIONS", "SETTINGS", "build_layout"]

_DRAWERS = ("Suggestion", "Settings", "Options", "Budget", "Compare", "Race", "Save and copy")
SETTINGS, OPTIONS, BUDGET, COMPARE = map(_DRAWERS.index, ("Settings", "Options", "Budget", "Compare"))
"""The drawers that are opened for the person, by their places."""


def build_layout(
    form: FormPanel,
    pictures: Pictures,
    compare: ComparePanel,
    race: RacePanel,
    files: Files,
) -> tuple[widgets.VBox, widgets.Tab]:
    """The whole panel, and its drawers, all shut."""
    drawers = [
        *(each.drawer for each in (form.method, form.problem, form.options, form.budget, compare, race)),
        column(files),
    ]
    tab = widgets.Tab(drawers, titles=_DRAWERS, selected_index=None, layout=widgets.Layout(margin="4px 0 0 0"))
    tab.selected_index = None  # with titles it has opened the first
    root = column(
        widgets.HTML(html("<style>{style}</style>", style=Html(STYLE)), layout=widgets.Layout(display="none")),
        row(
            column(form.problem.menu, form.problem.card, name="tm-half"),
            column(row(form.method.menu, form.method.engine, name="tm-menus"), form.method.card, name="tm-half"),
        ),
        pictures.panel,
        _side_by_side(
            row(pictures.walk, form.speed, name="tm-bar"),
            row(pictures.view, pictures.sample_button, name="tm-bar"),
        ),
        pictures.caption,
        tab,
        name="tm-explorer",
    )
    return root, tab


def _side_by_side(*each: Any) -> Any:
    """What steers each figure, under it."""
    made = row(*each)
    made.add_class("tm-figures")
    return made
