"""lm on the device: MINPACK's path, certified answers, minimum norm where J has not full rank, and its endings."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from tests.core.solvers.continued import points
from tests.core.solvers.plain import solve
from tests.core.solvers.residual_functions import FunctionResiduals
from tests.published.more_garbow_hillstrom import MGH
from torchmin_nb.core.runtime.control import Status
from torchmin_nb.core.solvers.levenberg_marquardt import LevenbergMarquardt
from torchmin_nb.errors import ArgumentError
from torchmin_nb.nist import NIST

# Without 18, whose flat start and rounding part the paths, and 13, which has a singular Jacobian at its end.
AS_SCIPY = [name for name in MGH if name.split()[0] not in ("13", "18", "22")]
TIGHT = dict(ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=2000)


def rosenbrock(x):
    return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def _scipy(function, start, **options):
    """SciPy's result, and the points at which it asked for a Jacobian: those accepted, and once more the last."""
    accepted = []

    def values(x):
        return function(torch.tensor(x)).numpy()

    def jacobian(x):
        accepted.append(np.array(x))
        return torch.func.jacrev(function)(torch.tensor(x)).numpy()

    return least_squares(values, start, jacobian, method="lm", **options), accepted[:-1]


@pytest.mark.parametrize("name", AS_SCIPY)
def test_it_takes_minpacks_path(name):
    """The first 20 points to 1e-6, and the end; rounding decides when residuals of zero are near enough to it."""
    row = MGH[name]
    problem = FunctionResiduals(row.residuals, row.start)
    path = solve(LevenbergMarquardt(), problem)
    expected, accepted = _scipy(row.residuals, row.start)
    for point, wanted in zip(path.points[:20], accepted[:20], strict=False):
        np.testing.assert_allclose(point, wanted, rtol=1e-6, atol=1e-6 * np.abs(wanted).max())
    assert path.state.sample.loss == pytest.approx(expected.cost, rel=1e-6, abs=1e-12)
    if expected.cost > 1e-12:
        assert problem.counts["residuals"] == expected.nfev
        tolerances = {path.ending.status, expected.status} <= {2, 3, 4}  # of the cost, of x, both: rounding decides
        assert path.ending == (expected.status, expected.success, expected.message) or tolerances


@pytest.mark.parametrize("scale", [1.0, [1.0, 100.0], [1e-3, 2.0]])
def test_given_scales_are_minpacks(scale):
    problem = FunctionResiduals(rosenbrock, [-1.2, 1.0])
    path = solve(LevenbergMarquardt(x_scale=scale), problem)
    expected, accepted = _scipy(rosenbrock, [-1.2, 1.0], x_scale=scale)
    np.testing.assert_allclose(path.points[: len(accepted)], accepted, rtol=1e-6, atol=1e-6)
    assert problem.counts["residuals"] == expected.nfev


@pytest.mark.parametrize("start", [0, 1], ids=["far", "near"])
@pytest.mark.parametrize("name", NIST)
def test_certified_parameters_to_six_digits(name, start):
    row = NIST[name]
    x, y = row.x, row.y
    path = solve(LevenbergMarquardt(**TIGHT), FunctionResiduals(lambda b: row.model(b, x) - y, row.starts[start]))
    np.testing.assert_allclose(path.state.sample.x.numpy(), row.certified, rtol=1e-6)
    assert 2 * path.state.sample.loss == pytest.approx(row.residual_sum, rel=1e-8)


@pytest.mark.parametrize("shape", [(8, 5), (5, 5), (3, 5)])
def test_without_full_rank_a_linear_problem_has_the_answer_of_least_norm(shape):
    generator = torch.Generator().manual_seed(0)
    J = torch.randn(*shape, dtype=torch.float64, generator=generator)
    J[:, 4] = J[:, 0] - 2 * J[:, 1]
    b = torch.randn(shape[0], dtype=torch.float64, generator=generator)
    path = solve(LevenbergMarquardt(x_scale=1.0), FunctionResiduals(lambda x: J @ x - b, torch.zeros(5)))
    np.testing.assert_allclose(path.state.sample.x, np.linalg.pinv(J.numpy()) @ b.numpy(), rtol=1e-9, atol=1e-12)
    assert path.state.iteration <= 2
    assert path.ending.success


def test_a_column_of_zeros_leaves_its_variable_where_it_is():
    path = solve(LevenbergMarquardt(), FunctionResiduals(lambda x: rosenbrock(x[:2]), [-1.2, 1.0, 7.0]))
    np.testing.assert_allclose(path.state.sample.x, [1.0, 1.0, 7.0], rtol=1e-10)


def circle(x):
    """Nonzero at the minimum."""
    return torch.stack([x[0] - 1, x[1] - 2, x[0] * x[1] - 5])


