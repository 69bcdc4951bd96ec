"""The live panel and the explorer again and again on a machine that is busy: part of `make proof`.

TORCHMIN_NB_OPENINGS is the number of openings in each front end; `make proof` takes 20, and half as many reloads.
Without it nothing runs here. proof.txt keeps how each test went.
"""

import os
import random
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.browser.conftest import OPENINGS, PATIENCE, free_port
from tests.browser.panels import (
    HISTORY,
    RESTART,
    TITLES,
    a_shown_run,
    assert_as_history,
    assert_ticks,
    drawn,
    held,
    history,
)
from tests.browser.test_explorer import GROUND, HISTORIES, PANEL, PLACES, Panel, assert_drawn
from tests.browser.test_run import APPS, a_run

pytestmark = [
    pytest.mark.skipif(not OPENINGS, reason="part of make proof"),
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("busy_machine"),
]
FIGURE = "document.querySelector('.tmnb-panel .js-plotly-plot')"
ROOT = Path(__file__).parents[2]
VOILA = os.environ.get("TORCHMIN_NB_VOILA", "")


@pytest.fixture
def open_run(notebook):
    """Opens a panel in a fresh kernel."""
    return lambda name, **how: a_shown_run(notebook, f"proof-{name}", **how)


@pytest.mark.parametrize("number", range(OPENINGS))
@pytest.mark.parametrize("app", APPS)
def test_an_opening_in_a_fresh_kernel(notebook, record_property, app, number):
    book = notebook(f"proof-opening-{number}", [a_run(wait=0.05), HISTORY], app)
    begun = time.monotonic()
    book.run_all()
    book.wait("document.querySelector('.tmnb-badge')?.textContent.includes('running')")
    numbers = time.monotonic() - begun
    book.wait_for_points(1)
    record_property("seconds to the first numbers", numbers)
    record_property("to the first curve", time.monotonic() - begun)
    book.wait_for_points(10)
    held(book)
    assert_as_history(book)
    assert_ticks(book)
    assert book.errors() == []


@pytest.mark.parametrize("number", range(OPENINGS))
def test_an_opening_of_the_explorer_in_a_fresh_kernel(notebook, record_property, number):
    book = notebook(f"proof-explorer-{number}", [PANEL, HISTORIES])
    begun = time.monotonic()
    panel = Panel(book)
    record_property("seconds to the picture", time.monotonic() - begun)
    panel.run("trust-exact")
    assert_drawn(panel, panel.histories())
    assert book.errors() == []


