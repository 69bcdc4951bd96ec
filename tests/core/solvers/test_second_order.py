"""What the Newton and trust-region methods on the device have in common: SciPy's runs, states, transfers, endings."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.core.problems import PROBLEMS
from tests.core.solvers.plain import FunctionProblem, solve
from tests.core.solvers.second_order import METHODS, PRODUCTS, TRUST_REGION, QuadraticProblem, scipy_run, solver
from tests.core.solvers.watched import Silent, StopAfter, equal, transfers
from torchmin_nb.core.runtime.control import Status, StopRun
from torchmin_nb.errors import ArgumentError

MAXITER = {("Newton-CG", "Wood"): 40}
"""Runs that wander long enough for the last bit of a product to matter."""
OPTIONS = [
    {},
    {"initial_trust_radius": 0.1, "max_trust_radius": 0.5},
    {"initial_trust_radius": 100.0, "eta": 0.05, "gtol": 1e-7},
]


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


START = (-1.2, 1.0, -1.2, 1.0, -1.2)


# SciPy's runs


def compare(method, function, x0, **options):
    """The same first 20 iterates and radii, counts, and end."""
    theirs = scipy_run(method, function, x0, **options)
    problem = FunctionProblem(function, x0)
    ours = solve(solver(method, **options), problem)
    for own, scipys in zip(ours.points[:21], theirs.points[:21], strict=False):
        np.testing.assert_allclose(own, scipys, rtol=1e-6, atol=1e-9)
    result = theirs.result
    assert (ours.ending.status, ours.ending.success) == (result.status, result.success)
    assert ours.ending.message == result.message
    if method == "trust-krylov":  # its subproblems are solved otherwise
        return ours, theirs
    assert ours.state.iteration == result.nit
    assert problem.counts["evaluations"] == theirs.calls["value"] == result.nfev
    np.testing.assert_allclose(ours.points[-1], result.x, rtol=1e-4, atol=1e-6)
    if method in PRODUCTS:
        assert problem.counts["products"] == theirs.calls["product"]
    else:  # SciPy's trust-exact makes one at rejected trials too
        accepted = sum(not np.array_equal(a, b) for a, b in zip(ours.points, ours.points[1:], strict=False))
        assert problem.counts["hessians"] == accepted + 1 <= theirs.calls["hessian"]
    return ours, theirs


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", METHODS)
def test_the_run_is_scipys(method, name):
    options = {"maxiter": MAXITER[method, name]} if (method, name) in MAXITER else {}
    compare(method, PROBLEMS[name].loss, PROBLEMS[name].x0, **options)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("method", TRUST_REGION)
def test_the_radii_are_scipys(method, options):
    ours, theirs = compare(method, rosenbrock, START, **options)
    assert ours.radii[0] == options.get("initial_trust_radius", 1.0)
    np.testing.assert_allclose(ours.radii[1:21], theirs.radii[:20], rtol=1e-12)
    assert len({*ours.radii}) > 2


@pytest.mark.parametrize("maxiter", [0, 1, 4])
@pytest.mark.parametrize("method", METHODS)
def test_the_limit_of_iterations_is_scipys(method, maxiter):
    ours, theirs = compare(method, rosenbrock, START, maxiter=maxiter)
    assert ours.state.iteration == theirs.result.nit
    assert ours.ending.status == 1


@pytest.mark.parametrize("method", METHODS)
def test_where_the_loss_is_not_defined_steps_are_rejected(method):
    """x - log x: the first step leads below 0; the minimum is at 1."""
    options = {} if method == "Newton-CG" else {"initial_trust_radius": 30.0}
    problem = FunctionProblem(lambda x: (x - x.log()).sum(), (3.0, 4.0))
    path = solve(solver(method, **options), problem)
    assert path.ending.success
    np.testing.assert_allclose(path.points[-1], 1.0, atol=1e-3)
    if method != "Newton-CG":
        assert path.radii[1] < 30.0


def test_a_step_that_was_rejected_inside_the_radius_is_not_evaluated_again():
    """Newton's step leads 9.6 to the right and far up; the radius of 900 shrinks three times before the step does."""
    hill = lambda x: (x**4 / 4 - x**3 / 3 - 0.6 * x).sum()  # noqa: E731
    ours, theirs = compare("trust-exact", hill, (-0.03,), initial_trust_radius=900.0)
    assert ours.radii[:5] == [900.0, 225.0, 56.25, 14.0625, 3.515625]
    assert theirs.calls["value"] == theirs.result.nit - 2


