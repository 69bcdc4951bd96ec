"""The draw step of the convergence figure."""

import json
import re

import numpy as np
import pytest

from tests.views.histories import a_history, waves
from torchmin_nb import History, Iteration
from torchmin_nb.errors import ArgumentError
from torchmin_nb.views.figures import convergence_figure, layout, traces, wrapped
from torchmin_nb.views.palette import HIDDEN_BUTTONS
from torchmin_nb.views.panels import PANELS, chosen_panels, convergence_data

AUTO = ["y", "y2", "y3", "y3", "y4"]
"""The y axes of loss, gradient norm, trust radius, rejected steps and reduction ratio."""


def titles(figure):
    """What stands above the panels, from top to bottom."""
    texts = [note.text for note in figure.layout.annotations]
    return [re.search("<b>(.*?)</b>", text)[1] for text in texts if text.startswith("<b>")]


def missing(figure):
    """The notes on empty panels."""
    return [note for note in figure.layout.annotations if note.name == "missing"]


def test_every_axis_is_labelled():
    figure = convergence_figure(a_history(), x="seconds")
    assert figure.layout.xaxis.title.text == "seconds"
    assert titles(figure) == ["loss", "gradient norm", "trust radius", "reduction ratio"]


CONSTRAINED = ("constraint violation", "KKT residual")
"""Panels of runs with constraints or bounds."""


@pytest.mark.parametrize("panel", PANELS)
def test_each_panel_has_its_label_and_its_curve(panel):
    figure = convergence_figure(a_history(metrics=["bias"]), panels=panel)
    assert titles(figure) == ["bias" if panel == "metrics" else PANELS[panel].title]
    assert figure.data[0].y.size or panel in CONSTRAINED
    assert "yaxis2" not in figure.layout or figure.layout.yaxis2.domain is None


def test_a_metric_with_a_long_name_is_cut_where_it_shows():
    assert titles(convergence_figure(a_history(metrics=["m" * 90]), panels="metrics")) == ["m" * 47 + "…"]


def test_each_panel_is_high_enough_to_be_read():
    for height in (None, 100, 2000):
        look = convergence_figure(a_history(metrics="pqrstuv"), height=height).layout
        inside = look.height - look.margin.t - look.margin.b
        panels = [look[name].domain for name in look if name.startswith("yaxis")]
        assert all((high - low) * inside > 109 for low, high in panels)
        assert height is None or look.height >= height


@pytest.mark.parametrize("ratio", [-1e6, 0.5, 1e6])
def test_a_ratio_stays_in_its_lane_and_hovering_tells_the_true_one(ratio):
    history = a_history(length=2)
    history.append(Iteration(2, 0.1, trust_radius=1.0, reduction_ratio=ratio, accepted=ratio > 0))
    figure = convergence_figure(history)
    low, high = figure.layout.yaxis4.range
    assert low < figure.data[-1].y[-1] < high
    assert figure.data[-1].customdata[-1] == ratio
    assert "%{customdata:" in figure.data[-1].hovertemplate


def test_the_traces_hold_the_data():
    history = a_history()
    (run,) = convergence_data(history)
    figure = convergence_figure(history)
    assert [trace.yaxis for trace in figure.data] == AUTO
    for trace, curve in zip(figure.data, run.curves, strict=True):
        np.testing.assert_array_equal(trace.x, curve.x)
        np.testing.assert_array_equal(trace.customdata if curve.kind == "reduction ratio" else trace.y, curve.y)


def test_panels_fill_the_height_from_top_to_bottom_without_touching():
    figure = convergence_figure(a_history(), panels=list(PANELS))
    domains = [figure.layout["yaxis" if place == 0 else f"yaxis{place + 1}"].domain for place in range(len(PANELS))]
    edges = [edge for low, high in domains for edge in (high, low)]
    assert edges == sorted(edges, reverse=True)
    assert len(set(edges)) == len(edges)
    assert edges[0] == 1
    assert edges[-1] == pytest.approx(0)
    assert figure.layout.xaxis.anchor == f"y{len(PANELS)}"


