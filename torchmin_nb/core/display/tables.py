"""Text tables, numbers in their cells, and curves of block characters. Needs neither Plotly nor widgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["number_text", "sparkline", "text_table"]

_BARS = "▁▂▃▄▅▆▇█"


def text_table(rows: Sequence[Sequence[str]], *, align: str | None = None) -> str:
    """Aligned columns under a ruled header; `align` has < or > for each column, numbers right by default."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = align or "<" + ">" * (len(widths) - 1)
    lines = [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)) for row in rows
    ]
    rule = "  ".join("─" * width for width in widths)
    return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:]))


def sparkline(values: NDArray[np.float64], width: int = 40) -> str:
    """A row of block characters, on a log scale where all values are positive."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    picked = finite[np.linspace(0, finite.size - 1, min(width, finite.size)).astype(int)]
    heights = np.log10(picked) if (picked > 0).all() else picked
    span = float(np.ptp(heights)) or 1.0
    levels = ((heights - heights.min()) / span * (len(_BARS) - 1)).round().astype(int)
    return "".join(_BARS[level] for level in levels)


def number_text(value: float | None, form: str) -> str:
    """A number in this format; a dash for None and NaN."""
    return "–" if value is None or np.isnan(value) else f"{value:{form}}"
