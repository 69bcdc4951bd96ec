"""Runs in a worker thread: steering, exact continuation, states, what a thread carries over."""

import asyncio
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch

from torchmin_nb import METHODS, LeastSquaresWrapper, MinimizeWrapper, Run, observe
from torchmin_nb.errors import ArgumentError, BusyError

LONG = 20.0  # seconds a test waits at most for what takes milliseconds


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def new(method, **keywords):
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    return x, MinimizeWrapper([x], method, max_evaluations=400, **keywords)


@pytest.mark.parametrize("method", METHODS)
def test_a_paused_run_goes_on_as_if_it_had_never_paused(method):
    x, optimizer = new(method, keep_parameters=True)
    run = optimizer.start(lambda: rosenbrock(x), iterations=4)
    assert run.wait_until_paused(LONG)
    assert (run.state, len(run.history)) == ("paused", 5)
    run.advance(3)
    assert run.wait_until_paused(LONG)
    assert (run.state, len(run.history)) == ("paused", 8)
    run.resume()
    result = run.wait(LONG)

    y, whole = new(method, keep_parameters=True)
    whole.step(lambda: rosenbrock(y))
    assert np.array_equal(run.history.loss, whole.history.loss)
    assert np.array_equal(run.history.parameters, whole.history.parameters)
    assert (result.nit, result.nfev, result.fun) == (whole.result.nit, whole.result.nfev, whole.result.fun)
    assert run.state == ("finished" if whole.result.status < 99 else "stopped")


@pytest.mark.parametrize("method", ["Powell", "L-BFGS-B", "trust-exact", "TNC"])
def test_pause_and_stop_act_at_the_next_closure_call(method):
    x, optimizer = new(method)
    calls, gate = [], threading.Event()

    def closure():
        calls.append(1)
        if len(calls) == 6:
            gate.wait(LONG)
        return rosenbrock(x)

    run = optimizer.start(closure)
    while len(calls) < 6:
        time.sleep(0.001)
    run.pause()
    gate.set()
    assert run.wait_until_paused(LONG)
    assert len(calls) == 6
    run.stop()
    result = run.wait(LONG)
    assert len(calls) == 6
    assert (run.state, result.status, result.success) == ("stopped", 99, False)
    assert result.fun == rosenbrock(x).item()


def test_a_run_does_not_block_and_its_history_can_be_read():
    x, optimizer = new("BFGS")
    gate = threading.Event()

    def closure():
        gate.wait(LONG)
        return rosenbrock(x)

    run = optimizer.start(closure)
    assert isinstance(run, Run)
    assert run.state == "pending"
    assert run.result is None
    assert len(run.history) == 0
    with pytest.raises(TimeoutError, match="it goes on"):
        run.wait(0.01)
    gate.set()
    assert run.wait(LONG).success
    assert run.state == "finished"
    assert "finished" in repr(run)
    assert len(run.history) == run.result.nit + 1


def test_an_exception_of_the_closure_surfaces_at_wait():
    x, optimizer = new("CG")
    error = ZeroDivisionError("mine")

    def closure():
        if len(optimizer.history) > 3:
            raise error
        return rosenbrock(x)

    run = optimizer.start(closure)
    with pytest.raises(ZeroDivisionError) as raised:
        run.wait(LONG)
    assert raised.value is error is run.exception
    assert run.state == "failed"
    assert rosenbrock(x).item() == run.result.fun
    optimizer.step(lambda: rosenbrock(x))  # and the parameters are free again
    assert optimizer.result.success


def test_two_runs_on_one_model_are_refused():
    x, optimizer = new("BFGS")
    run = optimizer.start(lambda: rosenbrock(x), iterations=1)
    assert run.wait_until_paused(LONG)
    other = MinimizeWrapper([x], "CG")
    for begin in (other.step, other.start, optimizer.step):
        with pytest.raises(BusyError, match=r"run\.stop\(\)"):
            begin(lambda: rosenbrock(x))
    run.stop()
    run.wait(LONG)
    other.step(lambda: rosenbrock(x))


def test_a_run_can_be_awaited():
    x, optimizer = new("BFGS")

    async def cell():
        return await optimizer.start(lambda: rosenbrock(x))

    assert asyncio.run(cell()).success


def test_pauses_do_not_count_as_time():
    x, optimizer = new("BFGS", max_seconds=30)
    begun = time.monotonic()
    run = optimizer.start(lambda: rosenbrock(x), iterations=2)
    assert run.wait_until_paused(LONG)
    time.sleep(0.3)
    run.resume()
    run.wait(LONG)
    assert run.history.totals.seconds <= time.monotonic() - begun - 0.3


def test_pace_holds_iterations_and_stop_does_not_wait_for_it():
    x, optimizer = new("BFGS")
    run = optimizer.start(lambda: rosenbrock(x), pace=LONG)
    while not len(run.history):
        time.sleep(0.001)
    begun = time.monotonic()
    run.stop()
    run.wait(LONG)
    assert time.monotonic() - begun < LONG / 2
    assert len(run.history) == 1


