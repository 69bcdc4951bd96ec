"""Inside the steps: the textbook's quantities against closed forms, SciPy's own decisions and what the run reported."""

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
import torch

from tests.analysis.runs import a_run, rosenbrock
from torchmin_nb import METHODS, Constraint, MinimizeWrapper
from torchmin_nb.analysis.line_search import LineStep, line_step, wolfe_constants
from torchmin_nb.analysis.loss import FunctionLoss, opened
from torchmin_nb.analysis.simplex import SimplexStep
from torchmin_nb.analysis.step import explained_methods, step_data
from torchmin_nb.analysis.trust_region_step import RegionStep, cauchy_point, dogleg_path, steihaug_path
from torchmin_nb.errors import ArgumentError, HistoryError

BY_STEP = {"line search": LineStep, "trust region": RegionStep, "simplex": SimplexStep}
LINE = [name for name, spec in METHODS.items() if spec.step == "line search"]
LOOPS = [name for name, spec in METHODS.items() if spec.radius == "loop"]


@pytest.fixture(scope="module")
def histories():
    return {name: a_run(name) for name in explained_methods()}


@pytest.mark.parametrize("method", explained_methods())
def test_each_step_of_each_method_is_explained(method, histories):
    history = histories[method]
    for k in range(min(len(history) - 1, 12)):
        step = step_data(rosenbrock, history, k)
        assert isinstance(step, BY_STEP[METHODS[method].step])
        assert step.iteration == k + 1
        assert step.words
    assert step_data(rosenbrock, history, -1).iteration == len(history) - 1


def test_which_methods_are_not_explained():
    assert set(METHODS) - set(explained_methods()) == {"Powell", "COBYLA", "COBYQA"}


# Line searches


@pytest.mark.parametrize("method", LINE)
def test_the_accepted_step_meets_the_conditions_that_the_table_tells(method, histories):
    history = histories[method]
    for k in range(len(history) - 1):
        step = step_data(rosenbrock, history, k)
        (phi0, slope0), (phi1, slope1) = step.start, step.accepted
        assert phi0 == pytest.approx(history.loss[k], rel=1e-12)
        assert phi1 == pytest.approx(history.loss[k + 1], rel=1e-12)
        if history.loss[k] > 1e-9 and slope0 < 0:
            assert phi1 <= phi0 + step.c1 * slope0 + 1e-12
            assert abs(slope1) <= step.c2 * abs(slope0)
            assert step.admissible[np.searchsorted(step.alpha, 1.0)]


@pytest.mark.parametrize("method", LINE)
def test_trials_lie_on_the_curve(method, histories):
    history = histories[method]
    seen = 0
    for k in range(min(10, len(history) - 1)):
        step = step_data(rosenbrock, history, k)
        along = history.parameters[k] + step.trials[:, None] * (history.parameters[k + 1] - history.parameters[k])
        np.testing.assert_allclose([scipy.optimize.rosen(x) for x in along], step.trial_losses, rtol=1e-6)
        seen += len(step.trials)
    assert seen


def test_slopes_are_those_of_the_gradient(histories):
    history = histories["BFGS"]
    step = step_data(rosenbrock, history, 0)
    x, s = history.parameters[0], history.parameters[1] - history.parameters[0]
    expected = [scipy.optimize.rosen_der(x + alpha * s) @ s for alpha in step.alpha]
    np.testing.assert_allclose(step.slope, expected, rtol=1e-9)
    np.testing.assert_allclose(step.phi, [scipy.optimize.rosen(x + alpha * s) for alpha in step.alpha], rtol=1e-9)


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("CG", {}, (1e-4, 0.4)),
        ("BFGS", {}, (1e-4, 0.9)),
        ("BFGS", {"c1": 0.1, "c2": 0.5}, (0.1, 0.5)),
        ("L-BFGS-B", {}, (1e-3, 0.9)),
        ("TNC", {}, (1e-4, 0.25)),
        ("SLSQP", {}, (0.1, math.inf)),
        ("TNC", {"eta": 0.5}, (1e-4, 0.5)),
    ],
)
def test_wolfe_constants(method, options, expected):
    assert wolfe_constants(METHODS[method], options) == expected


