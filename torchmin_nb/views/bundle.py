"""What a saved notebook keeps of a run: a figure for browsers, a picture where none draws, text for the rest."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from ..core.history.history import History
from .figures import Drawing, drawing, wrapped
from .frontend import HEADLESS, TERMINAL, front_end
from .panels import AUTO, named

__all__ = ["PLOTLY", "bundle", "picture", "show", "slim"]

PLOTLY = "application/vnd.plotly.v1+json"
_NOT_OF_LINES = ("coloraxis", "colorscale", "geo", "map", "mapbox", "polar", "scene", "smith", "ternary")
"""What a layout says of plots without x and y axes, and of colour scales."""


def bundle(figure: go.Figure, text: str, png: bytes | None = None) -> dict[str, Any]:
    """The MIME bundle of a static figure.

    png: a picture drawn here. In a live JupyterLab none is wanted: its renderer would show the picture first, and adds
    one of its own when the notebook is saved.
    """
    drawn = json.loads(figure.to_json())
    kinds = {trace.get("type", "scatter") for trace in drawn["data"]}
    drawn["layout"]["template"] = slim(drawn["layout"].get("template", {}), kinds)
    data: dict[str, Any] = {PLOTLY: drawn, "text/plain": text}
    if png is not None:
        data["image/png"] = base64.b64encode(png).decode()
    return data


def slim(template: dict[str, Any], kinds: Collection[str]) -> dict[str, Any]:
    """Without what a template says of other kinds of traces and plots: most of a small figure's bytes."""
    kept = dict(template)
    if "data" in kept:
        kept["data"] = {kind: looks for kind, looks in kept["data"].items() if kind in kinds}
    if "layout" in kept and set(kinds) <= {"scatter"}:
        kept["layout"] = {part: look for part, look in kept["layout"].items() if part not in _NOT_OF_LINES}
    return kept


def show(
    histories: Mapping[str, History] | History,
    *,
    x: str = "iteration",
    panels: str | Sequence[str] = AUTO,
    title: str = "",
) -> None:
    """Display the convergence figure of one or several runs. A saved notebook shows it wherever it is opened.

    In a terminal it prints a line for each run.

    Parameters
    ----------
    histories : History or dict of str to History
        The runs by name.
    x : {"iteration", "closure calls", "seconds"}, optional
        What the x axis shows. Default "iteration".
    panels : "auto", str or sequence of str, optional
        As for `convergence_figure`. Default "auto".
    title : str, optional
        Title.

    Raises
    ------
    ArgumentError
        If x or panels is not known.

    Examples
    --------
    >>> history = minimize(lambda x: (x**2).sum(), [3.0, 4.0], "BFGS").history
    >>> show(history, title="Two squares")  # doctest: +ELLIPSIS
    Two squares
    BFGS: ... iterations, loss ..., Optimization terminated successfully.
    """
    drawn = drawing(histories, x=x, panels=panels, title=wrapped(title))
    where = front_end()
    if where == TERMINAL:
        print(*filter(None, [title, *(history.summary() for history in named(histories).values())]), sep="\n")
        return
    from IPython.display import display

    display(bundle(drawn.figure(), title, picture(drawn, title) if where == HEADLESS else None), raw=True)


def picture(drawn: Drawing, title: str = "") -> bytes | None:
    """The same figure as PNG; None without matplotlib."""
    try:
        from .picture import png
    except ModuleNotFoundError:
        return None
    return png(drawn.runs, drawn.panels, drawn.x, title, drawn.scale)
