"""L-BFGS-B within bounds: SciPy's run, the conditions at its end, and dense oracles of the direction."""

import numpy as np
import pytest
import torch

from tests.core.problems import PROBLEMS
from tests.core.solvers.plain import FunctionProblem, scipy_path, solve
from tests.core.solvers.test_lbfgsb import Walk, dense, far
from torchmin_nb.core.solvers import box as box_module
from torchmin_nb.core.solvers.box import Box, Model
from torchmin_nb.core.solvers.contract import Sample
from torchmin_nb.core.solvers.correction_pairs import CorrectionPairs
from torchmin_nb.core.solvers.lbfgsb import LBFGSB

INF = np.inf


def ladder(x):
    """Convex; its minimum without bounds is at many different distances."""
    weights = torch.linspace(1, 100, len(x), dtype=x.dtype)
    return (weights * (x - torch.linspace(-1, 1, len(x), dtype=x.dtype)) ** 2).sum() + x.sum() ** 2


def decay(x):
    """Falls without end in some variables."""
    return torch.exp(-x).sum() + (x * torch.arange(len(x), dtype=x.dtype) / 20).sum()


def chain(x):
    """The driver problem of the Fortran code."""
    return (x[0] - 1) ** 2 + 4 * ((x[1:] - x[:-1] ** 2) ** 2).sum()


def rosenbrock(n):
    problem = PROBLEMS[f"Rosenbrock {n}"]
    return problem.loss, problem.x0


ODD = np.arange(20) % 2 == 1
CASES = {
    "upper only": (*rosenbrock(20), -INF, 0.8),
    "lower only, one": (*rosenbrock(5), [1.2, -INF, -INF, -INF, -INF], INF),
    "both on some": (*rosenbrock(20), np.where(ODD, 0.5, -INF), np.where(ODD, 2, INF)),
    "minimum inside": (*rosenbrock(2), -3, 3),
    "closed": (PROBLEMS["Himmelblau"].loss, [0.5, 1.0], 0, [2.5, 5]),
    "singular": (PROBLEMS["Powell singular"].loss, [3.0, -1, 0, 1], [0.1, -20, -1, -1], [100, 20, 1, 50]),
    "Wood": (PROBLEMS["Wood"].loss, [-3.0, -1, -3, -1], -100, [0, 10, 100, 100]),
    "chain": (chain, np.full(25, 3.0), np.where(np.arange(25) % 2 == 0, 1.0, -100), 100),
    "many active": (ladder, np.zeros(60), -0.2, 0.3),
    "start at the bounds": (ladder, np.where(np.arange(60) % 2 == 0, -0.2, 0.3), -0.2, 0.3),
    "start outside": (ladder, np.full(60, 5.0), -0.2, 0.3),
    "fixed variables": (ladder, np.zeros(60), np.where(np.arange(60) < 9, 0.25, -0.2), np.full(60, 0.25)),
    "unbounded below": (decay, np.ones(40), 0, 2),
    "wide": (rosenbrock(2)[0], np.tile([-1.2, 1.0], 15_000), -1.5, np.where(np.arange(30_000) % 3 == 0, 0.7, INF)),
}


def both(name, **options):
    loss, x0, lower, upper = CASES[name]
    lower, upper = np.broadcast_to(lower, np.shape(x0)), np.broadcast_to(upper, np.shape(x0))
    bounds = list(zip(lower, upper, strict=True))
    theirs, result = scipy_path("L-BFGS-B", loss, x0, bounds=bounds, **options)
    theirs[0] = np.clip(theirs[0], lower, upper)
    return theirs, result, Watched(loss, x0, bounds=(lower.copy(), upper.copy()))


class Watched(FunctionProblem):
    """Every point that is evaluated is within the bounds."""

    def evaluate(self, x, along=None):
        assert ((x >= self.lower) & (x <= self.upper)).all()
        return super().evaluate(x, along)


@pytest.mark.parametrize("maxcor", [10, 2])
@pytest.mark.parametrize("name", CASES)
def test_the_run_is_scipys(name, maxcor):
    options = dict(maxcor=maxcor, **({"maxiter": 20} if name == "wide" else {}))
    theirs, result, here = both(name, **options)
    ours = solve(LBFGSB(**options), here)
    assert max(far(a, b) for a, b in zip(theirs[:21], ours.points[:21], strict=False)) < 1e-6
    assert ours.ending == (result.status, result.success, result.message)
    assert ours.points[-1] == pytest.approx(result.x, rel=1e-3, abs=1e-3)
    if result.nit <= 60:
        assert (ours.state.iteration, here.counts["evaluations"]) == (result.nit, result.nfev)


@pytest.mark.parametrize("name", [name for name in CASES if name != "wide"])
def test_the_end_satisfies_the_conditions_of_karush_kuhn_and_tucker(name):
    *_, here = both(name)
    path = solve(LBFGSB(ftol=0, gtol=1e-6), here)
    x, g = path.state.sample.x, path.state.sample.gradient
    at_lower, at_upper = x == here.lower, x == here.upper
    small = 1e-5 * max(1.0, float(g.abs().max()))
    assert (g[~at_lower & ~at_upper].abs() <= small).all()
    assert (g[at_lower & ~at_upper] >= -small).all()
    assert (g[at_upper & ~at_lower] <= small).all()
    assert path.state.optimality <= small


