"""Files and states that somebody else has written: read as they are meant, or refused by one error of ours."""

import copy
import json
import math
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest
import torch

from tests.core.killing import ROOT, process
from torchmin_nb import Checkpoint, Evaluation, History, HistoryFile, Iteration, MinimizeWrapper
from torchmin_nb.core.history.rows import Rows
from torchmin_nb.core.storage.atomic_files import atomic_replacement, require_writable
from torchmin_nb.errors import ArgumentTypeError, HistoryError, StorageError, TorchminError

ODD = [
    None, True, -1, 0, 1.5, 10**30, 10**400, -(10**400), math.nan, math.inf, "nan", "-inf", "", "x", "\ud800", "1e999",
    [], {}, [[]], [None], {"a": {}}, [1, "2"], {"\ud800": 1.0}, {"nan": "nan"}, {"index": 0},
]  # fmt: skip


@pytest.fixture(scope="module")
def whole():
    """The text of a history with everything in it, and of its file."""
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = MinimizeWrapper([x], "trust-exact", max_evaluations=5, keep_parameters=True, keep_evaluations=True)

    def closure():
        loss = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        optimizer.record(half=loss / 2)
        return loss

    optimizer.step(closure)
    return optimizer.history


def used(history):
    """Whatever is done with a history that was read."""
    texts = [history.summary(), repr(history), history._repr_html_(), history.to_json(), history.to_csv()]
    columns = [history.column(name) for name in ("index", "loss", "accepted")] + list(history.metrics.values())
    points = [history.parameters] if history.keep_parameters else []
    assert len(list(history)) == len(history) == len(columns[0])
    assert History.from_json(history.to_json()) == history
    return texts, columns, points, history.evaluations[:], pickle.loads(pickle.dumps(history))


def places(value, way=()):
    """Every place in a stored value."""
    yield way
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*way, key))


def changed(stored, rng):
    """The value with one place replaced, removed or doubled."""
    ways = [way for way in places(stored) if way]
    way = ways[rng.integers(len(ways))]
    changed = copy.deepcopy(stored)
    inside = changed
    for key in way[:-1]:
        inside = inside[key]
    kind = rng.integers(3)
    if kind == 0:
        del inside[way[-1]]
    elif kind == 1 and isinstance(inside, dict):
        inside[f"more {rng.integers(9)}"] = inside[way[-1]]
    else:
        inside[way[-1]] = ODD[rng.integers(len(ODD))]
    return changed


def torn(text, rng):
    """The text with a piece of it gone, doubled, or something else in its place."""
    begin = rng.integers(len(text))
    end = min(len(text), begin + rng.integers(1, 40))
    piece = ["", text[begin:end] * 2, "\0", "[" * 50, "NaN", "-Infinity", "1e400", "9" * 5000, '"\\ud800"', "}{"]
    return text[:begin] + piece[rng.integers(len(piece))] + text[end:]


def read_or_refused(read):
    try:
        history = read()
    except HistoryError:
        return False
    used(history)
    return True


def test_any_text_is_a_history_or_a_history_error(whole):
    rng, stored, text = np.random.default_rng(0), json.loads(whole.to_json()), whole.to_json()
    texts = [json.dumps(changed(stored, rng)) for _ in range(300)] + [torn(text, rng) for _ in range(300)]
    answers = [read_or_refused(lambda text=text: History.from_json(text)) for text in texts]
    assert 20 < sum(answers) < 500


def test_any_lines_are_a_history_or_a_history_error(whole, tmp_path):
    path, rng = tmp_path / "run.jsonl", np.random.default_rng(1)
    write_down(whole, path)
    lines, answers = path.read_text().splitlines(keepends=True), []
    for _ in range(400):
        at, line = (number := rng.integers(len(lines))), lines[number]
        line = json.dumps(changed(json.loads(line), rng)) + "\n" if rng.integers(2) else torn(line, rng)
        path.write_text("".join([*lines[:at], line, *lines[at + 1 :]]), encoding="utf-8", errors="surrogatepass")
        answers.append(read_or_refused(lambda: HistoryFile.read(path)))
    assert 20 < sum(answers) < 350


