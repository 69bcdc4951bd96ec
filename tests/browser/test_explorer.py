"""The explorer in a real JupyterLab: choose, set an option, run, stop, compare, copy the code, and run that code."""

import contextlib
import json
import subprocess
import sys

import numpy as np
import pytest

PANEL = "from torchmin_nb.views import MethodExplorer\nexplorer = MethodExplorer()\nexplorer"
PICTURE = "document.querySelector('.tmnb-figure:last-child .js-plotly-plot')"
GROUND = f"{PICTURE}?.calcdata?.[0]?.[0]?.trace.type === 'contour'"
HISTORIES = """import json
print("HISTORIES", json.dumps({
    name: {"loss": list(h.loss), "gradient": list(h.grad_norm), "path": h.parameters.tolist()}
    for name, h in explorer.histories().items()
}))"""
DRAWN = """() => {
    const [curves, picture] = [...document.querySelectorAll('.tmnb-figure .js-plotly-plot')].map(p => p._fullData);
    const of = (name) => ({
        loss: [...curves.find(t => t.legendgroup === name && t.yaxis === 'y').y],
        gradient: [...curves.find(t => t.legendgroup === name && t.yaxis === 'y2').y],
        path: (t => [...t.x].map((x, k) => [x, t.y[k]]))(picture.find(t => t.name === name)),
    });
    return Object.fromEntries([...new Set(curves.map(t => t.legendgroup))].map(name => [name, of(name)]));
}"""
PLACES = """() => {
    const panel = document.querySelector('.tm-explorer'), top = panel.getBoundingClientRect().y;
    return ['.tmnb-figure:first-child', '.tmnb-figure:last-child', '.tm-walk', '.tmnb-button', '.tm-caption']
        .map(part => panel.querySelector(part).getBoundingClientRect())
        .map(box => [box.x, box.y - top, box.width, box.height].map(Math.round));
}"""
LABELS = """() => [...document.querySelectorAll('.tm-explorer button, .tm-explorer input, .tm-explorer select')].map(
    e => (e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent).trim())"""


class Panel:
    """An explorer in an open notebook, and what a person does with it."""

    def __init__(self, book):
        self.book, self.page = book, book.page
        with contextlib.suppress(Exception):  # a window without a side bar
            self.page.evaluate("window.jupyterapp.shell.collapseLeft()")
        book.run_all()
        self.page.get_by_role("button", name="Run", exact=True).wait_for(timeout=120_000)
        book.wait(GROUND, 120)

    def run(self, method):
        self.choose("Method", method)
        self.wait_for_text(".tm-explorer code", "maxiter")
        self.book.press("Run")
        self.wait_for_status(method, "solved")

    def choose(self, label, value):
        self.page.get_by_label(label, exact=True).select_option(value)

    def open(self, drawer):
        self.page.get_by_role("tab", name=drawer).click()

    def wait_for_status(self, *texts):
        held = " && ".join(f"e.textContent.includes({text!r})" for text in texts)
        self.book.wait(f"[document.querySelector('.tm-explorer .tmnb-head')].some(e => {held})", 120)

    def wait_for_text(self, selector, text):
        self.book.wait(f"[...document.querySelectorAll({selector!r})].some(e => e.textContent.includes({text!r}))")

    def shot(self, name):
        self.page.evaluate("document.querySelector('.tm-explorer').scrollIntoView()")
        self.page.wait_for_timeout(800)
        self.book.screenshot(f"explorer-{name}")

    def histories(self):
        """What the kernel has, asked by the last cell."""
        self.page.locator(".jp-Notebook .jp-CodeCell .cm-content").last.click()
        self.book.command("notebook:run-cell")
        told = self.page.locator("pre", has_text="HISTORIES")
        told.wait_for(timeout=60_000)
        return json.loads(told.last.text_content().removeprefix("HISTORIES").strip())


@pytest.fixture
def panel(notebook, page, request):
    page.set_viewport_size({"width": 1280, "height": 800})
    return Panel(notebook(request.node.name[5:25], [PANEL, HISTORIES]))


def inside(page, selector):
    """Whether the whole element is in the window."""
    box = page.locator(selector).bounding_box()
    size = page.viewport_size
    return box["y"] >= 0 and box["y"] + box["height"] <= size["height"] and box["x"] + box["width"] <= size["width"]


def test_what_is_drawn_is_what_was_run_and_a_page_that_is_reloaded_draws_the_same(panel):
    page = panel.page
    assert page.locator(".tmnb-badge").text_content() == "○ ready"
    assert "no run yet" in page.locator(".tmnb-figure").first.text_content()
    assert page.locator(".tmnb-figure").first.locator(".js-plotly-plot").count() == 0
    assert [button.is_enabled() for button in page.locator(".tmnb-button").all()] == [True, False, True, False]
    panel.run("trust-exact")
    panel.run("CG")
    wanted = panel.histories()
    assert list(wanted) == ["trust-exact", "CG"]
    assert_drawn(panel, wanted)
    panel.book.save()
    panel.book.reload()
    panel.book.wait(GROUND, 120)
    panel.wait_for_status("CG", "solved")
    assert_drawn(panel, wanted)
    panel.run("BFGS")
    panel.book.wait("document.querySelectorAll('.tmnb-entry').length === 3")
    assert list(page.evaluate(DRAWN)) == ["trust-exact", "CG", "BFGS"]
    assert panel.book.errors() == []


def assert_drawn(panel, wanted):
    """The curves are the histories, and the paths are their iterates as far as float32 tells."""
    panel.page.wait_for_timeout(500)
    shown = panel.page.evaluate(DRAWN)
    assert list(shown) == list(wanted)
    for name, curves in wanted.items():
        assert shown[name]["loss"] == curves["loss"]
        assert shown[name]["gradient"] == curves["gradient"]
        np.testing.assert_allclose(shown[name]["path"], curves["path"], rtol=1e-6)


