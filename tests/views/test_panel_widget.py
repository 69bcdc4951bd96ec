"""The widget of the live panel: what it sends, and what it does when it is asked. There is no browser."""

import gzip
import threading
from importlib.resources import files
from itertools import pairwise

import pytest

from tests.views.histories import a_history
from torchmin_nb.views.live_panel.header import buttons_of, header_of
from torchmin_nb.views.live_panel.plotly_js import plotly_js, plotly_version
from torchmin_nb.views.live_panel.state import panel_state
from torchmin_nb.views.live_panel.widget import PanelWidget


def state_of(length, **choices):
    history = a_history(length=length, ended=False, **choices)
    return panel_state({"run": history}, header_of(history, "running"), buttons_of("running"))


@pytest.fixture
def presses():
    return []


@pytest.fixture
def widget(monkeypatch, presses):
    """A widget that notes what it sends in `sent`: the kinds of messages, "state" for the whole."""
    made = PanelWidget(state_of(3), pressed=lambda *press: presses.append(press))
    made.sent = []
    monkeypatch.setattr(made, "send", lambda content, buffers=None: made.sent.append((content, buffers)))
    monkeypatch.setattr(made, "send_state", lambda key: made.sent.append(({"type": key}, None)))
    yield made
    made.close()


def kinds(widget):
    return [content["type"] for content, _ in widget.sent]


def ask(widget, **content):
    widget._handle_custom_msg(content, [])


def test_deltas_are_numbered_and_the_whole_has_the_number_of_the_last(widget):
    epoch = widget.whole()["epoch"]
    for length in (4, 5, 6):
        widget.publish(state_of(length))
    assert kinds(widget) == ["delta"] * 3
    assert [content["seq"] for content, _ in widget.sent] == [1, 2, 3]
    assert {content["epoch"] for content, _ in widget.sent} == {epoch}
    assert widget.whole()["seq"] == 3


def test_the_synced_state_is_complete_at_any_time(widget):
    widget.publish(state_of(9))
    widget.publish(state_of(12))
    assert len(widget.get_state()["state"]["columns"][0][3]) == 12 * 8
    assert widget.get_state()["state"]["header"]["badge"] == "running"


@pytest.mark.parametrize("question", ["whole", "ready"])
def test_a_view_that_asks_gets_the_whole(widget, question):
    ask(widget, type=question)
    assert kinds(widget) == ["state"]


def test_a_view_that_has_the_last_state_already_gets_nothing(widget):
    widget.publish(state_of(5))
    known = widget.whole()
    widget.sent.clear()
    ask(widget, type="ready", seq=known["seq"], epoch=known["epoch"])
    assert widget.sent == []
    ask(widget, type="ready", seq=known["seq"] - 1, epoch=known["epoch"])
    assert kinds(widget) == ["state"]


def test_a_press_is_acknowledged_after_it_was_heard_and_even_if_that_fails(widget):
    def fails(action, count):
        assert widget.sent == []
        raise RuntimeError("no run")

    widget._pressed = fails
    with pytest.raises(RuntimeError, match="no run"):
        widget._receive(widget, {"type": "press", "action": "run", "number": 4}, [])
    assert widget.sent == [({"type": "ack", "number": 4}, None)]


def test_a_click_on_the_picture_is_told(monkeypatch):
    clicks = []
    made = PanelWidget(state_of(3), pointed=clicks.append)
    ask(made, type="point", x=1, y=2.5)
    assert clicks == [(1.0, 2.5)]
    made.close()


def test_plotly_is_sent_to_who_asks_and_is_what_the_package_has(widget):
    ask(widget, type="plotly")
    ((content, (script,)),) = widget.sent
    assert content == {"type": "plotly", "version": plotly_version()}
    source = gzip.decompress(script)
    assert source == (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    assert f"plotly.js v{plotly_version()}".encode() in source[:200]
    assert plotly_js() is script
    assert len(script) < 2_000_000


def test_a_press_is_acknowledged_and_told(widget, presses):
    ask(widget, type="press", action="many", count=7, number=3)
    assert widget.sent == [({"type": "ack", "number": 3}, None)]
    assert presses == [("many", 7)]


def test_a_beat_has_the_number_of_the_last_delta(widget):
    widget.publish(state_of(5))
    widget.beat()
    assert widget.sent[-1][0]["type"] == "beat"
    assert widget.sent[-1][0]["seq"] == 1


def test_what_a_view_sends_as_state_changes_nothing(widget):
    before = widget.whole()
    widget.set_state({"state": {"columns": []}})
    assert widget.whole() == before


def test_states_may_be_published_from_several_threads(widget):
    threads = [threading.Thread(target=widget.publish, args=(state_of(length),)) for length in range(4, 24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [content["seq"] for content, _ in widget.sent] == list(range(1, 21))


def test_it_prints_as_a_line(widget):
    assert repr(widget).startswith("trust-ncg · iteration 2 · loss 0.25 · ")


def test_its_script_fetches_nothing():
    script = (files("torchmin_nb.views.live_panel") / "panel.js").read_text()
    assert "fetch(" not in script
    assert "http" not in script
    assert "innerHTML = '" in script  # one constant; texts of the user's go by textContent
    assert script.count("innerHTML") == 1


def test_plotly_comes_unasked_while_no_view_was_ever_heard_and_not_too_often(monkeypatch):
    from torchmin_nb.views.scene import Scene
    from torchmin_nb.views.screens import PanelScreen

    sent = []
    monkeypatch.setattr("IPython.display.display", lambda *shown, **how: None)
    monkeypatch.setattr(PanelWidget, "send_plotly", lambda widget: sent.append(widget._beats))
    monkeypatch.setattr(PanelWidget, "answered", False)
    screen = PanelScreen(Listener())
    screen.open(Scene({"run": a_history(ended=False)}))
    for _ in range(30):
        screen.beat(whole=False)
    assert sent[0] == 1
    assert len(sent) >= 3
    assert all(later - earlier >= 4 for earlier, later in pairwise(sent))
    ask(screen.widget, type="ready")
    for _ in range(60):
        screen.beat(whole=False)
    assert max(sent) <= 30


class Listener:
    """Hears of what a panel is asked, and does nothing."""

    def pressed(self, action, count): ...

    def chosen(self, name, value): ...

    def fall_back(self, why): ...

    def come_back(self): ...


def test_an_opening_sends_little(widget):
    """Script, style and state of a new panel: what each panel sends again."""
    state = widget.get_state()
    assert len(state["_esm"]) < 12_000
    assert sum(len(str(value)) for value in state.values()) < 30_000
