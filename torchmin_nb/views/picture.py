"""A static picture of a run for places where no browser draws it: the figure's curves as PNG, by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from .axes import Axis
from .chart_picture import draw_mark, plain, small_png
from .figures import x_axis, y_axis
from .marks import marks
from .palette import INK, MARKED
from .panels import RunCurves, missing_words, panel_row

__all__ = ["png"]


def png(
    runs: Sequence[RunCurves], panels: Sequence[str], x: str = "iteration", title: str = "", scale: str = "log"
) -> bytes:
    """The panels of `convergence_figure` at 80 dpi: 8 inches wide, 6 high or more. Needs matplotlib."""
    figure = Figure(figsize=(8, max(6.0, 0.6 + 1.5 * len(panels))), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    drawn = list(marks(runs))
    for axis, panel in zip(axes, panels, strict=True):
        for _, curve, mark in drawn:
            if curve.panel == panel:
                draw_mark(axis, mark if mark.x.size <= MARKED or not mark.dash else mark._replace(marker=""))
        _dress(axis, panel, runs, log=scale == "log")
    axes[-1].set_xlabel(x)
    _label(axes[-1].xaxis, x_axis(runs, x))
    if len(runs) > 1:
        plain(axes[0].legend(fontsize="small", ncols=3, frameon=False).get_texts())
    figure.suptitle(title, fontsize=9, x=0.01, ha="left", parse_math=False)
    return small_png(figure, dpi=80)


def _dress(axis: Any, panel: str, runs: Sequence[RunCurves], *, log: bool) -> None:
    row = panel_row(panel)
    title = f"{row.title}   ({row.hint})" if row.hint else row.title
    plain([axis.set_title(title, fontsize="small", loc="left")])
    axis.grid(alpha=0.3)
    axis.spines[:].set_visible(False)
    empty = missing_words([panel], runs)
    if panel in empty:
        axis.set_yticks([])
        plain([axis.text(0.5, 0.5, empty[panel], ha="center", va="center", transform=axis.transAxes)])
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