def write_down(history, path):
    """The file that the run of a history would have left."""
    keeper, told = HistoryFile(path), History(history.method, options=history.options, n_parameters=2, dtype="float64",
                                             keep_parameters=True, keep_evaluations=True)  # fmt: skip
    keeper.on_start(told)
    for evaluation, x in zip(history.evaluations, history.trials, strict=True):
        told.evaluated(evaluation, x)
        keeper.on_evaluation(evaluation)
    for iteration, x in zip(history, history.parameters, strict=True):
        told.append(iteration, x)
        keeper(iteration)
    told.ended(success=False, status=1, message="over", loss=1.0, totals=history.totals)
    keeper.on_end(told)
    assert HistoryFile.read(path) == told


DEEP = {
    "list": '{"format": ' + "[" * 100_000,
    "closed": '{"options": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "options": json.dumps({**json.loads(History("CG").to_json()), "options": {"a": 0}}).replace(
        '{"a": 0}', '{"a": ' + "[" * 400 + "]" * 400 + "}"
    ),
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_deep_nesting_is_a_history_error(text, tmp_path):
    with pytest.raises(HistoryError):
        History.from_json(text)
    path = tmp_path / "run.jsonl"
    path.write_text('{"format": "torchmin_nb history lines 1", "run": ' + text + "\n")
    with pytest.raises(HistoryError):
        HistoryFile.read(path)


def test_a_file_of_an_older_release_may_lack_a_field(whole):
    stored = json.loads(whole.to_json())
    for iteration in stored["iterations"]:
        del iteration["metrics"], iteration["nhvp"]
    read = History.from_json(json.dumps(stored))
    assert (read.nhvp == 0).all()
    assert [each.metrics for each in read] == [{}] * len(whole)
    assert read.metrics == {}


def test_numbers_as_python_writes_them_are_read(whole, tmp_path):
    path = tmp_path / "run.jsonl"
    write_down(whole, path)
    for text, read in ((whole.to_json(), History.from_json), (path.read_text(), HistoryFile.read)):
        loss = f'"loss": {whole[2].loss!r}'
        path.write_text(text.replace(loss, '"loss": "-inf"'))
        expected = read(path)
        path.write_text(text.replace(loss, '"loss": -Infinity'))
        assert read(path) == expected
        assert expected[2].loss == -math.inf


# States


@pytest.mark.parametrize("as_path", [str, lambda path: path], ids=["text", "Path"])
def test_the_history_of_a_state_is_never_a_path(as_path, tmp_path, whole):
    path = tmp_path / "run.json"
    whole.to_json(path)
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = MinimizeWrapper([x], "trust-exact")
    state = optimizer.state_dict()
    state["run"] = {"method": "trust-exact", "history": as_path(path), "result": None}
    with pytest.raises(HistoryError, match="pass the return value of state_dict"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("odd", [*ODD, b"{}", torch.ones(1, device="meta"), [1, 2]], ids=repr)
@pytest.mark.parametrize("where", ["run", "history", "result"])
def test_any_state_is_loaded_or_refused(where, odd, whole):
    optimizer = MinimizeWrapper([torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))], "trust-exact")
    state = optimizer.state_dict()
    state["run"] = odd if where == "run" else {**state["run"], "history": whole.to_json(), where: odd}
    try:
        optimizer.load_state_dict(state)
    except HistoryError:
        assert len(optimizer.history) == 0
    else:
        assert where == "result"


@pytest.mark.parametrize("odd", [*ODD, b"{}", [1, 2], [None], [{}], {"a": 1}], ids=repr)
@pytest.mark.parametrize("where", ["whole", "param_groups", "group", "params", "param_names", "state"])
def test_a_state_without_the_form_of_one_is_refused(where, odd):
    optimizer = MinimizeWrapper([torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))], "trust-exact")
    state = optimizer.state_dict()
    group = state["param_groups"][0]
    outer = {"group": [odd], "params": [{**group, "params": odd}], "param_names": [{**group, "param_names": odd}]}
    torn = {**state, where: odd} if where == "state" else {**state, "param_groups": outer.get(where, odd)}
    with suppress(TorchminError):
        try:
            optimizer.load_state_dict(odd if where == "whole" else torn)
        except ValueError as error:
            if "parameter" not in str(error):  # torch's own, for another number of parameters
                raise


@pytest.mark.parametrize("seconds", ["NaN", "1e999"])
def test_a_history_that_was_read_can_be_written(seconds, whole):
    stored = json.loads(whole.to_json())
    stored["totals"]["seconds"] = "SECONDS"
    read = History.from_json(json.dumps(stored).replace('"SECONDS"', seconds))
    assert str(History.from_json(read.to_json()).totals) == str(read.totals)


# Paths that are no ordinary files


