"""L-BFGS-B on the device against SciPy's: iterates, counts and endings; what its state is made of."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.optimize
import torch

from tests.core.problems import PROBLEMS
from tests.core.solvers.continued import points, saved_and_read
from tests.core.solvers.plain import FunctionProblem, scipy_path, solve
from tests.core.solvers.transfers import counted_transfers
from torchmin_nb.core.solvers.contract import Sample
from torchmin_nb.core.solvers.correction_pairs import CorrectionPairs
from torchmin_nb.core.solvers.lbfgsb import LBFGSB

ROSENBROCK = PROBLEMS["Rosenbrock 5"]

LONG = 60
"""Rounding parts the tail of longer runs: SciPy's own counts change there with the last bit of the start."""


def uphill(x):
    """Its gradient is not that of its values: no step along it decreases the loss."""
    return 2 * x.detach().sum() - x.sum()


def partly_uphill(x):
    """Right far from 0, wrong near it: the pairs are dropped, and steepest descent fails too."""
    return (x**4).sum() if x.detach().norm() > 0.1 else (x.detach() * 2).norm() - (x * 3).sum()


def far(a, b):
    return np.abs(a - b).max() / max(np.abs(a).max(), 1e-300)


@pytest.mark.parametrize("maxcor", [10, 3, 1])
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_the_run_is_scipys(problem, maxcor):
    theirs, result = scipy_path("L-BFGS-B", problem.loss, problem.x0, maxcor=maxcor)
    here = FunctionProblem(problem.loss, problem.x0)
    ours = solve(LBFGSB(maxcor=maxcor), here)
    assert max(far(a, b) for a, b in zip(theirs[:21], ours.points[:21], strict=False)) < 1e-6
    allowed, apart = (0, 1e-3) if result.nit <= LONG else (0.5, 1e-2)
    assert ours.state.iteration == pytest.approx(result.nit, rel=allowed)
    assert here.counts["evaluations"] == pytest.approx(result.nfev, rel=allowed)
    assert ours.state.evaluations == here.counts["evaluations"]
    assert ours.ending == (result.status, result.success, result.message)
    assert ours.points[-1] == pytest.approx(result.x, rel=apart, abs=apart)


ENDINGS = {
    "gradient": (ROSENBROCK.loss, ROSENBROCK.x0, {}, 0),
    "gradient at the start": (ROSENBROCK.loss, np.ones(5), {}, 0),
    "reduction": (ROSENBROCK.loss, ROSENBROCK.x0, {"ftol": 0.1}, 0),
    "a kink": (lambda x: x.abs().sum(), np.full(3, 0.7), {"ftol": 0.0}, 2),
    "iterations": (ROSENBROCK.loss, ROSENBROCK.x0, {"maxiter": 7}, 1),
    "no iterations": (ROSENBROCK.loss, ROSENBROCK.x0, {"maxiter": 0}, 1),
    "evaluations": (ROSENBROCK.loss, ROSENBROCK.x0, {"maxfun": 9}, 1),
    "the last iteration converges": (ROSENBROCK.loss, ROSENBROCK.x0, {"maxiter": 49}, 1),
    "searches of two trials": (ROSENBROCK.loss, ROSENBROCK.x0, {"maxls": 2}, 0),
    "abnormal at the start": (uphill, np.zeros(2), {}, 2),
    "abnormal after a restart": (partly_uphill, np.array([1.0, 2.0]), {}, 2),
    "abnormal and evaluations": (uphill, np.zeros(2), {"maxfun": 3}, 1),
}


