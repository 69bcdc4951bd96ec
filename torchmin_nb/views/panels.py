"""The data step of the convergence figure: which panels there are, and the curves that a History puts on each.

`convergence_data` picks and thins the numbers, so that tests can read them; figures.py and picture.py draw them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.history.history import History
from ..core.history.priced import is_priced, priced_values
from ..core.history.records import Iteration
from ..core.methods.global_search import GLOBAL_METHODS
from ..core.methods.local import METHODS
from ..errors import ArgumentError

__all__ = [
    "AUTO",
    "LINE",
    "OWN_METRICS",
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
    "drawn_log",
    "missing_words",
    "named",
    "panel_row",
    "thin",
    "whole_numbers",
    "x_values",
]

Floats = NDArray[np.float64]

XAxis = Literal["iteration", "closure calls", "seconds"]
PanelName = Literal[
    "loss",
    "loss - best",
    "gradient norm",
    "KKT residual",
    "trust radius",
    "reduction ratio",
    "step norm",
    "constraint violation",
    "HVPs",
    "closure calls",
    "metrics",
]
"""The keys of X_AXES and of PANELS, for editors and type checkers."""

X_AXES = {"iteration": "index", "closure calls": "nfev", "seconds": "elapsed"}
"""What the x axis may show, and the column it comes from."""

POINTS = 1000
"""No more points than this are drawn of one curve: a screen shows no more."""

LINE, RATIO, REJECTED = "line", "reduction ratio", "rejected"
"""The kinds of curve."""


class Panel(NamedTuple):
    """A row of PANELS. column: of History; log: whether a log axis serves it; missing: what is said where none is.

    lines: values at which a line is drawn across; hint: what they mean, beside the title.
    """

    title: str
    column: str | None
    log: bool = True
    missing: str = "not reported by {names}"
    lines: tuple[float, ...] = ()
    hint: str = ""


PANELS = {
    "loss": Panel("loss", "loss"),
    "loss - best": Panel("loss − best", "loss"),
    "gradient norm": Panel("gradient norm", "grad_norm", missing="{names} uses no gradient here"),
    "KKT residual": Panel(
        "KKT residual", "kkt_residual", missing="no bounds or constraints", hint="what no multiplier explains"
    ),
    "trust radius": Panel(
        "trust radius", "trust_radius", missing="no trust region in {names}:\nit chooses its step differently"
    ),
    "reduction ratio": Panel(
        "reduction ratio",
        "reduction_ratio",
        log=False,
        missing="no trust region in {names}:\nno reduction is predicted",
        lines=(0.25, 0.75),
        hint="trusted above ¾, poor below ¼",
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
"""Loss; then gradient norm, KKT residual, trust radius and reduction ratio (or else step norm), constraint violation
and metrics, where there are any. A run that goes on has the panels for which its method will have numbers."""

_METRIC = "metrics/"
"""Begins the name of a panel that shows one metric."""
_SPREAD = f"{_METRIC}population_spread"
_METRIC_ROWS = {_SPREAD: Panel("spread of the population", None, hint="standard deviation of its losses")}
_REPEATED = ("generation", "convergence")
"""What a search counts besides: the number of the iteration, and its spread divided by its mean and tolerance."""
OWN_METRICS = 4
"""So many metrics have a panel each; those that come later share one."""


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
        """All numbers that it puts on a panel."""
        return np.concatenate([np.empty(0), *(curve.y for curve in self.curves if curve.panel == panel)])


def convergence_data(
    histories: Mapping[str, History] | History,
    x: str = "iteration",
    panels: str | Sequence[str] = AUTO,
    points: int = POINTS,
    recorded: int | None = None,
) -> list[RunCurves]:
    """The curves of one or several runs, thinned to what a screen can show.

    x: a key of X_AXES, or what `priced` names; panels: "auto" or names of PANELS. recorded: up to so many points
    carry their records, whose texts cost more than all curves; None for no such limit. Raises ArgumentError for others.
    """
    runs = named(histories)
    rows = chosen_panels(runs, panels)
    best = min((float(np.min(loss)) for h in runs.values() if (loss := _finite(h.loss)).size), default=0.0)
    own = {row.removeprefix(_METRIC) for row in rows if row.startswith(_METRIC)}
    shared = [name for name in _metric_names(runs.values()) if name not in own]
    return [_run_curves(name, history, x, rows, best, points, recorded, shared) for name, history in runs.items()]


def chosen_panels(histories: Mapping[str, History] | History, panels: str | Sequence[str] = AUTO) -> tuple[str, ...]:
    """The names of the panels to draw, from "auto" or from a choice; "metrics" becomes a panel for each of them.

    Raises ArgumentError for unknown ones.
    """
    runs = list(named(histories).values())
    if panels == AUTO:
        return tuple(_automatic(runs))
    names = (panels,) if isinstance(panels, str) else tuple(panels)
    unknown = [name for name in names if name not in PANELS and not name.startswith(_METRIC)]
    if unknown or not names:
        raise ArgumentError(
            f"panels={panels!r} is not known; choose {AUTO!r} or some of {', '.join(map(repr, PANELS))}"
        )
    each = [row for name in names for row in (_metric_panels(runs) if name == "metrics" else [name])]
    return tuple(dict.fromkeys(each))


def panel_row(name: str) -> Panel:
    """The row of a panel that `chosen_panels` names."""
    return PANELS.get(name) or _METRIC_ROWS.get(name) or Panel(name.removeprefix(_METRIC), None)


def drawn_log(name: str, values: Floats) -> bool:
    """Whether a log axis serves these values on this panel: all positive; the user's own numbers, over two decades."""
    if not panel_row(name).log or not values.size or not (values > 0).all():
        return False
    users = name == "metrics" or name not in {*PANELS, *_METRIC_ROWS}
    return not users or bool(values.max() > 100 * values.min())


