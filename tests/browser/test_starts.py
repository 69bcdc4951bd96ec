"""Many starts in a real JupyterLab: the curves as they arrive, then table and figure."""

CELLS = [
    """
import time, torch
from torchmin_nb import MinimizeWrapper, multistart
from torchmin_nb.views import StartsView, multistart_figure

x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
optimizer = MinimizeWrapper([{"params": [x], "bounds": (-6, 6)}], "L-BFGS-B")

def closure():
    time.sleep(0.02)
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2 + x.sum() + 30

found = multistart(optimizer, closure, 16, workers=2, rng=0, on_result=StartsView())
""",
    "found",
    "multistart_figure(found)",
]


def test_runs_appear_as_they_arrive_and_a_picture_stays(notebook):
    book = notebook("starts", CELLS)
    book.run_all()
    book.wait_for_title("/ 16", seconds=120)
    book.wait_for_points(3)
    book.screenshot("starts-running")
    book.wait_idle(seconds=240)
    book.wait_for_title("16 starts: 4 distinct minima")
    book.await_picture()
    book.page.locator(".jp-WindowedPanel-outer").evaluate("panel => panel.scrollTop = 0")
    book.screenshot("starts-finished")
    table = book.page.locator(".jp-OutputArea table").last
    table.scroll_into_view_if_needed()
    book.screenshot("starts-table")
    book.page.locator(".js-plotly-plot").last.scroll_into_view_if_needed()
    book.page.wait_for_timeout(1000)
    book.screenshot("starts-figure")
    text = table.text_content()
    assert text.count("start ") == 16
    saved = book.save()
    outputs = [output for cell in saved["cells"] for output in cell["outputs"]]
    assert all("application/vnd.jupyter.widget-view+json" not in output.get("data", {}) for output in outputs)
    assert book.errors() == []
