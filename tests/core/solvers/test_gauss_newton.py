"""Gauss-Newton on the device: least norm, damping where it stalls, both forms of J, and its endings."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.core.solvers.continued import points
from tests.core.solvers.plain import solve
from tests.core.solvers.residual_functions import FunctionResiduals, PoissonResiduals
from torchmin_nb.core.runtime.control import Status
from torchmin_nb.core.solvers import gauss_newton
from torchmin_nb.core.solvers.gauss_newton import GaussNewton
from torchmin_nb.nist import NIST

FORMS = pytest.mark.parametrize("solver", ["exact", "cg"])


def rosenbrock(x):
    return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def circle(x):
    """Nonzero at the minimum."""
    return torch.stack([x[0] - 1, x[1] - 2, x[0] * x[1] - 5])


def _linear(shape, *, dependent):
    generator = torch.Generator().manual_seed(0)
    J = torch.randn(*shape, dtype=torch.float64, generator=generator)
    if dependent:
        J[:, 4] = J[:, 0] - 2 * J[:, 1]
    return J, torch.randn(shape[0], dtype=torch.float64, generator=generator)


@FORMS
@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("shape", [(9, 5), (5, 5), (3, 5)])
def test_the_step_is_the_one_of_least_norm(solver, dependent, shape):
    J, b = _linear(shape, dependent=dependent)
    start = torch.arange(5.0, dtype=torch.float64)
    problem, method = FunctionResiduals(lambda x: J @ x - b, start), GaussNewton(solver=solver, cg_rtol=1e-13)
    state = method.step(problem, method.init(problem))
    step = np.linalg.pinv(J.numpy(), rcond=1e-10) @ (b - J @ start).numpy()
    np.testing.assert_allclose(state.sample.x, start.numpy() + step, rtol=1e-8, atol=1e-9)
    assert problem.counts["residuals"] == 2
    assert solve(method, FunctionResiduals(lambda x: J @ x - b, start)).ending.success


def test_singular_values_below_rcond_count_as_zero():
    scales = torch.tensor([1.0, 1e-3, 1e-5], dtype=torch.float64)
    for rcond, moved in [(1e-6, 3), (1e-4, 2), (1e-2, 1)]:
        problem, method = FunctionResiduals(lambda x: scales * (x - 1), [0.0, 0.0, 0.0]), GaussNewton(rcond=rcond)
        x = method.step(problem, method.init(problem)).sample.x
        np.testing.assert_allclose(x, [1.0] * moved + [0.0] * (3 - moved), atol=1e-12)


@FORMS
@pytest.mark.parametrize("damping", [0.0, 1e-3, 1.0, 100.0])
def test_damped_steps_against_the_normal_equations(solver, damping):
    J, b = _linear((9, 5), dependent=damping > 0)
    problem = FunctionResiduals(lambda x: J @ x - b, torch.ones(5))
    method = GaussNewton(solver=solver, cg_rtol=1e-14, cg_max_iter=20)
    model = method._linearised(problem, method.init(problem))
    u = torch.cos(torch.arange(9.0, dtype=torch.float64))
    expected = -np.linalg.solve((J.T @ J).numpy() + damping * np.eye(5), (J.T @ u).numpy())
    np.testing.assert_allclose(model.damped(damping, u), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(model.product(torch.ones(5, dtype=torch.float64)), J.sum(1))


@pytest.mark.parametrize("start", [[-1.2, 1.0], [3.0, -4.0]])
@pytest.mark.parametrize("function", [rosenbrock, circle])
def test_by_products_it_takes_the_path_of_the_factorisation(function, start):
    paths = [
        solve(GaussNewton(solver="exact"), FunctionResiduals(function, start)),
        solve(GaussNewton(solver="cg", cg_rtol=1e-14, cg_max_iter=20), FunctionResiduals(function, start)),
    ]
    steps = min(10, *(len(path.points) for path in paths))
    np.testing.assert_allclose(paths[0].points[:steps], paths[1].points[:steps], rtol=1e-6, atol=1e-6)
    assert paths[0].state.sample.loss == pytest.approx(paths[1].state.sample.loss, abs=1e-10)


@pytest.mark.parametrize(("budget", "products"), [(None, False), (3 * 11 * 2 * 8 - 1, True), (3 * 11 * 2 * 8, False)])
def test_products_are_chosen_where_the_jacobian_does_not_fit(budget, products):
    problem = FunctionResiduals(lambda x: torch.cat([x, x.repeat(3), x[:1]]) - 1, [0.0, 2.0])
    path = solve(GaussNewton(memory_budget=budget), problem)
    assert path.state.operator is products
    assert (problem.counts["jacobians"] == 0) is products
    np.testing.assert_allclose(path.state.sample.x, [1.0, 1.0])


class _Largest(TorchDispatchMode):
    """The number of entries of the largest tensor that any operation made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [each for each in (out if isinstance(out, tuple | list) else [out]) if isinstance(each, torch.Tensor)]
        self.numel = max([self.numel, *(each.numel() for each in made)])
        return out


