"""Solvers on the device beside other packages and SciPy's engine: `bench --only device`.

A ratio is the time of torchmin_nb with engine="torch" over that of the other, below 1 if it is faster: of a closure
call, or of a whole run where packages compute different products. It is the median over the rounds, in which all take
turns. The start check is on.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from tests.benchmarks.contenders import (
    METHODS,
    Contender,
    NotOffered,
    Outcome,
    on_device,
    torch_lbfgs,
    torchmin_minimizer,
    torchmin_scipy,
    torchmin_scipy_one_thread,
)
from tests.benchmarks.problems import Problem, mlp, softmax
from torchmin_nb import MinimizeWrapper
from torchmin_nb.core.display.tables import text_table

__all__ = ["device_table", "inner_table", "memory"]

ROOT = Path(__file__).parents[2]
OTHERS: dict[str, Contender] = {
    "torch.optim.LBFGS": torch_lbfgs,
    "torchmin.Minimizer": torchmin_minimizer,
    "torchmin.ScipyMinimizer": torchmin_scipy,
    "the same, BLAS on one thread": torchmin_scipy_one_thread,
}


class Case(NamedTuple):
    """A method on a problem. per_call: compare a closure call, not the whole run."""

    make: Callable[[], Problem]
    method: str
    iterations: int
    per_call: bool


SMALL, MIDDLE, LARGE = (
    partial(mlp, (20, 30, 10), 200),
    partial(mlp, (784, 126, 10), 200, torch.float32),
    partial(mlp, (784, 1258, 10), 200, torch.float32),
)
CASES = (
    Case(SMALL, "L-BFGS", 100, per_call=True),
    Case(SMALL, "CG", 100, per_call=True),
    Case(SMALL, "Newton-CG", 15, per_call=False),
    Case(SMALL, "trust-ncg", 15, per_call=False),
    Case(partial(softmax, 784, 10, 500), "trust-ncg", 5, per_call=False),
    Case(MIDDLE, "L-BFGS", 15, per_call=True),
    Case(MIDDLE, "trust-ncg", 4, per_call=False),
    Case(LARGE, "L-BFGS", 15, per_call=True),
    Case(LARGE, "trust-ncg", 4, per_call=False),
)


def device_table(rounds: int, share: float = 1.0) -> str:
    """One row for each case; share: of its iterations."""
    rows = [("method", "parameters", "compared", "ms", *OTHERS)]
    for case in CASES:
        problem, method = case.make(), METHODS[case.method]
        iterations = max(2, round(case.iterations * share))
        times: dict[str, list[float]] = {}
        contenders = {"ours": on_device, **OTHERS}
        for _ in range(1 + rounds):  # the first round warms up
            for name, contender in contenders.items():
                outcome = _outcome(partial(contender, problem, method, iterations))
                if outcome is not None:
                    times.setdefault(name, []).append(outcome.seconds / (outcome.calls if case.per_call else 1))
        ours = times["ours"][1:]
        ratios = [
            f"{median(a / b for a, b in zip(ours, times[name][1:], strict=True)):.2f}" if name in times else "–"
            for name in OTHERS
        ]
        compared = "a call" if case.per_call else f"{iterations} iterations"
        size = f"{problem.n:,} {str(problem.inputs.dtype).removeprefix('torch.')}"
        rows.append((case.method, size, compared, f"{1e3 * median(ours):.3g}", *ratios))
    return text_table(rows)


def inner_table(rounds: int, share: float = 1.0) -> str:
    """BFGS: what an iteration takes beside its closure calls, with SciPy's engine and on the device."""
    iterations = max(2, round(20 * share))
    pairs = [tuple(_inner(engine, iterations) for engine in ("scipy", "torch")) for _ in range(rounds)]
    scipys, ours = (median(column) for column in zip(*pairs, strict=True))
    ratios = [a / b for a, b in pairs]
    return (
        f"BFGS, 940 parameters, an iteration without its closure calls: SciPy {1e3 * scipys:.3g} ms, on the device "
        f"{1e3 * ours:.3g} ms; ratio {median(ratios):.0f}, from {min(ratios):.0f} to {max(ratios):.0f}"
    )


def memory() -> str:
    """Of L-BFGS with ten pairs and 10⁶ parameters, beside what closure calls alone take."""
    peaks = []
    for threshold in ("65536", None):
        environment = {**os.environ, **({} if threshold is None else {"MALLOC_MMAP_THRESHOLD_": threshold})}
        command = [sys.executable, "-c", "from tests.benchmarks.on_device import peak; print(peak())"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout))
    return (
        f"L-BFGS, ten pairs, 1,000,120 parameters: a run takes {peaks[0]:.1f} numbers for each parameter at its peak, "
        f"beside closure calls; {peaks[1]:.1f} if malloc keeps what is freed"
    )


def peak() -> float:
    """The numbers for each parameter that a run takes at its peak, beside closure calls. Linux only."""
    torch.set_num_threads(1)
    minimize_once = MinimizeWrapper([torch.nn.Parameter(torch.ones(3))], "L-BFGS-B", engine="torch")
    minimize_once.step(lambda: (minimize_once.param_groups[0]["params"][0] ** 4).sum())  # imports what a run imports
    problem = LARGE()
    closure = problem.closure(problem.model)
    options = {"maxiter": 25, "ftol": 0, "gtol": 0}
    arguments = {"method": "L-BFGS-B", "options": options}
    optimizer = MinimizeWrapper(problem.model.parameters(), arguments, engine="torch")
    closures_alone = _peak_of(lambda: [closure() for _ in range(3)])
    return (_peak_of(lambda: optimizer.step(closure)) - closures_alone) / 4 / problem.n


def _peak_of(work: Callable[[], object]) -> int:
    """Bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # from now on
    work()
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def _inner(engine: str, iterations: int) -> float:
    """Seconds of an iteration without its closure calls."""
    problem = SMALL()
    model = problem.fresh()
    call, inside = problem.closure(model), [0.0]

    def closure() -> torch.Tensor:
        begun = time.perf_counter()
        loss = call()
        inside[0] += time.perf_counter() - begun
        return loss

    arguments = {"method": "BFGS", "options": {"gtol": 0, "maxiter": iterations}}
    optimizer = MinimizeWrapper(model.parameters(), arguments, engine=engine, start_check=False)
    gc.collect()
    begun = time.perf_counter()
    optimizer.step(closure)
    return (time.perf_counter() - begun - inside[0]) / iterations


def _outcome(run: Callable[[], Outcome]) -> Outcome | None:
    """None if the package is not installed, or does not offer the method."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return run()
        except (ImportError, NotOffered):
            return None
