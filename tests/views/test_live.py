"""The Dashboard, in this process and without a browser; and notebooks, executed by nbclient."""

import base64
import gc
import json
import sys
import threading
import time
import weakref
from contextlib import suppress

import nbformat
import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances
from nbclient import NotebookClient

from tests.hidden import Hidden
from tests.views.histories import a_history
from tests.views.shown import (
    LONG,
    PLOTLY,
    Cell,
    Clock,
    Gate,
    optimizer_of,
    points,
    rosenbrock,
    start_point,
    stepped,
    title,
)
from torchmin_nb.core.history.priced import priced
from torchmin_nb.errors import ArgumentError, ViewWarning
from torchmin_nb.views import Dashboard, ProgressLine, live
from torchmin_nb.views.live_panel.header import header_of
from torchmin_nb.views.live_panel.state import panel_state
from torchmin_nb.views.live_panel.widget import PanelWidget
from torchmin_nb.views.panels import PANELS
from torchmin_nb.views.screens import PanelScreen


@pytest.fixture
def runs():
    """Starts runs, and ends them with the test."""
    started = []

    def start(x, dashboard, closure=None, **how):
        run = optimizer_of(x, *([] if dashboard is None else [dashboard])).start(closure or Gate(x), **how)
        started.append(run)
        return run

    yield start
    for run in started:
        run.stop()
        await_end(run)


def names(data):
    """The runs in the figure of a bundle, in order."""
    return list(dict.fromkeys(trace["legendgroup"] for trace in data[PLOTLY]["data"]))


def curve(widget):
    """The losses that a view of the widget is sent."""
    return np.frombuffer(widget.whole()["columns"][0][3])


def labels(widget):
    """The buttons in a view of the widget."""
    return [button["label"] for button in widget.whole()["buttons"]]


def press(widget, action, count=1):
    """What a view sends when its button is pressed."""
    widget._handle_custom_msg({"type": "press", "action": action, "count": count, "number": 1}, [])


def await_end(run):
    with suppress(Exception):  # what the closure raised
        run.wait(LONG)
    assert run.state in ("finished", "stopped", "failed")


def ended(cell, run):
    """Wait for the end and let the dashboard see it."""
    await_end(run)
    cell.tick()
    return run


# A blocking run


def test_a_run_is_shown_live_and_leaves_its_picture(cell):
    optimizer = stepped(Dashboard())
    widget, _ = cell.shown
    assert isinstance(widget, PanelWidget)
    (place, data), (below, words) = cell.updates
    assert (place, below) == (0, 1)
    assert set(data) == {PLOTLY, "text/plain"}
    assert "Converged: the method&#x27;s own test is met" in words["text/html"]
    assert "finished: Converged, the method's own test is met" in data["text/plain"]
    json.dumps(data, allow_nan=False)
    history = optimizer.history
    for trace, column in enumerate([history.loss, history.grad_norm, history.trust_radius]):
        x, y = points(data, trace)
        np.testing.assert_array_equal(x, history.index)
        np.testing.assert_array_equal(y, column)


def test_choices_reach_the_figure(cell):
    optimizer = stepped(Dashboard(x="closure calls", height=900, scale="linear"))
    look = cell.at(0)[PLOTLY]["layout"]
    np.testing.assert_array_equal(points(cell.at(0))[0], optimizer.history.nfev)
    assert look["yaxis"]["type"] == "linear"
    assert look["height"] == pytest.approx(900, abs=2)
    assert (cell.shown[0].x, cell.shown[0].scale) == ("closure calls", "linear")