def makers(tmp_path):
    return {
        "HistoryFile": HistoryFile,
        "HistoryFile.read": HistoryFile.read,
        "Checkpoint": Checkpoint,
        "Checkpoint.load": Checkpoint.load,
        "from_json": History.from_json,
    }


@pytest.mark.parametrize("use", makers(None))
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "socket", "null", "surrogate", "long", "link to a pipe"])
def test_what_is_no_ordinary_file_is_refused_at_once(use, kind, tmp_path):
    path = tmp_path / "run"
    if "pipe" in kind:
        os.mkfifo(path)
        if kind != "pipe":
            path, target = tmp_path / "link", path
            path.symlink_to(target)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    else:
        path = {"device": "/dev/zero", "null": "a\0b", "surrogate": "\ud800", "long": "x" * 5000}[kind]
    before = os.listdir(tmp_path)
    refused = []

    def attempt():
        try:
            makers(tmp_path)[use](path)
        except (HistoryError, StorageError) as error:
            refused.append(error)

    trying = threading.Thread(target=attempt, daemon=True)
    trying.start()
    trying.join(20)
    assert len(refused) == 1
    assert os.listdir(tmp_path) == before


@pytest.mark.parametrize("number", [0, 3, 10**6])
def test_a_number_is_no_path(number):
    for read, error in (
        (History.from_json, HistoryError),
        (HistoryFile.read, HistoryError),
        (Checkpoint.load, StorageError),
    ):
        with pytest.raises(error):
            read(number)


def test_a_checkpoint_of_wrong_types_is_refused(tmp_path, whole):
    path = tmp_path / "fit.pt"
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    MinimizeWrapper([x], "BFGS", callbacks=Checkpoint(path)).step(lambda: ((x - 1) ** 4).sum())
    stored = torch.load(path, weights_only=True)
    odd = [None, 3, "x", [1], {"run": {"history": str(path)}}]
    for name in stored:
        for value in odd:
            if (name, value) in (("best", None), ("best_loss", None), ("model", None), ("model", odd[-1])):
                continue
            torch.save({**stored, name: value}, path)
            with pytest.raises(StorageError, match="is not a readable checkpoint"):
                Checkpoint.load(path)
    for content in (
        b"\0" * 10**6,
        b"PK\x03\x04" + b"\0" * 1000,
        b"\x80\x02" + b"(" * 10**6,
        b"\x80\x04\x95" + b"\xff" * 8,
    ):
        path.write_bytes(content)
        with pytest.raises(StorageError, match="is not a readable checkpoint"):
            Checkpoint.load(path)


# What a kill leaves


WRITING = """
import sys, time
from pathlib import Path
from torchmin_nb.core.storage.atomic_files import atomic_replacement
with atomic_replacement(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("here", flush=True)
    time.sleep(1000)
"""


def parts(folder):
    return sorted(each for each in os.listdir(folder) if each.endswith(".part"))


@pytest.mark.slow
@pytest.mark.parametrize("start", [Checkpoint, HistoryFile, require_writable])
def test_what_a_killed_process_left_is_swept_and_what_a_live_one_writes_is_not(start, tmp_path):
    path, left = tmp_path / "run", ["run.1234-140000000000000.part"]
    mine = ["run.2024-01.part", "other.1234-140000000000000.part", "run.notes.part", "run.part"]
    for name in left + mine:
        (tmp_path / name).write_text("x")
    with process(WRITING, path) as dead, process(WRITING, path) as live:
        for each in (dead, live):
            assert each.stdout.readline() == "here\n", each.stderr.read()
        assert len(parts(tmp_path)) == len(left + mine) + 2
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        start(path)
        (kept,) = set(parts(tmp_path)) - set(mine)
        assert re.fullmatch(r"run\.[0-9a-f]{32}\.part", kept)
        with atomic_replacement(path) as file:
            start(tmp_path / "run.previous")
            file.write(b"whole")
        assert (path.read_bytes(), kept in parts(tmp_path)) == (b"whole", True)
    if start is not require_writable:
        path.unlink()
    start(path)
    assert set(parts(tmp_path)) == set(mine)


@pytest.mark.slow
def test_what_is_left_of_the_previous_checkpoint_is_swept_too(tmp_path):
    with process(WRITING, tmp_path / "fit.pt.previous") as running:
        assert running.stdout.readline() == "here\n", running.stderr.read()
    Checkpoint(tmp_path / "fit.pt")
    assert os.listdir(tmp_path) == []


