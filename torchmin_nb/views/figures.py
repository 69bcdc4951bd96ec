"""The draw step of the convergence figure: curves -> Plotly traces and layout, for reports and for the live view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from ..core.history.history import History
from ..core.signatures import shows_keywords
from ..errors import ArgumentError
from .menus import menus as _menus
from .palette import GRID, HIDDEN_BUTTONS, INK, POWERS, RUNS, WARNING, style
from .panels import (
    AUTO,
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
    named,
)
from .plotly_text import plotly_text

__all__ = [
    "FEW_DECADES",
    "SCALES",
    "TITLE_HEIGHT",
    "Drawing",
    "Scale",
    "convergence_figure",
    "drawing",
    "layout",
    "traces",
    "wrapped",
    "wrapped_title",
]

Scale = Literal["log", "linear"]
SCALES: tuple[str, ...] = get_args(Scale)
FEW_DECADES = 1.3
_MARKED = 60
"""Up to this many points, each is marked."""
TITLE_HEIGHT, _LEGEND_LINE = 68, 21
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
    height: int = 560,
    menus: bool = False,
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
        Of "loss", "loss - best", "gradient norm", "trust radius", "step norm", "constraint violation", "HVPs", "closure
        calls" and "metrics". Default "auto": what the runs report.
    scale : {"log", "linear"}, optional
        "log", the default, holds where all values are positive.
    title : str or None, optional
        Title.
    height : int, optional
        Height in pixels. Default 560.
    menus : bool, optional
        Add buttons for scale and x axis, which work without a kernel. Default False.

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
    figure = drawn.figure()
    return figure.update_layout(drawn.menus()) if menus else figure


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

    def menus(self) -> dict[str, Any]:
        """What its layout needs besides for buttons for scale and x axis."""
        return _menus(self.layout, self.histories, self.runs, self.panels, self.x)


def drawing(
    histories: Mapping[str, History] | History,
    *,
    x: str = "iteration",
    panels: str | Sequence[str] = AUTO,
    scale: str = "log",
    title: str = "",
    height: int = 560,
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
    for index, run in enumerate(runs):
        metrics = [curve.label for curve in run.curves if curve.panel == "metrics"]
        for place, curve in enumerate(run.curves):
            look = _LOOKS.get(curve.kind, _line)(curve, index, metrics, several)
            base = {
                "type": "scatter",
                "name": plotly_text(run.name),
                "legendgroup": run.name,
                "showlegend": several and place == 0,
                "x": curve.x,
                "y": curve.y,
                "yaxis": _axis_of(curve, panels),
                "hovertemplate": _hover(curve, run, several),
            }
            details = np.array(run.records, dtype=object) if len(run.records) == curve.x.size else None
            records = {"customdata": details} if place == 0 else {}
            named_here = {"showlegend": curve.label not in labels} if curve.label else {}
            labels.add(curve.label)
            drawn.append(base | look | records | named_here)
    return drawn


def layout(
    runs: Sequence[RunCurves],
    panels: Sequence[str],
    *,
    x: str = "iteration",
    scale: str = "log",
    title: str = "",
    height: int = 560,
) -> dict[str, Any]:
    """Panels one above the other, transparent background, text that reads on light and dark."""
    if scale not in SCALES:
        raise ArgumentError(f"scale={scale!r} is not known; choose one of {', '.join(map(repr, SCALES))}")
    empty = [panel for panel in panels if not any(run.values(panel).size for run in runs if run.on(panel))]
    begun = [run for run in runs if run.begun]
    domains = _domains(len(panels))
    small = {"font": {"size": 12}, "standoff": 8}
    look: dict[str, Any] = {
        "height": height,
        "autosize": True,
        "uirevision": "keep",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 12},
        "margin": {"l": 72, "r": 64, "t": TITLE_HEIGHT + _LEGEND_LINE * _legend_lines(runs), "b": 48},
        "modebar": {
            "orientation": "v",
            "bgcolor": "rgba(0,0,0,0)",
            "color": INK,
            "activecolor": RUNS[0],
            "remove": HIDDEN_BUTTONS,
        },
        "hovermode": "x unified",
        "hoversubplots": "axis",
        "hoverlabel": {"bgcolor": "rgba(40,40,40,0.92)", "font": {"color": "#f2f2f2"}},
        "title": {
            "text": plotly_text(title),
            "font": {"size": 13},
            "x": 0,
            "xref": "container",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12, "l": 12},
        },
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "title": {"text": ""}},
        "xaxis": {
            **_AXIS,
            "title": {"text": x, **small},
            "anchor": _short(len(panels)),
            "domain": [0, 1],
            "rangemode": "tozero",
        },
        "annotations": [_missing(panel, domains[panels.index(panel)], begun) for panel in empty if begun],
    }
    for place, panel in enumerate(panels):
        values = np.concatenate([np.empty(0), *(run.values(panel) for run in runs if run.on(panel))])
        look[_long(place + 1)] = {
            **_AXIS,
            **_scale(values, PANELS[panel].log and scale == "log"),
            "domain": domains[place],
            "title": {"text": PANELS[panel].title, **small},
            "showticklabels": panel not in empty,
            "showgrid": panel not in empty,
        }
    if "trust radius" in panels:
        place = panels.index("trust radius")
        look[_long(len(panels) + 1)] = _ratio_axis(place, any(_has_ratio(run) for run in runs), small)
    if "metrics" in panels:
        look["legend2"] = _metrics_legend(domains[panels.index("metrics")])
    return look


def wrapped(title: str, width: int = 72) -> str:
    """The title on up to three lines."""
    return "\n".join(wrapped_title(title, width))


def wrapped_title(title: str, width: int = 72) -> list[str]:
    """Up to three lines, broken between the title's parts, so that nothing is clipped at 600 px."""
    parts, lines = " ".join(title.split()).split(" · "), [""]
    for part in parts:
        candidate = f"{lines[-1]} · {part}" if lines[-1] else part
        if lines[-1] and len(candidate) > width and len(lines) < _TITLE_LINES:
            lines.append(part)
        else:
            lines[-1] = candidate
    return [line if len(line) <= width else line[: width - 1] + "…" for line in lines]


