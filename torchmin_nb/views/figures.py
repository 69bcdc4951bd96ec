"""History -> Plotly figure: a data step that tests can read, then a draw step.

`convergence_data` picks and thins the numbers; `convergence_figure` draws them. The live Dashboard uses the same
two steps, and only replaces the arrays of a figure drawn once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from ..core.events import History
from ..errors import ArgumentError
from .palette import GRID, INK, WARNING, style

__all__ = [
    "FEW_DECADES",
    "X_AXES",
    "Curve",
    "RunCurves",
    "convergence_data",
    "convergence_figure",
    "layout",
    "named",
    "run_curves",
    "run_traces",
    "thin",
    "wrapped",
    "x_column",
]

X_AXES = {"iteration": "index", "closure calls": "nfev", "seconds": "elapsed"}
"""What the x axis may show, and the column it comes from."""

PANELS = ("loss", "gradient norm", "trust radius")
POINTS = 2000
"""No more points than this are drawn of one curve: a screen shows no more."""
FEW_DECADES = 2.5
_MARKED = 60
"""Up to this many points, each is marked."""


class Curve(NamedTuple):
    """x and y, shape (k,), float64, NaN-free."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]


class RunCurves(NamedTuple):
    """What is drawn of one run. Curves are empty where the method reports nothing."""

    name: str
    loss: Curve
    grad_norm: Curve
    trust_radius: Curve
    reduction_ratio: Curve
    rejected: Curve

    @property
    def has_radius(self) -> bool:
        return self.trust_radius.y.size > 0


