"""Marks: one decision on colours, dashes and symbols, which three ways of drawing follow."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tests.views.histories import a_history
from torchmin_nb.views.figures import drawing
from torchmin_nb.views.marks import LANE, marks
from torchmin_nb.views.palette import WARNING, style
from torchmin_nb.views.panels import RATIO, REJECTED, convergence_data
from torchmin_nb.views.picture import png
from torchmin_nb.views.vector_picture import svg

PANELS = ["loss", "trust radius", "reduction ratio", "metrics"]
METRICS = list("pqrstu")  # the last two share a panel


def drawn(histories):
    return [(curve, mark) for _, curve, mark in marks(convergence_data(histories, panels=PANELS))]


def test_of_one_run_the_shared_metrics_differ_in_colour_and_of_several_the_runs_do():
    one = [mark for curve, mark in drawn(a_history(metrics=METRICS)) if curve.label]
    assert [mark.colour for mark in one] == [style(0)[0], style(1)[0]]
    both = drawn({name: a_history(metrics=METRICS) for name in "ab"})
    named = [mark for curve, mark in both if curve.label]
    assert [mark.colour for mark in named] == [style(0)[0]] * 2 + [style(1)[0]] * 2
    assert [mark.dash for mark in named] == [style(0)[1], style(1)[1]] * 2


def test_ratios_stay_in_their_lane_and_rejected_steps_are_warnings():
    history = a_history(ended=False)
    history.append(replace(history[-1], reduction_ratio=1e9))
    looks = {curve.kind: mark for curve, mark in drawn(history)}
    low, high = LANE.range
    assert (looks[RATIO].y > low).all()
    assert (looks[RATIO].y < high).all()
    assert (looks[REJECTED].colour, looks[REJECTED].dash, looks[REJECTED].marker) == (WARNING, "", "x")


def of_plotly(picture):
    return {trace["line"]["color"] for trace in picture.traces if "line" in trace}


def of_svg(picture):
    return {line.get("stroke") for line in ElementTree.fromstring(svg(picture, "")).iter("polyline")}


@pytest.fixture
def of_matplotlib(monkeypatch):
    made = []
    monkeypatch.setattr("torchmin_nb.views.picture.small_png", lambda figure, dpi: made.append(figure) or b"")

    def colours(picture):
        png(picture.runs, picture.panels)
        (figure,) = made
        assert isinstance(figure, Figure)
        lines = [line for axis in figure.axes for line in axis.lines if len(line.get_xdata()) > 2]
        return {to_hex(line.get_color()).upper() for line in lines if line.get_linestyle() != "None"}

    return colours


@pytest.mark.parametrize("names", ["a", "ab"])
def test_plotly_matplotlib_and_svg_have_the_same_colours(of_matplotlib, names):
    picture = drawing({name: a_history(metrics=METRICS) for name in names}, panels=PANELS)
    wanted = {mark.colour for _, _, mark in marks(picture.runs) if mark.dash}
    assert of_plotly(picture) == of_svg(picture) == of_matplotlib(picture) == wanted
    assert len(wanted) == 2
