"""The data step: which panels there are, and the curves on them."""

import numpy as np
import pytest

from tests.views.histories import a_history, waves
from torchmin_nb import History, Iteration
from torchmin_nb.errors import ArgumentError
from torchmin_nb.views import convergence_figure
from torchmin_nb.views.panels import (
    PANELS,
    POINTS,
    RATIO,
    REJECTED,
    X_AXES,
    chosen_panels,
    convergence_data,
    drawn_log,
    panel_row,
    thin,
)
from torchmin_nb.views.scene import Scene

EACH = [f"metrics/{name}" for name in "abcd"]


def curve(history, panel, kind="line", **choices):
    (run,) = convergence_data(history, panels=(panel,), **choices)
    (found,) = run.on(panel, kind)
    return found


# Panels


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (a_history(), ["loss", "gradient norm", "trust radius", "reduction ratio"]),
        (a_history("CG", radius=False), ["loss", "gradient norm", "step norm"]),
        (a_history("Powell", radius=False, gradient=False), ["loss", "step norm"]),
        (a_history(metrics=["bias"]), ["loss", "gradient norm", "trust radius", "reduction ratio", "metrics/bias"]),
        (a_history(radius=False, metrics="abcde"), ["loss", "gradient norm", "step norm", *EACH, "metrics"]),
        (History("CG"), ["loss", "gradient norm", "step norm"]),
        (History("trust-ncg"), ["loss", "gradient norm", "trust radius", "reduction ratio"]),
        (History("Powell"), ["loss", "step norm"]),
        (History("trust-constr"), ["loss", "gradient norm", "trust radius"]),
        (a_history("differential_evolution", radius=False, gradient=False), ["loss", "closure calls"]),
        ({}, ["loss", "step norm"]),
        (
            {"a": a_history("CG", radius=False), "b": a_history()},
            ["loss", "gradient norm", "trust radius", "reduction ratio"],
        ),
    ],
)
def test_what_is_reported_decides_on_the_panels(history, expected):
    assert list(chosen_panels(history)) == expected


def test_a_violation_has_a_panel_where_it_is_reported():
    history = History("COBYLA")
    history.append(Iteration(0, 1.0, constraint_violation=0.0))
    assert chosen_panels(history) == ("loss", "step norm", "constraint violation")


def test_a_kkt_residual_is_beside_the_gradient_norm():
    history = History("L-BFGS-B")
    history.append(Iteration(0, 3.0, grad_norm=2.0, kkt_residual=0.5))
    assert chosen_panels(history) == ("loss", "gradient norm", "KKT residual", "step norm")
    np.testing.assert_array_equal(curve(history, "KKT residual").y, [0.5])


def test_a_population_has_panels_for_best_spread_and_evaluations():
    history = a_search(metrics=["generation", "convergence", "population_spread"])
    assert chosen_panels(history) == ("loss", "metrics/population_spread", "closure calls")
    assert panel_row("metrics/population_spread").title == "spread of the population"
    assert drawn_log("metrics/population_spread", np.array([1.0, 2.0]))  # also while it spans no decade
    np.testing.assert_array_equal(curve(history, "metrics/population_spread").y, history.metrics["population_spread"])
    assert chosen_panels(a_search(metrics=["generation", "bias"]))[1:-1] == ("metrics/bias",)
    assert "metrics/generation" in chosen_panels(a_history(metrics=["generation"]))


@pytest.mark.parametrize(("violation", "panels"), [(0.0, []), (0.5, ["constraint violation"])])
def test_a_search_has_panels_for_curves_only(violation, panels):
    history = History("differential_evolution")
    for index in range(3):
        assert "gradient norm" not in chosen_panels(history)  # SciPy evaluates one gradient, at the start
        gradient = 1.0 if index == 0 else None
        history.append(Iteration(index, 1.0, grad_norm=gradient, constraint_violation=violation))
    assert list(chosen_panels(history)) == ["loss", *panels, "closure calls"]


