"""BasinHoppingWrapper."""

import math

import pytest
import scipy.optimize
import torch

from tests.core.optimizers.global_search.searches import (
    X0,
    Loss,
    himmelblau,
    holed,
    numpy_gradient,
    numpy_rastrigin,
    optimizer,
    rastrigin,
    run,
    seeded,
    short,
)
from torchmin_nb.errors import (
    NonFiniteStartError,
)


def test_basin_hopping_takes_scipys_hops():
    hops = []
    plain = scipy.optimize.basinhopping(
        numpy_rastrigin,
        X0,
        niter=25,
        minimizer_kwargs=dict(method="BFGS", jac=numpy_gradient),
        callback=lambda x, f, accept: hops.append((f, accept)),
        **seeded("basinhopping", 7),
    )
    made = run("basinhopping", Loss(rastrigin, X0), dict(niter=25, rng=7))
    assert made.result.fun == pytest.approx(plain.fun, abs=1e-12)
    assert made.result.x == pytest.approx(plain.x, abs=1e-7)
    assert (made.result.nit, made.result.nfev, made.result.njev) == (plain.nit, plain.nfev, plain.njev)
    assert made.history.metrics["candidate"][1 : 1 + len(hops)] == pytest.approx([f for f, _ in hops], abs=1e-8)
    assert [it.accepted for it in made.history][1 : 1 + len(hops)] == [accept for _, accept in hops]
    assert made.result.message == plain.message[0]


def test_scipys_own_callback_in_its_newer_form():
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result.nit)
        return len(seen) == 3

    made = run("differential_evolution", Loss(rastrigin, X0), short("differential_evolution", callback=callback))
    assert seen == [1, 2, 3]
    assert "stop early" in made.result.message


def test_basin_hopping_lists_the_minima():
    made = run("basinhopping", Loss(himmelblau, [0.0, 0.0]), dict(niter=100, rng=0, stepsize=5.0, T=1e3))
    assert len(made.result.minima) == 4
    for loss, x in made.result.minima:
        assert loss == pytest.approx(0, abs=1e-8)
        assert float(himmelblau(torch.tensor(x))) == pytest.approx(loss, abs=1e-12)
    assert made.history.metrics["minima"][-1] == 4


def test_basin_hopping_stays_within_bounds():
    loss = Loss(himmelblau, [1.0, 1.0])
    made = optimizer("basinhopping", [{"params": [loss.x], "bounds": (0.0, 2.5)}], dict(niter=10, rng=0, stepsize=4.0))
    made.step(loss)
    assert (made.result.x >= 0).all()
    assert (made.result.x <= 2.5).all()
    assert 2.5 in made.result.x


def test_basin_hopping_needs_a_finite_start_and_hops_over_holes():
    with pytest.raises(NonFiniteStartError, match="starting point"):
        run("basinhopping", Loss(holed(rastrigin, math.nan), [-1.0, 1.0]))
    made = run("basinhopping", Loss(holed(rastrigin, math.nan), [1.2, 1.0]), dict(niter=30, rng=0, stepsize=1.0))
    assert made.result.fun == pytest.approx(0.99496, abs=1e-3)
    assert made.result.success
