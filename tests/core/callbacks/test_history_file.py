"""HistoryFile: what is on the disk is the run's history, at every moment and after every accident."""

import copy
import json
import math
import os
import signal
from dataclasses import asdict

import pytest
import torch

from tests.core.killing import output, process, wait_for
from torchmin_nb import METHODS, BasinHoppingWrapper, History, HistoryFile, LeastSquaresWrapper, MinimizeWrapper
from torchmin_nb.errors import BusyError, HistoryError, StorageError, StorageWarning

LONG = 20.0
KEEP = {"nothing more": {}, "points": dict(keep_parameters=True), "calls": dict(keep_evaluations=True)}
KEEP["both"] = KEEP["points"] | KEEP["calls"]


def leaf():
    return torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))


def residuals(x):
    return torch.stack([1 - x[0], 10 * (x[1] - x[0] ** 2)])


def rosenbrock(x):
    return (residuals(x) ** 2).sum()


def run(path, method="BFGS", **keywords):
    """A run that is kept in a file; returns its history."""
    x = leaf()
    keywords = {"max_evaluations": 60, **keywords}
    optimizer = MinimizeWrapper([x], method, callbacks=[HistoryFile(path)], **keywords)

    def closure():
        loss = rosenbrock(x)
        optimizer.record(half=loss / 2)
        return loss

    optimizer.step(closure)
    return optimizer.history


def deterministic(history):
    """The iterations without the seconds."""
    return [asdict(iteration) | {"elapsed": None} for iteration in history]


def is_prefix(part, whole):
    found = deterministic(part)
    return found == deterministic(whole)[: len(found)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


# What is read is what was recorded


@pytest.mark.parametrize("method", METHODS)
def test_the_file_of_a_run_that_ended_is_its_history(method, path):
    history = run(path, method, **KEEP["both"])
    assert len(history) > 1
    assert HistoryFile.read(path) == history
    assert HistoryFile.read(path).message == history.message


@pytest.mark.parametrize("keep", KEEP.values(), ids=KEEP)
def test_the_file_keeps_what_the_history_keeps(keep, path):
    history, read = run(path, **keep), HistoryFile.read(path)
    assert read == history
    assert (read.keep_parameters, read.keep_evaluations) == (history.keep_parameters, history.keep_evaluations)
    assert len(read.evaluations) == (history.totals.nfev if "keep_evaluations" in keep else 0)
    if keep == KEEP["both"]:
        assert read.trials.tolist() == history.trials.tolist()


def test_evaluations_are_heard_only_where_they_are_kept(path):
    keeper = HistoryFile(path)
    assert not hasattr(keeper, "on_evaluation")
    keeper.on_start(History(keep_evaluations=True))
    assert callable(keeper.on_evaluation)


@pytest.mark.parametrize(
    ("wrapper", "arguments", "keywords"),
    [(LeastSquaresWrapper, "trf", {}), (BasinHoppingWrapper, "BFGS", dict(basinhopping_kwargs=dict(niter=3)))],
)
def test_other_wrappers_are_kept_the_same_way(wrapper, arguments, keywords, path):
    x = leaf()
    optimizer = wrapper([x], arguments, callbacks=HistoryFile(path), **keywords)
    optimizer.step(lambda: residuals(x) if wrapper is LeastSquaresWrapper else rosenbrock(x))
    assert len(optimizer.history) > 2
    assert HistoryFile.read(path) == optimizer.history


def test_nan_and_infinity_come_back(path):
    x = torch.nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    optimizer = MinimizeWrapper([x], "BFGS", callbacks=HistoryFile(path), keep_evaluations=True, keep_parameters=True)

    def closure():
        optimizer.record(missing=math.nan, huge=-math.inf)
        return (x * torch.sqrt(x)).sum()  # NaN below 0

    optimizer.step(closure)
    read = HistoryFile.read(path)
    assert read == optimizer.history
    assert math.isnan(read[0].metrics["missing"])
    assert read[0].metrics["huge"] == -math.inf
    assert any(math.isnan(evaluation.loss) for evaluation in read.evaluations)
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_it_is_readable_while_the_run_goes_on(path):
    seen = []

    def look(iteration):
        read = HistoryFile.read(path)
        seen.append((len(read), read[-1] == iteration, read.message, read.method))

    x = leaf()
    MinimizeWrapper([x], "BFGS", callbacks=[HistoryFile(path), look]).step(lambda: rosenbrock(x))
    assert seen == [(k + 1, True, None, "BFGS") for k in range(len(seen))]
    assert len(seen) > 20


# Accidents


def test_cut_anywhere_a_file_reads_as_what_was_whole(path):
    histories = [run(path, "BFGS", max_evaluations=3, **KEEP["both"]), run(path, "CG", max_evaluations=3)]
    whole = path.read_bytes()
    lengths = set()
    ends = [size for size in range(len(whole)) if b"\n" in whole[size - 2 : size + 2]]
    for size in sorted({*ends, *range(0, len(whole), 7)}):
        path.write_bytes(whole[:size])
        read = HistoryFile.read_all(path)
        assert all(is_prefix(part, history) for part, history in zip(read, histories, strict=False))
        assert len(read) < 2 or read[0] == histories[0]
        # A JSON object is whole with its last brace: the newline may be missing.
        written = whole[:size].count(b'"iteration": {"') - (b'"iteration": {"' in _torn(whole, size))
        assert sum(map(len, read)) == written
        lengths.add(written)
    assert lengths == set(range(sum(map(len, histories)) + 1))


def _torn(whole, size):
    """The bytes of a last line that lacks more than its newline."""
    last = whole[:size].rpartition(b"\n")[2]
    return b"" if whole[size : size + 1] == b"\n" else last


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.77, 0.97])
def test_a_run_after_a_kill_loses_nothing_of_the_first(share, path):
    run(path)
    cut = path.read_bytes()[: int(share * path.stat().st_size)]
    path.write_bytes(cut)
    before = HistoryFile.read_all(path)
    history = run(path, "CG")
    assert path.read_bytes().startswith(cut)
    assert HistoryFile.read_all(path) == [*before, history]


