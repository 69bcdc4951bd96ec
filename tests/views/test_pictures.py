"""The explorer's curves and picture on their own: shown runs by the test, and steered as a person does."""

import threading

import pytest

from tests.views.shown import LONG
from torchmin_nb.explore import Call, run
from torchmin_nb.views.explorer.jobs import SamplingJob
from torchmin_nb.views.explorer.parts import free
from torchmin_nb.views.explorer.pictures import Pictures
from torchmin_nb.views.explorer.stage import LANDSCAPE, ORDER, PCA, PROFILE, STEP, Shown, Stage


class Hand:
    """Pictures, and what was asked for in them."""

    def __init__(self):
        self.lock, self.clicks, self.asked = threading.RLock(), [], []
        self.pictures = Pictures(
            height=370,
            lock=self.lock,
            pressed=lambda *_: None,
            clicked=self.clicks.append,
            sample=lambda: self.asked.append(1),
        )

    def enter(self, problem):
        call = Call(problem, "trust-exact")
        self.pictures.set_stage(Stage(call, call.make()))

    def show(self, *names):
        """Runs by these methods on the stage; the last one is walked. Returns it."""
        problem = self.pictures.stage.call.problem
        histories = {name: run(Call(problem, name), keep_parameters=True).history for name in names}
        self.pictures.draw(Shown(histories, names[-1]))
        return histories[names[-1]]

    def path(self, name):
        return next(trace for trace in self.pictures.figures[1].data if trace.name == name)


@pytest.fixture
def hand():
    made = Hand()
    yield made
    pictures = made.pictures
    free(pictures.panel, pictures.walk, pictures.view, pictures.sample_button, pictures.caption)


def test_without_a_problem_there_is_nothing_and_without_a_run_its_ground(hand):
    hand.pictures.draw(Shown({}))
    assert [len(figure.data) for figure in hand.pictures.figures] == [0, 0]
    hand.enter("Rosenbrock")
    hand.pictures.draw(Shown({}))
    assert [trace.type for trace in hand.pictures.figures[1].data].count("contour") == 1
    assert hand.pictures.walk.disabled
    assert hand.pictures.walk.text == "no run yet"


def test_the_slider_follows_the_end_until_it_is_moved(hand):
    hand.enter("Rosenbrock")
    history = hand.show("trust-exact")
    pictures, last = hand.pictures, len(history) - 1
    assert (pictures.walk.value, pictures.walk.text) == (last, f"{last} of {last}")
    longer = hand.show("CG")
    assert pictures.walk.value == len(longer) - 1
    pictures.walk.value = 3
    assert len(hand.path("CG").x) == 4
    hand.show("CG")
    assert pictures.walk.value == 3
    pictures.draw(Shown({}))
    assert pictures.walk.disabled


@pytest.mark.parametrize("x", ["closure calls", "seconds"])
def test_the_cursor_stands_at_the_iteration_whatever_the_axis(hand, x):
    hand.enter("Rosenbrock")
    history = hand.show("trust-exact")
    hand.pictures.walk.value = 5
    column = {"closure calls": history.nfev, "seconds": history.elapsed}[x]
    assert hand.pictures.panel.whole()["cursor"][x] == column[5]


def test_another_problem_keeps_the_picture_where_it_has_it(hand):
    hand.enter("Rosenbrock")
    assert hand.pictures.view.options == (LANDSCAPE, STEP, ORDER, PROFILE)
    hand.pictures.view.value = STEP
    hand.enter("Wood")
    assert hand.pictures.view.value == STEP
    hand.pictures.view.value = PCA
    hand.enter("Rosenbrock")
    assert hand.pictures.view.value == LANDSCAPE


def test_a_picture_that_cannot_be_drawn_says_why(hand):
    hand.enter("Rosenbrock")
    hand.show("Powell")
    hand.pictures.view.value = STEP
    picture = hand.pictures.panel.whole()["picture"]
    assert picture["hint"].startswith("A step of Powell cannot be drawn")
    assert picture["traces"] == []


def test_clicks_are_heard_on_a_plane_problem_only(hand):
    hand.enter("Rosenbrock")
    hand.pictures.panel._handle_custom_msg({"type": "point", "x": 1, "y": 2}, [])
    hand.enter("Wood")
    hand.pictures.panel._handle_custom_msg({"type": "point", "x": 3, "y": 4}, [])
    assert hand.clicks == [(1.0, 2.0)]


def test_a_plane_is_sampled_when_it_is_asked_for(hand):
    assert hand.pictures.sampling() is None
    hand.enter("Wood")
    assert hand.pictures.sampling() is None
    hand.show("BFGS")
    assert hand.pictures.sample_button.layout.display == ""
    hand.pictures.sample_button.click()
    assert hand.asked == [1]
    sampling = hand.pictures.sampling()
    assert isinstance(sampling, SamplingJob)
    sampling._thread.join(LONG)
    hand.show("BFGS")
    assert "contour" in [trace.type for trace in hand.pictures.figures[1].data]
    assert hand.pictures.sample_button.layout.display == "none"


def test_a_choice_that_comes_while_another_thread_draws_is_drawn_after_it(hand):
    hand.enter("Rosenbrock")
    hand.show("trust-exact")
    choosing = threading.Thread(target=lambda: setattr(hand.pictures.walk, "value", 3.0))
    with hand.lock, hand.pictures._quietly():
        choosing.start()
        choosing.join(0.2)
        assert choosing.is_alive()
    choosing.join(LONG)
    assert len(hand.path("trust-exact").x) == 4


@pytest.mark.parametrize(("height", "shown"), [(100, 1), (370, 2), (500, 2), (504, 3)])
def test_so_many_panels_as_there_is_room_for(hand, height, shown):
    pictures = Pictures(height=height, lock=hand.lock, pressed=print, clicked=print, sample=print)
    hand.pictures = pictures
    hand.enter("Rosenbrock")
    hand.show("trust-exact")
    state = pictures.panel.whole()
    assert list(state["y_axes"]) == ["yaxis", "yaxis2", "yaxis3"][:shown]
    assert state["layout"]["height"] == state["picture"]["layout"]["height"] == max(height, 232)


def test_runs_are_told_once_in_the_legends(hand):
    hand.enter("Rosenbrock")
    hand.show("trust-exact", "BFGS")
    assert [entry["group"] for entry in hand.pictures.panel.whole()["legend"]] == ["trust-exact", "BFGS"]
    named = {trace.name for trace in hand.pictures.figures[1].data if trace.showlegend}
    assert not named & {"trust-exact", "BFGS"}
    assert "start" in named
    hand.show("BFGS")
    assert [entry["group"] for entry in hand.pictures.panel.whole()["legend"]] == ["BFGS"]
    hand.pictures.view.value = PROFILE
    assert hand.pictures.panel.whole()["picture"]["hint"]
