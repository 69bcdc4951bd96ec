"""The end points of `multistart`, from the best to the worst, by Plotly or by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core.optimizers.multistart.result import MultiStart, StartRun
from .chart import Axis, Chart, Mark
from .palette import INK, RUNS, style

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .chart_picture import Picture

__all__ = ["multistart_chart", "multistart_figure", "multistart_picture"]

_WIDE = 20.0


def multistart_figure(found: MultiStart, *, title: str = "") -> go.Figure:
    """The losses at the end points of many starts, best first: equal heights are one minimum, found several times.

    ``convergence_figure(found.histories)`` draws the way to them.

    Parameters
    ----------
    found : MultiStart
        What `multistart` returned.
    title : str, optional
        Title.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure. Runs that ended at one minimum have one colour.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    >>> closure = lambda: ((x**2 - 1) ** 2 + 0.3 * x).sum()
    >>> found = multistart(MinimizeWrapper([x], "BFGS"), closure, [[-2.0], [0.5], [3.0]])
    >>> [trace.name for trace in multistart_figure(found).data]
    ['minimum 0 (1 run)', 'minimum 1 (2 runs)']
    """
    from .chart_figure import chart_figure

    return chart_figure(multistart_chart(found, title), height=380)


def multistart_picture(found: MultiStart, *, title: str = "") -> Picture:
    """The losses at the end points of many starts by matplotlib.

    Parameters
    ----------
    found : MultiStart
        What `multistart` returned.
    title : str, optional
        Title.

    Returns
    -------
    Picture
        A matplotlib Figure.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    >>> closure = lambda: ((x**2 - 1) ** 2 + 0.3 * x).sum()
    >>> found = multistart(MinimizeWrapper([x], "BFGS"), closure, [[-2.0], [0.5], [3.0]])
    >>> multistart_picture(found).axes[0].get_ylabel()
    'loss at the end'
    """
    from .chart_picture import chart_picture

    return chart_picture(multistart_chart(found, title), height=4.4)


def multistart_chart(found: MultiStart, title: str = "") -> Chart:
    """What is drawn, without a drawing library. Positive losses that differ much have a logarithmic axis."""
    runs = [run for run in found if not run.failed and math.isfinite(run.loss)]
    places = {run.index: place for place, run in enumerate(runs, 1)}
    groups: dict[int | None, list[StartRun]] = {}
    for run in runs:
        groups.setdefault(_shown(found.minimum_of(run)), []).append(run)
    marks = [_mark(key, group, places, found) for key, group in groups.items()]
    losses = [run.loss for run in runs]
    log = bool(losses) and min(losses) > 0 and max(losses) > _WIDE * min(losses)
    return Chart(
        tuple(marks),
        Axis("runs, best first", range=(0.5, len(runs) + 0.5)),
        Axis("loss at the end", log=log),
        title,
        (f"{found.summary()}.",),
    )


def _shown(minimum: int | None) -> int | None:
    """The number of a minimum that has a colour of its own; the others share one."""
    return minimum if minimum is None else min(minimum, len(RUNS))


def _mark(key: int | None, runs: Sequence[StartRun], places: dict[int, int], found: MultiStart) -> Mark:
    colour, _, marker = (INK, "", "x") if key is None else (INK, "", "circle") if key == len(RUNS) else style(key)
    name = "without success" if key is None else "other minima" if key == len(RUNS) else f"minimum {key}"
    counted = f"{len(runs)} run" if len(runs) == 1 else f"{len(runs)} runs"
    return Mark(
        np.array([places[run.index] for run in runs], dtype=float),
        np.array([run.loss for run in runs]),
        f"{name} ({counted})",
        colour,
        "",
        marker=marker,
        size=8,
        texts=tuple(_text(run, found.minimum_of(run)) for run in runs),
    )


def _text(run: StartRun, minimum: int | None) -> str:
    where = "" if minimum is None else f", minimum {minimum}"
    return f"{run.name}: loss {run.loss:.8g}{where}\n{run.ending}"