@pytest.mark.parametrize("panel", PANELS)
def test_each_panel_can_be_chosen(cell, panel):
    stepped(Dashboard(panels=panel))
    (note,) = [note for note in cell.at(0)[PLOTLY]["layout"]["annotations"] if note["name"] != "missing"]
    assert f"<b>{PANELS[panel].title}</b>" in note["text"]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"x": "nfev"}, "'closure calls'"),
        ({"panels": "radius"}, "'trust radius'"),
        ({"scale": "ln"}, "'loss - best'"),
        ({"rate": 0}, "positive"),
        ({"rate": -1.0}, "-1.0"),
        ({"rate": float("nan")}, "nan"),
    ],
)
def test_what_it_cannot_draw_is_refused_at_once(keywords, message):
    with pytest.raises(ArgumentError, match=message):
        Dashboard(**keywords)


def test_nothing_is_drawn_in_the_thread_of_the_run(cell, monkeypatch):
    drawn, draw = [], PanelScreen.draw
    monkeypatch.setattr(PanelScreen, "draw", lambda screen, scene: (drawn.append(1), draw(screen, scene))[1])
    seen = []
    stepped(Dashboard(), lambda iteration: seen.append(len(drawn)))
    assert len(seen) > 10
    assert drawn == []
    assert len(cell.updates) == 2


def test_watching_costs_no_closure_call(cell):
    watched, alone = stepped(Dashboard()).history, stepped().history
    np.testing.assert_array_equal(watched.nfev, alone.nfev)
    np.testing.assert_array_equal(watched.loss, alone.loss)


def test_it_follows_the_history_as_the_clock_ticks(cell):
    x, clock = start_point(), Clock()
    dashboard = Dashboard(clock=clock)
    lengths = []

    def tick(iteration):
        clock.now += 100  # more than the dearest redraw is paid for with
        cell.tick()
        lengths.append(curve(cell.shown[0]).size)

    optimizer_of(x, dashboard, tick).step(lambda: rosenbrock(x))
    assert lengths == list(range(1, len(lengths) + 1))


def test_what_the_closure_records_has_a_panel(cell):
    x = start_point()
    optimizer = optimizer_of(x, Dashboard())

    def closure():
        optimizer.record(distance=float((x.detach() - 1).norm()))
        return rosenbrock(x)

    optimizer.step(closure)
    figure = cell.at(0)[PLOTLY]
    assert any("<b>distance</b>" in note["text"] for note in figure["layout"]["annotations"])
    np.testing.assert_array_equal(points(cell.at(0), -1)[1], optimizer.history.metrics["distance"])


def test_a_run_that_is_out_of_budget_leaves_a_picture(cell):
    stepped(Dashboard(), max_evaluations=5)
    assert "ended: Not converged yet, the limit of closure calls" in cell.at(0)["text/plain"].replace("\n", " ")


def test_an_interrupted_step_leaves_a_picture_and_the_next_one_works(cell):
    x, dashboard, calls = start_point(), Dashboard(), []
    optimizer = optimizer_of(x, dashboard)

    def interrupted():
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return rosenbrock(x)

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(interrupted)
    assert title(cell.at(0)).endswith("ended: Interrupted")
    assert not cell.ticking
    optimizer.step(interrupted)
    assert "finished" in title(cell.at(2))
    assert len(cell.shown) == 4


@pytest.mark.parametrize("how", ["step", "start"])
def test_a_closure_that_fails_leaves_a_picture_that_says_so(cell, how):
    x, dashboard = start_point(), Dashboard()
    optimizer = optimizer_of(x, dashboard)

    def broken():
        raise ZeroDivisionError("no such loss")

    with pytest.raises(ZeroDivisionError):
        optimizer.step(broken) if how == "step" else optimizer.start(broken).wait(LONG)
    cell.tick()
    assert "Failed: ZeroDivisionError: no such loss" in title(cell.at(0))


def test_a_start_that_another_callback_refuses_leaves_no_clock(cell):
    class Refuses:
        def on_start(self, history):
            raise ZeroDivisionError

        def __call__(self, iteration):
            pass

    dashboard = Dashboard()
    with pytest.raises(ZeroDivisionError):
        stepped(dashboard, Refuses())
    assert len(cell.tickers) == 1
    assert not cell.ticking
    assert PLOTLY in cell.at(0)