def thin(x: NDArray[np.float64], y: NDArray[np.float64], points: int = POINTS) -> Curve:
    """At most about `points` of them, keeping the ends and the lowest and highest of each stretch."""
    if x.size <= points:
        return Curve(x, y)
    length = -(-x.size // max(1, points // 2))
    stretches = np.pad(y, (0, -y.size % length), mode="edge").reshape(-1, length)
    first = length * np.arange(len(stretches))
    extremes = [first + stretches.argmin(axis=1), first + stretches.argmax(axis=1)]
    kept = np.unique(np.concatenate([[0, x.size - 1], *extremes]))
    return Curve(x[kept], y[kept])


def run_curves(name: str, history: History, x: str = "iteration", points: int = POINTS) -> RunCurves:
    """The curves of one run over the chosen x axis."""
    at = history.column(x_column(x)).astype(np.float64)
    radius = history.trust_radius
    rejected = history.column("accepted") == 0
    return RunCurves(
        name=name,
        loss=_reported(at, history.loss, points),
        grad_norm=_reported(at, history.grad_norm, points),
        trust_radius=_reported(at, radius, points),
        reduction_ratio=_reported(at, history.reduction_ratio, points),
        rejected=_reported(at, np.where(rejected, radius, np.nan), points),
    )


def convergence_data(histories: Mapping[str, History] | History, x: str = "iteration") -> list[RunCurves]:
    """The curves of one or several runs, thinned to what a screen can show.

    x: "iteration", "closure calls" or "seconds". Raises ArgumentError for anything else.
    """
    return [run_curves(name, history, x) for name, history in named(histories).items()]


def convergence_figure(
    histories: Mapping[str, History] | History, *, x: str = "iteration", title: str | None = None
) -> go.Figure:
    """Loss, gradient norm and trust radius of one or several runs, one above the other on a shared x axis.

    histories: one History, or {name: History}. Save it with `.write_html(path, include_plotlyjs=True)`.
    """
    runs = convergence_data(histories, x)
    figure = go.Figure(layout=layout(runs, x, title))
    for index, run in enumerate(runs):
        figure.add_traces(run_traces(run, index, legend=len(runs) > 1))
    return figure


def run_traces(run: RunCurves, index: int = 0, *, legend: bool = False) -> list[dict[str, Any]]:
    """The five traces of one run, in the order loss, gradient norm, radius, reduction ratio, rejected steps."""
    colour, dash, symbol = style(index)
    line = {
        "type": "scatter",
        "name": run.name,
        "legendgroup": run.name,
        "showlegend": False,
        "line": {"color": colour, "dash": dash, "width": 2},
        "marker": {"symbol": symbol, "size": 5, "color": colour},
    }
    dots = {**line, "mode": "markers"}
    suffix = f" · {run.name}" if legend else ""
    ratio = {"symbol": "line-ew-open", "size": 9, "color": colour, "opacity": 0.9}
    cross = {"symbol": "x", "size": 8, "color": WARNING}
    return [
        {**line, **_xy(run.loss), "yaxis": "y", "showlegend": legend, "hovertemplate": _hover(f"loss{suffix}")},
        {**line, **_xy(run.grad_norm), "yaxis": "y2", "hovertemplate": _hover(f"gradient norm{suffix}")},
        {**line, **_xy(run.trust_radius), "yaxis": "y3", "hovertemplate": _hover(f"trust radius{suffix}")},
        {
            **dots,
            **_points(run.reduction_ratio),
            "yaxis": "y4",
            "marker": ratio,
            "hovertemplate": _hover(f"ratio{suffix}"),
        },
        {
            **dots,
            **_points(run.rejected),
            "yaxis": "y3",
            "marker": cross,
            "hovertemplate": _hover(f"rejected{suffix}"),
        },
    ]


def layout(runs: list[RunCurves], x: str = "iteration", title: str | None = None, height: int = 560) -> dict[str, Any]:
    """Three panels, transparent background, text that reads on light and dark."""
    any_radius = any(run.has_radius for run in runs)
    ratio = any(run.reduction_ratio.y.size for run in runs)
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": GRID,
        "automargin": True,
        "exponentformat": "power",
        "minorloglabels": "complete",
        "nticks": 6,
    }
    small = {"font": {"size": 12}, "standoff": 8}
    return {
        "height": height,
        "autosize": True,
        "uirevision": "keep",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 12},
        "margin": {"l": 72, "r": 64, "t": 64, "b": 48},
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "rgba(40,40,40,0.92)", "font": {"color": "#f2f2f2"}},
        "title": {
            "text": wrapped(title or ""),
            "font": {"size": 13},
            "x": 0,
            "xref": "paper",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        "legend": {"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0},
        "xaxis": {**axis, "title": {"text": x, **small}, "anchor": "y3", "domain": [0, 1], "rangemode": "tozero"},
        "yaxis": {**axis, **_scale(runs, "loss"), "domain": [0.70, 1.0], "title": {"text": "loss", **small}},
        "yaxis2": {
            **axis,
            **_scale(runs, "grad_norm"),
            "domain": [0.36, 0.64],
            "title": {"text": "gradient norm", **small},
        },
        "yaxis3": {
            **axis,
            **_scale(runs, "trust_radius"),
            "domain": [0.0, 0.30],
            "title": {"text": "trust radius", **small},
            "showticklabels": any_radius,
            "showgrid": any_radius,
        },
        "yaxis4": {
            **axis,
            "overlaying": "y3",
            "side": "right",
            "range": [-0.3, 1.8],
            "tickvals": [0.25, 0.75],
            "title": {"text": "reduction ratio", **small},
            "visible": ratio,
            "showgrid": False,
        },
        "annotations": [] if any_radius else [_no_radius(runs)],
    }


def wrapped(title: str, width: int = 88) -> str:
    """The title on one or two lines, broken between its parts, so that nothing is clipped at 600 px."""
    parts, lines = title.split(" · "), [""]
    for part in parts:
        candidate = f"{lines[-1]} · {part}" if lines[-1] else part
        if lines[-1] and len(candidate) > width:
            lines.append(part)
        else:
            lines[-1] = candidate
    return "<br>".join(line if len(line) <= width else line[: width - 1] + "…" for line in lines)


def _no_radius(runs: list[RunCurves]) -> dict[str, Any]:
    names = ", ".join(run.name for run in runs) or "this method"
    text = f"no trust region in {names}:<br>it chooses its step in another way" if runs else ""
    return {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": 0.5,
        "y": 0.15,
        "showarrow": False,
        "font": {"size": 13},
    }


def _scale(runs: list[RunCurves], field: str) -> dict[str, Any]:
    """A log axis where all values are positive: whole decades, or 1-2-5 steps where there are too few of them."""
    values = np.concatenate([getattr(run, field).y for run in runs] or [np.empty(0)])
    if not (values > 0).all():
        return {"type": "linear", "dtick": None, "exponentformat": "power"}
    decades = float(np.ptp(np.log10(values))) if values.size else 0.0
    if decades > FEW_DECADES:
        return {"type": "log", "dtick": int(np.ceil(decades / 6)), "exponentformat": "power"}
    plain = not values.size or (values.min() > 1e-3 and values.max() < 1e4)
    form = "none" if plain else "power"
    return {"type": "log", "dtick": "D2", "exponentformat": form, "minorloglabels": "complete"}


def _xy(curve: Curve) -> dict[str, Any]:
    return {**_points(curve), "mode": "lines+markers" if curve.x.size <= _MARKED else "lines"}


def _points(curve: Curve) -> dict[str, Any]:
    return {"x": curve.x, "y": curve.y}


def _hover(label: str) -> str:
    return f"{label} %{{y:.5g}}<extra></extra>"


def _reported(x: NDArray[np.float64], y: NDArray[Any], points: int) -> Curve:
    known = np.isfinite(y)
    return thin(x[known], np.asarray(y[known], dtype=np.float64), points)


def x_column(x: str) -> str:
    """The column of a History that an x axis shows. Raises ArgumentError."""
    if x not in X_AXES:
        raise ArgumentError(f"x={x!r} is not known; choose one of {', '.join(map(repr, X_AXES))}")
    return X_AXES[x]


def named(histories: Mapping[str, History] | History) -> Mapping[str, History]:
    """One history under its method's name, or those that have names already."""
    return {histories.method: histories} if isinstance(histories, History) else histories
