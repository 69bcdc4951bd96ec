"""run.watch(): a cell that draws in the main thread, where an interrupt pauses the run."""

import threading

import pytest

from tests.views.shown import LONG, PLOTLY, Cell, Gate, optimizer_of, points, start_point, title
from torchmin_nb.errors import ArgumentError
from torchmin_nb.views import screens


@pytest.fixture
def cell(monkeypatch):
    cell = Cell()
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "notebook")
    monkeypatch.setattr("IPython.display.display", cell.display)
    return cell


@pytest.fixture
def gate():
    x = start_point()
    gate = Gate(x)
    gate.run = optimizer_of(x).start(gate, paused=True)
    assert gate.run.wait_until_paused(LONG)
    yield gate
    gate.go.set()
    gate.run.stop()
    gate.run.wait(LONG)


def test_it_draws_in_the_main_thread_until_the_end(cell, gate, monkeypatch):
    threads, draw = set(), screens.StaticScreen.draw

    def noted(screen, scene):
        threads.add(threading.current_thread())
        return draw(screen, scene)

    monkeypatch.setattr(screens.StaticScreen, "draw", noted)
    gate.hold(4)
    gate.run.resume()
    assert gate.reached.wait(LONG)
    threading.Timer(0.2, gate.go.set).start()
    gate.run.watch(0.01)
    assert threads == {threading.main_thread()}
    assert gate.run.state == "finished"
    assert len(cell.shown) == 1
    assert "finished" in title(cell.at(0))
    assert points(cell.at(0))[0].size == len(gate.run.history)


def test_it_returns_when_the_run_stands_still(cell, gate):
    gate.run.advance(3)
    gate.run.watch(0.01)
    assert gate.run.state == "paused"
    assert title(cell.at(0)).endswith("paused")
    assert points(cell.at(0))[0].size == 4


def test_an_interrupt_pauses_the_run(cell, gate, monkeypatch):
    gate.hold(6)
    gate.run.resume()
    assert gate.reached.wait(LONG)
    waited, wait = [], gate.run.wait_until_paused

    def interrupted(timeout=None):
        if not waited:
            waited.append(1)
            raise KeyboardInterrupt
        gate.go.set()
        return wait(timeout)

    monkeypatch.setattr(gate.run, "wait_until_paused", interrupted)
    gate.run.watch()
    assert gate.run.state == "paused"
    assert title(cell.at(0)).endswith("paused")


def test_where_nobody_watches_there_is_a_picture(cell, gate, monkeypatch):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "headless")
    gate.run.resume()
    gate.run.watch(0.01)
    assert set(cell.at(0)) == {PLOTLY, "image/png", "text/plain"}


def test_in_a_terminal_there_is_a_progress_line(gate, monkeypatch, capsys):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "terminal")
    gate.run.resume()
    gate.run.watch(0.01)
    assert "finished" in capsys.readouterr().err


@pytest.mark.parametrize("interval", [0, -1.0, float("nan")])
def test_an_interval_that_is_not_positive_is_refused(gate, interval):
    with pytest.raises(ArgumentError, match="must be positive"):
        gate.run.watch(interval)
