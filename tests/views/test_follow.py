"""follow: the panel of runs in other processes, from the files that they write."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.views.shown import LONG, PLOTLY, optimizer_of, rosenbrock, start_point, stepped
from torchmin_nb import HistoryFile
from torchmin_nb.errors import ArgumentError, HistoryError
from torchmin_nb.views import follow
from torchmin_nb.views.live_panel.sources import FileSource
from torchmin_nb.views.live_panel.widget import PanelWidget


@pytest.fixture
def cell(cell, monkeypatch):
    """The cells of a live notebook; each look reads the files."""
    monkeypatch.setattr(FileSource, "_POLL", 0.0)
    return cell


@pytest.fixture
def recorded(tmp_path):
    """The lines of a whole run, and its history."""
    path = tmp_path / "whole.jsonl"
    history = stepped(HistoryFile(path)).history
    return path.read_bytes().splitlines(keepends=True), history


def look(cell):
    """Let the panel look, and draw without waiting its turn."""
    for ticker in cell.tickers:
        if ticker.goes:
            ticker.tick.__self__._pace.at_once()
    cell.tick()


def curve(widget):
    columns = widget.whole()["columns"]
    return np.frombuffer(columns[0][3]) if columns else np.empty(0)


def badge(widget):
    return widget.whole()["header"]["badge"]


def test_it_follows_a_file_that_grows_and_leaves_its_picture(cell, tmp_path, recorded):
    lines, history = recorded
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(lines[:4]))
    watched = follow(path)
    (widget, _) = cell.shown
    assert isinstance(widget, PanelWidget)
    assert (badge(widget), curve(widget).size) == ("running", 3)
    with path.open("ab") as file:
        file.write(lines[4] + lines[5][:10])  # half a line
        file.flush()
        look(cell)
        assert curve(widget).size == 4
        file.write(lines[5][10:])
        file.flush()
        look(cell)
        assert curve(widget).size == 5
        file.write(b"".join(lines[6:]))
    look(cell)
    assert PLOTLY in cell.at(0)
    assert "Converged" in cell.at(1)["text/html"]
    np.testing.assert_array_equal(watched.histories["run"].loss, history.loss)
    assert watched.histories["run"] == history
    assert not cell.ticking


def test_a_file_that_is_not_there_yet_is_waited_for(cell, tmp_path, recorded):
    lines, _ = recorded
    follow(tmp_path / "later.jsonl")
    widget = cell.shown[0]
    assert badge(widget) == "waiting"
    assert "not there yet" in widget.whole()["header"]["verdict"]
    (tmp_path / "later.jsonl").write_bytes(b"".join(lines[:5]))
    look(cell)
    assert (badge(widget), curve(widget).size) == ("running", 4)


def test_several_files_are_drawn_over_each_other(cell, tmp_path, recorded):
    lines, _ = recorded
    for name, count in (("a", 4), ("b", len(lines))):
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(lines[:count]))
    watched = follow([tmp_path / "a.jsonl", str(tmp_path / "b.jsonl")], x="seconds", scale="loss - best")
    widget = cell.shown[0]
    legend = widget.whole()["legend"]
    assert [entry["group"] for entry in legend] == ["a", "b"]
    assert legend[0]["text"].endswith("running")
    assert widget.whole()["header"]["verdict"] == "1 running, 1 finished"
    assert (widget.x, widget.scale) == ("seconds", "loss - best")
    assert list(watched.histories) == ["a", "b"]


def test_files_of_one_name_are_told_apart_by_their_folders(cell, tmp_path, recorded):
    paths = [tmp_path / folder / "run.jsonl" for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"".join(recorded[0]))
    assert list(follow(paths).histories) == list(map(str, paths))


def test_the_last_run_of_a_file_is_shown(cell, tmp_path):
    path = tmp_path / "run.jsonl"
    stepped(HistoryFile(path))
    watched = follow(path)
    stepped(HistoryFile(path), method="BFGS")
    watched._source._poll()
    assert watched.histories["run"].method == "BFGS"


def test_a_file_that_is_replaced_is_read_anew(cell, tmp_path, recorded):
    lines, _ = recorded
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(lines[:9]))
    follow(path)
    path.write_bytes(b"".join(lines[:3]))
    look(cell)
    assert curve(cell.shown[0]).size == 2


def test_a_process_that_writes_nothing_any_more_is_told(cell, tmp_path, recorded):
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(recorded[0][:5]))
    os.utime(path, (time.time() - 300, time.time() - 300))
    follow(path)
    assert "Nothing was written for 5 min" in cell.shown[0].whole()["header"]["verdict"]


def test_closing_leaves_a_picture(cell, tmp_path, recorded):
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(recorded[0][:5]))
    watched = follow(path)
    watched.close()
    watched.close()
    assert PLOTLY in cell.at(0)
    assert not cell.ticking


@pytest.mark.parametrize("content", [b"something else\n", b'{"format": "another"}\n'])
def test_another_kind_of_file_is_refused(cell, tmp_path, content):
    (tmp_path / "run.jsonl").write_bytes(content)
    with pytest.raises(HistoryError, match="pass a file that HistoryFile wrote"):
        follow(tmp_path / "run.jsonl")


@pytest.mark.parametrize(("choice", "known"), [({"x": "nfev"}, "closure calls"), ({"scale": "ln"}, "loss - best")])
def test_unknown_choices_are_refused(cell, tmp_path, choice, known):
    with pytest.raises(ArgumentError, match=known):
        follow(tmp_path / "run.jsonl", **choice)


def test_no_path_is_refused(cell):
    with pytest.raises(ArgumentError, match="give that of a HistoryFile"):
        follow([])


def test_in_a_terminal_a_line_a_file_is_printed(tmp_path, recorded, capsys, monkeypatch):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "terminal")
    (tmp_path / "run.jsonl").write_bytes(b"".join(recorded[0]))
    follow(tmp_path / "run.jsonl")
    assert capsys.readouterr().out.startswith("run: trust-ncg: ")


def test_where_nobody_watches_there_is_a_picture(cell, tmp_path, recorded, monkeypatch):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "headless")
    (tmp_path / "run.jsonl").write_bytes(b"".join(recorded[0]))
    follow(tmp_path / "run.jsonl")
    assert set(cell.at(0)) == {PLOTLY, "image/png", "text/plain"}


SCRIPT = """
import time, torch
from torchmin_nb import HistoryFile, MinimizeWrapper
x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
def closure():
    time.sleep(0.02)
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
MinimizeWrapper([x], "trust-ncg", callbacks=[HistoryFile({path!r})], start_check=False).step(closure)
"""


@pytest.mark.slow
def test_a_run_in_another_process(cell, tmp_path):
    path = tmp_path / "run.jsonl"
    watched = follow(path)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(path=str(path))])
    lengths, deadline = [], time.monotonic() + LONG
    while cell.ticking and time.monotonic() < deadline:
        look(cell)
        lengths.append(curve(cell.shown[0]).size)
        time.sleep(0.05)
    assert process.wait(LONG) == 0
    assert len(set(lengths)) > 3
    assert lengths == sorted(lengths)
    assert watched.histories["run"] == HistoryFile.read(path)
    x = start_point()
    here = optimizer_of(x)
    here.step(lambda: rosenbrock(x))
    np.testing.assert_allclose(watched.histories["run"].loss, here.history.loss)
