"""A run that a person steers, in a real JupyterLab and a real Notebook 7."""

import pytest

APPS = ["lab", "notebook"]
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"

# Each closure call waits, so that there is something to see; the run never ends by itself.
RUN = """
import time, torch
from torchmin_nb import MinimizeWrapper

x = torch.nn.Parameter(torch.linspace(-1.2, 1.2, 400, dtype=torch.float64))

def closure():
    time.sleep({wait})
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

optimizer = MinimizeWrapper([x], {method!r}, start_check=False)
run = optimizer.start(closure)
run
"""


def a_run(method="trust-ncg", wait=0.1):
    return RUN.format(method=method, wait=wait)


def outputs(saved):
    return [o["data"] for c in saved["cells"] for o in c["outputs"] if o["output_type"] == "display_data"]


def standing_still(book):
    """The number of points, once it no longer grows."""
    book.wait_for_title("paused")
    return book.points()


@pytest.mark.parametrize("app", APPS)
def test_a_run_is_watched_zoomed_paused_stepped_and_stopped(notebook, app):
    book = notebook("steer", [a_run(), "len(run.history)"], app)
    book.run_all()
    book.wait_for_points(3)
    early = book.points()
    book.wait_for_points(early + 3)
    book.screenshot(f"run-running-{app}")

    zoom_in(book)
    zoomed, early = ranges(book), book.points()
    book.wait_for_points(early + 5)
    assert ranges(book) == zoomed
    book.press("Pause")
    held = standing_still(book)
    assert ranges(book) == zoomed
    book.page.wait_for_timeout(700)
    assert book.points() == held
    book.press("Step")
    book.wait_for_exactly(held + 1)
    book.page.wait_for_timeout(500)
    assert book.points() == held + 1
    book.press("+10")
    book.wait_for_exactly(held + 11)
    standing_still(book)

    book.press("Resume")
    book.wait_for_points(held + 13)
    book.press("Stop")
    book.wait_for_title("Stopped on request")
    book.page.get_by_role("button", name="Stop", exact=True).wait_for(state="detached")
    assert ranges(book) == pytest.approx(zoomed)
    book.await_picture()
    book.screenshot(f"run-stopped-{app}")

    saved = book.save()
    figure, epilogue = outputs(saved)
    assert PLOTLY in figure
    assert "image/png" in figure
    assert "Stopped on request" in "".join(epilogue["text/html"])
    assert WIDGET not in figure
    assert WIDGET not in epilogue
    assert "widgets" not in saved["metadata"]
    assert book.errors() == []


def zoom_in(book):
    box = None
    while box is None:  # between two redraws there is none for a moment
        box = book.page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    book.page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
    book.page.mouse.down()
    book.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.9 * box["height"], steps=5)
    book.page.mouse.up()
    book.wait("document.querySelector('.js-plotly-plot')._fullLayout.xaxis.tickmode === 'auto'")


def ranges(book):
    script = "(l => [l.xaxis, l.yaxis].map(a => a.range))(document.querySelector('.js-plotly-plot')._fullLayout)"
    return [end for pair in book.page.evaluate(script) for end in pair]


def test_a_run_that_waits_to_be_started_and_is_steered_by_the_keyboard(notebook):
    book = notebook("start", [a_run().replace("start(closure)", "start(closure, paused=True)")])
    book.run_all()
    book.page.get_by_role("button", name="Start", exact=True).wait_for(timeout=60_000)
    book.wait_for_title("It waits to be started")
    assert book.points() <= 0
    book.screenshot("run-pending")
    book.press("Start")
    book.wait_for_points(3)
    book.page.get_by_role("button", name="Pause", exact=True).focus()
    book.page.keyboard.press("Space")
    held = standing_still(book)
    book.page.keyboard.press("Tab")
    assert book.page.evaluate("document.activeElement.textContent.trim()") == "Step"
    book.page.keyboard.press("Enter")
    book.wait_for_exactly(held + 1)
    book.press("Stop")
    book.wait_for_title("Stopped on request")


def test_a_closure_that_raises_is_told_in_the_panel(notebook):
    cell = a_run(wait=0.02).replace("    return", "    assert len(run.history) < 9, 'no more <i>data</i>'\n    return")
    cell = cell.replace("start(closure)", "start(closure, paused=True)") + "\nrun.resume()"
    cell = cell.replace("\nrun\n", "\nfrom IPython.display import display; display(run)\n")
    book = notebook("failed", [cell])
    book.run_all()
    book.wait_for_title("AssertionError")
    alert = book.page.get_by_role("alert").filter(has_text="no more <i>data</i>")
    alert.wait_for(timeout=30_000)
    book.await_picture()
    for theme in ("Dark", "Light"):
        book.command("apputils:change-theme", theme=f"JupyterLab {theme}")
        book.page.wait_for_timeout(1000)
        book.screenshot(f"run-failed-{theme.lower()}")
    assert book.errors() == []


