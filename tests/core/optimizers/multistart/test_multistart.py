"""Runs from many starts: here, in processes, and by functions like map."""

import functools
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import torchmin_nb
from torchmin_nb import (
    METHODS,
    BasinHoppingWrapper,
    Constraint,
    DifferentialEvolutionWrapper,
    LeastSquaresWrapper,
    MinimizeWrapper,
    Status,
    full_batch,
    method,
    multistart,
    unregister,
)
from torchmin_nb.errors import (
    ArgumentError,
    ArgumentTypeError,
    BusyError,
    ClosureError,
    StartWarning,
    WorkerError,
)

pytestmark = pytest.mark.slow

GRID = [[a, b] for a in (-4.0, 4.0) for b in (-4.0, 4.0)]
MINIMA = [[3.0, 2.0], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848126]]


def leaf(n=2, dtype=torch.float64):
    return torch.nn.Parameter(torch.zeros(n, dtype=dtype))


def himmelblau(x, **arguments):
    """The optimizer of its tensor, and the closure: four minima of loss 0."""
    optimizer = MinimizeWrapper([x], **{"minimizer_args": "BFGS", **arguments})
    return optimizer, lambda: (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def residual_fit(x):
    return LeastSquaresWrapper([x], "lm"), lambda: torch.stack([x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7])


def hops(x):
    _, closure = himmelblau(x)
    return BasinHoppingWrapper([x], "L-BFGS-B", search_args=dict(niter=3, rng=0)), closure


WRAPPERS = {
    "scipy": himmelblau,
    "torch": functools.partial(himmelblau, minimizer_args="L-BFGS-B", engine="torch"),
    "without gradients": functools.partial(himmelblau, minimizer_args="Nelder-Mead"),
    "residuals": residual_fit,
    "global": hops,
}


def equal(found, other):
    """Whether the runs are the same, bit for bit."""
    same = [
        one.index == two.index
        and np.array_equal(one.x, two.x)
        and one.loss == two.loss
        and np.array_equal(one.history.loss, two.history.loss)
        and one.ending == two.ending
        for one, two in zip(found, other, strict=True)
    ]
    return bool(same) and all(same)


def pickling_map(function, starts):
    """A map whose arguments and values go through pickle, as those of processes do."""
    function = pickle.loads(pickle.dumps(function))
    return [pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(start))))) for start in starts]


def joblib_map(function, starts):
    import joblib

    return joblib.Parallel(n_jobs=2, return_as="generator")(joblib.delayed(function)(start) for start in starts)


@pytest.fixture
def loky():
    joblib = pytest.importorskip("joblib")
    yield joblib_map
    joblib.externals.loky.get_reusable_executor().shutdown(kill_workers=True)


@pytest.mark.parametrize("name", WRAPPERS)
def test_copies_give_what_this_process_gives(name):
    here = multistart(*WRAPPERS[name](leaf()), GRID)
    copies = multistart(*WRAPPERS[name](leaf()), GRID, pickling_map)
    assert len(here) == len(GRID)
    assert not here.failed
    assert equal(here, copies)


@pytest.mark.parametrize(("name", "engine"), [(name, engine) for name in METHODS for engine in METHODS[name].engines])
def test_every_method_travels(name, engine):
    arguments = dict(minimizer_args=dict(method=name, options=dict(maxiter=8)), engine=engine)
    here = multistart(*himmelblau(leaf(), **arguments), GRID[:2])
    copies = multistart(*himmelblau(leaf(), **arguments), GRID[:2], pickling_map)
    assert not here.failed
    assert equal(here, copies)
    assert copies.best.result.keys() == here.best.result.keys()


def test_processes_give_what_this_process_gives():
    x, y = leaf(), leaf()
    here = multistart(*himmelblau(x), GRID)
    optimizer, closure = himmelblau(y)
    arrived = []
    elsewhere = multistart(optimizer, closure, GRID, 2, on_result=lambda run, found: arrived.append(run.index))
    assert equal(here, elsewhere)
    assert sorted(arrived) == [0, 1, 2, 3]
    assert torch.equal(x, y)
    assert torch.equal(x.grad, y.grad)
    assert optimizer.history is elsewhere.best.history


def test_a_function_like_map_of_another_library(loky):
    assert equal(multistart(*himmelblau(leaf()), GRID), multistart(*himmelblau(leaf()), GRID, loky))