def missing_words(panels: Iterable[str], runs: Sequence[RunCurves]) -> dict[str, str]:
    """What is said on each panel without numbers: nothing before the first iteration."""
    begun = ", ".join(run.name for run in runs if run.begun)
    empty = [panel for panel in panels if not any(run.values(panel).size for run in runs)]
    return {panel: panel_row(panel).missing.format(names=begun) if begun else "" for panel in empty}


def _automatic(histories: list[History]) -> Iterator[str]:
    def reported(panel: str) -> bool:
        return any(
            _has_curve(history, panel) or (history.message is None and panel in _expected(history.method))
            for history in histories
        )

    yield "loss"
    if reported("gradient norm"):
        yield "gradient norm"
    if reported("KKT residual"):
        yield "KKT residual"
    if reported("trust radius"):
        yield from ("trust radius", *(["reduction ratio"] if reported("reduction ratio") else []))
    elif not any(history.method in GLOBAL_METHODS for history in histories):
        yield "step norm"
    if reported("constraint violation"):
        yield "constraint violation"
    if _metric_names(histories):
        yield from _metric_panels(histories)
    if any(history.method in GLOBAL_METHODS for history in histories):
        yield "closure calls"


def _has_curve(history: History, panel: str) -> bool:
    """Of a search: numbers at most iterations, and not only that all points were feasible."""
    column = PANELS[panel].column
    assert column is not None
    values = _finite(history.column(column))
    if history.method not in GLOBAL_METHODS:
        return bool(values.size)
    return 1 < values.size > len(history) / 2 and (panel != "constraint violation" or bool(values.any()))


def _expected(method: str) -> tuple[str, ...]:
    """The panels for which a method will have numbers, so that nothing moves when the first ones come."""
    row = METHODS.get(method)
    if row is None:
        return ()
    gradient = ("gradient norm",) if row.gradient != "none" else ()
    radius = {"none": (), "loop": ("trust radius", "reduction ratio")}.get(row.radius, ("trust radius",))
    return *gradient, *radius


