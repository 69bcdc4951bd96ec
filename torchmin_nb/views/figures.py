"""The draw step of the convergence figure: curves -> Plotly traces and layout, for reports and for the live view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import plotly.graph_objects as go

from ..core.history.history import History
from ..core.signatures import shows_keywords
from ..errors import ArgumentError
from .axes import Axis, axis_of, x_axis_of
from .chart import Mark
from .marks import LANE, marks
from .palette import CLEAR, GRID, HIDDEN_BUTTONS, INK, LOOK, MARKED, RUNS
from .panels import (
    AUTO,
    LINE,
    PANELS,
    POINTS,
    RATIO,
    REJECTED,
    Curve,
    PanelName,
    RunCurves,
    XAxis,
    chosen_panels,
    convergence_data,
    drawn_log,
    missing_words,
    named,
    panel_row,
    whole_numbers,
)
from .plotly_text import plotly_text

__all__ = [
    "SCALES",
    "TITLE_HEIGHT",
    "Drawing",
    "Scale",
    "convergence_figure",
    "drawing",
    "layout",
    "traces",
    "wrapped",
]

Scale = Literal["log", "linear"]
SCALES: tuple[str, ...] = get_args(Scale)
TITLE_HEIGHT, _LEGEND_LINE = 66, 21
"""Pixels above the panels: for three lines of title, and for a line of the legend."""
_TITLE_LINES = 3
_NARROW = 480
"""Pixels between the margins of a narrow figure: the legend must fit there."""


@shows_keywords()
def convergence_figure(
    histories: Mapping[str, History] | History,
    *,
    x: XAxis = "iteration",
    panels: Literal["auto"] | PanelName | Sequence[str] = AUTO,
    scale: Scale = "log",
    title: str | None = None,
    height: int | None = None,
) -> go.Figure:
    """Loss, gradient norm, trust radius and more of one or several runs, above one another on a shared x axis.

    Save it with ``.write_html(path, include_plotlyjs=True)``, or with ``.write_image(path)``, which needs kaleido.

    Parameters
    ----------
    histories : History or dict of str to History
        The runs by name.
    x : {"iteration", "closure calls", "seconds"}, optional
        What the x axis shows. Default "iteration".
    panels : "auto", str or sequence of str, optional
        Of "loss", "loss - best", "gradient norm", "KKT residual", "trust radius", "reduction ratio", "step norm",
        "constraint violation", "HVPs", "closure calls" and "metrics", a panel for each of them. Default "auto": what
        the runs report.
    scale : {"log", "linear"}, optional
        "log", the default, holds where all values are positive.
    title : str or None, optional
        Title.
    height : int or None, optional
        Least height in pixels: each panel has 110 at least. Default None: what the panels need.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.

    Raises
    ------
    ArgumentError
        If x, panels or scale is not known.

    Examples
    --------
    >>> history = minimize(lambda x: (x**4).sum(), [3.0, 4.0], "trust-ncg").history
    >>> figure = convergence_figure(history, panels=["loss", "trust radius"])
    >>> figure.data[0].name, figure.data[0].y[:1]
    ('trust-ncg', array([337.]))
    """
    drawn = drawing(histories, x=x, panels=panels, scale=scale, title=wrapped(title or ""), height=height)
    return drawn.figure()


class Drawing(NamedTuple):
    """A convergence figure before Plotly has checked and copied it. panels, x, scale: what it shows."""

    histories: Mapping[str, History]
    runs: Sequence[RunCurves]
    panels: tuple[str, ...]
    x: str
    scale: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any]

    def figure(self) -> go.Figure:
        """As Plotly knows it."""
        return go.Figure(self.traces, self.layout)


def drawing(
    histories: Mapping[str, History] | History,
    *,
    x: str = "iteration",
    panels: str | Sequence[str] = AUTO,
    scale: str = "log",
    title: str | None = "",
    height: int | None = None,
    points: int = POINTS,
    recorded: int | None = None,
) -> Drawing:
    """What `convergence_figure` draws, with about so many points a curve; up to `recorded` of them carry their records.

    title: on as many lines as it will have. Raises ArgumentError for what is not known.
    """
    histories = named(histories)
    chosen = chosen_panels(histories, panels)
    runs = convergence_data(histories, x, chosen, points, recorded)
    look = layout(runs, chosen, x=x, scale=scale, title=title, height=height)
    return Drawing(histories, runs, chosen, x, scale, traces(runs, chosen), look)


def traces(runs: Sequence[RunCurves], panels: Sequence[str]) -> list[dict[str, Any]]:
    """One trace a curve, run by run; the first curve of a run names it in the legend where there are several.

    panels: those of the layout, as not every run has a curve on each.
    """
    several = len(runs) > 1
    drawn: list[dict[str, Any]] = []
    labels: set[str] = set()
    for run, curve, mark in marks(runs):
        first = curve is run.curves[0]
        base = {
            "type": "scatter",
            "name": plotly_text(run.name),
            "legendgroup": run.name,
            "showlegend": several and first,
            "x": mark.x,
            "y": mark.y,
            "yaxis": _axis_of(curve, panels),
            "hovertemplate": _hover(curve, run, several),
        }
        details = np.array(run.records, dtype=object) if len(run.records) == curve.x.size else None
        records = {"customdata": details} if first and curve.kind != RATIO else {}
        named_here = {"showlegend": curve.label not in labels} if curve.label else {}
        labels.add(curve.label)
        drawn.append(base | _look(curve, mark) | records | named_here)
    return drawn


def layout(
    runs: Sequence[RunCurves],
    panels: Sequence[str],
    *,
    x: str = "iteration",
    scale: str = "log",
    title: str | None = "",
    height: int | None = None,
) -> dict[str, Any]:
    """Panels one above the other, transparent background, text that reads on light and dark.

    title: None for a figure without room for title and legend. height: pixels at least.
    """
    if scale not in SCALES:
        raise ArgumentError(f"scale={scale!r} is not known; choose one of {', '.join(map(repr, SCALES))}")
    top = 0 if title is None else TITLE_HEIGHT + _LEGEND_LINE * _legend_lines(runs)
    grid = Grid.of(panels, top, height)
    empty = missing_words(panels, runs)
    look: dict[str, Any] = {
        **_LOOK,
        "height": grid.height,
        "margin": grid.margin,
        "xaxis": {
            **plotly_axis(x_axis(runs, x)),
            "title": {"text": x, "font": {"size": 12}, "standoff": 6},
            "anchor": _short(len(panels)),
            "domain": [0, 1],
        },
        "annotations": [
            *(_panel_title(panel, grid.domains[place]) for place, panel in enumerate(panels)),
            *(_missing(words, grid.domains[panels.index(panel)]) for panel, words in empty.items() if words),
        ],
        "shapes": [line for place, panel in enumerate(panels) if panel not in empty for line in _lines(panel, place)],
    }
    if title is not None:
        look |= {"title": _title(title), "legend": _legend(grid)}
    for place, panel in enumerate(panels):
        look[_long(place + 1)] = {
            **plotly_axis(y_axis(runs, panel, log=scale == "log")),
            "domain": grid.domains[place],
            "showticklabels": panel not in empty,
            "showgrid": panel not in empty,
        }
    if "metrics" in panels:
        look["legend2"] = _metrics_legend(grid.domains[panels.index("metrics")])
    return look


def x_axis(runs: Sequence[RunCurves], x: str) -> Axis:
    """For all that is drawn."""
    last = max((float(curve.x[-1]) for run in runs for curve in run.curves if curve.x.size), default=0.0)
    return x_axis_of(last, whole=whole_numbers(x))


def y_axis(runs: Sequence[RunCurves], panel: str, *, log: bool) -> Axis:
    """Of one panel. log: logarithmic where that serves it."""
    lines = panel_row(panel).lines
    if lines:
        return LANE
    values = np.concatenate([np.empty(0), *(run.values(panel) for run in runs)])
    return axis_of(values, log=log and drawn_log(panel, values))


def plotly_axis(axis: Axis) -> dict[str, Any]:
    """An axis as Plotly has it."""
    return {
        **_AXIS,
        "type": "log" if axis.log else "linear",
        "range": list(axis.range),
        "tickvals": list(axis.ticks),
        "ticktext": list(axis.labels),
    }


class Grid(NamedTuple):
    """Where the panels are: pixels of the figure and of its margins, and the domains from top to bottom."""

    height: int
    margin: dict[str, int]
    domains: list[list[float]]

    @classmethod
    def of(cls, panels: Sequence[str], top: int, height: int | None) -> Grid:
        """top: pixels above the first panel's title. height: of all, at least."""
        pixels = [_FIRST if place == 0 else _OTHERS for place in range(len(panels))]
        outside = top + _PANEL_TITLE * len(panels) + _BELOW
        stretch = max(1.0, ((height or 0) - outside) / sum(pixels))
        pixels = [round(stretch * each) for each in pixels]
        inside = sum(pixels) + _PANEL_TITLE * (len(panels) - 1)
        domains, edge = [], inside
        for each in pixels:
            domains.append([max(0.0, (edge - each) / inside), edge / inside])
            edge -= each + _PANEL_TITLE
        margin = {"l": 64, "r": 24, "t": top + _PANEL_TITLE, "b": _BELOW}
        return cls(inside + margin["t"] + margin["b"], margin, domains)