def test_all_minima_are_found_and_the_best_is_kept():
    x = leaf()
    optimizer, closure = himmelblau(x)
    found = multistart(optimizer, closure, [*GRID, *GRID])
    assert len(found.minima) == 4
    assert [min(np.abs(np.array(MINIMA) - minimum.x).sum(axis=1)) < 1e-4 for minimum in found.minima] == [True] * 4
    assert sorted(starts for minimum in found.minima for starts in minimum.starts) == list(range(8))
    assert np.array_equal(x.detach().numpy(), found.best.x)
    assert x.grad.numpy() == pytest.approx(found.best.result.jac)
    assert closure().item() == found.best.loss == min(run.loss for run in found)
    assert optimizer.result is found.best.result
    assert optimizer.step(closure) <= found.best.loss


def test_starts_between_bounds_and_the_best_of_them():
    x = leaf()
    optimizer, closure = himmelblau(x)

    def loss(parts):
        (x,) = parts
        return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2

    found = multistart(optimizer, closure, 200, bounds=[(-5, 5)] * 2, rng=0, keep=6, loss=loss)
    assert found.together
    assert len(found) == found.total == 6
    assert {run.index for run in found} == set(np.argsort(found.screened)[:6].tolist())
    assert all(run.history[0].loss == pytest.approx(found.screened[run.index]) for run in found)


def test_constraints_decide_the_rank():
    x = leaf()
    constraint = Constraint(lambda: x.sum(), lower=0)
    arguments = dict(method="COBYQA", constraints=[constraint], options=dict(maxiter=60))
    found = multistart(*himmelblau(x, minimizer_args=arguments), GRID[:2], map)
    assert found.best.x.sum() >= -1e-6
    assert found.best.loss < 1e-3


# Failures and endings


def broken_left(x):
    """Raises at two of the starts."""
    optimizer, whole = himmelblau(x)

    def closure():
        if x[0] == -4:
            raise RuntimeError("the sensor is off")
        return whole()

    return optimizer, closure


@pytest.mark.parametrize("workers", [1, map])
def test_failed_starts_are_kept_with_their_error(workers):
    found = multistart(*broken_left(leaf()), GRID, workers)
    assert [run.failed for run in found] == [False, False, True, True]
    assert {run.error for run in found.failed} == {"RuntimeError: the sensor is off"}
    assert found.best.loss < 1e-8


def test_if_all_fail_it_is_an_error_and_the_parameters_are_put_back():
    x = leaf()
    optimizer, closure = broken_left(x)
    with pytest.raises(ClosureError, match=r"all runs failed: RuntimeError: the sensor is off \(2 of 2\)"):
        multistart(optimizer, closure, GRID[:2])
    assert x.tolist() == [0, 0]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_worker_that_is_killed_is_a_failed_start():
    x = leaf()
    optimizer, whole = himmelblau(x)

    def closure():
        if x.tolist() == [-4, -4]:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole()

    found = multistart(optimizer, closure, GRID, 2)
    assert [run.index for run in found.failed] == [0]
    assert "exit code -9" in found.failed[0].error
    assert len(found.minima) == 3


def interrupting(x, at):
    """A closure that is interrupted at its call number `at`."""
    optimizer, whole = himmelblau(x)
    calls = []

    def closure():
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return whole()

    return optimizer, closure


def test_an_interrupt_returns_what_is_done():
    found = multistart(*interrupting(leaf(), 40), GRID)
    assert 1 < len(found) < 4
    assert found.ended == "interrupted"
    assert [run.history.status for run in found].count(Status.INTERRUPTED) == 1
    assert "interrupted" in repr(found)


def test_an_interrupt_before_anything_is_found_is_raised():
    x = leaf()
    with pytest.raises(KeyboardInterrupt):
        multistart(*interrupting(x, 1), GRID, map)
    assert x.tolist() == [0, 0]


@pytest.mark.parametrize("workers", [1, 2])
def test_on_result_ends_the_runs(workers):
    def enough(run, found):
        assert run in found
        return len(found) == 2

    found = multistart(*himmelblau(leaf()), GRID, workers, on_result=enough)
    assert len(found) == 2
    assert found.ended == "stopped by on_result"
    assert not [thread for thread in threading.enumerate() if thread.name == "torchmin_nb worker"]


