"""What a run tells and keeps: frozen events, honest counts, columns, and a stored form that comes back the same."""

import copy
import dataclasses
import json
import math
import pickle
import sys
import threading
import warnings

import numpy as np
import pytest
import scipy
import scipy.optimize
import torch

from torchmin_nb import METHODS, Evaluation, History, HistoryFile, Iteration, MinimizeWrapper
from torchmin_nb.core.history.records import Totals
from torchmin_nb.errors import ArgumentError, HistoryError, StartWarning

# trust-constr ends before its barrier is gone.
pytestmark = pytest.mark.filterwarnings("ignore:trust-constr reports success:torchmin_nb.errors.ConvergenceWarning")

EACH = pytest.mark.parametrize("method", METHODS)
SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))


class Counted:
    """A Rosenbrock closure that counts its own calls."""

    def __init__(self):
        self.p = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return (1 - self.p[0]) ** 2 + 100 * (self.p[1] - self.p[0] ** 2) ** 2


def _run(method="trust-ncg", maxiter=8, **kwargs):
    closure = Counted()
    optimizer = MinimizeWrapper(
        [closure.p], {"method": method, "options": {"maxiter": maxiter}}, start_check=False, **kwargs
    )
    optimizer.step(closure)
    return optimizer, closure


def _history(*iterations, **kwargs):
    history = History("BFGS", **kwargs)
    for iteration in iterations:
        history.append(iteration)
    return history


# Events


@pytest.mark.parametrize("event", [Iteration(0, 1.0), Evaluation(0, 0, 1.0), Totals(1, 1, 0, 0, 0.1)])
def test_events_are_frozen(event):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, dataclasses.fields(event)[0].name, 3)
    with pytest.raises((AttributeError, TypeError)):
        event.extra = 3


def test_what_is_not_reported_is_none():
    iteration = Iteration(0, 1.0)
    assert iteration.grad_norm is iteration.step_norm is iteration.trust_radius is iteration.accepted is None


@EACH
def test_counts_are_those_of_the_closure(method):
    optimizer, closure = _run(method, maxiter=40, keep_evaluations=True)
    history = optimizer.history
    assert history.totals.nfev == closure.calls == len(history.evaluations)
    assert [event.index for event in history.evaluations] == list(range(closure.calls))
    assert (np.diff(history.nfev) >= 0).all()
    assert history.nfev[-1] <= closure.calls
    spec = METHODS[method]
    assert (history.totals.njev > 0) == (spec.gradient != "none")
    assert (history.totals.nhvp > 0) == (spec.curvature != "none")
    assert (history.totals.nhev > 0) == (spec.curvature == "dense")


@EACH
def test_index_0_is_the_start(method):
    optimizer, _ = _run(method, maxiter=40, keep_parameters=True)
    first = optimizer.history[0]
    assert first.index == 0
    assert first.loss == pytest.approx(24.2)
    assert first.nfev == 1
    assert first.step_norm is first.reduction_ratio is first.accepted is None
    if METHODS[method].gradient != "none":
        assert first.grad_norm == pytest.approx(np.hypot(215.6, 88.0))
        assert first.grad_norm_inf == pytest.approx(215.6)
    else:
        assert first.grad_norm is first.grad_norm_inf is None
    np.testing.assert_array_equal(optimizer.history.parameters[0], [-1.2, 1.0])
    assert list(optimizer.history.index) == list(range(len(optimizer.history)))


@EACH
def test_the_trajectory_is_that_of_the_iterations(method):
    if method == "COBYLA" and SCIPY < (1, 16):
        pytest.skip("this SciPy's COBYLA calls back before it evaluates the point")
    history = _run(method, maxiter=60, keep_parameters=True)[0].history
    x = history.parameters
    assert x.shape == (len(history), 2)
    losses = (1 - x[:, 0]) ** 2 + 100 * (x[:, 1] - x[:, 0] ** 2) ** 2
    np.testing.assert_allclose(losses, history.loss, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(np.diff(x, axis=0), axis=1), history.step_norm[1:], atol=1e-12)


