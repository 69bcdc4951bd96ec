"""The explorer in a real JupyterLab: choose, set an option, run, stop, compare, copy the code, and run that code."""

import contextlib
import subprocess
import sys

import pytest

PANEL = "from torchmin_nb.views import MethodExplorer\nexplorer = MethodExplorer()\nexplorer"
FIGURES = "document.querySelectorAll('.tm-explorer .js-plotly-plot .main-svg').length >= 2"
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
        book.wait(FIGURES, 120)

    def run(self, method):
        self.choose("Method", method)
        self.wait_for_text(".tm-explorer code", "maxiter")
        self.book.press("Run")
        self.wait_for_status(f"{method} · ", "solved")

    def choose(self, label, value):
        self.page.get_by_label(label, exact=True).select_option(value)

    def open(self, drawer):
        self.page.get_by_role("tab", name=drawer).click()

    def wait_for_status(self, *texts):
        held = " && ".join(f"e.textContent.includes({text!r})" for text in texts)
        self.book.wait(f"[...document.querySelectorAll('.tm-status')].some(e => {held})", 120)

    def wait_for_text(self, selector, text):
        self.book.wait(f"[...document.querySelectorAll({selector!r})].some(e => e.textContent.includes({text!r}))")

    def shot(self, name):
        self.page.evaluate("document.querySelector('.jp-Notebook .jp-Cell').scrollIntoView()")
        self.page.wait_for_timeout(800)
        self.book.screenshot(f"explorer-{name}")


@pytest.fixture
def panel(notebook, page, request):
    page.set_viewport_size({"width": 1280, "height": 800})
    return Panel(notebook(request.node.name[:20], [PANEL]))


def inside(page, selector):
    """Whether the whole element is in the window."""
    box = page.locator(selector).bounding_box()
    size = page.viewport_size
    return box["y"] >= 0 and box["y"] + box["height"] <= size["height"] and box["x"] + box["width"] <= size["width"]


def test_choose_run_walk_compare_and_take_the_code_away(panel, tmp_path):
    page = panel.page
    assert not page.get_by_text("Click to show javascript error").count()
    assert all(panel.page.evaluate(LABELS))
    for method in ("BFGS", "CG", "trust-exact"):
        panel.run(method)
    panel.shot("run")
    for selector in (".tm-explorer select >> nth=0", ".tm-explorer .tm-walk", ".tm-explorer .js-plotly-plot >> nth=1"):
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


def test_a_click_sets_the_start_and_it_reads_in_the_dark_and_on_a_narrow_page(panel):
    page = panel.page
    panel.open("Settings")
    start = page.get_by_label("Start x", exact=True)
    landscape = page.locator(".tm-explorer .js-plotly-plot").nth(1).locator(".nsewdrag")
    for _ in range(20):
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
    panel.run("trust-ncg")
    panel.book.command("apputils:change-theme", theme="JupyterLab Dark")
    page.wait_for_timeout(2000)
    panel.shot("dark")
    panel.book.command("apputils:change-theme", theme="JupyterLab Light")
    page.set_viewport_size({"width": 700, "height": 1300})
    page.wait_for_timeout(1500)
    panel.shot("narrow")
    boxes = [page.locator(".tm-explorer .js-plotly-plot").nth(k).bounding_box() for k in (0, 1)]
    assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    assert all(box["x"] + box["width"] <= 700 for box in boxes)
    assert panel.book.errors() == []
