"""Surfaces, contour levels and runs in the plane."""

import numpy as np
import pytest
import torch

from tests.analysis.runs import a_run, rosenbrock
from torchmin_nb import Constraint, History
from torchmin_nb.analysis import landscape_data, sample
from torchmin_nb.analysis.surface import contour_levels, window_around
from torchmin_nb.errors import ArgumentError, HistoryError

WINDOW = ((-2.0, 2.0), (-1.0, 3.0))
BOWL = lambda x: (x**2).sum(-1)  # noqa: E731


@pytest.fixture(scope="module")
def history():
    return a_run("trust-exact")


# Surfaces


@pytest.mark.parametrize(
    "function",
    [rosenbrock, lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2],
    ids=["batched", "of one point"],
)
def test_the_surface_is_the_loss_on_the_grid(function):
    surface = sample(function, WINDOW, 31)
    assert surface.loss.shape == (31, 31)
    assert surface.window == WINDOW
    for row, column in ((0, 0), (3, 20), (30, 30)):
        x = torch.tensor([surface.x[column], surface.y[row]])
        assert surface.loss[row, column] == pytest.approx(float(rosenbrock(x)))


def test_what_is_not_finite_is_nan():
    surface = sample(lambda x: torch.log(x[..., 0]) / x[..., 1].abs(), ((-1, 1), (-1, 1)), 21)
    assert np.isnan(surface.loss[:, :11]).all()
    assert np.isnan(surface.loss[10]).all()
    assert np.isfinite(surface.loss[0, 11:]).all()


@pytest.mark.parametrize(
    "function", [lambda x: 1.0, lambda x: x, lambda x: x[..., 5]], ids=["number", "vector", "index"]
)
def test_functions_that_are_not_of_the_plane(function):
    with pytest.raises(ArgumentError, match=r"must map x \(\.\.\., 2\) to \(\.\.\.\)"):
        sample(function, WINDOW)


@pytest.mark.parametrize("window", [((0, 0), (0, 1)), ((1, 0), (0, 1)), (0, 1), ((0, np.inf), (0, 1)), ((0, 1),)])
def test_windows_that_are_none(window):
    with pytest.raises(ArgumentError, match="is not a window"):
        sample(BOWL, window)


@pytest.mark.parametrize(
    "points",
    [[(0, 0), (4, 2)], [(1, 1)], [(0, 0), (1e-3, 0)], [(0, 0), (np.nan, 1)]],
    ids=["two", "one", "flat", "NaN"],
)
def test_windows_hold_the_points_with_a_margin(points):
    points = np.array(points, dtype=float)
    (left, right), (bottom, top) = window_around(points)
    known = points[np.isfinite(points).all(axis=1)]
    assert (left < known[:, 0]).all()
    assert (known[:, 0] < right).all()
    assert (bottom < known[:, 1]).all()
    assert (known[:, 1] < top).all()
    assert 0.4 < (right - left) / (top - bottom) < 2.5


# Levels


LOSSES = {
    "log": rosenbrock,
    "linear": lambda x: x[..., 0] + x[..., 1],
    "negative": lambda x: BOWL(x) - 5,
    "tiny": lambda x: 1e-12 * BOWL(x),
    "huge": lambda x: torch.exp(100 * x[..., 0]),
    "with NaN": lambda x: torch.log(x[..., 0]),
}


@pytest.mark.parametrize("log", [None, True, False])
@pytest.mark.parametrize("function", LOSSES.values(), ids=LOSSES)
def test_levels_are_few_even_and_within_the_loss(function, log):
    surface = sample(function, WINDOW, 101)
    levels = contour_levels(surface.loss, log=log)
    assert 1 <= len(levels.height) <= 14
    assert np.nanmin(surface.loss) <= levels.loss[0]
    assert levels.loss[-1] <= np.nanmax(surface.loss)
    np.testing.assert_allclose(np.diff(levels.height, 2), 0, atol=1e-9 * np.abs(levels.height).max())
    np.testing.assert_allclose(levels.heights(levels.loss), levels.height, rtol=1e-6, atol=1e-9)
    heights = levels.heights(surface.loss)
    np.testing.assert_array_equal(np.isnan(heights), np.isnan(surface.loss))
    assert not np.isinf(heights).any()


def test_the_scale_is_chosen():
    assert contour_levels(sample(rosenbrock, WINDOW).loss).log
    assert not contour_levels(sample(LOSSES["linear"], WINDOW).loss).log


def test_log_levels_count_from_the_smallest_loss_known():
    loss = sample(lambda x: BOWL(x) + 7, ((-3, 3.1), (-3, 3.3))).loss
    assert contour_levels(loss, floor=7.0, log=True).floor == 7.0
    assert contour_levels(loss, floor=100.0, log=True).floor == loss.min()


def test_a_known_minimum_is_a_loss_known():
    window = ((-3, 3.1), (-3, 3.3))
    assert landscape_data(BOWL, window=window, log=True).levels.floor > 0
    assert landscape_data(BOWL, window=window, log=True, minimizers=[(0, 0), (1, 1)]).levels.floor == 0


@pytest.mark.parametrize("loss", [np.full((3, 3), 2.0), np.full((3, 3), np.nan)])
def test_a_flat_loss_has_one_level(loss):
    assert len(contour_levels(loss).height) == 1


