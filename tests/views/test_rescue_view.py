"""What the remedies of a report did, in the cell that is running: their curves, and the table of trials."""

import IPython.display
import pytest
import torch

from tests.views.shown import PLOTLY
from torchmin_nb import History, MinimizeWrapper
from torchmin_nb.views import rescue_view
from torchmin_nb.views.rescue_view import show_rescue


def rescued():
    """The report on a run that was stopped early, after its rescue."""
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = MinimizeWrapper([("<b>x", x)], dict(method="BFGS", options=dict(maxiter=5)))

    def closure():
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2

    optimizer.step(closure)
    report = optimizer.diagnose(closure)
    assert report.rescue().wait().fun < 1e-8
    return report


@pytest.fixture
def shown(monkeypatch):
    """What was displayed."""
    seen = []
    monkeypatch.setattr(IPython.display, "display", lambda data, **unused: seen.append(data))
    return seen


@pytest.mark.parametrize("where", ["notebook", "static", "headless"])
def test_the_curves_of_all_trials_and_their_table(monkeypatch, shown, where):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", where)
    report = rescued()
    figure, table = shown
    assert "Remedies, side by side" in figure["text/plain"]
    traces = figure[PLOTLY]["data"]
    remedies = [trial.remedy.what for trial in report.trials]
    assert len(remedies) >= 2
    assert {trace["name"] for trace in traces if trace.get("name")} >= set(remedies)
    assert "closure calls" in str(figure[PLOTLY]["layout"])
    for trial in report.trials:
        assert trial.remedy.what in table.data
        assert f"{trial.loss:.4g}" in table.data
    assert "helped: from" in table.data
    assert "<table" in table.data


def test_a_terminal_shows_nothing_and_the_report_says_it(monkeypatch, shown, capsys):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "terminal")
    report = rescued()
    assert shown == []
    assert capsys.readouterr().out == ""
    assert "helped: from" in repr(report)


def test_remedies_without_an_iteration_have_no_curve(monkeypatch, shown):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "notebook")
    report = rescued()
    shown.clear()
    show_rescue({"failed": History()}, report)
    (table,) = shown
    assert table.data == report.trials_html()


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
