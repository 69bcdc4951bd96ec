"""The observed trust radius and reduction ratio, against an independent replay of SciPy's update rule."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
import torch

from tests.core.problems import PROBLEMS
from torchmin_nb import METHODS, LeastSquaresWrapper, MinimizeWrapper
from torchmin_nb.core.autodiff.hessian import positive_definite
from torchmin_nb.core.execution import trust_region
from torchmin_nb.core.runtime.blas_threads import blas_threads

LOOP_METHODS = [name for name, spec in METHODS.items() if spec.radius == "loop"]
STATE_METHODS = [name for name, spec in METHODS.items() if spec.radius == "state"]
SILENT_METHODS = [name for name, spec in METHODS.items() if spec.radius == "none"]
OPTIONS = [{}, {"initial_trust_radius": 0.1, "max_trust_radius": 0.5}, {"initial_trust_radius": 100.0, "eta": 0.05}]


def run(problem, method, options):
    """The history, and the points at which the closure was called, in order."""
    x = torch.nn.Parameter(torch.tensor(problem.x0))
    points = []

    def closure():
        points.append(x.detach().numpy().copy())
        return problem.loss(x)

    optimizer = MinimizeWrapper([x], dict(method=method, options=options), start_check=False)
    optimizer.step(closure)
    return optimizer.history, points


def on_boundary(method, step, radius, gradient, hessian):
    """Whether the subproblem's solution is on the boundary, told from the step alone."""
    length = np.linalg.norm(step)
    if method == "trust-exact":  # up to a tenth beside the boundary will do; inside, it takes the very Newton step
        newton = np.linalg.norm(hessian @ step + gradient) <= 1e-6 * np.linalg.norm(gradient)
        return length > radius or not newton
    return abs(length - radius) <= 1e-6 * radius


def replay(problem, method, options, start, trials):
    """(radius, ratio, accepted, held point) after each trial, from the trials and analytic derivatives only."""
    radius = options.get("initial_trust_radius", 1.0)
    held = start
    for trial in trials:
        gradient, hessian = problem.grad(held), problem.hess(held)
        if METHODS[method].shift:
            hessian = positive_definite(hessian, np.finfo(float).eps)
        step = trial - held
        predicted = -(gradient @ step + 0.5 * step @ hessian @ step)
        ratio = (problem.f(held) - problem.f(trial)) / predicted
        boundary = on_boundary(method, step, radius, gradient, hessian)
        if ratio < 0.25:
            radius *= 0.25
        elif ratio > 0.75 and boundary:
            radius = min(2 * radius, options.get("max_trust_radius", 1000.0))
        accepted = bool(ratio > options.get("eta", 0.15))
        held = trial if accepted else held
        yield radius, ratio, accepted, held


@pytest.mark.parametrize("options", OPTIONS, ids=["default", "short", "long"])
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("method", LOOP_METHODS)
@pytest.mark.crossed
def test_radius_and_ratio_are_those_of_the_update_rule(method, problem, options):
    history, points = run(problem, method, options)
    # A trial a closure call, but for one that is rejected and, as it lies well inside, tried again.
    trials = [points[iteration.nfev - 1] for iteration in history[1:]]
    assert len(points) == history[-1].nfev
    assert history[0].trust_radius == options.get("initial_trust_radius", 1.0)
    assert history[0].reduction_ratio is None
    assert history[0].accepted is None
    for iteration, (radius, ratio, accepted, held) in zip(
        history[1:], replay(problem, method, options, points[0], trials), strict=True
    ):
        assert iteration.trust_radius == pytest.approx(radius, rel=1e-14), iteration
        assert iteration.reduction_ratio == pytest.approx(ratio, rel=1e-5, abs=1e-5), iteration
        assert iteration.accepted is accepted, iteration
        assert iteration.loss == pytest.approx(problem.f(held), rel=1e-12, abs=1e-15), iteration


@pytest.mark.parametrize("method", LOOP_METHODS)
def test_a_rejected_step_leaves_everything_where_it_was(method):
    history, _ = run(PROBLEMS["Rosenbrock 20"], method, {})
    pairs = [(before, after) for before, after in pairwise(history) if after.accepted is False]
    assert pairs
    for before, after in pairs:
        assert after.step_norm == 0
        assert (after.loss, after.grad_norm, after.grad_norm_inf) == (
            before.loss,
            before.grad_norm,
            before.grad_norm_inf,
        )
        assert after.nfev == before.nfev + 1
        assert after.reduction_ratio <= 0.15
        assert after.trust_radius == 0.25 * before.trust_radius
    for iteration in history[1:]:
        assert iteration.accepted is (iteration.step_norm > 0)


@pytest.mark.parametrize("radius", [None, 0.3])
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("method", STATE_METHODS)
def test_the_radius_that_scipy_reports_is_passed_on(method, problem, radius):
    options = {"maxiter": 40} | ({} if radius is None else {"initial_tr_radius": radius})
    plain = []
    with blas_threads(1):
        scipy.optimize.minimize(
            problem.f,
            problem.x0,
            method=method,
            jac=problem.grad,
            hessp=lambda x, v: problem.hess(x) @ v,
            options=options,
            callback=lambda x, state: plain.append(state.tr_radius),
        )
    history, _ = run(problem, method, options)
    assert history[0].trust_radius == (1.0 if radius is None else radius)
    np.testing.assert_allclose(history.trust_radius, plain, rtol=1e-6)
    assert len(set(plain)) > 2
    assert all(iteration.reduction_ratio is None for iteration in history)
    assert all(iteration.accepted is (iteration.step_norm > 0) for iteration in history[1:])


