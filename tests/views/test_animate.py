"""Animated pages: the data of the frames, the figure's structure, and a page that stands by itself."""

import re

import numpy as np
import plotly.graph_objects as go
import pytest

import torchmin_nb.core.display.hooks
from tests.views.histories import a_history, runs_in_the_valley
from torchmin_nb import History
from torchmin_nb.errors import ArgumentError
from torchmin_nb.views.animate import FRAMES, animated_html, animation_data, animation_figure
from torchmin_nb.views.palette import HIDDEN_BUTTONS


@pytest.fixture(scope="module")
def valley():
    """Two runs in the plane with their trajectories, and the problem."""
    return runs_in_the_valley()


@pytest.mark.parametrize("length", [1, 2, 20, FRAMES + 1, 1000])
def test_frames_run_from_the_start_to_the_end(length):
    data = animation_data(a_history(length=length))
    assert data.frames[0] == 0
    assert data.frames[-1] == length - 1
    assert len(data.frames) == min(length, FRAMES)
    assert list(data.frames) == sorted(set(data.frames))


def test_a_track_knows_nothing_of_the_future():
    (track,) = animation_data(a_history(length=900)).tracks
    for iteration in (0, 7, 500, 899):
        seen = track.until(iteration)
        assert seen.iterations[0] == 0
        assert seen.iterations[-1] == iteration
        assert seen.loss.size <= 240
        np.testing.assert_array_equal(seen.loss, track.loss[seen.iterations.astype(int)])


def test_paths_are_those_of_kept_runs_in_the_plane(valley):
    runs, _ = valley
    data = animation_data({**runs, "without": a_history(length=3)})
    assert data.plane
    np.testing.assert_array_equal(data.tracks[0].path, runs["trust-ncg"].parameters)
    assert data.tracks[2].path is None
    assert not animation_data(a_history()).plane


def test_each_frame_moves_each_runs_traces_and_leaves_the_landscape(valley):
    runs, problem = valley
    figure = animation_figure(runs, function=problem.function, window=problem.window)
    assert [trace.type for trace in figure.data] == ["contour"] + ["scatter"] * 6
    ends = [len(trace.x) for trace in figure.data[1:]]
    for frame in figure.frames:
        assert tuple(frame.traces) == (1, 2, 3, 4, 5, 6)
        known = [min(int(frame.name) + 1, end) for end in ends]
        assert [len(trace.x) for trace in frame.data] == known
    assert [step.args[0][0] for step in figure.layout.sliders[0].steps] == [frame.name for frame in figure.frames]
    assert [button.label for button in figure.layout.updatemenus[0].buttons] == ["Play", "Pause"]
    assert figure.layout.modebar.remove == HIDDEN_BUTTONS


def test_without_a_function_there_are_curves_alone(valley):
    figure = animation_figure(valley[0])
    assert [trace.type for trace in figure.data] == ["scatter"] * 4
    assert "xaxis2" not in figure.layout.to_plotly_json()


def test_axes_stand_still_and_hold_all_that_comes(valley):
    runs, _ = valley
    figure = animation_figure(runs)
    low, high = figure.layout.yaxis.range
    losses = np.log10(np.concatenate([history.loss for history in runs.values()]))
    assert low < losses.min() < losses.max() < high
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.xaxis.range[1] > max(history[-1].index for history in runs.values())
    assert animation_figure(a_history(offset=-1.0)).layout.yaxis.type == "linear"


def test_a_run_without_gradients_has_an_empty_panel():
    figure = animation_figure(a_history("Powell", gradient=False))
    assert not np.isfinite(np.array(figure.data[1].y, dtype=float)).any()
    assert isinstance(figure, go.Figure)


def test_nothing_to_animate_is_an_error():
    with pytest.raises(ArgumentError, match="run the optimizer first"):
        animation_data(History("CG"))


def test_the_page_needs_no_network(valley, tmp_path):
    runs, problem = valley
    path = tmp_path / "run.html"
    text = animated_html(runs, path, function=problem.function, window=problem.window, title="A <valley>")
    assert path.read_text(encoding="utf-8") == text
    assert "plotly.js v" in text
    assert "A &lt;valley&gt;" in text
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)


def test_a_history_writes_itself(valley, tmp_path):
    runs, problem = valley
    history = runs["trust-ncg"]
    path = tmp_path / "run.html"
    plain = history.to_html(path)
    assert path.read_text(encoding="utf-8") == plain
    assert plain.startswith("<!DOCTYPE html>")
    assert "trust-ncg: " in plain
    assert "<script" not in plain
    assert history.to_html(animate=True, function=problem.function, window=problem.window).count('"contour"') >= 1


def test_where_nobody_animates_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setattr(torchmin_nb.core.display.hooks, "_animate", None)
    with pytest.raises(ImportError, match="torchmin-nb\\[notebook\\]"):
        a_history().to_html(animate=True)