def wrapped(title: str, width: int = 72) -> str:
    """The title on up to three lines, broken between its parts, so that nothing is clipped at 600 px."""
    parts, lines = " ".join(title.split()).split(" · "), [""]
    for part in parts:
        candidate = f"{lines[-1]} · {part}" if lines[-1] else part
        if lines[-1] and len(candidate) > width and len(lines) < _TITLE_LINES:
            lines.append(part)
        else:
            lines[-1] = candidate
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in lines)


# Traces


def _look(curve: Curve, mark: Mark) -> dict[str, Any]:
    marker: dict[str, Any] = {"symbol": mark.marker, "size": mark.size, "color": mark.colour}
    if curve.kind == RATIO:  # hovering tells the true number
        marker |= {"symbol": f"{mark.marker}-open", "line": {"width": mark.width}}
        return {"mode": "markers", "marker": marker, "customdata": curve.y}
    if curve.kind == REJECTED:
        return {"mode": "markers", "marker": marker}
    look: dict[str, Any] = {
        "mode": "lines+markers" if curve.x.size <= MARKED else "lines",
        "line": {"color": mark.colour, "dash": mark.dash, "width": mark.width},
        "marker": marker,
    }
    if curve.label:
        look |= {"name": plotly_text(curve.label), "legendgroup": curve.label, "legend": "legend2"}
    return look


