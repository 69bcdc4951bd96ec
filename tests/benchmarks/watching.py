"""What watching a run costs: in this process, and inside a notebook kernel, where the Dashboard draws."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import math
import resource
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median, stdev
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks.measure import Row, rounds
from tests.benchmarks.problems import mlp
from torchmin_nb import History, Iteration, MinimizeWrapper
from torchmin_nb.core.display.tables import text_table

__all__ = ["in_kernel", "in_process"]

_ROOT = Path(__file__).parents[2]
_IN_KERNEL = """
import json, torch
torch.set_num_threads({threads})
from tests.benchmarks import watching
print(json.dumps(watching.{call}))
"""
_LENGTHS = (100, 10_000, 100_000)
_WARM, _REDRAWS = 200, 1000
_WINDOW = 2.0
"""Seconds that the view works, and rests, in turn."""


class Ratio(NamedTuple):
    """A median, and the standard error of the mean."""

    median: float
    error: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ± {self.error:.3f}"


class Cost(NamedTuple):
    """Of a watched run: processor seconds of the view once, and the share of the rest that looks and redraws take.

    wall, cpu: seconds, and processor time of all threads, of an iteration while the view works, against while it rests.
    """

    iterations: int
    seconds: float
    once: float
    share: float
    wall: Ratio
    cpu: Ratio


class Growth(NamedTuple):
    """By how many bytes memory grew over the redraws: what Python holds, and the process's peak."""

    held: float
    peak: float


class Sent(NamedTuple):
    """Bytes of comm messages while a run of so many iterations went on, without those of opening and closing."""

    iterations: int
    seconds: float
    size: float
    messages: int

    @property
    def a_minute(self) -> float:
        return self.size / self.seconds * 60


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


def in_kernel(iterations: int) -> str:
    """The Dashboard inside a kernel that believes a person is watching, as a table; or why it could not be measured."""
    try:
        *plain, wall, cpu = _measured(f"dashboard_cost({iterations})")[0]
        cost = Cost(*plain, Ratio(*wall), Ratio(*cpu))
        times = _measured("redraw_times()")[0]
        growth = Growth(*_measured("memory_growth()")[0])
        sent = _traffic(iterations)
    except ImportError as error:
        return f"Dashboard in a kernel: skipped: {error}"
    except ValueError as error:
        return f"Dashboard in a kernel: skipped, the kernel answered:\n{error}"
    rows = [
        (f"a run of {cost.iterations:,} iterations, {cost.seconds:.0f} s: the view works", f"{cost.share:.2%}"),
        ("  seconds of an iteration with it, × without", str(cost.wall)),
        ("  processor time of one, all threads", str(cost.cpu)),
        ("  opening and the end, once a run", f"{cost.once:.2f} s"),
        (f"sent a minute, {sent.iterations:,} iterations in {sent.seconds:.0f} s", f"{sent.a_minute / 1e6:.2f} MB"),
        ("  in so many messages a second", f"{sent.messages / sent.seconds:.1f}"),
        *((f"a redraw at {n:,} iterations", f"{1e3 * s:.1f} ms") for n, s in zip(_LENGTHS, times, strict=True)),
        (f"memory held after {_REDRAWS:,} redraws more", f"{growth.held / 1e3:+.0f} kB"),
        ("  the process's peak", f"{growth.peak / 1e6:+.1f} MB"),
    ]
    return "\n" + text_table([("Dashboard in a kernel", "measured"), *rows])


# Called inside the kernel