def test_many_threads_write_and_sweep_one_path(tmp_path):
    path, wrong = tmp_path / "run", []

    def write(number):
        try:
            for _ in range(40):
                require_writable(path)
                with atomic_replacement(path) as file:
                    file.write(bytes([number]) * 1000)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert os.listdir(tmp_path) == ["run"]
    assert len(set(path.read_bytes())) == 1


# Long histories


def row(index, **more):
    return Iteration(
        index,
        index / 3,
        grad_norm=None if index % 2 else math.nan,
        accepted=[None, True, False][index % 3],
        metrics={"a": 1.0} if index % 5 == 0 else {},
        nfev=index,
        **more,
    )


@pytest.mark.parametrize("count", [0, 1, 7, 3000])
def test_rows_are_the_records_that_were_stored(count):
    history = History("CG", keep_evaluations=True)
    for index in range(count):
        history.append(row(index))
        history.evaluated(Evaluation(index, index, math.inf, metrics={"b": math.nan}), np.zeros(1))
    read = History.from_json(history.to_json())
    assert read == history
    assert pickle.loads(pickle.dumps(read)) == copy.deepcopy(read) == history
    assert read[:] == list(read) == [read[index] for index in range(count)]
    assert list(reversed(read)) == list(read)[::-1]
    assert [repr(each) for each in read] == [repr(each) for each in history]
    assert len(read.evaluations) == count
    assert repr(read.evaluations[-3:]) == repr(history.evaluations[-3:])
    for name in ("index", "loss", "grad_norm", "accepted", "nfev"):
        np.testing.assert_array_equal(read.column(name), history.column(name))
        assert read.column(name).dtype == history.column(name).dtype
    read.append(row(count, elapsed=9.0))
    history.append(row(count, elapsed=9.0))
    assert read == history
    np.testing.assert_array_equal(read.metrics["a"] if count else 1.0, history.metrics["a"] if count else 1.0)
    np.testing.assert_array_equal(read.elapsed, history.elapsed)
    assert (read + read) == (history + history)
    with pytest.raises(IndexError):
        read[count + 1]


def test_metrics_of_many_names_take_no_more_than_their_numbers():
    rows = Rows(Iteration)
    rows.extend_stored([{"index": index, "loss": 0.0, "metrics": {f"m{index}": 1.0}} for index in range(20_000)])
    assert rows[19_999].metrics == {"m19999": 1.0}
    assert len(pickle.dumps(rows)) < 20_000 * 400


READING = """
import resource, sys
from torchmin_nb import HistoryFile
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
history = HistoryFile.read(sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / len(history), history[-1].loss)
"""


@pytest.mark.slow
def test_a_long_history_takes_little_memory(tmp_path):
    path, count = tmp_path / "long.jsonl", 100_000
    keeper, history = HistoryFile(path), History("CG")
    keeper.on_start(history)
    line = {"run": keeper._run, "iteration": {"index": 0, "loss": 0.25, "nfev": 1}}
    with path.open("a") as file:
        for index in range(count):
            line["iteration"]["index"] = index
            file.write(json.dumps(line) + "\n")
    done = subprocess.run([sys.executable, "-c", READING, str(path)], cwd=ROOT, capture_output=True, text=True)
    kilobytes, loss = map(float, done.stdout.split())
    assert loss == 0.25
    assert kilobytes < 0.5  # as objects they took 1.9


# Paths of the user's


def _history():
    history = History("BFGS")
    history.append(Iteration(0, 1.0))
    return history


WRITERS = {
    "to_html": lambda path: _history().to_html(path),
    "to_json": lambda path: _history().to_json(path),
    "to_csv": lambda path: _history().to_csv(path),
}


@pytest.mark.parametrize("kind", [HistoryFile, Checkpoint, *WRITERS.values()])
@pytest.mark.parametrize("path", [3, b"file", object(), ["file"]])
def test_what_is_no_path_is_refused(kind, path):
    with pytest.raises(ArgumentTypeError, match="a path must be a str"):
        kind(path)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_texts_go_to_ordinary_files_only(write, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "a\0b", tmp_path / "none" / "file"):
        with pytest.raises(StorageError, match="cannot be written"):
            write(path)
    write(tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "pipe"]


def test_half_of_a_surrogate_pair_is_written_as_a_question_mark(tmp_path):
    history = _history()
    history.method = "\ud800"
    history.to_html(tmp_path / "file")
    assert "?" in (tmp_path / "file").read_text(encoding="utf-8")