# Traces


def _line(curve: Curve, index: int, metrics: list[str], several: bool) -> dict[str, Any]:
    place = metrics.index(curve.label) if curve.label else 0
    colour, dash, symbol = style(index)
    if curve.label:  # of one run the metrics differ in colour; of several, colour tells the run
        own, dash, symbol = style(place)
        colour = colour if several else own
    look: dict[str, Any] = {
        "mode": "lines+markers" if curve.x.size <= _MARKED else "lines",
        "line": {"color": colour, "dash": dash, "width": 2},
        "marker": {"symbol": symbol, "size": 5, "color": colour},
    }
    if curve.label:
        look |= {"name": plotly_text(curve.label), "legendgroup": curve.label, "legend": "legend2"}
    return look


def _ratio(curve: Curve, index: int, metrics: list[str], several: bool) -> dict[str, Any]:
    marker = {"symbol": "line-ew-open", "size": 9, "color": style(index)[0], "opacity": 0.9}
    return {"mode": "markers", "marker": marker}


def _rejected(curve: Curve, index: int, metrics: list[str], several: bool) -> dict[str, Any]:
    return {"mode": "markers", "marker": {"symbol": "x", "size": 8, "color": WARNING}}


_LOOKS = {RATIO: _ratio, REJECTED: _rejected}


def _hover(curve: Curve, run: RunCurves, several: bool) -> str:
    what = curve.label or (PANELS[curve.panel].title if curve.kind not in _LOOKS else curve.kind)
    record = "<br>%{customdata}" if curve is run.curves[0] else ""
    suffix = f" · {run.name}" if several else ""
    return f"{plotly_text(what + suffix)} %{{y:.5g}}{record}<extra></extra>"


# Layout

_AXIS: dict[str, Any] = {
    "gridcolor": GRID,
    "zeroline": False,
    "linecolor": GRID,
    "automargin": True,
    "exponentformat": "power",
    "minorloglabels": "complete",
    "nticks": 6,
}


def _domains(count: int) -> list[list[float]]:
    """From top to bottom, with a gap between them."""
    gap = 0.06
    height = (1 - gap * (count - 1)) / count
    return [[max(0.0, 1 - (k + 1) * height - k * gap), 1 - k * (height + gap)] for k in range(count)]


def _axis_of(curve: Curve, panels: Sequence[str]) -> str:
    return _short(len(panels) + 1 if curve.kind == RATIO else panels.index(curve.panel) + 1)


def _short(number: int) -> str:
    return "y" if number == 1 else f"y{number}"


def _long(number: int) -> str:
    return "yaxis" if number == 1 else f"yaxis{number}"


def _has_ratio(run: RunCurves) -> bool:
    return any(curve.y.size for curve in run.on("trust radius", RATIO))


def _ratio_axis(place: int, visible: bool, small: dict[str, Any]) -> dict[str, Any]:
    return {
        **_AXIS,
        "overlaying": _short(place + 1),
        "side": "right",
        "range": [-0.3, 1.8],
        "tickvals": [0.25, 0.75],
        "title": {"text": "reduction ratio", **small},
        "visible": visible,
        "showgrid": False,
    }


def _metrics_legend(domain: list[float]) -> dict[str, Any]:
    return {"orientation": "h", "y": domain[1], "yanchor": "bottom", "x": 0, "font": {"size": 11}}


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


def _missing(panel: str, domain: list[float], runs: Sequence[RunCurves]) -> dict[str, Any]:
    names = ", ".join(run.name for run in runs)
    return {
        "text": plotly_text(PANELS[panel].missing.format(names=names)),
        "xref": "paper",
        "yref": "paper",
        "x": 0.5,
        "y": sum(domain) / 2,
        "showarrow": False,
        "font": {"size": 13},
    }


def _scale(values: NDArray[np.float64], log: bool) -> dict[str, Any]:
    """A log axis where all values are positive: whole decades, or 1-2-5 steps where there are too few of them."""
    if not log or not (values > 0).all():
        return {"type": "linear", "dtick": None, "exponentformat": "power", "tickfont": {"size": None}}
    decades = float(np.ptp(np.log10(values))) if values.size else 0.0
    if decades > FEW_DECADES:
        step = int(np.ceil(decades / 6))
        return {"type": "log", "dtick": step, "exponentformat": "power", "tickfont": {"size": POWERS}}
    plain = not values.size or (values.min() > 1e-3 and values.max() < 1e4)
    form = "none" if plain else "power"
    return {"type": "log", "dtick": "D2", "exponentformat": form, "tickfont": {"size": None}}
