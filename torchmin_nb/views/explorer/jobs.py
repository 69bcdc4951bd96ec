"""Work in another thread: a run, a race, the sampling of a plane. No widgets."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import suppress

from ...analysis.profiles import Profile, cost_table, performance_profile
from ...core.execution.run import FAILED, FINISHED, PAUSED, STOPPED, Run
from ...core.history.history import History
from ...core.optimizers.common import Common
from ...core.runtime.workers import WorkerThread
from ...explore import Call, Race, RunRow, build, row_of
from ...explore.ranking import Ranking, race_ranking
from ...problems import Problem
from .stage import Stage

__all__ = ["Job", "RaceJob", "RunJob", "SamplingJob", "keeps"]

_MEMORY = 256e6
_UNLIMITED = 10_000
_EVALUATIONS = 50
"""Above so many parameters, trial points are not kept: nothing draws them."""


def keeps(n: int, iterations: int | None) -> Common:
    """What of a run is kept to be drawn: its trajectory, while that takes 256 MB at most."""
    whole = 8.0 * n * (iterations or _UNLIMITED) <= _MEMORY
    return {"keep_parameters": whole, "keep_evaluations": whole and n <= _EVALUATIONS}


class RunJob:
    """One run of a call in a thread of its own. Raises what making the problem and the optimizer raises."""

    def __init__(self, call: Call, name: str, *, paused: bool = False):
        self.call = call
        self.name = name
        self.problem: Problem = call.make()
        optimizer, closure = build(call, self.problem, **keeps(self.problem.n, call.max_iterations))
        self.run: Run = optimizer.start(closure, pace=call.pace, paused=paused)

    @property
    def history(self) -> History:
        """What there is of it so far."""
        return self.run.history

    @property
    def ended(self) -> bool:
        """Whether it is over, however it ended."""
        return self.run.state in (STOPPED, FINISHED, FAILED)

    @property
    def state(self) -> str:
        """Of the run; one that waits for its start is paused, to a reader."""
        state = self.run.state
        return PAUSED if state == "pending" and self.run.wait_until_paused(0) else state

    @property
    def seen(self) -> Hashable:
        """Another value whenever there is something new to see."""
        return len(self.history), self.state

    def stop(self) -> None:
        """End it at the best point seen."""
        self.run.stop()

    @property
    def error(self) -> BaseException | None:
        """What ended it, if not the method or a stop."""
        return self.run.exception

    @property
    def row(self) -> RunRow:
        """Its row, once it has ended."""
        return row_of(self.call, self.history, self.problem, name=self.name, error=self.error)


class RaceJob:
    """A race in a thread: its rows come through `take`, one by one.

    workers: number of processes. price: of a product, in closure calls.
    """

    def __init__(self, calls: Sequence[Call], names: Sequence[str], *, workers: int = 1, price: float = 2.0):
        self.calls = tuple(calls)
        self.rows: list[RunRow] = []
        self.error: BaseException | None = None
        self.at = 0
        self._price = price
        keep = _small(calls)
        self._race = Race(self.calls, names=names, workers=workers, on_begin=self._began, keep_parameters=keep)
        self._taken = 0
        self._thread = WorkerThread(self._work, name="torchmin_nb race", stop=self._race.stop)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether no run is left."""
        return not self._thread.is_alive()

    @property
    def seen(self) -> Hashable:
        """Another value whenever there is something new to see."""
        return self.at, len(self.rows)

    @property
    def words(self) -> str:
        """Which run is under way."""
        call = self.calls[min(self.at, len(self.calls) - 1)]
        return f"Run {self.at + 1} of {len(self.calls)}: {call.label} on {call.title}."

    def take(self) -> list[RunRow]:
        """The rows that have come since the last call."""
        new = self.rows[self._taken :]
        self._taken += len(new)
        return new

    def profile(self) -> Profile | None:
        """How the methods compare over the problems and starts; None where there was but one."""
        runs: dict[str, dict[str, History]] = {}
        for row in self.rows:
            runs.setdefault(row.call.instance, {})[row.label] = row.history
        if len(runs) < 2:
            return None
        known = {row.call.instance: row.call.make(place=False).best_loss for row in self.rows}
        best = {name: loss for name, loss in known.items() if loss is not None}
        return performance_profile(cost_table(runs, best_losses=best))

    def ranking(self) -> Ranking:
        """Which method was the first, by what it spent until its loss was as low as the best."""
        return race_ranking(self.rows, self._price)

    def stop(self) -> None:
        """End the run under way, and begin no other."""
        self._race.stop()

    def _began(self, index: int, _: Call) -> None:
        self.at = index

    def _work(self) -> None:
        try:
            for row in self._race:
                self.rows.append(row)
        except BaseException as error:
            self.error = error


class SamplingJob:
    """Evaluates the loss over a plane of the stage, through a run of this name."""

    seen: Hashable = None

    def __init__(self, stage: Stage, view: str, name: str, history: History):
        self.stage = stage
        self.error: Exception | None = None
        self._plane = (view, name, history)
        self._thread = WorkerThread(self._work, name="torchmin_nb plane", stop=self.stop)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the plane is there, or an error."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """The job continues to its end, and reports nothing more."""

    def _work(self) -> None:
        try:
            self.stage.sample_plane(*self._plane)
        except Exception as error:
            self.error = error


Job = RunJob | RaceJob | SamplingJob
"""All have `ended`, `seen`, `error` and `stop()`."""


def _small(calls: Sequence[Call]) -> bool:
    """Whether all trajectories of a race can be kept."""
    sizes = []
    for call in calls:
        with suppress(Exception):  # its row will say what is wrong
            sizes.append(call.make(place=False).n * (call.max_iterations or _UNLIMITED))
    return 8.0 * sum(sizes) <= _MEMORY
