"""A race: which methods, on which problems, from how many starts; and the calls that these stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ipywidgets as widgets

from ...core.runtime.processes import cores
from ...explore import Call, Entry, Traits, fit, groups, traits
from ...explore.catalogue import LOCAL
from ...problems import PROBLEMS
from .fields import Checks, Choice
from .parts import button, column, line, row

__all__ = ["RacePanel", "race_calls", "race_names"]


class RacePanel:
    """Ticks for methods and problems, and a button that calls `race()`."""

    def __init__(self, race: Callable[[], None]):
        self._rows: dict[str, Entry] = {}
        self._usual: list[str] = []
        self.methods = Checks(
            label="Methods, from the same start and with the same budget", every="all that fit this problem"
        )
        self.problems = Checks(label="Further problems, for a performance profile")
        self.starts = _number("Starts", "1: the start chosen above; n: the starts of the seeds 0 to n - 1", 50)
        self.workers = _number(
            "Processes",
            "How many runs go on at a time, each in a process of its own; 1: one after another",
            cores(),
        )
        self.go = button("Race", "Run the selected methods one after another", race, "primary", "8em")
        self.message = line("", "tm-note")
        groups: dict[str, list[Choice]] = {}
        for spec in PROBLEMS.values():
            groups.setdefault(spec.group, []).append(Choice(spec.name, spec.name))
        self.problems.offer(groups)
        more = widgets.Accordion([self.problems], titles=("More problems",), selected_index=None)
        self.drawer = column(row(self.go, self.starts, self.workers, self.message, name="tm-bar"), self.methods, more)

    def offer(self, known: Traits) -> None:
        """Put up the methods that fit such a problem, by each of their engines.

        Until a person chooses others, the local ones by SciPy are ticked.
        """
        untouched = self.methods.value == self._usual
        rows = {family: _by_each_engine(entries) for family, entries in groups().items()}
        self._rows = {row.label: row for entries in rows.values() for row in entries}
        self.methods.offer(
            {
                family: [Choice(row.label, row.label, fit(row, known).reason) for row in entries]
                for family, entries in rows.items()
            }
        )
        local = [label for label, row in self._rows.items() if row.kind == LOCAL and row.engine == "scipy"]
        self._usual = [label for label in self.methods.enabled if label in local]
        if untouched:
            self.methods.value = self._usual

    def calls(self, call: Call, options: Callable[[str, str], Mapping[str, Any]]) -> list[Call]:
        """The runs of the ticked methods on the ticked problems; options(method, engine) are each one's own."""
        rows = [self._rows[label] for label in self.methods.value]
        return race_calls(
            replace(call, pace=0.0),
            rows,
            problems=list(self.problems.value),
            starts=self.starts.value,
            options={row.label: options(row.name, row.engine) for row in rows},
        )


def _number(name: str, tooltip: str, most: int) -> Any:
    return widgets.BoundedIntText(
        1,
        min=1,
        max=most,
        description=name,
        tooltip=tooltip,
        style={"description_width": "initial"},
        layout=widgets.Layout(width="130px", margin="0"),
    )


def _by_each_engine(entries: Sequence[Entry]) -> list[Entry]:
    return [entry.on(engine) for entry in entries for engine in entry.engines]


def race_calls(
    call: Call,
    rows: Sequence[Entry],
    *,
    problems: list[str] | None = None,
    starts: int = 1,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Call]:
    """Each method, by the engine of its row, from each start of each problem, with the dtype and the budgets of `call`.

    problems: more names of PROBLEMS; pairs that do not fit are left out there. starts: above 1, the starts of the seeds
    0, 1, …. options: by the label of the row; one that is not in it has its defaults.
    """
    calls = [call, *(_moved(call, name) for name in problems or [] if name != call.problem)]
    race = []
    for each in calls:
        fitting = rows if each is call else _fitting(each, rows)
        for seed in range(starts) if starts > 1 else [each.seed]:
            placed = each if starts == 1 else replace(each, seed=seed, start=None)
            race += [placed.with_method(row.name, (options or {}).get(row.label), engine=row.engine) for row in fitting]
    return race


def race_names(calls: Sequence[Call]) -> list[str]:
    """What the runs are called: by their methods and engines, and by their problems where there are several."""
    several = len({call.instance for call in calls}) > 1
    return [f"{call.label} · {call.title} · seed {call.seed}" if several else call.label for call in calls]


def _moved(call: Call, problem: str) -> Call:
    return replace(call, problem=problem, settings={}, start=None, seed=0, bounds=True, constraints=True, pace=0.0)


def _fitting(call: Call, rows: Sequence[Entry]) -> list[Entry]:
    known = traits(call.make(), call.spec)
    return [row for row in rows if fit(row, known)]