# States


def states(method, count):
    """Packed states after 0, 1, … steps, with the points of the whole run."""
    problem, own = FunctionProblem(rosenbrock, START), solver(method)
    state = own.init(problem)
    kept, points = [state.copy().packed()], [state.sample.x.clone()]
    for _ in range(count):
        state = own.step(problem, state)
        kept.append(state.copy().packed())
        points.append(state.sample.x.clone())
    return kept, points


GO_ON = """
import sys, torch
from tests.core.solvers.test_second_order import FunctionProblem, START, rosenbrock, solver
from torchmin_nb.core.solvers.table import SOLVERS
stored = torch.load(sys.argv[1], weights_only=True)
found = {}
for method, kept in stored.items():
    for index, packed in kept.items():
        state, own, problem = SOLVERS[method].state.unpacked(packed), solver(method), FunctionProblem(rosenbrock, START)
        found[method, index] = [(state := own.step(problem, state)).sample.x.clone() for _ in range(8)]
torch.save(found, sys.argv[2])
"""


@pytest.mark.slow
def test_a_stored_state_goes_on_bit_for_bit_in_a_new_process(tmp_path):
    stored, expected = {}, {}
    for method in METHODS:
        kept, points = states(method, 20)
        rejected = [i for i, packed in enumerate(kept) if packed["accepted"] is False]
        chosen = {0, 1, 5, 12, *rejected[:2]}
        stored[method] = {index: kept[index] for index in chosen if index <= 12}
        expected |= {(method, index): points[index + 1 : index + 9] for index in stored[method]}
        assert method == "Newton-CG" or rejected[0] <= 12
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
    for _ in range(8):
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
def test_one_transfer_a_product_and_two_an_iteration(method, name, monkeypatch):
    factorised = []
    cholesky = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda *a, **k: factorised.append(1) or cholesky(*a, **k))
    with transfers(monkeypatch) as sizes:
        problem = Silent(PROBLEMS[name].loss, PROBLEMS[name].x0, sizes=sizes)
        own = solver(method)
        state = own.init(problem)
        while own.terminate(problem, state) is None and state.iteration < 40:
            products, before = problem.counts["products"], len(sizes)
            factorised.clear()
            state = own.step(problem, state)
            made = len(sizes) - before
            # A Hessian stands for many products; trust-exact decides after each of its factorisations.
            dense = {"dogleg": 1, "trust-exact": 2 * len(factorised)}
            assert made <= problem.counts["products"] - products + 2 + dense.get(method, 0)
    assert sizes
    assert max(sizes) <= 7


# Endings, and Hessians of all kinds


@pytest.mark.parametrize("method", METHODS)
def test_a_zero_gradient_at_the_start_is_an_end(method):
    problem = FunctionProblem(lambda x: (x**2).sum(), (0.0, 0.0))
    path = solve(solver(method), problem)
    assert path.ending.success
    assert problem.counts["evaluations"] == 1
    assert path.state.iteration == (method == "Newton-CG")  # SciPy's looks at its step only


@pytest.mark.parametrize("method", TRUST_REGION)
def test_without_a_tolerance_a_zero_gradient_is_a_failure_to_improve(method):
    path = solve(solver(method, gtol=0.0), FunctionProblem(lambda x: (x**2).sum(), (0.0, 0.0)))
    assert path.ending.status == 2


