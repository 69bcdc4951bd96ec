"""One source in one cell: when it is drawn, how it ends. The test ticks."""

import json

import comm
import pytest

from tests.views.histories import a_history, waves
from tests.views.shown import LONG, Cell, Clock, Gate, StillTicker, optimizer_of, start_point
from torchmin_nb import History, Run
from torchmin_nb.errors import ViewWarning
from torchmin_nb.views import session as module
from torchmin_nb.views.live_panel.sources import BlockingSource, RunSource
from torchmin_nb.views.live_panel.widget import PanelWidget
from torchmin_nb.views.scene import Scene
from torchmin_nb.views.screens import PanelScreen, StaticScreen
from torchmin_nb.views.session import Session


class Drawn:
    """A screen that notes what is asked of it; drawing takes `cost` seconds of the thread and sends `sent` bytes."""

    def __init__(self, cost=0.0, sent=0, rate=5.0, share=0.01, fail=()):
        self.cost, self.sent, self.rate, self.share, self.fail = cost, sent, rate, share, fail
        self.scenes, self.asked, self.beats, self.spent = [], [], [], 0.0

    def _ask(self, what, scene):
        self.asked.append(what)
        self.scenes.append(scene)
        if what in self.fail:
            raise KeyError(f"no {what}")

    def open(self, scene):
        self._ask("open", scene)

    def draw(self, scene):
        self._ask("draw", scene)
        self.spent += self.cost
        return self.sent

    def beat(self, *, whole):
        self.beats.append(whole)
        return 0

    def settle(self, scene):
        self._ask("settle", scene)

    def end(self, scene):
        self._ask("end", scene)


class Listener:
    """Hears of what a panel is asked, and does nothing."""

    def pressed(self, action, count): ...

    def chosen(self, name, value): ...

    def fall_back(self, why): ...

    def come_back(self): ...


LISTENER = Listener()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def follow(monkeypatch, clock):
    """Opens a session on a screen."""
    monkeypatch.setattr(module, "Ticker", StillTicker)

    def follow(source, screen, rate=5.0, **choices):
        monkeypatch.setattr(module.time, "thread_time", lambda: getattr(screen, "spent", 0.0))
        make = RunSource if isinstance(source, Run) else BlockingSource
        scene = Scene({}, **choices)
        session = Session(make(source, "run", {}), scene, lambda session: screen, rate=rate, clock=clock)
        session.open()
        return session

    return follow


def live_through(session, clock, history, source, seconds):
    """The history grows evenly over so many seconds, and the session is ticked as often as it asks for."""
    begun, wait = clock.now, 0.0
    while wait is not None and clock.now - begun < seconds:
        clock.now += max(wait, 0.01)
        for iteration in source[len(history) : int(len(source) * (clock.now - begun) / seconds)]:
            history.append(iteration)
        wait = session.tick()


# How often


@pytest.mark.parametrize(
    ("asked", "suits", "expected"), [(2.0, 5.0, 2.0), (5.0, 5.0, 5.0), (100.0, 5.0, 5.0), (9.0, 1.5, 1.5)]
)
def test_it_redraws_so_many_times_a_second_at_most(follow, clock, asked, suits, expected):
    history, screen = History("CG"), Drawn(rate=suits)
    live_through(follow(history, screen, rate=asked), clock, history, waves(2000), 20)
    assert 0.75 * 20 * expected <= screen.asked.count("draw") <= 20 * expected + 1


@pytest.mark.parametrize("share", [PanelScreen.share, StaticScreen.share])
def test_drawing_takes_the_share_of_the_time_that_suits_its_screen(follow, clock, share):
    history, screen = History("CG"), Drawn(cost=0.03, share=share)
    live_through(follow(history, screen), clock, history, waves(2000), 60)
    assert 0.7 * share * 60 < screen.spent <= share * 60 + 0.03
    assert share <= 0.02


def test_heavy_figures_are_sent_less_often(follow, clock):
    history, screen = History("CG"), Drawn(sent=50_000)
    live_through(follow(history, screen), clock, history, waves(2000), 60)
    assert 28 <= screen.asked.count("draw") <= 31