def a_search(metrics):
    return a_history("differential_evolution", radius=False, gradient=False, metrics=metrics)


def test_nothing_moves_when_the_first_numbers_come():
    for method in ("trust-ncg", "L-BFGS-B", "Nelder-Mead"):
        history = History(method)
        before = chosen_panels(history)
        history.append(Iteration(0, 1.0, grad_norm=1.0 if method != "Nelder-Mead" else None))
        assert chosen_panels(history) == before


def test_panels_may_be_chosen_and_come_once():
    assert chosen_panels({}, "HVPs") == ("HVPs",)
    assert chosen_panels({}, ["HVPs", "loss", "HVPs"]) == ("HVPs", "loss")


@pytest.mark.parametrize("panels", ["radius", ["loss", "radius"], [], ()])
def test_unknown_panels_are_refused_with_those_that_are_known(panels):
    with pytest.raises(ArgumentError) as raised:
        chosen_panels({}, panels)
    assert all(repr(name) in str(raised.value) for name in PANELS)


@pytest.mark.parametrize(
    "make", [convergence_data, lambda h, x: convergence_figure(h, x=x), lambda h, x: Scene({}, x=x)]
)
def test_an_unknown_x_axis_is_refused_with_those_that_are_known(make):
    with pytest.raises(ArgumentError, match="'nfev' is not known") as raised:
        make(a_history(), "nfev")
    assert all(repr(x) in str(raised.value) for x in X_AXES)


# Curves


@pytest.mark.parametrize(
    ("x", "expected"), [("iteration", [0, 1, 2]), ("closure calls", [1, 3, 5]), ("seconds", [0, 0.5, 1])]
)
def test_the_x_axes(x, expected):
    loss = curve(a_history(length=3), "loss", x=x)
    np.testing.assert_array_equal(loss.x, expected)
    assert loss.x.dtype == loss.y.dtype == np.float64


@pytest.mark.parametrize("panel", [name for name, row in PANELS.items() if row.column and name != "loss - best"])
def test_a_panel_shows_its_column_where_it_is_reported(panel):
    history = a_history(length=9)
    column = history.column(PANELS[panel].column).astype(float)
    known = np.isfinite(column)
    found = curve(history, panel, RATIO if panel == RATIO else "line")
    np.testing.assert_array_equal(found.rows, np.flatnonzero(known))
    np.testing.assert_array_equal(found.y, column[known])


def test_metrics_have_a_curve_each():
    (run,) = convergence_data(a_history(length=4, metrics=["bias", "slope"]), panels="metrics")
    assert [found.panel for found in run.curves] == ["metrics/bias", "metrics/slope"]
    np.testing.assert_array_equal(run.curves[1].y, [1, 2, 3, 4])


def test_the_lowest_loss_of_all_runs_is_what_is_taken_off():
    high, low = convergence_data({"a": a_history(length=3), "b": a_history(length=4, offset=-1)}, panels="loss - best")
    np.testing.assert_array_equal(high.curves[0].y, np.array([1, 0.5, 0.25]) + 0.875)
    np.testing.assert_array_equal(low.curves[0].y, [0.875, 0.375, 0.125])
    np.testing.assert_array_equal(low.curves[0].rows, [0, 1, 2])


def test_rejected_steps_are_at_their_radius_and_ratios_keep_their_place():
    history = a_history(length=9)
    rejected = curve(history, "trust radius", REJECTED)
    np.testing.assert_array_equal(rejected.x, [3, 7])
    np.testing.assert_array_equal(rejected.y, [4.0, 8.0])
    np.testing.assert_array_equal(curve(history, "reduction ratio", RATIO).x, np.arange(1, 9))


def test_what_is_not_finite_is_left_out():
    history = History("COBYLA")
    for index, loss in enumerate([1.0, np.inf, np.nan, 0.5]):
        history.append(Iteration(index, loss))
    loss = curve(history, "loss")
    np.testing.assert_array_equal(loss.x, [0, 3])
    np.testing.assert_array_equal(loss.y, [1.0, 0.5])