@pytest.mark.parametrize(
    ("function", "start", "options", "status", "success"),
    [
        (rosenbrock, [1.0, 1.0], {}, 1, True),
        (circle, [1.0, 1.0], dict(gtol=1e-2), 1, True),
        (circle, [1.0, 1.0], dict(ftol=1e-3), 2, True),
        (circle, [1.0, 1.0], dict(xtol=1e-1), 3, True),
        (circle, [1.0, 1.0], dict(ftol=1e-2, xtol=1e-1, gtol=0.0), 4, True),
        (circle, [1.0, 1.0], dict(ftol=0.0, xtol=0.0, gtol=0.0), 2, True),
        (rosenbrock, [-1.2, 1.0], dict(max_nfev=5), 0, False),
        (rosenbrock, [-1.2, 1.0], dict(max_nfev=1), 0, False),
        (lambda x: torch.stack([x[0].sqrt(), x[0] + 1]), [0.0], {}, Status.NONFINITE_JACOBIAN, False),
    ],
)
def test_endings(function, start, options, status, success):
    problem = FunctionResiduals(function, start)
    ending = solve(LevenbergMarquardt(**options), problem).ending
    assert (ending.status, ending.success) == (status, success)
    if "max_nfev" in options:
        assert problem.counts["residuals"] == options["max_nfev"]


def test_a_larger_budget_goes_on_where_the_smaller_one_ended():
    whole = solve(LevenbergMarquardt(), FunctionResiduals(rosenbrock, [-1.2, 1.0]))
    for budget in (2, 5, 9):
        problem = FunctionResiduals(rosenbrock, [-1.2, 1.0])
        state = solve(LevenbergMarquardt(max_nfev=budget), problem).state
        solver = LevenbergMarquardt()
        while solver.terminate(problem, state) is None:
            state = solver.step(problem, state)
        assert torch.equal(state.sample.x, whole.state.sample.x)
        assert problem.counts["residuals"] == whole.state.nfev


@pytest.mark.parametrize("resume_at", range(1, 15))
def test_a_saved_state_goes_on_bit_for_bit(resume_at):
    def problem():
        return FunctionResiduals(rosenbrock, [-1.2, 1.0])

    whole = points(LevenbergMarquardt, problem, 15)
    resumed = points(LevenbergMarquardt, problem, 15, resume_at=resume_at)
    assert len(whole) == 15
    assert all(map(torch.equal, whole, resumed))


def test_an_error_leaves_the_state_as_it_was():
    class Failing(FunctionResiduals):
        failing = False

        def residuals(self, x):
            if self.failing:
                raise KeyError("data")
            return super().residuals(x)

    problem, solver = Failing(rosenbrock, [-1.2, 1.0]), LevenbergMarquardt()
    state = solver.init(problem)
    for _ in range(6):
        problem.failing, before = True, state.copy()
        with pytest.raises(KeyError):
            solver.step(problem, state)
        problem.failing = False
        again, state = solver.step(problem, before), solver.step(problem, state)
        assert torch.equal(again.sample.x, state.sample.x)
        assert (again.radius, again.damping, again.nfev) == (state.radius, state.damping, state.nfev)


@pytest.mark.parametrize("beyond", [math.nan, math.inf, 1e200])
def test_undefined_and_overflowing_trials_are_rejected(beyond):
    """The undamped first step, to −2.3, leads out of the domain x > 0."""

    def logarithm(x):
        return torch.stack([torch.where(x[0] > 0, torch.log(x[0].clamp(min=1e-300)), beyond), 1e-3 * (x[0] - 1)])

    path = solve(LevenbergMarquardt(), FunctionResiduals(logarithm, [5.0]))
    assert path.state.sample.x.item() == pytest.approx(1.0, rel=1e-8)
    assert path.state.sample.loss < 1e-16
    assert path.state.nfev > path.state.iteration + 1


def test_float32_ends_where_float32_does():
    path = solve(LevenbergMarquardt(), FunctionResiduals(circle, [1.0, 1.0], dtype=torch.float32))
    exact = solve(LevenbergMarquardt(), FunctionResiduals(circle, [1.0, 1.0]))
    assert path.ending.success
    np.testing.assert_allclose(path.state.sample.x, exact.state.sample.x, rtol=1e-3)


def test_the_state_tells_radius_ratio_and_gradient():
    problem, solver = FunctionResiduals(circle, [1.0, 1.0]), LevenbergMarquardt()
    before = solver.init(problem)
    state = solver.step(problem, before)
    x = state.sample.x
    gradient = torch.autograd.functional.jacobian(circle, x).T @ circle(x)
    torch.testing.assert_close(state.sample.gradient, gradient)
    assert state.sample.largest == pytest.approx(float(gradient.abs().max()))
    assert state.sample.norm == pytest.approx(float(gradient.norm()))
    assert state.step_norm == pytest.approx(float((x - before.sample.x).norm()))
    assert state.accepted
    assert state.radius > 0
    assert state.ratio > 0
    torch.testing.assert_close(solver.result(state)["residuals"], circle(x))


def test_a_scale_of_another_length_is_refused():
    with pytest.raises(ArgumentError, match=r"x_scale has shape \(3,\); pass 'jac', a positive number or 2"):
        LevenbergMarquardt(x_scale=[1.0, 2.0, 3.0]).init(FunctionResiduals(rosenbrock, [-1.2, 1.0]))
