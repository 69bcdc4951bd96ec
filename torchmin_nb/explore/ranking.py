"""The ranks of compared runs: what each has spent until its loss was as low as the best, from each start."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from ..core.history.history import History
from ..core.history.records import Iteration
from ..core.history.verdict import verdict
from ..core.objective.constraints import FEASIBLE
from .contenders import Limits
from .table import RunRow

__all__ = ["CLOSE", "ENOUGH", "Budget", "Compared", "Finished", "Ranking", "race_ranking"]

CLOSE = 1.2
"""Costs up to this ratio count as equal: a recommendation is sure if it is within this of the best on each start."""
ENOUGH = 5
"""Starts that are needed to be sure."""
_APART = 0.05
"""A run is not about as low as another if this share of its decrease from the start is still missing."""
_WORST = 10.0
"""The ratio of costs that counts for a run that does not get as low."""


@dataclass(frozen=True, eq=False)
class Compared:
    """One run of a comparison.

    Attributes
    ----------
    name : str
        The method, with its settings.
    start : int
        Number of the start; 0 is where the model was.
    loss : float
        The lowest loss within the budget; infinite if there is none.
    grad_norm : float or None
        2-norm of the gradient there.
    evaluations : int
        Number of closure calls.
    products : int
        Number of Hessian-vector products.
    cost : float
        What was spent: evaluations and priced products, or seconds.
    seconds : float
        Wall-clock seconds.
    reached : float
        What was spent until the loss was as low as the best of this start; infinite if it never was.
    ended : str
        Why it ended, in words.
    failed : bool
        Whether it raised an error; `ended` has it.
    history : History
        Its iterations.

    See Also
    --------
    compare : makes them, and has an example.
    """

    name: str
    start: int
    loss: float
    grad_norm: float | None
    evaluations: int
    products: int
    cost: float
    seconds: float
    reached: float
    ended: str
    failed: bool
    history: History


@dataclass(frozen=True, eq=False)
class Finished:
    """A run that has ended, before it is known how low the others get. error: what it raised, in words."""

    name: str
    start: int
    history: History
    error: str
    seconds: float


@dataclass(frozen=True)
class Budget:
    """amount: in units of a closure call, or seconds. price: of a product, in closure calls."""

    amount: float
    seconds: bool
    price: float

    @property
    def limits(self) -> Limits:
        """What ends a run at last."""
        return Limits(None, self.amount) if self.seconds else Limits(math.ceil(self.amount), None)

    def spent(self, iteration: Iteration) -> float:
        """What was spent up to this iteration."""
        return iteration.elapsed if self.seconds else iteration.nfev + self.price * iteration.nhvp

    def over(self, iteration: Iteration) -> bool:
        """A callback: whether the budget is spent."""
        return not self.seconds and self.spent(iteration) >= self.amount

    @property
    def unit(self) -> str:
        """In words."""
        return "seconds" if self.seconds else "evaluations"


@dataclass(frozen=True)
class Ranking:
    """Runs that have ended, ranked. names: of all methods. accuracy: share of the decrease that counts as nothing."""

    finished: Sequence[Finished]
    names: Sequence[str]
    budget: Budget
    accuracy: float

    @cached_property
    def rows(self) -> list[Compared]:
        """The runs, by start, best first."""
        rows = []
        for start in sorted({each.start for each in self.finished}):
            runs = [each for each in self.finished if each.start == start]
            level = self._level([each.history for each in runs])
            rows += [self._compared(each, level) for each in runs]
        return sorted(rows, key=lambda row: (row.start, row.failed, row.reached, row.loss))

    @cached_property
    def ratios(self) -> dict[str, list[float]]:
        """By method, what it spent on each start in ratio to the least, where all methods have run."""
        ratios: dict[str, list[float]] = {name: [] for name in self.names}
        for start in {row.start for row in self.rows}:
            runs = [row for row in self.rows if row.start == start]
            if len(runs) == len(self.names) or start == 0:
                least = max(min(row.reached for row in runs), 1e-9)
                for row in runs:
                    ratios[row.name].append(min(row.reached / least, _WORST) if row.reached < math.inf else _WORST)
        return {name: values for name, values in ratios.items() if values}

    @cached_property
    def ranked(self) -> list[tuple[str, float]]:
        """The methods by the mean ratio, geometric over the starts; equal ones by loss, or by seconds."""

        def key(pair: tuple[str, float]) -> tuple[float, float, float]:
            name, ratio = pair
            runs = [row for row in self.rows if row.name == name]
            loss = fmean(min(row.loss, 1e300) for row in runs) if ratio >= _WORST else 0.0
            return round(ratio, 2), loss, sum(row.seconds for row in runs)

        means = [(name, math.exp(fmean(map(math.log, values)))) for name, values in self.ratios.items()]
        return sorted(means, key=key)

    @property
    def best(self) -> Compared | None:
        """The first start's run of the first method."""
        return next((row for row in self.rows if row.start == 0 and row.name == self.ranked[0][0]), None)

    @property
    def doubts(self) -> str:
        """Why the recommendation is not sure, in words; empty if it is: if the first method was the best, or close to
        it, on each of enough starts, was so before the budget decided, and got about as low from each start.
        """
        if self.best is None or not math.isfinite(self.best.loss):
            return "no method lowered the loss"
        name, starts = self.best.name, len({row.start for row in self.rows})
        ratios, runs = self.ratios[name], [row for row in self.rows if row.name == name]
        if starts < ENOUGH:
            return f"seen from {starts} start{'s' * (starts > 1)} only; starts={ENOUGH} tries more"
        if len(ratios) < starts or max(ratios) > CLOSE:
            return f"it was not the best from each of {starts} starts"
        if max(row.reached for row in runs) > self.budget.amount / CLOSE:
            return "the losses still fell when the budget was spent; a larger one tells more"
        low = min(row.loss for row in runs)
        stuck = [row.loss for row in runs if row.loss - low > _APART * (row.history[0].loss - low)]
        if stuck:
            return f"from some starts it ended at a loss of {low:.3g}, from others at {max(stuck):.3g}"
        return ""

    def words(self) -> str:
        """Which method is the first, and how far the next is behind."""
        best = self.best
        if best is None or not math.isfinite(best.loss):
            return "No method lowered the loss. See why each of them ended, and try optimizer.check(closure)."
        words = [f"{best.name}: loss {best.loss:.6g}, reached with {best.reached:.3g} {self.budget.unit}."]
        if len(self.ranked) > 1:
            name, ratio = self.ranked[1][0], self.ranked[1][1] / self.ranked[0][1]
            if ratio >= _WORST / 2:
                words.append(f"The next, {name}, did not get as low within the budget.")
            elif ratio <= CLOSE:
                words.append(f"{name} is as good: it took {ratio:.2f} times as much.")
            else:
                words.append(f"The next, {name}, took {ratio:.1f} times as much.")
        return " ".join(words)

    def cells(self) -> list[list[str]]:
        """A table with one line for each method, best first: its first run, and what all its runs have spent."""
        ranks = [name for name, _ in self.ranked]
        spent = "× least " + self.budget.unit
        head = ["method", "loss", "gradient norm", "evaluations", "products", "seconds", spent, "how it ended"]
        lines = [
            [
                row.name,
                f"{row.loss:.6g}" if math.isfinite(row.loss) else "–",
                "–" if row.grad_norm is None else f"{row.grad_norm:.1e}",
                f"{row.evaluations:,}",
                f"{row.products:,}",
                f"{row.seconds:.2f}",
                _range(self.ratios[row.name]),
                row.ended,
            ]
            for row in sorted((row for row in self.rows if row.start == 0), key=lambda row: ranks.index(row.name))
        ]
        return [head, *lines]

    def _level(self, histories: Sequence[History]) -> float:
        """The loss that counts as the best of one start."""
        lowest = min(map(self._lowest, histories), default=math.inf)
        first = max((history[0].loss for history in histories if len(history)), default=math.inf)
        return lowest + self.accuracy * max(first - lowest, 0.0) if math.isfinite(lowest) else -math.inf

    def _lowest(self, history: History) -> float:
        return min((each.loss for each in self._paid(history)), default=math.inf)

    def _paid(self, history: History) -> Iterator[Iteration]:
        """The feasible iterations within the budget that have a finite loss."""
        return (
            each
            for each in list(history)
            if math.isfinite(each.loss)
            and self.budget.spent(each) <= self.budget.amount
            and (each.constraint_violation or 0.0) <= FEASIBLE
        )

    def _compared(self, finished: Finished, level: float) -> Compared:
        history, totals, paid = finished.history, finished.history.totals, list(self._paid(finished.history))
        lowest = min(paid, key=lambda each: each.loss, default=None)
        last = history[-1] if len(history) else None
        return Compared(
            name=finished.name,
            start=finished.start,
            loss=math.inf if lowest is None else lowest.loss,
            grad_norm=None if lowest is None else lowest.grad_norm,
            evaluations=totals.nfev if totals else 0 if last is None else last.nfev,
            products=totals.nhvp if totals else 0 if last is None else last.nhvp,
            cost=0.0 if last is None else self.budget.spent(last),
            seconds=finished.seconds,
            reached=next((self.budget.spent(each) for each in paid if each.loss <= level), math.inf),
            ended=finished.error or self._ending(history),
            failed=bool(finished.error),
            history=history,
        )

    def _ending(self, history: History) -> str:
        spent = len(history) > 0 and self.budget.spent(history[-1]) >= self.budget.amount
        return "The budget is spent" if spent or "budget" in (history.message or "") else verdict(history).words


def race_ranking(rows: Sequence[RunRow], price: float = 2.0, accuracy: float = 1e-5) -> Ranking:
    """The rows of a race, ranked as `compare` ranks its runs: each problem from each start is a start here."""
    starts = {instance: number for number, instance in enumerate(dict.fromkeys(row.call.instance for row in rows))}
    finished = [
        Finished(row.label, starts[row.call.instance], row.history, row.reason if row.failed else "", row.seconds)
        for row in rows
    ]
    amount = max((row.call.max_evaluations or math.inf for row in rows), default=math.inf)
    return Ranking(finished, list(dict.fromkeys(row.label for row in rows)), Budget(amount, False, price), accuracy)


def _range(ratios: Sequence[float]) -> str:
    """Of all starts; a dash for a run that did not get as low as the best."""
    ends = ["–" if ratio >= _WORST else f"{ratio:.2f}" for ratio in (min(ratios), max(ratios))]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)
