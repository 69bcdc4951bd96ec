"""What a saved notebook keeps of a figure."""

import base64
import json
import sys

import plotly.graph_objects as go
import pytest

from tests.views.histories import a_history
from tests.views.shown import PLOTLY, Cell
from torchmin_nb import History
from torchmin_nb.views import show
from torchmin_nb.views.bundle import bundle, picture
from torchmin_nb.views.figures import convergence_figure, drawing


def bundled(history, png=None, title="first\nsecond"):
    return bundle(convergence_figure(history, title=title), title, png)


def test_it_holds_a_figure_a_picture_and_text():
    data = bundled(a_history(), picture(drawing(a_history())))
    assert set(data) == {PLOTLY, "image/png", "text/plain"}
    assert data["text/plain"] == "first\nsecond"
    assert base64.b64decode(data["image/png"], validate=True).startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data[PLOTLY]["data"]) == 5
    json.dumps(data, allow_nan=False)


def test_it_carries_the_templates_looks_of_its_own_traces_only():
    figure = convergence_figure(a_history())
    whole, slim = json.loads(figure.to_json()), bundle(figure, "")[PLOTLY]
    full, kept = whole["layout"].pop("template"), slim["layout"].pop("template")
    assert slim == whole
    assert kept["data"] == {"scatter": full["data"]["scatter"]}
    assert full["layout"].items() >= kept["layout"].items()
    assert {"xaxis", "yaxis", "font", "hoverlabel", "colorway"} <= set(kept["layout"])
    assert len(json.dumps(kept)) < len(json.dumps(full)) / 5


def test_it_carries_colour_scales_where_there_are_colours():
    figure = go.Figure(go.Heatmap(z=[[0.0, 1.0]]))
    template = bundle(figure, "")[PLOTLY]["layout"]["template"]
    assert set(template["data"]) == {"heatmap"}
    assert (
        template["layout"]["colorscale"] == json.loads(figure.to_json())["layout"]["template"]["layout"]["colorscale"]
    )


def test_the_picture_is_left_out_where_a_browser_makes_its_own():
    assert set(bundled(a_history())) == {PLOTLY, "text/plain"}


def test_without_matplotlib_there_is_no_picture(monkeypatch):
    monkeypatch.delitem(sys.modules, "torchmin_nb.views.picture", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert picture(drawing(a_history())) is None


@pytest.mark.parametrize("histories", [a_history(), History("CG"), {}, {"a": a_history(), "b": a_history("CG")}])
@pytest.mark.parametrize("where", ["notebook", "static", "headless"])
def test_show_displays_the_bundle_of_this_front_end(monkeypatch, histories, where):
    cell = Cell()
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", where)
    monkeypatch.setattr("IPython.display.display", cell.display)
    show(histories, x="seconds", panels=["loss", "HVPs"], title="a title")
    (data,) = cell.shown
    assert ("image/png" in data) == (where == "headless")
    assert data["text/plain"] == "a title"
    look = data[PLOTLY]["layout"]
    assert look["xaxis"]["title"]["text"] == "seconds"
    assert {note["name"]: note["text"] for note in look["annotations"] if note.get("name")} == {
        "loss": "<b>loss</b>", "HVPs": "<b>HVPs</b>"
    }  # fmt: skip


def test_show_prints_a_line_a_run_in_a_terminal(capsys):
    show({"a": a_history(), "b": a_history("CG"), "c": History("BFGS")}, title="three runs")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "three runs"
    assert [line.split(":")[0] for line in lines[1:]] == ["trust-ncg", "CG", "BFGS"]
