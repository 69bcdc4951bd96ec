"""Front ends that show no live widget, in a real kernel: they get a static figure; who answers keeps the panel."""

import time
import uuid
from queue import Empty

import pytest
from jupyter_client.manager import start_new_kernel

from tests.views.shown import LONG, PLOTLY
from torchmin_nb.views.handshake import DEAF, SILENT

WIDGET = "application/vnd.jupyter.widget-view+json"
# Free time and beats are short, so that no test waits for seconds.
HEAD = """
import os, threading, time
os.environ.pop("TORCHMIN_NB_FRONT_END", None)
import torch
from torchmin_nb import MinimizeWrapper
from torchmin_nb.views import Dashboard, frontend, handshake, main_thread, screens as screens_module, session
handshake._PATIENCE, main_thread._TICK = 1.0, 0.1
session._BEAT = 0.05

class Told(dict):
    def __setitem__(self, client, live):
        super().__setitem__(client, live)
        print("live" if live else "silent")

frontend.LIVE = handshake.LIVE = Told()

def optimizer(*callbacks, **limits):
    x = torch.nn.Parameter(torch.linspace(-1.2, 1.2, 12, dtype=torch.float64))
    def closure():
        time.sleep(0.01)
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
    return MinimizeWrapper([x], "Nelder-Mead", callbacks=callbacks, start_check=False, **limits), closure

kernel_session = get_ipython().kernel.session
send = kernel_session.send
def send_from_the_main_thread(stream, kind, *arguments, **named):
    ours = threading.current_thread().name == "torchmin_nb view"
    if not (ours and kind in ("comm_msg", "display_data", "update_display_data")):
        return send(stream, kind, *arguments, **named)
"""
RUN = "made, closure = optimizer(); run = made.start(closure); run"
STEP = "made, closure = optimizer(Dashboard(), {}); made.step(closure);"
SHORT, LONGER = STEP.format("max_evaluations=10"), STEP.format("max_seconds=2")
STOP = "run.stop()"
DROPPED = """
import gc
def screens():
    return sum(isinstance(each, screens_module.PanelScreen) for each in gc.get_objects())
before = screens()
{step}
del made
while screens() > before:  # the thread of the view may be at work still
    time.sleep(0.05)
"""


class Page:
    """A front end: a client of the kernel that may load widgets and answer for them, and shows displays."""

    def __init__(self, client, *, loads=False, answers=False):
        self.client, self.loads, self.answers = client, loads, answers
        client.session.session = uuid.uuid4().hex  # as a page that was just opened
        self.shown, self.states, self.models, self.panels, self.printed = {}, {}, [], 0, ""

    def run(self, *cells):
        """Send all cells at once, as Run All does, and look on until they are done."""
        asked = [self.client.execute(cell, allow_stdin=True) for cell in cells]
        self.wait_for(lambda: all(self.states.get(each) == "idle" for each in asked))

    def wait_for(self, condition):
        deadline = time.monotonic() + LONG
        while not condition():
            assert time.monotonic() < deadline, self.shown
            self.look()

    def look_for(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.look()

    def look(self):
        try:
            message = self.client.get_iopub_msg(timeout=0.05)
        except Empty:
            return
        content, kind = message["content"], message["msg_type"]
        if kind == "error":
            raise AssertionError("\n".join(content["traceback"]))
        if kind == "stream":
            self.printed += content["text"]
        if kind == "status":
            self.states[message["parent_header"].get("msg_id")] = content["execution_state"]
        elif kind == "display_data" or content.get("transient", {}).get("display_id") in self.shown:
            self.show(content)
        elif kind == "comm_open" and "_esm" in content["data"].get("state", {}):
            self.models.append(content["comm_id"])
            if self.loads:
                self.load()
        elif kind == "comm_msg" and self.answers and self.is_beat(content):
            self.answers = False
            self.send(content["comm_id"], "heard")

    def is_beat(self, content):
        """Of a panel of this page: it knows none of an earlier one."""
        return content["comm_id"] in self.models and content["data"].get("content", {}).get("type") == "beat"

    def load(self):
        """The widget's script runs at last."""
        self.send(self.models[-1], "loaded")

    def show(self, content):
        self.panels += WIDGET in content["data"]
        self.shown[content["transient"]["display_id"]] = content["data"]

    def send(self, comm, kind):
        data = {"method": "custom", "content": {"type": kind}}
        message = self.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        self.client.shell_channel.send(message)

    @property
    def figures(self):
        """The pictures that are seen, of runs that go on."""
        return [data["text/html"] for data in self.shown.values() if "<svg" in data.get("text/html", "")]

    @property
    def words(self):
        return " ".join(data.get("text/plain", "") for data in self.shown.values())


@pytest.fixture(scope="module")
def kernel():
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=LONG)
    client.execute_interactive(HEAD, timeout=LONG, allow_stdin=False)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.fixture