def test_several_runs_keep_their_names_and_order():
    runs = convergence_data({"second": a_history(), "first": a_history("CG", radius=False)})
    assert [run.name for run in runs] == ["second", "first"]
    assert all(run.curves for run in runs)


def test_a_run_without_any_curve_is_no_error():
    (run,) = convergence_data(a_history(), panels="metrics")
    assert run.curves == run.records == ()


def test_a_run_that_grows_meanwhile_is_drawn_as_far_as_both_columns_go(monkeypatch):
    history = a_history(length=5, ended=False)
    column = History.column

    def growing(self, name):
        values = column(self, name)
        self.append(Iteration(len(self), 1.0, grad_norm=1.0))
        return values

    monkeypatch.setattr(History, "column", growing)
    (run,) = convergence_data(history, panels=("loss", "gradient norm"))
    assert len({size for found in run.curves for size in (found.x.size, found.y.size)}) == 1


def test_a_record_tells_the_rest_of_its_iteration():
    history = History("trust-constr")
    history.append(
        Iteration(0, 2.0, step_norm=0.125, constraint_violation=0.5, nfev=1234, nhev=7, nhvp=4321, elapsed=2.5)
    )
    history.append(Iteration(1, 2.0, step_norm=0.0, accepted=False, constraint_violation=0.0, nfev=3, elapsed=3.0))
    (run,) = convergence_data(history)
    assert run.records == (
        "step norm 0.125 · violation 0.5 · 1,234 closure calls · 7 Hessians · 4,321 HVPs · 2.5 s",
        "step rejected · 3 closure calls · 3 s",
    )


def test_records_go_with_the_first_curve_of_a_thinned_run():
    history = waves(10_000)
    (run,) = convergence_data(history, points=100)
    assert len(run.records) == run.curves[0].x.size
    assert run.records[-1].endswith(f"{history[-1].elapsed:.3g} s")


# Thinning


@pytest.mark.parametrize("length", [0, 1, 7, 100])
def test_a_short_curve_is_exact(length):
    np.testing.assert_array_equal(thin(np.random.default_rng(0).normal(size=length), 100), np.arange(length))


@pytest.mark.parametrize("length", [101, 150, 199, 1000, 1001, 9999, 100_000])
@pytest.mark.parametrize("points", [10, 99, 100])
def test_a_long_curve_keeps_ends_and_extremes(length, points):
    y = np.random.default_rng(length).normal(size=length)
    rows = thin(y, points)
    assert rows.size <= points + 2
    assert (np.diff(rows) > 0).all()
    assert rows[0] == 0
    assert rows[-1] == length - 1
    assert {y.argmin(), y.argmax()} <= set(rows)


def test_a_curve_that_grows_keeps_all_drawn_points_but_the_last_ones():
    y = np.random.default_rng(1).normal(size=4000)
    before = thin(y[:3000], 1000)
    after = thin(y[:3040], 1000)
    assert np.array_equal(before[:-4], after[: before.size - 4])


def test_each_stretch_of_a_long_curve_keeps_its_spikes():
    y = np.zeros(10_000)
    y[::500] = 1.0
    y[250::500] = -1.0
    assert set(np.flatnonzero(y)) <= set(thin(y, 200))


def test_a_long_run_is_thinned_in_every_curve():
    (run,) = convergence_data(waves(100_000))
    assert POINTS / 3 < run.curves[0].x.size <= POINTS
    assert run.curves[0].x[-1] == 99_999
    assert all(found.x.size <= POINTS for found in run.curves)


def test_records_are_not_made_where_there_are_more_than_asked_for(monkeypatch):
    from torchmin_nb.views import panels

    made = []
    monkeypatch.setattr(panels, "_record_text", lambda iteration: made.append(1) or "")
    assert convergence_data(a_history(length=9), recorded=8)[0].records == ()
    assert not made
    assert len(convergence_data(a_history(length=8), recorded=8)[0].records) == len(made) == 8
