"""The picture as SVG: where its curves, marks and words are."""

from xml.etree import ElementTree

import numpy as np
import pytest

from tests.views.histories import a_history, waves
from torchmin_nb.views.figures import drawing
from torchmin_nb.views.scene import Scene
from torchmin_nb.views.vector_picture import svg


def parsed(histories, title="a run", **choices):
    return ElementTree.fromstring(svg(drawing(histories, **choices), title))


def words(picture):
    return [text.text for text in picture.iter("text")]


def curves(picture):
    """Pixels of each curve, arrays (k, 2)."""
    return [
        np.array([pair.split(",") for pair in line.get("points").split()], dtype=float).reshape(-1, 2)
        for line in picture.iter("polyline")
    ]


def ticks(picture):
    """The labels left of the panels, with their heights."""
    return [(text.text, float(text.get("y")) - 4) for text in picture.iter("text") if text.get("text-anchor") == "end"]


def test_curves_are_where_their_axes_say():
    picture = parsed({"run": a_history(length=20, ended=False)})
    loss, gradient, radius = curves(picture)
    assert len(loss) == len(gradient) == len(radius) == 20
    heights = dict(reversed(ticks(picture)))  # of the first panel, where labels are the same
    # Halved each iteration: evenly downwards on a log axis, at the labels' places.
    np.testing.assert_allclose(np.diff(loss[:, 1]), np.diff(loss[:, 1]).mean(), atol=0.11)
    assert loss[0, 1] == pytest.approx(heights["1"], abs=0.1)
    np.testing.assert_allclose(np.diff(loss[:, 0]), np.diff(loss[:, 0]).mean(), atol=0.11)


def test_on_a_linear_axis():
    picture = parsed({"run": a_history(length=20, ended=False)}, scale="linear", panels=["trust radius"])
    (radius,) = curves(picture)
    np.testing.assert_allclose(np.diff(radius[:, 1]), np.diff(radius[:, 1]).mean(), atol=0.11)


def test_every_panel_has_its_title_and_three_labels():
    picture = parsed({"run": a_history(metrics=["bias"])})
    titles = ("loss", "gradient norm", "trust radius", "reduction ratio", "bias")
    assert all(any(text.startswith(f"{title}  ") for text in words(picture)) for title in titles)
    assert len(ticks(picture)) >= 3 * len(titles)
    assert "iteration" in words(picture)


def test_rejected_steps_are_crossed_and_ratios_are_dashes():
    paths = [path.get("d").count("M") for path in parsed({"run": a_history(length=20)}).iter("path")]
    assert paths == [5, 19]


def test_several_runs_are_named_and_differ_in_colour_and_dash():
    histories = {"a": a_history(), "<b>": a_history("CG", radius=False)}
    picture = parsed(histories, panels=["loss"])
    lines = [(line.get("stroke"), line.get("stroke-dasharray")) for line in picture.iter("polyline")]
    assert len(set(lines)) == 2
    assert {"a", "<b>"} <= set(words(picture))


def test_what_a_method_does_not_report_is_said():
    picture = parsed({"run": a_history("CG", radius=False)}, panels=["trust radius"])
    assert "no trust region in run:" in words(picture)
    assert curves(picture) == [pytest.approx(np.empty((0, 2)))]


def test_before_the_first_iteration_there_is_an_empty_frame():
    assert all(not curve.size for curve in curves(parsed({"run": a_history(length=0, ended=False)})))


def test_a_scene_of_a_long_run_is_small():
    data = Scene({"run": waves(100_000)}, title="CG · running · <i>").sketch()
    assert len(data["text/html"]) < 25_000
    assert "&lt;i&gt;" in data["text/html"]
    assert data["text/plain"] == "CG · running · <i>"
