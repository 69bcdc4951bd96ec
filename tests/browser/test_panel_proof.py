"""The live panel again and again on a machine that is busy: part of `make proof`.

TORCHMIN_NB_OPENINGS is the number of openings in each front end; `make proof` takes 20, and half as many reloads.
Without it nothing runs here. Each case adds a line with its seconds to screenshots/panel-proof.jsonl.
"""

import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.browser.conftest import SCREENSHOTS
from tests.browser.panels import (
    HISTORY,
    RESTART,
    SHUTDOWN,
    TITLES,
    a_shown_run,
    assert_as_history,
    assert_ticks,
    drawn,
    held,
    history,
)
from tests.browser.test_run import APPS, a_run

OPENINGS = int(os.environ.get("TORCHMIN_NB_OPENINGS", "0"))
pytestmark = [pytest.mark.skipif(not OPENINGS, reason="part of make proof"), pytest.mark.timeout(900)]
RECORD = SCREENSHOTS / "panel-proof.jsonl"
LOADS = {
    "processor": "while True: sum(range(10**6))",
    "memory": "import numpy as np\nwhile True: np.ones(5 * 10**7).sum()",
    "disk": """
import os, sys
while True:
    with open(sys.argv[1], "wb") as file:
        for _ in range(64):
            file.write(os.urandom(2**20))
        file.flush()
        os.fsync(file.fileno())
""",
}
FIGURE = "document.querySelector('.tmnb-panel .js-plotly-plot')"


@pytest.fixture(autouse=True)
def busy_machine(tmp_path_factory):
    """Both cores, the memory and the disk have other work."""
    file = tmp_path_factory.mktemp("load") / "noise"
    loads = [subprocess.Popen([sys.executable, "-c", LOADS[what], str(file)]) for what in ("processor", *LOADS)]
    yield
    for load in loads:
        load.kill()
        load.wait()


@pytest.fixture
def record(request):
    """Notes how a case went."""
    begun = time.monotonic()
    numbers = {}
    yield lambda **more: numbers.update(more)
    SCREENSHOTS.mkdir(exist_ok=True)
    line = {"case": request.node.name, "seconds": round(time.monotonic() - begun, 1), **numbers}
    with RECORD.open("a") as file:
        print(json.dumps(line), file=file)


@pytest.fixture
def open_run(notebook):
    """Opens a panel in a fresh kernel, which ends with the test."""
    books = []

    def open_run(name, **how):
        books.append(a_shown_run(notebook, f"proof-{name}", **how))
        return books[-1]

    yield open_run
    for book in books:
        book.page.evaluate(SHUTDOWN)


@pytest.mark.parametrize("number", range(OPENINGS))
@pytest.mark.parametrize("app", APPS)
def test_an_opening_in_a_fresh_kernel(notebook, record, app, number):
    book = notebook(f"proof-opening-{number}", [a_run(wait=0.05), HISTORY], app)
    begun = time.monotonic()
    book.run_all()
    book.wait("document.querySelector('.tmnb-badge')?.textContent.includes('running')")
    numbers = time.monotonic() - begun
    book.wait_for_points(1)
    record(first_numbers=round(numbers, 1), first_curve=round(time.monotonic() - begun, 1))
    book.wait_for_points(10)
    held(book)
    assert_as_history(book)
    assert_ticks(book)
    assert book.errors() == []
    book.page.evaluate(SHUTDOWN)


@pytest.mark.parametrize("number", range((OPENINGS + 1) // 2))
def test_a_reload_at_a_random_moment_of_the_run(open_run, record, number):
    book = open_run(f"reload-{number}")
    book.save()
    moment = random.Random(number).uniform(0.1, 5.0)
    record(moment=round(moment, 2))
    book.page.wait_for_timeout(1000 * moment)
    before, points = book.page.evaluate(TITLES), book.points()
    book.reload()
    book.wait_for_points(points)
    assert book.page.evaluate(TITLES) == before
    held(book)
    assert_as_history(book)
    assert_ticks(book)


@pytest.mark.parametrize("number", range((OPENINGS + 1) // 2))
def test_a_reload_at_a_random_moment_after_the_end(open_run, record, number):
    book = open_run(f"ended-{number}")
    if number % 2:  # the page that comes back has the widget's output, or the figure's
        book.save()
    book.press("Stop")
    book.wait_for_title("Stopped on request")
    count = book.points()
    moment = random.Random(number).uniform(0.1, 3.0)
    record(moment=round(moment, 2))
    book.page.wait_for_timeout(1000 * moment)
    if not number % 2:
        book.save()
    book.page.on("dialog", lambda dialog: dialog.accept())
    book.reload()
    book.wait_for_title("Stopped on request")
    book.wait_for_points(count)
    assert_ticks(book)


def test_two_browsers_on_one_kernel(open_run, record, page):
    book = open_run("two")
    book.save()
    second = page.context.browser.new_context().new_page()
    other = book.in_another_page(second)
    other.wait_for_points(10)
    other.press("Pause")
    for each in (book, other):
        each.wait_for_title("paused")
        each.page.wait_for_timeout(500)
    assert_as_history(book)
    assert drawn(book) == drawn(other)
    second.close()


def test_a_kernel_that_is_restarted_while_it_runs(open_run, record):
    book = open_run("restart")
    count = book.points()
    book.page.evaluate(RESTART)
    book.wait_for_title("kernel gone")
    assert book.page.locator(".tmnb-button").count() == 0
    assert book.points() >= count


def test_twenty_thousand_iterations(notebook, record):
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
    book.page.evaluate(SHUTDOWN)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
@pytest.mark.parametrize("width", [480, 800, 1200, 1600])
def test_every_width_in_both_themes(open_run, record, page, width, theme):
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
