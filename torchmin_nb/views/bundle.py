"""What a saved notebook keeps of a run: a figure for browsers, a picture where none draws, text for the rest."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from ..core.events import History
from .figures import RunCurves, convergence_data, convergence_figure, named
from .frontend import HEADLESS, TERMINAL, front_end

__all__ = ["bundle", "show"]

_PLOTLY = "application/vnd.plotly.v1+json"


def bundle(runs: list[RunCurves], figure: go.Figure, title: str, *, png: bool) -> dict[str, Any]:
    """The MIME bundle of a static figure.

    png: add a picture drawn here. In a live JupyterLab that is not wanted: its renderer would show the picture first,
    and adds one of its own when the notebook is saved.
    """
    text = title.replace("<br>", "\n")
    data: dict[str, Any] = {_PLOTLY: json.loads(figure.to_json()), "text/plain": text}
    if png:
        data |= _picture(runs, figure.layout.xaxis.title.text, text)
    return data


def show(histories: Mapping[str, History] | History, *, x: str = "iteration", title: str = "") -> None:
    """Display the convergence figure of one or several runs so that a saved notebook shows it wherever it is opened.

    Takes what `convergence_figure` takes. In a terminal it prints a line a run.
    """
    figure = convergence_figure(histories, x=x, title=title)
    where = front_end()
    if where == TERMINAL:
        print(*filter(None, [title, *(history.summary() for history in named(histories).values())]), sep="\n")
        return
    from IPython.display import display

    display(bundle(convergence_data(histories, x), figure, title, png=where == HEADLESS), raw=True)


def _picture(runs: list[RunCurves], x: str, title: str) -> dict[str, str]:
    try:
        from .picture import png
    except ModuleNotFoundError:
        return {}
    return {"image/png": base64.b64encode(png(runs, x, title)).decode()}
