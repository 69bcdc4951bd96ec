"""The kernel's main thread, on a loop and a clock of the test."""

import threading

import pytest

from tests.views.shown import LONG, Clock
from torchmin_nb.views.main_thread import FreeTime, MainThread, main_thread

TICK = 0.25


class Loop:
    """A loop that calls what is due when it gets its turn."""

    def __init__(self, clock):
        self.clock, self.waiting = clock, []

    def add_callback(self, callback):
        self.call_later(0, callback)

    def call_later(self, delay, callback):
        self.waiting.append((self.clock.now + delay, callback))

    def turn(self):
        due = [entry for entry in self.waiting if entry[0] <= self.clock.now + 1e-9]
        self.waiting = [entry for entry in self.waiting if entry not in due]
        for _, callback in due:
            callback()


class Kernel:
    """A main thread whose cells and seconds the test decides."""

    def __init__(self, cells=0):
        self.clock, self.events = Clock(), {}
        self.loop = Loop(self.clock)
        self.main = MainThread(self.loop, self.events.__setitem__, cells=cells, clock=self.clock)

    def free(self, seconds):
        """The loop has its turns for so long."""
        for _ in range(round(seconds / TICK)):
            self.clock.now += TICK
            self.loop.turn()

    def cell(self, seconds, *, awaits=False):
        """A cell runs; one that awaits leaves the loop its turns."""
        self.events["pre_execute"]()
        if awaits:
            self.free(seconds)
        else:
            self.clock.now += seconds
        self.events["post_execute"]()
        self.loop.turn()


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
def calls():
    return []


def silence(kernel, calls, seconds=3.0):
    made = FreeTime(kernel.main, seconds, lambda: calls.append(kernel.clock.now))
    kernel.loop.turn()
    return made


def test_it_comes_after_so_many_free_seconds_and_once(kernel, calls):
    silence(kernel, calls)
    kernel.free(2.75)
    assert calls == []
    kernel.free(10)
    assert calls == [103.0]
    assert kernel.loop.waiting == []


@pytest.mark.parametrize("awaits", [False, True])
def test_it_never_comes_while_a_cell_runs(kernel, calls, awaits):
    silence(kernel, calls)
    kernel.free(2)
    kernel.cell(60, awaits=awaits)
    assert calls == []
    kernel.free(2.5)
    assert calls == []
    kernel.free(1)
    assert len(calls) == 1


@pytest.mark.parametrize("seconds", [0.01, 0.3, 2.0, 10.0])
def test_it_never_comes_between_queued_cells(kernel, calls, seconds):
    silence(kernel, calls)
    for _ in range(1000):
        kernel.cell(seconds)
    assert calls == []


def test_cells_far_apart_start_the_count_anew(kernel, calls):
    silence(kernel, calls)
    for _ in range(10):
        kernel.free(2.5)
        kernel.cell(0.01)
    assert calls == []


def test_seconds_without_a_turn_of_the_loop_do_not_count(kernel, calls):
    silence(kernel, calls)
    for _ in range(5):
        kernel.clock.now += 60
        kernel.loop.turn()
    assert calls == []


def test_the_cell_in_which_it_all_begins_counts_as_one(calls):
    kernel = Kernel(cells=1)
    silence(kernel, calls)
    kernel.free(20)
    assert not kernel.main.free
    kernel.events["post_execute"]()
    assert kernel.main.free
    kernel.free(3.5)
    assert len(calls) == 1


def test_a_cell_that_could_not_be_compiled_changes_nothing(kernel):
    kernel.events["post_execute"]()
    assert kernel.main.free
    kernel.events["pre_execute"]()
    assert not kernel.main.free


def test_it_can_be_called_off(kernel, calls):
    silence(kernel, calls).cancel()
    kernel.free(60)
    assert calls == []
    assert kernel.loop.waiting == []


# What is sent from there


def in_another_thread(action):
    thread = threading.Thread(target=action)
    thread.start()
    thread.join(LONG)


def test_what_the_main_thread_sends_is_sent_at_once(kernel, calls):
    kernel.main.send(lambda: calls.append(1))
    assert calls == [1]


def test_what_another_thread_sends_waits_for_the_loop(kernel, calls):
    def send():
        calls.append(threading.current_thread())

    for _ in range(3):
        in_another_thread(lambda: kernel.main.send(send))
    assert calls == []
    kernel.loop.turn()
    assert calls == [threading.main_thread()]


def test_while_a_cell_runs_it_is_sent_at_once_and_after_the_cell_once_more(kernel, calls):
    def send():
        calls.append(threading.current_thread() is threading.main_thread())

    kernel.events["pre_execute"]()
    for _ in range(3):
        in_another_thread(lambda: kernel.main.send(send))
    assert calls == [False] * 3
    kernel.events["post_execute"]()
    kernel.loop.turn()
    assert calls == [False, False, False, True]


def test_without_a_kernel_there_is_none():
    assert main_thread() is None