@pytest.mark.parametrize(("loss", "x0", "options", "status"), ENDINGS.values(), ids=ENDINGS)
def test_endings_are_scipys(loss, x0, options, status):
    _, result = scipy_path("L-BFGS-B", loss, x0, **options)
    here = FunctionProblem(loss, x0)
    ours = solve(LBFGSB(**options), here)
    assert ours.ending == (result.status, result.success, result.message)
    assert result.status == status
    assert (ours.state.iteration, here.counts["evaluations"]) == (result.nit, result.nfev)
    assert far(result.x, ours.points[-1]) < 1e-5  # at a kink the last trials differ in the last bits of 1e-24
    assert ours.state.sample.loss == pytest.approx(result.fun, rel=1e-6, abs=1e-12)
    assert ours.state.noise is None


def test_steps_and_their_norms():
    path = solve(LBFGSB(), FunctionProblem(ROSENBROCK.loss, ROSENBROCK.x0), steps=3)
    assert path.state.step_norm == pytest.approx(np.linalg.norm(path.points[-1] - path.points[-2]))


def test_a_loss_that_is_infinite_beyond_a_wall_is_not_crossed():
    """-log x + x, of which the first trial may lie beyond 0."""
    here = FunctionProblem(lambda x: (x - torch.log(x)).sum(), [30.0, 0.01, 5.0])
    path = solve(LBFGSB(gtol=1e-8, ftol=0), here)
    assert path.ending.success
    assert path.points[-1] == pytest.approx(np.ones(3), abs=1e-7)
    assert np.isfinite(path.losses).all()


# The inverse Hessian


def dense(steps, changes, theta):
    """H after BFGS updates of I/theta, oldest pair first: Nocedal and Wright (2006), equation 6.17."""
    n = len(steps[0])
    H = np.eye(n) / theta
    for s, y in zip(steps, changes, strict=True):
        V = np.eye(n) - np.outer(y, s) / (s @ y)
        H = V.T @ H @ V + np.outer(s, s) / (s @ y)
    return H


class Walk:
    """Random points with gradients of a quadratic, so that sᵀy > 0."""

    def __init__(self, n=7, seed=0):
        self._generator = np.random.default_rng(seed)
        root = self._generator.standard_normal((n, n))
        self._hessian = root @ root.T + np.eye(n)
        self.n, self.dtype, self.device = n, torch.float64, torch.device("cpu")
        self.before = self.next()

    def next(self):
        x = self._generator.standard_normal(self.n)
        g = self._hessian @ x
        return Sample(torch.tensor(x), 0.0, torch.tensor(g), 0.0, 0.0, 0.0)

    def pair(self, after):
        return (after.x - self.before.x).numpy(), (after.gradient - self.before.gradient).numpy()


def test_the_direction_is_that_of_dense_updates_while_the_ring_turns():
    walk = Walk()
    pairs, kept = CorrectionPairs.none(walk, 3), []
    for k in range(12):
        after = walk.next()
        keep = k not in (2, 7)
        kept = [*kept, walk.pair(after)][-3:] if keep else kept
        pairs.learn(walk.before, after, keep=keep)
        walk.before = after
        assert pairs.count == len(kept)
        H = dense(*zip(*kept, strict=True), pairs.theta)
        s, y = kept[-1]
        assert pairs.theta == pytest.approx(y @ y / (s @ y))
        assert pairs.direction(after.gradient).numpy() == pytest.approx(-H @ after.gradient.numpy(), rel=1e-8)


def test_a_pair_without_curvature_makes_room_but_is_not_kept():
    walk = Walk()
    pairs, kept = CorrectionPairs.none(walk, 3), []
    for _ in range(4):
        after = walk.next()
        kept = [*kept, walk.pair(after)]
        pairs.learn(walk.before, after, keep=True)
        walk.before = after
    after = Sample(walk.before.x + 1, 0.0, walk.before.gradient - 1, 0.0, 0.0, 0.0)
    pairs.learn(walk.before, after, keep=True)
    H = dense(*zip(*kept[-2:], strict=True), pairs.theta)
    assert pairs.count == 2
    assert pairs.direction(after.gradient).numpy() == pytest.approx(-H @ after.gradient.numpy(), rel=1e-8)


