"""The noise of a loss against noise that is known, and runs that go on within it."""

import math

import numpy as np
import pytest
import torch

from tests.core.solvers.pinn import Pinn
from tests.core.solvers.plain import FunctionProblem, solve
from torchmin_nb.core.runtime.control import Status
from torchmin_nb.core.solvers.line_search import Line
from torchmin_nb.core.solvers.noise import NoisySearch, NoisyState, difference_table, measure
from torchmin_nb.core.solvers.scalars import dots, gradient_norm
from torchmin_nb.core.solvers.table import SOLVERS

METHODS = ("BFGS", "CG", "SSBFGS", "SSBroyden")


def solver(method, **options):
    return SOLVERS[method].solver(**options)


# The table


@pytest.mark.parametrize("level", [1e-10, 1e-6, 1e-2])
@pytest.mark.parametrize("spacing", [1e-4, 1e-6])
def test_the_table_finds_the_standard_deviation_of_the_noise(level, spacing):
    """On cos t at seven points, over 200 draws: the median within 30 %, nine of ten within a factor of 3."""
    draw, found = np.random.default_rng(0), []
    t = 1.0 + spacing * np.arange(-3, 4)
    for _ in range(200):
        noise, _ = difference_table((np.cos(t) + level * draw.standard_normal(7)).tolist())
        found.append(math.nan if noise is None else noise / level)
    known = np.array(found)[np.isfinite(found)]
    assert len(known) > 180
    assert np.median(known) == pytest.approx(1.0, rel=0.3)
    assert np.mean((known > 1 / 3) & (known < 3)) > 0.9


