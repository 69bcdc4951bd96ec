"""CG, BFGS and the self-scaled methods on the device: SciPy's runs, closed forms, states, transfers, endings."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import torch

from tests.core.problems import PROBLEMS
from tests.core.solvers.pinn import Pinn
from tests.core.solvers.plain import FunctionProblem, scipy_path, solve
from tests.core.solvers.watched import Silent, StopAfter, equal, transfers
from tests.published.more_garbow_hillstrom import MGH
from torchmin_nb.core.runtime.control import Status, StopRun
from torchmin_nb.core.solvers.line_search import Along
from torchmin_nb.core.solvers.quasi_newton import Change
from torchmin_nb.core.solvers.self_scaled import Curvature
from torchmin_nb.core.solvers.table import SOLVERS
from torchmin_nb.errors import ArgumentError

AS_SCIPY = ("BFGS", "CG")
SELF_SCALED = ("SSBFGS", "SSBroyden")
QUASI_NEWTON = ("BFGS", *SELF_SCALED)
METHODS = (*AS_SCIPY, *SELF_SCALED)

# Long runs double a difference in the last bit every other iteration: measured.
COUNT_ALLOWANCE = {
    ("BFGS", "Rosenbrock 20"): 8,
    ("BFGS", "Wood"): 4,
    ("CG", "Rosenbrock 5"): 100,
    ("CG", "Rosenbrock 20"): 300,
    ("CG", "Powell singular"): 8,
    ("CG", "Wood"): 12,
}
BADLY_SCALED = {
    ("BFGS", "3 Powell badly scaled"): 1e-5,
    ("BFGS", "4 Brown badly scaled"): 1e-5,
    ("BFGS", "10 Meyer"): 1e-5,
    ("CG", "3 Powell badly scaled"): 1e-3,
}
"""Problems that magnify the last bit of a product, which a change of the start does not show: measured."""


def solver(method, **options):
    return SOLVERS[method].solver(**options)


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


START = (-1.2, 1.0, -1.2, 1.0, -1.2)


# SciPy's runs


def ended(path):
    return path.ending.status, path.ending.success, path.ending.message


def compare(method, function, x0, *, allowance=0, **options):
    """Iterates, counts and end, whole; evaluations may differ by the allowance."""
    points, result = scipy_path(method, function, x0, **options)
    problem = FunctionProblem(function, x0)
    path = solve(solver(method, **options), problem)
    assert ended(path) == (result.status, result.success, result.message)
    assert path.state.iteration == result.nit
    assert abs(problem.counts["evaluations"] - result.nfev) <= allowance
    np.testing.assert_allclose(path.points, points, rtol=1e-6, atol=1e-9)
    return path, result


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", AS_SCIPY)
def test_the_first_iterations_are_scipys(method, name):
    compare(method, PROBLEMS[name].loss, PROBLEMS[name].x0, maxiter=20)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", AS_SCIPY)
def test_the_end_is_scipys(method, name):
    problem, allowance = PROBLEMS[name], COUNT_ALLOWANCE.get((method, name), 0)
    _, result = scipy_path(method, problem.loss, problem.x0)
    own = FunctionProblem(problem.loss, problem.x0)
    path = solve(solver(method), own)
    assert ended(path) == (result.status, result.success, result.message)
    assert abs(path.state.iteration - result.nit) <= allowance
    assert abs(own.counts["evaluations"] - result.nfev) <= 2 * allowance
    assert problem.distance(path.points[-1]) <= max(2 * problem.distance(result.x), 1e-4)


def difference(points, others):
    """Of the first 20 iterations, relative to the largest entry."""
    pairs = list(zip(points[:21], others[:21], strict=False))
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs[1:])


@pytest.mark.parametrize("name", MGH)
@pytest.mark.parametrize("method", AS_SCIPY)
def test_published_problems_part_from_scipy_no_sooner_than_scipy_from_itself(method, name):
    """Where a change of the start in its last bit grows, so may rounding."""
    loss, start = MGH[name].loss, np.array(MGH[name].start)
    points, _ = scipy_path(method, loss, start, maxiter=20)
    draw = np.random.default_rng(0)
    moved = [start + 4e-16 * np.maximum(np.abs(start), 1) * draw.standard_normal(len(start)) for _ in range(2)]
    own = max(difference(scipy_path(method, loss, x, maxiter=20)[0], points) for x in moved)
    path = solve(solver(method, maxiter=20), FunctionProblem(loss, start))
    assert difference(path.points, points) <= max(1e-6, 100 * own, BADLY_SCALED.get((method, name), 0.0))


OPTIONS = [
    ("BFGS", {"gtol": 1e-2}),
    ("BFGS", {"gtol": 1e-9}),
    ("BFGS", {"norm": 2, "gtol": 1e-3}),
    ("BFGS", {"norm": 1, "gtol": 1e-3}),
    ("BFGS", {"norm": -np.inf, "gtol": 1e-3}),
    ("BFGS", {"xrtol": 1e-3}),
    ("BFGS", {"c1": 1e-3, "c2": 0.5}),
    ("BFGS", {"hess_inv0": np.diag([0.01, 0.02, 0.01, 0.02, 0.03])}),
    ("BFGS", {"maxiter": 0}),
    ("BFGS", {"maxiter": 7}),
    ("CG", {"gtol": 1e-2}),
    ("CG", {"norm": 2, "gtol": 1e-1}),
    ("CG", {"norm": 1, "gtol": 1e-1}),
    ("CG", {"c1": 1e-3, "c2": 0.1, "maxiter": 20}),
    ("CG", {"maxiter": 0}),
    ("CG", {"maxiter": 7}),
]


@pytest.mark.parametrize(("method", "options"), OPTIONS, ids=str)
def test_options_mean_what_they_mean_in_scipy(method, options):
    function = PROBLEMS["Wood"].loss if method == "CG" else rosenbrock
    compare(method, function, PROBLEMS["Wood"].x0 if method == "CG" else START, **options)


def test_the_limit_of_iterations_is_the_end_even_where_the_run_has_converged():
    """SciPy's order."""
    for method in AS_SCIPY:
        path, _ = compare(method, lambda x: (x**2).sum(), (0.3, 0.4), maxiter=1, gtol=1e-4)
        assert path.state.sample.largest < 1e-4
        assert path.ending.status == 1


