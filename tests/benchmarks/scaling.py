"""How the work of an iteration outside the closure grows with N, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from tests.benchmarks.contenders import METHODS, floor, ours
from tests.benchmarks.problems import Problem, mlp
from torchmin_nb.core.display.tables import text_table
from torchmin_nb.errors import MemoryBudgetError

__all__ = ["scaling_table"]

SIZES = ((4, 14, 2), (20, 32, 10), (784, 12, 10), (784, 126, 10))
"""Of networks with about 10², 10³, 10⁴ and 10⁵ parameters."""
ITERATIONS = {"BFGS": 5, "L-BFGS": 20, "trust-ncg": 8}
LARGEST = {"BFGS": 10_000}
"""Above it, the matrices of BFGS take more memory than most machines have."""


def scaling_table(repeats: int) -> str:
    """Seconds of an iteration without the closure and the products, in closure calls: medians over the rounds."""
    problems = [mlp(sizes, 200) for sizes in SIZES]
    head = ("", *(f"N = {problem.n:,}" for problem in problems))
    rows = [("a closure call, ms", *(f"{1e3 * _call(problem):.2g}" for problem in problems))]
    return text_table([head, *rows, *_rows(problems, repeats)])


def _rows(problems: list[Problem], repeats: int) -> Iterator[tuple[str, ...]]:
    for method in ITERATIONS:
        for engine in ("scipy", "torch"):
            cells = [_cell(problem, method, engine, repeats) for problem in problems]
            yield (f"{METHODS[method].scipy}, engine={engine!r}", *cells)


def _cell(problem: Problem, method: str, engine: str, repeats: int) -> str:
    if problem.n > LARGEST.get(method, problem.n):
        return "–"
    iterations, shares = ITERATIONS[method], []
    for _ in range(repeats):
        try:
            run = ours(problem, METHODS[method], iterations, engine=engine, start_check=False)
        except MemoryBudgetError:
            return "–"
        alone = floor(problem, run.calls, run.products or 0)
        shares.append((run.seconds - alone.seconds) / iterations / _call(problem))
    return f"{median(shares):.2g}"


def _call(problem: Problem) -> float:
    """Seconds of a closure call, after a first one."""
    floor(problem, 1, 0)
    return floor(problem, 20, 0).seconds / 20
