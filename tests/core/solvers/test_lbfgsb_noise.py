"""L-BFGS-B where the loss is computed in float32: on through the noise, and how it ends."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.core.problems import PROBLEMS
from tests.core.solvers.plain import FunctionProblem, scipy_path, solve
from tests.published.more_garbow_hillstrom import MGH
from torchmin_nb.core.runtime.control import Status
from torchmin_nb.core.solvers.lbfgsb import LBFGSB


class Noisy(FunctionProblem):
    """A loss with noise of a given standard deviation, a number or a function of x, and exact gradients."""

    def __init__(self, function, x0, noise):
        size = noise if callable(noise) else lambda x: noise
        super().__init__(lambda x: function(x) + size(x.detach()) * math.sqrt(2) * _wave(x.detach()), x0)
        self.eps = torch.finfo(torch.float32).eps


def _wave(x):
    return torch.sin(1e9 * x.sum() + 1e7 * x[0])


def valley(x):
    """A bent valley whose minimum, 0.5, is at 1."""
    return 0.5 + ((1 - x[:-1]) ** 2 + 10 * (x[1:] - x[:-1] ** 2) ** 2).sum()


START = np.tile([-1.2, 1.0], 5)


def test_noise_in_the_loss_does_not_end_a_run():
    """SciPy's search ends on the way. Ours takes changes of the loss that are lost in the noise from the slopes.

    Rounding decides which noise a run meets: of five starts, one may fail.
    """
    reached, scipys = [], []
    for shift in range(5):
        start = START + 0.01 * shift
        here = Noisy(valley, start, 1e-4)
        path = solve(LBFGSB(gtol=1e-6), here)
        _, result = scipy_path("L-BFGS-B", here.function, start, ftol=0, gtol=1e-6)
        scipys.append(np.abs(result.x - 1).max() < 1e-6)
        near = path.ending.success and np.abs(path.points[-1] - 1).max() < 1e-6
        reached.append(near and here.counts["evaluations"] < 3 * path.state.iteration)
    assert sum(reached) >= 4
    assert sum(scipys) <= 1


def test_the_noise_is_reported():
    """One estimate may be far off by chance: the median of five runs."""
    solver, found = LBFGSB(gtol=1e-6), []
    for shift in range(5):
        path = solve(solver, Noisy(valley, START + 0.01 * shift, 1e-4))
        found.append(solver.result(path.state)["noise"])
    assert np.median(found) == pytest.approx(1e-4, rel=0.8)


def test_noise_is_not_measured_where_losses_and_slopes_agree():
    here = FunctionProblem(PROBLEMS["Beale"].loss, PROBLEMS["Beale"].x0, dtype=torch.float32)
    solver = LBFGSB()
    path = solve(solver, here)
    assert path.ending.success
    assert solver.result(path.state)["noise"] is None
    assert here.counts["evaluations"] == path.state.evaluations


def test_noise_is_measured_anew_once_the_loss_has_fallen():
    """Noise that falls with the loss, of which it is three hundredths. One estimate may be far off by chance."""
    solver, found, anew = LBFGSB(gtol=0, maxcor=3), [], 0
    for shift in range(5):
        here = Noisy(valley, START * (1 + 0.01 * shift), lambda x: 3e-2 * valley(x))
        state, seen = solver.init(here), {}
        while solver.terminate(here, state) is None:
            state = solver.step(here, state)
            if state.noise is not None:
                seen[state.noise_loss] = state.noise
        assert all(after < before / 4 for before, after in pairwise(seen))
        anew += len(seen) > 1
        found += [noise / loss for loss, noise in seen.items()]
    assert anew >= 4
    assert np.median(found) == pytest.approx(3e-2, rel=0.8)


def test_the_noise_of_a_loss_that_has_become_zero_is_measured_once():
    """As a cross-entropy that is rounded to 0, where the gradient is not 0 yet."""

    def entropy(x):
        return torch.logsumexp(torch.cat([x.new_zeros(1), -x]), 0)

    here = FunctionProblem(entropy, [1.0, 2.0, -1.0], dtype=torch.float32)
    path = solve(LBFGSB(gtol=0, ftol=0, maxiter=40), here)
    assert path.losses[-1] == 0
    assert path.state.iteration == 40
    assert here.counts["evaluations"] < 3 * 40


FLOORS = ("2 Freudenstein and Roth", "16 Brown and Dennis", "33 linear, rank 1 5", "10 Meyer")


@pytest.mark.parametrize("name", FLOORS)
def test_the_noise_floor_ends_a_run_whose_gradient_stays_large(name):
    """In units of these losses, 1e-5 is below what rounding leaves of the gradient."""
    problem = MGH[name]
    here = FunctionProblem(problem.loss, problem.start, dtype=torch.float32)
    path = solve(LBFGSB(), here)
    assert path.ending.status == Status.NOISE_FLOOR
    assert path.ending.message == Status.NOISE_FLOOR.label
    assert path.state.optimality > 1e-5
    assert path.state.noise > 0
    assert path.state.iteration < 60
    least = min(problem.minima, key=lambda minimum: abs(minimum - path.losses[-1]))
    assert path.losses[-1] == pytest.approx(least, rel=1e-4 if name != "10 Meyer" else math.inf)


def test_the_floor_is_that_of_many_iterations():
    """Steps that each promise something, but get nowhere: a constant loss, with the gradient of a long valley."""
    here = Noisy(lambda x: 1 + valley(x) - valley(x.detach()), np.tile(START, 10), 1e-4)
    path = solve(LBFGSB(gtol=0, maxcor=5), here)
    assert path.ending.status == Status.NOISE_FLOOR
    assert 100 <= path.state.iteration <= 110


def test_a_search_that_fails_in_the_noise_ends_the_run_there():
    """A slope without end in a loss that is nothing but noise, of more than a hundredth of it."""
    path = solve(LBFGSB(gtol=0), Noisy(lambda x: 4e-3 + 1e-5 * (x - x.detach()).sum(), np.ones(4), 1e-4))
    assert path.ending.status == Status.NOISE_FLOOR
    assert path.state.iteration <= 10
    assert path.state.noise == pytest.approx(1e-4, rel=0.8)


@pytest.mark.parametrize("name", sorted(set(MGH) - {"10 Meyer"}))
def test_float32_reaches_what_float64_does(name):
    """SciPy's tolerance is absolute below 1, and ends some of these runs early, in float64 as well."""
    problem = MGH[name]
    path = solve(LBFGSB(), FunctionProblem(problem.loss, problem.start, dtype=torch.float32))
    assert problem.solved(problem.loss(path.state.sample.x.double()).item())


