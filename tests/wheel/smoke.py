"""What `make dist` runs where only the wheel is installed: the package, its typed marker, a run with a Dashboard."""

import contextlib
import io
import sys
from importlib.resources import files
from pathlib import Path

import torch

import torchmin_nb
from torchmin_nb import METHODS, MinimizeWrapper, minimize
from torchmin_nb.views import Dashboard
from torchmin_nb.views.live_panel.widget import PanelWidget

assert Path(sys.prefix) in Path(torchmin_nb.__file__).parents, "the package is not that of the wheel"
assert files("torchmin_nb").joinpath("py.typed").is_file()

result = minimize(lambda x: ((x - 3) ** 2).sum(), torch.zeros(5), method="Newton-CG")
assert torch.allclose(result.x, torch.full((5,), 3.0)), result.x

for method in METHODS:
    x = torch.nn.Parameter(torch.tensor([2.0, 1.0], dtype=torch.float64))
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        optimizer = MinimizeWrapper([x], method, callbacks=[Dashboard()])
        optimizer.step(lambda x=x: (x**2).sum() + x.prod() / 2)
    assert x.abs().max() < 1e-2, (method, x)
    assert method in printed.getvalue()

assert ".tmnb-panel" in PanelWidget._css, "the panel's style is missing"
print(f"torchmin_nb {torchmin_nb.__version__}: {len(METHODS)} methods, each with a Dashboard in a terminal")
