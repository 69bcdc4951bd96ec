"""The data step and the draw step of the convergence figure."""

import json

import numpy as np
import pytest

from tests.views.histories import a_history, waves
from torchmin_nb import History, Iteration
from torchmin_nb.errors import ArgumentError
from torchmin_nb.views.figures import (
    POINTS,
    X_AXES,
    convergence_data,
    convergence_figure,
    layout,
    run_traces,
    thin,
    wrapped,
)

MIDDLE_DOT = " · "


# The data step


def test_what_is_not_reported_is_left_out():
    (run,) = convergence_data(a_history("Powell", radius=False, gradient=False))
    assert run.name == "Powell"
    assert run.loss.y.size == 20
    for curve in (run.grad_norm, run.trust_radius, run.reduction_ratio, run.rejected):
        assert curve.x.size == curve.y.size == 0
    assert not run.has_radius


def test_what_is_not_reported_at_some_iterations_keeps_its_place():
    (run,) = convergence_data(a_history(length=5))
    np.testing.assert_array_equal(run.trust_radius.x, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(run.reduction_ratio.x, [1, 2, 3, 4])


def test_rejected_steps_are_at_their_radius():
    (run,) = convergence_data(a_history(length=9))
    np.testing.assert_array_equal(run.rejected.x, [3, 7])
    np.testing.assert_array_equal(run.rejected.y, [4.0, 8.0])


def test_what_is_not_finite_is_left_out():
    history = History("COBYLA")
    for index, loss in enumerate([1.0, np.inf, np.nan, 0.5]):
        history.append(Iteration(index, loss))
    (run,) = convergence_data(history)
    np.testing.assert_array_equal(run.loss.x, [0, 3])
    np.testing.assert_array_equal(run.loss.y, [1.0, 0.5])


@pytest.mark.parametrize(
    ("x", "expected"), [("iteration", [0, 1, 2]), ("closure calls", [1, 3, 5]), ("seconds", [0, 0.5, 1])]
)
def test_the_x_axes(x, expected):
    (run,) = convergence_data(a_history(length=3), x)
    np.testing.assert_array_equal(run.loss.x, expected)
    assert run.loss.x.dtype == run.loss.y.dtype == np.float64
    assert convergence_figure(a_history(length=3), x=x).layout.xaxis.title.text == x


@pytest.mark.parametrize("make", [convergence_data, lambda histories, x: convergence_figure(histories, x=x)])
def test_an_unknown_x_axis_is_refused_with_those_that_are_known(make):
    with pytest.raises(ArgumentError, match="'nfev' is not known") as raised:
        make(a_history(), "nfev")
    assert all(repr(x) in str(raised.value) for x in X_AXES)


def test_several_runs_keep_their_names_and_order():
    runs = convergence_data({"second": a_history(), "first": a_history("CG", radius=False)})
    assert [run.name for run in runs] == ["second", "first"]


# Thinning


@pytest.mark.parametrize("length", [0, 1, 7, 100])
def test_a_short_curve_is_exact(length):
    x, y = np.arange(float(length)), np.random.default_rng(0).normal(size=length)
    curve = thin(x, y, 100)
    np.testing.assert_array_equal(curve.x, x)
    np.testing.assert_array_equal(curve.y, y)


@pytest.mark.parametrize("length", [101, 150, 199, 1000, 1001, 9999, 100_000])
@pytest.mark.parametrize("points", [10, 99, 100])
def test_a_long_curve_keeps_ends_and_extremes(length, points):
    y = np.random.default_rng(length).normal(size=length)
    curve = thin(np.arange(float(length)), y, points)
    assert curve.x.size <= points + 2
    assert (np.diff(curve.x) > 0).all()
    np.testing.assert_array_equal(curve.y, y[curve.x.astype(int)])
    assert curve.x[0] == 0
    assert curve.x[-1] == length - 1
    assert curve.y.min() == y.min()
    assert curve.y.max() == y.max()


def test_each_stretch_of_a_long_curve_keeps_its_spikes():
    y = np.zeros(10_000)
    y[::500] = 1.0
    y[250::500] = -1.0
    curve = thin(np.arange(10_000.0), y, 200)
    assert set(np.flatnonzero(y)) <= set(curve.x.astype(int))


def test_a_long_run_is_thinned_in_every_curve():
    (run,) = convergence_data(waves(100_000))
    assert 1000 < run.loss.x.size <= POINTS + 2
    assert run.loss.x[-1] == 99_999


# The draw step


def axes(figure):
    return {name: figure.layout[name] for name in ("xaxis", "yaxis", "yaxis2", "yaxis3", "yaxis4")}


def test_every_axis_is_labelled():
    labels = [axis.title.text for axis in axes(convergence_figure(a_history(), x="seconds")).values()]
    assert labels == ["seconds", "loss", "gradient norm", "trust radius", "reduction ratio"]


def test_the_traces_hold_the_data():
    history = a_history()
    (run,) = convergence_data(history)
    figure = convergence_figure(history)
    curves = [run.loss, run.grad_norm, run.trust_radius, run.reduction_ratio, run.rejected]
    assert [trace.yaxis for trace in figure.data] == ["y", "y2", "y3", "y4", "y3"]
    for trace, curve in zip(figure.data, curves, strict=True):
        np.testing.assert_array_equal(trace.x, curve.x)
        np.testing.assert_array_equal(trace.y, curve.y)


@pytest.mark.parametrize(("offset", "scale"), [(0.0, "log"), (-0.5, "linear")])
def test_an_axis_is_logarithmic_where_all_values_are_positive(offset, scale):
    figure = convergence_figure(a_history(offset=offset))
    assert figure.layout.yaxis.type == scale
    assert figure.layout.yaxis2.type == figure.layout.yaxis3.type == "log"


def test_zero_is_not_positive():
    history = a_history(length=3)
    history.append(Iteration(3, loss=0.0, grad_norm=0.0))
    figure = convergence_figure(history)
    assert figure.layout.yaxis.type == figure.layout.yaxis2.type == "linear"


def test_one_run_that_is_not_positive_makes_the_shared_axis_linear():
    figure = convergence_figure({"a": a_history(), "b": a_history(offset=-1)})
    assert figure.layout.yaxis.type == "linear"


def test_many_decades_are_marked_whole_and_few_in_steps():
    assert convergence_figure(a_history(length=50)).layout.yaxis.dtick == 3
    assert convergence_figure(a_history(length=4)).layout.yaxis.dtick == "D2"


def test_a_method_without_trust_region_says_so():
    (annotation,) = convergence_figure(a_history("CG", radius=False)).layout.annotations
    assert annotation.text.startswith("no trust region in CG:")
    assert not convergence_figure(a_history()).layout.annotations


def test_ratios_have_an_axis_only_where_there_are_some():
    assert convergence_figure(a_history()).layout.yaxis4.visible
    assert not convergence_figure(a_history("CG", radius=False)).layout.yaxis4.visible


def test_one_run_with_a_radius_is_enough_for_the_panel():
    figure = convergence_figure({"CG": a_history("CG", radius=False), "trust-ncg": a_history()})
    assert not figure.layout.annotations
    assert figure.layout.yaxis3.showticklabels


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


def test_the_traces_of_a_run_go_together_in_the_legend():
    figure = convergence_figure({"a": a_history(), "b": a_history()})
    assert [trace.legendgroup for trace in figure.data] == ["a"] * 5 + ["b"] * 5


def test_hover_texts_name_the_run_where_there_are_several():
    (run,) = convergence_data(a_history())
    assert "trust-ncg" not in run_traces(run)[0]["hovertemplate"]
    assert "loss · trust-ncg" in run_traces(run, legend=True)[0]["hovertemplate"]


def test_points_are_marked_while_they_are_few():
    assert convergence_figure(a_history(length=60)).data[0].mode == "lines+markers"
    assert convergence_figure(a_history(length=61)).data[0].mode == "lines"


def test_the_backgrounds_let_every_theme_through():
    look = convergence_figure(a_history()).layout
    assert look.paper_bgcolor == look.plot_bgcolor == "rgba(0,0,0,0)"
    assert look.uirevision == "keep"


@pytest.mark.parametrize("histories", [History("CG"), History("trust-ncg"), {}, {"a": History("CG"), "b": a_history()}])
def test_an_empty_history_is_drawn(histories):
    figure = convergence_figure(histories)
    assert len(figure.data) == 5 * (len(histories) if isinstance(histories, dict) else 1)
    assert figure.layout.yaxis.type == "log"
    json.loads(figure.to_json())


def test_the_height():
    assert layout([], height=300)["height"] == 300


# Titles


def test_a_short_title_stays_on_one_line():
    assert wrapped("softmax · 7,850 parameters") == "softmax · 7,850 parameters"
    assert wrapped("") == ""


def test_a_long_title_is_broken_between_its_parts():
    parts = [
        "trust-ncg",
        "iteration 41",
        "loss 0.18",
        "gradient norm 3.1e-04",
        "radius 16",
        "2.4 s",
        "finished: " + "x" * 40,
    ]
    lines = wrapped(MIDDLE_DOT.join(parts)).split("<br>")
    assert len(lines) == 2
    assert MIDDLE_DOT.join(lines).split(MIDDLE_DOT) == parts
    assert max(map(len, lines)) <= 88


def test_a_part_that_is_too_long_is_cut_where_it_shows():
    assert wrapped("y" * 100, width=20) == "y" * 19 + "…"
    assert convergence_figure(a_history(), title="z" * 200).layout.title.text.endswith("z…")