@pytest.mark.parametrize("panels", ["auto", ("loss", "metrics", "trust radius")])
def test_a_run_without_metrics_keeps_its_curves_on_their_panels(panels):
    histories = {"without": a_history(), "with": a_history(metrics=["bias"])}
    figure = convergence_figure(histories, panels=panels)
    names = chosen_panels(histories, panels)
    drawn = iter(figure.data)
    for run in convergence_data(histories, panels=panels):
        for curve, trace in zip(run.curves, drawn, strict=False):
            place = names.index(curve.panel) + 1
            assert trace.yaxis == ("y" if place == 1 else f"y{place}")
    assert next(drawn, None) is None


# Scales


@pytest.mark.parametrize(("offset", "scale"), [(0.0, "log"), (-0.5, "linear")])
def test_an_axis_is_logarithmic_where_all_values_are_positive(offset, scale):
    figure = convergence_figure(a_history(offset=offset))
    assert figure.layout.yaxis.type == scale
    assert figure.layout.yaxis2.type == figure.layout.yaxis3.type == "log"


def test_no_button_uploads_the_figure():
    assert "sendChartToCloud" in convergence_figure(a_history()).layout.modebar.remove == HIDDEN_BUTTONS


def test_zero_is_not_positive():
    history = a_history(length=3)
    history.append(Iteration(3, loss=0.0, grad_norm=0.0))
    figure = convergence_figure(history)
    assert figure.layout.yaxis.type == figure.layout.yaxis2.type == "linear"


def test_one_run_that_is_not_positive_makes_the_shared_axis_linear():
    assert convergence_figure({"a": a_history(), "b": a_history(offset=-1)}).layout.yaxis.type == "linear"


def test_many_decades_are_marked_whole_and_few_in_steps():
    labels = convergence_figure(a_history(length=50)).layout.yaxis.ticktext
    assert labels == ("10⁻¹⁵", "10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³", "1")
    assert convergence_figure(a_history(length=4)).layout.yaxis.ticktext == ("0.2", "0.5", "1.0")


def test_the_users_own_numbers_are_linear_unless_they_span_decades():
    history = History("CG")
    for index in range(20):
        history.append(Iteration(index, 1.0, metrics={"accuracy": 0.5 + 0.02 * index, "misfit": 10.0**-index}))
    look = convergence_figure(history, panels="metrics").layout
    assert (look.yaxis.type, look.yaxis2.type) == ("linear", "log")


def test_a_linear_scale_is_for_all_panels_and_counts_are_always_linear():
    figure = convergence_figure(a_history(), scale="linear")
    assert {figure.layout[axis].type for axis in ("yaxis", "yaxis2", "yaxis3")} == {"linear"}
    assert convergence_figure(a_history(), panels="closure calls").layout.yaxis.type == "linear"


def test_an_unknown_scale_is_refused():
    with pytest.raises(ArgumentError, match="'ln' is not known; choose one of 'log', 'linear'"):
        convergence_figure(a_history(), scale="ln")


# What is missing


def test_a_method_without_trust_region_says_so():
    (note,) = missing(convergence_figure(a_history("CG", radius=False), panels="trust radius"))
    assert note.text.startswith("no trust region in CG:")
    assert not missing(convergence_figure(a_history()))


@pytest.mark.parametrize(
    ("panel", "text"),
    [("metrics", "optimizer.record"), ("constraint violation", "no constraint"), ("KKT residual", "no bounds")],
)
def test_an_empty_panel_says_why(panel, text):
    figure = convergence_figure(a_history(), panels=("loss", panel))
    (note,) = missing(figure)
    assert text in note.text
    assert note.y == pytest.approx(np.mean(figure.layout.yaxis2.domain))
    assert figure.layout.yaxis2.showticklabels is False