def test_every_width_is_readable(notebook):
    metrics = a_run().replace(
        "    return", "    optimizer.record(misfit=x[0].item() ** 2, penalty=x[1].item() ** 2 + 0.1)\n    return"
    )
    book = notebook("width", [metrics])
    book.page.set_viewport_size({"width": 800, "height": 1100})
    book.command("application:toggle-left-area")
    book.run_all()
    book.wait_for_points(15)
    assert_readable(book, "run")
    book.press("Stop")
    book.wait_for_title("Stopped on request")
    book.await_picture()
    assert_readable(book, "run-stopped")


def assert_readable(book, name):
    """No text on another and none cut off, at each width of the window."""
    for width in (480, 800, 1600):
        book.page.set_viewport_size({"width": width, "height": 1100})
        book.page.wait_for_timeout(1000)
        book.screenshot(f"{name}-{width}")
        assert overlaps(book) == [], width
        assert clipped(book) == [], width


TEXTS = """(() => {
    const place = document.querySelector('.tmnb-panel') ?? document.querySelector('.js-plotly-plot');
    const plot = place.getBoundingClientRect();
    const words = 'svg text, button, .tmnb-fact span, .tmnb-fact small, .tmnb-badge, .tmnb-method';
    const texts = [...place.querySelectorAll(words)].filter(t => t.textContent.trim());
    return [[plot.left, plot.top, plot.right, plot.bottom], texts.map(t => {
        const b = t.getBoundingClientRect(); return [t.textContent, b.left, b.top, b.right, b.bottom] })];
})()"""


def overlaps(book):
    """Pairs of texts in the figure that lie on each other by more than two pixels."""
    _, texts = book.page.evaluate(TEXTS)
    shown = [text for text in texts if text[3] > text[1] and text[4] > text[2]]
    return [
        (a[0], b[0])
        for place, a in enumerate(shown)
        for b in shown[place + 1 :]
        if min(a[3], b[3]) - max(a[1], b[1]) > 2 and min(a[4], b[4]) - max(a[2], b[2]) > 2
    ]


def clipped(book):
    """Texts that reach out of the figure."""
    (left, top, right, bottom), texts = book.page.evaluate(TEXTS)
    return [t[0] for t in texts if t[1] < left - 1 or t[2] < top - 1 or t[3] > right + 1 or t[4] > bottom + 1]


def test_the_front_end_may_be_closed_while_it_runs(notebook, workspace):
    cell = a_run(wait=0.05).replace("start_check=False", "start_check=False, callbacks=[HistoryFile('closed.jsonl')]")
    book = notebook("closed", [cell.replace("MinimizeWrapper\n", "HistoryFile, MinimizeWrapper\n")])
    book.run_all()
    book.wait_for_points(3)
    book.page.goto("about:blank")
    book.page.wait_for_timeout(3000)
    before = lines(workspace / "closed.jsonl")
    book.page.wait_for_timeout(2000)
    assert lines(workspace / "closed.jsonl") > before > 3


def lines(path):
    return path.read_text().count("\n")


def test_the_interrupt_of_the_kernel_ends_a_blocking_step_at_the_best_point(notebook):
    cell = a_run().replace("run = optimizer.start(closure)\nrun", "optimizer.step(closure);")
    cell = cell.replace("start_check=False", "callbacks=[Dashboard()], start_check=False")
    cell = cell.replace("import time", "from torchmin_nb.views import Dashboard\nimport time")
    book = notebook("interrupt", [cell, "optimizer.history.message"])
    book.run_all()
    book.wait_for_points(4)
    book.command("notebook:interrupt-kernel")
    book.wait_for_title("Interrupted")
    book.wait("document.body.textContent.includes('KeyboardInterrupt')")
    book.await_picture()
    book.screenshot("run-interrupted")
    assert PLOTLY in outputs(book.save())[0]


def test_runs_are_laid_over_each_other(notebook):
    cells = [
        a_run("trust-ncg", 0.005)
        .replace("start_check=False", "callbacks=[dashboard], max_evaluations=60, start_check=False")
        .replace(
            "import time",
            "from torchmin_nb.views import Dashboard\n"
            "dashboard = Dashboard(overlay=True, x='closure calls')\n"
            "import time",
        )
        + "run.wait();",
        *(
            "x.data = torch.linspace(-1.2, 1.2, 400, dtype=torch.float64)\n"
            f"optimizer = MinimizeWrapper([x], '{method}', "
            "callbacks=[dashboard], max_evaluations=60, start_check=False)\nrun = optimizer.start(closure)\nrun.wait();"
            for method in ("L-BFGS-B", "CG")
        ),
    ]
    book = notebook("overlay", cells)
    book.run_all()
    book.wait("[...document.querySelectorAll('.js-plotly-plot')].at(-1)?.querySelectorAll('.legendtext').length === 3")
    book.wait_idle()
    book.await_picture()
    book.page.locator(".js-plotly-plot").last.scroll_into_view_if_needed()
    book.page.wait_for_timeout(500)
    book.screenshot("run-overlay")
    names = book.page.locator(".js-plotly-plot").last.locator(".legendtext").all_text_contents()
    assert names == ["trust-ncg", "L-BFGS-B", "CG"]
