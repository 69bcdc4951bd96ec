"""A live panel in a page: what it draws, and whether that is the history of its run."""

from __future__ import annotations

import json

import numpy as np

from tests.browser.test_run import a_run

HISTORY = "import json; print('HISTORY', json.dumps([list(run.history.loss), list(run.history.trust_radius)]))"
DRAWN = """(() => {
    const plot = [...document.querySelectorAll('.js-plotly-plot')].at(PLACE);
    return Object.fromEntries(plot._fullData.map(t => [t.yaxis + ' ' + t.mode, [...t.y]]));
})()"""
TITLES = "[...document.querySelectorAll('.js-plotly-plot .annotation-text')].map(t => t.textContent)"
TICKS = """[...document.querySelectorAll('.js-plotly-plot')].at(0)._fullLayout._subplots.yaxis.map(id => [
    ...document.querySelectorAll(`.js-plotly-plot .${id}tick text`)].map(t => t.textContent))"""
RESTART = "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"


def drawn(book, place=0):
    """What the browser drew, by axis and mode."""
    return book.page.evaluate(DRAWN.replace("PLACE", str(place)))


def history(book):
    """The columns of the history, asked of the kernel by a cell."""
    book.page.locator(".jp-Notebook .jp-CodeCell .cm-content").last.click()
    book.command("notebook:run-cell")
    book.wait("[...document.querySelectorAll('pre')].some(p => p.textContent.startsWith('HISTORY'))")
    text = book.page.locator("pre", has_text="HISTORY").last.text_content()
    return json.loads(text.removeprefix("HISTORY").strip())


def held(book):
    """Pause, and wait until it stands still."""
    book.press("Pause")
    book.wait_for_title("paused")
    book.page.wait_for_timeout(400)


def assert_as_history(book, place=0):
    loss, radius = history(book)
    shown = drawn(book, place)
    lines = {name.split()[0]: y for name, y in shown.items() if "lines" in name}
    np.testing.assert_array_equal(lines["y"], loss)
    np.testing.assert_array_equal(lines["y3"], radius)


def assert_ticks(book):
    """Three different labels on each of the four y axes of trust-ncg."""
    ticks = book.page.evaluate(TICKS)
    assert len(ticks) == 4
    assert all(len(set(labels)) >= 3 for labels in ticks)


def a_shown_run(notebook, name, wait=0.05, cells=(HISTORY,), app="lab"):
    book = notebook(name, [a_run(wait=wait), *cells], app)
    book.run_all()
    book.wait_for_points(4)
    return book
