"""A static picture of a run for places where no browser draws it: the figure's curves as PNG, by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from .axes import Axis
from .chart_picture import LINES, plain, small_png
from .figures import LANE, x_axis, y_axis
from .palette import INK, MARKED, WARNING, style
from .panels import RATIO, REJECTED, Curve, RunCurves, panel_row

__all__ = ["png"]


def png(
    runs: Sequence[RunCurves], panels: Sequence[str], x: str = "iteration", title: str = "", scale: str = "log"
) -> bytes:
    """The panels of `convergence_figure` at 80 dpi: 8 inches wide, 6 high or more. Needs matplotlib."""
    figure = Figure(figsize=(8, max(6.0, 0.6 + 1.5 * len(panels))), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        for index, run in enumerate(runs):
            for place, curve in enumerate(run.on(panel)):
                _draw(axis, curve, run.name, index, place, several=len(runs) > 1)
        _dress(axis, panel, runs, log=scale == "log")
        _mark_steps(axis, panel, runs)
    axes[-1].set_xlabel(x)
    _label(axes[-1].xaxis, x_axis(runs, x))
    if len(runs) > 1:
        plain(axes[0].legend(fontsize="small", ncols=3, frameon=False).get_texts())
    figure.suptitle(title, fontsize=9, x=0.01, ha="left", parse_math=False)
    return small_png(figure, dpi=80)


def _draw(axis: Any, curve: Curve, name: str, index: int, place: int, *, several: bool) -> None:
    colour, dash, _ = style(index)
    if curve.label:
        own, dash, _ = style(place)
        colour = colour if several else own
    axis.plot(
        curve.x,
        curve.y,
        color=colour,
        linestyle=LINES[dash],
        linewidth=1.5,
        marker="o" if curve.x.size <= MARKED else None,
        markersize=3,
        label=curve.label or name,
    )


def _mark_steps(axis: Any, panel: str, runs: Sequence[RunCurves]) -> None:
    """Rejected steps as crosses; reduction ratios as dashes, at the edge of their lane where they are beyond it."""
    for index, run in enumerate(runs):
        for curve in run.on(panel, REJECTED):
            axis.plot(curve.x, curve.y, "x", color=WARNING)
        for curve in run.on(panel, RATIO):
            axis.plot(curve.x, np.clip(curve.y, *LANE.range), "_", color=style(index)[0])


def _dress(axis: Any, panel: str, runs: Sequence[RunCurves], *, log: bool) -> None:
    row = panel_row(panel)
    title = f"{row.title}   ({row.hint})" if row.hint else row.title
    plain([axis.set_title(title, fontsize="small", loc="left")])
    axis.grid(alpha=0.3)
    axis.spines[:].set_visible(False)
    names = ", ".join(run.name for run in runs if run.begun)
    if not any(run.values(panel).size for run in runs):
        axis.set_yticks([])
        text = row.missing.format(names=names) if names else ""
        plain([axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes)])
        return
    if panel == "metrics":
        plain(axis.legend(fontsize="x-small", ncols=4, frameon=False).get_texts())
    shown = y_axis(runs, panel, log=log)
    if shown.log:
        axis.set_yscale("log")
    axis.set_ylim(*(10.0**end if shown.log else end for end in shown.range))
    _label(axis.yaxis, shown)
    for value in row.lines:
        axis.axhline(value, color=INK, linewidth=0.8, linestyle=":")


def _label(axis: Any, shown: Axis) -> None:
    axis.set_ticks(shown.ticks, shown.labels)
    axis.set_minor_formatter(NullFormatter())
