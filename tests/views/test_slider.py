"""Charts behind a slider: which traces each step shows, what is stored once, and what remains without a browser."""

import numpy as np
import pytest

from torchmin_nb.errors import ArgumentError
from torchmin_nb.views import Axis, Chart, Mark, show_slider, slider_figure

COMMON = Mark(np.arange(3.0), np.zeros(3), "ground")


def _charts():
    lines = {str(a): Mark(np.arange(3.0), a * np.arange(3.0), "line") for a in (1, 2, 3)}
    return {name: Chart((COMMON, line), Axis("x"), Axis("y"), "A slope") for name, line in lines.items()}


def test_each_step_shows_its_own_chart_and_what_all_have():
    figure = slider_figure(_charts(), "slope", start="2")
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["1", "2", "3"]
    for step, slope in zip(slider.steps, (1, 2, 3), strict=True):
        seen = [trace for trace, visible in zip(figure.data, step.args[0]["visible"], strict=True) if visible]
        assert [trace.name for trace in seen] == ["ground", "line"]
        assert seen[1].y.tolist() == [0, slope, 2 * slope]


def test_a_common_layer_is_stored_once_and_the_start_is_visible():
    figure = slider_figure(_charts(), "slope", start="2")
    assert len(figure.data) == 4
    assert [trace.visible for trace in figure.data] == [True, False, True, False]
    assert figure.layout.sliders[0].active == 1


@pytest.mark.parametrize(("charts", "start"), [({}, None), (_charts(), "4")])
def test_a_start_that_is_not_there(charts, start):
    with pytest.raises(ArgumentError, match="choose one of"):
        slider_figure(charts, "slope", start=start)


def test_without_a_browser_there_is_a_picture(monkeypatch):
    shown = []
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "headless")
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    show_slider(_charts(), "slope", start="3", alt="A line")
    (data,) = shown
    assert {"image/png", "application/vnd.plotly.v1+json"} <= set(data)
    assert data["text/plain"] == "A line"
    assert data["application/vnd.plotly.v1+json"]["layout"]["sliders"][0]["active"] == 2
