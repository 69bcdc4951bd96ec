"""The local method that a search descends or polishes with."""

import numpy as np
import pytest
import torch

import torchmin_nb
from tests.core.optimizers.global_search.searches import (
    WITH_LOCAL,
    X0,
    Loss,
    ackley,
    bowl,
    himmelblau,
    numpy_gradient,
    rastrigin,
    run,
    short,
)
from torchmin_nb import Constraint
from torchmin_nb.errors import (
    ArgumentError,
    ArgumentTypeError,
    ClosureError,
    UnknownMethodError,
    UnknownOptionError,
)


@pytest.mark.parametrize("name", ["shgo", "dual_annealing", "basinhopping"])
def test_minima_are_distinct_and_sorted(name):
    kwargs = short(name, **({"maxiter": 200} if name == "dual_annealing" else {}))
    made = run(name, Loss(rastrigin, X0), kwargs)
    losses = [loss for loss, _ in made.result.minima]
    points = np.array([x for _, x in made.result.minima])
    assert losses == sorted(losses)
    assert len(np.unique(points.round(2), axis=0)) == len(points) > 1
    assert losses[0] == pytest.approx(made.result.fun, abs=1e-9)
    for x in points:
        assert numpy_gradient(x) == pytest.approx(np.zeros(2), abs=1e-3)


@pytest.mark.parametrize("name", WITH_LOCAL)
@pytest.mark.parametrize(
    "method", ["L-BFGS-B", "slsqp", "Nelder-Mead", "TNC", "Newton-CG", "trust-exact", "trust-constr"]
)
def test_any_local_method(name, method):
    if name == "basinhopping":
        kwargs = dict(niter=2, rng=0)
    else:
        kwargs = short(name, bounds=(-6.0, 6.0), **({"maxiter": 4} if name == "dual_annealing" else {}))
    made = run(name, Loss(himmelblau, [1.0, 1.0]), kwargs, dict(method=method, options=dict(maxiter=200)))
    assert made.result.fun == pytest.approx(0, abs=1e-4)
    if torchmin_nb.METHODS[made.request.method].curvature != "none":
        assert made.history.totals.nhvp > 0


def test_the_default_local_method():
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    group = [{"params": [x], "bounds": (0, 1)}]
    assert torchmin_nb.BasinHoppingWrapper([x]).request.method == "BFGS"
    assert torchmin_nb.BasinHoppingWrapper(group).request.method == "L-BFGS-B"
    assert torchmin_nb.BasinHoppingWrapper([x], dict(bounds=(0, 1))).request.method == "L-BFGS-B"
    shgo = torchmin_nb.SHGOWrapper(group).request
    assert (shgo.method, shgo.options) == ("SLSQP", {"ftol": 1e-12})  # as SciPy's
    assert torchmin_nb.SHGOWrapper(group, dict(tol=1e-3)).request.method == "SLSQP"
    assert torchmin_nb.SHGOWrapper(group, "L-BFGS-B").request.method == "L-BFGS-B"
    assert torchmin_nb.SHGOWrapper(group, None, dict(constraints=Constraint(torch.sum))).request.method == "SLSQP"
    assert torchmin_nb.DirectWrapper(group).request is None
    assert torchmin_nb.DifferentialEvolutionWrapper(group, dict(polish=False)).request is None
    assert torchmin_nb.DifferentialEvolutionWrapper(group, dict(polish="tnc")).request.method == "TNC"
    assert torchmin_nb.BruteWrapper(group, dict(finish=None)).request is None
    assert torchmin_nb.BruteWrapper(group, dict(finish=dict(method="cg"))).request.method == "CG"


def test_the_users_own_gradient():
    asked = []

    def jac(x):
        asked.append(x)
        return numpy_gradient(x)

    made = run("basinhopping", Loss(rastrigin, X0), dict(niter=5, rng=7), dict(method="BFGS", jac=jac))
    plain = run("basinhopping", Loss(rastrigin, X0), dict(niter=5, rng=7), "BFGS")
    assert asked
    assert made.result.x == pytest.approx(plain.result.x, abs=1e-6)


def test_a_limit_of_iterations_that_scipy_has_not():
    made = run("basinhopping", Loss(himmelblau, [1.0, 1.0]), dict(niter=0), dict(method="TNC", options=dict(maxiter=2)))
    assert not made.result.success
    assert made.result.message
    assert made.result.fun < himmelblau(torch.tensor([1.0, 1.0]))


def test_a_local_method_without_bounds_does_not_lead_out_of_the_box():
    loss = Loss(lambda x: bowl(x - 2), [0.0, 0.0])
    made = run("dual_annealing", loss, short("dual_annealing", bounds=(-1.0, 1.0)), "BFGS")
    assert (np.abs(made.result.x) <= 1 + 1e-6).all()


@pytest.mark.parametrize("name", ["differential_evolution", "brute"])
def test_the_polish_is_counted_and_uses_gradients(name):
    loss = Loss(ackley, [1.0, 1.0])
    made = run(name, loss, short(name, bounds=(-4.0, 5.0)))
    rough = {"polish": False} if name == "differential_evolution" else {"finish": None}
    plain = run(name, Loss(ackley, [1.0, 1.0]), short(name, bounds=(-4.0, 5.0), **rough))
    assert made.result.fun < plain.result.fun
    assert made.result.nfev > plain.result.nfev
    assert made.result.njev > 0
    assert plain.history.totals.njev <= 1
    assert made.history[-1].loss == made.result.fun


def test_a_local_method_that_needs_gradients_says_so():
    x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    for checked in (True, False):
        made = torchmin_nb.BasinHoppingWrapper([x], "trust-ncg", start_check=checked)
        with pytest.raises(ClosureError, match="gradient"):
            made.step(lambda: float(himmelblau(x.detach())))


def test_refusals_of_the_local_method():
    x = Loss(bowl, [0.0, 0.0]).x
    bounded = [{"params": [x], "bounds": (-1, 1)}]
    for error, match, params, given in (
        (UnknownMethodError, "SGD", [x], "SGD"),
        (UnknownOptionError, "lr", [x], dict(method="CG", options=dict(lr=1))),
        (ArgumentTypeError, "minimizer_args", [x], 3),
        (ArgumentError, "cannot take bounds", bounded, "CG"),
        (ArgumentError, "callbacks=", [x], dict(callback=print)),
        (ArgumentError, "pass them once", bounded, dict(bounds=(0, 1))),
    ):
        with pytest.raises(error, match=match):
            torchmin_nb.BasinHoppingWrapper(params, given)
    with pytest.raises(ArgumentError, match="takes no constraints"):
        torchmin_nb.DualAnnealingWrapper(bounded, dict(method="SLSQP", constraints=Constraint(torch.sum)))
    with pytest.raises(ArgumentError, match="at most 40"):
        torchmin_nb.BruteWrapper([torch.nn.Parameter(torch.zeros(41))], dict(bounds=(0, 1), Ns=1))
