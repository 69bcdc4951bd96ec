"""Names of recorded numbers: those that an iteration has already are refused everywhere, and old files are read."""

import csv
import io
import json
from dataclasses import fields

import pytest
import torch

import torchmin_nb
from torchmin_nb import (
    BasinHoppingWrapper,
    DifferentialEvolutionWrapper,
    History,
    Iteration,
    LeastSquaresWrapper,
    MinimizeWrapper,
    minimize,
    observe,
)
from torchmin_nb.errors import ArgumentError

TAKEN = [field.name for field in fields(Iteration)]


def parameter():
    return torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))


def by_wrapper(make, residuals=False):
    """A run whose closure records by the optimizer's own `record`, or by the package's."""

    def start(own, name):
        x = parameter()
        optimizer = make(x)

        def closure():
            (optimizer.record if own else torchmin_nb.record)(**{name: 1.5})
            return x - 3 if residuals else ((x - 3) ** 2).sum()

        optimizer.step(closure)
        return optimizer.history

    return start


def observed(own, name):
    x = parameter()
    optimizer = torch.optim.SGD([x], lr=0.1)

    def closure():
        optimizer.zero_grad()
        torchmin_nb.record(**{name: 1.5})
        loss = ((x - 3) ** 2).sum()
        loss.backward()
        return loss

    watched = observe(optimizer, closure, 2)
    watched.wait(60)
    return watched.history


BOUNDS = [(-5, 5), (-5, 5)]
RUNS = {
    "a minimisation": by_wrapper(lambda x: MinimizeWrapper([x], "BFGS")),
    "without gradients": by_wrapper(lambda x: MinimizeWrapper([x], "Nelder-Mead")),
    "least squares": by_wrapper(lambda x: LeastSquaresWrapper([x], "trf"), residuals=True),
    "hops": by_wrapper(lambda x: BasinHoppingWrapper([x], basinhopping_kwargs={"niter": 2, "rng": 0})),
    "a population": by_wrapper(
        lambda x: DifferentialEvolutionWrapper([x], de_kwargs={"bounds": BOUNDS, "maxiter": 2, "rng": 0})
    ),
    "an observed optimizer": observed,
}


@pytest.mark.parametrize("own", [True, False], ids=["its own", "the package's"])
@pytest.mark.parametrize("start", RUNS.values(), ids=RUNS)
def test_names_of_iterations_are_refused(start, own):
    with pytest.raises(ArgumentError, match=r"record\(loss=\.\.\.\).*choose another name, such as my_loss"):
        start(own, "loss")


@pytest.mark.parametrize("start", RUNS.values(), ids=RUNS)
def test_other_names_are_kept(start):
    assert "my_loss" in start(False, "my_loss").metrics


@pytest.mark.parametrize("name", TAKEN)
def test_every_field_is_refused_also_outside_a_run(name):
    with pytest.raises(ArgumentError, match=name):
        torchmin_nb.record(**{name: 1.0})
    with pytest.raises(ArgumentError, match=name):
        MinimizeWrapper([parameter()], "BFGS").record(**{name: 1.0})


def test_minimize_refuses_too():
    def loss(x):
        torchmin_nb.record(index=1)
        return (x**2).sum()

    with pytest.raises(ArgumentError, match="index"):
        minimize(loss, [1.0])


def old_history():
    """As a version before wrote it, when nothing was refused."""
    history = History("BFGS")
    for index in range(3):
        history.append(Iteration(index, 10.0 - index, metrics={"loss": 100.0 + index, "index": 7.0, "mine": 1.0}))
    return history


def test_old_files_are_read_and_their_tables_are_right(tmp_path):
    path = tmp_path / "old.json"
    old_history().to_json(path)
    history = History.from_json(path)
    assert history == old_history()
    assert history.metrics["loss"].tolist() == [100.0, 101.0, 102.0]
    rows = list(csv.DictReader(io.StringIO(history.to_csv())))
    assert [row["loss"] for row in rows] == ["10.0", "9.0", "8.0"]
    assert [row["metrics/loss"] for row in rows] == ["100.0", "101.0", "102.0"]
    assert [row["mine"] for row in rows] == ["1.0"] * 3
    frame = history.to_dataframe()
    assert frame["loss"].tolist() == [10.0, 9.0, 8.0]
    assert frame.index.tolist() == [0, 1, 2]
    assert frame["metrics/index"].tolist() == [7.0] * 3
    json.loads(history.to_json())
