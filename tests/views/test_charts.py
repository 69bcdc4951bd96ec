"""Every chart, drawn by Plotly and by matplotlib: complete, transparent, labelled and within its width."""

import html
import io
import json
import re

import matplotlib.image
import numpy as np
import pytest
import torch

from tests.analysis.runs import a_run, rosenbrock
from torchmin_nb import Constraint, History, MinimizeWrapper, curve_fit, multistart, spectrum
from torchmin_nb.analysis import (
    cost_table,
    data_profile,
    landscape_data,
    order_data,
    performance_profile,
    plane_landscape,
    step_data,
    trajectory_plane,
)
from torchmin_nb.errors import ArgumentError
from torchmin_nb.views import (
    bands_figure,
    bands_picture,
    landscape_figure,
    landscape_picture,
    order_figure,
    order_picture,
    profile_figure,
    profile_picture,
    spectrum_figure,
    spectrum_picture,
    step_figure,
    step_picture,
)
from torchmin_nb.views.bands_chart import bands_chart
from torchmin_nb.views.chart import Axis, Chart, Contours, Mark, Region
from torchmin_nb.views.chart_figure import chart_figure
from torchmin_nb.views.chart_picture import chart_picture
from torchmin_nb.views.landscape import landscape_chart, level_labels
from torchmin_nb.views.order_chart import order_chart
from torchmin_nb.views.palette import HIDDEN_BUTTONS, INK
from torchmin_nb.views.profile_chart import profile_chart
from torchmin_nb.views.spectrum_chart import spectrum_chart
from torchmin_nb.views.starts_chart import multistart_chart
from torchmin_nb.views.step_chart import step_chart

WINDOW = ((-2.0, 2.0), (-1.0, 3.0))
RUNS = {name: a_run(name) for name in ("trust-exact", "BFGS", "Nelder-Mead")}
TABLE = cost_table({"p": RUNS, "q": {name: a_run(name, start=(2.0, 2.0)) for name in RUNS}})
REJECTED = next(it.index for it in RUNS["trust-exact"] if it.accepted is False) - 1


def _plane():
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0, 0.5], dtype=torch.float64))
    rosen = lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()  # noqa: E731
    history = a_run("BFGS", rosen, (-1.2, 1.0, 0.5))
    return plane_landscape(lambda: rosen(x), [x], trajectory_plane(history), history, resolution=9)


def _landscape(function=rosenbrock, histories=None, **options):
    return landscape_chart(landscape_data(function, histories, resolution=41, **options), "A title")


def _step(method, k):
    return step_chart(step_data(rosenbrock, RUNS[method], k), method, rosenbrock)


def _starts():
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = MinimizeWrapper([{"params": [x], "bounds": (-6, 6)}], "L-BFGS-B")
    return multistart(optimizer, lambda: (x - 5 * torch.sin(2 * x)).square().sum() + x[0] + 7, 40, rng=0)


def _spectrum(**options):
    x = torch.nn.Parameter(torch.zeros(40, dtype=torch.float64))
    return spectrum(lambda: (torch.linspace(-1, 4, 40) * x**2).sum() / 2, [("layer", x)], **options)


def _bands(x=(3.0, 0.0, 1.0, 2.0), **options):
    t = torch.linspace(0, 4, 30, dtype=torch.float64)
    fit = curve_fit(lambda t, a, rate: a * torch.exp(-rate * t), t, torch.exp(-t) + 0.1 * torch.cos(40 * t))
    return fit.bands(list(x), **options)


CHARTS = {
    "runs": lambda: _landscape(histories=RUNS, minimizers=[(1, 1)], trials=True),
    "region": lambda: _landscape(histories=RUNS["trust-exact"], up_to=6),
    "limits": lambda: _landscape(
        bounds=(-1, np.inf), constraints=Constraint(lambda x: x.sum(), upper=1), window=WINDOW
    ),
    "equality": lambda: _landscape(constraints=Constraint(lambda x: x.sum(), 1, 1), window=WINDOW),
    "always feasible": lambda: _landscape(constraints=lambda x: 1 + (x**2).sum(-1), window=WINDOW),
    "with NaN": lambda: _landscape(lambda x: torch.log(x[..., 0]), window=WINDOW),
    "flat": lambda: _landscape(lambda x: 0 * x[..., 0], window=WINDOW),
    "nowhere finite": lambda: _landscape(lambda x: torch.nan * x[..., 0], window=WINDOW),
    "not begun": lambda: _landscape(histories=History("BFGS", keep_parameters=True), window=WINDOW),
    "uneven window": lambda: _landscape(window=((-2, 2), (0, 100))),
    "plane": lambda: landscape_chart(_plane()),
    "line search": lambda: _step("BFGS", 0),
    "trust region": lambda: _step("trust-exact", 8),
    "rejected": lambda: _step("trust-exact", REJECTED),
    "simplex": lambda: _step("Nelder-Mead", 5),
    "order": lambda: order_chart(order_data(RUNS, minimizer=(1, 1)), "Order"),
    "order by loss": lambda: order_chart(order_data(RUNS, best_loss=0.0)),
    "no order": lambda: order_chart(order_data(History("BFGS", keep_parameters=True), minimizer=(1, 1))),
    "performance": lambda: profile_chart(performance_profile(TABLE), "Profiles"),
    "data": lambda: profile_chart(data_profile(TABLE, {"p": 2, "q": 2})),
    "starts": lambda: multistart_chart(_starts(), "Starts"),
    "spectrum": lambda: spectrum_chart(_spectrum(), "Spectrum"),
    "bands": lambda: bands_chart(_bands(), ([0.0, 1.0], [1.0, 0.5]), "Bands"),
    "odd text": lambda: Chart(
        (Mark(np.arange(3.0), np.arange(3.0), "$a_{ <b>"),),
        Axis("100 % · x²"),
        Axis("$^{"),
        "a very long title " * 12,
        ("note " * 60,),
    ),
}


