"""RunStore: what is kept of a run, the table of a folder, and files that cannot be read."""

import json
import threading
import time

import numpy as np
import pytest
import torch

from torchmin_nb import (
    BasinHoppingWrapper,
    HistoryFile,
    LeastSquaresWrapper,
    MinimizeWrapper,
    RunStore,
    minimize,
    observe,
)
from torchmin_nb.core.callbacks.run_store import COLUMNS
from torchmin_nb.errors import ArgumentError, ArgumentTypeError, StorageError, StorageWarning


def quartic(x):
    return (x**4).sum()


def kept(folder, method="BFGS", *, name=None, **kwargs):
    return minimize(quartic, [3.0, -2.0], method, callbacks=[RunStore(folder, name)], **kwargs)


def test_a_run_is_kept(tmp_path):
    began = time.time()
    result = kept(tmp_path / "runs" / "here", options=dict(gtol=1e-8))
    store = RunStore(tmp_path / "runs" / "here")
    (run,) = store
    assert run.history == result.history
    assert HistoryFile.read(run.path) == result.history
    assert (run.name, run.method, run.options, run.n_parameters, run.dtype) == (
        "BFGS",
        "BFGS",
        {"gtol": 1e-8},
        2,
        "float64",
    )
    assert (run.loss, run.evaluations, run.message) == (result.fun, result.nfev, result.message)
    assert run.seconds == result.history.totals.seconds
    assert run.success
    assert began <= run.created <= time.time()
    np.testing.assert_array_equal(run.x, result.x)
    assert run.versions["torch"] == torch.__version__.partition("+")[0] or run.versions["torch"] == torch.__version__
    assert run.code == "MinimizeWrapper(model.parameters(), dict(method='BFGS', options=dict(gtol=1e-08)))"


@pytest.mark.parametrize(
    "make",
    [
        lambda p: MinimizeWrapper(p, dict(method="CG", options=dict(maxiter=3))),
        lambda p: MinimizeWrapper(p, "trust-ncg"),
        lambda p: LeastSquaresWrapper(p, dict(method="trf", max_nfev=4)),
        lambda p: BasinHoppingWrapper(p, search_args=dict(niter=1, rng=0)),
    ],
)
def test_the_code_runs(tmp_path, make):
    model = torch.nn.Linear(2, 1, bias=False).double()
    optimizer = make(model.parameters())
    squares = isinstance(optimizer, LeastSquaresWrapper)
    optimizer.callbacks.append(RunStore(tmp_path))
    optimizer.step(lambda: model.weight.flatten() - 1 if squares else (model.weight - 1).square().sum())
    again = eval(RunStore(tmp_path).runs[0].code, {**globals(), "model": model})
    assert (type(again), again.name, again._options) == (type(optimizer), optimizer.name, optimizer._options)


def test_an_optimizer_of_torch_is_kept(tmp_path):
    x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    run = observe(torch.optim.SGD([x], lr=0.1), lambda: quartic(x), 4, callbacks=[RunStore(tmp_path)])
    run.wait()
    (stored,) = RunStore(tmp_path)
    assert (stored.method, stored.history, stored.code, stored.x) == ("SGD", run.history, "", None)


def test_many_parameters_are_not_kept(tmp_path):
    minimize(quartic, torch.ones(1001), "CG", options=dict(maxiter=1), callbacks=[RunStore(tmp_path)])
    assert RunStore(tmp_path).runs[0].x is None


def test_what_the_history_keeps_is_kept(tmp_path):
    result = kept(tmp_path, keep_parameters=True, keep_evaluations=True)
    history = RunStore(tmp_path)["BFGS"].history
    assert history == result.history
    assert len(history.evaluations) == result.nfev
    np.testing.assert_array_equal(history.parameters, result.history.parameters)


def test_one_store_for_runs_at_the_same_time(tmp_path):
    store, runs = RunStore(tmp_path), []
    for shift in range(4):
        x = torch.nn.Parameter(torch.full((2,), 1.0 + shift, dtype=torch.float64))
        runs.append(MinimizeWrapper([x], "L-BFGS-B", callbacks=[store]).start(lambda x=x: quartic(x)))
    results = [run.wait() for run in runs]
    assert sorted(run.loss for run in store) == sorted(result.fun for result in results)
    assert [run.name for run in store] == ["L-BFGS-B", "L-BFGS-B 2", "L-BFGS-B 3", "L-BFGS-B 4"]


def test_the_table(tmp_path):
    store = RunStore(tmp_path)
    for method in ("CG", "BFGS", "Nelder-Mead"):
        kept(tmp_path, method)
    assert store.names == ["CG", "BFGS", "Nelder-Mead"]
    for column, value in COLUMNS.items():
        values = [value(run) for run in store.sorted_by(column)]
        assert values == sorted(values)
        assert [value(run) for run in store.sorted_by(column, descending=True)] == sorted(values, reverse=True)
    assert [run.method for run in store.sorted_by("created", descending=True)] == ["Nelder-Mead", "BFGS", "CG"]
    most = store["Nelder-Mead"].evaluations
    few = store.where(lambda run: run.evaluations < most and run.success)
    assert [run.method for run in few] == ["CG", "BFGS"]
    assert list(store.histories(["BFGS", "CG"])) == ["BFGS", "CG"]
    assert store.histories()["CG"] == store["CG"].history
    for text in (repr(store), store._repr_html_()):
        assert all(name in text for name in ("CG", "Nelder-Mead", f"{store['BFGS'].loss:.6g}"))


