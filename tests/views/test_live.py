"""The Dashboard, in this process and without a browser; and one notebook, executed by nbclient."""

import base64
import json
import sys
import time
from types import SimpleNamespace

import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from nbclient import NotebookClient

from tests.views.histories import a_history, waves
from torchmin_nb import History, MinimizeWrapper
from torchmin_nb.errors import ArgumentError, ViewWarning
from torchmin_nb.views import Dashboard, ProgressLine, live
from torchmin_nb.views.figures import POINTS
from torchmin_nb.views.frontend import HEADLESS, NOTEBOOK

PLOTLY = "application/vnd.plotly.v1+json"


class Screen:
    """A front end that notes what is displayed, and what displays are updated to."""

    def __init__(self):
        self.shown, self.updates = [], []

    def display(self, shown, *, raw=False, display_id=None):
        assert display_id is True
        self.shown.append((shown, raw))
        place = len(self.shown) - 1
        return SimpleNamespace(update=lambda data, *, raw: self.updates.append((place, data, raw)))


@pytest.fixture
def screen(monkeypatch):
    """The screen of a live notebook."""
    screen = Screen()
    monkeypatch.setattr(live, "front_end", lambda: NOTEBOOK)
    monkeypatch.setattr("IPython.display.display", screen.display)
    return screen


@pytest.fixture
def draws(monkeypatch):
    """A number for each redraw: how many iterations there were."""
    seen, draw = [], live._FigureView._draw
    monkeypatch.setattr(live._FigureView, "_draw", lambda view: (seen.append(len(view._history)), draw(view))[1])
    return seen