HESSIANS = {
    "none": np.zeros((3, 3)),
    "indefinite": np.diag([-2.0, 1.0, 3.0]),
    "negative": np.diag([-2.0, -1.0, -3.0]),
    "singular": np.diag([0.0, 1.0, 3.0]),
}


@pytest.mark.parametrize("name", HESSIANS)
@pytest.mark.parametrize("method", TRUST_REGION)
def test_a_step_decreases_a_model_of_any_hessian(method, name):
    problem = QuadraticProblem(HESSIANS[name], [1.0, 1.0, 1.0])
    own = solver(method, initial_trust_radius=0.5)
    state = own.step(problem, own.init(problem))
    assert state.accepted
    assert state.sample.loss < -0.5 * math.sqrt(3) * 0.5 if name != "singular" else state.sample.loss < 0
    assert state.step_norm == pytest.approx(state.sample.x.norm().item(), rel=1e-12)
    assert state.step_norm <= 0.5 * 1.1


@pytest.mark.parametrize("name", HESSIANS)
def test_newton_cg_steps_down_on_any_hessian(name):
    function = lambda x: 0.5 * x @ torch.tensor(HESSIANS[name]) @ x + x.sum() + (x**4).sum()  # noqa: E731
    compare("Newton-CG", function, (0.1, 0.1, 0.1), xtol=1e-3)


class NotFinite(FunctionProblem):
    """Products and Hessians are NaN from the second point on."""

    def product(self, sample, v, known=None):
        found = super().product(sample, v, known)
        return found * math.nan if self.counts["evaluations"] > 1 else found

    def hessian(self, sample):
        found = super().hessian(sample)
        return found * math.nan if self.counts["evaluations"] > 1 else found


@pytest.mark.parametrize("method", METHODS)
def test_curvature_that_is_not_finite_ends_the_run(method):
    problem, own = NotFinite(rosenbrock, START), solver(method)
    state = own.init(problem)
    if method in PRODUCTS:  # a Hessian is made with the first accepted point
        while problem.counts["evaluations"] == 1:
            state = own.step(problem, state)
    before = state.copy().packed()
    with pytest.raises(StopRun) as stopped:
        own.step(problem, state)
    assert stopped.value.ending.status is Status.NONFINITE_CURVATURE
    assert equal(state.packed(), before)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("trust-ncg", {"initial_trust_radius": 5.0, "max_trust_radius": 5.0}, "below max_trust_radius"),
        ("dogleg", {"eta": 0.25}, "eta=0.25"),
        ("Newton-CG", {"c1": 0.5, "c2": 0.4}, "c1 < c2"),
    ],
)
def test_options_that_do_not_fit_are_refused(method, options, said):
    with pytest.raises(ArgumentError, match=said):
        solver(method, **options)


# float32, and other devices


@pytest.mark.parametrize("method", METHODS)
def test_float32(method):
    problem = FunctionProblem(rosenbrock, START, dtype=torch.float32)
    path = solve(solver(method), problem)
    assert path.state.sample.x.dtype == torch.float32
    assert path.state.sample.loss < 1e-5 or method == "Newton-CG"
    np.testing.assert_allclose(path.points[-1], 1.0, atol=1e-2)


DEVICES = [
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]


@pytest.mark.skipif(not DEVICES, reason="there is no other device than the CPU")
@pytest.mark.parametrize("method", METHODS)
def test_another_device(method):
    for device in DEVICES:
        dtype = torch.float32 if device == "mps" else torch.float64
        problem = FunctionProblem(rosenbrock, torch.tensor(START, dtype=dtype, device=device), dtype=dtype)
        own = solver(method)
        state = own.init(problem)
        while own.terminate(problem, state) is None:
            state = own.step(problem, state)
        assert state.sample.x.device.type == device
        np.testing.assert_allclose(state.sample.x.cpu().numpy(), 1.0, atol=1e-2)