# A run in a thread


def test_a_run_has_figure_and_controls_from_the_start(cell, runs):
    dashboard, x = Dashboard(), start_point()
    run = runs(x, dashboard, paused=True)
    assert run.panel is dashboard
    assert dashboard.shows(run)
    widget, below = cell.shown
    assert isinstance(widget, PanelWidget)
    assert below["text/html"] == ""
    assert labels(widget) == ["Start", "Step", "+10", "Stop"]
    press(widget, "resume")
    ended(cell, run)
    assert "finished" in title(cell.at(0))
    assert "closure calls" in cell.at(1)["text/html"]
    assert not cell.ticking


def test_views_choose_scale_and_x_and_the_next_run_keeps_them(cell, runs):
    clock, x = Clock(), start_point()
    dashboard = Dashboard(clock=clock)
    run = runs(x, dashboard, paused=True)
    (widget, _) = cell.shown
    widget.scale, widget.x = "loss - best", "seconds"
    press(widget, "step")
    assert run.wait_until_paused(LONG)
    clock.now += 100
    cell.tick()
    assert labels(widget)[0] == "Resume"
    press(widget, "many", 3)
    assert run.wait_until_paused(LONG)
    assert len(run.history) == 5
    run.resume()
    ended(cell, run)
    look = cell.at(0)[PLOTLY]["layout"]
    assert "<b>loss − best</b>" in look["annotations"][0]["text"]
    assert look["xaxis"]["title"]["text"] == "seconds"
    runs(start_point(), dashboard, paused=True)
    assert (cell.shown[2].scale, cell.shown[2].x) == ("loss - best", "seconds")


def test_a_run_that_fails_before_its_first_closure_call_leaves_picture_and_reason(cell, runs):
    x, dashboard = start_point(), Dashboard()
    run = runs(x, dashboard, paused=True)
    x.requires_grad_(False)
    run.resume()
    ended(cell, run)
    assert run.state == "failed"
    assert title(cell.at(0)).startswith("trust-ncg<br>ended: Failed: ParameterError")
    assert "ParameterError" in cell.at(1)["text/html"]
    assert 'role="alert"' in cell.at(1)["text/html"]


def test_a_run_that_nothing_watches_shows_itself_as_the_last_line_of_a_cell(cell, runs, monkeypatch):
    run = runs(start_point(), None, paused=True)
    run._ipython_display_()
    assert len(cell.shown) == 2
    run.resume()
    ended(cell, run)
    assert "finished" in title(cell.at(0))
    monkeypatch.setattr(live, "cell", lambda: "another")
    run._ipython_display_()
    cell.tick()
    assert isinstance(cell.at(2), PanelWidget)  # live again, to be looked at
    assert labels(cell.at(2)) == ["Why?"]


def test_as_the_last_line_of_the_cell_that_started_it_nothing_is_shown_twice(cell, runs):
    run = runs(start_point(), Dashboard(), paused=True)
    run._ipython_display_()
    assert len(cell.shown) == 2


def test_a_run_whose_dashboard_has_gone_on_to_another_has_a_new_one(cell, runs):
    dashboard = Dashboard()
    first, second = (runs(start_point(), dashboard, paused=True) for _ in range(2))
    assert dashboard.shows(second)
    assert not dashboard.shows(first)
    first._ipython_display_()
    assert first.panel is not dashboard
    assert first.panel.shows(first)
    assert dashboard.shows(second)


def test_closing_leaves_the_picture_and_frees_the_widgets(cell, runs):
    before = set(_instances)
    dashboard = Dashboard()
    run = runs(start_point(), dashboard, paused=True)
    dashboard.close()
    dashboard.close()
    assert PLOTLY in cell.at(0)
    assert "text/html" in cell.at(1)
    assert set(_instances) - before == set()
    run.resume()
    assert run.wait(LONG).success
    assert len(cell.updates) == 2


