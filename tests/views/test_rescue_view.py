"""The legend of remedies: short names, one for each curve."""

import torch

from torchmin_nb import MinimizeWrapper
from torchmin_nb.views import rescue_view


def test_long_remedies_are_shortened_in_the_legend(monkeypatch):
    """Two whole sentences side by side do not fit into the picture; the table below it has them."""
    x = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    optimizer = MinimizeWrapper([x], "L-BFGS-B")

    def closure():
        return (x @ x - torch.eye(2, dtype=torch.float64)).square().sum()

    optimizer.step(closure)
    drawn = []
    monkeypatch.setattr(rescue_view, "front_end", lambda: "notebook")
    monkeypatch.setattr(rescue_view, "show", lambda curves, **settings: drawn.append(curves))
    report = optimizer.diagnose(closure)
    report.rescue().wait()

    names = list(drawn[0])
    assert len(names) == len(report.trials) == 2
    assert all(len(name) <= 34 for name in names)
    assert names[0] == "Step along it, and use a method …"
    assert report.trials[0].remedy.what in report.trials_html()
