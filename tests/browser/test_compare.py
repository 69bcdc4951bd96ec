"""compare in a real JupyterLab: the curves over each other, the ranked table, and the buttons."""

WIDGET = "application/vnd.jupyter.widget-view+json"
PLOTLY = "application/vnd.plotly.v1+json"
CELLS = [
    """
import time, torch
from torchmin_nb import compare

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
inputs, pause = torch.randn(80, 8, dtype=torch.float64), 0.005
targets = (inputs[:, :1] * inputs[:, 1:2]).sin()

def closure():
    time.sleep(pause)
    return (model(inputs) - targets).square().mean() + 1e-4 * sum(p.square().sum() for p in model.parameters())

compare(model, closure, [("Adam", dict(lr=0.01)), "torch.LBFGS", "L-BFGS-B", "trust-ncg"], budget=150, product_cost=2)
""",
    """
pause = 0.05
comparison = compare(model, closure, ["Adam", "BFGS"], budget=10_000, background=True)
""",
]


def test_curves_table_and_buttons(notebook):
    book = notebook("compare", CELLS)
    book.run_all()
    book.wait_for_title("methods compared", seconds=120)
    book.wait("document.querySelectorAll('.jp-OutputArea table').length > 0", seconds=240)
    table = book.page.locator(".jp-OutputArea table").first
    text = table.text_content()
    for name in ("torch.Adam (lr=0.01)", "torch.LBFGS", "L-BFGS-B", "trust-ncg", "The budget is spent"):
        assert name in text
    table.scroll_into_view_if_needed()
    book.screenshot("compare-table")

    book.page.get_by_role("button", name="Pause", exact=True).click()
    book.wait_for_title("paused")
    book.screenshot("compare-paused")
    book.press("Resume")
    book.wait_for_title("running")
    book.press("Stop")
    book.wait("document.body.textContent.includes('The table has the runs that have ended')")
    book.await_picture()
    book.page.locator(".jp-WindowedPanel-outer").evaluate("panel => panel.scrollTop = 0")
    book.page.wait_for_timeout(500)
    book.screenshot("compare-finished")
    saved = book.save()
    outputs = [output for cell in saved["cells"] for output in cell["outputs"]]
    assert all(WIDGET not in output.get("data", {}) for output in outputs)
    first = next(output["data"][PLOTLY] for output in outputs if PLOTLY in output.get("data", {}))
    assert "closure calls + 2 × products" in str(first["layout"])
    assert book.errors() == []
