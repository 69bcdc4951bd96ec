"""Performance and data profiles over published test sets: `python -m tests.benchmarks.profiles [--set mgh nist hs]`.

Each solver runs each problem of a set once. What it needed is kept in profiles.json; the tables and pictures of
README.md are made from it. `--solvers` runs those with one of the given words in their name, and keeps the numbers of
the others; `--draw` runs none.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch

from tests.benchmarks.solvers import BUDGETS, FAMILIES, TAUS, FinishedError, Meter, Solver, Task, solvers_of, tasks_of
from tests.benchmarks.solvers import costs as costs_of
from torchmin_nb.analysis import Profile, data_profile, performance_profile
from torchmin_nb.core.runtime.blas_threads import blas_threads
from torchmin_nb.views import chart_picture
from torchmin_nb.views.profile_chart import profile_chart

__all__ = ["Kept", "measure", "run", "run_all"]

HERE = Path(__file__).parent
RECORD, README, PICTURES = HERE / "profiles.json", HERE / "README.md", HERE / "pictures"
BEGIN, END = "<!-- profiles: made by make bench -->\n", "<!-- profiles: end -->\n"
SETS = {"mgh": "Moré–Garbow–Hillstrom", "nist": "NIST regressions", "hs": "Hock–Schittkowski"}
PACKAGES = ("torch", "scipy", "numpy", "pytorch-minimize")
Costs = dict[str, dict[str, float]]


class Kept(NamedTuple):
    """What a set has in the record. dimensions: n by problem. cost: by solver and τ, for each problem."""

    dimensions: dict[str, int]
    families: dict[str, str]
    cost: dict[str, dict[str, list[float]]]

    def table(self, tau: float, solvers: Sequence[str]) -> Costs:
        """cost[problem][solver], as the profiles take it."""
        return {
            problem: {solver: self.cost[solver][f"{tau:g}"][row] for solver in solvers}
            for row, problem in enumerate(self.dimensions)
        }


def measure(solver: Solver, tasks: Sequence[Task], budget: float) -> dict[str, list[float]]:
    """By τ, what a solver needed on each task; infinity where it did not pass. budget: for each of n + 1."""
    found = []
    for task in tasks:
        meter = Meter(task, budget * (task.n + 1))
        with warnings.catch_warnings(), blas_threads(1), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                solver.run(meter)
            except FinishedError:
                pass
            except Exception as error:  # a solver that fails has what it had until then
                print(f"{solver.name}: {task.name}: {type(error).__name__}: {str(error).splitlines()[0][:90]}")
        found.append(costs_of(task, meter))
    return {f"{tau:g}": [each[tau] for each in found] for tau in TAUS}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", dest="sets", nargs="+", choices=SETS, default=tuple(SETS))
    parser.add_argument("--solvers", nargs="+", default=("",), help="words of their names; default: all")
    parser.add_argument("--draw", action="store_true", help="from the record, without runs")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    for name in () if asked.draw else asked.sets:
        run(name, asked.solvers)
    write()


def run(name: str, words: Sequence[str] = ("",)) -> None:
    """Run a set, and put the numbers of each solver into the record when it is through."""
    tasks, solvers = tasks_of(name), solvers_of(name)
    for solver in solvers:
        if not any(word in solver.name for word in words):
            continue
        found = measure(solver, tasks, BUDGETS[name])
        print(_line(name, solver, found), flush=True)
        kept = read()
        dimensions = {task.name: task.n for task in tasks}
        before = kept.get(name, Kept({}, {}, {}))
        costs = {**before.cost, solver.name: found}
        kept[name] = Kept(
            dimensions,
            {each.name: each.family for each in solvers if each.name in costs},
            {each.name: costs[each.name] for each in solvers if each.name in costs},
        )
        store(kept)


def run_all(share: float = 1.0) -> None:
    """All sets. share: of the problems; if it is less than 1, nothing is written."""
    for name in SETS:
        if share == 1:
            run(name)
            continue
        tasks = tasks_of(name)[:: round(1 / share)]
        for solver in solvers_of(name):
            print(_line(name, solver, measure(solver, tasks, BUDGETS[name])), flush=True)
    if share == 1:
        write()


def _line(name: str, solver: Solver, found: Mapping[str, Sequence[float]]) -> str:
    shares = ", ".join(f"{_solved(costs)} at τ = {tau}" for tau, costs in found.items())
    return f"{name}: {solver.name}: of {len(next(iter(found.values())))} problems {shares}"


def _solved(costs: Sequence[float]) -> int:
    return sum(map(math.isfinite, costs))


# The record


def read() -> dict[str, Kept]:
    """By set."""
    if not RECORD.exists():
        return {}
    given = json.loads(RECORD.read_text(encoding="utf-8"))["sets"]
    return {
        name: Kept(
            kept["n"],
            kept["families"],
            {
                solver: {tau: [math.inf if cost is None else cost for cost in costs] for tau, costs in by.items()}
                for solver, by in kept["cost"].items()
            },
        )
        for name, kept in given.items()
    }


def measured_on() -> str:
    """The machine of the record."""
    return str(json.loads(RECORD.read_text(encoding="utf-8"))["machine"])


def machine() -> str:
    """Cores and versions, without names of a host."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    versions = ", ".join(f"{name} {number}" for name, number in found.items())
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {versions}"