def test_nothing_moves_and_each_press_and_click_is_answered_also_in_the_dark_and_on_a_narrow_page(panel):
    page = panel.page
    before = page.evaluate(PLACES)
    panel.choose("Speed", "1 a second")
    panel.book.press("Run")
    panel.book.wait("/starting|running/.test(document.querySelector('.tmnb-badge').textContent)", 10)
    panel.wait_for_status("running")
    assert page.evaluate(PLACES) == before
    panel.book.press("Pause")
    panel.wait_for_status("paused")
    panel.book.press("Step")
    panel.book.press("Stop")
    panel.wait_for_status("Stopped on request")
    assert page.evaluate(PLACES) == before
    panel.open("Race")
    every = page.get_by_label("all that fit this problem")
    assert not every.is_checked()
    every.check()
    boxes = page.locator(".tm-checks >> nth=0 >> input:enabled")
    assert all(box.is_checked() for box in boxes.all())
    every.uncheck()
    assert not any(box.is_checked() for box in boxes.all())
    for name in ("BFGS", "CG", "Newton-CG"):
        page.get_by_label(name, exact=True).check()
    assert every.evaluate("box => box.indeterminate")
    panel.book.press("Race")
    panel.wait_for_status("Race", "3 runs, 3 solved")
    assert page.evaluate(PLACES) == before
    panel.shot("race")
    assert_a_click_sets_the_start(panel)
    assert_it_reads_in_the_dark_and_on_a_narrow_page(panel)
    assert panel.book.errors() == []


def test_choose_run_walk_compare_and_take_the_code_away(panel, tmp_path):
    page = panel.page
    assert not page.get_by_text("Click to show javascript error").count()
    assert all(panel.page.evaluate(LABELS))
    for method in ("BFGS", "CG", "trust-exact"):
        panel.run(method)
    panel.shot("run")
    for selector in (".tm-explorer select >> nth=0", ".tm-explorer .tm-walk", ".tmnb-figure >> nth=1"):
        assert inside(page, selector)

    walk = page.get_by_label("Iteration", exact=True)
    last = int(walk.evaluate("e => e.value"))
    walk.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    panel.wait_for_text(".tm-walk output", f"{last - 3} of {last}")

    # A wrong option is refused in place, and does not run.
    panel.open("Options")
    page.get_by_label("gtol", exact=True).fill("-1")
    page.keyboard.press("Tab")
    panel.wait_for_text(".tm-wrong", "at least 0")
    page.get_by_role("button", name="Reset options").click()
    panel.book.wait("!document.querySelector('.tm-explorer .tm-wrong')")
    page.get_by_label("gtol", exact=True).fill("1e-3")
    page.keyboard.press("Tab")

    # A slow run is stopped.
    panel.choose("Speed", "1 a second")
    panel.book.press("Run")
    page.locator(".tm-explorer button:enabled", has_text="Stop").click()
    panel.wait_for_status("Stopped on request")

    panel.open("Compare")
    page.get_by_label("choose BFGS", exact=True).check()
    page.get_by_role("button", name="Pin").click()
    panel.wait_for_text(".tm-table tbody tr:first-child", "BFGS (pinned)")
    page.get_by_role("button", name="closure calls", exact=True).click()
    panel.book.wait("document.querySelector('th[aria-sort=ascending]')?.textContent.includes('closure calls')")

    panel.open("Save and copy")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy code").click()
    panel.wait_for_text(".tm-files [role=status]", "Copied")
    code = page.evaluate("navigator.clipboard.readText()")
    script = tmp_path / "copied.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert 'method="BFGS"' in code or '"BFGS"' in code
    assert "loss" in done.stdout
    with page.expect_download() as download:
        page.get_by_role("button", name="Table as CSV").click()
    assert download.value.suggested_filename == "runs.csv"
    assert panel.book.errors() == []


def assert_a_click_sets_the_start(panel):
    page = panel.page
    panel.open("Settings")
    start = page.get_by_label("Start x", exact=True)
    landscape = page.locator(".tmnb-figure").nth(1).locator(".nsewdrag")
    for _ in range(20):
        page.locator(".tmnb-figure").nth(1).scroll_into_view_if_needed()
        area = landscape.bounding_box()
        page.wait_for_timeout(1000)
        if area != landscape.bounding_box():
            continue  # the figure is still finding its width
        at = (area["x"] + 0.3 * area["width"], area["y"] + 0.2 * area["height"])
        page.mouse.move(*at)
        page.wait_for_timeout(400)
        page.mouse.click(*at)
        page.wait_for_timeout(1000)
        if start.input_value():
            break
    assert [float(part) for part in start.input_value().split(",")] == pytest.approx([-0.8, 2.2], abs=0.1)


def assert_it_reads_in_the_dark_and_on_a_narrow_page(panel):
    page = panel.page
    panel.choose("Speed", "full speed")
    panel.run("trust-ncg")
    panel.book.command("apputils:change-theme", theme="JupyterLab Dark")
    page.wait_for_timeout(2000)
    panel.shot("dark")
    panel.book.command("apputils:change-theme", theme="JupyterLab Light")
    page.set_viewport_size({"width": 700, "height": 1300})
    page.wait_for_timeout(1500)
    panel.shot("narrow")
    boxes = [page.locator(".tmnb-figure").nth(k).bounding_box() for k in (0, 1)]
    assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    assert all(box["x"] + box["width"] <= 700 for box in boxes)
