"""A chart as the picture of the explorer's panel."""

import numpy as np
import pytest

from torchmin_nb.views import Axis, Chart
from torchmin_nb.views.chart import Contours, Mark
from torchmin_nb.views.explorer.canvas import compact, sketch_of
from torchmin_nb.views.explorer.stage import blank


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, 2.0, 50.0], np.int32),
        ([0.5, 2.0], np.float32),
        ([0.5, np.nan], np.float32),
        ([1e-50], np.float64),
        ([1e300], np.float64),
        ([2.0**40], np.float32),
    ],
)
def test_numbers_are_as_short_as_they_can_be(values, kind):
    short = compact(np.array(values))
    assert short.dtype == kind
    np.testing.assert_allclose(short, values, rtol=1e-6)


def test_a_chart_keeps_its_layers_and_leaves_its_title_to_the_panel():
    grid = np.linspace(0, 1, 4)
    loss = np.add.outer(grid, grid)
    contours = Contours(grid, grid, loss, np.array([0.5, 1.0]), ("0.5", "1"), "loss", loss)
    sketch = sketch_of(Chart((contours, Mark(grid, grid, "a")), Axis("x"), Axis("y"), "Title"), name="it", height=400)
    assert [trace["type"] for trace in sketch.traces] == ["contour", "scatter"]
    assert sketch.traces[0]["z"].dtype == np.float32
    assert sketch.traces[0]["colorbar"]["orientation"] == "v"
    assert sketch.layout["height"] == 400
    assert sketch.layout["uirevision"] == sketch.name == "it"
    assert sketch.layout["annotations"] == []
    assert sketch.hint == ""


def test_what_cannot_be_drawn_is_words_without_axes():
    sketch = sketch_of(blank("there is no <run>"), name="it", height=400)
    assert (sketch.hint, sketch.traces, sketch.layout) == ("there is no <run>", (), {"height": 400})