@pytest.fixture(scope="module", params=CHARTS)
def chart(request):
    return CHARTS[request.param]()


def _drawn(chart):
    return [layer for layer in chart.layers if isinstance(layer, Mark | Contours | Region)]


def test_plotly_draws_every_layer(chart):
    figure = chart_figure(chart)
    assert len(figure.data) == len(_drawn(chart))
    stored = json.loads(figure.to_json())
    for trace, layer in zip(stored["data"], chart.layers, strict=True):
        assert trace["type"] == ("scatter" if isinstance(layer, Mark) else "contour")
        if isinstance(layer, Mark):
            assert html.unescape(trace["name"]) == layer.name
            assert not layer.texts or len(trace["text"]) == len(layer.x)


def test_plotly_is_transparent_labelled_and_legible(chart):
    layout = chart_figure(chart).layout
    assert layout.modebar.remove == HIDDEN_BUTTONS
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert layout.font.color == INK
    assert layout.xaxis.title.text == chart.x.title != ""
    assert html.unescape(layout.yaxis.title.text) == chart.y.title != ""
    assert layout.width is None
    assert bool(layout.yaxis.scaleanchor) == chart.square


def test_the_heading_fits_600_px(chart):
    figure = chart_figure(chart)
    heading = "".join(annotation.text for annotation in figure.layout.annotations)
    lines = [html.unescape(re.sub("<span[^>]*>|</span>", "", line)) for line in heading.split("<br>")]
    assert max(map(len, lines)) <= 86
    words = " ".join([chart.title, *chart.notes]).split()
    assert " ".join(lines).split() == words
    assert figure.layout.margin.t >= 18 * len([line for line in lines if line])


def test_matplotlib_draws_it_on_a_transparent_ground(chart):
    picture = chart_picture(chart)
    pixels = matplotlib.image.imread(io.BytesIO(picture._repr_png_()))
    assert pixels.shape == (540, 720, 4)
    assert pixels[0, -1, 3] == 0
    assert pixels[..., 3].max() > 0.9
    axes = picture.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (chart.x.title, chart.y.title)
    named = {layer.name for layer in chart.layers if not isinstance(layer, Contours) and layer.name}
    shown = {text.get_text() for legend in picture.legends for text in legend.get_texts()}
    assert shown == named


def test_matplotlib_counts_in_whole_numbers():
    x, y = np.array([2.0, 3.0, 5.0]), np.array([2500.0, 5000.5, 15000.0])
    chart = Chart((Mark(x, y, "calls", INK),), Axis("variables"), Axis("calls", log=True))
    axes = chart_picture(chart).axes[0]
    assert all(tick == round(tick) for tick in axes.get_xticks())
    texts = [label.get_text() for label in axes.get_yticklabels() if label.get_text()]
    assert "5000" in texts
    assert not any(label.get_text() for label in axes.get_yticklabels(minor=True))


@pytest.mark.parametrize(("floor", "title"), [(1e-6, "loss"), (0.5, "loss above 0.5")])
def test_a_floor_too_low_to_be_seen_is_not_named(floor, title):
    chart = _landscape(lambda x: floor + x.square().sum(-1), log=True, minimizers=[(0, 0)])
    assert chart.contours()[0].title == title


@pytest.mark.parametrize(("values", "written"), [([18.0, 430.0], True), ([1e-9, 1e-8], False), ([1.0, 1e5], False)])
def test_a_few_decades_are_labelled_with_plain_numbers(values, written):
    chart = Chart((Mark(np.arange(2.0), np.array(values), "calls", INK),), Axis("x"), Axis("calls", log=True))
    picture = chart_picture(chart)
    picture.draw_without_rendering()
    axis = picture.axes[0].yaxis
    major, minor = ([tick.label1.get_text() for tick in ticks] for ticks in (axis.majorTicks, axis.minorTicks))
    assert ({"20", "50", "100", "200"} <= set(major)) == written
    assert not written or not any(minor)


def test_curves_of_several_runs_differ_in_more_than_colour():
    chart = CHARTS["runs"]()
    lines = [chart.marks(name)[0] for name in RUNS]
    assert len({line.colour for line in lines}) == len({line.dash for line in lines}) == 3
    assert chart.marks("known minimum")[0].marker == "star"
    assert {"start", "end", "rejected trial"} <= {layer.name for layer in chart.layers if isinstance(layer, Mark)}


