"""The curves of the explorer: a FigureWidget whose arrays are replaced."""

from dataclasses import replace

import numpy as np
import pytest

from tests.views.histories import a_history
from torchmin_nb import History, Iteration
from torchmin_nb.views.explorer.figure_screen import LiveScreen
from torchmin_nb.views.scene import Scene


@pytest.fixture
def live():
    """A widget that shows five iterations."""
    screen = LiveScreen()
    screen.draw(scene())
    return screen


def scene(length=5, **choices):
    return Scene({"trust-ncg": a_history(length=length, ended=False)}, "a title", **choices)


def test_a_widget_follows_the_curves(live):
    live.draw(scene(9))
    np.testing.assert_array_equal(live.widget.data[0].y, a_history(length=9).loss.astype(np.float32))


def test_the_title_and_the_marks_follow(live):
    live.draw(replace(scene(61), title="another title"))
    assert live.widget.layout.title.text == "another title"
    assert live.widget.data[0].mode == "lines"


def test_only_arrays_that_travel_as_binary_are_sent(live):
    live.draw(scene(50, x="seconds"))
    kinds = {np.asarray(trace[axis]).dtype for trace in live.widget.data for axis in "xy"}
    assert kinds <= {np.dtype("int32"), np.dtype("float32"), np.dtype("float64")}
    assert live.widget.data[0].x.dtype == np.float32
    live.draw(scene(50))
    assert live.widget.data[0].x.dtype == np.int32


@pytest.mark.parametrize("loss", [1e-50, 1e300, 2.0**40, 1.5])
def test_what_a_short_number_cannot_hold_stays_long(live, loss):
    history = History("CG")
    history.append(Iteration(0, loss))
    live.draw(Scene({"CG": history}))
    assert live.widget.data[0].y[0] == pytest.approx(loss)


# Zoom


def zoom(screen, **ranges):
    for axis, range_ in ranges.items():
        screen.widget.layout[axis].update(range=range_, autorange=False)


def zoomed(screen):
    """The axes whose ranges are a person's."""
    layout = screen.widget.layout
    axes = [name for name in ("xaxis", "yaxis", "yaxis2", "yaxis3") if name in layout]
    return {name: layout[name].range for name in axes if layout[name].range and layout[name].autorange is not True}


CHOSEN = {"xaxis": (1, 3), "yaxis": (-2, 0), "yaxis2": (-1, 1)}


def test_zoom_survives_redraws(live):
    zoom(live, **CHOSEN)
    live.draw(scene(40))
    assert zoomed(live) == CHOSEN


def test_zoom_survives_a_panel_that_comes(live):
    zoom(live, **CHOSEN)
    live.draw(Scene({"trust-ncg": a_history(length=6, metrics=["bias"])}))
    assert len(live.widget.data) == 6
    assert zoomed(live) == CHOSEN


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ({"x": "seconds"}, ["yaxis", "yaxis2"]),
        ({"scale": "linear"}, ["xaxis"]),
        ({"scale": "loss - best"}, ["xaxis", "yaxis2"]),
    ],
)
def test_only_a_range_whose_axis_changes_its_meaning_goes(live, choice, kept):
    zoom(live, **CHOSEN)
    changed = replace(scene(5), **choice)
    live.draw(changed)
    assert zoomed(live) == {name: CHOSEN[name] for name in kept}


def test_a_loss_that_turns_negative_makes_its_axis_linear_and_its_range_goes(live):
    zoom(live, **CHOSEN)
    live.draw(Scene({"trust-ncg": a_history(length=5, offset=-0.5)}))
    assert live.widget.layout.yaxis.type == "linear"
    assert live.widget.layout.yaxis2.type == "log"
    assert zoomed(live) == {name: CHOSEN[name] for name in ("xaxis", "yaxis2")}


# Panels that come and go


def test_axes_that_are_no_longer_used_are_not_seen_and_come_back(live):
    live.draw(Scene({"CG": a_history("CG", radius=False)}))
    assert live.widget.layout.yaxis4.visible is False
    live.draw(scene(7))
    live.draw(scene(7, panels="loss"))
    assert [live.widget.layout[f"yaxis{number}"].visible for number in (2, 3, 4)] == [False] * 3
    live.draw(scene(7))
    assert [live.widget.layout[f"yaxis{number}"].visible for number in (2, 3)] == [None] * 2
