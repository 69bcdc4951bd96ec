"""A Chart drawn by matplotlib: the static twin of `chart_figure`."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from .._public import called_as_its_function
from .chart import FEW_DECADES, Axis, Chart, Contours, Mark, Region, wrapped_lines
from .palette import DASHES, INK

__all__ = ["Picture", "chart_picture", "draw_mark", "plain", "small_png"]

called_as_its_function(__name__)

_LINES: dict[str, Any] = dict(zip(DASHES, ("-", "--", ":", "-.", (0, (8, 2)), (0, (8, 2, 1, 2))), strict=True))
"""The dashes as matplotlib has them."""
_LINES[""] = "none"
_MARKS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "pentagon": "p",
    "star": "*",
    "x": "x",
    "cross": "P",
    "line-ew": "_",
    "": "",
}
_SHADES = LinearSegmentedColormap.from_list(
    "depth", [(0.47, 0.47, 0.55, 0.55), (0.49, 0.49, 0.55, 0.25), (0.5, 0.5, 0.55, 0.03)]
)
_WRITTEN_OUT = (1e-3, 1e6)
"""Between these, the numbers on a logarithmic axis of few decades are not powers of ten."""
_TITLE_WIDTH = 84
_NOTE_WIDTH = 100


class Picture(Figure):
    """A matplotlib Figure that shows itself in a notebook without pyplot, on a transparent background.

    `chart_picture` and the functions that end in ``_picture`` make it.

    Attributes
    ----------
    alt : str
        What it shows, in words; at first its title. A notebook keeps it beside the picture.

    Examples
    --------
    >>> picture = chart_picture(Chart((), Axis("x"), Axis("y"), title="Nothing yet"))
    >>> picture
    Nothing yet
    """

    alt = ""

    def __repr__(self) -> str:
        return self.alt or super().__repr__()

    def _repr_png_(self) -> bytes:
        return small_png(self, dpi=100)


def small_png(figure: Figure, dpi: int) -> bytes:
    """Of 256 colours: a third of the bytes of full colour, or less, and no difference to be seen."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=dpi)
    with Image.open(full) as image:
        opaque = image.getchannel("A").getextrema() == (255, 255)
        fewer = (
            image.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)  # keeps a small mark's own colour
            if opaque
            else image.quantize(256, method=Image.Quantize.FASTOCTREE)
        )
        fewer.save(small, format="png", optimize=True)
    return small.getvalue()


def chart_picture(chart: Chart, *, width: float = 7.2, height: float = 5.4) -> Picture:
    """A chart as a matplotlib Figure. Save it with ``.savefig(path)``; it belongs to no pyplot state.

    Parameters
    ----------
    chart : Chart
        What is drawn.
    width : float, optional
        Width in inches. Default 7.2.
    height : float, optional
        Height in inches. Default 5.4.

    Returns
    -------
    Picture
        The figure.

    Examples
    --------
    >>> parabola = Mark(np.arange(4.0), np.arange(4.0) ** 2, "parabola")
    >>> picture = chart_picture(Chart((parabola,), Axis("k"), Axis("k²")))
    >>> picture.get_size_inches(), picture.axes[0].get_xlabel()
    (array([7.2, 5.4]), 'k')
    """
    figure = Picture(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    for layer in chart.layers:
        if isinstance(layer, Contours):
            _contours(figure, axes, layer)
        elif isinstance(layer, Region):
            _region(axes, layer)
        else:
            draw_mark(axes, layer)
    _dress(axes, chart)
    _title(figure, chart)
    if axes.get_legend_handles_labels()[1]:
        legend = figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9, labelcolor=INK)
        plain(legend.get_texts())
    return figure


def plain(texts: Iterable[Any]) -> None:
    """Names are not mathematics: a dollar sign in one stays a dollar sign."""
    for text in texts:
        text.set_parse_math(False)


def draw_mark(axes: Any, mark: Mark) -> None:
    """On axes of matplotlib."""
    axes.plot(
        mark.x,
        mark.y,
        color=mark.colour,
        linestyle=_LINES[mark.dash],
        linewidth=mark.width * 0.8,
        marker=_MARKS[mark.marker],
        markersize=mark.size * (1.1 if mark.marker == "star" else 0.8),
        markerfacecolor="none" if mark.hollow else mark.colour,
        markeredgecolor=mark.colour,
        markeredgewidth=1.5 if mark.hollow or mark.marker == "x" else 0,
        drawstyle="steps-post" if mark.steps == "hv" else "default",
        label=mark.name or "_",
    )
    if mark.fill:
        axes.fill(mark.x, mark.y, color=_colour(mark.fill), linewidth=0)