@pytest.mark.parametrize("number", range((OPENINGS + 1) // 2))
def test_a_reload_at_a_random_moment_of_the_run(open_run, number):
    book = open_run(f"reload-{number}")
    book.save()
    moment = random.Random(number).uniform(0.1, 5.0)
    book.page.wait_for_timeout(1000 * moment)
    before, points = book.page.evaluate(TITLES), book.points()
    book.reload()
    book.wait_for_points(points)
    assert book.page.evaluate(TITLES) == before
    held(book)
    assert_as_history(book)
    assert_ticks(book)


@pytest.mark.parametrize("number", range((OPENINGS + 1) // 2))
def test_a_reload_at_a_random_moment_after_the_end(open_run, number):
    book = open_run(f"ended-{number}")
    if number % 2:  # the page that comes back has the widget's output, or the figure's
        book.save()
    book.press("Stop")
    book.wait_for_title("Stopped on request")
    count = book.points()
    moment = random.Random(number).uniform(0.1, 3.0)
    book.page.wait_for_timeout(1000 * moment)
    if not number % 2:
        book.save()
    book.page.on("dialog", lambda dialog: dialog.accept())
    book.reload()
    # JupyterLab shows the picture of a saved figure, until the mouse is on it.
    book.page.locator(".jp-RenderedPlotly, .tmnb-panel").first.hover(timeout=60_000 * PATIENCE)
    book.wait_for_title("Stopped on request")
    book.wait_for_points(count)
    assert_ticks(book)


def test_two_views_of_one_panel_in_two_browsers(open_run, page):
    book = open_run("two", cells=("run.panel._session._screen.widget", HISTORY))
    book.wait("document.querySelectorAll('.tmnb-panel .js-plotly-plot').length === 2")
    book.save()
    second = page.context.browser.new_context(viewport=page.viewport_size).new_page()
    other = book.in_another_page(second)
    other.wait_for_points(10)
    second.get_by_role("button", name="Pause", exact=True).first.click(timeout=60_000 * PATIENCE)
    for each in (book, other):
        each.wait("[...document.querySelectorAll('.tmnb-badge')].every(b => b.textContent.includes('paused'))")
        each.page.wait_for_timeout(500)
    assert_as_history(book)
    assert drawn(book) == drawn(book, 1) == drawn(other) == drawn(other, 1)
    second.close()


def test_a_kernel_that_is_restarted_while_it_runs(open_run):
    book = open_run("restart")
    count = book.points()
    book.page.evaluate(RESTART)
    book.wait_for_title("kernel gone")
    assert book.page.locator(".tmnb-button").count() == 0
    assert book.points() >= count


def test_twenty_thousand_iterations(notebook):
    endless = dict(method="Nelder-Mead", options=dict(maxiter=20_000, xatol=0, fatol=0))
    cell = a_run(endless, wait=0).replace("    time.sleep(0)\n", "").replace("400", "50")
    losses = "import json; print('HISTORY', json.dumps(list(run.history.loss)))"
    book = notebook("proof-long", [cell, losses])
    book.run_all()
    book.wait_for_title("ended", 600)
    loss = np.array(history(book))
    shown = np.array(drawn(book)["y lines"])
    assert len(loss) >= 20_000
    assert shown.size <= 1000
    assert (shown[0], shown[-1], shown.min()) == (loss[0], loss[-1], loss.min())
    assert np.isin(shown, loss).all()


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
@pytest.mark.parametrize("width", [480, 800, 1200, 1600])
def test_every_width_in_both_themes(open_run, page, width, theme):
    page.set_viewport_size({"width": width, "height": 1100})
    book = open_run(f"width-{width}", app="notebook")
    book.command("apputils:change-theme", theme=theme)
    held(book)
    page.wait_for_timeout(1000)
    panel, plot = (
        page.evaluate(f"{box}.getBoundingClientRect().toJSON()")
        for box in ("document.querySelector('.tmnb-panel')", f"{FIGURE}.querySelector('.main-svg')")
    )
    assert abs(panel["width"] - plot["width"]) <= 12
    assert panel["right"] <= width
    assert_ticks(book)
    ink = page.evaluate(f"{FIGURE}._fullLayout.font.color")
    brightness = sum(map(int, ink.removeprefix("rgb").strip("a()").split(",")[:3])) / 3 if "rgb" in ink else None
    assert brightness is not None
    assert brightness > 150 if "Dark" in theme else brightness < 110
    book.screenshot(f"proof-{width}-{theme.split()[-1].lower()}")


@pytest.fixture
def voila(tmp_path):
    """The address of the page of `make explorer`, as it is printed, with its token."""
    log = tmp_path / "voila.log"
    settings = {"JUPYTER_CONFIG_PATH": "app", "JUPYTER_PATH": "app"}
    with log.open("w") as output:
        command = [VOILA, "app/explorer.ipynb", f"--port={free_port()}"]
        server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings}, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 60 * PATIENCE
            while (found := re.search(r"http://\S+token=\S+", log.read_text())) is None:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.3)
            yield found[0]
        finally:
            server.terminate()
            server.wait(timeout=60)


@pytest.mark.skipif(not VOILA, reason="no Voilà: make proof has that of make explorer")
def test_the_page_of_the_explorer(voila, page):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(voila, timeout=120_000 * PATIENCE)  # it loads as long as the kernel works on it
    page.wait_for_function(GROUND, timeout=120_000 * PATIENCE)
    assert page.title() == "Method explorer · torchmin_nb"
    assert page.get_by_role("heading", name="Method explorer").count() == 1
    before = page.evaluate(PLACES)
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".tmnb-badge", has_text="finished").wait_for(timeout=60_000 * PATIENCE)
    assert page.evaluate(PLACES) == before
    assert [url for url in asked if not url.startswith((voila.split("?")[0], "data:", "blob:"))] == []
    assert page.errors == []