# Several runs


def test_one_dashboard_serves_several_runs_and_each_leaves_a_picture(cell):
    before = set(_instances)
    dashboard = Dashboard()
    optimizers = [stepped(dashboard), stepped(dashboard, method="BFGS")]
    assert [place for place, _ in cell.updates] == [0, 1, 2, 3]
    for optimizer, (_, data) in zip(optimizers, cell.updates[::2], strict=True):
        assert data["text/plain"].startswith(optimizer.name)
        assert names(data) == [optimizer.name]
        np.testing.assert_array_equal(points(data)[1], optimizer.history.loss)
    assert len(set(_instances) - before) > 0  # a page that was reloaded shows them still
    cell.shown.clear()
    del dashboard, optimizers, optimizer
    gc.collect()
    assert set(_instances) - before == set()


def test_overlay_keeps_the_curves_of_earlier_runs_under_names_of_their_own(cell):
    dashboard = Dashboard(overlay=True)
    for method in ("trust-ncg", "BFGS", "trust-ncg", "trust-ncg"):
        last = stepped(dashboard, method=method).history
    data = cell.at(6)
    assert names(data) == ["trust-ncg", "BFGS", "trust-ncg 2", "trust-ncg 3"]
    assert [t["name"] for t in data[PLOTLY]["data"] if t["showlegend"]] == names(data)
    newest = next(i for i, t in enumerate(data[PLOTLY]["data"]) if t["legendgroup"] == "trust-ncg 3")
    np.testing.assert_array_equal(points(data, newest)[1], last.loss)
    assert names(cell.at(0)) == ["trust-ncg"]


def test_overlay_holds_for_runs_in_threads_and_a_run_that_never_began_leaves_nothing(cell, runs):
    dashboard = Dashboard(overlay=True)
    ended(cell, runs(start_point(), dashboard))
    runs(start_point(), dashboard, paused=True)
    ended(cell, runs(start_point(), dashboard))
    assert names(cell.at(4)) == ["trust-ncg", "trust-ncg 2"]


@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        (a_history("CG"), ["CG", "trust-ncg"]),
        ({"before": a_history("CG"), "trust-ncg": a_history()}, ["before", "trust-ncg", "trust-ncg 2"]),
    ],
)
def test_other_histories_can_be_drawn_beside_every_run(cell, compare, expected):
    dashboard = Dashboard(compare=compare)
    for place in range(2):
        stepped(dashboard)
        assert names(cell.at(2 * place)) == expected


def branched(cell, **choices):
    """A run whose dashboard goes on to a branch of it, which has ended too."""
    x = start_point()
    optimizer = optimizer_of(x, Dashboard(**choices), method="BFGS", engine="torch", keep_states=1)
    first = ended(cell, optimizer.start(Gate(x)))
    return first, ended(cell, first.branch(5, "trust-ncg"))


@pytest.mark.parametrize(("x", "column"), [("iteration", "index"), ("closure calls", "nfev"), ("seconds", "elapsed")])
def test_a_branch_is_drawn_from_where_it_left_the_first_run(cell, x, column):
    first, second = branched(cell, x=x)
    traces = cell.at(2)[PLOTLY]["data"]
    own = next(place for place, trace in enumerate(traces) if trace["legendgroup"] == "trust-ncg")
    expected = first.history.column(column)[5] + second.history.column(column)
    np.testing.assert_allclose(points(cell.at(2), own)[0], expected)
    state = panel_state({"branch": second.history}, header_of(second.history), panels=["loss"], priced=priced(2.0))
    live = state.columns[0]
    spent = {"iteration": live.iteration, "closure calls": live.calls, "seconds": live.seconds}
    np.testing.assert_allclose(spent[x], expected, rtol=1e-6)
    left = first.history[5]
    np.testing.assert_allclose(live.priced, left.nfev + 2 * left.nhvp + second.history.nfev + 2 * second.history.nhvp)


