"""What watching a run costs: in this process, and inside a notebook kernel, where the Dashboard draws."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from torchmin_nb import MinimizeWrapper

from .measure import Row, rounds
from .problems import mlp

__all__ = ["in_kernel", "in_process"]

_ROOT = Path(__file__).parents[2]
_IN_KERNEL = """
import json, torch
torch.set_num_threads({threads})
from tests.benchmarks.watching import dashboard_cost
print(json.dumps(dashboard_cost({calls}, {repeats})))
"""


class Cost(NamedTuple):
    """Seconds spent inside a watcher's methods, of a run that took `run` seconds; `plain` is a run without it."""

    opening: float
    iterations: float
    closing: float
    run: float
    plain: float


class _Stopwatch:
    """Passes everything on to a callback and adds up the time it takes."""

    def __init__(self, watcher: Any):
        self._watcher = watcher
        self.seconds = {"on_start": 0.0, "__call__": 0.0, "on_end": 0.0}

    def on_start(self, history: Any) -> None:
        self._timed("on_start", history)

    def __call__(self, iteration: Any) -> None:
        self._timed("__call__", iteration)

    def on_end(self, history: Any) -> None:
        self._timed("on_end", history)

    def _timed(self, name: str, argument: Any) -> None:
        begun = time.perf_counter()
        getattr(self._watcher, name)(argument)
        self.seconds[name] += time.perf_counter() - begun


def in_process(calls: int, repeats: int) -> list[Row]:
    """No callback, a callback that does nothing, every evaluation kept, and the Dashboard's progress line."""
    settings: dict[str, dict[str, Any]] = {
        "no callback": {},
        "a callback that does nothing": {"callbacks": [lambda iteration: None]},
        "History with keep_evaluations": {"keep_evaluations": True},
    }
    skipped = []
    try:
        from torchmin_nb.views import Dashboard

        settings["Dashboard outside Jupyter: a progress line"] = {"callbacks": [Dashboard()]}
    except ImportError as error:
        skipped = [Row("Dashboard", note=f"skipped: {error}")]
    with contextlib.redirect_stderr(io.StringIO()):
        times = rounds({name: _runner(calls, given) for name, given in settings.items()}, repeats)
    return [*(_against_plain(name, times["no callback"], seconds) for name, seconds in times.items()), *skipped]


def in_kernel(calls: int, repeats: int) -> str:
    """The Dashboard inside a kernel that believes a person is watching, in words; or why it could not be measured."""
    try:
        printed = _run_in_kernel(_IN_KERNEL.format(calls=calls, repeats=repeats, threads=torch.get_num_threads()))
    except ImportError as error:
        return f"Dashboard in a kernel: skipped: {error}"
    try:
        cost = Cost(*json.loads(printed.strip().splitlines()[-1]))
    except (ValueError, IndexError):
        return f"Dashboard in a kernel: skipped, the kernel answered:\n{printed}"
    return (
        f"Dashboard in a kernel: {cost.iterations / cost.run:.2%} of a run of {cost.run:.2f} s goes into redraws; "
        f"opening takes {1e3 * cost.opening:.0f} ms and closing {1e3 * cost.closing:.0f} ms, once; "
        f"the whole run against one without: {cost.run / cost.plain:.3f}"
    )


def dashboard_cost(calls: int, repeats: int) -> Cost:
    """Called inside the kernel: medians over the repeats."""
    from torchmin_nb.views import Dashboard

    dashboard = Dashboard()
    _runner(calls // 4, {"callbacks": [dashboard]})()
    costs = [_one_cost(calls, dashboard) for _ in range(repeats)]
    return Cost(*(median(column) for column in zip(*costs, strict=True)))


def _one_cost(calls: int, dashboard: Any) -> Cost:
    watch = _Stopwatch(dashboard)
    plain = _runner(calls, {})()
    run = _runner(calls, {"callbacks": [watch]})()
    return Cost(*watch.seconds.values(), run, plain)


def _runner(calls: int, settings: dict[str, Any]) -> Callable[[], float]:
    """L-BFGS-B, nearly an iteration a call, on an MLP whose closure takes about a millisecond."""
    problem = mlp((50, 20, 10), 1200)

    def run() -> float:
        model = problem.fresh()
        args = {"method": "L-BFGS-B", "options": {"maxiter": calls, "maxfun": calls, "ftol": 0, "gtol": 0}}
        optimizer = MinimizeWrapper(model.parameters(), args, **settings)
        begun = time.perf_counter()
        optimizer.step(problem.closure(model))
        return time.perf_counter() - begun

    return run


def _against_plain(name: str, plain: Sequence[float], seconds: Sequence[float]) -> Row:
    ratio = median(one / other for one, other in zip(seconds, plain, strict=True))
    return Row(name, 1e3 * median(seconds), ratio)


def _run_in_kernel(code: str) -> str:
    """Everything that a fresh kernel prints, errors included. Raises ImportError without jupyter_client."""
    from jupyter_client.manager import start_new_kernel

    printed: list[str] = []

    def keep(message: dict[str, Any]) -> None:
        content = message["content"]
        printed.append(content.get("text", "") + "\n".join(content.get("traceback", ())))

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(_ROOT), stderr=subprocess.DEVNULL)
    try:
        client.execute_interactive(code, allow_stdin=True, output_hook=keep, timeout=300)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return "".join(printed)