def test_names_are_changed_and_runs_deleted(tmp_path):
    store = RunStore(tmp_path)
    kept(tmp_path, name="first try")
    kept(tmp_path, "CG")
    before = store["first try"]
    store.rename("first try", " the best ")
    after = store["the best"]
    assert (after.loss, after.code, after.created, after.history) == (
        before.loss,
        before.code,
        before.created,
        before.history,
    )
    np.testing.assert_array_equal(after.x, before.x)
    store.rename("the best", "the best")
    with pytest.raises(ArgumentError, match="taken"):
        store.rename("the best", "CG")
    with pytest.raises(ArgumentError, match="empty"):
        store.rename("the best", " ")
    with pytest.raises(ArgumentError, match="there is no run 'x'"):
        store.delete(["CG", "x"])
    assert len(store) == 2
    store.delete("CG")
    assert store.names == ["the best"]
    assert len(list(tmp_path.iterdir())) == 1


def test_the_page(tmp_path):
    kept(tmp_path / "runs", "CG", name="a < b")
    kept(tmp_path / "runs", "BFGS")
    store = RunStore(tmp_path / "runs")
    page = store.write_html(tmp_path / "page.html", "a < b")
    assert (tmp_path / "page.html").read_text() == page
    assert "a &lt; b" in page
    assert "BFGS" not in page
    assert "Plotly.newPlot" in page
    assert "MinimizeWrapper(model.parameters(), dict(method=&#x27;CG&#x27;" in page
    assert "<script src=" not in page
    assert "2 runs" in store.write_html(tmp_path / "page.html")


def test_a_run_that_was_killed_and_one_that_goes_on(tmp_path):
    store, begun, go = RunStore(tmp_path), threading.Event(), threading.Event()
    x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))

    def closure():
        if begun.is_set():
            go.wait(60)
        begun.set()
        return quartic(x)

    run = MinimizeWrapper([x], "CG", callbacks=[store], start_check=False).start(closure)
    begun.wait(60)
    while not len(store):
        time.sleep(0.01)
    (under_way,) = store
    assert (under_way.success, under_way.loss, under_way.message) == (None, None, "goes on, or was killed")
    assert "–" in repr(store)
    go.set()
    run.wait()
    assert store.runs[0].loss == run.result.fun
    whole = store.runs[0].path.read_bytes().split(b"\n")
    (tmp_path / "cut.jsonl").write_bytes(b"\n".join(whole[:3]) + b"\n" + whole[3][:20])
    cut = next(run for run in store if run.path.name == "cut.jsonl")
    assert (cut.success, len(cut.history)) == (None, 2)
    store.rename(cut.name, "cut short")
    assert store["cut short"].method == "CG"


def test_an_ending_without_a_footer(tmp_path):
    """The process was killed between the end of the run and the last line."""
    result = kept(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:-2]) + b"\n")
    (run,) = RunStore(tmp_path)
    assert (run.loss, run.message, run.code, run.x) == (result.fun, result.message, "", None)


@pytest.mark.parametrize("content", [b"", b"{}", b"nothing\n", b"[1]\n", json.dumps({"method": 3}).encode() + b"\n"])
def test_a_file_that_cannot_be_read_is_left_out(tmp_path, content):
    kept(tmp_path)
    (tmp_path / "other.jsonl").write_bytes(content)
    with pytest.warns(StorageWarning, match=r"other\.jsonl"):
        assert len(RunStore(tmp_path).runs) == 1


def test_a_thousand_runs_are_listed_from_two_lines_each(tmp_path, monkeypatch):
    kept(tmp_path)
    (path,) = tmp_path.iterdir()
    text = path.read_bytes()
    for index in range(999):
        (tmp_path / f"{index:04}.jsonl").write_bytes(text)
    monkeypatch.setattr(HistoryFile, "read", lambda *_: pytest.fail("a whole file was read"))
    store = RunStore(tmp_path)
    assert len(store.sorted_by("loss")) == 1000
    assert store.names[-1] == "BFGS 1000"


REFUSED = {
    "a number": (lambda path: RunStore(3), ArgumentTypeError, "a path must be"),
    "a file": (lambda path: RunStore(path / "file"), StorageError, "cannot be made"),
    "no column": (lambda path: RunStore(path).sorted_by("los"), ArgumentError, "choose one of name"),
    "no run": (lambda path: RunStore(path)["a"], ArgumentError, "there are none"),
    "no run to show": (lambda path: RunStore(path).histories("a"), ArgumentError, "there are none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, tmp_path):
    (tmp_path / "file").write_text("text")
    call, kind, text = REFUSED[case]
    with pytest.raises(kind, match=text):
        call(tmp_path)


def test_an_empty_folder(tmp_path):
    assert "no runs" in repr(RunStore(tmp_path))
    assert len(RunStore(tmp_path)) == 0