def rosenbrock(dashboard, method="trust-ncg", **keywords):
    """A short run that the dashboard watches."""
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = MinimizeWrapper([x], method, callbacks=[dashboard], **keywords)
    optimizer.step(lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    return optimizer


def follow(dashboard, source, before_each=lambda: None):
    """Let a dashboard follow a history as it grows, without an end."""
    history = History(source.method)
    dashboard.on_start(history)
    for iteration in source:
        history.append(iteration)
        before_each()
        dashboard(iteration)
    return history


def points(data, trace=0):
    """x and y of a trace of a static bundle, where arrays are stored as base64."""
    stored = [data[PLOTLY]["data"][trace][axis] for axis in "xy"]
    return [np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"]) for array in stored]


class Hidden:
    """An import finder that hides a package."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_run_is_shown_live_and_leaves_its_picture(screen):
    optimizer = rosenbrock(Dashboard())
    ((widget, raw),) = screen.shown
    assert isinstance(widget, go.FigureWidget)
    assert not raw
    ((place, data, raw),) = screen.updates
    assert place == 0
    assert raw
    assert set(data) == {PLOTLY, "text/plain"}
    assert "finished: Optimization terminated successfully" in data["text/plain"]
    json.dumps(data, allow_nan=False)

    history = optimizer.history
    for trace, column in enumerate([history.loss, history.grad_norm, history.trust_radius]):
        x, y = points(data, trace)
        np.testing.assert_array_equal(x, history.index)
        np.testing.assert_array_equal(y, column)
    np.testing.assert_array_equal(widget.data[0].y, history.loss)


def test_the_x_axis_can_be_chosen(screen):
    optimizer = rosenbrock(Dashboard(x="closure calls", height=300))
    (_, data, _) = screen.updates[0]
    x, _ = points(data)
    np.testing.assert_array_equal(x, optimizer.history.nfev)
    assert data[PLOTLY]["layout"]["height"] == 300


@pytest.mark.parametrize(
    ("keywords", "message"), [({"x": "nfev"}, "'closure calls'"), ({"rate": 0}, "positive"), ({"rate": -1.0}, "-1.0")]
)
def test_what_it_cannot_draw_is_refused_at_once(keywords, message):
    with pytest.raises(ArgumentError, match=message):
        Dashboard(**keywords)


# Redraws


@pytest.mark.parametrize("rate", [2.0, 5.0])
def test_it_redraws_on_a_clock_and_not_per_iteration(screen, draws, rate):
    now = [0.0]
    dashboard = Dashboard(rate=rate)
    dashboard._clock = lambda: now[0]
    follow(dashboard, waves(10_000), lambda: now.__setitem__(0, now[0] + 1e-3))
    assert 0.95 * 10 * rate <= len(draws) <= 10 * rate + 1


def test_slow_drawing_leaves_time_for_the_run(screen, monkeypatch):
    now, draws = [0.0], []
    monkeypatch.setattr(live._FigureView, "_draw", lambda view: (draws.append(1), now.__setitem__(0, now[0] + 1.0)))
    dashboard = Dashboard(rate=5)
    dashboard._clock = lambda: now[0]
    follow(dashboard, waves(1000), lambda: now.__setitem__(0, now[0] + 0.01))
    assert len(draws) == pytest.approx(1000 * 0.01 / 0.2, rel=0.06)


def test_the_first_iteration_is_drawn_at_once_and_the_end_in_any_case(screen, draws):
    dashboard = Dashboard()
    dashboard._clock = lambda: 50.0
    optimizer = rosenbrock(dashboard)
    assert draws == [1, len(optimizer.history)]


def test_watching_costs_no_closure_call(screen):
    watched = rosenbrock(Dashboard()).history
    alone = rosenbrock(lambda iteration: None).history
    np.testing.assert_array_equal(watched.nfev, alone.nfev)
    np.testing.assert_array_equal(watched.loss, alone.loss)


def test_a_redraw_keeps_the_zoom_of_the_person(screen):
    dashboard = Dashboard()
    history = follow(dashboard, a_history(length=5, ended=False))
    widget = screen.shown[0][0]
    widget.layout.xaxis.range, widget.layout.yaxis.range = (1, 3), (-2, 0)
    assert widget.layout.yaxis.dtick == "D2"
    for iteration in a_history(length=40, ended=False):
        history.append(iteration)
    dashboard._redraw()
    assert widget.layout.yaxis.dtick == 2
    dashboard.on_end(history)
    look = screen.updates[0][1][PLOTLY]["layout"]
    assert look["xaxis"]["range"] == [1, 3]
    assert look["yaxis"]["range"] == [-2, 0]


def test_a_loss_that_turns_negative_makes_its_axis_linear(screen):
    dashboard = Dashboard()
    history = follow(dashboard, a_history(length=5, ended=False))
    widget = screen.shown[0][0]
    assert widget.layout.yaxis.type == "log"
    history.append(a_history(length=1, offset=-9, ended=False)[0])
    dashboard._redraw()
    assert widget.layout.yaxis.type == "linear"
    assert widget.layout.yaxis2.type == "log"


def test_the_note_on_the_missing_radius_goes_when_there_is_one(screen):
    dashboard = Dashboard()
    dashboard.on_start(History("trust-ncg"))
    widget = screen.shown[0][0]
    assert len(widget.layout.annotations) == 1
    dashboard.on_end(follow(dashboard, a_history()))
    assert len(widget.layout.annotations) == 0
    assert widget.layout.yaxis3.showticklabels
    assert widget.layout.yaxis4.visible
    rosenbrock(dashboard, "CG")
    assert "no trust region in CG" in widget.layout.annotations[0].text
    assert not widget.layout.yaxis4.visible


def test_a_long_run_is_drawn_thinned_and_soon(screen, capsys):
    dashboard = Dashboard()
    history = follow(dashboard, waves(10_000))
    widget = screen.shown[0][0]
    for count in (10_000, 100_000):
        for iteration in waves(count)[len(history) :]:
            history.append(iteration)
        dashboard._redraw()
        start = time.perf_counter()
        dashboard._redraw()
        with capsys.disabled():
            print(f" [a redraw of {count:,} iterations: {1e3 * (time.perf_counter() - start):.1f} ms]", end="")
    assert 1000 < len(widget.data[0].x) <= POINTS + 2
    assert widget.data[0].x[-1] == 99_999
    dashboard.on_end(history)
    (_, data, _) = screen.updates[0]
    assert len(json.dumps(data)) < 120_000
    x, _ = points(data)
    assert x[0] == 0
    assert x[-1] == 99_999


# Several runs


def test_one_widget_serves_several_runs_and_each_leaves_a_picture(screen):
    dashboard = Dashboard()
    first, second = rosenbrock(dashboard), rosenbrock(dashboard, "BFGS")
    assert len(screen.shown) == 2
    assert screen.shown[0][0] is screen.shown[1][0]
    assert [place for place, _, _ in screen.updates] == [0, 1]
    for optimizer, (_, data, _) in zip((first, second), screen.updates, strict=True):
        assert data["text/plain"].startswith(optimizer.name)
        _, y = points(data)
        np.testing.assert_array_equal(y, optimizer.history.loss)
    assert len(screen.shown[0][0].data) == 5


# A run that does not end well


def test_a_run_that_is_stopped_leaves_a_picture(screen):
    rosenbrock(Dashboard(), max_evaluations=5)
    assert "ended:" in screen.updates[0][1]["text/plain"]


@pytest.mark.parametrize("moment", ["on_start", "__call__", "on_end"])
def test_a_dashboard_that_fails_is_dropped_with_one_warning(screen, monkeypatch, moment):
    def fail(self, argument):
        raise KeyError("no such colour")

    monkeypatch.setattr(live._FigureView, moment, fail)
    with pytest.warns(ViewWarning, match="the run goes on: KeyError: 'no such colour'") as warned:
        optimizer = rosenbrock(Dashboard(rate=1e9))
    assert len(warned) == 1
    assert optimizer.result.success
    assert optimizer.history[-1].loss < 1e-8


def test_a_dashboard_that_failed_is_tried_again_at_the_next_run(screen, monkeypatch):
    dashboard = Dashboard()
    with monkeypatch.context() as broken:
        broken.setattr(live, "front_end", lambda: 1 / 0)
        with pytest.warns(ViewWarning, match="ZeroDivisionError"):
            rosenbrock(dashboard)
    rosenbrock(dashboard)
    assert len(screen.updates) == 1


# Other front ends


def test_where_nobody_watches_there_is_no_widget_but_a_picture(screen, monkeypatch):
    monkeypatch.setattr(live, "front_end", lambda: HEADLESS)
    rosenbrock(Dashboard())
    assert screen.shown == [({"text/plain": "trust-ncg · starting"}, True)]
    (_, data, _) = screen.updates[0]
    assert set(data) == {PLOTLY, "image/png", "text/plain"}


def test_in_a_terminal_there_is_a_progress_line(capsys):
    dashboard = Dashboard()
    optimizer = rosenbrock(dashboard)
    assert isinstance(dashboard._view, ProgressLine)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("trust-ncg · iteration ")
    assert err.count("\n") == 1
    assert optimizer.result.success


@pytest.mark.parametrize(
    ("name", "missing"),
    [("Dashboard", "plotly"), ("Dashboard", "anywidget"), ("convergence_figure", "plotly"), ("show", "plotly")],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch, name, missing):
    from torchmin_nb import views

    for module in ("live", "figures", "bundle", "picture"):
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


# A notebook

CELL = """
import torch
from torchmin_nb import MinimizeWrapper
from torchmin_nb.views import Dashboard, show

x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
optimizer = MinimizeWrapper([x], "trust-ncg", callbacks=[Dashboard()])
optimizer.step(lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
show(optimizer.history, title="again")
"""


def test_an_executed_notebook_keeps_the_picture_and_no_widget(tmp_path):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    nbformat.validate(book)
    outputs = book.cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data", "display_data"]
    for output, text in zip(outputs, ["trust-ncg · iteration", "again"], strict=True):
        assert set(output.data) == {PLOTLY, "image/png", "text/plain"}
        assert output.data["text/plain"].startswith(text)
    assert "widgets" not in book.metadata
    x, y = points(outputs[0].data)
    assert len(x) == len(y) > 10
    assert len(nbformat.writes(book)) < 200_000
