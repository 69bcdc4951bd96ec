"""The suggestion: decided by the traits alone, and right on the gallery."""

import pytest
import torch

from torchmin_nb.explore import Call, Traits, catalogue, entry, fit, measured, run, suggest, traits
from torchmin_nb.explore.suggest import FASTER_ON_TORCH, RULES
from torchmin_nb.problems import PROBLEMS

UNSOLVED: dict[str, str] = {}
"""Problems that the suggested method does not solve, and why. None so far."""
ENDED_AFTER = {"Poisson PINN": 60}
"""Iterations, where the loss goes on falling far below what counts as solved."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ({"n": 2}, "trust-exact"),
        ({"n": 100, "seconds_per_call": 0.1, "seconds_per_product": 0.3}, "BFGS"),
        ({"n": 800}, "BFGS"),
        ({"n": 50_000, "seconds_per_call": 0.01, "seconds_per_product": 0.02}, "trust-ncg"),
        ({"n": 50_000, "seconds_per_call": 0.01, "seconds_per_product": 0.2}, "L-BFGS-B"),
        ({"n": 100, "bounds": True}, "L-BFGS-B"),
        ({"n": 100, "constraints": True}, "SLSQP"),
        ({"n": 2000, "constraints": True, "bounds": True}, "trust-constr"),
        ({"n": 5, "smooth": False}, "Nelder-Mead"),
        ({"n": 5, "smooth": False, "constraints": True}, "COBYQA"),
        ({"n": 5, "residuals": 20}, "lm"),
        ({"n": 5, "residuals": 20, "bounds": True}, "trf"),
        ({"n": 5, "residuals": 2}, "trf"),
        ({"n": 129, "residuals": 904, "many_minima": True}, "gauss-newton"),
        ({"n": 129, "residuals": 904, "many_minima": True, "bounds": True}, "trf"),
        ({"n": 2, "box": True, "many_minima": True}, "dual_annealing"),
        ({"n": 2, "box": True, "many_minima": True, "constraints": True}, "differential_evolution"),
        ({"n": 10, "many_minima": True}, "basinhopping"),
        ({"n": 10, "many_minima": True, "seconds_per_call": 1.0, "seconds_per_product": 2.0}, "BFGS"),
        ({"n": 100_000, "memory": 1e6}, None),
    ],
)
def test_the_traits_decide(given, method):
    # Bounded problems with curvature that is cheap keep L-BFGS-B: trust-exact takes none.
    advice = suggest(Traits(**given))
    assert (advice.best and advice.best.method) == method


@pytest.mark.parametrize(
    ("given", "method", "engine"),
    [
        ({"n": 299, "seconds_per_call": 0.1, "seconds_per_product": 0.3}, "BFGS", None),
        ({"n": 300, "seconds_per_call": 0.1, "seconds_per_product": 0.3}, "BFGS", "torch"),
        ({"n": 500, "smooth": False}, "BFGS", "torch"),
        ({"n": 1000, "memory": 40e6}, "BFGS", "torch"),  # SciPy's arrays would not fit
        ({"n": 10**5, "seconds_per_call": 0.1, "seconds_per_product": 0.9, "dtype": "float32"}, "L-BFGS-B", "torch"),
        ({"n": 10**5, "seconds_per_call": 0.1, "seconds_per_product": 0.9}, "L-BFGS-B", None),
        ({"n": 10**4, "seconds_per_call": 0.1, "seconds_per_product": 0.9, "dtype": "float32"}, "L-BFGS-B", None),
        ({"n": 10**5, "bounds": True, "dtype": "float32"}, "L-BFGS-B", None),
        ({"n": 50_000}, "trust-ncg", None),
    ],
)
def test_the_engine_is_suggested_where_it_is_the_faster_one(given, method, engine):
    best = suggest(Traits(**given)).best
    assert (best.method, best.engine) == (method, engine)
    assert ('engine="torch"' in " ".join(best.reasons)) == (engine == "torch")


@pytest.mark.parametrize("given", [{"n": 2}, {"n": 500}, {"n": 9000}, {"n": 40, "bounds": True}])
def test_others_are_different_fit_and_have_reasons(given):
    known = Traits(**given)
    advice = suggest(known)
    every = [advice.best, *advice.others]
    assert len({each.method for each in every}) == len(every) == 3
    for each in every:
        row = entry(each.method).on(each.engine)
        assert fit(row, known)
        assert all(reason for reason in each.reasons)
        assert set(each.options) <= set(row.options)


def test_every_rule_names_a_method_of_the_catalogue():
    assert {rule.method for rule in RULES} <= set(catalogue())
    assert all("torch" in catalogue()[rule.method].engines for rule in FASTER_ON_TORCH)


def test_measured_times_are_told():
    problem = PROBLEMS["Rosenbrock"].make()
    before = problem.x
    known = measured(traits(problem), problem)
    assert known.seconds_per_call > 0
    assert known.seconds_per_product > 0
    assert torch.equal(problem.x, before)
    told = measured(known, problem, clock=lambda _: (2.0, 0.5))
    assert told.product_cost == 0.25
    assert "a closure call takes 2 s, a Hessian-vector product 500 ms" in suggest(told).best.reasons


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_suggestion_solves_the_problem(name):
    call = Call(name, "BFGS", max_iterations=ENDED_AFTER.get(name))
    # Times are left out, so that the choice does not hang on how busy this machine is.
    advice = suggest(traits(call.make(), call.spec))
    row = run(call.with_method(advice.best.method, advice.best.options, engine=advice.best.engine))
    assert row.solved == (name not in UNSOLVED), f"{row.method}: loss {row.loss}, {row.reason}"
