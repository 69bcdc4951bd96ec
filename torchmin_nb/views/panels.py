"""The data step of the convergence figure: which panels there are, and the curves that a History puts on each.

`convergence_data` picks and thins the numbers, so that tests can read them; figures.py and picture.py draw them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.history.history import History
from ..core.history.records import Iteration
from ..errors import ArgumentError

__all__ = [
    "AUTO",
    "PANELS",
    "POINTS",
    "RATIO",
    "REJECTED",
    "X_AXES",
    "Curve",
    "Panel",
    "PanelName",
    "RunCurves",
    "XAxis",
    "chosen_panels",
    "convergence_data",
    "named",
    "thin",
    "x_column",
]

Floats = NDArray[np.float64]

XAxis = Literal["iteration", "closure calls", "seconds"]
PanelName = Literal[
    "loss",
    "loss - best",
    "gradient norm",
    "trust radius",
    "step norm",
    "constraint violation",
    "HVPs",
    "closure calls",
    "metrics",
]
"""The keys of X_AXES and of PANELS, for editors and type checkers."""

X_AXES = {"iteration": "index", "closure calls": "nfev", "seconds": "elapsed"}
"""What the x axis may show, and the column it comes from."""

POINTS = 2000
"""No more points than this are drawn of one curve: a screen shows no more."""

LINE, RATIO, REJECTED = "line", "reduction ratio", "rejected"
"""The kinds of curve."""


class Panel(NamedTuple):
    """A row of PANELS. column: of History; log: whether a log axis serves it; missing: what is said where none is."""

    title: str
    column: str | None
    log: bool = True
    missing: str = "not reported by {names}"


PANELS = {
    "loss": Panel("loss", "loss"),
    "loss - best": Panel("loss − best", "loss"),
    "gradient norm": Panel("gradient norm", "grad_norm", missing="{names} uses no gradient here"),
    "trust radius": Panel(
        "trust radius", "trust_radius", missing="no trust region in {names}:\nit chooses its step differently"
    ),
    "step norm": Panel("step norm", "step_norm"),
    "constraint violation": Panel("constraint violation", "constraint_violation", missing="no constraints"),
    "HVPs": Panel("HVPs", "nhvp", log=False),
    "closure calls": Panel("closure calls", "nfev", log=False),
    "metrics": Panel(
        "metrics", None, missing="nothing was recorded:\ncall optimizer.record(name=value) in the closure"
    ),
}
"""What can be shown, one panel below the other."""

AUTO: Literal["auto"] = "auto"
"""Loss; then gradient norm, trust radius (or else step norm), constraint violation and metrics where there are any."""


class Curve(NamedTuple):
    """rows (k,): the iterations drawn. x and y (k,), float64, finite. label: the name of a metric."""

    panel: str
    kind: str
    label: str
    rows: NDArray[np.int64]
    x: Floats
    y: Floats


class RunCurves(NamedTuple):
    """What is drawn of one run. A curve is empty where the method reports nothing.

    records: what hovering over a point of the first curve tells besides, one text a point, or none. begun: whether
    there was an iteration yet, so that what is missing is known to be missing.
    """

    name: str
    curves: tuple[Curve, ...]
    records: tuple[str, ...]
    begun: bool = True

    def on(self, panel: str, kind: str = LINE) -> list[Curve]:
        """Its curves of one panel."""
        return [curve for curve in self.curves if curve.panel == panel and curve.kind == kind]

    def values(self, panel: str) -> Floats:
        """All numbers that it puts on a panel's main axis."""
        return np.concatenate([curve.y for curve in self.curves if curve.panel == panel and curve.kind != RATIO])


def convergence_data(
    histories: Mapping[str, History] | History,
    x: str = "iteration",
    panels: str | Sequence[str] = AUTO,
    points: int = POINTS,
    recorded: int | None = None,
) -> list[RunCurves]:
    """The curves of one or several runs, thinned to what a screen can show.

    x: "iteration", "closure calls" or "seconds"; panels: "auto" or names of PANELS. recorded: up to so many points
    carry their records, whose texts cost more than all curves; None for no such limit. Raises ArgumentError for others.
    """
    runs = named(histories)
    rows = chosen_panels(runs, panels)
    best = min((float(np.min(loss)) for h in runs.values() if (loss := _finite(h.loss)).size), default=0.0)
    return [_run_curves(name, history, x_column(x), rows, best, points, recorded) for name, history in runs.items()]


