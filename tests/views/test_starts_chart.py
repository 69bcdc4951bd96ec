"""The end points of many starts, as numbers."""

import math

import numpy as np
import pytest
import torch

from torchmin_nb import History, MinimizeWrapper, MultiStart, Result, StartRun, multistart
from torchmin_nb.core.optimizers.multistart.result import Tolerances
from torchmin_nb.views import multistart_figure, multistart_picture
from torchmin_nb.views.palette import INK, RUNS
from torchmin_nb.views.starts_chart import multistart_chart


def made(losses, *, success=True):
    """Runs that ended at these losses, each at a point of its own for each loss."""
    runs = [
        StartRun(index, np.zeros(1), History("BFGS"), Result(x=np.array([loss]), fun=loss, success=success))
        for index, loss in enumerate(losses)
    ]
    return MultiStart(runs, Tolerances.of(1e-4, 1.0, [], None, 1), len(runs))


def test_runs_of_one_minimum_are_one_mark_and_the_best_is_first():
    chart = multistart_chart(made([3.0, 1.0, 3.0, 2.0]), "Title")
    assert [(mark.name, mark.x.tolist(), mark.y.tolist()) for mark in chart.layers] == [
        ("minimum 0 (1 run)", [1], [1]),
        ("minimum 1 (1 run)", [2], [2]),
        ("minimum 2 (2 runs)", [3, 4], [3, 3]),
    ]
    assert [mark.colour for mark in chart.layers] == list(RUNS[:3])
    assert chart.layers[0].texts == ("start 1: loss 1, minimum 0\n",)
    assert chart.title == "Title"
    assert chart.notes == ("4 starts: 3 distinct minima, best loss 1.",)


@pytest.mark.parametrize(
    ("losses", "log"),
    [([1.0, 2.0], False), ([1.0, 100.0], True), ([-1.0, 100.0], False), ([0.0, 1e9], False), ([], False)],
)
def test_a_logarithmic_axis(losses, log):
    assert multistart_chart(made(losses)).y.log == log


def test_many_minima_share_a_colour_and_failures_are_left_out():
    chart = multistart_chart(made([float(loss) for loss in range(12)]))
    assert [mark.name for mark in chart.layers][-2:] == ["minimum 5 (1 run)", "other minima (6 runs)"]
    assert chart.layers[-1].colour == INK
    (mark,) = multistart_chart(made([1.0, 2.0], success=False)).layers
    assert mark.name == "without success (2 runs)"
    assert multistart_chart(made([math.nan])).layers == ()


def test_plotly_and_matplotlib_draw_it():
    x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    found = multistart(MinimizeWrapper([x], "BFGS"), lambda: ((x**2 - 1) ** 2).sum(), [[-2.0], [0.5], [3.0]])
    figure, picture = multistart_figure(found, title="Two"), multistart_picture(found, title="Two")
    assert [trace.name for trace in figure.data] == [line.get_label() for line in picture.axes[0].lines]
    assert len(figure.data) == len(found.minima) == 2