# Runs


def test_paths(history):
    landscape = landscape_data(rosenbrock, {"a": history, "b": a_run("BFGS")}, minimizers=[(1, 1)])
    first, second = landscape.paths
    assert (first.name, second.name) == ("a", "b")
    np.testing.assert_array_equal(first.iterates, history.parameters)
    np.testing.assert_array_equal(first.start, [[-1.2, 1.0]])
    np.testing.assert_allclose(first.last, landscape.minimizers, atol=1e-4)
    assert first.ended
    assert len(first.region) == len(first.trials) == 0
    (left, right), (bottom, top) = landscape.surface.window
    assert ((first.iterates > [left, bottom]) & (first.iterates < [right, top])).all()


def test_rejected_steps_are_where_they_were_tried(history):
    rejected = [it.index for it in history if it.accepted is False]
    path = landscape_data(rosenbrock, history).paths[0]
    assert len(path.rejected) == len(rejected) > 0
    for index, point in zip(rejected, path.rejected, strict=True):
        held = history.parameters[index]
        assert np.linalg.norm(point - held) > 0
        assert float(rosenbrock(torch.from_numpy(point))) > 0.8 * history.loss[index]


@pytest.mark.parametrize("up_to", [0, 3, 10_000, -2])
def test_a_slider_shows_the_beginning(history, up_to):
    surface = sample(rosenbrock, WINDOW)
    landscape = landscape_data(surface, history, up_to=up_to)
    path = landscape.paths[0]
    last = min(max(up_to, 0), len(history) - 1)
    assert landscape.surface is surface
    assert path.iteration == last
    assert len(path.iterates) == len(path.losses) == last + 1
    assert path.ended == (last == len(history) - 1)
    radius = np.linalg.norm(path.region - path.iterates[-1], axis=1)
    np.testing.assert_allclose(radius, history.trust_radius[last])


def test_the_window_does_not_move_with_the_slider(history):
    windows = {landscape_data(rosenbrock, history, up_to=k).surface.window for k in (0, 5, 20)}
    assert len(windows) == 1


def test_the_region_is_a_circle_of_scaled_parameters(history):
    path = landscape_data(rosenbrock, history, up_to=2, scale=[1.0, 3.0]).paths[0]
    offset = (path.region - path.iterates[-1]) / [1.0, 3.0]
    np.testing.assert_allclose(np.linalg.norm(offset, axis=1), history.trust_radius[2])


def test_trials_on_request():
    history = a_run("BFGS")
    path = landscape_data(rosenbrock, history, trials=True).paths[0]
    held = {point.tobytes() for point in history.parameters}
    assert len(path.trials) == len({point.tobytes() for point in history.trials} - held) > 0
    assert len(landscape_data(rosenbrock, history).paths[0].trials) == 0
    assert len(landscape_data(rosenbrock, a_run("BFGS", keep_evaluations=False), trials=True).paths[0].trials) == 0


@pytest.mark.parametrize("bounds", [(-1, 2), ([-1, -1], [2, 2]), (torch.full((2,), -1.0), 2.0)])
def test_bounds_become_a_box(bounds):
    assert landscape_data(BOWL, bounds=bounds, window=WINDOW).box == ((-1.0, 2.0), (-1.0, 2.0))


def test_an_open_bound():
    assert landscape_data(BOWL, bounds=(None, [1.0, np.inf]), window=WINDOW).box == ((-np.inf, 1.0), (-np.inf, np.inf))


CONSTRAINTS = {
    "function": (lambda x: 1 - (x**2).sum(-1), False, lambda x, y: 1 - x * x - y * y),
    "upper": (Constraint(lambda x: (x**2).sum(), upper=1), False, lambda x, y: 1 - x * x - y * y),
    "between": (Constraint(lambda x: x[0], 0, 1), False, lambda x, y: np.minimum(x, 1 - x)),
    "vector": (Constraint(lambda x: x, 0), False, np.minimum),
    "equality": (Constraint(lambda x: x.sum(), 1, 1), True, lambda x, y: x + y - 1),
}


@pytest.mark.parametrize(("constraint", "equality", "slack"), CONSTRAINTS.values(), ids=CONSTRAINTS)
def test_constraints_are_negative_outside(constraint, equality, slack):
    landscape = landscape_data(BOWL, constraints=constraint, window=WINDOW, resolution=21)
    (boundary,) = landscape.boundaries
    assert boundary.equality is equality
    x, y = np.meshgrid(landscape.surface.x, landscape.surface.y)
    np.testing.assert_allclose(boundary.slack, slack(x, y), atol=1e-12)


def test_what_does_not_fit():
    with pytest.raises(ArgumentError, match=r"run has 3 parameters.*trajectory_plane"):
        landscape_data(BOWL, {"run": a_run("BFGS", lambda x: (x**2).sum(), (1.0, 2.0, 3.0))}, window=WINDOW)
    with pytest.raises(HistoryError, match="keep_parameters=True"):
        landscape_data(BOWL, a_run("BFGS", keep_parameters=False))


def test_runs_that_have_not_begun():
    path = landscape_data(BOWL, History("BFGS", keep_parameters=True), window=WINDOW).paths[0]
    assert len(path.iterates) == len(path.start) == len(path.last) == 0
