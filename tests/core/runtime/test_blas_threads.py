"""The BLAS limit: in force during a run, counted over overlapping runs, and always lifted again."""

import threading
from pathlib import Path

import pytest
import threadpoolctl
import torch

from tests.core.scipys import METHODS
from torchmin_nb import MinimizeWrapper
from torchmin_nb.core.runtime import blas_threads as threads
from torchmin_nb.core.runtime.blas_threads import LARGE_DENSE, blas_threads


def _limits():
    """The thread counts of every BLAS that is not torch's own."""
    with blas_threads(10**6):  # more than there are: only finds the libraries
        controllers = list(threads._controllers)
        return [library.num_threads for library in controllers]


FREE = 2


@pytest.fixture(autouse=True)
def two_threads():
    """Two threads to begin with, also on a machine with one core or an environment that limits them."""
    assert threads._holders == []
    with threadpoolctl.threadpool_limits(FREE, user_api="blas"):
        if set(_limits()) != {FREE}:
            pytest.skip("this BLAS has no threads to limit")
        yield
        assert set(_limits()) == {FREE}
    assert threads._holders == []


def _in_force():
    """Seen from inside a run, without becoming a holder."""
    return {library.num_threads for library in threads._controllers}


def _run(method="BFGS", n=3, inside=None, **kwargs):
    p = torch.nn.Parameter(torch.ones(n, dtype=torch.float64))
    seen = []

    def closure():
        seen.append(_in_force() if threads._holders else {"free"})
        if inside is not None:
            inside()
        return (p**2).sum()

    optimizer = MinimizeWrapper([p], method, max_evaluations=3, **kwargs)
    optimizer.step(closure)
    return seen


def test_a_limit_is_in_force_and_lifted():
    with blas_threads(1):
        assert _in_force() == {1}
    assert set(_limits()) == {FREE}


def test_none_changes_nothing():
    with blas_threads(None):
        assert threads._holders == []


def test_more_than_was_found_is_not_given():
    with blas_threads(FREE + 5):
        assert _in_force() == {FREE}


def test_the_smallest_of_nested_limits_is_in_force():
    with blas_threads(2):
        with blas_threads(1):
            with blas_threads(2):
                assert _in_force() == {1}
            assert _in_force() == {1}
        assert _in_force() == {2}


def test_an_exception_lifts_it():
    with pytest.raises(ZeroDivisionError), blas_threads(1):
        _ = 1 / 0
    assert set(_limits()) == {FREE}


def test_overlapping_holders_in_two_threads():
    """The first to come is the first to go: what it found must not be restored while the other holds."""
    second_in, first_out = threading.Event(), threading.Event()
    seen = {}

    def second():
        with blas_threads(1):
            second_in.set()
            assert first_out.wait(10)
            seen["after the first left"] = _in_force()
        seen["holders"] = list(threads._holders)

    thread = threading.Thread(target=second)
    with blas_threads(1):
        thread.start()
        assert second_in.wait(10)
    first_out.set()
    thread.join()
    assert seen == {"after the first left": {1}, "holders": []}
    assert set(_limits()) == {FREE}


def test_a_worker_thread_limits_though_another_thread_set_limits_before():
    """threadpoolctl 3.8 would ignore it, and a run in the background would fight for the cores."""
    with blas_threads(1):
        pass
    seen = []
    worker = threading.Thread(target=lambda: seen.extend(_run()))
    worker.start()
    worker.join()
    assert seen == [{1}] * len(seen)
    assert set(_limits()) == {FREE}


def test_many_threads_coming_and_going():
    def work():
        for _ in range(20):
            with blas_threads(1):
                assert _in_force() == {1}

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert threads._holders == []


@pytest.mark.parametrize("method", METHODS)
def test_a_run_takes_one_thread(method):
    seen = _run(method, start_check=False)
    assert all(limits == {1} for limits in seen)


@pytest.mark.parametrize(("wanted", "expected"), [(1, {1}), (2, {2}), (None, {"free"})])
def test_the_user_may_choose(wanted, expected):
    assert all(limits == expected for limits in _run(blas_threads=wanted))


def test_large_dense_factorisations_keep_their_threads():
    large = {"n": LARGE_DENSE, "start_check": False}
    assert _run("BFGS", **large)[-1] == {"free"}
    assert _run("L-BFGS-B", **large)[-1] == {1}
    assert _run("BFGS", n=LARGE_DENSE - 1, start_check=False)[-1] == {1}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_run_lifts_it(error):
    def fail():
        raise error

    with pytest.raises(error):
        _run(inside=fail)
    assert threads._holders == []


def test_a_run_inside_a_run_keeps_the_limit():
    seen = _run(inside=lambda: _run("CG"))
    assert seen == [{1}] * len(seen)


def test_torchs_own_threads_are_left_alone():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        _run(inside=lambda: seen.append(torch.get_num_threads()))
        assert set(seen) == {2}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    home = Path(torch.__file__).parent
    assert all(home not in Path(library.filepath).parents for library in threads._controllers)
