"""What earlier versions have written (see tests/fixtures/write.py) is read to the end by this one.

`expected.json` was written beside it, by the version itself: it is the oracle of all that is compared here.
"""

import copy
import io
import json
import math
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import torchmin_nb
from tests.fixtures.write import COLUMNS, LOCAL, WRAPPERS, loss_of, whole_run, wrapper
from torchmin_nb import (
    GLOBAL_METHODS,
    LEAST_SQUARES_METHODS,
    METHODS,
    Checkpoint,
    History,
    HistoryFile,
    analysis,
    explore,
)
from torchmin_nb.errors import ArgumentError

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = sorted(path.name for path in FIXTURES.iterdir() if (path / "expected.json").exists())
EACH_VERSION = pytest.mark.parametrize("version", VERSIONS)
EACH_WRAPPER = pytest.mark.parametrize("name", WRAPPERS)
PICKLED = [(version, path.stem) for version in VERSIONS for path in sorted((FIXTURES / version).glob("*.pkl"))]
RUN = "trust-exact"
"""The run whose parts were stored one by one."""


def expected(version):
    return json.loads((FIXTURES / version / "expected.json").read_text())


def unpickled(version, name):
    return pickle.loads((FIXTURES / version / f"{name}.pkl").read_bytes())


def state_of(version, name):
    return torch.load(FIXTURES / version / f"state_dict-{name}.pt", weights_only=True)


def require_history(history, told):
    """Every column, point and count is what the writing version had."""
    assert (history.method, history.message, history.final_loss) == (
        told["method"], told["message"], told["final_loss"])  # fmt: skip
    totals = history.totals
    assert [totals.nfev, totals.njev, totals.nhev, totals.nhvp] == told["totals"]
    for name in COLUMNS:
        column = [math.nan if value is None else value for value in told["columns"][name]]
        np.testing.assert_array_equal(getattr(history, name), column)
    np.testing.assert_array_equal(history.metrics["half"], told["half"])
    np.testing.assert_array_equal(history.parameters, told["parameters"])
    np.testing.assert_array_equal(history.trials, told["trials"])
    assert [evaluation.loss for evaluation in history.evaluations] == told["trial_losses"]
    assert [evaluation.step_norm for evaluation in history.evaluations] == told["trial_steps"]
    assert any(told["trial_steps"])
    assert [history.index(iteration) for iteration in history] == list(range(len(history)))
    assert History.from_json(history.to_json()) == history == pickle.loads(pickle.dumps(history))


def require_result(result, told):
    assert {name: np.asarray(result[name]).tolist() for name in told} == told
    assert "<table>" in result._repr_html_()


def test_two_versions_are_kept():
    assert VERSIONS == ["0.1.0-build1", "0.1.0-build2"]
    assert {len(list((FIXTURES / version).glob("*.pt"))) for version in VERSIONS} == {len(WRAPPERS) + 1}


@pytest.mark.parametrize(("version", "name"), PICKLED)
def test_every_pickle_loads_and_is_pickled_again(version, name):
    value = unpickled(version, name)
    again = pickle.loads(pickle.dumps(value))
    assert type(again) is type(value)
    assert repr(again).split(" at 0x")[0] == repr(value).split(" at 0x")[0]


@EACH_WRAPPER
@EACH_VERSION
def test_a_state_dict_goes_on(version, name):
    state, told = state_of(version, name), expected(version)["runs"][name]
    x = torch.nn.Parameter(state["run"]["result"]["x"].clone())
    optimizer = wrapper(name, x)
    optimizer.load_state_dict(state)
    require_history(optimizer.history, told["history"])
    require_result(optimizer.result, told["result"])
    if optimizer.supports_warm_start:
        assert optimizer._loaded is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a state_dict does not hold, by method: see test_manners
        assert float(optimizer.step(loss_of(name, x))) == pytest.approx(told["gone_on"], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in WRAPPERS if name != "trf"])
@EACH_VERSION
def test_an_optimizer_runs_again(version, name):
    optimizer, told = unpickled(version, f"optimizer-{name}"), expected(version)["runs"][name]
    assert type(optimizer) is WRAPPERS[name][0]
    require_history(optimizer.history, told["history"])
    require_result(optimizer.result, told["result"])
    (x,) = optimizer.param_groups[0]["params"]
    assert x.tolist() == told["result"]["x"]
    before = float(loss_of(name, x)().detach())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        after = float(optimizer.step(loss_of(name, x)))
    assert optimizer.result.x.tolist() == x.tolist()
    assert after <= before
    if name in LOCAL:
        assert after < before


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))], ids=["copy", "pickle"]
)
@EACH_WRAPPER
def test_an_optimizer_of_this_version_is_copied_and_runs_alike(name, way):
    optimizer = whole_run(name)
    twin = way(optimizer)
    assert type(twin) is type(optimizer)
    assert (twin.history, repr(twin)) == (optimizer.history, repr(optimizer))
    ends = []
    for each in (optimizer, twin):
        (x,) = each.param_groups[0]["params"]
        ends.append(float(each.step(loss_of(name, x))))
    assert ends[0] == ends[1]


