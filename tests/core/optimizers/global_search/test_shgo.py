"""shgo against SciPy's own on standard functions of two variables; and descents that begin or end at a kink."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch

from tests.core.optimizers.global_search.searches import (
    BOX,
    RASTRIGIN,
    X0,
    Loss,
    numpy_gradient,
    numpy_rastrigin,
    optimizer,
    rastrigin,
    run,
)

PI = math.pi

# Each is written once, for numbers of NumPy and of torch: m is the module. The box is the published one.
FUNCTIONS = {
    "Goldstein-Price": (
        lambda m, x, y: (
            (1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2))
            * (30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2))
        ),
        2,
    ),
    "Price 1": (lambda m, x, y: (m.abs(x) - 5) ** 2 + (m.abs(y) - 5) ** 2, 500),
    "Ackley": (
        lambda m, x, y: (
            -20 * m.exp(-0.2 * m.sqrt((x**2 + y**2) / 2))
            - m.exp((m.cos(2 * PI * x) + m.cos(2 * PI * y)) / 2)
            + 20
            + math.e
        ),
        30,
    ),
    "Ackley 2": (lambda m, x, y: -200 * m.exp(-0.02 * m.sqrt(x**2 + y**2)), 32),
    "Ackley 3": (
        lambda m, x, y: -200 * m.exp(-0.02 * m.sqrt(x**2 + y**2)) + 5 * m.exp(m.cos(3 * x) + m.sin(3 * y)),
        32,
    ),
    "Ackley 3, steeper": (
        lambda m, x, y: -200 * m.exp(-0.2 * m.sqrt(x**2 + y**2)) + 5 * m.exp(m.cos(3 * x) + m.sin(3 * y)),
        32,
    ),
    "Rastrigin": (lambda m, x, y: 20 + x**2 + y**2 - 10 * (m.cos(2 * PI * x) + m.cos(2 * PI * y)), 5.12),
    "Himmelblau": (lambda m, x, y: (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2, 5),
    "Schwefel 26": (
        lambda m, x, y: 837.9658 - x * m.sin(m.sqrt(m.abs(x))) - y * m.sin(m.sqrt(m.abs(y))),
        500,
    ),
    "Levy 13": (
        lambda m, x, y: (
            m.sin(3 * PI * x) ** 2
            + (x - 1) ** 2 * (1 + m.sin(3 * PI * y) ** 2)
            + (y - 1) ** 2 * (1 + m.sin(2 * PI * y) ** 2)
        ),
        10,
    ),
    "Holder table": (
        lambda m, x, y: -m.abs(m.sin(x) * m.cos(y) * m.exp(m.abs(1 - m.sqrt(x**2 + y**2) / PI))),
        10,
    ),
    "Griewank": (lambda m, x, y: 1 + (x**2 + y**2) / 4000 - m.cos(x) * m.cos(y / math.sqrt(2)), 600),
    "six-hump camel": (lambda m, x, y: (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2, 5),
    "three-hump camel": (lambda m, x, y: 2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2, 5),
    "Booth": (lambda m, x, y: (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2, 10),
    "Beale": (
        lambda m, x, y: (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2,
        4.5,
    ),
    "drop wave": (lambda m, x, y: -(1 + m.cos(12 * m.sqrt(x**2 + y**2))) / (0.5 * (x**2 + y**2) + 2), 5.12),
    "Bartels-Conn": (lambda m, x, y: m.abs(x**2 + y**2 + x * y) + m.abs(m.sin(x)) + m.abs(m.cos(y)), 500),
    "Alpine 1": (lambda m, x, y: m.abs(x * m.sin(x) + 0.1 * x) + m.abs(y * m.sin(y) + 0.1 * y), 10),
    "egg crate": (lambda m, x, y: x**2 + y**2 + 25 * (m.sin(x) ** 2 + m.sin(y) ** 2), 5),
    "Schwefel 2.22": (lambda m, x, y: m.abs(x) + m.abs(y) + m.abs(x) * m.abs(y), 100),
    "Salomon": (lambda m, x, y: 1 - m.cos(2 * PI * m.sqrt(x**2 + y**2)) + 0.1 * m.sqrt(x**2 + y**2), 100),
    "Adjiman": (lambda m, x, y: m.cos(x) * m.sin(y) - x / (y**2 + 1), 2),
    "Deckkers-Aarts": (
        lambda m, x, y: 1e5 * x**2 + y**2 - (x**2 + y**2) ** 2 + 1e-5 * (x**2 + y**2) ** 4,
        20,
    ),
    "largest distance": (lambda m, x, y: m.maximum(m.abs(x - 1), m.abs(y - 2)), 10),
}
MINIMA = {"Goldstein-Price": 3.0, "Price 1": 0.0, "Ackley 3": -195.629028, "six-hump camel": -1.0316285}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of plain SciPy's own run
@pytest.mark.parametrize("name", FUNCTIONS)
def test_shgo_is_not_above_scipys(name):
    function, width = FUNCTIONS[name]
    plain = scipy.optimize.shgo(lambda x: float(function(np, *x)), [(-width, width)] * 2)
    loss = Loss(lambda x: function(torch, *x), [0.3 * width, -0.2 * width])
    made = optimizer("shgo", [loss.x], dict(bounds=(-width, width)))
    made.step(loss)
    assert made.result.fun <= plain.fun + 1e-8 * max(1.0, abs(plain.fun))
    assert made.result.fun == float(function(torch, *torch.tensor(made.result.x)))
    if name in MINIMA:
        assert made.result.fun == pytest.approx(MINIMA[name], abs=1e-6)


# A gradient at a kink

KINKED = {
    "one of two": lambda x: (x[0].abs() - 5) ** 2 + (x[1] - 3) ** 2,
    "both": lambda x: ((x.abs() - 5) ** 2).sum(),
    "no gradient": lambda x: x[0].square().sqrt() * 0.1 + ((x - 2) ** 2).sum(),
    "norm": lambda x: torch.sqrt((x**2).sum()) + 3 * x[1] + (x**4).sum(),
    "relu": lambda x: ((torch.relu(x) - 2) ** 2).sum(),
}
LOWEST = {"one of two": 0.0, "both": 0.0, "no gradient": 0.1975, "relu": 0.0}
SEARCHES = {
    "shgo": {},
    "brute": {"Ns": 3},
    "basinhopping": {"niter": 0},
    "dual_annealing": {"maxiter": 1, "rng": 0},
    "differential_evolution": {"maxiter": 0, "rng": 0, "init": [[0.0, 0.0]] * 5},
}


@pytest.mark.parametrize("kind", KINKED)
@pytest.mark.parametrize("name", SEARCHES)
def test_a_descent_goes_on_from_a_kink(name, kind):
    """All begin at the centre of the box, where autograd answers 0 or NaN and the loss falls on."""
    loss = Loss(KINKED[kind], [0.0, 0.0])
    if kind == "relu" and name in ("shgo", "brute"):
        return  # their grids have a lower plateau, or one as low, to begin on
    box = {} if name == "basinhopping" else {"bounds": (-30.0, 30.0)}
    made = optimizer(name, [loss.x], box | SEARCHES[name])
    made.step(loss)
    lowest = LOWEST.get(kind)
    if lowest is None:  # along y alone: |y| + 3y + y⁴ for y < 0
        lowest = scipy.optimize.minimize_scalar(lambda y: -y + 3 * y + y**4, bounds=(-2, 0), method="bounded").fun
    assert made.result.fun == pytest.approx(lowest, abs=1e-5)


def test_a_minimum_at_a_kink_is_one():
    loss = Loss(lambda x: torch.sqrt((x**2).sum()), [3.0, 1.0])
    made = optimizer("shgo", [loss.x], dict(bounds=(-8.0, 8.0)))
    made.step(loss)
    assert made.result.fun == 0
    assert made.result.minima[0][1].tolist() == [0, 0]


def test_a_smooth_minimum_costs_few_calls_more():
    """Two a variable, and those only where the gradient is exactly 0."""
    loss = Loss(lambda x: ((x - 0.5) ** 2).sum(), [1.0, 1.0])
    made = optimizer("brute", [loss.x], dict(bounds=(0.0, 1.0), Ns=3))
    made.step(loss)
    assert loss.calls <= 9 + 1 + 1 + 2 * 2 + 3


@pytest.mark.parametrize("sampling", ["simplicial", "halton", "sobol"])
def test_shgo_finds_scipys_minima(sampling):
    kwargs = dict(n=32, iters=2, sampling_method=sampling)
    descent = dict(method="SLSQP", options=dict(ftol=1e-12))  # SciPy's own, where none is named
    plain = scipy.optimize.shgo(numpy_rastrigin, BOX, minimizer_kwargs=dict(descent, jac=numpy_gradient), **kwargs)
    made = run("shgo", Loss(rastrigin, X0), dict(bounds=RASTRIGIN, **kwargs))
    assert made.result.funl == pytest.approx(plain.funl, abs=1e-8)
    assert sorted(made.result.xl.round(5).tolist()) == sorted(plain.xl.round(5).tolist())  # equal losses, in any order
    assert (made.result.nit, made.result.nlfev, made.result.nfev) == (plain.nit, plain.nlfev, plain.nfev)
    assert made.result.njev == plain.nljev
