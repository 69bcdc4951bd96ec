"""How the work of an iteration outside the closure grows with N, on both engines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median

from tests.benchmarks.contenders import METHODS, Outcome, floor, ours
from tests.benchmarks.problems import Problem, mlp
from torchmin_nb.core.display.tables import text_table

__all__ = ["scaling_table"]

SIZES = ((4, 14, 2), (20, 32, 10), (784, 12, 10), (784, 126, 10))
"""Of networks with about 10², 10³, 10⁴ and 10⁵ parameters."""
ITERATIONS = {"BFGS": 5, "L-BFGS": 20, "trust-ncg": 8}
LARGEST = {("BFGS", "scipy"): 2_000, ("BFGS", "torch"): 20_000}
"""SciPy's BFGS multiplies N×N matrices: minutes an iteration at 10⁴. One of them takes 80 GB at 10⁵."""


def scaling_table(repeats: int) -> str:
    """Processor seconds of an iteration without its closure calls and products, in closure calls: medians."""
    problems = [mlp(sizes, 200) for sizes in SIZES]
    head = ("", *(f"N = {problem.n:,}" for problem in problems))
    rows = [("a closure call, processor ms", *(f"{1e3 * _call(problem):.2g}" for problem in problems))]
    return text_table([head, *rows, *_rows(problems, repeats)])


def _rows(problems: list[Problem], repeats: int) -> Iterator[tuple[str, ...]]:
    for method in ITERATIONS:
        for engine in ("scipy", "torch"):
            cells = [_cell(problem, method, engine, repeats) for problem in problems]
            yield (f"{METHODS[method].scipy}, engine={engine!r}", *cells)


def _cell(problem: Problem, method: str, engine: str, repeats: int) -> str:
    if problem.n > LARGEST.get((method, engine), problem.n):
        return "–"
    iterations, shares = ITERATIONS[method], []

    def run() -> Outcome:
        return ours(problem, METHODS[method], iterations, engine=engine, start_check=False)

    first = run()  # not timed
    for _ in range(repeats):
        alone = _seconds(lambda: floor(problem, first.calls, first.products or 0))
        shares.append((_seconds(run) - alone) / iterations / _call(problem))
    share = median(shares)
    return f"{share:.1f}" if share < 10 else f"{share:.0f}"


def _call(problem: Problem) -> float:
    """Seconds of a closure call."""
    floor(problem, 1, 0)
    return _seconds(lambda: floor(problem, 20, 0)) / 20


def _seconds(action: Callable[[], object]) -> float:
    """Of the processor, all threads: on a busy machine they say more than the clock."""
    begun = time.process_time()
    action()
    return time.process_time() - begun