PRIVATE = {
    ("core.execution.result", "RunSummary"),
    ("core.history.records", "Totals"),
    ("core.history.rows", "Rows"),
    ("core.history.rows", "_Mappings"),
    ("core.history.rows", "_Numbers"),
    ("core.methods.global_search", "_row"),
    ("core.methods.least_squares", "_row"),
    ("core.methods.local", "_row"),
    ("core.optimizers.least_squares_request", "LeastSquaresRequest"),
    ("core.optimizers.request", "Request"),
}
"""What a pickle of this version names within the packages: to be found there by later ones, whatever else moves."""


class Noting(pickle.Unpickler):
    """Notes the names of ours that a pickle asks for."""

    def __init__(self, stored):
        super().__init__(io.BytesIO(stored))
        self.names = set()

    def find_class(self, module, name):
        if module.startswith("torchmin_nb"):
            self.names.add((module.removeprefix("torchmin_nb").removeprefix("."), name))
        return super().find_class(module, name)


def test_pickles_name_the_packages_and_little_within_them():
    names = set()
    values = [*(unpickled(*each) for each in PICKLED), *map(whole_run, WRAPPERS), *GLOBAL_METHODS.values()]
    for value in values:
        noting = Noting(pickle.dumps(value))
        noting.load()
        names |= noting.names
    packages = {"", "analysis", "errors"}
    functions = {("explore.fit", "fit"), ("explore.suggest", "suggest")}  # `explore.fit` is the module
    assert names >= {("", "History"), ("", "Iteration"), ("", "Result"), ("", "Covariance"), ("analysis", "Order")}
    assert {each for each in names if each[0] not in {*packages, "explore"}} - functions == PRIVATE


@pytest.mark.parametrize("table", [METHODS, LEAST_SQUARES_METHODS, GLOBAL_METHODS], ids=["local", "squares", "global"])
def test_rows_of_methods_are_copied_by_name(table):
    for row in table.values():
        assert copy.deepcopy(row) is pickle.loads(pickle.dumps(row)) is row


@EACH_VERSION
def test_stored_histories_are_read(version):
    told, path = expected(version)["runs"][RUN]["history"], FIXTURES / version
    stored = [
        History.from_json(path / "history.json"),
        HistoryFile.read(path / "run.jsonl"),
        unpickled(version, "history"),
        unpickled(version, "history-read"),
    ]
    for history in stored:
        require_history(history, told)
        assert history == stored[0]
        assert (unpickled(version, "iteration"), unpickled(version, "totals")) == (history[1], history.totals)
        assert unpickled(version, "evaluation") == history.evaluations[1]


@EACH_VERSION
def test_a_file_goes_on_in_this_version(version, tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes((FIXTURES / version / "run.jsonl").read_bytes())
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    wrapper(RUN, x, callbacks=[HistoryFile(path)], keep_evaluations=True).step(loss_of(RUN, x))
    first, second = HistoryFile.read_all(path)
    assert [evaluation.step for evaluation in first.evaluations] == expected(version)["runs"][RUN]["history"][
        "trial_steps"
    ]
    assert second.message is not None


@EACH_VERSION
def test_a_checkpoint_goes_on(version):
    told = expected(version)["runs"][RUN]
    for saved in (Checkpoint.load(FIXTURES / version / "run.pt"), unpickled(version, "saved-run")):
        assert type(saved) is torchmin_nb.SavedRun
        require_history(saved.history, told["history"])
        assert saved.loss == told["result"]["fun"]
        x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        optimizer = wrapper(RUN, x)
        saved.restore(optimizer)
        assert x.tolist() == told["result"]["x"]
        assert float(optimizer.step(loss_of(RUN, x))) == pytest.approx(told["gone_on"], rel=1e-6, abs=1e-12)


@EACH_VERSION
def test_a_result_is_read(version):
    result = unpickled(version, "result")
    assert type(result) is torchmin_nb.Result
    require_result(result, expected(version)["runs"][RUN]["result"])
    assert "trust-exact" in result._repr_html_()


@EACH_VERSION
def test_rows_reports_and_data_are_read(version):
    told = expected(version)["others"]
    covariance = unpickled(version, "covariance")
    np.testing.assert_array_equal(covariance.matrix, told["covariance"])
    assert [error.shape for error in covariance.standard_errors().values()] == [(2,)]
    assert unpickled(version, "method") is METHODS["BFGS"]
    option = unpickled(version, "option")
    assert (option.name, option.default, option.loss_power in (0, 1), option.none) == ("gtol", 1e-5, True, False)
    assert unpickled(version, "report").ok
    assert unpickled(version, "traits") == explore.Traits(2, bounds=True)
    assert unpickled(version, "fit").fits is told["fit"]
    assert type(unpickled(version, "order")) is analysis.Order
    assert unpickled(version, "surface").loss.shape == (4, 4)
    assert set(unpickled(version, "profile").steps) == {"a", "b"}
    assert unpickled(version, "constraint").upper == 1
    error = unpickled(version, "error")
    assert (type(error), str(error)) == (ArgumentError, told["error"])
    assert unpickled(version, "functions") == [
        *(torchmin_nb.minimize, torchmin_nb.observe, torchmin_nb.record),
        *(explore.fit.fit, explore.suggest.suggest, analysis.sample),
    ]
