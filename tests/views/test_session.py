"""One run in one cell: when it is drawn, when it rests, how it ends. The test ticks."""

import json

import comm
import pytest

from tests.views.histories import a_history, waves
from tests.views.shown import LONG, PLOTLY, Cell, Clock, Gate, StillTicker, optimizer_of, start_point, title
from torchmin_nb import History
from torchmin_nb.errors import ViewWarning
from torchmin_nb.views import session as module
from torchmin_nb.views.scene import Scene
from torchmin_nb.views.screens import LiveScreen, StaticScreen
from torchmin_nb.views.session import Session


class Drawn:
    """A screen that notes what is asked of it; drawing takes `cost` seconds of the thread and sends `sent` bytes."""

    def __init__(self, cost=0.0, sent=0, rate=5.0, share=0.01, fail=()):
        self.cost, self.sent, self.rate, self.share, self.fail = cost, sent, rate, share, fail
        self.scenes, self.asked, self.spent = [], [], 0.0

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

    def rest(self, scene):
        self._ask("rest", scene)

    def end(self, scene):
        self._ask("end", scene)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def follow(monkeypatch, clock):
    """Opens a session on a screen."""
    monkeypatch.setattr(module, "Ticker", StillTicker)

    def follow(source, screen, rate=5.0, **choices):
        monkeypatch.setattr(module.time, "thread_time", lambda: getattr(screen, "spent", 0.0))
        session = Session(source, Scene({}, **choices), screen, name="run", beside={}, rate=rate, clock=clock)
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


@pytest.mark.parametrize("share", [LiveScreen.share, StaticScreen.share])
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
    history = History("CG")
    session = follow(history, LiveScreen(), x=x)
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


def test_a_choice_is_drawn_at_once(follow, clock):
    history, screen = a_history(ended=False), Drawn(sent=10**9)
    session = follow(history, screen)
    history.append(history[-1])
    session.tick()
    session.choose("x", "seconds")
    session.choose("scale", "linear")
    clock.now += 0.05
    session.tick()
    assert screen.asked == ["open", "draw", "draw"]
    assert (screen.scenes[-1].x, screen.scenes[-1].scale) == ("seconds", "linear")


def test_the_other_histories_are_drawn_with_it(clock):
    screen, other, own = Drawn(), a_history("CG"), a_history()
    Session(own, Scene({}), screen, name="own", beside={"other": other}, rate=5.0, clock=clock).open()
    assert dict(screen.scenes[0].histories) == {"other": other, "own": own}
    assert screen.scenes[0].title.startswith("trust-ncg · iteration 19")


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


def test_it_rests_after_standing_still_and_wakes_with_the_next_iteration(monkeypatch, follow, clock, paused):
    cell = Cell()
    monkeypatch.setattr("IPython.display.display", cell.display)
    screen = LiveScreen()
    first = screen.widget
    session = follow(paused, screen)
    for seconds, still in ((0, False), (59, False), (1.1, True), (60, True)):
        clock.now += seconds
        session.tick()
        assert (PLOTLY in cell.at(0)) == still
    assert len(cell.updates) == 1

    advanced(paused)
    clock.now += 1
    session.tick()
    assert cell.at(0) is screen.widget is not first
    assert screen.widget.layout.title.text.endswith("paused")
    for seconds, still in ((0.1, False), (59, False), (1.1, True)):
        clock.now += seconds
        session.tick()
        assert (PLOTLY in cell.at(0)) == still
    assert title(cell.at(0)).endswith("paused")


def test_a_run_at_work_does_not_rest(follow, clock, paused):
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
    assert screen.asked == ["open", "rest"]


# The end


def test_a_run_that_is_over_is_drawn_once_more_and_there_is_no_other_tick(follow, clock, paused):
    screen = Drawn()
    session = follow(paused, screen)
    paused.resume()
    paused.wait(LONG)
    assert session.tick() is None
    assert session.tick() is None
    assert screen.asked == ["open", "end"]
    assert "finished: Optimization terminated" in screen.scenes[-1].title
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


@pytest.mark.parametrize("moment", ["draw", "rest", "end"])
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


def test_controls_that_cannot_be_taken_away_make_no_second_warning(follow, clock, paused):
    session = follow(paused, Drawn(fail=["draw"]))
    session._controls = type("Broken", (), {"end": lambda self: 1 / 0, "show_state": lambda self, state: None})()
    advanced(paused)
    clock.now += 70
    with pytest.warns(ViewWarning, match="KeyError: 'no draw'") as warned:
        assert session.tick() is None
    assert len(warned) == 1