def test_words_of_a_line_search_without_a_curvature_condition(histories):
    told = " ".join(step_data(rosenbrock, histories["SLSQP"], 0).words)
    assert "Sufficient decrease holds" in told
    assert "c₁ = 0.1" in told
    assert "Curvature" not in told
    assert "constraints" not in told


def test_under_constraints_the_search_measures_more_than_the_loss():
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    arguments = {"method": "SLSQP", "constraints": Constraint(lambda: (p**2).sum(), upper=0.5)}
    optimizer = MinimizeWrapper([p], arguments, keep_parameters=True, keep_evaluations=True)
    optimizer.step(lambda: rosenbrock(p))
    step = step_data(rosenbrock, optimizer.history, 0)
    assert step.accepted[0] > step.start[0]  # uphill from the minimum, into the disc
    assert "With constraints the search also uses their violation" in step.words[-1]


def test_a_line_that_leaves_the_domain():
    history = a_run("BFGS", lambda x: x[0] - torch.log(x[0]) + x[1] ** 2, (0.3, 0.5))
    step = step_data(lambda x: x[0] - torch.log(x[0]) + x[1] ** 2, history, 0)
    assert np.isfinite(step.phi[np.searchsorted(step.alpha, 1.0)])


def test_without_evaluations_there_are_no_trials():
    history = a_run("BFGS", keep_evaluations=False)
    assert len(step_data(rosenbrock, history, 0).trials) == 0


# Trust regions


@pytest.mark.parametrize("method", LOOPS)
def test_the_ratio_is_the_one_that_the_run_reported(method, histories):
    history = histories[method]
    checked = 0
    for k in range(len(history) - 1):
        step = step_data(rosenbrock, history, k)
        if history.loss[k] < 1e-6:
            continue
        assert step.actual / step.predicted == pytest.approx(history.reduction_ratio[k + 1], rel=1e-5)
        # trust-exact's own tolerance of the boundary is a tenth; the others' is rounding.
        assert np.linalg.norm(step.taken) <= step.radius * (1.1 if method == "trust-exact" else 1 + 1e-8)
        checked += 1
    assert checked > 5


def test_the_words_follow_the_rule(histories):
    history = histories["trust-exact"]
    for k in range(len(history) - 1):
        ratio, before, after = history.reduction_ratio[k + 1], *history.trust_radius[[k, k + 1]]
        words = " ".join(step_data(rosenbrock, history, k).words)
        assert ("divided by four" in words) == (after < before) == (ratio < 0.25)
        assert ("grows" in words) == (after > before)
        assert ("rejected" in words) == (history[k + 1].accepted is False)


def test_a_rejected_step_is_where_it_was_tried(histories):
    history = histories["trust-exact"]
    rejected = [it.index for it in history if it.accepted is False]
    assert rejected
    for index in rejected:
        step = step_data(rosenbrock, history, index - 1)
        tried = scipy.optimize.rosen(history.parameters[index] + step.taken[0])
        assert tried > history.loss[index - 1] - 0.25 * abs(step.predicted)
        assert step_data(rosenbrock, a_run(keep_evaluations=False), index - 1).taken.shape == (0, 2)


def test_the_model_is_the_taylor_polynomial(histories):
    history = histories["trust-ncg"]
    step = step_data(rosenbrock, history, 3)
    x = history.parameters[3]
    g, H = scipy.optimize.rosen_der(x), scipy.optimize.rosen_hess(x)
    p = np.array([step.model.x[20], step.model.y[90]])
    assert step.model.loss[90, 20] == pytest.approx(scipy.optimize.rosen(x) + g @ p + p @ H @ p / 2)


CONVEX = np.diag([1.0, 10.0]), np.array([1.0, 5.0])
SADDLE = np.diag([1.0, -2.0]), np.array([1.0, 0.5])


