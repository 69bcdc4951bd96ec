"""What a saved notebook keeps of a figure."""

import base64
import json
import sys

import pytest

from tests.views.histories import a_history
from torchmin_nb import History
from torchmin_nb.views import bundle as bundles
from torchmin_nb.views import show
from torchmin_nb.views.bundle import bundle
from torchmin_nb.views.figures import convergence_data, convergence_figure

PLOTLY = "application/vnd.plotly.v1+json"


def bundled(history, *, png, title="first<br>second"):
    return bundle(convergence_data(history), convergence_figure(history, title=title), title, png=png)


def test_it_holds_a_figure_a_picture_and_text():
    data = bundled(a_history(), png=True)
    assert set(data) == {PLOTLY, "image/png", "text/plain"}
    assert data["text/plain"] == "first\nsecond"
    assert base64.b64decode(data["image/png"], validate=True).startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data[PLOTLY]["data"]) == 5
    json.dumps(data, allow_nan=False)


def test_the_picture_is_left_out_where_a_browser_makes_its_own():
    assert set(bundled(a_history(), png=False)) == {PLOTLY, "text/plain"}


def test_without_matplotlib_there_is_no_picture(monkeypatch):
    monkeypatch.delitem(sys.modules, "torchmin_nb.views.picture", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert set(bundled(a_history(), png=True)) == {PLOTLY, "text/plain"}


@pytest.mark.parametrize("histories", [a_history(), History("CG"), {}, {"a": a_history(), "b": a_history("CG")}])
@pytest.mark.parametrize("where", ["notebook", "headless"])
def test_show_displays_the_bundle_of_this_front_end(monkeypatch, histories, where):
    shown = []
    monkeypatch.setattr(bundles, "front_end", lambda: where)
    monkeypatch.setattr("IPython.display.display", lambda *objects, **how: shown.append((objects, how)))
    show(histories, x="seconds", title="a title")
    (((data,), how),) = shown
    assert how == {"raw": True}
    assert ("image/png" in data) == (where == "headless")
    assert data["text/plain"] == "a title"
    assert data[PLOTLY]["layout"]["xaxis"]["title"]["text"] == "seconds"


def test_show_prints_a_line_a_run_in_a_terminal(capsys):
    show({"a": a_history(), "b": a_history("CG"), "c": History("BFGS")}, title="three runs")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "three runs"
    assert [line.split(":")[0] for line in lines[1:]] == ["trust-ncg", "CG", "BFGS"]
