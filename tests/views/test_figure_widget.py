"""The FigureWidget of the live views."""

import gc
import json
import weakref

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest

from torchmin_nb.views.explorer.figure_widget import FigureWidget


def test_it_opens_with_what_its_template_says_of_its_kinds_and_looks_the_same():
    widget, whole = FigureWidget("scatter"), go.FigureWidget()
    kept, full = (figure.to_dict()["layout"]["template"] for figure in (widget, whole))
    assert kept["data"] == {"scatter": full["data"]["scatter"]}
    assert kept["layout"]["xaxis"] == full["layout"]["xaxis"]
    assert len(json.dumps(kept)) < len(json.dumps(full)) / 5
    both = FigureWidget("scatter", "contour").to_dict()["layout"]["template"]
    assert set(both["data"]) == {"scatter", "contour"}
    assert both["layout"]["colorscale"] == full["layout"]["colorscale"]


@pytest.mark.parametrize("name", ["plotly_dark", "simple_white+presentation", "none", None])
def test_it_follows_the_template_in_use(name, monkeypatch):
    monkeypatch.setattr(pio.templates, "default", name)
    template = FigureWidget("scatter").to_dict()["layout"].get("template", {})
    wanted = go.Figure().to_dict()["layout"].get("template", {})
    assert template.get("layout", {}).get("font") == wanted.get("layout", {}).get("font")


def test_it_prints_in_a_line():
    widget = FigureWidget("scatter")
    widget.add_scatter(y=[1.0, 2.0])
    assert repr(widget) == "FigureWidget(1 trace)"
    widget.add_scatter(y=[1.0, 2.0])
    assert repr(widget) == "FigureWidget(2 traces)"


def test_a_closed_one_is_freed_with_its_data():
    widget = FigureWidget("scatter")
    widget.add_scatter(y=np.arange(1000.0))
    widget.close()
    gone = weakref.ref(widget)
    del widget
    gc.collect()
    assert gone() is None
