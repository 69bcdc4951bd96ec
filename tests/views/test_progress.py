"""The progress line, in a terminal and in a log."""

import io

import pytest

from tests.views.histories import a_history
from torchmin_nb import History
from torchmin_nb.views import ProgressLine, progress
from torchmin_nb.views.words import status_line


class Terminal(io.StringIO):
    def isatty(self):
        return True

    @property
    def lines(self):
        return self.getvalue().split("\r")[1:]


@pytest.fixture
def clock(monkeypatch):
    """The seconds that the progress line believes have passed, in a list of one."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def columns(monkeypatch):
    """A terminal of 80 columns, or as many as the test sets."""
    monkeypatch.setenv("COLUMNS", "80")
    return lambda count: monkeypatch.setenv("COLUMNS", str(count))


def follow(line, history, clock, step):
    """Let a line follow a history as it grows."""
    seen = History(history.method)
    line.on_start(seen)
    for iteration in history:
        seen.append(iteration)
        line(iteration)
        clock[0] += step
    line.on_end(history)


def test_a_terminal_sees_one_line_that_changes(clock):
    stream, history = Terminal(), a_history(length=5, ended=False)
    follow(ProgressLine(stream), history, clock, step=1.0)
    assert len(stream.lines) == 6
    assert stream.lines[0].startswith("trust-ncg · iteration 0 · loss 1 ")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("\n")


def test_a_log_sees_only_the_end(clock):
    stream, history = io.StringIO(), a_history(length=5)
    follow(ProgressLine(stream), history, clock, step=1.0)
    assert stream.getvalue() == status_line(history) + "\n"


@pytest.mark.parametrize("interval", [0.1, 0.5])
def test_it_is_written_on_a_clock_and_not_per_iteration(clock, interval):
    stream = Terminal()
    follow(ProgressLine(stream, interval=interval), a_history(length=1000), clock, step=0.01)
    assert len(stream.lines) == pytest.approx(10 / interval, rel=0.15)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_it_fits_the_terminal_and_covers_what_was_there(clock, columns, width):
    columns(width)
    stream = Terminal()
    follow(ProgressLine(stream), a_history(length=4), clock, step=1.0)
    assert {len(line.rstrip("\n")) for line in stream.lines} == {width - 1}
    assert ("…" in stream.getvalue()) == (width < 100)


def test_a_new_run_starts_at_once(clock):
    stream = Terminal()
    line = ProgressLine(stream, interval=1000.0)
    for method in ("CG", "BFGS"):
        follow(line, a_history(method, 3), clock, step=0.01)
    assert [text.split(" ")[0] for text in stream.lines] == ["CG", "CG", "BFGS", "BFGS"]


def test_it_writes_to_standard_error(capsys):
    history = a_history()
    line = ProgressLine()
    line.on_start(history)
    line(history[-1])
    line.on_end(history)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == status_line(history) + "\n"


def test_a_run_that_failed_at_once_has_a_line_too():
    stream = Terminal()
    ProgressLine(stream).on_end(History("CG"))
    assert stream.getvalue().strip() == "CG · starting"
