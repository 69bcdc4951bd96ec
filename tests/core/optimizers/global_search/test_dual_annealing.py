"""DualAnnealingWrapper."""

import numpy as np
import pytest
import scipy.optimize

from tests.core.optimizers.global_search.searches import (
    BOX,
    RASTRIGIN,
    X0,
    Loss,
    numpy_gradient,
    numpy_rastrigin,
    rastrigin,
    run,
    seeded,
)


def test_dual_annealing_takes_scipys_steps():
    local = dict(method="L-BFGS-B", jac=numpy_gradient, bounds=BOX)
    plain = scipy.optimize.dual_annealing(
        numpy_rastrigin, BOX, x0=X0, maxiter=100, minimizer_kwargs=local, **seeded("dual_annealing", 5)
    )
    made = run("dual_annealing", Loss(rastrigin, X0), dict(bounds=RASTRIGIN, maxiter=100, rng=5))
    assert made.result.fun == pytest.approx(plain.fun, abs=1e-12)
    assert (made.result.nit, made.result.nfev) == (plain.nit, plain.nfev)


def test_dual_annealing_starts_where_scipy_does_if_told():
    plain = scipy.optimize.dual_annealing(
        numpy_rastrigin, BOX, maxiter=10, no_local_search=True, **seeded("dual_annealing", 5)
    )
    kwargs = dict(bounds=RASTRIGIN, maxiter=10, no_local_search=True, rng=5, x0=None)
    made = run("dual_annealing", Loss(rastrigin, [5.0, 5.0]), kwargs)
    assert made.result.x == pytest.approx(plain.x)
    assert made.result.nfev == plain.nfev
    assert "minima" not in made.result


def test_temperatures_fall():
    made = run("dual_annealing", Loss(rastrigin, X0))
    temperatures = made.history.metrics["temperature"]
    temperatures = temperatures[np.isfinite(temperatures)]
    assert len(temperatures) == made.result.nit == 30
    assert (np.diff(temperatures) < 0).all()
    assert temperatures[0] == pytest.approx(5230.0)