def test_bounded_powell_reports_the_point_it_holds():
    """Its line search may come back to a trial far older than the memo, and worse than the best."""
    p = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = MinimizeWrapper([p], {"method": "Powell", "bounds": [(-1.5, 3), (-4, 0.8)]}, keep_parameters=True)
    optimizer.step(lambda: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2)
    x = optimizer.history.parameters
    losses = (1 - x[:, 0]) ** 2 + 100 * (x[:, 1] - x[:, 0] ** 2) ** 2
    np.testing.assert_allclose(losses, optimizer.history.loss, rtol=1e-9, atol=1e-15)


@EACH
def test_watching_costs_nothing(method):
    class Watch:
        def __call__(self, iteration):
            assert iteration.metrics is not None

        def on_evaluation(self, evaluation):
            assert evaluation.step >= 0

    _, plain = _run(method, maxiter=40)
    optimizer, watched = _run(method, maxiter=40, callbacks=Watch(), keep_parameters=True, keep_evaluations=True)
    assert watched.calls == plain.calls
    assert torch.equal(watched.p, plain.p)
    assert len(optimizer.history.evaluations) == watched.calls


@EACH
def test_elapsed_never_runs_back(method):
    history = _run(method, maxiter=30, keep_evaluations=True)[0].history
    assert (np.diff(history.elapsed) >= 0).all()
    assert (np.diff([event.elapsed for event in history.evaluations]) >= 0).all()
    assert 0 < history.elapsed[-1] <= history.totals.seconds


def test_evaluations_know_their_iteration_and_step():
    history = _run("L-BFGS-B", keep_evaluations=True, keep_parameters=True)[0].history
    first = history.evaluations[0]
    assert (first.index, first.iteration, first.step) == (0, 0, 0.0)
    for event in history.evaluations[1:]:
        assert event.step > 0
        assert history[event.iteration - 1].nfev <= event.index


@EACH
def test_both_records_have_a_step_norm(method):
    history = _run(method, keep_evaluations=True)[0].history
    assert all(event.step == event.step_norm for event in history.evaluations)
    assert [event.step_norm for event in history.evaluations[:1]] == [0.0]
    with pytest.raises((AttributeError, TypeError)):
        history.evaluations[0].step = 1.0


@pytest.mark.parametrize("name", ["step", "step_norm"])
def test_evaluations_stored_under_either_name_are_read(name, tmp_path):
    history = _run("BFGS", keep_evaluations=True)[0].history
    stored = json.loads(history.to_json())
    for evaluation in stored["evaluations"]:
        evaluation[name] = evaluation.pop("step_norm")
    assert History.from_json(json.dumps(stored)) == history
    del stored["evaluations"][0][name]  # each record by itself
    read = History.from_json(json.dumps(stored))
    assert [event.step_norm for event in read.evaluations] == [event.step_norm for event in history.evaluations]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "record",
    [Iteration(3, 1.5, metrics={"a": 2.0}), Evaluation(4, 2, math.inf, step_norm=0.5), Totals(1, 2, 3, 4, 5.0)],
)
def test_records_are_pickled_by_the_names_of_their_fields(record, protocol):
    assert record.__getstate__() == dataclasses.asdict(record)
    assert pickle.loads(pickle.dumps(record, protocol)) == copy.deepcopy(record) == record


def test_what_a_pickled_record_lacks_has_its_default():
    iteration = Iteration(3, 1.5, metrics={"a": 2.0}, rejected_errors=2)
    state = iteration.__getstate__()
    del state["metrics"], state["rejected_errors"]
    read = Iteration.__new__(Iteration)
    read.__setstate__(state)
    assert read == dataclasses.replace(iteration, metrics={}, rejected_errors=0)
    with pytest.raises(KeyError, match="loss is missing"):
        read.__setstate__({"index": 3})


