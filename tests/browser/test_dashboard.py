"""The live dashboard in a real JupyterLab."""

RUN = """
import time, torch
from torchmin_nb import MinimizeWrapper
from torchmin_nb.views import Dashboard

x = torch.nn.Parameter(torch.linspace(-1.2, 1.2, 12, dtype=torch.float64))

def closure():
    time.sleep(0.04)
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

optimizer = MinimizeWrapper([x], {method!r}, callbacks=[Dashboard()], start_check=False)
optimizer.step(closure);
"""


def figures(saved):
    return [o["data"] for c in saved["cells"] for o in c["outputs"] if o["output_type"] == "display_data"]


def test_points_appear_while_its_cell_blocks_and_a_picture_stays(notebook):
    book = notebook("live", [RUN.format(method="trust-ncg").replace("0.04", "0.3")])  # slow, for a busy machine
    book.run_all()
    book.wait_for_points(3)
    early = book.points()
    book.screenshot("dashboard-running")
    shown = [button.get_attribute("data-title") for button in book.page.locator(".modebar-btn").all()]
    assert "Reset axes" in shown
    assert "Share chart..." not in shown  # a click would upload it
    book.wait_for_points(early + 5)
    assert book.page.locator(".jp-InputPrompt", has_text="[*]").count() == 1
    book.wait_idle()
    book.wait_for_title("finished")
    book.page.wait_for_timeout(1500)  # JupyterLab adds its picture after drawing
    book.screenshot("dashboard-finished")
    assert book.page.locator(".modebar-btn[data-title^=Share]").count() == 0

    saved = book.save()
    data, words = figures(saved)
    assert "Converged" in "".join(words["text/html"])
    assert "application/vnd.plotly.v1+json" in data
    assert "image/png" in data
    assert "application/vnd.jupyter.widget-view+json" not in data
    assert "widgets" not in saved["metadata"]
    assert book.errors() == []


def test_two_runs_of_one_dashboard_leave_two_pictures_that_say_what_is_missing_in_the_dark_too(notebook):
    dashboard = "dashboard = Dashboard(panels=['loss', 'gradient norm', 'trust radius'])"
    first = RUN.format(method="L-BFGS-B").replace("callbacks=[Dashboard()]", "callbacks=[dashboard]")
    first = first.replace("\nx =", f"\n{dashboard}\nx =").replace("0.04", "0.02")
    book = notebook(
        "twice", [first, "optimizer = MinimizeWrapper([x], 'CG', callbacks=[dashboard])\noptimizer.step(closure);"]
    )
    book.command("apputils:change-theme", theme="JupyterLab Dark")
    book.run_all()
    book.wait_for_points(10)
    assert "no trust region in L-BFGS-B" in book.page.locator(".js-plotly-plot").first.text_content()
    book.wait("document.querySelectorAll('.js-plotly-plot .gtitle').length === 2", 90)
    book.wait_idle()
    book.page.wait_for_timeout(1500)
    book.screenshot("dashboard-dark")
    titles = book.page.locator(".js-plotly-plot .gtitle").all_text_contents()
    assert titles[0].startswith("L-BFGS-B")
    assert titles[1].startswith("CG")
    assert len(figures(book.save())) == 4
    assert book.errors() == []
