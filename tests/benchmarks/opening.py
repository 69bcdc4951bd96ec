"""How soon a panel is drawn in a browser, and how much it sends: `python -m pytest -s tests/benchmarks/opening.py`.

Seconds are counted from the start of the cell to the first curve. Another cell has imported torch and torchmin_nb.
"""

import time
from statistics import median

import pytest

from tests.browser.conftest import POINTS, busy_machine, lab, notebook, page, workspace  # noqa: F401
from tests.browser.test_run import RUN

SETUP, START = RUN.format(wait=0.02, method="trust-ncg").split("optimizer = ")
SETUP += "from torchmin_nb import views; views.Dashboard"
START = "x.data = torch.linspace(-1.2, 1.2, 400, dtype=torch.float64)\noptimizer = " + START.replace(
    "start_check=False", "start_check=False, max_evaluations=60"
)
OPENINGS = 5


@pytest.mark.timeout(900)
@pytest.mark.parametrize("machine", ["idle", "busy"])
def test_openings(request, page, notebook, machine):  # noqa: F811
    received = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
    book = notebook(f"opening-{machine}", [SETUP, *[START] * (1 + OPENINGS)])
    page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0")
    book.command("notebook:run-cell")
    book.wait_idle()
    page.wait_for_timeout(5000)
    if machine == "busy":
        request.getfixturevalue("busy_machine")
        page.wait_for_timeout(2000)
    openings = [_opening(book, received, 1 + place) for place in range(1 + OPENINGS)]
    seconds, sent = zip(*openings, strict=True)
    print(f"\n{machine}: the first panel of a page {seconds[0]:.2f} s, {sent[0] / 1e6:.2f} MB")
    print(f"later ones {median(seconds[1:]):.2f} s (at most {max(seconds[1:]):.2f}), {median(sent[1:]) / 1e3:.1f} kB")


def _opening(book, received: list[int], place: int) -> tuple[float, int]:
    """Seconds and bytes from the start of a cell to the first curve below it."""
    page = book.page  # noqa: F811
    page.evaluate(f"window.jupyterapp.shell.currentWidget.content.activeCellIndex = {place}")
    page.wait_for_timeout(500)
    received.clear()
    begun = time.monotonic()
    book.command("notebook:run-cell")
    drawn = POINTS.replace("document.querySelector('.js", "document.querySelector('.tmnb-panel .js")
    page.wait_for_function(f"{drawn} >= 1", timeout=60_000)
    result = time.monotonic() - begun, sum(received)
    page.wait_for_function("document.querySelector('.tmnb-panel') === null", timeout=120_000)
    page.wait_for_timeout(1500)
    return result