def store(kept: Mapping[str, Kept]) -> None:
    """One line for each solver and τ."""
    sets: dict[str, Any] = {}
    for name, each in kept.items():
        cost = {
            solver: {tau: [int(c) if math.isfinite(c) else None for c in costs] for tau, costs in by.items()}
            for solver, by in each.cost.items()
        }
        sets[name] = {"n": each.dimensions, "families": each.families, "cost": cost}
    text = json.dumps({"machine": machine(), "sets": sets}, indent=1, ensure_ascii=False)
    flat = re.sub(r"\[[^\[\]]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text)
    RECORD.write_text(flat + "\n", encoding="utf-8")


# Tables and pictures, from the record


def write() -> None:
    """The block of README.md that is made from the record, and its pictures."""
    kept = read()
    for name, each in kept.items():
        for group in groups(name, each):
            draw(group)
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    README.write_text(before + BEGIN + block(kept) + END + rest.partition(END)[2], encoding="utf-8")


class Group(NamedTuple):
    """The methods of a set that are compared with each other. solvers: a name in `kept` for each row."""

    slug: str
    title: str
    kept: Kept
    solvers: list[str]

    @property
    def performance(self) -> Profile:
        return performance_profile(self.kept.table(min(TAUS), self.solvers))

    @property
    def data(self) -> Profile:
        return data_profile(self.kept.table(max(TAUS), self.solvers), self.kept.dimensions)


def groups(name: str, kept: Kept) -> list[Group]:
    """The families of "mgh"; the other sets whole. torchmin_nb's methods, and those of peers that it has no twin of."""
    own = [solver for solver in kept.cost if _twin_of(solver, kept.cost) is None]
    if name != "mgh":
        return [Group(name, SETS[name], kept, own)]
    return [
        Group(f"{name}-{family.replace(' ', '-')}", f"{SETS[name]}, {family}", kept, members)
        for family in FAMILIES
        if (members := [solver for solver in own if kept.families[solver] == family])
    ]


COLUMNS = ("torch engine", "plain SciPy", "pytorch-minimize")


def _twin_of(solver: str, known: Mapping[str, Any]) -> tuple[str, str] | None:
    """The method that a solver is another implementation of, and its column; None if it is a row of its own."""
    method, column = solver, ""
    if solver.endswith(", torch engine"):
        method, column = solver.removesuffix(", torch engine"), "torch engine"
    elif solver.startswith("SciPy "):
        method, column = solver.removeprefix("SciPy "), "plain SciPy"
    elif solver.startswith("pytorch-minimize "):
        method, column = solver.removeprefix("pytorch-minimize "), "pytorch-minimize"
        method = {"l-bfgs": "L-BFGS-B", "cg": "CG", "bfgs": "BFGS", "newton-cg": "Newton-CG"}.get(method, method)
    return (method, column) if column and method in known else None


def block(kept: Mapping[str, Kept]) -> str:
    """Machine, tables and pictures as Markdown."""
    shown = (line for name in SETS if name in kept for group in groups(name, kept[name]) for line in _shown(group))
    return "\n".join([f"Measured on {measured_on()}.", "", *shown])


def _shown(group: Group) -> Iterator[str]:
    yield from (f"### {group.title}", "", *rows(group), "")
    for kind, profile in (("performance", group.performance), ("data", group.data)):
        yield from (f"![{words(kind, group, profile)}](pictures/{group.slug}-{kind}.svg)", "")


def rows(group: Group) -> Iterator[str]:
    """A line of Markdown for each method. Shares are of all problems; × is the median cost, by that of the row."""
    kept, profile = group.kept, group.performance
    twins = {_twin_of(solver, kept.cost): solver for solver in kept.cost}
    columns = [column for column in COLUMNS if any((method, column) in twins for method in group.solvers)]
    head = ("", *(f"τ = {_power(tau)}" for tau in TAUS), "within 2 ×", "within 10 ×", *columns)
    yield f"| {' | '.join(head)} |"
    yield f"| --- |{' ---: |' * (len(head) - 1)}"
    for method in sorted(group.solvers, key=lambda each: -profile.at(each, math.inf)):
        costs = kept.cost[method]
        cells = [_share(_solved(costs[f"{tau:g}"]) / profile.problems) for tau in TAUS]
        cells += [_share(profile.at(method, factor)) for factor in (2, 10)]
        last = f"{min(TAUS):g}"
        cells += [
            _beside(kept.cost.get(twins.get((method, column), ""), {}).get(last), costs[last]) for column in columns
        ]
        yield f"| {' | '.join([method, *cells])} |"


def _beside(costs: Sequence[float] | None, own: Sequence[float]) -> str:
    if costs is None:
        return "–"
    ratios = [cost / mine for cost, mine in zip(costs, own, strict=True) if math.isfinite(cost + mine)]
    share = _share(_solved(costs) / len(costs))
    return f"{share}, {np.median(ratios):.2f} ×" if ratios else share


def _share(share: float) -> str:
    return f"{100 * share:.0f} %"


def _power(tau: float) -> str:
    return f"10{str(round(math.log10(tau))).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def words(kind: str, group: Group, profile: Profile) -> str:
    """What a picture shows, for those who do not see it."""
    ends = ", ".join(f"{solver} {_share(profile.at(solver, math.inf))}" for solver in group.solvers)
    return f"{kind.capitalize()} profile, {group.title}: share of {profile.problems} problems solved in the end: {ends}"


def draw(group: Group) -> None:
    """Both profiles, as SVG that is legible at 390 pixels."""
    PICTURES.mkdir(exist_ok=True)
    for kind, profile, tau in (("performance", group.performance, min(TAUS)), ("data", group.data, max(TAUS))):
        chart = profile_chart(profile, f"{kind.capitalize()} profile: {group.title}, τ = {_power(tau)}")
        low, high = chart.x.range or (1.0, 10.0)
        unit = "cost / (n + 1)" if kind == "data" else "cost relative to the best"
        chart = chart._replace(x=chart.x._replace(title=unit, log=True, range=(max(low, 0.3), high)), notes=())
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": group.slug}):
            picture = chart_picture(chart, width=5.2, height=4.4)
            picture.savefig(PICTURES / f"{group.slug}-{kind}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