@pytest.mark.parametrize("method", ["BFGS", "trust-ncg"])
def test_the_callers_thread_state_is_carried_over(method):
    x, optimizer = new(method, start_check=False)
    seen = []

    def closure():
        seen.append(
            (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.get_default_device().type)
        )
        return rosenbrock(x)

    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
        optimizer.start(closure).wait(LONG)
    assert set(seen) == {(True, torch.bfloat16, "meta")}
    assert optimizer.result.success


def test_wrong_arguments_are_refused_before_the_thread_starts():
    x, optimizer = new("BFGS")
    before = threading.active_count()
    with pytest.raises(ArgumentError, match="iterations"):
        optimizer.start(lambda: rosenbrock(x), iterations=0)
    with pytest.raises(TypeError, match="callable"):
        optimizer.start(3)
    assert threading.active_count() == before
    run = optimizer.start(lambda: rosenbrock(x), iterations=1)
    with pytest.raises(ArgumentError, match="advance"):
        run.advance(0)
    run.stop()
    run.wait(LONG)


def test_runs_of_several_models_side_by_side_and_blas_is_given_back():
    from threadpoolctl import threadpool_info

    before = [(info["filepath"], info["num_threads"]) for info in threadpool_info()]
    pairs = [new(method) for method in ("BFGS", "trust-exact", "L-BFGS-B")]
    runs = [optimizer.start(lambda x=x: rosenbrock(x), iterations=3) for x, optimizer in pairs]
    assert all(run.wait_until_paused(LONG) for run in runs)
    for run in runs:
        run.resume()
    assert all(run.wait(LONG).success for run in runs)
    assert [(info["filepath"], info["num_threads"]) for info in threadpool_info()] == before


def test_other_wrappers_run_in_a_thread_too():
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    run = LeastSquaresWrapper([x], "trf").start(lambda: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]), iterations=3)
    assert run.wait_until_paused(LONG)
    assert len(run.history) == 4
    run.resume()
    assert run.wait(LONG).cost < 1e-12


@pytest.mark.parametrize("method", ["BFGS", "trust-krylov"])
def test_a_run_that_is_started_paused_is_pending_until_it_is_told_to_go(method):
    x, optimizer = new(method)
    optimizer.step(lambda: rosenbrock(x))  # what an earlier run left is not this run's
    calls = []
    run = optimizer.start(lambda: (calls.append(1), rosenbrock(x))[1], paused=True)
    assert run.wait_until_paused(LONG)
    assert (run.state, calls, len(run.history), run.result) == ("pending", [], 0, None)
    with torch.no_grad():
        x.copy_(torch.tensor([-1.2, 1.0]))
    run.advance(2)
    assert run.wait_until_paused(LONG)
    assert (run.state, len(run.history)) == ("paused", 3)
    run.resume()
    assert run.wait(LONG).success
    assert run.history.totals.seconds < LONG


def test_a_run_that_is_stopped_before_it_began_leaves_everything_as_it_was():
    x, optimizer = new("BFGS")
    run = optimizer.start(lambda: rosenbrock(x), paused=True)
    run.stop()
    assert run.wait(LONG).status == 99
    assert run.state == "stopped"
    assert x.tolist() == [-1.2, 1.0]


def test_callbacks_are_told_of_the_run_in_the_thread_that_starts_it():
    told = []

    class Watcher:
        def on_run(self, run):
            told.append((run, threading.current_thread()))

        def __call__(self, iteration):
            pass

    x, optimizer = new("BFGS", callbacks=[Watcher()])
    run = optimizer.start(lambda: rosenbrock(x))
    run.wait(LONG)
    assert told == [(run, threading.current_thread())]


def test_a_callback_that_refuses_the_run_lets_the_parameters_go():
    class Watcher:
        def on_run(self, run):
            raise KeyError("no")

        def __call__(self, iteration):
            pass

    x, optimizer = new("BFGS", callbacks=[Watcher()])
    with pytest.raises(KeyError):
        optimizer.start(lambda: rosenbrock(x))
    optimizer.callbacks = []
    optimizer.step(lambda: rosenbrock(x))


def test_iterations_and_steps_may_be_numpy_integers():
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))

    def closure():
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2

    run = MinimizeWrapper([x], "BFGS").start(closure, iterations=np.int64(1))
    assert run.wait_until_paused(10)
    run.advance(np.int64(2))
    assert run.wait_until_paused(10)
    assert len(run.history) == 4
    with pytest.raises(ArgumentError, match="iterations of advance must be a positive integer, got True"):
        run.advance(True)
    run.stop()
    run.wait(10)
    observed = observe(torch.optim.SGD([x], lr=1e-6), closure, steps=np.int64(3))
    assert observed.wait(10).nit == 3


def test_a_negative_pace_is_refused():
    x = torch.nn.Parameter(torch.zeros(2))
    for begin in (MinimizeWrapper([x], "BFGS").start, partial(observe, torch.optim.SGD([x], lr=0.1), steps=1)):
        with pytest.raises(ArgumentError, match="pace must be a positive number or None, got -1"):
            begin(closure=lambda: (x**2).sum(), pace=-1)