@pytest.mark.parametrize("name", ["many active", "upper only", "chain", "unbounded below"])
def test_the_breakpoints_are_looked_at_block_by_block(name, monkeypatch):
    whole = solve(LBFGSB(), both(name)[-1])
    monkeypatch.setattr(box_module, "_COLUMNS", 3)
    parts = solve(LBFGSB(), both(name)[-1])
    assert len(whole.points) == len(parts.points)
    assert parts.points[-1] == pytest.approx(whole.points[-1], rel=1e-9, abs=1e-9)


def test_bounds_in_float32():
    loss, x0, lower, upper = CASES["many active"]
    here = Watched(loss, x0, dtype=torch.float32, bounds=(lower, upper))
    path = solve(LBFGSB(), here)
    exact = solve(LBFGSB(ftol=0, gtol=1e-9), both("many active")[-1])
    assert path.points[-1] == pytest.approx(exact.points[-1], abs=1e-5)
    assert np.array_equal(path.points[-1] == np.float32(upper), exact.points[-1] == upper)


# The direction


def random_box(walk, seed):
    generator = np.random.default_rng(seed)
    x = walk.before.x.numpy()
    lower, upper = x - generator.exponential(1.0, walk.n), x + generator.exponential(1.0, walk.n)
    lower[generator.random(walk.n) < 0.2] = -INF
    upper[generator.random(walk.n) < 0.2] = INF
    at = generator.random(walk.n) < 0.2
    lower[at] = x[at]
    return Box(torch.tensor(lower), torch.tensor(upper))


def dense_minimizer(x, g, B, lower, upper):
    """Byrd, Lu, Nocedal, Zhu (1995): the Cauchy point from segment to segment, then Newton's step, projected."""
    bound = np.where(g < 0, upper, lower)
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(g == 0, INF, (x - bound) / g)
    z, time = x.copy(), 0.0
    for following in [*np.unique(times[(times > 0) & (times < INF)]), INF]:
        d = np.where(times > time, -g, 0.0)
        slope, curvature = g @ d + d @ B @ (z - x), d @ B @ d
        if curvature == 0 or slope >= 0:
            break
        if -slope / curvature < following - time:
            z = z - slope / curvature * d
            break
        z, time = np.where(times <= following, bound, z + (following - time) * d), following
    free = times > time
    r = -(g + B @ (z - x))[free]
    step = np.zeros_like(x)
    step[free] = np.linalg.solve(B[np.ix_(free, free)], r)
    projected = np.clip(z + step, lower, upper)
    if (projected - x) @ g <= 0:
        return projected, "projected"
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(step < 0, (lower - z) / step, np.where(step > 0, (upper - z) / step, INF))
    return z + min(1.0, room.min()) * step, "truncated"


def compared(walk, count, box, gradient):
    """The model's minimizer in the box after so many pairs, and that of dense matrices."""
    pairs, kept = CorrectionPairs.none(walk, 4), []
    for _ in range(count):
        after = walk.next()
        kept = [*kept, walk.pair(after)][-4:]
        pairs.learn(walk.before, after, keep=True)
        walk.before = after
    x, g, box = walk.before.x, gradient(walk), box(walk)
    found = box.minimizer(Sample(x, 0.0, g, 0.0, 0.0, 0.0), Model(pairs, x))
    B = np.linalg.inv(dense(*zip(*kept, strict=True), pairs.theta))
    expected, way = dense_minimizer(x.numpy(), g.numpy(), B, box.lower.numpy(), box.upper.numpy())
    assert found.numpy() == pytest.approx(expected, rel=1e-6, abs=1e-8)
    return way


@pytest.mark.parametrize("count", [1, 2, 4, 5, 7])
def test_the_direction_is_that_of_dense_matrices(count):
    """On random boxes, with a ring of four slots."""
    for seed in range(40):
        noise = torch.tensor(np.random.default_rng(seed).standard_normal(8)) * 20
        compared(Walk(8, seed), count, lambda walk: random_box(walk, seed), lambda walk: walk.before.gradient + noise)  # noqa: B023


class Stretched(Walk):
    """A quadratic of very different curvatures, in a box of very different widths."""

    def __init__(self, seed):
        super().__init__(3, seed)
        axes = np.linalg.qr(self._generator.standard_normal((3, 3)))[0]
        self._hessian = axes @ np.diag(10.0 ** self._generator.uniform(-3, 2, 3)) @ axes.T
        self.before, self.seed = self.next(), seed

    def box(self):
        generator, x = np.random.default_rng(self.seed), self.before.x.numpy()
        widths = [generator.exponential(1.0, 3) * 10.0 ** generator.uniform(-2, 1, 3) for _ in range(2)]
        return Box(torch.tensor(x - widths[0]), torch.tensor(x + widths[1]))


@pytest.mark.parametrize("seed", [104, 425, 553, 2145])
def test_a_projected_step_that_leads_uphill_is_cut_short_instead(seed):
    way = compared(Stretched(seed), 3, Stretched.box, lambda walk: walk.before.gradient)
    assert way == "truncated"


def test_without_pairs_the_direction_ends_at_the_cauchy_point():
    walk = Walk()
    box = random_box(walk, 0)
    found = box.minimizer(walk.before, Model(None, walk.before.x))
    expected = np.clip((walk.before.x - walk.before.gradient).numpy(), box.lower.numpy(), box.upper.numpy())
    assert found.numpy() == pytest.approx(expected)


def test_fixed_variables_alone_end_at_the_start():
    path = solve(LBFGSB(), Watched(ladder, np.zeros(3), bounds=(0.5, 0.5)))
    assert path.ending.success
    assert path.state.iteration == 0
    assert path.points[-1] == pytest.approx(np.full(3, 0.5))
