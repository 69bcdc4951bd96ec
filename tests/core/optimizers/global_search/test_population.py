"""Points that a search evaluates together."""

import pytest
import torch

import torchmin_nb
from tests.core.optimizers.global_search.searches import bowl, himmelblau, optimizer, rastrigin, short
from torchmin_nb.errors import (
    ArgumentTypeError,
    InconsistentClosureError,
)

TOGETHER = ("shgo", "differential_evolution", "brute")


class Net:
    """The closure form with a model and a loss of it: a tiny regression."""

    def __init__(self, dtype=torch.float64):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Tanh(), torch.nn.Linear(1, 1)).to(dtype)
        self.calls = 0

    @staticmethod
    def loss(model):
        inputs = torch.linspace(-1, 1, 20, dtype=next(model.parameters()).dtype).reshape(10, 2)
        return ((model(inputs).squeeze() - inputs.prod(1)) ** 2).mean() + 1e-3 * sum(
            p.square().sum() for p in model.parameters()
        )

    def __call__(self):
        self.calls += 1
        return self.loss(self.model)


def slow(net):
    """The same as a closure that shows no model."""
    return lambda: net()


POPULATION = {
    "shgo": dict(bounds=(-2.0, 2.0), n=128, sampling_method="sobol"),
    "differential_evolution": dict(bounds=(-2.0, 2.0), rng=3, maxiter=6, popsize=8, updating="deferred"),
    "brute": dict(bounds=(-2.0, 2.0), Ns=3),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", TOGETHER)
def test_a_population_at_once_gives_what_the_loop_gives(name, dtype):
    together, alone = Net(dtype), Net(dtype)
    results = [
        optimizer(name, net.model.parameters(), POPULATION[name], keep_evaluations=True) for net in (together, alone)
    ]
    results[0].step(together)
    results[1].step(slow(alone))
    fast, loop = results
    tolerance = 1e-9 if dtype == torch.float64 else 1e-3
    assert fast.result.fun == pytest.approx(loop.result.fun, rel=tolerance)
    assert fast.result.nfev == pytest.approx(loop.result.nfev, rel=0 if dtype == torch.float64 else 0.5)
    assert together.calls < alone.calls - 100
    if dtype == torch.float64:
        assert fast.result.x == pytest.approx(loop.result.x, abs=1e-6)
        assert fast.history.totals.nfev == pytest.approx(loop.history.totals.nfev, abs=2)
        assert len(fast.history) == len(loop.history)
    assert len(fast.history.evaluations) == fast.history.totals.nfev


@pytest.mark.parametrize("name", TOGETHER)
def test_a_loss_of_the_parameters_needs_no_closure(name):
    a = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    b = torch.nn.Parameter(torch.tensor([[1.0]], dtype=torch.float64))
    calls = []

    def loss(params):
        calls.append(1)
        return himmelblau(torch.cat([part.reshape(-1) for part in params]))

    made = optimizer(name, [a, b], short(name, bounds=(-5.0, 5.0)), loss=loss)
    made.step()
    assert made.result.fun == pytest.approx(0, abs=1e-6)
    assert a.shape == (1,)
    assert b.shape == (1, 1)
    assert len(calls) < made.history.totals.nfev
    made.start().wait()
    assert made.result.fun == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", TOGETHER)
def test_vmap_that_refuses_means_a_loop(name, caplog):
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))

    def branching(params):
        p = params[0]
        return himmelblau(p) if float(p[0].detach()) > -9 else p.sum()

    made = optimizer(name, [x], short(name, bounds=(-5.0, 5.0)), loss=branching)
    with caplog.at_level("DEBUG", logger="torchmin_nb"):
        made.step()
    assert "one point at a time" in caplog.text
    plain = optimizer(name, [x], short(name, bounds=(-5.0, 5.0)), loss=lambda params: himmelblau(params[0]))
    x.data.fill_(1.0)
    plain.step()
    assert made.result.x == pytest.approx(plain.result.x, abs=1e-5)


def test_a_loss_that_is_not_the_closures_is_refused():
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    made = torchmin_nb.BruteWrapper([x], dict(bounds=(-1, 1)), loss=lambda params: bowl(params[0]) + 1)
    with pytest.raises(InconsistentClosureError, match="must compute the same"):
        made.step(lambda: bowl(x))
    with pytest.raises(ArgumentTypeError, match="loss must be"):
        torchmin_nb.BruteWrapper([x], dict(bounds=(-1, 1)), loss=3)


def test_a_model_whose_closure_adds_something_is_looped_over():
    net = Net()
    made = optimizer("brute", net.model.parameters(), POPULATION["brute"], start_check=False)
    net.__class__ = type("Shifted", (Net,), {"__call__": lambda self: Net.__call__(self) + 1})
    made.step(net)
    assert net.calls == made.history.totals.nfev
    assert made.result.fun > 1


@pytest.mark.parametrize("budget", [1, 2, 40, 41])
def test_the_budget_holds_within_a_population(budget):
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    made = torchmin_nb.DifferentialEvolutionWrapper(
        [x], dict(bounds=(-5, 5), rng=0), loss=lambda p: rastrigin(p[0]), max_evaluations=budget, keep_evaluations=True
    )
    made.step()
    assert made.history.totals.nfev == budget
    assert len(made.history.evaluations) == budget
    assert made.result.fun == min(evaluation.loss for evaluation in made.history.evaluations)


def test_chunks(monkeypatch):
    from torchmin_nb.core.optimizers.global_search import population

    sizes = []
    losses = population.Population.losses
    monkeypatch.setattr(population, "_MAX_CHUNK", 7)
    monkeypatch.setattr(population, "_WORTHWHILE", 1)
    monkeypatch.setattr(
        population.Population, "losses", lambda self, rows: sizes.append(len(rows)) or losses(self, rows)
    )
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    made = torchmin_nb.DifferentialEvolutionWrapper(
        [x], dict(bounds=(-5, 5), rng=0, maxiter=2, polish=False), loss=lambda p: rastrigin(p[0])
    )
    made.step()
    assert sizes == [1, *[7, 7, 7, 7, 2] * 3]
    assert made.result.nfev == 90


def test_a_large_intermediate_makes_small_chunks():
    from torchmin_nb.core.optimizers.global_search.population import Population
    from torchmin_nb.core.parameters.flat import FlatParameters

    x = torch.nn.Parameter(torch.ones(10))
    weights = torch.ones(10, 20_000)
    small = Population(lambda p: p[0].square().sum(), FlatParameters([x]), explicit=True)
    large = Population(lambda p: (p[0] @ weights).exp().sum(), FlatParameters([x]), explicit=True)
    small.fit()
    large.fit()
    assert small.chunk == 1024
    assert 1 < large.chunk < 200


def test_where_one_point_is_large_enough_there_is_no_population():
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    grid = torch.linspace(-1, 1, 200_000, dtype=torch.float64)
    calls = []

    def loss(params):
        calls.append(1)
        return (params[0][0] - grid).exp().mean() + params[0][1].square()

    made = torchmin_nb.BruteWrapper([x], dict(bounds=(-1, 1), Ns=3, finish=None), loss=loss, start_check=False)
    made.step()
    assert len(calls) == made.history.totals.nfev + 2
