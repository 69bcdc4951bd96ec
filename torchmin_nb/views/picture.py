"""A static picture of a run for places where no browser draws it: the figure's curves as PNG, by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from .chart_picture import plain, small_png, write_out
from .figures import FEW_DECADES
from .palette import DASHES, WARNING, style
from .panels import PANELS, RATIO, REJECTED, Curve, RunCurves

__all__ = ["png"]

_LINES = dict(zip(DASHES, ("-", "--", ":", "-.", (0, (8, 2)), (0, (8, 2, 1, 2))), strict=True))
_MARKED = 60


def png(
    runs: Sequence[RunCurves], panels: Sequence[str], x: str = "iteration", title: str = "", scale: str = "log"
) -> bytes:
    """The panels of `convergence_figure`, 8 × 6 inches at 80 dpi. Needs matplotlib."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        for index, run in enumerate(runs):
            for place, curve in enumerate(run.on(panel)):
                _draw(axis, curve, run.name, index, place, several=len(runs) > 1)
        drawn = [run.values(panel) for run in runs if run.on(panel)]
        _dress(axis, panel, np.concatenate([np.empty(0), *drawn]), runs, log=scale == "log")
        _mark_steps(axis, panel, runs)
    axes[-1].set_xlabel(x)
    axes[-1].xaxis.get_major_locator().set_params(integer=x != "seconds")
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
        linestyle=_LINES[dash],
        linewidth=1.5,
        marker="o" if curve.x.size <= _MARKED else None,
        markersize=3,
        label=curve.label or name,
    )


def _mark_steps(axis: Any, panel: str, runs: Sequence[RunCurves]) -> None:
    """Rejected steps as crosses; reduction ratios as dashes on an axis of their own."""
    for run in runs:
        for curve in run.on(panel, REJECTED):
            axis.plot(curve.x, curve.y, "x", color=WARNING)
    ratios = [(index, curve) for index, run in enumerate(runs) for curve in run.on(panel, RATIO) if curve.y.size]
    if ratios:
        ratio = axis.twinx()
        for index, curve in ratios:
            ratio.plot(curve.x, curve.y, "_", color=style(index)[0])
        ratio.set(ylim=(-0.3, 1.8), yticks=[0.25, 0.75], ylabel="reduction ratio")
        ratio.spines[:].set_visible(False)


def _dress(axis: Any, panel: str, values: np.ndarray[Any, Any], runs: Sequence[RunCurves], *, log: bool) -> None:
    axis.set_ylabel(PANELS[panel].title)
    axis.grid(alpha=0.3)
    axis.spines[:].set_visible(False)
    names = ", ".join(run.name for run in runs if run.begun)
    if not values.size and names:
        text = PANELS[panel].missing.format(names=names)
        plain([axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes)])
        axis.set_yticks([])
    if panel == "metrics" and values.size:
        plain(axis.legend(fontsize="x-small", ncols=4, frameon=False).get_texts())
    if not log or not PANELS[panel].log or not values.size or not (values > 0).all():
        return
    axis.set_yscale("log")
    if np.ptp(np.log10(values)) < FEW_DECADES:
        write_out(axis.yaxis)
    axis.yaxis.set_minor_formatter(NullFormatter())