def test_rejected_steps_hold_the_old_point():
    history = _run("trust-exact", maxiter=12)[0].history
    rejected = [iteration for iteration in history if iteration.accepted is False]
    assert rejected
    for iteration in rejected:
        before = history[iteration.index - 1]
        assert iteration.step_norm == 0
        assert (iteration.loss, iteration.grad_norm) == (before.loss, before.grad_norm)
        assert iteration.reduction_ratio < 0.25
        assert iteration.trust_radius < before.trust_radius


# History


def test_columns():
    history = _run("trust-ncg")[0].history
    counts = {"index", "nfev", "njev", "nhev", "nhvp", "rejected_errors"}
    for name in [field.name for field in dataclasses.fields(Iteration)]:
        if name == "metrics":
            continue
        column = getattr(history, name)
        assert column.shape == (len(history),)
        assert column.dtype == (np.int64 if name in counts else np.float64)
        expected = [getattr(iteration, name) for iteration in history]
        np.testing.assert_array_equal(column, [math.nan if value is None else value for value in expected])
        assert name in dir(history)


def _stored(history, path):
    """The history as it is read from both kinds of files, and from a pickle."""
    history.to_json(path / "history.json")
    keeper = HistoryFile(path / "run.jsonl")
    for name, event in [
        ("on_start", history),
        *(("__call__", iteration) for iteration in history),
        ("on_end", history),
    ]:
        getattr(keeper, name)(event)
    return [History.from_json(path / "history.json"), HistoryFile.read(path / "run.jsonl"), copy.deepcopy(history)]


@EACH
def test_iterations_are_found_by_their_values(method, tmp_path):
    history = _run(method)[0].history
    for read in [history, *_stored(history, tmp_path)]:
        for position, iteration in enumerate(history):
            assert read.index(iteration) == read.index(iteration, position) == position
            assert read.index(iteration, -len(read), position + 1) == position
            assert iteration in read
            assert read.count(iteration) == 1
            for inside in [(position + 1,), (0, position)]:
                with pytest.raises(ValueError, match="is not among the"):
                    read.index(iteration, *inside)


@pytest.mark.parametrize("nan", [math.nan, float("nan"), np.float64("nan")])
def test_iterations_with_nan_are_found(nan, tmp_path):
    rows = [Iteration(0, 1.0), Iteration(1, nan, grad_norm=math.inf, metrics={"a": nan}), Iteration(2, 0.5)]
    history = _history(*rows)
    for read in [history, *_stored(history, tmp_path)]:
        assert [read.index(row) for row in rows] == [0, 1, 2]
        assert rows[1] in read


@pytest.mark.parametrize("other", [None, 0, 24.2, "x", Iteration(1, 0.0), Evaluation(0, 0, 24.2)])
def test_what_is_not_in_the_history_is_an_error(other):
    history = _run()[0].history
    assert other not in history
    assert history.count(other) == 0
    with pytest.raises(ArgumentError, match="pass an Iteration of this history"):
        history.index(other)


def test_the_first_of_equal_iterations_is_found():
    same = [Iteration(7, 1.0), Iteration(7, 1.0), Iteration(7, 2.0)]
    history = _history(*same)
    assert [history.index(row) for row in same] == [0, 0, 2]
    assert (history.index(same[0], 1), history.count(same[0])) == (1, 2)


def test_the_index_is_a_column_as_well():
    history = _run()[0].history
    assert isinstance(history.index, np.ndarray)
    assert history.index.tolist() == list(range(len(history)))
    assert type(pickle.loads(pickle.dumps(history.index))) is np.ndarray
    assert (history.index[-1], int(history.index.max())) == (len(history) - 1, len(history) - 1)
    assert repr(history.index) == repr(history.column("index"))
    with pytest.raises(TypeError, match=r"call history\.index"):
        history.index[1:](history[1])


@pytest.mark.parametrize(
    "compute",
    [np.max, np.mean, np.diff, lambda i: i.sum(), lambda i: i + 1, lambda i: i == 1, np.sqrt, np.argmax, np.cumsum],
)
def test_what_is_computed_from_the_index_is_plain(compute):
    history = _run()[0].history
    plain = compute(history.column("index"))
    assert type(compute(history.index)) is type(plain)
    np.testing.assert_array_equal(compute(history.index), plain)
    np.testing.assert_array_equal(plain, compute(np.arange(len(history))))