KILLED = """
import sys, time, torch
from torchmin_nb import HistoryFile, MinimizeWrapper
x = torch.nn.Parameter(torch.full((8,), -1.2, dtype=torch.float64))

def closure():
    time.sleep(float(sys.argv[2]))
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

MinimizeWrapper([x], "Nelder-Mead", callbacks=HistoryFile(sys.argv[1]), max_evaluations=900).step(closure)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_a_prefix_of_the_whole_run(path, tmp_path):
    with process(KILLED, path, 0.01) as running:
        wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") > 10, running)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    output(KILLED, tmp_path / "whole.jsonl", 0)
    part, whole = HistoryFile.read(path), HistoryFile.read(tmp_path / "whole.jsonl")
    assert 9 < len(part) < len(whole)
    assert (part.message, part.method, part.n_parameters, part.options) == (None, whole.method, 8, whole.options)
    assert is_prefix(part, whole)


CONFINED = """
import resource, sys, warnings, torch
from torchmin_nb import HistoryFile, MinimizeWrapper
from torchmin_nb.errors import StorageWarning
x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
optimizer = MinimizeWrapper([x], "BFGS", callbacks=HistoryFile(sys.argv[1]))

def closure():
    loss = ((1 - x[0]) ** 2 + (10 * (x[1] - x[0] ** 2)) ** 2)
    optimizer.record(half=loss / 2)
    return loss

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    optimizer.step(closure)
print(optimizer.result.success, [w.category.__name__ for w in caught], caught[0].message)
"""


@pytest.mark.slow
def test_a_disk_that_fails_drops_the_file_with_one_warning(path):
    printed = output(CONFINED, path)
    assert printed.startswith("True ['StorageWarning'] the history file")
    assert path.stat().st_size == 4000
    read, history = HistoryFile.read(path), run(path)
    assert 3 < len(read) < len(history)
    assert is_prefix(read, history)
    assert HistoryFile.read_all(path) == [read, history]


def test_what_cannot_be_written_down_is_said_once(path, monkeypatch):
    def broken(history):
        raise ZeroDivisionError("no such point")

    monkeypatch.setattr(History, "last_point", broken)
    with pytest.warns(StorageWarning, match="the run continues: ZeroDivisionError: no such point") as warned:
        history = run(path)
    assert len(warned) == 1
    assert (history.success, len(history) > 20) == (True, True)


# Several runs


def test_runs_are_appended_and_read_by_number(path):
    keeper, x = HistoryFile(path), leaf()
    optimizer = MinimizeWrapper([x], "BFGS", callbacks=keeper, max_evaluations=5)
    optimizer.step(lambda: rosenbrock(x))
    first = optimizer.history
    optimizer.step(lambda: rosenbrock(x))
    second, third = optimizer.history, run(path, "CG")
    assert HistoryFile.read_all(path) == [first, second, third]
    assert HistoryFile.read(path, 0) == first
    assert HistoryFile.read(path, -2) == second
    with pytest.raises(HistoryError, match="has 3 runs; there is no run 3"):
        HistoryFile.read(path, 3)


def test_runs_at_the_same_time_share_a_path_not_a_callback(path):
    leaves = [leaf(), leaf()]
    keepers = [HistoryFile(path), HistoryFile(path)]
    optimizers = [
        MinimizeWrapper([x], method, callbacks=keeper)
        for x, method, keeper in zip(leaves, ["BFGS", "CG"], keepers, strict=True)
    ]
    runs = [
        optimizer.start(lambda x=x: rosenbrock(x), iterations=2)
        for optimizer, x in zip(optimizers, leaves, strict=True)
    ]
    assert all(each.wait_until_paused(LONG) for each in runs)
    for each in runs * 3:
        each.advance()
        assert each.wait_until_paused(LONG)
    z = leaf()
    with pytest.raises(BusyError, match="create one for each run"):
        MinimizeWrapper([z], "BFGS", callbacks=keepers[0]).step(lambda: rosenbrock(z))
    for each in runs:
        each.resume()
        each.wait(LONG)
    read = {history.method: history for history in HistoryFile.read_all(path)}
    assert read == {optimizer.name: optimizer.history for optimizer in optimizers}


def test_copies_keep_runs_of_their_own(path):
    x = leaf()
    optimizer = MinimizeWrapper([x], "BFGS", callbacks=HistoryFile(path), max_evaluations=5)
    paused = optimizer.start(lambda: rosenbrock(x), iterations=2)
    assert paused.wait_until_paused(LONG)
    copied = copy.deepcopy(optimizer.callbacks[0])
    z = leaf()
    other = MinimizeWrapper([z], "CG", callbacks=copied, max_evaluations=5)
    other.step(lambda: rosenbrock(z))
    paused.resume()
    paused.wait(LONG)
    assert HistoryFile.read_all(path) == [optimizer.history, other.history]


# Refusals


@pytest.mark.parametrize("text", ["my notes\n", '{"format": "torchmin_nb history 1"}', "\n", "[]"])
def test_a_file_of_something_else_is_refused_and_left_alone(text, path):
    path.write_text(text)
    with pytest.raises(StorageError, match="exists and is not a history file; choose another path"):
        HistoryFile(path)
    with pytest.raises(HistoryError, match="is not a readable history file"):
        HistoryFile.read(path)
    assert path.read_text() == text


def test_a_file_that_appears_later_is_refused_before_any_work(path):
    keeper, x, calls = HistoryFile(path), leaf(), []
    path.write_text("my notes")
    with pytest.raises(StorageError, match="is not a history file"):
        MinimizeWrapper([x], "BFGS", callbacks=keeper).step(lambda: calls.append(1))
    assert not calls
    assert path.read_text() == "my notes"


def test_paths_that_cannot_be_written_are_refused_at_once(path, tmp_path):
    path.write_text("a file")
    for wrong in (tmp_path / "missing" / "run.jsonl", path / "run.jsonl", tmp_path):
        with pytest.raises(StorageError, match=r"cannot be written: .*; choose a file in an existing folder"):
            HistoryFile(wrong)
    assert os.listdir(tmp_path) == ["run.jsonl"]


def test_a_folder_without_the_right_to_write_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    who = os.geteuid()
    if who == 0:
        os.seteuid(65534)  # nothing is forbidden to root
    try:
        with pytest.raises(StorageError, match="Permission denied"):
            HistoryFile(tmp_path / "run.jsonl")
    finally:
        os.seteuid(who)
        tmp_path.chmod(0o700)


def test_making_the_callback_leaves_nothing_behind(path, tmp_path):
    HistoryFile(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("drop", "message"), [(0, "is not a readable"), (1, "iteration 0 is missing"), (3, "iteration 2 is missing")]
)
def test_a_hole_within_a_run_is_an_error(drop, message, path):
    run(path)
    run(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:drop] + lines[drop + 1 :]))
    with pytest.raises(HistoryError, match=message):
        HistoryFile.read_all(path)


def test_a_run_without_its_first_line_is_an_error(path):
    run(path)
    size = path.stat().st_size
    run(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:size] + whole[size:].partition(b"\n")[2])
    with pytest.raises(HistoryError, match=r"the first line of run .* is missing"):
        HistoryFile.read(path)


def test_a_file_that_is_not_there_is_an_error(path):
    with pytest.raises(HistoryError, match="No such file"):
        HistoryFile.read(path)