@pytest.mark.parametrize("radius", [0.01, 0.1, 0.5, 3.0])
@pytest.mark.parametrize(("H", "g"), [CONVEX, SADDLE], ids=["convex", "saddle"])
def test_the_cauchy_point_is_the_best_along_the_gradient(H, g, radius):
    shares = np.linspace(0, 1, 20001)[:, None] * -g / np.linalg.norm(g) * radius
    best = shares[np.argmin(shares @ g + 0.5 * np.einsum("ki,ij,kj->k", shares, H, shares))]
    np.testing.assert_allclose(cauchy_point(g, lambda v: H @ v, radius), best, atol=1e-3 * radius)


def test_the_dogleg_ends_at_the_newton_point_or_on_the_boundary():
    H, g = CONVEX
    newton = -np.linalg.solve(H, g)
    whole = dogleg_path(g, lambda v: H @ v, newton, 10.0)
    np.testing.assert_allclose(whole, [[0, 0], -(g @ g) / (g @ H @ g) * g, newton])
    cut = dogleg_path(g, lambda v: H @ v, newton, 0.6)
    assert np.linalg.norm(cut[-1]) == pytest.approx(0.6)
    # SciPy's own subproblem takes the same step.
    from scipy.optimize._trustregion_dogleg import DoglegSubproblem

    step, on_boundary = DoglegSubproblem(np.zeros(2), lambda x: 0.0, lambda x: g, lambda x: H).solve(0.6)
    assert on_boundary
    np.testing.assert_allclose(cut[-1], step)


@pytest.mark.parametrize("radius", [0.01, 0.3, 2.0])
@pytest.mark.parametrize(("H", "g"), [CONVEX, SADDLE], ids=["convex", "saddle"])
def test_the_steihaug_path_ends_where_scipys_does(H, g, radius):
    from scipy.optimize._trustregion_ncg import CGSteihaugSubproblem

    step, on_boundary = CGSteihaugSubproblem(np.zeros(2), lambda x: 0.0, lambda x: g, lambda x: H).solve(radius)
    path = steihaug_path(g, lambda v: H @ v, radius)
    assert (np.linalg.norm(path[-1]) >= radius * (1 - 1e-9)) == bool(on_boundary)
    np.testing.assert_allclose(path[-1], step, rtol=1e-9)
    assert path[0] @ path[0] == 0
    norms = np.linalg.norm(path, axis=1)
    assert (np.diff(norms) > 0).all()  # N&W theorem 7.3


def test_where_the_model_has_no_minimum_there_is_no_newton_point():
    saddle = lambda x: x[..., 0] ** 2 - x[..., 1] ** 2 + x[..., 1] ** 4  # noqa: E731
    step = step_data(saddle, a_run("trust-ncg", saddle, (0.1, 0.1)), 0)
    assert step.newton.shape == step.dogleg.shape == (0, 2)
    assert np.linalg.norm(step.steihaug[-1]) == pytest.approx(step.radius)