def test_the_trust_region_is_round_on_the_screen():
    chart = CHARTS["region"]()
    assert chart.square
    assert chart.marks("trust region · trust-exact")[0].x.size > 50
    assert chart.marks("iterate")
    assert not CHARTS["uneven window"]().square


def test_levels_are_labelled_with_losses():
    landscape = landscape_data(lambda x: (x**2).sum(-1), window=((-300, 301), (-300, 301)), log=True, best_loss=0)
    labels = level_labels(landscape.levels)
    assert len(labels) == len(landscape.levels.height)
    assert "10000" in labels or "10⁴" in labels
    for label, loss in zip(labels, landscape.levels.loss, strict=True):
        if label and "⁴" not in label and "⁵" not in label:
            assert float(label) == pytest.approx(loss)


def test_a_trial_far_above_is_at_the_edge():
    chart = CHARTS["line search"]()
    (mark,) = chart.marks("trial far above")
    low, high = chart.y.range
    assert (mark.y < high).all()
    assert (mark.y > low).all()
    assert float(mark.texts[0].rsplit(" ", 1)[1]) > high


def test_where_the_newton_point_is_not_drawn_the_words_say_so():
    chart = CHARTS["rejected"]()
    assert not chart.marks("Newton point")
    assert any("Newton point is outside the figure" in note for note in chart.notes)
    assert chart.marks("step tried, rejected")
    assert CHARTS["trust region"]().marks("Newton point")


def test_a_simplex_of_three_dimensions_is_not_drawn():
    history = a_run("Nelder-Mead", lambda x: (x**2).sum(-1), (1.0, 2.0, 3.0))
    with pytest.raises(ArgumentError, match="3 dimensions"):
        step_figure(lambda x: (x**2).sum(-1), history, 0)


def test_the_public_functions_draw_the_same_chart():
    assert len(landscape_figure(rosenbrock, RUNS, window=WINDOW).data) == len(_landscape(histories=RUNS).layers)
    assert len(step_figure(rosenbrock, RUNS["BFGS"], 0).data) == len(CHARTS["line search"]().layers)
    assert len(order_figure(RUNS, minimizer=(1, 1)).data) == len(CHARTS["order"]().layers)
    assert len(profile_figure(performance_profile(TABLE)).data) == 3
    for picture in (
        landscape_picture(landscape_data(rosenbrock, RUNS)),
        step_picture(rosenbrock, RUNS["trust-exact"], 2),
        order_picture(RUNS, best_loss=0.0),
        profile_picture(performance_profile(TABLE)),
    ):
        assert picture._repr_png_().startswith(b"\x89PNG")


def test_a_spectrum_is_drawn_as_it_is():
    found = _spectrum(k=2)
    chart = spectrum_chart(found)
    assert re.fullmatch(r"40 eigenvalues, \d+\.\d% of them negative; density from 10 random vectors", chart.notes[0])
    curve = chart.marks("density of all eigenvalues")[0]
    assert chart.y.log
    assert (curve.y >= chart.y.range[0]).all()
    drawn = curve.y > chart.y.range[0]
    np.testing.assert_array_equal(curve.y[drawn], found.density.values[drawn])
    extremes = chart.marks("lowest and highest, one each")[0]
    np.testing.assert_array_equal(extremes.x, found.values)
    assert "layer 100%" in extremes.texts[0]
    for draw in (spectrum_figure, spectrum_picture):
        with pytest.raises(ArgumentError, match="density=True"):
            draw(_spectrum(density=False))


def test_bands_are_drawn_in_the_order_of_x():
    bands = _bands()
    chart = bands_chart(bands, ([0.0, 1.0], [1.0, 0.5]))
    line = chart.marks("prediction")[0]
    assert line.x.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(line.y, bands.value[[1, 2, 3, 0]])
    area = chart.marks("95 % confidence band")[0]
    assert area.x.tolist() == [0, 1, 2, 3, 3, 2, 1, 0]
    np.testing.assert_array_equal(area.y[:4], bands.low[[1, 2, 3, 0]])
    np.testing.assert_array_equal(area.y[:3:-1], bands.high[[1, 2, 3, 0]])
    assert chart.marks("95 % of new data")
    assert not bands_chart(_bands(level=0.5)).marks("data")
    assert bands_chart(_bands(level=0.5)).marks("50 % of new data")


def test_bands_that_cannot_be_drawn():
    t = torch.linspace(0, 4, 30, dtype=torch.float64)
    fit = curve_fit(lambda x, a, b: a * x[0] + b * x[1], (t, t**2), t)
    for draw in (bands_figure, bands_picture):
        with pytest.raises(ArgumentError, match="only a prediction of one number x"):
            draw(fit.bands((t, t**2)))
        with pytest.raises(ArgumentError, match="2 x and 1 y"):
            draw(_bands(), ([1.0, 2.0], [1.0]))