def _colour(text: str) -> Any:
    """A colour as matplotlib takes it: "rgba(r,g,b,a)" is Plotly's."""
    if not text.startswith("rgba("):
        return text
    *channels, alpha = map(float, text[5:-1].split(","))
    return (*(channel / 255 for channel in channels), alpha)


def _contours(figure: Any, axes: Any, layer: Contours) -> None:
    z = np.ma.masked_invalid(layer.z)
    if len(layer.levels) < 2:
        return
    size = layer.levels[1] - layer.levels[0]
    edges = np.concatenate([layer.levels, [layer.levels[-1] + size]])
    norm = matplotlib.colors.Normalize(edges[0] - size / 2, edges[-1] - size / 2)
    filled = axes.contourf(layer.x, layer.y, z, levels=edges, cmap=_SHADES, norm=norm, extend="both")
    lines = {"colors": [(0.5, 0.5, 0.5, 0.65)], "linewidths": 0.7, "linestyles": "solid"}
    axes.contour(layer.x, layer.y, z, levels=layer.levels, **lines)
    bar = figure.colorbar(filled, ax=axes, pad=0.02, aspect=40, ticks=layer.levels, drawedges=False)
    bar.ax.set_yticklabels(layer.labels)
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.ax.yaxis.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label(layer.title, color=INK, fontsize=9)
    plain([bar.ax.yaxis.label, *bar.ax.get_yticklabels()])


def _region(axes: Any, layer: Region) -> None:
    z = np.ma.masked_invalid(layer.z)
    axes.contour(layer.x, layer.y, z, levels=[0.0], colors=[layer.colour], linewidths=1.6)
    axes.plot([], [], color=layer.colour, linewidth=1.6, label=layer.name or "_")
    if layer.shade and z.min() < 0:
        axes.contourf(layer.x, layer.y, z, levels=[z.min() - 1, 0.0], colors=[layer.colour], alpha=0.16)


def _dress(axes: Any, chart: Chart) -> None:
    marks = [layer for layer in chart.layers if isinstance(layer, Mark)]
    _axis(axes.xaxis, axes.set_xscale, axes.set_xlim, chart.x, [mark.x for mark in marks])
    _axis(axes.yaxis, axes.set_yscale, axes.set_ylim, chart.y, [mark.y for mark in marks])
    axes.tick_params(which="both", colors=INK, labelsize=9)
    axes.spines[:].set_color((0.5, 0.5, 0.5, 0.4))
    if not chart.contours():
        axes.grid(color=(0.5, 0.5, 0.5, 0.25), linewidth=0.6)
    if chart.square:
        axes.set_aspect("equal", adjustable="box")


def _axis(axis: Any, set_scale: Any, set_limits: Any, spec: Axis, values: list[Any]) -> None:
    axis.set_label_text(spec.title, color=INK, fontsize=10)
    plain([axis.label])
    if spec.log:
        set_scale("log")
    if spec.range is not None:
        set_limits(*spec.range)
    low, high = axis.get_view_interval()
    if spec.log and _WRITTEN_OUT[0] <= low and high <= _WRITTEN_OUT[1] and high < 10**FEW_DECADES * low:
        _write_out(axis)
    elif not spec.log and _whole(values):
        axis.get_major_locator().set_params(integer=True)


def _write_out(axis: Any) -> None:
    """Plain numbers, 1, 2 and 5, on a logarithmic axis of few decades."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _whole(values: list[Any]) -> bool:
    """Whether an axis counts something: whole numbers that span 2 or more."""
    every = np.concatenate([np.asarray(each, dtype=np.float64) for each in values]) if values else np.empty(0)
    every = every[np.isfinite(every)]
    return bool(every.size and np.ptp(every) >= 2 and (every == np.round(every)).all())


def _title(figure: Any, chart: Chart) -> None:
    lines = [
        *wrapped_lines(chart.title, _TITLE_WIDTH),
        *(line for note in chart.notes for line in wrapped_lines(note, _NOTE_WIDTH)),
    ]
    figure.alt = " ".join(lines)
    if lines:
        figure.suptitle("\n".join(lines), fontsize=9.5, color=INK, x=0.01, ha="left", parse_math=False)
