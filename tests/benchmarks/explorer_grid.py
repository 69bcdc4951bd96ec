"""Every method on every problem, through the explorer: python -m tests.benchmarks.explorer_grid [problem …]

A line a pair: solved, not solved, without a known answer, failed, or disabled with the reason. It takes an hour.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

from torchmin_nb.explore import catalogue
from torchmin_nb.problems import PROBLEMS
from torchmin_nb.views import MethodExplorer

SECONDS = 20


def outcomes(explorer: MethodExplorer, problem: str) -> Iterator[tuple[str, str, str]]:
    """(method, outcome, words) of each method on a problem."""
    explorer.problem.value = problem
    fits = explorer._bench.form.method.fits
    for name in catalogue():
        if not fits[name]:
            yield name, "disabled", fits[name].reason
            continue
        explorer.method.value = name
        explorer.run_button.click()
        explorer.wait()
        row = explorer.table.rows[-1]
        told = {True: "solved", False: "not solved", None: "no known answer"}[row.solved]
        yield (
            name,
            "failed" if row.failed else told,
            f"loss {row.loss}, {row.closure_calls:,} closure calls, {row.reason}",
        )
    explorer.compare.view.chosen = list(explorer.table.names)
    explorer.compare.delete.click()


def main(problems: list[str]) -> None:
    """The grid, and how often each outcome came."""
    explorer = MethodExplorer()
    explorer.budget.seconds.value = str(SECONDS)
    counted: Counter[str] = Counter()
    for problem in problems or list(PROBLEMS):
        for name, outcome, words in outcomes(explorer, problem):
            counted[outcome] += 1
            print(f"{problem:22s} {name:24s} {outcome:16s} {words}", flush=True)
    print(dict(counted))
    explorer.close()


if __name__ == "__main__":
    main(sys.argv[1:])