def test_by_products_no_matrix_is_made():
    n = 2000
    problem = FunctionResiduals(
        lambda x: torch.cat([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]]), torch.linspace(0.5, 1.5, n)
    )
    method = GaussNewton(solver="cg", cg_max_iter=5)
    with _Largest() as largest:
        state = method.init(problem)
        first = state.sample.loss
        for _ in range(3):
            state = method.step(problem, state)
    assert state.sample.loss < first / 10
    assert largest.numel == 2 * (n - 1)


@pytest.mark.parametrize("name", NIST)
def test_certified_parameters_to_six_digits(name):
    row = NIST[name]
    x, y = row.x, row.y
    method = GaussNewton(ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=5000)
    path = solve(method, FunctionResiduals(lambda b: row.model(b, x) - y, row.starts[1]))
    np.testing.assert_allclose(path.state.sample.x.numpy(), row.certified, rtol=1e-6)


def test_a_network_is_fitted_where_undamped_steps_stall(monkeypatch):
    """Forty iterations of the Poisson PINN, whose Jacobian has no full rank."""
    problem = PoissonResiduals(seed=0)
    path = solve(GaussNewton(max_iter=40), problem)
    assert problem.counts["jacobians"] <= 40
    assert problem.error(path.state.sample.x) < 1e-3
    monkeypatch.setattr(gauss_newton, "_DAMPED_ITERATIONS", 0)
    undamped = solve(GaussNewton(max_iter=40), problem)
    assert problem.error(undamped.state.sample.x) > 0.1


def _quadratic(x):
    """Shape (4,), with a constant second derivative."""
    return torch.stack([x[0] + x[1] ** 2, x[1] - x[0] * x[1], x[0] ** 2 - 1, x[0] - 2 * x[1]])


def test_a_damped_step_bends_by_half_the_acceleration():
    problem, method = FunctionResiduals(_quadratic, [1.0, -0.5]), GaussNewton()
    state = method.init(problem)
    model = method._linearised(problem, state)
    trials = gauss_newton._Trials(problem, state.point, 1, None)
    J, r = problem.jacobian(state.point), state.point.residuals
    for damping in (0.3, 3.0):
        inverse = torch.linalg.inv(J.T @ J + damping * torch.eye(2, dtype=torch.float64)) @ J.T
        d = -inverse @ r
        second = 2 * torch.stack([d[1] ** 2, -d[0] * d[1], d[0] ** 2, 0 * d[0]])
        torch.testing.assert_close(gauss_newton._bent_step(trials, model, damping), d - inverse @ second / 2)
    assert trials.nfev == 3


def test_an_acceleration_longer_than_the_step_allows_is_left_out():
    problem, method = FunctionResiduals(lambda x: torch.stack([x[0] - 1, 100 * x[0] ** 2]), [1e-3]), GaussNewton()
    state = method.init(problem)
    model = method._linearised(problem, state)
    trials = gauss_newton._Trials(problem, state.point, 1, None)
    step = gauss_newton._bent_step(trials, model, 1e-3)
    torch.testing.assert_close(step, model.damped(1e-3, state.point.residuals))