def test_a_branch_is_drawn_beside_the_run_that_it_left(cell):
    first, second = branched(cell)
    assert names(cell.at(0)) == ["BFGS"]
    assert names(cell.at(2)) == ["first run: BFGS", "trust-ncg"]
    traces = cell.at(2)[PLOTLY]["data"]
    own = next(place for place, trace in enumerate(traces) if trace["legendgroup"] == "trust-ncg")
    np.testing.assert_array_equal(points(cell.at(2))[1], first.history.loss)
    np.testing.assert_array_equal(points(cell.at(2), own)[1], second.history.loss)
    assert first.history.loss[5] == second.history.loss[0]


def test_a_branch_is_not_drawn_beside_its_run_twice(cell):
    branched(cell, overlay=True)
    assert names(cell.at(2)) == ["BFGS", "trust-ncg"]


def test_two_dashboards_at_once_show_a_run_each(cell, runs):
    panels = [Dashboard(), Dashboard(x="seconds")]
    both = [runs(start_point(), panel, paused=True) for panel in panels]
    for run in both:
        run.resume()
    for place, run in zip((0, 2), both, strict=True):
        ended(cell, run)
        assert points(cell.at(place))[0].size == len(run.history)
    assert [cell.at(place)[PLOTLY]["layout"]["xaxis"]["title"]["text"] for place in (0, 2)] == ["iteration", "seconds"]


def test_two_dashboards_may_watch_one_run(cell):
    x = start_point()
    optimizer_of(x, Dashboard(), Dashboard(scale="linear")).step(lambda: rosenbrock(x))
    assert [cell.at(place)[PLOTLY]["layout"]["yaxis"]["type"] for place in (0, 2)] == ["log", "linear"]


def test_one_dashboard_on_two_runs_at_once_stays_with_the_second(cell, runs):
    dashboard = Dashboard()
    first, second = (runs(start_point(), dashboard, paused=True) for _ in range(2))
    assert PLOTLY in cell.at(0)
    second.advance(2)
    assert second.wait_until_paused(LONG)
    first.resume()
    first.wait(LONG)
    assert dashboard.shows(second)
    assert len(cell.shown) == 4
    assert cell.ticking == 1
    cell.tick()
    assert curve(cell.shown[2]).size == 3
    second.resume()
    ended(cell, second)
    assert "finished" in title(cell.at(2))
    assert "starting" in title(cell.at(0)) or "waiting" in title(cell.at(0))


# The user's own panel


class Own:
    """Notes each call: how many iterations there were, and the parameters as they stood."""

    def __init__(self, x, answer="shown"):
        self.x, self.answer, self.calls = x, answer, []

    def __call__(self, history):
        self.calls.append((len(history), self.x.detach().clone().numpy()))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_the_own_panel_is_drawn_about_once_a_second_at_the_iterate(cell):
    x = start_point()
    own = Own(x)
    clock = Clock()
    dashboard = Dashboard(panel=own, clock=clock)

    def pass_time(iteration):
        clock.now += 0.3

    optimizer = optimizer_of(x, dashboard, pass_time, keep_parameters=True)
    optimizer.step(lambda: rosenbrock(x))
    history = optimizer.history
    assert [count for count, _ in own.calls[:-1]] == list(range(1, len(history) + 1, 4))
    for count, point in own.calls[:-1]:
        np.testing.assert_array_equal(point, history.parameters[count - 1])
    np.testing.assert_array_equal(own.calls[-1][1], optimizer.result.x)
    assert cell.at(2) == "shown"
    assert isinstance(cell.shown[0], PanelWidget)