TABLES = {
    "a parabola: the spacing is too wide": ([1 + 0.01 * t**2 for t in range(-3, 4)], (None, 0.01)),
    "a line": ([1 + 0.01 * t for t in range(-3, 4)], None),
    "a steep line": ([1 + 0.1 * t for t in range(-3, 4)], (None, 0.01)),
    "constant: the spacing is too narrow": ([1.0] * 7, (None, 100.0)),
    "half of the differences are 0": ([1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 1.0], (None, 100.0)),
    "zero": ([0.0] * 7, (None, 100.0)),
    "not finite": ([1.0, math.inf, 1.0, 1.0, 1.0, 1.0, 1.0], (None, 0.01)),
    "not a number": ([1.0, math.nan, 1.0, 1.0, 1.0, 1.0, 1.0], (None, 0.01)),
    "alternating": ([1.001 if t % 2 else 1.0 for t in range(7)], None),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_table_says_when_the_spacing_is_wrong(name):
    losses, expected = TABLES[name]
    found = difference_table(losses)
    if expected is not None:
        assert found == expected
    elif name == "alternating":  # ±½: the differences of order k are 2^k·½ or nothing else
        assert found[0] == pytest.approx(0.0005, rel=0.5)


def test_the_scale_of_a_difference_is_its_variance():
    """A difference of order k of unit noise has the variance (2k)!/(k!)²: of one 1, among zeros, exactly."""
    for order in range(1, 7):
        differences = np.diff(np.eye(25)[12], order)
        assert (differences**2).sum() == pytest.approx(math.comb(2 * order, order))


# Measuring


class Noisy(FunctionProblem):
    """Adds normal noise, with a seed, to the loss and not to the gradient."""

    def __init__(self, *args, level, **kwargs):
        super().__init__(*args, **kwargs)
        self._level, self._draw = level, torch.Generator().manual_seed(0)

    def evaluate(self, x, along=None):
        sample = super().evaluate(x, along)
        sample.loss += self._level * torch.randn((), generator=self._draw).item()
        return sample


def bowl(x):
    return 1 + (torch.arange(1, len(x) + 1, dtype=x.dtype) * x**2).sum()


@pytest.mark.parametrize("level", [1e-9, 1e-5])
def test_noise_that_is_not_a_function_of_x_is_measured(level):
    problem = Noisy(bowl, [0.3] * 20, level=level)
    sample = problem.evaluate(problem.start())
    assert measure(problem, sample, -sample.gradient) == pytest.approx(level, rel=1.0)
    assert problem.counts["evaluations"] in (8, 15, 22)


def test_the_rounding_of_a_float32_loss_is_measured():
    """Against the same function in float64, at 200 points nearby."""
    problem = Pinn(0, torch.float32)
    x = solve(solver("BFGS", maxiter=100), problem).state.sample.x
    draw, exact = torch.Generator().manual_seed(0), Pinn(0, torch.float64)
    points = [x * (1 + 3e-7 * torch.randn(x.shape, generator=draw)) for _ in range(200)]
    errors = [problem.evaluate(point).loss - exact.evaluate(point.double()).loss for point in points]
    sample = problem.evaluate(x)
    noise = measure(problem, sample, -sample.gradient)
    assert np.std(errors) / 5 < noise < np.std(errors) * 5


def test_an_exact_loss_has_no_noise_that_matters():
    problem = FunctionProblem(bowl, [0.3] * 20)
    sample = problem.evaluate(problem.start())
    noise = measure(problem, sample, -sample.gradient)
    assert noise is None or noise < 1e-14


def test_where_the_loss_stands_still_the_noise_is_its_rounding():
    problem = FunctionProblem(lambda x: 1 + 1e-30 * x.sum(), [0.3] * 4, dtype=torch.float32)
    sample = problem.evaluate(problem.start())
    assert measure(problem, sample, -sample.gradient) == pytest.approx(2**-23)


def test_points_stay_within_bounds():
    seen = []

    class Bounded(FunctionProblem):
        def evaluate(self, x, along=None):
            seen.append(x)
            return super().evaluate(x, along)

    problem = Bounded(bowl, [0.3] * 20, bounds=(0.3, 0.5))
    sample = problem.evaluate(problem.start())
    measure(problem, sample, -sample.gradient)
    assert len(seen) >= 8
    assert all(bool(((x >= 0.3) & (x <= 0.5)).all()) for x in seen)


# Searching


def searched(problem, step, state=None, c2=0.9, ordinary=lambda: None):
    sample = problem.evaluate(problem.start())
    search = NoisySearch(problem, state or NoisyState(sample), c2)
    line = Line(problem, sample, -sample.gradient, -(sample.norm**2))
    return search.find(line, step, ordinary), search, sample


@pytest.mark.parametrize("step", [1e-6, 1e-3, 0.1, 10.0, 1e6])
@pytest.mark.parametrize("c2", [0.1, 0.9])
def test_a_step_is_found_by_slopes_alone(step, c2):
    """The loss is all noise; the minimum along the line is where the slope is 0."""
    problem = Noisy(lambda x: 1 + (1e-7 * x**2).sum(), [1.0, 2.0, 3.0], level=1e-3)
    found, search, sample = searched(problem, step * 1e7, c2=c2)
    assert abs(found.sample.slope) <= c2 * sample.norm**2
    assert found.step == pytest.approx(5e6, rel=c2)
    state = NoisyState(sample)
    search.store(state)
    assert state.noise == pytest.approx(1e-3, rel=1.0)
    assert state.noise_loss == sample.loss


def test_the_ordinary_search_comes_first_while_decreases_are_above_the_noise():
    calls = []
    problem = FunctionProblem(bowl, [0.3] * 4)
    sample = problem.evaluate(problem.start())
    for noise, expected in ((None, 1), (1e-3, 1), (1.0, 0)):
        calls.clear()
        state = NoisyState(sample, noise=noise, noise_loss=sample.loss)
        searched(problem, 1.0, state, ordinary=lambda: calls.append(1))
        assert len(calls) == expected


@pytest.mark.parametrize("offset", [0.0, -2.0])
def test_the_noise_is_measured_again_once_the_loss_has_halved(offset):
    """Also if the loss is negative."""
    problem = Noisy(lambda x: bowl(x) + offset, [0.3] * 4, level=1e-6)
    sample = problem.evaluate(problem.start())
    for noise_loss, again in ((1.9 * sample.loss, False), (2.1 * sample.loss, True)):
        state = NoisyState(sample, noise=1e-3, noise_loss=noise_loss)
        _, search, _ = searched(problem, 1e-6, state)
        search.store(state)
        assert (state.noise != 1e-3) is again


def test_no_search_up_the_slope():
    problem = FunctionProblem(bowl, [0.3] * 4)
    sample = problem.evaluate(problem.start())
    line = Line(problem, sample, sample.gradient, sample.norm**2)
    assert NoisySearch(problem, NoisyState(sample), 0.9).find(line, 1.0, pytest.fail) is None
    assert problem.counts["evaluations"] == 1


def test_in_double_precision_scipys_methods_end_as_scipy_does():
    double, single = FunctionProblem(bowl, [0.3]), FunctionProblem(bowl, [0.3], dtype=torch.float32)
    state = NoisyState(double.evaluate(double.start()))
    assert NoisySearch.of(double, state, 0.9, as_scipy=True) is None
    assert NoisySearch.of(double, state, 0.9, as_scipy=False) is not None
    assert NoisySearch.of(single, state, 0.9, as_scipy=True) is not None


def test_patience_ends_at_a_decrease_by_more_than_the_noise():
    sample = FunctionProblem(bowl, [0.3]).evaluate(torch.tensor([0.3], dtype=torch.float64))
    state = NoisyState(sample, noise=0.1)
    state.sample.loss, answers = 10.0, []
    for iteration in range(1, 260):
        state.iteration = iteration
        state.sample.loss -= 0.25 if iteration == 90 else 0.0005
        answers.append(NoisySearch.stagnates(state))
        if answers[-1]:
            break
    assert len(answers) == 190
    assert answers[-1]
    unmeasured = NoisyState(sample)
    for iteration in range(300):
        unmeasured.iteration = iteration
        assert not NoisySearch.stagnates(unmeasured)


# Runs


@pytest.mark.parametrize("method", METHODS)
def test_a_float32_run_ends_by_tolerance_where_it_can(method):
    """The loss is 1 + a small bowl: its decreases are lost long before the gradient has reached the tolerance."""
    problem = FunctionProblem(lambda x: bowl(1e-2 * x), [1.0, -2.0, 3.0, 0.5], dtype=torch.float32)
    path = solve(solver(method, gtol=1e-9), problem)
    assert path.ending.success
    assert (path.ending.status, path.ending.message) == (0, "Optimization terminated successfully.")
    assert path.state.sample.largest <= 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_a_float32_run_ends_at_the_noise_floor_and_says_so(method):
    def steep(x):
        return ((x[0] - 1) * 100) ** 2 + (10 * (x[1] - x[0] ** 2) + 1e-3) ** 2 + 7.3

    problem = FunctionProblem(steep, [-1.2, 1.0], dtype=torch.float32)
    own = solver(method, gtol=0.0)
    path = solve(own, problem)
    if path.state.sample.largest == 0.0:
        assert path.ending.success
        return
    assert path.ending.status is Status.NOISE_FLOOR
    assert not path.ending.success
    assert "noise floor" in path.ending.message
    noise = own.result(path.state)["noise"]
    assert 1e-8 < noise < 1e-4
    assert path.state.sample.loss == pytest.approx(7.3, abs=1e-4)


def test_noise_does_not_end_a_run_that_still_gets_lower():
    """The network in float32, from where BFGS's ordinary search fails: the loss falls to a fifth."""
    problem = Pinn(1, torch.float32)
    own = solver("BFGS", gtol=1e-8, maxiter=1500)
    state, failed_at = own.init(problem), None
    while own.terminate(problem, state) is None:
        state = own.step(problem, state)
        if state.noise is not None and failed_at is None:
            failed_at = state.sample.loss
    assert failed_at is not None
    assert state.sample.loss < failed_at / 5


# Numbers


@pytest.mark.parametrize("n", [3, 70_000])
def test_products_are_summed_in_float64(n):
    a = torch.full((n,), 1.0) + 1e-4 * torch.randn(n, generator=torch.Generator().manual_seed(0))
    exact = float((a.double() ** 2).sum())
    square, other = dots((a, a), (a, -a))
    assert square == pytest.approx(exact, rel=1e-6)
    assert other == -square


@pytest.mark.parametrize("order", [1, 2, 3, math.inf, -math.inf])
def test_gradient_norms_are_scipys(order):
    sample = FunctionProblem(lambda x: (x**2).sum(), [1.5, -2.0]).evaluate(torch.tensor([1.5, -2.0]).double())
    assert gradient_norm(sample, order) == pytest.approx(np.linalg.norm([3.0, -4.0], order))
