"""A static picture of a run for places where no browser draws it: the figure's curves as PNG, by matplotlib."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .figures import FEW_DECADES, RunCurves
from .palette import DASHES, WARNING, style

__all__ = ["png"]

_LINES = dict(zip(DASHES, ("-", "--", ":", "-.", (0, (8, 2)), (0, (8, 2, 1, 2))), strict=True))
_PANELS = {"loss": "loss", "grad_norm": "gradient norm", "trust_radius": "trust radius"}
_MARKED = 60


def png(runs: list[RunCurves], x: str = "iteration", title: str = "") -> bytes:
    """The three panels of `convergence_figure`, 8 × 6 inches at 80 dpi. Needs matplotlib."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    for axis, (field, label) in zip(axes, _PANELS.items(), strict=True):
        for index, run in enumerate(runs):
            _draw(axis, getattr(run, field), run.name, index)
        _dress(axis, label, np.concatenate([getattr(run, field).y for run in runs] or [np.empty(0)]))
    _mark_steps(axes[2], runs)
    axes[2].set_xlabel(x)
    if len(runs) > 1:
        axes[0].legend(fontsize="small", ncols=3, frameon=False)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left", parse_math=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def _draw(axis: Any, curve: Any, name: str, index: int) -> None:
    colour, dash, _ = style(index)
    axis.plot(
        curve.x,
        curve.y,
        color=colour,
        linestyle=_LINES[dash],
        linewidth=1.5,
        marker="o" if curve.x.size <= _MARKED else None,
        markersize=3,
        label=name,
    )


def _mark_steps(axis: Any, runs: list[RunCurves]) -> None:
    """Rejected steps as crosses; reduction ratios as dashes on an axis of their own."""
    if not any(run.has_radius for run in runs):
        axis.text(0.5, 0.5, "no trust region in this method", ha="center", transform=axis.transAxes)
        axis.set_yticks([])
    for run in runs:
        axis.plot(run.rejected.x, run.rejected.y, "x", color=WARNING)
    if any(run.reduction_ratio.y.size for run in runs):
        ratio = axis.twinx()
        for index, run in enumerate(runs):
            ratio.plot(run.reduction_ratio.x, run.reduction_ratio.y, "_", color=style(index)[0])
        ratio.set(ylim=(-0.3, 1.8), yticks=[0.25, 0.75], ylabel="reduction ratio")
        ratio.spines[:].set_visible(False)


def _dress(axis: Any, label: str, values: np.ndarray[Any, Any]) -> None:
    axis.set_ylabel(label)
    axis.grid(alpha=0.3)
    axis.spines[:].set_visible(False)
    if not values.size or not (values > 0).all():
        return
    axis.set_yscale("log")
    if np.ptp(np.log10(values)) < FEW_DECADES:
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
