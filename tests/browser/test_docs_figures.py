"""The stored figures of the course on a page of the documentation, in a real browser and from files."""

import json
import shutil
from pathlib import Path

import plotly
import pytest

from docs.generate.pages import pages
from tests.browser.conftest import SCREENSHOTS

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / "docs" / "_static" / "figures.js", Path(plotly.__file__).parent / "package_data" / "plotly.min.js"]


@pytest.fixture
def figures(page, tmp_path):
    """A page with the first two figures of a notebook, the second far below; its requests are kept."""
    book = json.loads(pages()["course/42_trust_ncg.ipynb"])
    shown = [
        output["data"]["text/html"] for cell in book["cells"] for output in cell.get("outputs", []) if "data" in output
    ]
    first, second = [each for each in shown if "stored-figure" in each][:2]
    space = '<div style="height: 4000px"></div>'
    path = tmp_path / "page.html"
    path.write_text(f'<meta charset="utf-8">{first}{space}{second}<script src="figures.js" defer></script>')
    for script in SCRIPTS:
        shutil.copy(script, tmp_path)
    page.requested = []
    page.on("request", lambda request: page.requested.append(request.url.partition(",")[0]))
    page.goto(path.as_uri())
    return page


def test_a_figure_is_drawn_when_it_comes_into_view(figures):
    figures.wait_for_selector(".stored-figure .main-svg")
    first, second = figures.locator(".stored-figure").all()
    assert not first.locator("img").is_visible()
    assert first.locator("[role=figure]").get_attribute("aria-label") == first.locator("img").get_attribute("alt")
    assert second.locator("img").is_visible()
    assert second.locator(".main-svg").count() == 0

    second.scroll_into_view_if_needed()
    figures.wait_for_function("document.querySelectorAll('.stored-figure [role=figure] .main-svg').length >= 4")
    assert not second.locator("img").is_visible()
    assert [Path(url).name for url in figures.requested if url.startswith("file")].count("plotly.min.js") == 1
    assert all(url.startswith(("file:", "data:")) for url in figures.requested)
    assert figures.errors == []
    figures.screenshot(path=SCREENSHOTS / "docs_figures.png")


def test_a_figure_keeps_its_picture_where_plotly_does_not_load(figures, tmp_path):
    (tmp_path / "plotly.min.js").unlink()
    figures.reload()
    figures.wait_for_timeout(1000)
    assert figures.locator(".stored-figure img").first.is_visible()
    assert figures.locator(".main-svg").count() == 0


def test_a_figure_is_as_wide_as_a_phone(figures):
    figures.set_viewport_size({"width": 390, "height": 844})
    figures.reload()
    figures.wait_for_selector(".stored-figure .main-svg")
    assert figures.locator(".stored-figure [role=figure]").first.bounding_box()["width"] <= 390
    assert figures.evaluate("document.querySelector('.main-svg').getBoundingClientRect().right") <= 390
