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
from .steering import Steering

__all__ = ["BUDGET", "COMPARE", "OPTIONS", "SETTINGS", "build_layout"]

_DRAWERS = ("Suggestion", "Settings", "Options", "Budget", "Compare", "Race", "Save and copy")
SETTINGS, OPTIONS, BUDGET, COMPARE = map(_DRAWERS.index, ("Settings", "Options", "Budget", "Compare"))
"""The drawers that are opened for the person, by their places."""


def build_layout(
    form: FormPanel,
    steering: Steering,
    pictures: Pictures,
    compare: ComparePanel,
    race: RacePanel,
    files: Files,
    alert: widgets.HTML,
) -> tuple[widgets.VBox, widgets.Tab]:
    """The whole panel, and its drawers, all shut."""
    drawers = [
        *(each.drawer for each in (form.method, form.problem, form.options, form.budget, compare, race)),
        column(files),
    ]
    tab = widgets.Tab(drawers, titles=_DRAWERS, selected_index=None, layout=widgets.Layout(margin="4px 0 0 0"))
    tab.selected_index = None  # with titles it has opened the first
    buttons = (steering.run, steering.pause, steering.step, steering.stop)
    root = column(
        widgets.HTML(html("<style>{style}</style>", style=Html(STYLE)), layout=widgets.Layout(display="none")),
        row(
            column(form.problem.menu, form.problem.card, name="tm-half"),
            column(row(form.method.menu, form.method.engine, name="tm-menus"), form.method.card, name="tm-half"),
        ),
        row(*buttons, form.speed, steering.status, name="tm-bar"),
        alert,
        _side_by_side(*pictures.places),
        _side_by_side(
            row(pictures.x, pictures.scale, pictures.walk, name="tm-bar"),
            row(pictures.view, pictures.sample_button, name="tm-bar"),
        ),
        pictures.caption,
        tab,
        name="tm-explorer",
    )
    return root, tab


def _side_by_side(*each: Any) -> Any:
    """The figures, and what steers them under each."""
    made = row(*each)
    made.add_class("tm-figures")
    return made
