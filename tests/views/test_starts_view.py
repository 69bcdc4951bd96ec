"""StartsView: many starts as they arrive."""

import pytest
import torch

from tests.views.shown import PLOTLY
from torchmin_nb import MinimizeWrapper, multistart
from torchmin_nb.errors import ArgumentError
from torchmin_nb.views import StartsView
from torchmin_nb.views.live_panel.widget import PanelWidget

GRID = [[a, b] for a in (-4.0, 0.0, 4.0) for b in (-4.0, 4.0)]


def himmelblau():
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = MinimizeWrapper([x], "BFGS")
    return optimizer, lambda: (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2 + x.sum() + 30


class Looking(StartsView):
    """A view whose clock ticks after each run, and which notes what the panel then shows."""

    def __init__(self, cell, **options):
        super().__init__(**options)
        self.cell, self.headers, self.legends = cell, [], []

    def __call__(self, run, found):
        super().__call__(run, found)
        for ticker in self.cell.tickers:
            ticker.tick.__self__._pace.at_once()
        self.cell.tick()
        whole = self.cell.shown[0].whole()
        self.headers.append(whole["header"])
        self.legends.append([row["group"] for row in whole["legend"]])


def facts(header):
    return dict(header["facts"])


def test_the_panel_follows_the_runs_and_leaves_its_picture(cell):
    view = Looking(cell, runs=3)
    found = multistart(*himmelblau(), GRID, on_result=view)
    assert isinstance(cell.shown[0], PanelWidget)
    assert [facts(header)["starts"] for header in view.headers] == [f"{done} / 6" for done in range(1, 7)]
    assert view.legends[0] == [view.legends[0][0], "place 2", "place 3"]
    assert {len(legend) for legend in view.legends} == {3}  # so that nothing moves
    assert view.legends[-1] == [run.name for run in found[:3]]
    assert {header["badge"] for header in view.headers} == {"running"}
    assert facts(view.headers[-1])["distinct minima"] == str(len(found.minima))
    assert not cell.ticking
    data = [cell.at(place) for place in range(len(cell.shown))]
    (figure,) = [each for each in data if isinstance(each, dict) and PLOTLY in each]
    assert len(figure[PLOTLY]["data"]) == 3
    assert f"6 starts: {len(found.minima)} distinct minima" in str(figure)


@pytest.mark.parametrize("front_end", ["static", "headless"])
def test_front_ends_without_widgets_have_its_picture(cell, monkeypatch, front_end):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", front_end)
    multistart(*himmelblau(), GRID[:3], on_result=StartsView())
    assert not any(isinstance(shown, PanelWidget) for shown in cell.shown)
    assert "3 starts: " in str([cell.at(place) for place in range(len(cell.shown))])


def test_an_early_end_is_told(cell):
    found = multistart(*himmelblau(), GRID, max_seconds=1e-9, on_result=StartsView())
    assert len(found) == 0
    assert "the time (max_seconds) was over" in str([cell.at(place) for place in range(len(cell.shown))])


def test_a_terminal_has_a_line_for_each_run(monkeypatch, capsys):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "terminal")
    multistart(*himmelblau(), GRID[:2], on_result=StartsView())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("start 0: loss ")
    assert ", 1 of 2 starts: 1 distinct minimum" in lines[0]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(x="hours"), "'hours' is not known"),
        (dict(runs=0), "runs must be a positive integer"),
        (dict(scale="x"), "scale"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        StartsView(**options)
