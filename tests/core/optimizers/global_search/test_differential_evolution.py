"""DifferentialEvolutionWrapper."""

import pytest
import scipy.optimize

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


def test_one_iteration_a_generation():
    made = run("differential_evolution", Loss(rastrigin, X0), short("differential_evolution", polish=False))
    generations = made.history.metrics["generation"]
    assert generations[1:].tolist() == list(range(1, made.result.nit + 1))
    assert len(made.history) == made.result.nit + 1
