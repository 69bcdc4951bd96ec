"""Worker processes: spawned, alone with what is sent to them, and gone when their caller is."""

import math
import os
import signal
import sys

import pytest

from torchmin_nb.core.runtime.processes import cores, in_processes
from torchmin_nb.errors import WorkerError


class Work:
    """The class is unpickled by its module's name, so the workers import this module."""

    def __call__(self, item):
        print("printing does not disturb the answers")
        if item == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "raise":
            raise ValueError("no such item")
        if item == "unpicklable":
            return lambda: None
        return item, os.getpid(), os.environ["OMP_NUM_THREADS"], hasattr(sys.modules["__main__"], "__file__")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_every_item_has_its_answer_and_a_worker_that_dies_is_replaced():
    items = ["a", "die", "raise", "unpicklable", "b"]
    begun = []
    answers = dict(in_processes(Work(), items, 1, threads=3, on_begin=begun.append))
    assert begun == list(range(5))
    (a, first, threads, has_main), (b, second, *_) = answers[0], answers[4]
    assert (a, b, threads, has_main) == ("a", "b", "3", False)
    assert first != second
    assert isinstance(answers[1], WorkerError)
    assert "exit code -9" in str(answers[1])
    assert "ValueError: no such item" in str(answers[2])
    assert "a worker process failed" in str(answers[3])
    assert not alive(first)
    assert not alive(second)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_closing_ends_all_processes_in_the_middle_of_their_work():
    answers = in_processes(Sleepy(), [0.0, math.inf, math.inf], 2)
    _, pid = next(answers)
    answers.close()
    assert not alive(pid)


class Sleepy:
    def __call__(self, seconds):
        if seconds:
            signal.pause()
        return os.getpid()


def test_the_cores_of_this_process():
    assert 1 <= cores() <= (os.cpu_count() or 1)