def test_a_start_that_has_converged_is_an_end():
    for method in METHODS:
        problem = FunctionProblem(lambda x: (x**2).sum(), (0.0, 0.0))
        path = solve(solver(method, gtol=0.0), problem)
        assert path.ending.success
        assert (path.state.iteration, problem.counts["evaluations"]) == (0, 1)


FAILING = {
    "kinks": (lambda x: 1 + (x - torch.tensor([0.3, -0.2])).abs().sum(), (1.0, 1.0)),
    "noise": (lambda x: (x**4).sum() + 0.3 * torch.sin(1e3 * x).sum().detach(), (1.0, 2.0)),
    "a gradient of the wrong sign": (lambda x: 2 * (x**2).sum().detach() - (x**2).sum(), (1.0, 2.0)),
}


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize("method", AS_SCIPY)
def test_a_search_that_fails_ends_the_run_as_in_scipy(method, name):
    path, _ = compare(method, *FAILING[name], allowance=20)  # the trials of the last search differ in their last bits
    assert path.ending.status == 2
    assert solver(method).result(path.state)["noise"] is None


def test_unbounded_below():
    """The loss falls without end, to −inf."""
    for method in AS_SCIPY:
        compare(method, lambda x: -(x**3).sum(), (1.0, 2.0), maxiter=4)


@pytest.mark.parametrize("method", METHODS)
def test_a_wall_is_stepped_back_from(method):
    """x − log x: the first steps lead below 0, where the loss is not defined; the minimum is at 1."""
    path = solve(solver(method), FunctionProblem(lambda x: (x - x.log()).sum(), (0.1, 0.2)))
    assert path.ending.success
    np.testing.assert_allclose(path.points[-1], 1.0, atol=1e-4)


@pytest.mark.parametrize("constants", [(0.9, 0.1), (0.0, 0.5), (0.1, 1.0)])
@pytest.mark.parametrize("method", METHODS)
def test_constants_for_which_no_step_may_exist_are_refused(method, constants):
    c1, c2 = constants
    with pytest.raises(ArgumentError, match="0 < c1 < c2 < 1"):
        solver(method, c1=c1, c2=c2)


HESS_INV0 = {
    "shape": (np.eye(3), r"\(3, 3\).*\(5, 5\)"),
    "not symmetric": (np.triu(np.ones((5, 5))), "symmetric"),
    "indefinite": (np.diag([1.0, 1.0, 1.0, 1.0, -1.0]), "eigenvalue of -1"),
    "zero": (np.zeros((5, 5)), "positive definite"),
    "nan": (np.diag([1.0, 1.0, 1.0, 1.0, np.nan]), "symmetric"),
}