def chosen_panels(histories: Mapping[str, History] | History, panels: str | Sequence[str] = AUTO) -> tuple[str, ...]:
    """The names of the panels to draw, from "auto" or from a choice. Raises ArgumentError for unknown ones."""
    if panels == AUTO:
        return tuple(_automatic(list(named(histories).values())))
    names = (panels,) if isinstance(panels, str) else tuple(panels)
    unknown = [name for name in names if name not in PANELS]
    if unknown or not names:
        raise ArgumentError(
            f"panels={panels!r} is not known; choose {AUTO!r} or some of {', '.join(map(repr, PANELS))}"
        )
    return tuple(dict.fromkeys(names))


def _automatic(histories: list[History]) -> Iterator[str]:
    def reported(panel: str) -> bool:
        column = PANELS[panel].column
        return column is not None and any(_finite(history.column(column)).size for history in histories)

    yield "loss"
    if reported("gradient norm"):
        yield "gradient norm"
    yield "trust radius" if reported("trust radius") else "step norm"
    if reported("constraint violation"):
        yield "constraint violation"
    if any(history.metrics for history in histories):
        yield "metrics"


def x_column(x: str) -> str:
    """The column of a History that an x axis shows. Raises ArgumentError."""
    if x not in X_AXES:
        raise ArgumentError(f"x={x!r} is not known; choose one of {', '.join(map(repr, X_AXES))}")
    return X_AXES[x]


def named(histories: Mapping[str, History] | History) -> Mapping[str, History]:
    """One history under its method's name, or those that have names already."""
    return {histories.method: histories} if isinstance(histories, History) else histories


def thin(y: Floats, points: int = POINTS) -> NDArray[np.int64]:
    """Which of the values to draw: about `points`, the ends and the lowest and highest of each stretch among them."""
    if y.size <= points:
        return np.arange(y.size)
    length = -(-y.size // max(1, points // 2))
    stretches = np.pad(y, (0, -y.size % length), mode="edge").reshape(-1, length)
    first = length * np.arange(len(stretches))
    extremes = [first + stretches.argmin(axis=1), first + stretches.argmax(axis=1)]
    return np.unique(np.minimum(np.concatenate([[0, y.size - 1], *extremes]), y.size - 1))


def _run_curves(
    name: str, history: History, x: str, panels: Sequence[str], best: float, points: int, recorded: int | None
) -> RunCurves:
    at = history.column(x).astype(np.float64)
    curves = tuple(
        _curve(panel, kind, label, at, y, points)
        for panel in panels
        for kind, label, y in _series(panel, history, best)
    )
    with_records = bool(curves) and (recorded is None or curves[0].rows.size <= recorded)
    records = _records(history, curves[0].rows) if with_records else ()
    return RunCurves(name, curves, records, begun=at.size > 0)


def _series(panel: str, history: History, best: float) -> Iterator[tuple[str, str, Floats]]:
    """Kind, label and values over all iterations of each curve of a panel."""
    if panel == "metrics":
        for name, values in history.metrics.items():
            yield LINE, name, values
    elif panel == "loss - best":
        excess = history.loss - best
        yield LINE, "", np.where(excess > 0, excess, np.nan)  # the best point itself has no place on a log axis
    else:
        column = PANELS[panel].column
        assert column is not None
        yield LINE, "", history.column(column).astype(np.float64)
    if panel == "trust radius":
        yield RATIO, "", history.reduction_ratio
        yield REJECTED, "", np.where(history.column("accepted") == 0, history.trust_radius, np.nan)


def _curve(panel: str, kind: str, label: str, x: Floats, y: Floats, points: int) -> Curve:
    size = min(x.size, y.size)  # a run that goes on may have grown between the two
    known = np.flatnonzero(np.isfinite(y[:size]))
    rows = known[thin(y[known], points)]
    return Curve(panel, kind, label, rows, x[rows], y[rows])


def _records(history: History, rows: NDArray[np.int64]) -> tuple[str, ...]:
    """What the curves do not show of these iterations."""
    return tuple(_record_text(history[row]) for row in rows)


def _record_text(iteration: Iteration) -> str:
    rejected = iteration.accepted is False
    parts = [
        "step rejected" if rejected else _words("step norm {:.3g}", iteration.step_norm),
        _words("violation {:.3g}", iteration.constraint_violation or None),
        f"{iteration.nfev:,} closure calls",
        _words("{:,} Hessians", iteration.nhev or None),
        _words("{:,} HVPs", iteration.nhvp or None),
        f"{iteration.elapsed:.3g} s",
    ]
    return " · ".join(part for part in parts if part)


def _words(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]