def test_on_result_hears_of_the_beginning_and_the_end():
    class Watch:
        def __init__(self):
            self.seen = []

        def on_start(self, total):
            self.seen.append(total)

        def __call__(self, run, found):
            self.seen.append(run.name)

        def on_end(self, found):
            self.seen.append(found)

    watch = Watch()
    found = multistart(*himmelblau(leaf()), GRID[:2], on_result=watch)
    assert watch.seen[:-1] == [2, "start 0", "start 1"]
    assert equal(watch.seen[-1], found)


@pytest.mark.parametrize("workers", [1, map])
def test_the_time_of_all_runs_together(workers):
    found = multistart(*himmelblau(leaf()), GRID, workers, max_seconds=1e-9)
    assert len(found) == 0
    assert found.ended == "the time (max_seconds) was over"


def test_budgets_are_those_of_each_run():
    found = multistart(*himmelblau(leaf(), max_evaluations=3), GRID, map)
    assert [run.history.status for run in found] == [Status.MAX_EVALUATIONS] * 4
    assert found.minima == ()


def test_stop_ends_all_runs():
    x = leaf()
    optimizer, closure = himmelblau(x)
    optimizer.callbacks.append(lambda iteration: optimizer.stop() if iteration.index == 2 else None)
    found = multistart(optimizer, closure, GRID)
    assert len(found) == 1
    assert found.ended == "stopped"


def test_runs_remember_no_earlier_run():
    optimizer, closure = himmelblau(leaf(), minimizer_args="trust-ncg", engine="torch")
    optimizer.step(closure)
    loaded, _ = himmelblau(leaf(), minimizer_args="trust-ncg", engine="torch")
    loaded.load_state_dict(optimizer.state_dict())
    assert equal(multistart(loaded, closure_of(loaded), GRID), multistart(optimizer, closure, GRID))


def closure_of(optimizer):
    (x,) = optimizer.param_groups[0]["params"]
    return himmelblau(x)[1]


# What travels


SCRIPT = """
import torch
from torchmin_nb import MinimizeWrapper, multistart

model = torch.nn.Sequential(torch.nn.Linear(1, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)).double()
inputs = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
optimizer = MinimizeWrapper(model.named_parameters(), "L-BFGS-B", max_evaluations=30)
closure = lambda: (model(inputs) - torch.sin(3 * inputs)).square().mean()
generator = torch.Generator().manual_seed(0)
starts = [torch.randn(10, generator=generator) for _ in range(3)]
here = multistart(optimizer, closure, starts)
there = multistart(optimizer, closure, starts, workers=2)
print([run.loss for run in here] == [run.loss for run in there], closure().item() == there.best.loss)
"""


HERE = {**os.environ, "PYTHONPATH": str(Path(torchmin_nb.__file__).parent.parent)}


def test_a_script_without_a_guard_and_its_lambdas(tmp_path):
    """As in a notebook, the functions are those of __main__, and the script is not run again by the workers."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True, env=HERE
    )
    assert done.stdout.split() == ["True", "True"]


INTERRUPTED = """
import os, signal, time
import torch
from torchmin_nb import MinimizeWrapper, multistart

x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
parent = os.getpid()

def closure():
    if x == 1.0:  # the second start never ends
        open("worker", "w").write(str(os.getpid()))
        signal.pause()
    return x.square().sum()

def interrupt(run, found):
    while not os.path.exists("worker"):
        time.sleep(0.05)
    os.killpg(os.getpgid(0), signal.SIGINT)  # as a terminal does, to all processes

found = multistart(MinimizeWrapper([x], "BFGS"), closure, [2.0, 1.0], workers=2, on_result=interrupt)
print(len(found), found.ended)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_ends_the_processes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        check=True,
        env=HERE,
        cwd=tmp_path,
        start_new_session=True,
    )
    assert done.stdout.split() == ["1", "interrupted"]
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "worker").read_text()), 0)


def test_a_registered_method_travels():
    @method("walk-downhill")
    def walk_downhill(fun, x0, grad, *, rate=0.01):
        x = x0
        while np.linalg.norm(grad(x)) > 1e-3:
            x = x - rate * grad(x)
            yield x

    try:
        x = leaf()
        optimizer, closure = himmelblau(x, minimizer_args="walk-downhill")
        here, there = multistart(optimizer, closure, GRID[:2]), multistart(optimizer, closure, GRID[:2], 2)
    finally:
        unregister("walk-downhill")
    assert equal(here, there)
    assert all(run.success for run in there)