@pytest.mark.parametrize("name", HESS_INV0)
@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_a_wrong_hess_inv0_is_refused(method, name):
    matrix, words = HESS_INV0[name]
    with pytest.raises(ArgumentError, match=words):
        solver(method, hess_inv0=matrix).init(FunctionProblem(rosenbrock, START))


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_a_run_begins_with_hess_inv0(method):
    """With the inverse Hessian of a quadratic one step is enough; the user's matrix stays as it is."""
    hessian = torch.tensor(scipy.linalg.hilbert(4) + np.eye(4))
    inverse = torch.linalg.inv(hessian)
    inverse = (inverse + inverse.T) / 2
    kept = inverse.clone()
    own, problem = (
        solver(method, hess_inv0=inverse),
        FunctionProblem(lambda x: 0.5 * x @ hessian @ x, (0.1, 0.2, 0.3, 0.4)),
    )
    path = solve(own, problem)
    assert path.state.iteration == 1
    np.testing.assert_allclose(path.points[-1], 0.0, atol=1e-12)
    assert torch.equal(inverse, kept)


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_an_inverse_hessian_of_an_earlier_run_is_taken_although_rounding_made_it_singular(method):
    vectors, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))
    matrix = vectors * [1e-6, 1.0, 1e4, 1e8, 1e12] @ vectors.T
    matrix = (matrix + matrix.T) / 2
    assert np.linalg.eigvalsh(matrix)[0] != pytest.approx(1e-6, rel=0.5)
    own, problem = solver(method, hess_inv0=matrix), FunctionProblem(lambda x: (x**2).sum(), START)
    hess_inv = own.result(own.init(problem))["hess_inv"]
    np.testing.assert_allclose(hess_inv, matrix, rtol=0, atol=1.0)
    state = own.step(problem, own.init(problem))
    assert state.ended is None


# Closed forms


def learned(method, hess_inv, s, y, step):
    """H after one update, with s = −step·Hg."""
    n = len(s)
    gradient = -np.linalg.solve(hess_inv, s) / step
    own = solver(method, hess_inv0=hess_inv)
    problem = FunctionProblem(lambda x: torch.tensor(gradient) @ x, np.zeros(n))
    state = own.init(problem)
    along, image = own.direction(state)
    np.testing.assert_allclose(along.direction, s / step, rtol=1e-9, atol=1e-9)
    assert along.slope == pytest.approx(gradient @ s / step, rel=1e-9)
    own.learn(state, Change(torch.tensor(s), torch.tensor(y), step, along, image))
    return own.inverse_hessian(state).numpy(), gradient


def drawn(seed, n):
    """H, s and y with sᵀy > 0."""
    draw = np.random.default_rng(seed)
    root, s, y = draw.normal(size=(n, n)), draw.normal(size=n), draw.normal(size=n)
    return root @ root.T + 0.1 * np.eye(n), s, y if s @ y > 0 else -y, float(draw.uniform(0.1, 3.0))


def by_the_paper(method, hess_inv, s, y, gradient, step):
    """The formulas as they are printed, with N×N products."""
    rho, n, identity = 1 / (s @ y), len(s), np.eye(len(s))
    if method == "BFGS":
        left = identity - rho * np.outer(s, y)
        return left @ hess_inv @ left.T + rho * np.outer(s, s)
    hy = hess_inv @ y
    yhy = y @ hy
    b, h = -step * rho * (s @ gradient), yhy * rho
    a, theta, tau = b * h - 1, 0.0, min(1.0, 1 / b)
    if method == "SSBroyden":
        c = np.sqrt(a / (1 + a))
        lower = min(1.0, h * (1 - c))
        theta = max((lower - 1) / a, min(1 / lower, (1 - b) / b))
        sigma = 1 + theta * a
        root = abs(sigma) ** (1 / (1 - n))
        tau = min(tau * root, sigma) if theta <= 0 else tau * min(root, 1 / theta)
    phi, v = (1 - theta) / (1 + a * theta), s * rho - hy / yhy
    return (hess_inv - np.outer(hy, hy) / yhy + phi * yhy * np.outer(v, v)) / tau + rho * np.outer(s, s)


@pytest.mark.parametrize("n", [2, 5, 30])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_an_update_is_the_formula(method, seed, n):
    hess_inv, s, y, step = drawn(seed, n)
    found, gradient = learned(method, hess_inv, s, y, step)
    expected = by_the_paper(method, hess_inv, s, y, gradient, step)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    np.testing.assert_allclose(found @ y, s, rtol=0, atol=1e-8 * np.abs(expected).max() * np.abs(y).max())
    assert np.linalg.eigvalsh((found + found.T) / 2)[0] > 0


