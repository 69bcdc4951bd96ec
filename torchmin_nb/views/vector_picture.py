"""A picture of a run as inline SVG, for front ends without widgets while points arrive.

It is cheap, and every front end draws it again when it is sent again; JupyterLab keeps a Plotly figure as it was first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..core.display.html import Html, html, joined
from .axes import Axis
from .chart import Mark
from .figures import TITLE_HEIGHT, Drawing, Grid, x_axis, y_axis
from .marks import marks
from .palette import INK, style
from .panels import RunCurves, missing_words, panel_row

__all__ = ["svg"]

_WIDTH = 760
_LEGEND_LINE = 20
_DASHES = {
    "solid": "",
    "dash": "8 4",
    "dot": "2 3",
    "dashdot": "8 3 2 3",
    "longdash": "14 5",
    "longdashdot": "14 4 2 4",
}
_SYMBOLS = {"line-ew": ("h8m-8 0", 4.0, 0.0), "x": ("l7 7m0 -7l-7 7", 3.5, 3.5)}
"""How the pen moves, and how far left and up it starts."""


def svg(drawn: Drawing, title: str) -> Html:
    """The panels of a figure, one below the other. title: on as many lines as it has."""
    several = len(drawn.runs) > 1
    grid = Grid.of(drawn.panels, TITLE_HEIGHT + several * _LEGEND_LINE, None)
    left, right = grid.margin["l"], _WIDTH - grid.margin["r"]
    x = _Scale(x_axis(drawn.runs, drawn.x), left, right)
    top, inside = grid.margin["t"], grid.height - grid.margin["t"] - grid.margin["b"]
    parts: list[Html] = [_text(12, 20 + 18 * line, words, size=13) for line, words in enumerate(title.split("\n"))]
    parts += _legend(drawn.runs, TITLE_HEIGHT + 12) if several else []
    for panel, (low, high) in zip(drawn.panels, grid.domains, strict=True):
        y = _Scale(_axis(drawn, panel), top + (1 - low) * inside, top + (1 - high) * inside)
        parts += [*_frame(panel, x, y), *_curves(drawn, panel, x, y)]
    parts += [_text(at, grid.height - 28, label, anchor="middle") for at, label in x.ticks]
    parts.append(_text((left + right) / 2, grid.height - 8, drawn.x, anchor="middle", size=12))
    return html(
        '<svg role="img" aria-label="{title}" viewBox="0 0 {width} {height}" fill="{ink}" '
        'style="width:100%;max-width:{width}px;font-family:system-ui,sans-serif">{parts}</svg>',
        title=title,
        width=_WIDTH,
        height=grid.height,
        ink=INK,
        parts=joined(parts),
    )


class _Scale:
    """From values to pixels, the axis from `start` to `end`."""

    def __init__(self, axis: Axis, start: float, end: float):
        self.start, self.end = start, end
        self._axis = axis

    def __call__(self, values: NDArray[np.float64] | Sequence[float]) -> NDArray[np.float64]:
        low, high = self._axis.range
        places = np.log10(values) if self._axis.log else np.asarray(values, dtype=np.float64)
        pixels: NDArray[np.float64] = self.start + (places - low) / (high - low) * (self.end - self.start)
        return pixels

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Pixels and labels."""
        return list(zip(self(self._axis.ticks).tolist(), self._axis.labels, strict=True))


def _axis(drawn: Drawing, panel: str) -> Axis:
    return y_axis(drawn.runs, panel, log=drawn.scale == "log")


def _frame(panel: str, x: _Scale, y: _Scale) -> Iterator[Html]:
    """Grid, labels and title of a panel."""
    row = panel_row(panel)
    for at, label in y.ticks:
        yield _line(x.start, at, x.end, at, INK, opacity=0.3)
        yield _text(x.start - 6, at + 4, label, anchor="end")
    for at, _ in x.ticks:
        yield _line(at, y.start, at, y.end, INK, opacity=0.3)
    for at in y(row.lines).tolist() if row.lines else ():
        yield _line(x.start, at, x.end, at, INK, dash="2 3")
    yield _text(x.start - 4, y.end - 7, f"{row.title}  {row.hint}", size=12)


def _curves(drawn: Drawing, panel: str, x: _Scale, y: _Scale) -> Iterator[Html]:
    for words in missing_words([panel], drawn.runs).values():
        for line, part in enumerate(words.split("\n")):
            yield _text((x.start + x.end) / 2, (y.start + y.end) / 2 + 16 * line, part, anchor="middle", size=13)
    for _, curve, mark in marks(drawn.runs):
        if curve.panel == panel:
            yield _polyline(mark, x, y) if mark.dash else _symbols(mark, x, y)


def _polyline(mark: Mark, x: _Scale, y: _Scale) -> Html:
    return html(
        '<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>',
        points=" ".join(_pairs(x(mark.x), y(mark.y))),
        colour=mark.colour,
        dash=_DASHES[mark.dash],
    )


def _symbols(mark: Mark, x: _Scale, y: _Scale) -> Html:
    stroke, left, up = _SYMBOLS[mark.marker]
    path = " ".join(f"M{pair} {stroke}" for pair in _pairs(x(mark.x) - left, y(mark.y) - up))
    return html('<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>', path=path, colour=mark.colour)


def _pairs(x: NDArray[np.float64], y: NDArray[np.float64]) -> Iterable[str]:
    return (f"{across:.1f},{down:.1f}" for across, down in zip(x.tolist(), y.tolist(), strict=True))


def _legend(runs: Sequence[RunCurves], y: float) -> list[Html]:
    """On one line: names that find no room there are shortened."""
    room = (_WIDTH - 24) / len(runs)
    parts: list[Html] = []
    for index, run in enumerate(runs):
        colour, dash, _ = style(index)
        parts.append(_line(12 + room * index, y - 4, 40 + room * index, y - 4, colour, width=2, dash=_DASHES[dash]))
        parts.append(_text(46 + room * index, y, run.name[: max(1, int((room - 50) / 7))]))
    return parts


def _line(
    x: float, y: float, x_end: float, y_end: float, colour: str, *, width: int = 1, dash: str = "", opacity: float = 1.0
) -> Html:
    return html(
        '<line x1="{x}" y1="{y}" x2="{x_end}" y2="{y_end}" stroke="{colour}" stroke-width="{width}" '
        'stroke-dasharray="{dash}" opacity="{opacity}"/>',
        x=f"{x:.1f}",
        y=f"{y:.1f}",
        x_end=f"{x_end:.1f}",
        y_end=f"{y_end:.1f}",
        colour=colour,
        width=width,
        dash=dash,
        opacity=opacity,
    )


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 11) -> Html:
    form = '<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" xml:space="preserve">{words}</text>'
    return html(form, x=f"{x:.1f}", y=f"{y:.1f}", anchor=anchor, size=size, words=words)