def test_columns_are_copies():
    history = _run()[0].history
    history.loss[:] = 0
    assert history.loss[0] == pytest.approx(24.2)
    assert history[0].loss == pytest.approx(24.2)


def test_columns_grow_with_the_history():
    history = History()
    assert history.loss.shape == (0,)
    for index in range(5):
        history.append(Iteration(index, float(index)))
        assert list(history.loss) == list(range(index + 1))


def test_columns_may_be_read_by_several_threads_while_the_run_writes():
    history, wrong = History(), []
    stop = threading.Event()

    def read():
        while not stop.is_set():
            try:
                column = history.column("loss")
                if not np.array_equal(column, np.arange(len(column))):
                    wrong.append(column)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for index in range(3000):
        history.append(Iteration(index, float(index)))
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    np.testing.assert_array_equal(history.loss, np.arange(3000))


def test_history_is_a_sequence():
    history = _run()[0].history
    assert history[0].index == 0
    assert history[-1].index == len(history) - 1
    assert [iteration.index for iteration in history[1:3]] == [1, 2]
    assert next(reversed(history)) is history[-1]
    assert history[2] in history
    assert history.index[2] == 2
    with pytest.raises(IndexError):
        history[len(history)]
    with pytest.raises(AttributeError, match="no attribute 'losss'"):
        _ = history.losss


def test_metrics_recorded_in_the_closure():
    p = torch.nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    optimizer = MinimizeWrapper([p], "trust-ncg", keep_evaluations=True)

    def closure():
        loss = (p**4).sum()
        optimizer.record(double=2 * loss, half=loss.item() / 2)
        if loss < 10:
            optimizer.record(late=1)
        return loss

    optimizer.step(closure)
    metrics = optimizer.history.metrics
    np.testing.assert_allclose(metrics["double"], 2 * optimizer.history.loss)
    np.testing.assert_allclose(metrics["half"], optimizer.history.loss / 2)
    assert np.isnan(metrics["late"][0])
    assert metrics["late"][-1] == 1
    assert all(event.metrics["double"] == 2 * event.loss for event in optimizer.history.evaluations)
    assert all(type(value) is float for value in optimizer.history[0].metrics.values())


def test_the_trajectory_is_kept_on_request_only():
    history = _run()[0].history
    assert history.evaluations == []
    with pytest.raises(HistoryError, match="keep_parameters=True"):
        _ = history.parameters


@EACH
def test_trials_are_the_points_of_the_evaluations(method):
    optimizer, _ = _run(method, maxiter=12, keep_parameters=True, keep_evaluations=True)
    history = optimizer.history
    assert history.trials.shape == (len(history.evaluations), 2)
    losses = [float(scipy.optimize.rosen(x)) for x in history.trials]
    np.testing.assert_allclose(losses, [event.loss for event in history.evaluations], rtol=1e-9, atol=1e-12)
    iterate = history.parameters[[max(event.iteration - 1, 0) for event in history.evaluations]]
    np.testing.assert_allclose(
        np.linalg.norm(history.trials - iterate, axis=1), [event.step for event in history.evaluations], atol=1e-12
    )


@pytest.mark.parametrize("keep", [{}, {"keep_parameters": True}, {"keep_evaluations": True}])
def test_trials_need_both(keep):
    history = _run(**keep)[0].history
    with pytest.raises(HistoryError, match="keep_parameters=True and keep_evaluations=True"):
        _ = history.trials


def test_a_run_that_has_not_begun_has_an_empty_trajectory():
    history = History("CG", n_parameters=3, keep_parameters=True, keep_evaluations=True)
    assert history.parameters.shape == history.trials.shape == (0, 3)


def test_trials_that_are_not_finite_are_stored():
    history = History("CG", keep_parameters=True, keep_evaluations=True)
    history.evaluated(Evaluation(0, 0, math.nan), np.array([math.inf, math.nan]))
    np.testing.assert_array_equal(History.from_json(history.to_json()).trials, [[math.inf, math.nan]])