@pytest.mark.parametrize("method", SELF_SCALED)
def test_where_the_curvature_is_exact_nothing_is_scaled(method):
    """Hy = s after a full step: a = 0, b = h = 1, and the update changes nothing."""
    hess_inv, s, _, _ = drawn(0, 6)
    found, _ = learned(method, hess_inv, s, np.linalg.solve(hess_inv, s), 1.0)
    np.testing.assert_allclose(found, hess_inv, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", SELF_SCALED)
def test_no_update_where_the_curvature_is_not_positive(method):
    hess_inv, s, y, step = drawn(0, 5)
    found, _ = learned(method, hess_inv, s, -y, step)
    np.testing.assert_allclose(found, hess_inv, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_few_variables(method, n):
    path = solve(solver(method, gtol=1e-8), FunctionProblem(lambda x: ((x - 2) ** 4 + (x - 2) ** 2).sum(), [5.0] * n))
    assert path.ending.success
    np.testing.assert_allclose(path.points[-1], 2.0, atol=1e-8)


def test_scales_stay_in_their_limits():
    """τ ≤ 1 and 0 < 1 + aθ ≤ 1 + a, of all curvatures: so H stays positive definite, and is never made smaller."""
    for method in SELF_SCALED:
        rule = solver(method).parameters
        for b in np.logspace(-6, 6, 25).tolist():
            for a in np.logspace(-15, 8, 24).tolist():
                theta, tau = rule(Curvature(b, (1 + a) / b, a, 50))
                assert 0 < tau <= 1 + 1e-12
                assert 0 < 1 + a * theta <= (1 + a) * (1 + 1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_quadratic_ends_at_its_minimum(method):
    matrix = torch.tensor(np.diag(np.logspace(0, 3, 12)) + 0.5)
    expected = np.linalg.solve(matrix.numpy(), np.ones(12))
    path = solve(solver(method, gtol=1e-6), FunctionProblem(lambda x: 0.5 * x @ matrix @ x - x.sum(), np.zeros(12)))
    assert path.ending.success
    np.testing.assert_allclose(path.points[-1], expected, atol=1e-6)


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_hess_inv_becomes_the_inverse_hessian_of_a_quadratic(method):
    matrix = torch.tensor(np.diag([1.0, 2.0, 4.0]) + 0.2)
    own = solver(method, gtol=1e-13, maxiter=60)
    path = solve(own, FunctionProblem(lambda x: 0.5 * x @ matrix @ x - x.sum(), np.zeros(3)))
    hess_inv = own.result(path.state)["hess_inv"]
    assert hess_inv.shape == (3, 3)
    np.testing.assert_allclose(hess_inv @ matrix, torch.eye(3), atol=0.05)


def test_hess_inv_is_scipys():
    path, result = compare("BFGS", rosenbrock, START, maxiter=15)
    np.testing.assert_allclose(path.state.hess_inv, result.hess_inv, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["Rosenbrock 20", "Beale", "Powell singular", "logistic regression"])
@pytest.mark.parametrize("method", SELF_SCALED)
def test_self_scaled_methods_solve_what_bfgs_solves(method, name):
    problem = PROBLEMS[name]
    path = solve(solver(method), FunctionProblem(problem.loss, problem.x0))
    assert path.ending.success
    assert path.state.sample.loss == pytest.approx(problem.minimum, abs=1e-6)


def test_on_a_network_for_a_differential_equation_self_scaling_pays():
    """After 500 iterations the loss is far below BFGS's; python -m tests.core.solvers.pinn for whole runs."""
    losses = {name: solve(solver(name, gtol=0.0, maxiter=500), Pinn(0)).state.sample.loss for name in QUASI_NEWTON}
    assert losses["SSBFGS"] < losses["BFGS"] / 3
    assert losses["SSBroyden"] < losses["BFGS"] / 3


# States


def states(method, count, problem=None):
    """Packed states after 0, 1, … steps, with the points of the whole run."""
    problem, own = problem or FunctionProblem(rosenbrock, START), solver(method)
    state = own.init(problem)
    kept, points = [state.copy().packed()], [state.sample.x.clone()]
    for _ in range(count):
        state = own.step(problem, state)
        kept.append(state.copy().packed())
        points.append(state.sample.x.clone())
    return kept, points


GO_ON = """
import sys, torch
from tests.core.solvers.test_first_order import FunctionProblem, Pinn, START, rosenbrock, solver
from torchmin_nb.core.solvers.table import SOLVERS
torch.set_num_threads(1)
stored = torch.load(sys.argv[1], weights_only=True)
found = {}
for (method, name), kept in stored.items():
    for index, packed in kept.items():
        problem = FunctionProblem(rosenbrock, START) if name == "Rosenbrock" else Pinn(0, torch.float32)
        state, own = SOLVERS[method].state.unpacked(packed), solver(method)
        found[method, name, index] = [(state := own.step(problem, state)).sample.x.clone() for _ in range(8)]
torch.save(found, sys.argv[2])
"""


@pytest.mark.slow
def test_a_stored_state_goes_on_bit_for_bit_in_a_new_process(tmp_path):
    stored, expected = {}, {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for method in METHODS:
        for name, problem in (("Rosenbrock", None), ("network", Pinn(0, torch.float32))):
            kept, points = states(method, 20, problem)
            stored[method, name] = {index: kept[index] for index in (0, 1, 5, 12)}
            expected |= {(method, name, index): points[index + 1 : index + 9] for index in (0, 1, 5, 12)}
    torch.set_num_threads(threads)
    torch.save(stored, tmp_path / "states.pt")
    arguments = [sys.executable, "-c", GO_ON, tmp_path / "states.pt", tmp_path / "found.pt"]
    subprocess.run(arguments, check=True, timeout=120)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found.keys() == expected.keys()
    for key, points in expected.items():
        assert all(torch.equal(a, b) for a, b in zip(found[key], points, strict=True)), key


@pytest.mark.parametrize("work", range(1, 12))
@pytest.mark.parametrize("method", METHODS)
def test_a_stop_leaves_the_state_as_it_was(method, work):
    own, problem = solver(method), StopAfter(rosenbrock, START)
    state = own.init(problem)
    for _ in range(3):
        state = own.step(problem, state)
    problem.left = work
    for _ in range(20):
        before = state.copy().packed()
        try:
            state = own.step(problem, state)
        except StopRun:
            break
    else:
        pytest.fail("it was not stopped")
    assert equal(state.packed(), before)
    while state.iteration < 20:
        state = own.step(problem, state)
    assert torch.equal(state.sample.x, states(method, 20)[1][-1])


# Transfers


@pytest.mark.parametrize("name", ["Rosenbrock 20", "Himmelblau", "Wood"])
@pytest.mark.parametrize("method", METHODS)
def test_two_transfers_an_iteration(method, name, monkeypatch):
    """CG's check of descent has one of its own at every trial that it looks at, which is nearly always the last."""
    with transfers(monkeypatch) as sizes:
        problem = Silent(PROBLEMS[name].loss, PROBLEMS[name].x0, sizes=sizes)
        own = solver(method)
        state = own.init(problem)
        assert not sizes
        while own.terminate(problem, state) is None and state.iteration < 40:
            before = len(sizes)
            state = own.step(problem, state)
            assert len(sizes) - before <= 2
    assert max(sizes) <= 2
    assert len(sizes) <= (1.2 if method == "CG" else 2) * state.iteration


# Resets


def test_after_a_failed_search_a_self_scaled_method_begins_anew():
    """With an H of NaN: the step is along the negative gradient, and H is updated from the identity."""
    for method in SELF_SCALED:
        problem, own = FunctionProblem(lambda x: (x**2).sum() + x[0] * x[1], (1.0, 2.0)), solver(method)
        state = own.init(problem)
        state.factor.fill_(math.nan)
        state = own.step(problem, state)
        fresh = own.step(problem, own.init(problem))
        np.testing.assert_allclose(state.sample.x, fresh.sample.x, rtol=1e-12)
        np.testing.assert_allclose(state.factor, fresh.factor, rtol=1e-12)
        assert state.ended is None


def test_a_self_scaled_method_ends_where_nothing_descends():
    for method in SELF_SCALED:
        loss, start = FAILING["a gradient of the wrong sign"]
        path = solve(solver(method), FunctionProblem(loss, start))
        assert path.ending.status in (2, Status.NOISE_FLOOR)
        assert not path.ending.success
        assert path.state.iteration == 0


def test_steepest_descent():
    sample = FunctionProblem(lambda x: (x**2).sum(), (3.0, 4.0)).evaluate(torch.tensor([3.0, 4.0], dtype=torch.float64))
    direction, slope, square = Along.steepest(sample)
    assert direction.tolist() == [-6.0, -8.0]
    assert (slope, square) == (-100.0, 100.0)
    assert math.isclose(float(direction @ sample.gradient), slope)
