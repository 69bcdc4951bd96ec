"""DifferentialEvolutionWrapper."""

import numpy as np
import pytest
import scipy.optimize
import torch

from tests.core.optimizers.global_search.searches import (
    BOX,
    RASTRIGIN,
    X0,
    Loss,
    numpy_rastrigin,
    rastrigin,
    run,
    seeded,
    short,
)


@pytest.mark.parametrize("updating", ["immediate", "deferred"])
@pytest.mark.parametrize("init", ["latinhypercube", "random"])
def test_differential_evolution_breeds_scipys_generations(updating, init):
    kwargs = dict(init=init, updating=updating, polish=False, maxiter=40)
    plain = scipy.optimize.differential_evolution(
        numpy_rastrigin, BOX, x0=X0, **kwargs, **seeded("differential_evolution", 11)
    )
    made = run("differential_evolution", Loss(rastrigin, X0), dict(bounds=RASTRIGIN, rng=11, **kwargs))
    assert made.result.x == pytest.approx(plain.x, abs=1e-9)
    assert (made.result.nit, made.result.nfev) == (plain.nit, plain.nfev)
    assert made.result.population == pytest.approx(plain.population, abs=1e-9)


def test_the_spread_is_that_of_the_losses_of_the_population():
    spreads = []

    def note(intermediate_result):
        spreads.append(np.std(intermediate_result.population_energies))

    made = run("differential_evolution", Loss(rastrigin, X0), short("differential_evolution", callback=note))
    assert len(spreads) > 3
    np.testing.assert_array_equal(made.history.metrics["population_spread"][1 : len(spreads) + 1], spreads)


def test_members_without_a_loss_have_no_part_in_the_spread():
    def loss(x):
        return torch.where(x[0] > 1, torch.nan, rastrigin(x))

    made = run("differential_evolution", Loss(loss, X0), short("differential_evolution", polish=False))
    assert np.isfinite(made.history.metrics["population_spread"][1:]).all()


def test_one_iteration_a_generation():
    made = run("differential_evolution", Loss(rastrigin, X0), short("differential_evolution", polish=False))
    generations = made.history.metrics["generation"]
    assert generations[1:].tolist() == list(range(1, made.result.nit + 1))
    assert len(made.history) == made.result.nit + 1