def test_a_stored_history_may_be_older_than_trials():
    stored = json.loads(_run(keep_parameters=True, keep_evaluations=True)[0].history.to_json())
    del stored["trials"]
    again = History.from_json(json.dumps(stored))
    assert again.evaluations
    assert len(again.trials) == 0


def test_each_run_has_a_history_of_its_own():
    optimizer, closure = _run()
    first = optimizer.history
    length = len(first)
    optimizer.step(closure)
    assert optimizer.history is not first
    assert len(first) == length
    assert optimizer.history[0].index == 0


# Stored forms


def test_to_dataframe():
    pandas = pytest.importorskip("pandas")
    optimizer, _ = _run()
    frame = optimizer.history.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.index.name == "index"
    assert len(frame) == len(optimizer.history)
    np.testing.assert_array_equal(frame["loss"], optimizer.history.loss)


def test_to_dataframe_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        _run()[0].history.to_dataframe()


def test_to_csv(tmp_path):
    history = _history(Iteration(0, math.nan, metrics={"a, b": 1.0}), Iteration(1, 2.0, grad_norm=math.inf))
    text = history.to_csv(tmp_path / "run.csv")
    assert (tmp_path / "run.csv").read_text() == text
    head, first, second = text.splitlines()
    assert head.startswith("index,loss,grad_norm,")
    assert head.endswith('"a, b"')
    assert first.startswith("0,nan,,")
    assert first.endswith(",1.0")
    assert second.startswith("1,2.0,inf,")
    assert second.endswith(",")


FULL = {
    "nothing": lambda: History(),
    "a run": lambda: _run()[0].history,
    "a run with everything": lambda: _run(keep_parameters=True, keep_evaluations=True)[0].history,
    "stopped": lambda: _run(max_evaluations=2)[0].history,
    "NaN and inf": lambda: _history(
        Iteration(0, math.nan, grad_norm=math.inf, metrics={"m": -math.inf, "n": math.nan}), Iteration(1, -math.inf)
    ),
    "odd options": lambda: History(
        "BFGS", options={"norm": math.inf, "array": np.eye(2), "list": [1.0, math.inf, np.ones(2)], "map": map}
    ),
}


@pytest.mark.parametrize("make", FULL.values(), ids=FULL)
def test_json_round_trip(make, tmp_path):
    history = make()
    text = history.to_json(tmp_path / "run.json")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    for source in (text, tmp_path / "run.json", str(tmp_path / "run.json")):
        again = History.from_json(source)
        assert again == history
        assert again.summary() == history.summary()
        np.testing.assert_array_equal(again.loss, history.loss)
        assert again.evaluations == history.evaluations
    if history.keep_parameters:
        np.testing.assert_array_equal(again.parameters, history.parameters)


JUNK = {
    "empty object": "{}",
    "cut": '{"format": ',
    "other format": '{"format": "other"}',
    "not an object": "[1, 2]",
    "words": "junk",
    "no file": "/nowhere/at/all.json",
    "very long": "x" * 5000,
}


@pytest.mark.parametrize("source", JUNK.values(), ids=JUNK)
def test_from_json_refuses_junk(source):
    with pytest.raises(HistoryError, match=r"not a stored history.*History.to_json") as caught:
        History.from_json(source)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[]", b'"text"', b""])
def test_from_json_refuses_junk_in_a_file(content, tmp_path):
    path = tmp_path / "junk.json"
    path.write_bytes(content)
    with pytest.raises(HistoryError):
        History.from_json(path)


@pytest.mark.parametrize(
    "change",
    [
        {"iterations": [{"index": 0, "loss": "low"}]},
        {"iterations": [{"nothing": 0}]},
        {"iterations": [3]},
        {"iterations": 3},
        {"totals": {"nfev": 1}},
        {"parameters": [["a"]]},
        {"evaluations": [{}]},
    ],
)
def test_from_json_refuses_a_spoilt_history(change):
    stored = json.loads(_run()[0].history.to_json())
    with pytest.raises(HistoryError):
        History.from_json(json.dumps(stored | change))