MODULE_LEVEL = leaf()


def module_closure():
    return MODULE_LEVEL.square().sum()


def test_a_closure_of_a_module_that_loses_its_parameters_is_refused():
    with pytest.raises(WorkerError, match="does not take the optimizer's parameters with it"):
        multistart(MinimizeWrapper([MODULE_LEVEL], "BFGS"), module_closure, GRID, map)
    assert len(multistart(MinimizeWrapper([MODULE_LEVEL], "BFGS"), module_closure, GRID)) == 4


def test_what_cannot_travel_is_named():
    x, lock = leaf(), threading.Lock()
    optimizer, whole = himmelblau(x)
    optimizer.callbacks.append(lambda iteration: lock.locked())
    with pytest.raises(WorkerError, match=r"the optimizer cannot be sent .*\.callbacks\[0\] → lock, of type lock"):
        multistart(optimizer, whole, GRID, map)
    assert not multistart(optimizer, whole, GRID).failed


def test_warnings_of_the_workers_arrive():
    x = leaf()
    optimizer, closure = himmelblau(x, minimizer_args="L-BFGS-B")
    optimizer.param_groups[0]["bounds"] = (-5, 5)
    with pytest.warns(StartWarning, match="1 starting values are outside their bounds"):
        multistart(optimizer, closure, [[6.0, 0.0]], map)


def test_a_loss_over_batches_travels():
    def fit():
        torch.manual_seed(0)
        model = torch.nn.Linear(2, 1).double()
        batches = [torch.randn(5, 2, dtype=torch.float64) for _ in range(3)]
        closure = full_batch(lambda batch: (model(batch).squeeze() - batch.prod(1)).square().mean(), batches)
        return MinimizeWrapper(model.parameters(), "L-BFGS-B"), closure

    here = multistart(*fit(), np.eye(3), keep=2)
    assert len(here) == 2
    assert not here.failed
    assert len(here.minima) == 1
    assert equal(here, multistart(*fit(), np.eye(3), pickling_map, keep=2))


# Arguments


REFUSED = {
    "optimizer": (dict(optimizer=torch.optim.SGD([leaf()], 0.1)), ArgumentTypeError, "takes a wrapper of torchmin_nb"),
    "closure": (dict(closure=None), ArgumentTypeError, "closure"),
    "workers": (
        dict(workers="all"),
        ArgumentTypeError,
        "workers must be a number of processes, -1 for one on each core",
    ),
    "no workers": (dict(workers=0), ArgumentError, "workers must be a positive integer, got 0"),
    "threads": (dict(threads=0), ArgumentError, "threads must be a positive integer"),
    "keep": (dict(keep=0), ArgumentError, "keep must be a positive integer or None"),
    "loss": (dict(loss=torch.sum), ArgumentError, "loss= is for keep="),
    "seconds": (dict(max_seconds=-1), ArgumentError, "max_seconds must be a positive number"),
    "tolerance": (dict(x_tolerance=-1), ArgumentError, "x_tolerance must be at least 0"),
    "bounds": (dict(bounds=[(0, 1)], starts=3), ArgumentError, "bounds has 1 pairs for 2 variables"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    optimizer, closure = himmelblau(leaf())
    changed, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        multistart(**{"optimizer": optimizer, "closure": closure, "starts": GRID, **changed})


def test_parameters_of_another_run_are_left_alone():
    x = leaf()
    optimizer, closure = himmelblau(x)
    run = optimizer.start(closure, paused=True)
    try:
        with pytest.raises(BusyError):
            multistart(himmelblau(x)[0], closure, GRID)
        assert x.tolist() == [0, 0]
    finally:
        run.stop()


def test_a_loss_in_place_of_a_closure():
    x = leaf()
    search = dict(bounds=[(-5, 5)] * 2, rng=0, maxiter=3)
    optimizer = DifferentialEvolutionWrapper([x], search_args=search, loss=lambda parts: (parts[0] - 1).square().sum())
    found = multistart(optimizer, None, GRID[:2], map)
    assert equal(found, multistart(optimizer, None, GRID[:2]))
    assert found.best.loss < 1e-6