def _metric_panels(histories: Sequence[History]) -> list[str]:
    names = _metric_names(histories)
    own = [f"{_METRIC}{name}" for name in names[:OWN_METRICS]]
    return own if own and len(names) == len(own) else [*own, "metrics"]


def _metric_names(histories: Iterable[History]) -> list[str]:
    """A search's numbers that say nothing new have no panel."""
    named = ((history.method in GLOBAL_METHODS, name) for history in histories for name in history.metrics)
    return list(dict.fromkeys(name for search, name in named if not (search and name in _REPEATED)))


def x_values(history: History, x: str) -> Floats:
    """What an x axis shows of each iteration: a key of X_AXES, or what `priced` names. Raises ArgumentError."""
    if x not in X_AXES and not is_priced(x):
        raise ArgumentError(f"x={x!r} is not known; choose one of {', '.join(map(repr, X_AXES))}")
    left = history.origin
    if x in X_AXES:
        column = X_AXES[x]
        return history.column(column).astype(np.float64) + (0 if left is None else getattr(left, column))
    return priced_values(history, x)


def whole_numbers(x: str) -> bool:
    """Whether what an x axis shows comes in whole numbers."""
    return x in ("iteration", "closure calls")


def named(histories: Mapping[str, History] | History) -> Mapping[str, History]:
    """One history under its method's name, or those that have names already."""
    return {histories.method: histories} if isinstance(histories, History) else histories


def thin(y: Floats, points: int = POINTS) -> NDArray[np.int64]:
    """Which of the values to draw: the lowest and the highest of each stretch, and the ends; at most about `points`.

    Stretches are 2, 4, 8, … values long, counted from the first, so that a curve that grows by a few values keeps the
    points that are drawn but for the last ones, until the stretches double.
    """
    if y.size <= points:
        return np.arange(y.size)
    length = 2
    while 2 * -(-y.size // length) > max(points, 4) - 2:
        length *= 2
    stretches = np.pad(y, (0, -y.size % length), mode="edge").reshape(-1, length)
    first = length * np.arange(len(stretches))
    extremes = np.stack([first + stretches.argmin(axis=1), first + stretches.argmax(axis=1)], axis=1)
    rows = np.concatenate([[0], np.minimum(np.sort(extremes, axis=1).ravel(), y.size - 1), [y.size - 1]])
    rows = rows[np.append(True, rows[1:] > rows[:-1])]  # np.unique would sort what is in order
    return np.asarray(rows, dtype=np.int64)


def _run_curves(
    name: str,
    history: History,
    x: str,
    panels: Sequence[str],
    best: float,
    points: int,
    recorded: int | None,
    shared: Sequence[str],
) -> RunCurves:
    at = x_values(history, x)
    curves = tuple(
        _curve(panel, kind, label, at, y, points)
        for panel in panels
        for kind, label, y in _series(panel, history, best, shared)
    )
    with_records = bool(curves) and (recorded is None or curves[0].rows.size <= recorded)
    records = _records(history, curves[0].rows) if with_records else ()
    return RunCurves(name, curves, records, begun=at.size > 0)


def _series(panel: str, history: History, best: float, shared: Sequence[str]) -> Iterator[tuple[str, str, Floats]]:
    """Kind, label and values over all iterations of each curve of a panel."""
    if panel.startswith(_METRIC):
        values = history.metrics.get(panel.removeprefix(_METRIC))
        if values is not None:
            yield LINE, "", values
    elif panel == "metrics":
        for name in shared:
            if name in history.metrics:
                yield LINE, name, history.metrics[name]
    elif panel == "loss - best":
        excess = history.loss - best
        yield LINE, "", np.where(excess > 0, excess, np.nan)  # the best point itself has no place on a log axis
    else:
        column = PANELS[panel].column
        assert column is not None
        yield RATIO if panel == RATIO else LINE, "", history.column(column).astype(np.float64)
    if panel == "trust radius":
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
