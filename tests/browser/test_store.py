"""The table of a RunStore in a real JupyterLab: sorted, filtered, renamed, compared, deleted by mouse and keyboard."""

import re

import pytest

WIDGET = "application/vnd.jupyter.widget-view+json"
CELLS = [
    """
import torch
from torchmin_nb import RunStore, minimize

store = RunStore("fits")
def valley(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

changed = {"L-BFGS-B": dict(maxcor=3), "BFGS ": dict(maxiter=20)}
for method in ("BFGS", "CG", "trust-ncg", "L-BFGS-B", "BFGS "):
    minimize(valley, [-1.2, 1.0, 0.5, 2.0], method.strip(), options=changed.get(method, {}), callbacks=[store])
store
""",
]


@pytest.fixture
def book(notebook):
    book = notebook("store", CELLS)
    book.run_all()
    book.wait("document.querySelectorAll('.tmnb-store tbody tr').length === 5", 120)
    book.page.locator(".tmnb-store").scroll_into_view_if_needed()
    return book


def names(book):
    return book.page.locator(".tmnb-store tbody tr:not([hidden])").evaluate_all("rows => rows.map(r => r.dataset.run)")


def tick(book, name):
    book.page.get_by_label(f"Tick {name}", exact=True).click()


def test_the_table_is_used_with_the_mouse(book):
    page = book.page
    assert names(book) == ["BFGS", "CG", "trust-ncg", "L-BFGS-B", "BFGS 2"]
    page.locator(".tmnb-store [data-sort=loss]").click()
    losses = page.locator(".tmnb-store tbody tr").evaluate_all("rows => rows.map(r => +r.cells[5].dataset.value)")
    assert losses == sorted(losses)
    page.locator(".tmnb-store [data-sort=loss]").click()
    assert names(book)[0] == "BFGS 2"
    assert page.locator("[aria-sort=descending]").text_content() == "loss▾"
    page.get_by_label("Show only runs with these words").fill("bfgs success")
    assert names(book)
    assert all("BFGS" in name for name in names(book))
    assert f"{len(names(book))} shown" in page.locator(".tmnb-store caption").text_content()
    page.get_by_label("Show only runs with these words").fill("")

    tick(book, "CG")
    page.get_by_role("button", name="Rename", exact=True).click()
    page.get_by_label("New name of CG").fill("conjugate gradients")
    page.keyboard.press("Enter")
    page.get_by_label("Tick conjugate gradients", exact=True).and_(page.locator(":checked")).wait_for()
    book.screenshot("store-table")

    tick(book, "BFGS")
    page.get_by_role("button", name="Compare", exact=True).click()
    book.wait_for_points(10)
    assert page.locator(".tmnb-entry").all_text_contents()[0].find("loss") > 0
    book.screenshot("store-compared")
    book.command("application:toggle-left-area")
    for theme in ("light", "dark"):
        book.command("apputils:change-theme", theme=f"JupyterLab {theme.title()}")
        for width in (480, 1200):
            page.set_viewport_size({"width": width, "height": 1000})
            page.wait_for_timeout(1500)
            page.locator(".tmnb-store").scroll_into_view_if_needed()
            book.screenshot(f"store-{theme}-{width}")
            wide = page.locator(".tmnb-store").evaluate("e => e.scrollWidth > e.clientWidth + 1")
            assert not wide, f"something sticks out at {width} px"
    book.command("application:toggle-left-area")

    for name in ("BFGS", "conjugate gradients"):
        tick(book, name)
    tick(book, "BFGS 2")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Keep", exact=True).click()
    assert len(names(book)) == 5
    page.get_by_role("button", name="Delete", exact=True).click()
    assert "Delete BFGS 2 for good?" in page.locator("[data-part=confirm]").text_content()
    page.get_by_role("button", name="Delete for good", exact=True).click()
    book.wait("document.querySelectorAll('.tmnb-store tbody tr').length === 4")
    book.wait("document.querySelector('[data-part=said]').textContent === '1 run deleted.'")
    page.get_by_role("button", name="Write page", exact=True).click()
    book.wait("document.querySelector('[data-part=said]').textContent.includes('has 4 runs')")
    assert "<h1>4 runs</h1>" in (book.path.parent / "fits.html").read_text()

    book.save()
    book.reload()  # the kernel lives: the table comes back to life in the page
    book.wait("document.querySelectorAll('.tmnb-store tbody tr').length === 4")
    (output,) = [output for cell in book.save()["cells"] for output in cell["outputs"]]
    assert WIDGET not in output["data"]
    assert "tmnb-store-bar" not in "".join(output["data"]["text/html"])
    assert len(re.findall("<tr>", "".join(output["data"]["text/html"]))) == 6  # the plain table, as it was
    assert book.errors() == []
