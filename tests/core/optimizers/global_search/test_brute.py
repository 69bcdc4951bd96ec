"""BruteWrapper."""

import pytest
import scipy.optimize

from tests.core.optimizers.global_search.searches import X0, Loss, bowl, himmelblau, numpy_rastrigin, rastrigin, run


def test_brute_searches_scipys_grid():
    ranges = (slice(-4, 4, 0.5), (-3, 3, 0.25))
    x, fun, grid, losses = scipy.optimize.brute(numpy_rastrigin, ranges, full_output=True, finish=None)
    made = run("brute", Loss(rastrigin, X0), dict(ranges=ranges, finish=None))
    assert made.result.x.tolist() == x.tolist()
    assert made.result.fun == pytest.approx(fun, abs=1e-12)
    assert made.result.grid == pytest.approx(grid)
    assert made.result.Jout == pytest.approx(losses)


@pytest.mark.parametrize("ranges", [(-5, 5), [(-5, 5), (-5, 5)], [(-5, 5), slice(-5, 5, 7j)]], ids=str)
def test_brute_takes_ns_points_along_every_axis_without_a_step(ranges):
    made = run("brute", Loss(rastrigin, X0), dict(ranges=ranges, Ns=7, finish=None))
    assert made.result.Jout.shape == (7, 7)


def test_brute_in_one_variable():
    made = run("brute", Loss(bowl, [0.0]), dict(ranges=(-1, 1), Ns=10))
    assert made.result.x == pytest.approx([0.3], abs=1e-6)
    assert made.result.x.shape == (1,)


def test_the_users_own_finish():
    made = run("brute", Loss(himmelblau, [0.0, 0.0]), dict(ranges=(-5, 5), Ns=11, finish=scipy.optimize.fmin))
    assert made.result.fun == pytest.approx(0, abs=1e-6)