def _hover(curve: Curve, run: RunCurves, several: bool) -> str:
    what = curve.label or (panel_row(curve.panel).title if curve.kind == LINE else curve.kind)
    record = "<br>%{customdata}" if curve is run.curves[0] and curve.kind != RATIO else ""
    number = "%{customdata:.3g}" if curve.kind == RATIO else "%{y:.5g}"
    suffix = f" · {run.name}" if several else ""
    return f"{plotly_text(what + suffix)} {number}{record}<extra></extra>"


# Layout

_FIRST, _OTHERS, _PANEL_TITLE, _BELOW = 160, 110, 26, 46
"""Pixels of the first panel, of the others, of a panel's title above it, and below the last."""
_AXIS: dict[str, Any] = {
    "gridcolor": GRID,
    "zeroline": False,
    "showline": False,
    "automargin": True,
    "tickmode": "array",
    "tickfont": {"size": 11},
    "minorloglabels": "complete",
    "exponentformat": "power",
    "nticks": 6,
}
_LOOK: dict[str, Any] = {
    **LOOK,
    "modebar": {
        "orientation": "h",
        "bgcolor": CLEAR,
        "color": INK,
        "activecolor": RUNS[0],
        "remove": HIDDEN_BUTTONS,
    },
    "hovermode": "x unified",
    "hoversubplots": "axis",
}


def _title(title: str) -> dict[str, Any]:
    return {
        "text": plotly_text(title),
        "font": {"size": 13},
        "x": 0,
        "xref": "container",
        "y": 1,
        "yanchor": "top",
        "pad": {"t": 12, "l": 12},
    }


def _legend(grid: Grid) -> dict[str, Any]:
    inside = grid.height - grid.margin["t"] - grid.margin["b"]
    above = 1 + _PANEL_TITLE / inside
    return {"orientation": "h", "y": above, "yanchor": "bottom", "x": 0, "title": {"text": ""}}


def _axis_of(curve: Curve, panels: Sequence[str]) -> str:
    return _short(panels.index(curve.panel) + 1)


def _short(number: int) -> str:
    return "y" if number == 1 else f"y{number}"


def _long(number: int) -> str:
    return "yaxis" if number == 1 else f"yaxis{number}"


def _panel_title(panel: str, domain: list[float]) -> dict[str, Any]:
    """Above the panel, from left to right: beside a low panel there is no room for long names."""
    row = panel_row(panel)
    title = _BOLD % plotly_text(_cut(row.title))
    return {
        "text": title + _SMALL % plotly_text(row.hint) if row.hint else title,
        "name": panel if panel in PANELS else "metric",
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": domain[1],
        "xanchor": "left",
        "yanchor": "bottom",
        "xshift": -4,
        "showarrow": False,
        "font": {"size": 12},
    }


def _cut(title: str) -> str:
    return title if len(title) <= _TITLE_LENGTH else title[: _TITLE_LENGTH - 1] + "…"


_TITLE_LENGTH = 48
_BOLD, _SMALL = "<b>%s</b>", '  <span style="font-size:11px">%s</span>'


def _lines(panel: str, place: int) -> Iterator[dict[str, Any]]:
    for value in panel_row(panel).lines:
        ends = {"xref": "paper", "x0": 0, "x1": 1, "yref": _short(place + 1), "y0": value, "y1": value}
        yield {"type": "line", "layer": "below", **ends, "line": {"color": INK, "width": 1, "dash": "dot"}}


def _metrics_legend(domain: list[float]) -> dict[str, Any]:
    return {"orientation": "h", "y": domain[1], "yanchor": "bottom", "x": 1, "xanchor": "right", "font": {"size": 11}}


def _legend_lines(runs: Sequence[RunCurves]) -> int:
    """How many lines the legend takes in a narrow figure: about 7 px a character, and 48 px for each line sample."""
    if len(runs) < 2:
        return 0
    lines, used = 1, 0
    for run in runs:
        width = 48 + 7 * len(run.name)
        if used and used + width > _NARROW:
            lines, used = lines + 1, 0
        used += width
    return lines


def _missing(words: str, domain: list[float]) -> dict[str, Any]:
    return {
        "text": plotly_text(words),
        "name": "missing",
        "xref": "paper",
        "yref": "paper",
        "x": 0.5,
        "y": sum(domain) / 2,
        "showarrow": False,
        "font": {"size": 13},
    }