def open_page(kernel):
    yield lambda **how: Page(kernel, **how)
    kernel.execute_interactive("kernel_session.send = send\nglobals().get('run') and run.stop()", timeout=LONG)


def points(picture):
    """How many points the first curve has."""
    return picture.partition('points="')[2].partition('"')[0].count(",")


def test_one_that_never_answers_gets_a_figure_that_says_why_and_is_drawn_again(open_page):
    page = open_page()
    page.run(RUN)
    assert page.panels == 1
    page.wait_for(lambda: f"{SILENT}; a figure is shown instead, once a second. run.pause()" in page.words)
    early = points(page.figures[0])
    page.wait_for(lambda: points(page.figures[0]) > early)
    page.run(STOP)
    page.wait_for(lambda: "stopped" in page.words)
    assert "a figure is shown" not in page.words
    # The next display does not try again.
    panels = page.panels
    page.run(RUN)
    assert (page.panels, len(page.figures)) == (panels, 1)


def test_another_page_of_the_same_kernel_is_asked_anew(open_page):
    silent = open_page()
    silent.run(RUN)
    silent.wait_for(lambda: silent.figures)
    silent.run(STOP)
    silent.wait_for(lambda: "stopped" in silent.words)
    other = open_page(loads=True, answers=True)
    other.run(RUN)
    other.look_for(2.0)
    assert (other.panels, other.figures) == (1, [])


def test_a_late_answer_brings_the_panel_back(open_page):
    page = open_page(answers=False)
    page.run(RUN)
    page.wait_for(lambda: page.figures)
    page.answers = True
    page.load()
    page.wait_for(lambda: page.panels == 2)
    assert page.figures == []
    page.run(STOP, RUN)
    page.look_for(2.0)
    assert page.panels == 3


def test_one_that_drops_what_threads_send_gets_figures_from_the_main_thread(open_page):
    page = open_page(loads=True, answers=True)
    page.run("kernel_session.send = send_from_the_main_thread", RUN)
    page.wait_for(lambda: DEAF in page.words)
    early = points(page.figures[0])
    page.wait_for(lambda: points(page.figures[0]) > early)
    page.run("run.stop(); time.sleep(0.5)")  # it ends in a cell
    page.wait_for(lambda: "stopped" in page.words)


def test_run_all_is_no_silence(open_page):
    page = open_page(loads=True, answers=True)
    page.run(RUN, *["time.sleep(0.3)"] * 5, *["import asyncio; await asyncio.sleep(0.3)"] * 4)
    page.look_for(2.0)
    assert (page.panels, page.figures) == (1, [])


@pytest.mark.parametrize("step", [SHORT, LONGER], ids=["short", "longer than the patience"])
def test_a_step_that_blocks_is_no_silence(open_page, step):
    page = open_page(loads=True, answers=True)
    page.run(step)
    page.look_for(2.0)
    page.run(RUN)
    page.look_for(2.0)
    assert page.panels == 2


def test_a_widget_that_is_closed_leaves_no_verdict(open_page):
    page = open_page(answers=True)
    page.run(DROPPED.format(step=SHORT))
    page.look_for(2.0)
    page.loads = True
    page.run(RUN)
    page.look_for(2.0)
    assert page.panels == 2


def test_blocking_steps_in_one_that_never_answers_are_static_from_the_second_on(open_page):
    page = open_page()
    page.run(SHORT)
    page.wait_for(lambda: "silent" in page.printed)
    page.run(SHORT)
    assert page.panels == 1
    assert len([data for data in page.shown.values() if PLOTLY in data]) == 2


def test_nobody_is_asked_where_it_is_known(open_page):
    page = open_page()
    page.run("os.environ['TORCHMIN_NB_FRONT_END'] = 'notebook'", RUN)
    page.look_for(2.0)
    assert (page.panels, page.figures) == (1, [])
    page.run("del os.environ['TORCHMIN_NB_FRONT_END']")