@pytest.mark.parametrize("x", ["iteration", "seconds"])
def test_a_run_of_100_000_iterations_sends_less_than_2_mb_a_minute(monkeypatch, follow, clock, x):
    sent = []

    def publish(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        sent.append(len(json.dumps(data)) + sum(memoryview(buffer).nbytes for buffer in buffers or ()))

    monkeypatch.setattr(comm.DummyComm, "publish_msg", publish)
    monkeypatch.setattr("IPython.display.display", Cell().display)
    monkeypatch.setattr(PanelWidget, "answered", True)  # or plotly.js would be counted
    history = History("CG")
    session = follow(history, PanelScreen(LISTENER), x=x)
    sent.clear()
    live_through(session, clock, history, waves(100_000), 60)
    assert 200_000 < sum(sent) < 2_000_000


def test_without_widgets_no_more_is_sent(monkeypatch, follow, clock):
    cell, history = Cell(), History("CG")
    monkeypatch.setattr("IPython.display.display", cell.display)
    live_through(follow(history, StaticScreen()), clock, history, waves(20_000), 60)
    assert len(cell.updates) <= 90
    assert 200_000 < sum(len(json.dumps(data)) for _, data in cell.updates) < 2_000_000


# When


def test_nothing_is_drawn_when_nothing_is_new(follow, clock):
    history, screen = History("CG"), Drawn()
    session = follow(history, screen)
    for count in (0, 1, 1, 1, 2, 2):
        for iteration in a_history(length=count)[len(history) :]:
            history.append(iteration)
        for _ in range(5):
            clock.now += 10
            assert session.tick() is not None
    assert screen.asked == ["open", "draw", "draw"]
    assert [len(scene.histories["run"]) for scene in screen.scenes[-1:]] == [2]


def test_a_choice_of_a_view_is_that_of_the_picture_that_stays(follow):
    history, screen = a_history(ended=False), Drawn()
    session = follow(history, screen)
    session.chosen("x", "seconds")
    session.chosen("scale", "linear")
    session.close()
    assert screen.asked == ["open", "end"]
    assert (screen.scenes[-1].x, screen.scenes[-1].scale) == ("seconds", "linear")


def test_a_press_is_answered_at_once(follow, clock, paused):
    screen = Drawn(sent=10**9)
    session = follow(paused, screen)
    advanced(paused)
    session.tick()
    session.pressed("step", 1)
    assert paused.wait_until_paused(LONG)
    clock.now += 0.05
    session.tick()
    assert screen.asked == ["open", "draw", "draw"]


def test_the_other_histories_are_drawn_with_it(clock):
    screen, other, own = Drawn(), a_history("CG"), a_history()
    source = BlockingSource(own, "own", {"other": other})
    Session(source, Scene({}), lambda session: screen, rate=5.0, clock=clock).open()
    assert dict(screen.scenes[0].histories) == {"other": other, "own": own}
    assert screen.scenes[0].title.startswith("trust-ncg · iteration 19")


# Signs of life


def test_there_is_a_sign_of_life_each_second_and_all_of_it_every_five_while_there_is_something_new(follow, clock):
    history, screen = History("CG"), Drawn()
    session = follow(history, screen)
    live_through(session, clock, history, waves(200), 30)
    assert 25 <= len(screen.beats) <= 31
    assert 4 <= sum(screen.beats) <= 6
    screen.beats.clear()
    for _ in range(20):  # nothing is new
        clock.now += 1
        session.tick()
    assert len(screen.beats) == 20
    assert sum(screen.beats) <= 1


# A run that stands still


@pytest.fixture
def paused():
    """A run that waits for its start."""
    x = start_point()
    gate = Gate(x)
    run = optimizer_of(x).start(gate, paused=True)
    assert run.wait_until_paused(LONG)
    run.gate = gate
    yield run
    gate.go.set()
    run.stop()
    run.wait(LONG)


def advanced(run, iterations=1):
    run.advance(iterations)
    assert run.wait_until_paused(LONG)


def test_a_run_that_waits_to_be_started_says_so(follow, paused):
    screen = Drawn()
    follow(paused, screen)
    assert screen.scenes[0].title == "trust-ncg · waiting to be started"


def test_a_run_at_work_is_drawn_when_it_has_gone_on(follow, clock, paused):
    screen = Drawn()
    session = follow(paused, screen)
    advanced(paused)
    paused.gate.hold(paused.gate.calls + 1)
    paused.resume()
    assert paused.gate.reached.wait(LONG)
    for _ in range(5):
        clock.now += 10
        session.tick()
    assert screen.asked == ["open", "draw"]
    assert screen.scenes[-1].title.endswith("running")


def test_it_can_be_settled_at_once(follow, paused):
    screen = Drawn()
    session = follow(paused, screen)
    session.settle()
    assert screen.asked == ["open", "settle"]


# The end


def test_a_run_that_is_over_is_drawn_once_more_and_there_is_no_other_tick(follow, clock, paused):
    screen = Drawn()
    session = follow(paused, screen)
    paused.resume()
    paused.wait(LONG)
    assert session.tick() is None
    assert session.tick() is None
    assert screen.asked == ["open", "end"]
    assert "finished: Converged, the method's own test is met" in screen.scenes[-1].title
    assert session.closed
    assert session._ticker.stopped


def test_a_run_that_failed_before_its_first_closure_call_says_why(follow):
    x = start_point()
    run = optimizer_of(x, max_evaluations=1).start(Gate(x), paused=True)
    screen = Drawn()
    session = follow(run, screen)
    run._optimizer._bounds = None  # what the constructor could not know fails when the run begins
    run.resume()
    with pytest.raises(TypeError):
        run.wait(LONG)
    assert session.tick() is None
    assert screen.scenes[-1].title.startswith("trust-ncg · ended: Failed: TypeError: ")


def test_it_can_be_closed_while_the_run_goes_on(follow, paused):
    screen = Drawn()
    session = follow(paused, screen)
    session.close()
    session.close()
    session.settle()
    assert session.tick() is None
    assert screen.asked == ["open", "end"]
    assert paused.state == "pending"


# Failures


@pytest.mark.parametrize("moment", ["draw", "end"])
def test_a_failure_ends_the_session_with_one_warning(follow, clock, paused, moment):
    session = follow(paused, Drawn(fail=[moment]))

    def live_on():
        session.tick()
        clock.now += 70
        session.tick()
        advanced(paused)
        for _ in range(3):
            clock.now += 70
            session.tick()
        paused.resume()
        paused.wait(LONG)
        session.run_guarded(session.close)
        return session.tick()

    with pytest.warns(ViewWarning, match=f"the run continues: KeyError: 'no {moment}'") as warned:
        assert live_on() is None
    assert len(warned) == 1
    assert session._ticker.stopped


def test_a_run_that_was_over_when_it_was_shown_can_be_looked_at_for_a_while(follow, clock, paused):
    paused.resume()
    paused.wait(LONG)
    screen = Drawn()
    session = follow(paused, screen)
    clock.now += 50
    assert session.tick() is not None
    session.chosen("scale", "linear")
    clock.now += 50
    assert session.tick() is not None
    clock.now += 11
    assert session.tick() is None
    assert screen.asked == ["open", "end"]