def test_an_own_panel_that_fails_is_dropped_and_the_run_and_its_figure_go_on(cell):
    x = start_point()
    own = Own(x, KeyError("no such column"))
    optimizer = optimizer_of(x, Dashboard(panel=own))
    with pytest.warns(ViewWarning, match="the panel was dropped, the run continues: KeyError") as warned:
        optimizer.step(lambda: rosenbrock(x))
    assert len(warned) == len(own.calls) == 1
    assert optimizer.result.success
    assert "finished" in title(cell.at(0))


def test_an_own_panel_comes_back_in_another_run(cell):
    own = Own(start_point())
    dashboard = Dashboard(panel=own)
    stepped(dashboard)
    stepped(dashboard)
    assert (cell.at(2), cell.at(5)) == ("shown", "shown")


def test_in_a_terminal_the_own_panel_is_left_alone(capsys):
    own = Own(start_point(), KeyError("never called"))
    stepped(Dashboard(panel=own))
    assert own.calls == []


# A view that fails


def failing(moment):
    def fail(self, *arguments):
        raise KeyError(f"no {moment}")

    return fail


@pytest.mark.parametrize("moment", ["open", "end"])
def test_a_dashboard_that_fails_is_dropped_with_one_warning(cell, monkeypatch, moment):
    monkeypatch.setattr(PanelScreen, moment, failing(moment))
    with pytest.warns(ViewWarning, match=f"the run continues: KeyError: 'no {moment}'") as warned:
        optimizer = stepped(Dashboard())
    assert len(warned) == 1
    assert optimizer.result.success


@pytest.mark.parametrize("part", [(PanelScreen, "open"), (PanelScreen, "end")])
def test_the_same_for_a_run_in_a_thread(cell, runs, monkeypatch, part):
    where, moment = part
    monkeypatch.setattr(where, moment, failing(moment))

    def whole():
        run = runs(start_point(), Dashboard(), paused=True)
        run.resume()
        result = run.wait(LONG)
        cell.tick()
        assert not cell.ticking
        run._ipython_display_()
        return result

    with pytest.warns(ViewWarning, match=f"'no {moment}'") as warned:
        assert whole().success
    assert len(warned) == 1


def test_one_that_fails_to_leave_the_first_run_shows_the_second(cell, runs, monkeypatch):
    dashboard = Dashboard()
    runs(start_point(), dashboard, paused=True)
    with monkeypatch.context() as broken:
        broken.setattr(PanelScreen, "end", failing("end"))
        with pytest.warns(ViewWarning, match="'no end'") as warned:
            second = runs(start_point(), dashboard, paused=True)
    assert len(warned) == 1
    second.resume()
    ended(cell, second)
    assert "finished" in title(cell.at(2))


def test_a_dashboard_that_failed_is_tried_again_at_the_next_run(cell, monkeypatch):
    dashboard = Dashboard()
    with monkeypatch.context() as broken:
        broken.setattr(live, "front_end", lambda: 1 / 0)
        with pytest.warns(ViewWarning, match="ZeroDivisionError"):
            stepped(dashboard)
    stepped(dashboard)
    assert len(cell.updates) == 2


def test_a_front_end_that_is_not_known_ends_no_run(cell, monkeypatch):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "browser")
    with pytest.warns(ViewWarning, match="TORCHMIN_NB_FRONT_END='browser' is not known"):
        assert stepped(Dashboard()).result.success


# Other front ends


@pytest.mark.parametrize("how", ["widgets=False", "static"])
def test_without_widgets_the_figure_is_sent_again(cell, runs, monkeypatch, how):
    if how == "static":
        monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "static")
    monkeypatch.setattr(time, "thread_time", lambda: 0.0)  # what drawing costs is the machine's
    before = set(_instances)
    clock = Clock()
    dashboard = Dashboard(widgets=how == "static", rate=100, clock=clock)
    run = runs(start_point(), dashboard, paused=True)
    for _ in range(20):  # iterations, five a second
        run.advance()
        assert run.wait_until_paused(LONG)
        clock.now += 0.2
        cell.tick()
    assert 4 <= len(cell.updates) <= 1.5 * 20 * 0.2 + 1
    run.resume()
    ended(cell, run)
    assert set(_instances) - before == set()
    assert len(cell.shown) == 1
    *sketches, last = [*cell.shown, *(data for _, data in cell.updates)]
    assert all(set(data) == {"text/html", "text/plain"} for data in sketches)
    assert set(last) == {PLOTLY, "text/plain"}
    assert points(cell.at(0))[0].size == len(run.history)