@pytest.mark.parametrize("panels", ["auto", *PANELS])
def test_nothing_is_said_to_be_missing_before_the_first_iteration(panels):
    assert not missing(convergence_figure(History("trust-ncg"), panels=panels))
    histories = {"new": History("trust-ncg"), "old": a_history("CG", radius=False)}
    (note,) = missing(convergence_figure(histories, panels="trust radius"))
    assert "in old:" in note.text


def test_one_run_with_a_radius_is_enough_for_the_panel():
    figure = convergence_figure({"CG": a_history("CG", radius=False), "trust-ncg": a_history()})
    assert not missing(figure)
    assert figure.layout.yaxis3.showticklabels


@pytest.mark.parametrize("histories", [History("CG"), {}, {"a": History("CG"), "b": a_history()}])
@pytest.mark.parametrize("panels", ["auto", *PANELS])
def test_an_empty_history_is_drawn(histories, panels):
    figure = convergence_figure(histories, panels=panels)
    json.dumps(json.loads(figure.to_json()), allow_nan=False)


# Several runs


@pytest.mark.parametrize("count", [2, 6, 15])
def test_several_runs_differ_in_more_than_colour(count):
    figure = convergence_figure({f"run {k}": a_history(radius=False) for k in range(count)})
    losses = [trace for trace in figure.data if trace.yaxis == "y"]
    looks = [(trace.line.color, trace.line.dash, trace.marker.symbol) for trace in losses]
    assert len({look[:2] for look in looks}) == len({look[::2] for look in looks}) == count
    for aspect in zip(*looks[:6], strict=True):
        assert len(set(aspect)) == min(count, 6)


def test_a_legend_only_where_there_are_several():
    assert not any(trace.showlegend for trace in convergence_figure(a_history()).data)
    figure = convergence_figure({"a": a_history(), "b": a_history()})
    assert [trace.name for trace in figure.data if trace.showlegend] == ["a", "b"]
    assert [trace.legendgroup for trace in figure.data] == ["a"] * 5 + ["b"] * 5


@pytest.mark.parametrize(("count", "length", "lines"), [(1, 9, 0), (2, 9, 1), (4, 9, 1), (5, 9, 2), (3, 60, 3)])
def test_the_legend_has_room_above_the_panels(count, length, lines):
    figure = convergence_figure({str(k) * length: a_history(length=2) for k in range(count)})
    alone = convergence_figure(a_history(length=2))
    assert figure.layout.margin.t == alone.layout.margin.t + 21 * lines


MANY = "pqrstu"
"""Metrics: four have a panel each, two share one."""


def test_metrics_that_share_a_panel_are_in_its_legend_once_whichever_run_has_them():
    figure = convergence_figure({"a": a_history(metrics=MANY[:5]), "b": a_history(metrics=MANY), "c": a_history()})
    told = [(trace.name, trace.legendgroup) for trace in figure.data if trace.showlegend and trace.legend == "legend2"]
    assert told == [("t", "t"), ("u", "u")]  # groups of one: Plotly stacks what is grouped
    assert titles(figure)[-5:] == [*MANY[:4], "metrics"]
    assert figure.layout.legend2.y == figure.layout.yaxis9.domain[1]


def test_metrics_differ_in_colour_within_a_run_and_in_dash_where_colour_tells_the_run():
    one = [t for t in convergence_figure(a_history(metrics=MANY)).data if t.yaxis == "y9"]
    assert len({trace.line.color for trace in one}) == 2
    several = convergence_figure({"a": a_history(metrics=MANY), "b": a_history(metrics=MANY)})
    drawn = [(t.name, t.line.color, t.line.dash) for t in several.data if t.legend == "legend2"]
    assert len({colour for _, colour, _ in drawn[:2]}) == 1
    assert len(set(drawn)) == 4


# Hover texts


def test_hover_texts_name_the_run_where_there_are_several():
    assert "trust-ncg" not in convergence_figure(a_history()).data[0].hovertemplate
    figure = convergence_figure({"first": a_history(), "second": a_history()})
    assert figure.data[0].hovertemplate.startswith("loss · first ")
    assert figure.data[6].hovertemplate.startswith("gradient norm · second ")


