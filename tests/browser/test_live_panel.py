"""The live panel in a real browser: whatever a page went through, it shows what the history has."""

from tests.browser.panels import (
    RESTART,
    TITLES,
    a_shown_run,
    assert_as_history,
    assert_ticks,
    drawn,
    held,
)
from tests.browser.test_run import a_run


def test_what_is_drawn_is_the_history_also_after_reloads_in_the_run_and_after_its_end(notebook):
    book = a_shown_run(notebook, "reload")
    book.save()
    for seconds in (0.3, 3.0):
        book.page.wait_for_timeout(1000 * seconds)
        before, points = book.page.evaluate(TITLES), book.points()
        book.reload()
        book.wait_for_points(points + 4)
        titles = book.page.evaluate(TITLES)
        assert titles == before
        assert all(title in " ".join(titles) for title in ("loss", "gradient norm", "trust radius", "reduction ratio"))
        held(book)
        assert_as_history(book)
        assert_ticks(book)
        book.press("Resume")
    assert book.errors() == []
    book.screenshot("panel-reloaded")
    book.press("Stop")
    book.wait_for_title("Stopped on request")
    count = book.points()
    book.page.evaluate("window.onbeforeunload = null")
    book.page.on("dialog", lambda dialog: dialog.accept())
    book.reload()
    book.wait_for_title("Stopped on request")
    book.wait_for_points(count)
    assert_ticks(book)


def test_two_views_of_one_panel_show_the_same_and_that_their_kernel_was_restarted(notebook):
    book = a_shown_run(notebook, "two", cells=("run.panel._session._screen.widget",))
    book.wait_for_points(6)
    book.wait("document.querySelectorAll('.tmnb-panel .js-plotly-plot').length >= 2", 30)
    book.page.locator(".tmnb-panel").first.get_by_role("button", name="Pause").click()
    badges = "[...document.querySelectorAll('.tmnb-badge')].every(b => b.textContent.includes('{}'))"
    book.wait(badges.format("paused"))
    book.page.wait_for_timeout(500)
    first, second = drawn(book, 0), drawn(book, 1)
    assert first == second
    assert len(first["y lines+markers" if "y lines+markers" in first else "y lines"]) > 5
    book.screenshot("panel-two-views")
    book.page.evaluate(RESTART)
    book.wait(badges.format("kernel gone"))
    assert book.page.locator(".tmnb-button").count() == 0
    assert drawn(book, 0) == drawn(book, 1) == first
    book.screenshot("panel-kernel-gone")


def test_messages_that_were_lost_are_made_up_for(notebook):
    book = a_shown_run(notebook, "lost")
    # The page loses all that comes for a while.
    book.page.evaluate("""() => {
        const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
        window.handler = kernel._handleMessage;
        kernel._handleMessage = async function (message) {
            if (message.header.msg_type === 'comm_msg') return;
            return window.handler.call(this, message);
        };
    }""")
    lost = book.points()
    book.page.wait_for_timeout(2500)
    book.page.evaluate("""() => {
        window.jupyterapp.shell.currentWidget.sessionContext.session.kernel._handleMessage = window.handler;
    }""")
    book.wait_for_points(lost + 10, 20)
    held(book)
    assert_as_history(book)


def test_a_front_end_that_cannot_load_the_widget_shows_a_picture_and_says_why(notebook, page):
    page.route("**/extensions/anywidget/**", lambda route: route.abort())
    book = notebook("no-widget", [a_run(wait=0.05), "run.stop()"])
    page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0")
    book.command("notebook:run-cell")
    page.get_by_text("This front end did not load the live widget").wait_for(timeout=30_000)
    drawn = "document.querySelector('.jp-OutputArea svg polyline').getAttribute('points').split(' ').length"
    early = page.evaluate(drawn)
    book.wait(f"{drawn} >= {early + 20}", 30)
    assert page.locator(".tmnb-panel").count() == 0
    book.screenshot("panel-fallback")
    page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1")
    book.command("notebook:run-cell")
    book.wait_for_title("Stopped on request")
    assert book.points() > early


def test_the_choices_of_scale_and_axis_need_no_kernel_and_the_page_keeps_its_own_plotly(notebook):
    book = notebook("choices", [a_run(), "import time; time.sleep(40)"])
    book.page.evaluate("window.Plotly = 'of the page'")
    book.run_all()
    book.wait_for_points(5, 30)
    scale, x = book.page.locator(".tmnb-choice select").all()
    for label, condition in {
        "linear": "l.yaxis.type === 'linear'",
        "loss − best": "l.yaxis.type === 'log' && l.annotations[0].text.includes('loss − best')",
        "log": "l.yaxis.type === 'log' && l.annotations[0].text.includes('>loss<')",
    }.items():
        scale.select_option(label=label)
        book.wait(f"(l => {condition})(document.querySelector('.js-plotly-plot')._fullLayout)", 4)
    x.select_option("seconds")
    book.wait("document.querySelector('.js-plotly-plot')._fullLayout.xaxis.title.text === 'seconds'", 4)
    book.press("Pause")
    book.wait_for_title("busy with a cell", 6)
    assert book.page.evaluate("window.Plotly") == "of the page"
    assert book.errors() == []


def test_a_long_run(notebook):
    cell = a_run("Nelder-Mead", wait=0).replace("    time.sleep(0)\n", "").replace("400", "50")
    book = notebook("long", [cell.replace("start_check=False", "start_check=False, max_seconds=8")])
    book.run_all()
    book.wait_for_points(300)
    assert book.points() <= 1000
    book.screenshot("panel-long")
    book.wait_for_title("ended", 60)
    assert book.errors() == []


FOLLOW = """
from torchmin_nb.views import follow
watched = follow(["a.jsonl", "b.jsonl"])
"""
WRITE = """
import sys, time
import torch
from torchmin_nb import HistoryFile, MinimizeWrapper
x = torch.nn.Parameter(torch.linspace(-1.2, 1.2, 12, dtype=torch.float64))
def closure():
    time.sleep(0.1)
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
keeper = HistoryFile(sys.argv[2])
optimizer = MinimizeWrapper([x], sys.argv[1], callbacks=[keeper], max_evaluations=120, start_check=False)
optimizer.step(closure)
"""


def test_runs_in_other_processes_are_followed(notebook, workspace):
    import subprocess
    import sys

    runs = [
        subprocess.Popen([sys.executable, "-c", WRITE, method, str(workspace / f"{name}.jsonl")])
        for method, name in (("trust-ncg", "a"), ("BFGS", "b"))
    ]
    book = notebook("follow", [FOLLOW])
    book.run_all()
    book.wait_for_points(5)
    early = book.points()
    book.wait_for_points(early + 5)
    entries = book.page.locator(".tmnb-entry").all_text_contents()
    assert [entry.split()[1][0] for entry in entries] == ["a", "b"]
    book.screenshot("panel-follow")
    for run in runs:
        run.wait(60)
    book.wait("document.querySelector('.tmnb-panel') === null", 30)
    book.await_picture()
    book.screenshot("panel-follow-ended")
    assert book.errors() == []