def test_where_nobody_watches_there_is_no_widget_but_a_picture(cell, monkeypatch):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "headless")
    before = set(_instances)
    stepped(Dashboard())
    assert cell.shown == [{"text/plain": "trust-ncg · starting"}]
    ((_, data),) = cell.updates
    assert set(data) == {PLOTLY, "image/png", "text/plain"}
    assert set(_instances) - before == set()


@pytest.mark.parametrize("iterations", [None, 3])
def test_where_nobody_watches_the_last_line_waits(cell, runs, monkeypatch, iterations):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "headless")
    run = runs(start_point(), None, iterations=iterations)
    run._ipython_display_()
    assert set(cell.at(0)) == {PLOTLY, "image/png", "text/plain"}
    assert ("paused" if iterations else "finished") in title(cell.at(0))
    assert run.state == ("paused" if iterations else "finished")


def test_in_a_terminal_there_is_a_progress_line(capsys, runs):
    dashboard = Dashboard()
    optimizer = stepped(dashboard)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("trust-ncg · iteration ")
    assert err.count("\n") == 1
    assert optimizer.result.success
    run = runs(start_point(), dashboard)
    run.wait(LONG)
    run._ipython_display_()
    dashboard._ipython_display_()
    out, err = capsys.readouterr()
    assert out.splitlines() == [repr(run), repr(dashboard)]
    assert "finished" in err
    assert repr(dashboard).startswith("<Dashboard: trust-ncg · iteration ")
    assert repr(Dashboard()) == "<Dashboard: no run yet>"


@pytest.mark.parametrize(
    ("name", "missing"),
    [("Dashboard", "plotly"), ("convergence_figure", "plotly"), ("show", "plotly")],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch, name, missing):
    from torchmin_nb import views

    for module in ("live", "figures", "bundle", "picture", "scene", "screens", "session", "own_panel"):
        monkeypatch.delitem(sys.modules, f"torchmin_nb.views.{module}", raising=False)
        monkeypatch.delattr(views, module, raising=False)
    for module in [module for module in sys.modules if module.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Hidden(missing), *sys.meta_path])
    with pytest.raises(ImportError, match=rf"{name} needs {missing}: pip install 'torchmin-nb\[notebook\]'"):
        getattr(views, name)
    assert views.ProgressLine is ProgressLine


def test_a_name_that_views_does_not_have():
    from torchmin_nb import views

    with pytest.raises(AttributeError, match="'Dashbord'"):
        views.Dashbord  # noqa: B018


# With its own clock


def view_threads():
    return [thread for thread in threading.enumerate() if thread.name == "torchmin_nb view"]


@pytest.fixture
def ticking(monkeypatch):
    """A live notebook with the real clock."""
    cell = Cell()
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "notebook")
    monkeypatch.setattr("IPython.display.display", cell.display)
    return cell


@pytest.mark.parametrize("how", ["step", "start", "close"])
def test_nothing_is_left_of_a_dashboard_and_its_run(ticking, how):
    x = start_point()
    dashboard = Dashboard()
    optimizer = optimizer_of(x, dashboard)
    if how == "step":
        optimizer.step(lambda: rosenbrock(x))
    else:
        run = optimizer.start(lambda: rosenbrock(x), paused=True)
        assert view_threads()
        if how == "close":
            dashboard.close()
        run.resume()
        run.wait(LONG)
        del run
    for thread in view_threads():
        thread.join(LONG)
    assert view_threads() == []
    dashboard.close()
    left = weakref.ref(dashboard), weakref.ref(optimizer)
    del dashboard, optimizer
    ticking.shown.clear()
    gc.collect()
    assert [reference() for reference in left] == [None, None]