def test_scipys_tolerance_is_no_default_in_float32():
    """With losses of 1e-9 the run goes on: SciPy's tolerance of 2e-9 would end it after one iteration."""
    small = lambda x: 1e-9 * PROBLEMS["Rosenbrock 2"].loss(x)  # noqa: E731
    given = solve(LBFGSB(gtol=0, ftol=2.2e-9), FunctionProblem(small, [-1.2, 1.0], dtype=torch.float32))
    default = solve(LBFGSB(gtol=1e-14), FunctionProblem(small, [-1.2, 1.0], dtype=torch.float32))
    assert given.ending.message == "CONVERGENCE: RELATIVE REDUCTION OF F <= FACTR*EPSMCH"
    assert given.state.iteration < 5
    assert default.points[-1] == pytest.approx(np.ones(2), abs=1e-3)


def test_a_tolerance_below_the_noise_is_none():
    here = FunctionProblem(MGH["16 Brown and Dennis"].loss, MGH["16 Brown and Dennis"].start, dtype=torch.float32)
    path = solve(LBFGSB(ftol=1e-12), here)
    assert path.ending.status == Status.NOISE_FLOOR


def test_a_loss_in_float32_with_vectors_in_float64():
    """`eps` is that of the loss, whatever the vectors are."""
    loss = lambda x: valley(x.float()).double()  # noqa: E731
    here = FunctionProblem(loss, START)
    here.eps = torch.finfo(torch.float32).eps
    path = solve(LBFGSB(gtol=1e-6, maxiter=300), here)
    assert path.points[-1] == pytest.approx(np.ones(10), abs=1e-4)


def test_long_vectors_in_float32():
    """The first iterates are those of float64."""
    n = 300_000
    loss = lambda x: ((x - 1) ** 2 * torch.linspace(1, 30, n, dtype=x.dtype)).mean() + (x**4).mean()  # noqa: E731
    paths = [
        solve(LBFGSB(maxcor=4), FunctionProblem(loss, torch.zeros(n), dtype=dtype), steps=8)
        for dtype in (torch.float32, torch.float64)
    ]
    short, exact = (path.points[-1] for path in paths)
    assert np.abs(short - exact).max() < 1e-4 * np.abs(exact - paths[1].points[0]).max()
