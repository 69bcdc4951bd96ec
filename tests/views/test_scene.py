"""What a live view shows at one moment."""

import base64
from dataclasses import replace

import numpy as np
import pytest

from tests.views.histories import a_history, waves
from tests.views.shown import PLOTLY, points
from torchmin_nb.errors import ArgumentError
from torchmin_nb.views.scene import VIEW_SCALES, Scene


@pytest.mark.parametrize(
    ("choice", "known"),
    [({"x": "nfev"}, "closure calls"), ({"panels": ["radius"]}, "trust radius"), ({"scale": "ln"}, "loss - best")],
)
def test_unknown_choices_are_refused_with_those_that_are_known(choice, known):
    with pytest.raises(ArgumentError, match=f"'{known}'"):
        Scene({}, **choice)
    with pytest.raises(ArgumentError, match=f"'{known}'"):
        replace(Scene({}), **choice)


@pytest.mark.parametrize(
    ("panels", "expected"),
    [
        ("auto", ("loss - best", "gradient norm", "trust radius", "reduction ratio")),
        (("HVPs", "loss"), ("HVPs", "loss - best")),
        (("loss - best", "loss"), ("loss - best",)),
        ("HVPs", ("HVPs",)),
    ],
)
def test_the_scale_of_loss_minus_best_puts_it_into_the_loss_panel(panels, expected):
    scene = Scene({"a": a_history()}, panels=panels, scale="loss - best")
    assert scene.chosen() == expected
    assert scene.drawing().figure().layout.yaxis.type == ("linear" if expected[0] == "HVPs" else "log")


@pytest.mark.parametrize("scale", VIEW_SCALES)
def test_what_is_drawn_live_and_what_stays_show_the_same(scale):
    scene = Scene({"a": a_history(), "b": a_history("CG", 30)}, "a title", "seconds", scale=scale, height=1333)
    drawing = scene.drawing(500)
    look, figure = drawing.layout, scene.drawing().figure()
    assert len(drawing.traces) == len(figure.data)
    for trace, other in zip(drawing.traces, figure.data, strict=True):
        np.testing.assert_array_equal(trace["y"], other.y)
        assert (trace["yaxis"], trace["name"]) == (other.yaxis, other.name)
    assert look["height"] == figure.layout.height >= 1332
    assert look["title"]["text"] == figure.layout.title.text == "a title"
    assert look["xaxis"]["title"]["text"] == figure.layout.xaxis.title.text == "seconds"
    assert look["yaxis"]["type"] == figure.layout.yaxis.type


def test_the_live_form_is_thinned():
    trace, *_ = Scene({"a": waves(10_000)}).drawing(200).traces
    assert 150 < trace["x"].size <= 202


def test_its_bundle_has_words_and_a_picture_where_one_is_wanted():
    scene = Scene({"a": a_history()}, " · ".join(["twenty characters..."] * 6))
    assert "image/png" not in scene.bundle()
    data = scene.bundle(png=True)
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert len(data["text/plain"].split("\n")) == 2
    np.testing.assert_array_equal(points(data)[1], a_history().loss)


def test_the_zoom_of_the_live_panel_is_that_of_the_picture_that_stays():
    scene = Scene({"a": a_history()}, x="seconds", scale="linear")
    zoom = {"xaxis seconds": [1.0, 2.0], "yaxis2 linear": [0.1, 0.2]}
    zoom |= {"xaxis iteration": [3.0, 4.0], "yaxis log": [5.0, 6.0]}  # of other choices
    plain, zoomed = (scene.bundle(zoom=each)[PLOTLY]["layout"] for each in (None, zoom))
    assert (zoomed["xaxis"]["range"], zoomed["yaxis2"]["range"]) == ([1.0, 2.0], [0.1, 0.2])
    assert zoomed["xaxis"]["tickmode"] == "auto"
    assert zoomed["yaxis"] == plain["yaxis"]


def test_the_words_are_broken_as_they_are_read_and_not_as_they_are_written():
    title = " · ".join(["4.7 s", "finished: RELATIVE REDUCTION OF F <= FACTR*EPSMCH & " + "x" * 12])
    assert Scene({}, title).drawing().layout["title"]["text"] == title.replace("&", "&amp;").replace("<", "&lt;")
    assert "<i>" not in Scene({}, "Failed: <i>data</i>").drawing().layout["title"]["text"]