def test_the_clock_draws_in_a_thread_of_its_own(ticking, monkeypatch):
    threads, drawn, draw = set(), threading.Event(), PanelScreen.draw

    def noted(screen, scene):
        if len(next(iter(scene.histories.values()))):
            threads.add(threading.current_thread().name)
            drawn.set()
        return draw(screen, scene)

    monkeypatch.setattr(PanelScreen, "draw", noted)
    x = start_point()

    def until_drawn(iteration):
        assert drawn.wait(LONG)

    optimizer_of(x, Dashboard(), until_drawn).step(lambda: rosenbrock(x))
    assert threads == {"torchmin_nb view"}


# A notebook

HEAD = """
import torch
from torchmin_nb import MinimizeWrapper
from torchmin_nb.views import Dashboard, show

x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))

def closure():
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
"""
STEP = """
optimizer = MinimizeWrapper([x], "trust-ncg", callbacks=[Dashboard()])
optimizer.step(closure)
show(optimizer.history, title="again")
"""
RUN = """
run = MinimizeWrapper([x], "trust-ncg").start(closure)
run
"""
LIMITED = """
run = MinimizeWrapper([x], "trust-ncg").start(closure, iterations=3)
run
"""


def test_executed_cells_keep_figure_and_picture_and_no_widget(tmp_path):
    sources = [HEAD, STEP, RUN, "x.data = torch.tensor([-1.2, 1.0], dtype=torch.float64)", LIMITED, "run.stop()"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    nbformat.validate(book)
    assert "widgets" not in book.metadata
    step, run, limited = (book.cells[place].outputs for place in (1, 2, 4))
    assert [len(outputs) for outputs in (step, run, limited)] == [2, 1, 1]
    for output, word in zip([*step, *run, *limited], ["finished", "again", "finished", "paused"], strict=True):
        assert output.output_type == "display_data"
        assert set(output.data) == {PLOTLY, "image/png", "text/plain"}
        assert word in output.data["text/plain"]
        assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
    assert len(points(step[0].data)[0]) > 10
    assert len(points(limited[0].data)[0]) == 4
    assert len(nbformat.writes(book)) < 500_000


# A run that nobody keeps


def run_threads():
    return [thread for thread in threading.enumerate() if thread.name == "torchmin_nb trust-ncg"]


@pytest.mark.parametrize("shown", [True, False])
def test_a_run_that_stands_still_is_kept_by_the_panel_that_shows_it(cell, shown):
    dashboard, x = Dashboard(), start_point()
    optimizer = optimizer_of(x, dashboard)
    run = optimizer.start(lambda: rosenbrock(x), iterations=2)
    assert run.wait_until_paused(LONG)
    here = weakref.ref(run)
    if not shown:
        dashboard.close()
        cell.shown.clear()
    del run
    gc.collect()
    if shown:
        assert (here().state, len(run_threads())) == ("paused", 1)
        press(cell.shown[0], "stop")
    else:
        assert here() is None
    for thread in run_threads():
        thread.join(LONG)
    assert run_threads() == []
    assert optimizer.result.message.startswith("Stopped on request" if shown else "Stopped: the run was paused")


def test_a_run_that_stands_still_is_not_kept_by_a_progress_line(monkeypatch, capsys):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "terminal")
    dashboard, x = Dashboard(), start_point()
    optimizer_of(x, dashboard).start(lambda: rosenbrock(x), iterations=2)
    gc.collect()
    for thread in run_threads():
        thread.join(LONG)
    assert run_threads() == []
    assert len(dashboard.history) == 3
    assert "was paused" in dashboard.history.message
