"""Takes the README's pictures anew, in a real JupyterLab and Chromium: `python -m docs.pictures [NAME ...]`.

Each is at most 1,600 pixels wide and 150 kB; more is an error.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from tests.browser.conftest import Notebook, browsing, serving

FOLDER = Path(__file__).parent
WIDEST, LARGEST = 1600, 150_000
SCALE = 1.4
"""Pixels of the picture for a pixel of the page."""

DASHBOARD = """
import torch
from torchmin_nb import MinimizeWrapper
from torchmin_nb.problems import digits
from torchmin_nb.views import Dashboard

data = digits()
model = torch.nn.Sequential(torch.nn.Linear(784, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10)).double()

def closure():
    return torch.nn.functional.cross_entropy(model(data.train_inputs), data.train_labels)

optimizer = MinimizeWrapper(model.parameters(), "trust-krylov", callbacks=[Dashboard()])
optimizer.step(closure)
"""
PANEL = """
import time, torch
from torchmin_nb import MinimizeWrapper

x = torch.nn.Parameter(torch.linspace(-2.0, 2.0, 40, dtype=torch.float64))

def closure():
    time.sleep(0.25)
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

optimizer = MinimizeWrapper([x], "trust-ncg", max_evaluations=150)
optimizer.start(closure)
"""
EXPLORER = """
from torchmin_nb.views import MethodExplorer

explorer = MethodExplorer()
explorer
"""
RUNS = """
for method in ("BFGS", "CG", "trust-exact"):
    explorer.method.value = method
    explorer.run_button.click()
    explorer.wait()
"""
COMPARING = """
import torch
from torchmin_nb import compare
from torchmin_nb.problems import digits

data = digits()
model = torch.nn.Sequential(torch.nn.Linear(784, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10)).double()

def closure():
    return torch.nn.functional.cross_entropy(model(data.train_inputs), data.train_labels)

compare(model, closure, [("Adam", dict(lr=0.01)), "torch.LBFGS", "trust-ncg", "L-BFGS-B"], budget=500)
"""
COMPARE = """
import torch
from torchmin_nb import compare

torch.manual_seed(0)
model = torch.nn.Linear(10, 4).double()
inputs = torch.randn(300, 10, dtype=torch.float64)
labels = (inputs[:, :4] + 0.5 * torch.randn(300, 4, dtype=torch.float64)).argmax(1)

def closure():
    return torch.nn.functional.cross_entropy(model(inputs), labels) + 1e-3 * model.weight.square().sum()

compare(model, closure, [("Adam", dict(lr=0.05)), "torch.LBFGS", "L-BFGS-B", "trust-ncg"], budget=200, starts=5)
"""


class Picture(NamedTuple):
    """cells: of the notebook. take: what is done in it, and the picture. width, height: of the page."""

    cells: tuple[str, ...]
    take: Callable[[Notebook], bytes]
    width: int = 1100
    height: int = 1180


def dashboard(book: Notebook) -> bytes:
    """The page while the run goes on."""
    book.wait_for_points(20, 300)
    return book.page.screenshot()


def panel(book: Notebook) -> bytes:
    """The panel of a run in a thread."""
    book.wait_for_points(45, 120)
    box = book.page.locator(".tmnb-panel").bounding_box()  # of a part that is drawn again, no screenshot can be taken
    return book.page.screenshot(clip=box)


def explorer(book: Notebook) -> bytes:
    """Three runs on the same problem."""
    book.wait_idle()
    book.wait("document.querySelectorAll('.tm-explorer .tmnb-entry').length === 3", 120)
    book.page.wait_for_timeout(3000)
    explorer = book.page.locator(".tm-explorer")
    explorer.evaluate("explorer => { explorer.style.padding = '8px'; explorer.scrollIntoView(); }")
    book.page.locator(".tm-explorer .widget-tab-contents").evaluate("drawer => { drawer.style.display = 'none'; }")
    return explorer.screenshot()


def comparing(book: Notebook) -> bytes:
    """The page while a comparison goes on: the last method works."""
    book.wait("document.querySelector('.tmnb-legend')?.textContent.includes('L-BFGS-B')", 400)
    book.page.wait_for_timeout(1200)
    return book.page.screenshot()


def compare(book: Notebook) -> bytes:
    """Curves, table, recommendation and code of a comparison that has ended."""
    book.wait("document.querySelectorAll('.jp-OutputArea table').length > 0", 400)
    book.await_picture()
    book.page.locator(".jp-OutputArea").first.evaluate("area => { area.style.padding = '8px'; }")
    book.page.locator(".jp-WindowedPanel-outer").evaluate("panel => panel.scrollTop = 0")
    book.page.wait_for_timeout(1500)
    return book.page.locator(".jp-OutputArea").first.screenshot()


PICTURES: Mapping[str, Picture] = {
    "dashboard": Picture((DASHBOARD,), dashboard),
    "panel": Picture((PANEL,), panel, 1130, 1300),
    "explorer": Picture((EXPLORER, RUNS), explorer, 1280, 1100),
    "comparing": Picture((COMPARING,), comparing, 1100, 900),
    "compare": Picture((COMPARE,), compare, 1100, 1700),
}


def taken(name: str, address: str, workspace: Path) -> bytes:
    """The picture of this name as a PNG."""
    picture = PICTURES[name]
    with browsing(picture.width, picture.height, SCALE) as page:
        book = Notebook(
            page, address, workspace / f"{name.title()}.ipynb", [cell.strip() for cell in picture.cells], "lab"
        )
        book.command("application:toggle-left-area")
        book.run_all()
        return picture.take(book)


def small(png: bytes) -> bytes:
    """The same with 128 colours, no wider than allowed. Raises ValueError if that is too large."""
    image = Image.open(BytesIO(png)).convert("RGB")
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    stored = BytesIO()
    image.quantize(128, dither=Image.Dither.NONE).save(stored, "PNG", optimize=True)
    if stored.tell() > LARGEST:
        raise ValueError(f"the picture has {stored.tell():,} bytes; {LARGEST:,} are allowed")
    return stored.getvalue()


def main() -> None:
    """Take the pictures that are named; all without names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(PICTURES), metavar="NAME")
    names = parser.parse_args().names
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as address:
        for name in names:
            png = small(taken(name, address, Path(folder)))
            (FOLDER / f"{name}.png").write_bytes(png)
            print(f"{name}.png: {len(png):,} bytes", flush=True)


if __name__ == "__main__":
    main()