def test_a_step_of_lower_rank_is_taken_where_the_whole_one_fails():
    """The second variable is badly determined: a whole step moves it far, where the third residual is large."""

    def residuals(x):
        return torch.stack([x[0] - 1, 1e-4 * (x[1] - 1), x[1] ** 2 * 10])

    problem, method = FunctionResiduals(residuals, [0.0, 0.0]), GaussNewton(rcond=1e-5)
    state = method.step(problem, method.init(problem))
    np.testing.assert_allclose(state.sample.x, [1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("m", "possible", "lowest", "below"),
    [(3, 1.0, 1.0, 1.6), (3, 1.0, 0.5, 1.5), (3, 1.0, 0.2, 1.0), (3, 0.98, 1.0, 1.0), (2, 1.0, 1.0, 1.0)],
)
def test_how_far_a_damped_step_may_climb(m, possible, lowest, below):
    """Not where residuals must stay, nor with as many variables as residuals, nor far above the lowest cost."""
    problem = FunctionResiduals(lambda x: torch.cat([x, x.sum()[None]])[:m] - 1, [1.0, 1.0])
    state = replace(GaussNewton().init(problem), lowest=lowest)
    state.point.cost = 1.0
    assert gauss_newton._bound(SimpleNamespace(possible=possible), state) == pytest.approx(below)


@FORMS
@pytest.mark.parametrize(
    ("function", "start", "options", "status", "success"),
    [
        (rosenbrock, [1.0, 1.0], {}, 1, True),
        (circle, [1.0, 1.0], dict(gtol=1e-2), 1, True),
        (circle, [1.0, 1.0], dict(ftol=1e-3), 2, True),
        (circle, [1.0, 1.0], dict(xtol=1e-1, ftol=0.0, gtol=0.0), 3, True),
        (circle, [1.0, 1.0], dict(xtol=0.1, ftol=0.1), 4, True),
        (rosenbrock, [-1.2, 1.0], dict(max_nfev=5), 0, False),
        (rosenbrock, [-1.2, 1.0], dict(max_nfev=1), 0, False),
        (rosenbrock, [-1.2, 1.0], dict(max_iter=3), Status.MAX_ITERATIONS, False),
        (lambda x: torch.stack([x[0].sqrt(), x[0] + 1]), [0.0], {}, Status.NONFINITE_JACOBIAN, False),
    ],
)
def test_endings(solver, function, start, options, status, success):
    problem = FunctionResiduals(function, start)
    path = solve(GaussNewton(solver=solver, **options), problem)
    assert (path.ending.status, path.ending.success) == (status, success)
    assert problem.counts["residuals"] == path.state.nfev
    if "max_nfev" in options:
        assert path.state.nfev == options["max_nfev"]
    if "max_iter" in options:
        assert path.state.iteration == options["max_iter"]


@FORMS
@pytest.mark.parametrize("resume_at", [1, 4, 7])
@pytest.mark.crossed
def test_a_saved_state_goes_on_bit_for_bit(solver, resume_at):
    def problem():
        return PoissonResiduals(seed=1, hidden=4)

    def method():
        return GaussNewton(solver=solver, cg_max_iter=20)

    whole = points(method, problem, 8)
    resumed = points(method, problem, 8, resume_at=resume_at)
    assert len(whole) == 8
    assert all(map(torch.equal, whole, resumed))


def test_a_larger_budget_goes_on_where_the_smaller_one_ended():
    whole = solve(GaussNewton(max_nfev=60), PoissonResiduals(seed=1, hidden=4))
    for budget in (2, 7, 30):
        problem = PoissonResiduals(seed=1, hidden=4)
        state = solve(GaussNewton(max_nfev=budget), problem).state
        assert (problem.counts["residuals"], state.nfev) == (budget, budget)
        after = solve(GaussNewton(), _Resumed(problem, state), steps=1).state
        assert after.sample.loss < state.sample.loss
    assert whole.state.nfev == 60


class _Resumed:
    """A problem whose start is where a state stands."""

    def __init__(self, problem, state):
        self._problem, self._state = problem, state

    def __getattr__(self, name):
        return getattr(self._problem, name)

    def start(self):
        return self._state.sample.x


@FORMS
def test_an_error_leaves_the_state_as_it_was(solver):
    class Failing(FunctionResiduals):
        left = math.inf

        def residuals(self, x):
            self.left -= 1
            if self.left < 0:
                raise KeyError("data")
            return super().residuals(x)

    problem, method = Failing(rosenbrock, [-1.2, 1.0]), GaussNewton(solver=solver)
    state = method.init(problem)
    for _ in range(4):
        problem.left, before = 1, state.copy()
        with pytest.raises(KeyError):
            method.step(problem, state)
        problem.left = math.inf
        again, state = method.step(problem, before), method.step(problem, state)
        assert torch.equal(again.sample.x, state.sample.x)
        assert (again.damping, again.damped, again.nfev) == (state.damping, state.damped, state.nfev)


@FORMS
@pytest.mark.parametrize("beyond", [math.nan, math.inf, 1e200])
def test_undefined_and_overflowing_trials_are_rejected(solver, beyond):
    """The whole first step, to −3, leads out of the domain x > 0."""

    def logarithm(x):
        return torch.stack([torch.where(x[0] > 0, torch.log(x[0].clamp(min=1e-300)), beyond), 1e-3 * (x[0] - 1)])

    path = solve(GaussNewton(solver=solver), FunctionResiduals(logarithm, [5.0]))
    assert path.state.sample.x.item() == pytest.approx(1.0, rel=1e-7)
    assert all(map(math.isfinite, path.losses))
    assert path.losses == sorted(path.losses, reverse=True)


def test_float32_ends_where_float32_does():
    path = solve(GaussNewton(), FunctionResiduals(circle, [1.0, 1.0], dtype=torch.float32))
    exact = solve(GaussNewton(), FunctionResiduals(circle, [1.0, 1.0]))
    assert path.ending.success
    np.testing.assert_allclose(path.state.sample.x, exact.state.sample.x, rtol=1e-3)


@FORMS
def test_the_state_tells_step_and_gradient(solver):
    problem, method = FunctionResiduals(circle, [1.0, 1.0]), GaussNewton(solver=solver)
    before = method.init(problem)
    state = method.step(problem, before)
    x = state.sample.x
    gradient = torch.autograd.functional.jacobian(circle, x).T @ circle(x)
    torch.testing.assert_close(state.sample.gradient, gradient)
    assert state.sample.largest == pytest.approx(float(gradient.abs().max()))
    assert state.sample.norm == pytest.approx(float(gradient.norm()))
    assert state.step_norm == pytest.approx(float((x - before.sample.x).norm()))
    assert (state.accepted, state.radius) == (True, None)
    torch.testing.assert_close(method.result(state)["residuals"], circle(x))
