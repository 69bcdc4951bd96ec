"""How the curves of runs are drawn: as marks, which Plotly, matplotlib and SVG draw alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .axes import Axis
from .chart import Mark
from .palette import WARNING, style
from .panels import RATIO, REJECTED, Curve, RunCurves

__all__ = ["LANE", "marks"]

LANE = Axis(False, (-0.35, 1.85), (0.0, 0.25, 0.75, 1.0), ("0", "¼", "¾", "1"))
"""The axis of the reduction ratio; ratios beyond are drawn at its edge."""
_EDGE = 0.1


def marks(runs: Sequence[RunCurves]) -> Iterator[tuple[RunCurves, Curve, Mark]]:
    """Every curve with its mark, run by run. Of one run the metrics differ in colour; of several the runs do."""
    for index, run in enumerate(runs):
        metrics = [curve.label for curve in run.curves if curve.label]
        for curve in run.curves:
            colour, dash, marker = style(index)
            if curve.label:
                own, dash, marker = style(metrics.index(curve.label))
                colour = colour if len(runs) > 1 else own
            yield run, curve, _mark(curve, curve.label or run.name, colour, dash, marker)


def _mark(curve: Curve, name: str, colour: str, dash: str, marker: str) -> Mark:
    if curve.kind == RATIO:  # dashes as wide as a step
        low, high = LANE.range
        within = np.clip(curve.y, low + _EDGE, high - _EDGE)
        return Mark(curve.x, within, "", colour, "", marker="line-ew", size=9, hollow=True)
    if curve.kind == REJECTED:
        return Mark(curve.x, curve.y, "", WARNING, "", marker="x", size=8)
    return Mark(curve.x, curve.y, name, colour, dash, marker=marker, size=5)