def test_hess_inv_is_scipys_operator_of_the_last_pairs():
    loss, x0 = PROBLEMS["Wood"].loss, PROBLEMS["Wood"].x0
    solver = LBFGSB(maxcor=3)
    path = solve(solver, FunctionProblem(loss, x0), steps=9)
    gradients = [PROBLEMS["Wood"].grad(x) for x in path.points]
    s, y = np.diff(path.points, axis=0)[-3:], np.diff(gradients, axis=0)[-3:]
    expected = scipy.optimize.LbfgsInvHessProduct(s, y)
    found = solver.result(path.state)["hess_inv"]
    assert found.shape == (4, 4)
    assert found.todense() == pytest.approx(expected.todense(), rel=1e-6)
    assert found @ np.arange(4.0) == pytest.approx(expected @ np.arange(4.0), rel=1e-6)
    assert found @ y[-1] == pytest.approx(s[-1], rel=1e-6)


def test_hess_inv_before_the_first_step_is_the_identity():
    solver = LBFGSB()
    state = solver.init(FunctionProblem(ROSENBROCK.loss, ROSENBROCK.x0))
    assert solver.result(state)["hess_inv"].todense() == pytest.approx(np.eye(5))


# The state


class Failing(FunctionProblem):
    """Raises at its n-th evaluation, once."""

    def __init__(self, *args, at):
        super().__init__(*args)
        self.at = at

    def evaluate(self, x, along=None):
        if self.counts["evaluations"] + 1 == self.at:
            self.at = None
            raise KeyboardInterrupt
        return super().evaluate(x, along)


@pytest.mark.parametrize("at", [2, 7, 12, 13, 14, 15, 20])
def test_an_exception_out_of_an_evaluation_leaves_the_state_as_it_was(at):
    """The 12th and 13th are of a search that fails, and is done again without the pairs."""
    options = dict(maxls=2)
    whole = solve(LBFGSB(**options), FunctionProblem(ROSENBROCK.loss, ROSENBROCK.x0), steps=25)
    solver, here = LBFGSB(**options), Failing(ROSENBROCK.loss, ROSENBROCK.x0, at=at)
    state, interrupted = solver.init(here), False
    while state.iteration < 25 and state.ended is None:
        before = state.copy()
        try:
            state = solver.step(here, state)
        except KeyboardInterrupt:
            same(state.packed(), before.packed())
            interrupted = True
    assert interrupted
    assert np.array_equal(state.sample.x.numpy(), whole.points[-1])


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            same(a[name], b[name])
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


RESUMED = {
    "no pair yet": (dict(), torch.float64, 0),
    "some pairs": (dict(), torch.float64, 6),
    "the ring has turned": (dict(maxcor=4), torch.float64, 17),
    "float32, its noise measured": (dict(gtol=0.0), torch.float32, 40),
    "bounds": (dict(maxcor=4), torch.float64, 9),
}


def resumed_problem(name, dtype):
    bounds = (torch.full((5,), 0.3), torch.tensor([0.9, 2.0, 2.0, torch.inf, 2.0])) if name == "bounds" else None
    return FunctionProblem(ROSENBROCK.loss, ROSENBROCK.x0, dtype=dtype, bounds=bounds)