def dashboard_cost(iterations: int) -> Cost:
    """One run whose view works and rests in turn, so that one machine in one mood is compared with itself."""
    from torchmin_nb.views import Dashboard
    from torchmin_nb.views.session import Session

    dashboard = Dashboard()
    stamps: list[tuple[float, float]] = []

    def note(iteration: Iteration) -> None:
        stamps.append((time.monotonic(), time.process_time()))

    run = _runner(iterations, {"callbacks": [dashboard, note]})
    _runner(iterations // 20, {"callbacks": [dashboard]})()  # what is imported and compiled once
    with _accounted(Dashboard, "on_start", "on_end") as once, _resting(Session), _accounted(Session, "tick") as looks:
        seconds = run()
    wall, cpu = _ratios(np.array(stamps))
    return Cost(len(dashboard.history), seconds, sum(once), sum(looks) / (seconds / 2), wall, cpu)


def _at_work() -> bool:
    return int(time.monotonic() / _WINDOW) % 2 == 0


@contextlib.contextmanager
def _resting(session: type) -> Iterator[None]:
    """While this lasts the sessions look at their runs in every other window only."""
    from torchmin_nb.views.ticker import POLL

    tick = session.tick  # type: ignore[attr-defined]
    session.tick = lambda self: tick(self) if _at_work() else POLL  # type: ignore[attr-defined]
    try:
        yield
    finally:
        session.tick = tick  # type: ignore[attr-defined]


def _ratios(stamps: NDArray[np.float64]) -> Iterator[Ratio]:
    """What an iteration takes in each window with the view, against the windows beside it without, by either clock."""
    windows = (stamps[:, 0] / _WINDOW).astype(int)
    starts = np.flatnonzero(np.diff(windows)) + 1  # of whole windows
    cost = np.diff(stamps[starts], axis=0) / np.diff(starts)[:, None]
    at_work = 1 + windows[starts[1]] % 2
    for each in cost.T:
        ratios = [2 * each[i] / (each[i - 1] + each[i + 1]) for i in range(at_work, len(each) - 1, 2)]
        yield Ratio(median(ratios), stdev(ratios) / math.sqrt(len(ratios)))


@contextlib.contextmanager
def _accounted(owner: type, *names: str) -> Iterator[list[float]]:
    """The processor seconds of every call of these methods, which do not call each other."""
    spent: list[float] = []
    plain = {name: getattr(owner, name) for name in names}

    def timed(entry: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            begun = time.thread_time()
            try:
                return entry(*arguments)
            finally:
                spent.append(time.thread_time() - begun)

        return call

    for name, entry in plain.items():
        setattr(owner, name, timed(entry))
    try:
        yield spent
    finally:
        for name, entry in plain.items():
            setattr(owner, name, entry)


def redraw_times(repeats: int = 15) -> list[float]:
    """Processor seconds of one redraw after another iteration, at each of _LENGTHS: the smallest."""
    return [min(_redraws(length, repeats)) for length in _LENGTHS]


def memory_growth() -> Growth:
    """Over many redraws of a history that is always as long."""
    screen, scene = _screen(10_000)
    for _ in range(_WARM):
        screen.draw(scene)
    gc.collect()
    tracemalloc.start()
    for _ in range(_WARM):
        screen.draw(scene)
    held, peak = _held(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(_REDRAWS):
        screen.draw(scene)
    grown = _held() - held, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    tracemalloc.stop()
    return Growth(*grown)


def long_run(iterations: int) -> tuple[int, float]:
    """Iterations and seconds of one watched run; what it sends is counted by whoever listens."""
    from torchmin_nb.views import Dashboard

    dashboard = Dashboard()
    seconds = _runner(iterations, {"callbacks": [dashboard]})()
    return len(dashboard.history), seconds


def _held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _redraws(length: int, repeats: int) -> list[float]:
    screen, scene = _screen(length)
    (history,) = scene.histories.values()
    seconds = []
    for _ in range(repeats):
        history.append(_iteration(len(history)))
        begun = time.thread_time()
        screen.draw(replace(scene, title=str(len(history))))
        seconds.append(time.thread_time() - begun)
    return seconds


def _screen(length: int) -> tuple[Any, Any]:
    """An open live screen, and its scene of one history that long."""
    from torchmin_nb.views.scene import Scene
    from torchmin_nb.views.screens import PanelScreen

    history = History("trust-ncg")
    for index in range(length):
        history.append(_iteration(index))
    scene = Scene({"trust-ncg": history})
    screen = PanelScreen(_Listener())
    screen.open(scene)
    return screen, scene


class _Listener:
    """Hears of what a panel is asked, and does nothing."""

    def pressed(self, action: str, count: int) -> None: ...

    def chosen(self, name: str, value: str) -> None: ...

    def fall_back(self, why: str) -> None: ...

    def come_back(self) -> None: ...


def _iteration(index: int) -> Iteration:
    """Curves that wave: nothing in them can be thinned away."""
    wave = 1 + 0.5 * math.sin(index / 7)
    return Iteration(
        index,
        wave / (index + 1),
        grad_norm=wave,
        step_norm=wave,
        trust_radius=wave,
        reduction_ratio=wave,
        accepted=True,
        nfev=index + 1,
        njev=index + 1,
        nhvp=3 * index,
        elapsed=1e-3 * index,
    )


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


# The kernel, from outside


def _traffic(iterations: int) -> Sent:
    """What the kernel sends of its own accord between the first and the last redraw."""
    (count, seconds), sizes = _measured(f"long_run({iterations})")
    updates = [size for kind, size in sizes if kind == "comm_msg"]
    return Sent(count, seconds, sum(updates), len(updates))


def _measured(call: str) -> tuple[Any, list[tuple[str, int]]]:
    """What a function of this module answers in a fresh kernel, and (type, bytes) of all messages on the way.

    Raises ValueError with what was printed where there is no answer; ImportError without jupyter_client.
    """
    code = _IN_KERNEL.format(call=call, threads=torch.get_num_threads())
    printed, sizes = _run_in_kernel(code)
    try:
        return json.loads(printed.strip().splitlines()[-1]), sizes
    except (ValueError, IndexError):
        raise ValueError(printed) from None


def _run_in_kernel(code: str) -> tuple[str, list[tuple[str, int]]]:
    """Everything that a fresh kernel prints, errors included, and (type, bytes) of what it sends."""
    from jupyter_client.manager import start_new_kernel

    printed: list[str] = []
    sizes: list[tuple[str, int]] = []

    def keep(message: dict[str, Any]) -> None:
        content = message["content"]
        printed.append(content.get("text", "") + "\n".join(content.get("traceback", ())))
        buffers = sum(memoryview(buffer).nbytes for buffer in message.get("buffers", ()))
        sizes.append((message["msg_type"], len(json.dumps(content, default=str)) + buffers))

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(_ROOT), stderr=subprocess.DEVNULL)
    try:
        client.execute_interactive(code, allow_stdin=True, output_hook=keep, timeout=1200)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return "".join(printed), sizes