def test_hovering_over_the_first_panel_tells_the_whole_record():
    history = a_history()
    first, *others = convergence_figure(history).data
    assert "%{customdata}" in first.hovertemplate
    assert list(first.customdata) == list(convergence_data(history)[0].records)
    assert "step rejected" in first.customdata[3]
    assert "3.5 s" in first.customdata[7]
    assert all(trace.customdata is None and "customdata" not in trace.hovertemplate for trace in others[:-1])


@pytest.mark.parametrize("panel", [name for name in PANELS if name not in (*CONSTRAINED, "reduction ratio")])
def test_the_whole_record_goes_with_whichever_panel_comes_first(panel):
    figure = convergence_figure(a_history(metrics=["bias"]), panels=(panel, "HVPs", "closure calls"))
    assert len(figure.data[0].customdata) == len(figure.data[0].x) > 0


# Looks


def test_points_are_marked_while_they_are_few():
    assert convergence_figure(a_history(length=60)).data[0].mode == "lines+markers"
    assert convergence_figure(a_history(length=61)).data[0].mode == "lines"


def test_the_backgrounds_let_every_theme_through():
    look = convergence_figure(a_history()).layout
    assert look.paper_bgcolor == look.plot_bgcolor == "rgba(0,0,0,0)"
    assert look.uirevision == "keep"


def test_the_height():
    assert layout([], ("loss",), height=300)["height"] == 300
    assert convergence_figure(a_history(), height=900).layout.height == pytest.approx(900, abs=2)


def _strict(history):
    figure = convergence_figure(history)
    return json.dumps(json.loads(figure.to_json()), allow_nan=False)


def test_what_is_not_a_number_never_reaches_the_browser():
    history = a_history(metrics=["bias"])
    for loss in (np.nan, np.inf, -np.inf, 1e308):
        history.append(Iteration(len(history), loss, grad_norm=np.inf, trust_radius=np.nan, metrics={"bias": np.nan}))
    assert "NaN" not in _strict(history)
    assert "Infinity" not in _strict(history)
    drawn = traces(convergence_data(history), chosen_panels(history))
    assert all(np.isfinite(trace[axis]).all() for trace in drawn for axis in "xy")


def test_it_can_be_written_as_a_page_that_needs_no_network(tmp_path):
    convergence_figure({"a": waves(100), "b": a_history()}).write_html(tmp_path / "curves.html", include_plotlyjs=True)
    page = (tmp_path / "curves.html").read_text()
    assert "plotly.js v" in page
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=", page)


# Titles


def test_a_short_title_stays_on_one_line():
    assert wrapped("softmax · 7,850 parameters") == "softmax · 7,850 parameters"
    assert wrapped("") == ""


PARTS = [
    "trust-ncg",
    "iteration 41",
    "loss 0.18",
    "gradient norm 3.1e-04",
    "radius 16",
    "2.4 s",
    "finished: " + "x" * 40,
]


def test_a_long_title_is_broken_between_its_parts():
    lines = wrapped(" · ".join(PARTS)).split("\n")
    assert len(lines) == 2
    assert " · ".join(lines).split(" · ") == PARTS


@pytest.mark.parametrize(
    "title",
    [" · ".join(PARTS), " · ".join([*PARTS, "y" * 200]), "z" * 200, "many\nlines\n" * 20, " · ".join("ab" * 90)],
)
def test_no_title_takes_more_than_three_lines_of_72(title):
    lines = wrapped(title).split("\n")
    assert len(lines) <= 3
    assert max(map(len, lines)) <= 72
    assert wrapped(title).count("\n") < 3


def test_a_part_that_is_too_long_is_cut_where_it_shows():
    assert wrapped("y" * 100, width=20) == "y" * 19 + "…"
    assert convergence_figure(a_history(), title="z" * 200).layout.title.text.endswith("z…")