@pytest.mark.parametrize("method", SILENT_METHODS)
def test_a_method_without_a_radius_reports_none(method):
    history, _ = run(PROBLEMS["Himmelblau"], method, {})
    assert len(history) > 3
    for iteration in history:
        assert iteration.trust_radius is None
        assert iteration.reduction_ratio is None
        assert iteration.accepted is None
    assert np.isnan(history.trust_radius).all()


# Least squares


def residuals(x):
    """Powell's badly scaled cousin of Rosenbrock: curved, with a small residual at the end. (n,) -> (3,)."""
    return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0], 0.3 * x[0] * x[1]])


def squares_replay(method, x, trials):
    """(trial, radius, ratio) after each trial that is accepted, by Moré's update in the method's own norm.

    The norm is the Euclidean one in trf, and the largest component in dogbox.
    """
    order = {"trf": 2, "dogbox": np.inf}[method]
    radius = np.linalg.norm(x, order)
    for trial in trials:
        at = torch.tensor(x)
        f, jacobian = residuals(at).numpy(), torch.autograd.functional.jacobian(residuals, at).numpy()
        step = trial - x
        length = np.linalg.norm(step, order)
        actual = 0.5 * f @ f - 0.5 * np.sum(residuals(torch.tensor(trial)).numpy() ** 2)
        ratio = actual / -((jacobian.T @ f) @ step + 0.5 * np.sum((jacobian @ step) ** 2))
        if ratio < 0.25:
            radius = 0.25 * length
        elif ratio > 0.75 and length > 0.95 * radius:
            radius *= 2
        if actual > 0:
            x = trial
            yield trial, radius, ratio


@pytest.mark.parametrize("start", [(-1.2, 1.0), (3.0, -4.0), (0.1, 0.0)])
@pytest.mark.parametrize("method", ["trf", "dogbox"])
def test_least_squares_report_radius_and_ratio_of_their_update_rule(method, start):
    x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = LeastSquaresWrapper([x], method, keep_parameters=True, keep_evaluations=True)
    trials = []

    def closure():
        trials.append(x.detach().numpy().copy())
        return residuals(x)

    optimizer.step(closure)
    history = optimizer.history
    assert history[0].trust_radius is None
    assert history[0].accepted is None
    expected = list(squares_replay(method, np.array(start), [trial for trial in trials if (trial != start).any()]))
    assert len(expected) >= len(history) - 1 > 4
    for iteration, at, (trial, radius, ratio) in zip(history[1:-1], history.parameters[1:], expected, strict=False):
        np.testing.assert_array_equal(at, trial)
        assert iteration.trust_radius == pytest.approx(radius, rel=1e-12)
        assert iteration.reduction_ratio == pytest.approx(ratio, rel=1e-4)
        assert iteration.accepted is True
    assert len({iteration.trust_radius for iteration in history[1:]}) >= 2


@pytest.mark.parametrize("method", ["trf", "dogbox"])
def test_least_squares_with_bounds_report_a_radius_and_lm_none(method):
    def run(method, **bounds):
        x = torch.nn.Parameter(torch.tensor([-1.2, 0.5], dtype=torch.float64))
        optimizer = LeastSquaresWrapper([{"params": [x], **bounds}], method)
        optimizer.step(lambda: residuals(x))
        return optimizer.history

    history = run(method, bounds=(-2.0, 0.6))
    assert all(iteration.trust_radius > 0 and iteration.reduction_ratio > 0 for iteration in history[1:])
    silent = run("lm")
    assert all(
        iteration.trust_radius is iteration.reduction_ratio is iteration.accepted is None for iteration in silent
    )


# The probe


def test_outside_scipys_loop_nothing_is_reported():
    assert trust_region.from_loop(None) == trust_region.NOT_REPORTED == (None, None)


@pytest.mark.parametrize("method", LOOP_METHODS)
def test_a_renamed_loop_is_not_reported_and_the_run_is_the_same(method, monkeypatch):
    before, _ = run(PROBLEMS["Rosenbrock 2"], method, {})
    monkeypatch.setattr(trust_region, "_LOOPS", {"_minimize_in_another_way": ("trust_radius", "rho")})
    after, _ = run(PROBLEMS["Rosenbrock 2"], method, {})
    assert all(iteration.trust_radius is None for iteration in after[1:])
    assert all(iteration.reduction_ratio is None for iteration in after)
    assert after.loss.tolist() == before.loss.tolist()


def test_the_probe_reads_the_loop_by_its_names():
    def _minimize_trust_region():
        trust_radius, rho = np.float64(2.5), 0.5
        return deeper(), trust_radius, rho

    def deeper():
        return trust_region.from_loop(None)

    assert _minimize_trust_region()[0] == (2.5, 0.5)


def test_renamed_variables_and_nan_are_not_reported():
    def _minimize_trust_region():
        radius, rho = 2.5, float("nan")
        return trust_region.from_loop(None), radius, rho

    assert _minimize_trust_region()[0] == trust_region.NOT_REPORTED


def test_a_state_without_radius_is_not_reported():
    assert trust_region.from_state(None) == trust_region.NOT_REPORTED
    assert trust_region.from_state(scipy.optimize.OptimizeResult(tr_radius=0.5)) == (0.5, None)
