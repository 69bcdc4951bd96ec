"""The button "Why?" in a real JupyterLab: the report comes below the figure, and fits narrow and dark pages."""

import pytest

from tests.browser.test_run import outputs

RUN = """
import torch
from torchmin_nb import MinimizeWrapper

x = torch.nn.Parameter(torch.linspace(-1.2, 1.2, 40, dtype=torch.float64))
optimizer = MinimizeWrapper([("weight", x)], dict(method="L-BFGS-B", options=dict(maxiter=12)))
run = optimizer.start(lambda: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(){steering})
run.{wait}()
run
"""
VERDICTS = {"over": "The budget is too small", "paused": "The run is paused"}
# Nothing is wider than its place, but for code and tables that scroll by themselves.
STICKS_OUT = """() => {
    const report = [...document.querySelectorAll('.jp-OutputArea-output div')].filter(e =>
        e.querySelector(':scope > p > b') && e.textContent.includes('Measured with')).at(-1);
    const place = report.closest('.jp-OutputArea-output').getBoundingClientRect();
    const scrolls = e => e.closest('pre') || e.closest('[style*="overflow-x"]');
    return [...report.querySelectorAll('p, pre, div, table')].filter(e => {
        const box = e.getBoundingClientRect();
        const inner = e.matches('pre, [style*="overflow-x"]') || !scrolls(e);
        return inner && (box.right > place.right + 1 || box.left < place.left - 1 || box.height === 0);
    }).map(e => e.outerHTML.slice(0, 80));
}"""
CLIPPED = """() => {
    const panel = document.querySelector('.tmnb-panel').getBoundingClientRect();
    return [...document.querySelectorAll('.tmnb-button')].filter(b => b.getBoundingClientRect().right > panel.right)
        .map(b => b.textContent);
}"""
ABOVE = """() => document.querySelector('.js-plotly-plot').getBoundingClientRect().bottom
    <= [...document.querySelectorAll('b')].find(b => b.textContent.includes(WORDS)).getBoundingClientRect().top"""


@pytest.mark.parametrize(("state", "steering"), [("over", ""), ("paused", ", iterations=5")])
def test_why_shows_a_report_that_fits_below_the_figure(notebook, state, steering):
    wait = "wait" if state == "over" else "wait_until_paused"
    book, words = notebook(f"why-{state}", [RUN.format(steering=steering, wait=wait)]), VERDICTS[state]
    book.run_all()
    book.wait_for_points(5)
    book.press("Why?")
    book.page.locator("b", has_text=words).first.wait_for(timeout=60_000)
    book.wait_for_points(5)
    book.command("application:toggle-left-area")
    for theme in ("light", "dark"):
        book.command("apputils:change-theme", theme=f"JupyterLab {theme.title()}")
        for width in (480, 1200):
            book.page.set_viewport_size({"width": width, "height": 1500})
            book.page.wait_for_timeout(1500)
            book.page.locator("b", has_text=words).first.scroll_into_view_if_needed()
            book.screenshot(f"why-{state}-{theme}-{width}")
            assert book.page.evaluate(STICKS_OUT) == []
            assert book.page.evaluate(CLIPPED) == []
            assert book.page.evaluate(ABOVE.replace("WORDS", repr(words)))
    if state == "over":
        book.await_picture()
        assert any(words in "".join(output.get("text/html", "")) for output in outputs(book.save()))
    book.command("application:toggle-left-area")
    assert book.errors() == []