def test_more_than_two_parameters_are_seen_in_the_plane_of_gradient_and_newton_step():
    def rosen(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    history = a_run("trust-exact", rosen, (1.3, 0.9, 1.2, 1.1, 1.0))
    step = step_data(rosen, history, 0)
    x = history.parameters[0]
    g, H = scipy.optimize.rosen_der(x), scipy.optimize.rosen_hess(x)
    newton = -np.linalg.solve(H, g)
    np.testing.assert_allclose(step.basis @ step.basis.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(step.newton[0] @ step.basis, newton, rtol=1e-7)
    np.testing.assert_allclose(step.cauchy[0] @ step.basis, cauchy_point(g, lambda v: H @ v, step.radius), rtol=1e-7)


def test_scaled_parameters_have_their_region_in_scaled_units():
    scale = torch.tensor([1.0, 4.0], dtype=torch.float64)
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = MinimizeWrapper(
        [{"params": [x], "scale": scale}], "trust-exact", keep_parameters=True, keep_evaluations=True
    )
    optimizer.step(lambda: rosenbrock(x))
    history = optimizer.history
    for k in range(5):
        step = step_data(rosenbrock, history, k, scale=scale)
        assert step.actual / step.predicted == pytest.approx(history.reduction_ratio[k + 1], rel=1e-6)
        assert np.linalg.norm(step.taken) <= step.radius * 1.1


# Simplices


@pytest.mark.parametrize("start", [(-1.2, 1.0), (0.0, 0.0), (3.0, -2.0), (-1.2, 1.0, 0.5)])
def test_the_simplex_followed_is_scipys(start):
    result = scipy.optimize.minimize(scipy.optimize.rosen, start, method="Nelder-Mead")

    def rosen(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    history = a_run("Nelder-Mead", rosen, start)
    last = step_data(rosen, history, -1)
    np.testing.assert_allclose(last.after, result.final_simplex[0], rtol=1e-9)
    steps = [step_data(rosen, history, k) for k in range(len(history) - 1)]
    for before, after in pairwise(steps):
        np.testing.assert_array_equal(before.after, after.before)
    for k, step in enumerate(steps):
        np.testing.assert_array_equal(step.before[0], history.parameters[k] if k else step.before[0])
    moves = {name for step in steps for name in step.moves}
    assert {"reflection", "expansion", "inside contraction", "outside contraction"} <= moves


def test_a_simplex_that_shrinks():
    rough = lambda x: torch.sin(1000 * x[0]) * torch.cos(777 * x[1]) + 0.01 * (x**2).sum()  # noqa: E731
    history = a_run("Nelder-Mead", rough, (1.0, 0.7))
    steps = [step_data(rough, history, k) for k in range(len(history) - 1)]
    shrinks = [step for step in steps if "shrunk vertex" in step.moves]
    assert shrinks
    for step in shrinks:
        half = step.before[0] + 0.5 * (step.before[1:] - step.before[0])
        np.testing.assert_allclose(np.sort(step.after, axis=0), np.sort([step.before[0], *half], axis=0), rtol=1e-12)


# Arguments


def test_closures_are_explained_as_functions_are_and_left_as_they_were():
    layer = torch.nn.BatchNorm1d(2, dtype=torch.float64)
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    x.grad = marker = torch.ones_like(x)
    history = a_run("trust-exact")

    def closure():
        layer(torch.eye(2, dtype=torch.float64))
        loss = rosenbrock(x)
        loss.backward()
        return loss

    before = layer.running_mean.clone()
    step = step_data(closure, history, 2, parameters=[x])
    plain = step_data(rosenbrock, history, 2)
    np.testing.assert_allclose(step.model.loss, plain.model.loss)
    np.testing.assert_allclose(step.steihaug, plain.steihaug)
    assert x.tolist() == [-1.2, 1.0]
    assert x.grad is marker
    assert marker.tolist() == [1.0, 1.0]
    assert torch.equal(layer.running_mean, before)


@pytest.mark.parametrize("k", [10_000, -10_000])
def test_steps_that_are_not_there(k, histories):
    with pytest.raises(ArgumentError, match="is not in this history; choose one of 0 to"):
        step_data(rosenbrock, histories["BFGS"], k)


@pytest.mark.parametrize("method", ["Powell", "COBYLA", "COBYQA"])
def test_methods_without_a_picture_name_those_that_have_one(method):
    with pytest.raises(ArgumentError, match=r"cannot be drawn; choose a run by one of Nelder-Mead, CG"):
        step_data(rosenbrock, a_run(method), 0)


def test_what_was_not_kept_is_asked_for():
    with pytest.raises(HistoryError, match="keep_parameters=True"):
        step_data(rosenbrock, a_run("Nelder-Mead", keep_evaluations=False), 0)
    with pytest.raises(ArgumentError, match="requires grad"), opened(rosenbrock, [torch.zeros(2)]):
        pass


def test_line_step_is_the_same_by_function_and_by_dispatcher(histories):
    direct = line_step(FunctionLoss(rosenbrock), histories["CG"], 1)
    np.testing.assert_array_equal(direct.phi, step_data(rosenbrock, histories["CG"], 1).phi)