# What it looks like


def test_html_has_the_summary_and_the_ends():
    history = _run("Nelder-Mead", maxiter=40)[0].history
    html = history._repr_html_()
    assert history.summary() in html
    assert html.count("<tr>") == 1 + 10 + 1
    assert "…" in html
    assert "trust radius" not in html


def test_html_escapes():
    history = _history(Iteration(0, 1.0))
    history.method = "<script>"
    assert "<script>" not in history._repr_html_()


@pytest.mark.parametrize("loss", [math.nan, math.inf, -1.0, 0.0, 1e300])
def test_html_of_any_loss(loss):
    assert _history(Iteration(0, loss), Iteration(1, 1.0))._repr_html_()


def test_summary_tells_how_it_stands():
    history = History("BFGS")
    assert history.summary() == "BFGS: no iteration yet"
    history.append(Iteration(0, 2.0))
    assert history.summary() == "BFGS: 0 iterations, loss 2, 0 s, running"
    assert repr(history) == "<History BFGS: 0 iterations, loss 2, 0 s, running>"
    assert "Optimization terminated" in _run("BFGS", maxiter=100)[0].history.summary()


def test_metrics_are_read_once_as_a_run_grows():
    """A live view asks for them at each redraw: only what is new is looked at."""
    reads = []

    class Counted(dict):
        def __iter__(self):
            reads.append(1)
            return super().__iter__()

    history = History("CG")
    for index in range(4):
        history.append(Iteration(index, 1.0, metrics=Counted(a=float(index)) if index else Counted()))
    for _ in range(3):
        np.testing.assert_array_equal(history.metrics["a"], [np.nan, 1, 2, 3])
    history.append(Iteration(4, 1.0, metrics=Counted(b=7.0)))
    np.testing.assert_array_equal(history.metrics["a"], [np.nan, 1, 2, 3, np.nan])
    np.testing.assert_array_equal(history.metrics["b"], [*[np.nan] * 4, 7])
    assert len(reads) == 5


def _true_losses(method, seed, **arguments):
    """History and true losses, of a quartic in a box that binds. Differences of gradients may find lower points."""
    generator = torch.Generator().manual_seed(seed)
    a, c, start = (torch.randn(size, generator=generator) for size in ((3, 3), 3, 3))
    x = torch.nn.Parameter(start)

    def loss(x):
        return (a @ (x - c)).square().sum() + (x**4).sum()

    optimizer = MinimizeWrapper(
        [{"params": [x], "bounds": (-0.7, 0.4)}], {"method": method, **arguments}, keep_parameters=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StartWarning)
        optimizer.step(lambda: loss(x))
    points = torch.tensor(optimizer.history.parameters, dtype=x.dtype)
    return optimizer, [float(loss(point)) for point in points], float(loss(x.detach()))


BOUNDED = [name for name, spec in METHODS.items() if spec.bounds]
CONSTRAINED = [name for name, spec in METHODS.items() if spec.constraints]


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("method", BOUNDED)
@pytest.mark.crossed
def test_the_loss_of_an_iteration_is_that_of_its_point(method, seed):
    optimizer, losses, end = _true_losses(method, seed)
    np.testing.assert_allclose(optimizer.history.loss, losses, rtol=1e-5)
    assert optimizer.result.fun == pytest.approx(end, rel=1e-5)


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("method", CONSTRAINED)
@pytest.mark.crossed
def test_the_loss_of_an_iteration_is_that_of_its_point_under_constraints(method, seed):
    constraint = scipy.optimize.LinearConstraint(np.ones((1, 3)), -0.2, 0.2)
    optimizer, losses, end = _true_losses(method, seed, constraints=constraint, options={"maxiter": 60})
    np.testing.assert_allclose(optimizer.history.loss, losses, rtol=1e-5)
    assert optimizer.result.fun == pytest.approx(end, rel=1e-5)
