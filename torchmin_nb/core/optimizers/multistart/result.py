"""What came out of many starts: the runs, best first, and the distinct minima that they found."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds

from ....errors import ArgumentError
from ...display.html import Html, html, joined
from ...display.tables import number_text, text_table
from ...execution.result import Result
from ...history.history import History
from ...objective.constraints import FEASIBLE
from .screening import Screening

__all__ = ["Minimum", "MultiStart", "StartRun", "Tolerances"]

Floats = NDArray[np.float64]

_SHOWN = 20


@dataclass(frozen=True, eq=False)
class StartRun:
    """The run from one start.

    Attributes
    ----------
    index : int
        Number of the start, from 0, in the order of the starts.
    start : ndarray of shape (n,)
        Where it started.
    history : History
        Its iterations.
    result : Result or None
        Its result, at the best point if it failed; None if it failed before the first closure call.
    error : str or None
        The error that it raised, with its type; None without one.

    See Also
    --------
    multistart : makes it, and has an example.
    """

    index: int
    start: Floats
    history: History
    result: Result | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """'start 3'."""
        return f"start {self.index}"

    @property
    def failed(self) -> bool:
        """Whether it raised an error."""
        return self.error is not None

    @property
    def success(self) -> bool:
        """Whether the method reports success."""
        return not self.failed and self.result is not None and bool(self.result.success)

    @property
    def loss(self) -> float:
        """The loss at the end point; NaN if there is none."""
        return math.nan if self.result is None else float(self.result.fun)

    @property
    def x(self) -> Floats:
        """The end point, shape (n,); the start if there is none."""
        return self.start if self.result is None else np.asarray(self.result.x, dtype=np.float64)

    @property
    def feasible(self) -> bool:
        """Whether the end point satisfies bounds and constraints."""
        violation = self.history[-1].constraint_violation if len(self.history) else None
        return violation is None or violation <= FEASIBLE

    @property
    def ending(self) -> str:
        """Why it ended, in words."""
        return self.error or (self.history.message or "").strip()

    def _rank(self) -> tuple[bool, bool, bool, float, int]:
        loss = self.loss
        return self.failed, not self.feasible, math.isnan(loss), 0.0 if math.isnan(loss) else loss, self.index


class Minimum(NamedTuple):
    """A minimum that was found: its loss, its point (n,), and the numbers of the starts that ended there."""

    loss: float
    x: Floats
    starts: tuple[int, ...]


class Tolerances(NamedTuple):
    """Two runs ended at the same minimum if both hold: |x - y| <= x * width for each entry, and their losses differ by
    no more than loss times the larger descent from a start.

    width: of the bounds, infinite without; then it is the scale of the entry, plus |x|. Both have shape (n,).
    """

    x: float
    loss: float
    width: Floats
    scale: Floats

    @classmethod
    def of(cls, x: float, loss: float, boxes: Iterable[Bounds | None], scale: Floats | None, n: int) -> Tolerances:
        """boxes: bounds, of which the first finite width of an entry counts. scale: of the entries, default 1."""
        width = np.full(n, np.inf)
        for box in boxes:
            if box is not None:
                width = np.where(np.isfinite(width), width, box.ub - box.lb)
        return cls(x, loss, width, np.ones(n) if scale is None else scale)

    def same(self, one: StartRun, other: StartRun) -> bool:
        """Whether two runs ended at the same minimum."""
        width = np.where(np.isfinite(self.width), self.width, self.scale + np.abs(one.x))
        descent = max(abs(one.loss), _descent(one), _descent(other))
        return (
            bool((np.abs(one.x - other.x) <= self.x * width).all())
            and abs(one.loss - other.loss) <= self.loss * descent
        )


def _descent(run: StartRun) -> float:
    first = run.history[0].loss if len(run.history) else math.nan
    return first - run.loss if math.isfinite(first) else 0.0


class MultiStart(Sequence[StartRun]):
    """The runs of `multistart`, best first: a sequence, and a table as the last line of a cell.

    The order is by loss; runs that ended outside the constraints come after all others, and failed runs last.

    Parameters
    ----------
    runs : iterable of StartRun
        The runs, in any order.
    tolerances : Tolerances
        When two end points are one minimum.
    total : int
        Number of runs that were asked for.
    screening : Screening or None, optional
        The losses at all starts. Default: they were not computed.
    ended : str, optional
        Why not all starts were run, in words; empty if all were.

    Attributes
    ----------
    minima : tuple of (loss, x, starts)
        The distinct minima, lowest first: loss, point of shape (n,), and the numbers of the starts that ended there.
    total : int
        Number of runs that were asked for.
    ended : str
        Why not all of these were done.
    screened : ndarray of shape (k,) or None
        The losses at all k starts, with ``keep=``.
    together : bool
        Whether these were computed together, under vmap.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    >>> optimizer = MinimizeWrapper([x], "BFGS")
    >>> found = multistart(optimizer, lambda: ((x**2 - 1) ** 2).sum(), [[-2.0], [0.5], [3.0]])
    >>> isinstance(found, MultiStart), len(found), len(found.minima)
    (True, 3, 2)
    """

    def __init__(
        self,
        runs: Iterable[StartRun],
        tolerances: Tolerances,
        total: int,
        *,
        screening: Screening | None = None,
        ended: str = "",
    ):
        self._runs = tuple(sorted(runs, key=StartRun._rank))
        self._minimum_of, self.minima = _clustered(self._runs, tolerances)
        self.total = total
        self.screened = None if screening is None else screening.losses
        self.together = screening is not None and screening.together
        self.ended = ended

    @property
    def best(self) -> StartRun:
        """The best run. ArgumentError is raised if there is no run."""
        if not self._runs:
            raise ArgumentError("no start was run; allow more time, or another start")
        return self._runs[0]

    @property
    def failed(self) -> tuple[StartRun, ...]:
        """The runs that raised an error."""
        return tuple(run for run in self if run.failed)

    @property
    def histories(self) -> dict[str, History]:
        """The histories by name, best first, as `convergence_figure` takes them."""
        return {run.name: run.history for run in self}

    def minimum_of(self, run: StartRun) -> int | None:
        """The number of the minimum at which a run ended.

        Parameters
        ----------
        run : StartRun
            One of the runs.

        Returns
        -------
        int or None
            Its place in `minima`. None if it ended at none: without success, and not where another run had success.
        """
        return self._minimum_of.get(run.index)

    @overload
    def __getitem__(self, index: int) -> StartRun: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[StartRun, ...]: ...
    def __getitem__(self, index: int | slice) -> StartRun | tuple[StartRun, ...]:
        return self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def summary(self) -> str:
        """'20 starts: 3 distinct minima, best loss 0.1 (12 starts), 1 failed'."""
        counted = f"{len(self)} starts" if len(self) == self.total else f"{len(self)} of {self.total} starts"
        best = [run.loss for run in self if not run.failed][:1]
        parts = [
            f"{len(self.minima)} distinct {'minimum' if len(self.minima) == 1 else 'minima'}",
            *(f"best loss {loss:.6g}" for loss in best),
            *([f"{len(self.failed)} failed"] if self.failed else []),
            *([self.ended] if self.ended else []),
        ]
        return f"{counted}: {', '.join(parts)}"

    def __repr__(self) -> str:
        rows = text_table([_HEAD, *map(self._cells, self[:_SHOWN])], align="<>>>>>><")
        return "\n".join(filter(None, [self.summary(), rows if len(self) else "", self._more()]))

    def _repr_html_(self) -> str:
        form = '<th style="text-align:{side}">{text}</th>'
        head = joined(html(form, side=side, text=text) for side, text in zip(_SIDES, _HEAD, strict=True))
        form = "<div><b>{summary}</b><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}</div>"
        rows = joined(map(self._row, self[:_SHOWN]))
        return html(form, summary=self.summary(), head=head, rows=rows, more=self._more())

    def _more(self) -> str:
        return f"… {len(self) - _SHOWN} more" if len(self) > _SHOWN else ""

    def _row(self, run: StartRun) -> Html:
        form = '<td style="text-align:{side};{space}">{text}</td>'
        spaces = ["white-space:nowrap"] * (len(_SIDES) - 1) + ["min-width:12em"]
        columns = zip(_SIDES, spaces, self._cells(run), strict=True)
        cells = joined(html(form, side=side, space=space, text=text) for side, space, text in columns)
        return html("<tr>{cells}</tr>", cells=cells)

    def _cells(self, run: StartRun) -> tuple[str, ...]:
        minimum, totals = self.minimum_of(run), run.history.totals
        last = run.history[-1] if len(run.history) else None
        return (
            run.name,
            number_text(run.loss, ".8g"),
            "–" if minimum is None else str(minimum),
            number_text(None if last is None else last.grad_norm, ".1e"),
            "–" if last is None else f"{last.index:,}",
            "–" if totals is None else f"{totals.nfev:,}",
            "–" if totals is None else f"{totals.seconds:.2f}",
            textwrap.shorten(run.ending, 80, placeholder="…"),
        )


_HEAD = ("run", "loss", "minimum", "gradient norm", "iterations", "closure calls", "seconds", "how it ended")
_SIDES = ("left", *["right"] * 6, "left")


def _clustered(runs: Sequence[StartRun], tolerances: Tolerances) -> tuple[dict[int, int], tuple[Minimum, ...]]:
    """The number of the minimum of each run, by the index of the run, and the minima.

    A run with success ended at a minimum; one without belongs to it if it ended at the same point.
    """
    found: list[list[StartRun]] = []
    for run in (run for run in runs if run.success and run.feasible):
        _join(run, found, tolerances, new=True)
    for run in (run for run in runs if not (run.success or run.failed) and run.feasible and math.isfinite(run.loss)):
        _join(run, found, tolerances, new=False)
    minima = tuple(Minimum(each[0].loss, each[0].x, tuple(sorted(run.index for run in each))) for each in found)
    return {run.index: place for place, each in enumerate(found) for run in each}, minima


def _join(run: StartRun, found: list[list[StartRun]], tolerances: Tolerances, *, new: bool) -> None:
    for each in found:
        if tolerances.same(each[0], run):
            each.append(run)
            return
    if new:
        found.append([run])