@pytest.mark.parametrize("name", RESUMED)
def test_a_saved_state_goes_on_bit_for_bit(name):
    options, dtype, at = RESUMED[name]
    make = lambda: LBFGSB(**options)  # noqa: E731
    whole = points(make, lambda: resumed_problem(name, dtype), at + 10)
    parts = points(make, lambda: resumed_problem(name, dtype), at + 10, resume_at=at)
    assert len(whole) == len(parts) >= at + 5
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.slow
def test_a_saved_state_goes_on_bit_for_bit_in_a_new_process(tmp_path):
    tails = {}
    for name, (options, dtype, at) in RESUMED.items():
        solver, here = LBFGSB(**options), resumed_problem(name, dtype)
        state = solver.init(here)
        for _ in range(at):
            state = solver.step(here, state)
        torch.save(state.packed(), tmp_path / f"{name}.pt")
        tails[name] = tail(solver, here, state)
    torch.save(tails, tmp_path / "tails.pt")
    script = """
import torch
from tests.core.solvers.test_lbfgsb import LBFGSB, RESUMED, resumed_problem, tail
from torchmin_nb.core.solvers.lbfgsb import LBFGSBState
tails = torch.load("tails.pt", weights_only=True)
for name, (options, dtype, at) in RESUMED.items():
    state = LBFGSBState.unpacked(torch.load(f"{name}.pt", weights_only=True))
    found = tail(LBFGSB(**options), resumed_problem(name, dtype), state)
    assert len(found) == len(tails[name]) and all(map(torch.equal, found, tails[name])), name
"""
    root = os.path.dirname(os.path.abspath(__file__)).removesuffix(os.path.join("tests", "core", "solvers"))
    environment = {**os.environ, "PYTHONPATH": root}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)


def tail(solver, here, state, steps=8):
    found = []
    while len(found) < steps and solver.terminate(here, state) is None:
        state = solver.step(here, state)
        found.append(state.sample.x.clone())
    return found


def test_a_copy_is_of_its_own_memory():
    solver, here = LBFGSB(maxcor=3), FunctionProblem(ROSENBROCK.loss, ROSENBROCK.x0)
    state = solver.init(here)
    for _ in range(5):
        state = solver.step(here, state)
    copy, packed = state.copy(), saved_and_read(state).packed()
    tail(solver, here, state)
    same(copy.packed(), packed)


# What it costs


def test_transfers():
    """Two an iteration besides the evaluations, none of them of a vector."""
    here = FunctionProblem(PROBLEMS["Rosenbrock 20"].loss, np.tile(PROBLEMS["Rosenbrock 20"].x0, 10))
    solver, evaluate = LBFGSB(maxcor=4), here.evaluate
    state = solver.init(here)
    with counted_transfers() as found:

        def without_its_own(x, along=None):
            seen = len(found)
            sample = evaluate(x, along)
            del found[seen:]
            return sample

        here.evaluate = without_its_own
        for _ in range(30):
            found.clear()
            state = solver.step(here, state)
            assert solver.terminate(here, state) is None
            assert len(found) <= 2
            assert max(found) <= 2 * (solver.maxcor + 1)
        found.clear()
        solver.result(state)
        assert found == []


MEMORY = """
import resource, sys
import numpy as np, torch
from tests.core.solvers.plain import FunctionProblem
from torchmin_nb.core.solvers.contract import Sample
from torchmin_nb.core.solvers.lbfgsb import LBFGSB

torch.set_num_threads(1)
n, m = 10**6, 10
scale = torch.linspace(1, 50, n)

class Quadratic(FunctionProblem):
    def evaluate(self, x, along=None):
        gradient = scale * x
        products = (float(torch.dot(gradient, v)) for v in (x, gradient if along is None else along, gradient))
        twice, slope, square = products
        return Sample(x, twice / 2, gradient, slope, 1.0, square**0.5)

here = Quadratic(None, torch.ones(n), dtype=torch.float32)
for _ in range(3):
    sample = here.evaluate(here.start(), scale)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.argv[1] == "run":
    del sample
    solver = LBFGSB(maxcor=m, gtol=0)
    state = solver.init(here)
    for _ in range(12):
        state = solver.step(here, state)
    assert state.pairs.count == m and here.counts["evaluations"] == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in kilobytes, and malloc's threshold, are Linux's")
def test_memory():
    """(2m + 8) n numbers at most. malloc returns what is freed, so that its fragments are not counted."""

    def peak(what):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
        done = subprocess.run([sys.executable, "-c", MEMORY, what], env=environment, capture_output=True, check=True)
        return int(done.stdout) * 1024

    assert peak("run") - peak("closure") <= (2 * 10 + 8) * 10**6 * 4
