"""PanelState: all that a panel shows, as a pure function of the histories and of the header; the curves follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core.history.history import History
from ..axes import Axis, axis_of, x_axis_of
from ..figures import layout, traces, y_axis
from ..palette import style
from ..panels import POINTS, X_AXES, RunCurves, chosen_panels, convergence_data, whole_numbers, x_values
from .header import Button, Header

__all__ = ["EXCESS", "Columns", "Legend", "PanelState", "Sketch", "panel_state"]

EXCESS = "loss - best"
"""The scale that shows by how much each loss is above the best of all."""
_ARRAYS = ("x", "y", "customdata", "mode", "showlegend")


class Columns(NamedTuple):
    """The points of one curve, arrays of shape (k,). rows: the places of their iterations in the history.

    priced: None if there is no such x axis.
    """

    rows: NDArray[np.int64]
    iteration: NDArray[np.int32]
    calls: NDArray[np.int32]
    seconds: NDArray[np.float32]
    y: NDArray[np.float64]
    priced: NDArray[np.float32] | None = None


class Legend(NamedTuple):
    """How one of several runs is told from the others. group: of its curves; text: where it stands."""

    group: str
    text: str
    colour: str
    dash: str
    symbol: str


class Sketch(NamedTuple):
    """A Plotly figure beside the curves, whose arrays are sent as bytes.

    name: of what its axes show: while it stays, the ranges that a person chose stay. hint: what is said in its place.
    """

    name: str
    traces: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    hint: str = ""

    @property
    def nbytes(self) -> int:
        """The bytes of its arrays."""
        parts = [part for trace in self.traces for part in trace.values()]
        return sum(part.nbytes for part in parts if isinstance(part, np.ndarray))


class PanelState(NamedTuple):
    """layout: of a Plotly figure, with neither ranges nor ticks. x_axes: by X_AXES, and the priced one where there is
    one; y_axes: by the layout's names of axes, each by scale. looks: the traces without their points, which columns
    holds. best: the lowest loss of all runs.

    hint: what is said in place of the curves where there are none. cursor: by X_AXES, where a line is drawn across all
    curves. picture: what is drawn beside them.
    """

    header: Header
    buttons: tuple[Button, ...]
    legend: tuple[Legend, ...]
    layout: Mapping[str, Any]
    x_axes: Mapping[str, Axis]
    y_axes: Mapping[str, Mapping[str, Axis]]
    looks: Sequence[Mapping[str, Any]]
    columns: Sequence[Columns]
    best: float
    hint: str = ""
    cursor: Mapping[str, float] | None = None
    picture: Sketch | None = None


def panel_state(
    histories: Mapping[str, History],
    header: Header,
    buttons: tuple[Button, ...] = (),
    *,
    panels: str | Sequence[str] = "auto",
    height: int | None = None,
    notes: Mapping[str, str] | None = None,
    told: int = 2,
    priced: str = "",
) -> PanelState:
    """The state of a panel. Raises ArgumentError for unknown panels.

    notes: what the legend says of runs, by name. told: from so many runs on there is a legend. priced: one more
    x axis, as `priced` of core/history names it.
    """
    chosen = chosen_panels(histories, panels)
    runs = convergence_data(histories, panels=chosen, points=POINTS, recorded=0)
    look = {**layout(runs, chosen, title=None, height=height), "showlegend": "metrics" in chosen}
    names = ["yaxis" if place == 0 else f"yaxis{place + 1}" for place in range(len(chosen))]
    best = _best(runs)
    return PanelState(
        header,
        buttons,
        _legend(runs, notes or {}) if len(runs) >= told else (),
        _without_axes(look, names),
        {x: x_axis_of(_last(histories, x), whole=whole_numbers(x)) for x in [*X_AXES, *filter(None, [priced])]},
        {name: _y_axes(runs, panel, best) for name, panel in zip(names, chosen, strict=True)},
        [_bare(trace) for trace in traces(runs, chosen)],
        [_columns(histories[run.name], curve.rows, curve.y, priced) for run in runs for curve in run.curves],
        best,
    )


def _y_axes(runs: Sequence[RunCurves], panel: str, best: float) -> dict[str, Axis]:
    axes = {"log": y_axis(runs, panel, log=True), "linear": y_axis(runs, panel, log=False)}
    if panel == "loss":
        above = np.concatenate([np.empty(0), *(run.values(panel) for run in runs)]) - best
        axes[EXCESS] = axis_of(above[above > 0], log=True)
    return axes


def _best(runs: Sequence[RunCurves]) -> float:
    losses = [float(curve.y.min()) for run in runs for curve in run.on("loss") if curve.y.size]
    return min(losses, default=0.0)


def _last(histories: Mapping[str, History], x: str) -> float:
    return max((float(x_values(history, x)[-1]) for history in histories.values() if len(history)), default=0.0)


def _columns(history: History, rows: NDArray[np.int64], y: NDArray[np.float64], priced: str) -> Columns:
    index, calls, seconds = (x_values(history, x)[rows] for x in X_AXES)
    return Columns(
        rows,
        index.astype(np.int32),
        np.minimum(calls, 2**31 - 1).astype(np.int32),
        seconds.astype(np.float32),
        y,
        x_values(history, priced)[rows].astype(np.float32) if priced else None,
    )


def _legend(runs: Sequence[RunCurves], notes: Mapping[str, str]) -> tuple[Legend, ...]:
    return tuple(Legend(run.name, notes.get(run.name, ""), *style(index)) for index, run in enumerate(runs))


def _bare(trace: Mapping[str, Any]) -> dict[str, Any]:
    look = {name: value for name, value in trace.items() if name not in _ARRAYS}
    if trace["mode"] == "markers":
        look["mode"] = trace["mode"]
    if "legend" in look:
        look["showlegend"] = trace["showlegend"]
    return look


def _without_axes(look: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    parts = ("type", "range", "tickvals", "ticktext")
    axes = {
        name: {part: value for part, value in look[name].items() if part not in parts} for name in (*names, "xaxis")
    }
    return {**look, **axes}
