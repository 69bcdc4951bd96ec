"""The explorer in this process: clicked and changed as a person does, without a browser."""

import gc
import math
import threading
import time
import weakref

import pytest
import torch
from ipywidgets.widgets.widget import _instances

from tests.proof import PROOF
from tests.views.shown import LONG, Cell
from torchmin_nb import MinimizeWrapper
from torchmin_nb.explore import catalogue, method, run, traits, unregister
from torchmin_nb.explore.fit import fit
from torchmin_nb.problems import PROBLEMS
from torchmin_nb.views import MethodExplorer
from torchmin_nb.views.explorer.layout import COMPARE, OPTIONS


@pytest.fixture
def explorer():
    made = MethodExplorer()
    yield made
    made.close()


@pytest.fixture
def of_function():
    """Makes explorers of functions."""
    made = []

    def make(*arguments, **keywords):
        made.append(MethodExplorer(*arguments, **keywords))
        return made[-1]

    yield make
    for each in made:
        each.close()


def ended(explorer):
    """The row of the run that was started, once it has ended."""
    assert explorer.wait(LONG)
    return explorer.table.rows[-1]


def ran(explorer, name):
    """The row of a run by this method."""
    explorer.method.value = name
    explorer.run_button.click()
    return ended(explorer)


def enabled(explorer):
    """The labels of the buttons that can be pressed in a view."""
    return {button["label"] for button in explorer.panel.whole()["buttons"] if button["enabled"]}


def press(explorer, action):
    """What a view sends at a click."""
    explorer.panel._handle_custom_msg({"type": "press", "action": action, "count": 1, "number": 1}, [])


def badges(explorer, monkeypatch):
    """All that the badge says from now on."""
    said = []
    publish = explorer.panel.publish
    monkeypatch.setattr(
        explorer.panel, "publish", lambda state: said.append(state.header.badge) or publish(state), raising=False
    )
    return said


def bowl(x):
    return ((x - 3) ** 2).sum()


# Pick, run, watch


def test_at_first_there_is_a_problem_a_method_and_a_picture_and_all_drawers_are_shut(explorer):
    assert explorer.problem.value == "Rosenbrock"
    assert explorer.method.value == "trust-exact"
    assert explorer.drawers.selected_index is None
    curves, picture = explorer.figures
    assert not curves.data
    assert [trace.type for trace in picture.data].count("contour") == 1
    assert explorer.walk.disabled
    state = explorer.panel.whole()
    assert (state["header"]["badge"], state["header"]["method"]) == ("ready", "trust-exact")
    assert "Press Run" in state["header"]["verdict"]
    assert "no run yet" in state["hint"]
    assert state["looks"] == []
    assert enabled(explorer) == {"Run", "Step"}


def test_a_run_is_drawn_told_and_becomes_a_row(explorer):
    explorer.run_button.click()
    row = ended(explorer)
    assert row.solved
    assert row.method == "trust-exact"
    assert "finished" in explorer.status
    assert explorer.status.endswith("solved")
    curves, picture = explorer.figures
    assert curves.data[0].y.tolist() == row.history.loss.tolist()
    assert len(explorer.panel.whole()["columns"][0][3]) == row.history.loss.nbytes
    assert "trust-exact" in [trace.name for trace in picture.data]
    assert "rejected trial" in [trace.name for trace in picture.data]
    assert explorer.compare.view.html.count('data-run="trust-exact"') == 1


def test_the_slider_walks_the_run_back_and_forth(explorer):
    explorer.run_button.click()
    row = ended(explorer)
    last = len(row.history) - 1
    assert explorer.walk.value == explorer.walk.max == last
    explorer.walk.value = 4
    path = next(trace for trace in explorer.figures[1].data if trace.name == "trust-exact")
    assert len(path.x) == 5
    circle = next(trace for trace in explorer.figures[1].data if (trace.name or "").startswith("trust region"))
    radius = ((circle.x - path.x[-1]) ** 2 + (circle.y - path.y[-1]) ** 2) ** 0.5
    assert radius == pytest.approx(row.history.trust_radius[4], rel=1e-5)
    assert explorer.walk.text == f"4 of {last}"
    cursor = explorer.panel.whole()["cursor"]
    assert cursor["iteration"] == 4
    assert cursor["closure calls"] == row.history.nfev[4]
    explorer.walk.value = last
    assert explorer.panel.whole()["cursor"] is None


def test_run_is_answered_before_the_run_is_made(explorer, monkeypatch):
    said, make = badges(explorer, monkeypatch), explorer.call.make

    def slow(call, **keywords):
        assert said[-1] == "starting"
        return make(**keywords)

    monkeypatch.setattr(type(explorer.call), "make", slow)
    press(explorer, "run")
    assert ended(explorer).solved
    assert said[0] == "starting"
    assert said[-1] == "finished"


def test_the_buttons_follow_the_run_and_nothing_changes_its_height(explorer):
    heights = {explorer.panel.whole()["layout"]["height"]}
    press(explorer, "step")
    run = explorer._bench.conductor.run_job.run
    assert run.wait_until_paused(LONG)
    while "Resume" not in enabled(explorer):
        explorer._bench.conductor.look()
    assert enabled(explorer) == {"Resume", "Step", "Stop"}
    press(explorer, "stop")
    ended(explorer)
    assert enabled(explorer) == {"Run", "Step"}
    explorer.method.value = "Nelder-Mead"
    press(explorer, "run")
    ended(explorer)
    state = explorer.panel.whole()
    heights |= {state["layout"]["height"], state["picture"]["layout"]["height"]}
    assert len(heights) == 1


def test_the_contours_are_sent_once_and_what_follows_is_small(explorer, monkeypatch):
    sent = []
    monkeypatch.setattr(explorer.panel, "send", lambda content, buffers=None: sent.append((content, buffers or [])))
    explorer.run_button.click()
    ended(explorer)
    deltas = [(content, buffers) for content, buffers in sent if content["type"] == "delta"]
    assert any("picture" in content for content, _ in deltas)
    assert all(content["picture"]["keep"] >= 1 for content, _ in deltas if "picture" in content)
    assert all(sum(map(len, buffers)) < 50_000 for _, buffers in deltas)
    whole = explorer.panel.whole()["picture"]["traces"]
    assert max(len(trace["z"]["bytes"]) for trace in whole if "z" in trace) > 50_000


def test_every_picture_can_be_shown(explorer):
    explorer.run_button.click()
    ended(explorer)
    captions = {}
    for view in explorer.view.options:
        explorer.view.value = view
        captions[view] = explorer.caption.value or explorer.panel.whole()["picture"]["hint"]
        assert not explorer.alert
    assert "step is taken" in captions["Inside the step"]
    assert "order" in captions["Order of convergence"]
    assert "tab Race" in captions["Performance profile"]


def test_a_run_is_paused_stepped_resumed_and_stopped(explorer):
    explorer.method.value = "CG"
    explorer.step_button.click()
    run = explorer._bench.conductor.run_job.run
    assert run.wait_until_paused(LONG)
    assert len(run.history) == 2
    explorer.step_button.click()
    assert run.wait_until_paused(LONG)
    assert len(run.history) == 3
    while explorer.pause_button.description != "Resume":
        explorer._bench.conductor.look()
    assert explorer.run_button.disabled
    explorer.speed.value = "1 a second"
    explorer.stop_button.click()
    assert ended(explorer).iterations <= 3
    assert not explorer.run_button.disabled
    assert explorer.pause_button.disabled


def test_resume_goes_on_to_the_end(explorer):
    explorer.step_button.click()
    assert explorer._bench.conductor.run_job.run.wait_until_paused(LONG)
    explorer.pause_button.click()
    assert ended(explorer).solved


# Options


def test_options_are_a_form_of_the_rows_with_the_right_widget(explorer):
    explorer.method.value = "L-BFGS-B"
    kinds = {name: type(field.input).__name__ for name, field in explorer.options.fields.items()}
    assert kinds["maxcor"] == "IntText"
    assert kinds["gtol"] == "Text"
    assert explorer.options.fields["gtol"].slider is not None
    explorer.method.value = "Nelder-Mead"
    assert type(explorer.options.fields["adaptive"].input).__name__ == "Checkbox"
    explorer.method.value = "trust-constr"
    assert type(explorer.options.fields["factorization_method"].input).__name__ == "Dropdown"


@pytest.mark.parametrize("name", list(catalogue()))
def test_a_form_left_alone_changes_no_option_and_each_option_has_its_help(explorer, name):
    explorer.budget.iterations.value = ""
    explorer.method.value = name
    explorer.options.reset.click()
    read = explorer.reading
    assert read.messages == {}
    assert read.call.options == {}
    for field in explorer.options.fields.values():
        assert field.input.tooltip == field.option.help
        assert field.option.name in field.name.value


def test_a_tolerance_has_a_log_slider_that_follows_and_leads(explorer):
    field = explorer.options.fields["gtol"]
    field.input.value = "1e-6"
    assert field.slider.value == pytest.approx(-6)
    field.slider.value = -3.0
    assert field.input.value == "0.001"
    assert explorer.call.options == {"gtol": 1e-3}


@pytest.mark.parametrize(("option", "value"), [("gtol", "-1"), ("gtol", "small"), ("eta", "0.5"), ("maxiter", "2.5")])
def test_a_wrong_value_is_refused_in_place_with_the_reason(explorer, option, value):
    explorer.options.fields[option].input.value = value
    assert "tm-wrong" in explorer.options.fields[option].note.value
    assert explorer.call is None
    explorer.run_button.click()
    assert not explorer.running
    assert option in explorer.alert
    assert explorer.drawers.selected_index == OPTIONS
    explorer.options.reset.click()
    assert "tm-wrong" not in explorer.options.fields[option].note.value
    explorer.run_button.click()
    assert ended(explorer).solved
    assert not explorer.alert


def test_options_of_a_method_return_with_it(explorer):
    explorer.method.value = "BFGS"
    explorer.options.fields["gtol"].input.value = "1e-2"
    explorer.method.value = "CG"
    assert explorer.call.options == {}
    explorer.method.value = "BFGS"
    assert explorer.call.options == {"gtol": 1e-2}


@pytest.mark.parametrize(
    ("budget", "value", "told"),
    [("iterations", "3", lambda row: row.iterations), ("evaluations", "7", lambda row: row.closure_calls)],
)
def test_budgets_end_a_run(explorer, budget, value, told):
    getattr(explorer.budget, budget).value = value
    assert told(ran(explorer, "CG")) <= int(value) + 1


# Problems


def test_settings_are_sliders_and_make_another_problem(explorer):
    explorer.problem.value = "Quadratic"
    condition = explorer._bench.form.problem.settings["condition"]
    condition.value = 3.0
    assert condition.text == "1000"
    explorer._bench.form.problem.settings["n"].value = math.log10(5)
    assert explorer.call.settings == {"n": 5, "condition": 1000.0}
    assert "N = 5" in explorer._bench.form.problem.card.value
    assert ran(explorer, "BFGS").solved


def test_a_click_on_the_contours_sets_the_start(explorer):
    explorer.panel._handle_custom_msg({"type": "point", "x": 0.5, "y": 2.0}, [])
    assert explorer._bench.form.problem.start.value == "0.5, 2"
    assert "next start" in [trace.name for trace in explorer.figures[1].data]
    explorer.run_button.click()
    assert ended(explorer).history.parameters[0].tolist() == [0.5, 2.0]


@pytest.mark.parametrize(("field", "value"), [("start", "1, 2, 3"), ("start", "a, b"), ("seed", "-1")])
def test_a_wrong_start_is_refused_in_place(explorer, field, value):
    getattr(explorer._bench.form.problem, field).value = value
    assert "alert" in explorer._bench.form.problem.message.value
    explorer.run_button.click()
    assert not explorer.running
    getattr(explorer._bench.form.problem, field).value = "0" if field == "seed" else ""
    assert not explorer._bench.form.problem.message.value


def test_limits_disable_methods_until_they_are_not_heeded(explorer):
    explorer.problem.value = "Rosenbrock in a disc"
    assert "BFGS" not in explorer.method.enabled
    assert explorer.method.value in explorer.method.enabled
    explorer._bench.form.problem.constraints.value = False
    assert "BFGS" in explorer.method.enabled


def test_a_suggestion_gives_reasons_and_measured_times_and_can_be_taken(explorer):
    explorer.method.value = "CG"
    told = explorer._bench.form.method.suggestion.value
    assert "closure call with its gradient takes" in told
    assert "Hessian-vector product" in told
    explorer._bench.form.method.suggested.click()
    best = explorer._bench.form.method.advice.best
    assert (explorer.method.value, explorer.call.options) == (best.method, dict(best.options))


def test_a_function_of_ones_own(of_function):
    explorer = of_function(bowl, [0.0, 0.0])
    explorer.run_button.click()
    row = ended(explorer)
    assert row.solved is None
    assert row.x.tolist() == pytest.approx([3.0, 3.0])
    assert "def bowl" in explorer.files.code
    assert explorer.view.options[0] == "Landscape"


def test_a_model_of_ones_own_starts_where_it_was_each_time(of_function):
    model = torch.nn.Linear(3, 1, dtype=torch.float64)
    before = [p.detach().clone() for p in model.parameters()]
    inputs = torch.eye(3, dtype=torch.float64)
    explorer = of_function(model=model, closure=lambda: (model(inputs) - 1).square().mean())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    starts = [ran(explorer, name).history.parameters[0] for name in ("BFGS", "CG")]
    assert starts[0].tolist() == starts[1].tolist()
    assert explorer.view.options[0] == "Plane of the run"


def test_a_larger_problem_is_seen_in_planes_sampled_on_demand(explorer):
    explorer.problem.value = "Wood"
    ran(explorer, "BFGS")
    for view in ("Plane of the run", "Plane of the Hessian"):
        explorer.view.value = view
        assert explorer.sample_button.layout.display == ""
        explorer.sample_button.click()
        assert explorer.wait(LONG)
        assert not explorer.alert
        assert "contour" in [trace.type for trace in explorer.figures[1].data]
        assert explorer.sample_button.layout.display == "none"


# Compare


def test_runs_are_pinned_hidden_renamed_sorted_and_deleted(explorer):
    for name in ("CG", "BFGS", "Powell"):
        ran(explorer, name)
    compare = explorer.compare
    compare.sort("closure_calls")
    calls = [row.closure_calls for row in explorer.table.shown]
    assert calls == sorted(calls)
    compare.view.chosen = ["Powell"]
    compare.pin.click()
    assert explorer.table.shown[0].name == "Powell"
    compare.hide.click()
    assert "Powell" not in explorer.histories()
    assert compare.hide.description == "Show again"
    compare.hide.click()
    compare.name.value = "CG"
    compare.rename.click()
    assert "taken" in compare.message.value
    compare.name.value = "mine"
    compare.rename.click()
    assert "mine" in explorer.table.names
    compare.delete.click()
    assert explorer.table.names == ("CG", "BFGS")
    names = {trace.name for trace in explorer.figures[0].data}
    assert names == {"CG", "BFGS"}


@pytest.mark.parametrize("x", ["closure calls", "seconds"])
def test_curves_overlay_against_another_axis(explorer, x):
    row = ran(explorer, "CG")
    explorer.panel.x = x
    column = {"closure calls": row.history.nfev, "seconds": row.history.elapsed}[x]
    assert explorer.figures[0].data[0].x == pytest.approx(column, rel=1e-5)


def test_a_race_runs_the_chosen_methods_from_one_start(explorer):
    assert {"BFGS", "Nelder-Mead"} < set(explorer.race.methods.value) < set(explorer.race.methods.enabled)
    explorer.race.methods.value = []
    explorer.race.go.click()
    assert "Select" in explorer.race.message.value
    explorer.race.methods.value = ["BFGS", "trust-ncg", "CG"]
    explorer.race.go.click()
    assert explorer.wait(LONG)
    assert "3 runs, 3 solved" in explorer.status
    assert explorer.table.names == ("BFGS", "trust-ncg", "CG")
    starts = {tuple(row.history.parameters[0]) for row in explorer.table.rows}
    assert len(starts) == 1
    assert explorer.drawers.selected_index == COMPARE


def test_a_race_in_processes(explorer):
    explorer.race.methods.value = ["BFGS", "CG"]
    explorer.race.workers.value = 2
    explorer.race.go.click()
    assert explorer.wait(LONG)
    assert "2 runs, 2 solved. BFGS: loss" in explorer.status
    assert set(explorer.table.names) == {"BFGS", "CG"}
    assert explorer.table["BFGS"].loss == run(explorer.table["BFGS"].call).loss


def test_a_race_over_problems_and_starts_ends_in_a_profile(explorer):
    explorer.race.methods.value = ["BFGS", "trust-exact"]
    explorer.race.problems.value = ["Beale", "Rosenbrock in a disc"]
    explorer.race.starts.value = 2
    explorer.race.go.click()
    assert explorer.wait(LONG)
    assert len(explorer.table) == 8  # neither method takes constraints
    assert explorer.view.value == "Performance profile"
    assert {"BFGS", "trust-exact"} <= {trace.name for trace in explorer.figures[1].data}
    assert "4 problems" in explorer.caption.value


def test_a_method_of_ones_own_has_its_row(of_function):
    @method("my-descent", needs="gradient")
    def steepest(fun, x0, grad):
        x = x0
        for _ in range(200):
            x = x - 0.1 * grad(x)
            yield x

    try:
        explorer = of_function(bowl, [0.0, 0.0])
        assert "my-descent" in explorer.method.enabled
        assert ran(explorer, "my-descent").x.tolist() == pytest.approx([3.0, 3.0], abs=1e-6)
    finally:
        unregister("my-descent")


# Save and copy


def test_the_code_of_the_run_does_the_same_again(explorer):
    explorer.budget.seconds.value = ""
    row = ran(explorer, "BFGS")
    scope = {}
    exec(compile(explorer.files.code, "script", "exec"), scope)
    assert isinstance(scope["optimizer"], MinimizeWrapper)
    assert scope["result"].fun == row.loss


def test_files_are_made_when_they_are_asked_for(explorer, monkeypatch):
    answers = []
    monkeypatch.setattr(explorer.files, "send", answers.append)
    explorer.files._handle_custom_msg({"want": "csv"}, [])
    assert "no run to save" in answers.pop()["error"]
    ran(explorer, "CG")
    for entry in explorer.files.files:
        explorer.files._handle_custom_msg({"want": entry["key"]}, [])
    made = {entry["key"]: answer for entry, answer in zip(explorer.files.files, answers, strict=True)}
    assert made["csv"]["text"].startswith("name,problem,method")
    assert made["json"]["type"] == "application/json"
    assert "<table" in made["report"]["text"]
    assert "plotly" in made["report"]["text"]
    assert "<script" in made["animation"]["text"]


# Bad input


def raises(x):
    raise KeyError("no data")


@pytest.mark.parametrize(
    ("arguments", "keywords", "told"),
    [
        ((raises, [0.0, 0.0]), {}, "call it once yourself"),
        ((lambda x: x.sum() * float("nan"), [0.0, 0.0]), {}, "start at a point where it is finite"),
        ((lambda x: x**2, [0.0, 0.0]), {}, "scalar"),
        ((bowl, [float("nan"), 0.0]), {}, "finite numbers"),
        ((bowl,), {}, "needs a start"),
        ((), {"model": torch.nn.Linear(1, 1)}, "pass both"),
    ],
)
def test_a_wrong_problem_is_told_with_its_remedy_and_the_panel_stays_alive(of_function, arguments, keywords, told):
    explorer = of_function(*arguments, **keywords)
    assert told in explorer.alert
    explorer.run_button.click()
    assert ended(explorer).solved
    assert not explorer.alert


def test_a_closure_that_fails_on_the_way_is_told_and_is_a_row(of_function):
    calls = []

    def breaks(x):
        calls.append(1)
        if len(calls) > 60:
            raise RuntimeError("out of data")
        return ((x - 3) ** 4).sum()

    explorer = of_function(breaks, [0.0, 0.0, 0.0])
    calls.extend([1] * (55 - len(calls)))
    row = ran(explorer, "BFGS")
    assert row.failed
    assert "out of data" in explorer.alert
    assert "run again" in explorer.alert
    explorer.problem.value = "Beale"
    assert ran(explorer, "BFGS").solved


# State


def test_two_explorers_do_not_disturb_each_other(explorer, of_function):
    other = of_function()
    explorer.method.value, other.method.value = "BFGS", "CG"
    for each in (explorer, other):
        each.run_button.click()
    for each in (explorer, other):
        ended(each)
    assert (explorer.table.names, other.table.names) == (("BFGS",), ("CG",))


def test_running_its_cell_again_shows_the_same_state_once(monkeypatch):
    monkeypatch.setattr("torchmin_nb.views.explorer.explorer.place_here", lambda: ("a cell", 0))
    monkeypatch.setattr("torchmin_nb.views.explorer.explorer.front_end", lambda: "notebook")
    cell = Cell()
    monkeypatch.setattr("IPython.display.display", cell.display)
    first = MethodExplorer()
    first._ipython_display_()
    first.problem.value = "Quadratic"
    first._bench.form.problem.settings["condition"].value = 3.0
    first.method.value = "CG"
    first.options.fields["gtol"].input.value = "1e-3"
    first.panel.scale = "linear"
    first.run_button.click()
    ended(first)
    curves = first.panel.whole()["columns"]
    second = MethodExplorer()
    assert second.call == first.call
    assert second.table.names == ("CG",)
    assert first.panel.comm is None
    second._ipython_display_()
    second._ipython_display_()
    assert cell.shown[-2:] == [second.widget, second.widget]
    assert second.panel.whole()["columns"] == curves
    assert second.panel.scale == "linear"
    second.close()
    assert all("application/vnd.plotly.v1+json" in cell.at(place) for place in (1, 2))


def test_closing_stops_the_run_and_frees_thread_and_widgets():
    before = set(_instances)
    explorer = MethodExplorer()
    explorer.speed.value = "1 a second"
    explorer.run_button.click()
    run = explorer._bench.conductor.run_job.run
    explorer.close()
    explorer.close()
    assert run.wait(LONG).status == 99
    assert not set(_instances) - before
    assert explorer.wait(0)


@pytest.mark.parametrize("going_on", [False, True])
def test_deleting_one_frees_its_widgets_its_workbench_and_its_threads(going_on):
    before = set(_instances)
    explorer = MethodExplorer()
    explorer.speed.value = "1 a second" if going_on else "full speed"
    explorer.run_button.click()
    run = explorer._bench.conductor.run_job.run if going_on else None
    if not going_on:
        ended(explorer)
    gone = [weakref.ref(explorer), weakref.ref(explorer._bench)]
    del explorer
    if going_on:
        assert run.wait(LONG).status == 99
        del run
    deadline = time.monotonic() + LONG  # its clock may be in its last tick
    while time.monotonic() < deadline and (ticking() or any(each() is not None for each in gone)):
        gc.collect()
        time.sleep(0.01)
    assert [each() for each in gone] == [None, None]
    assert not set(_instances) - before
    assert not ticking()


def ticking():
    return [thread for thread in threading.enumerate() if thread.name == "torchmin_nb view"]


def test_elsewhere_it_is_a_line_or_a_picture(explorer, capsys, monkeypatch):
    explorer._ipython_display_()
    assert capsys.readouterr().out == "<MethodExplorer: Rosenbrock, trust-exact, 0 runs>\n"
    explorer.run_button.click()
    ended(explorer)
    cell = Cell()
    monkeypatch.setattr("IPython.display.display", cell.display)
    monkeypatch.setattr("torchmin_nb.views.explorer.explorer.front_end", lambda: "headless")
    explorer._ipython_display_()
    assert {"image/png", "text/plain"} <= set(cell.at(0))


def test_buttons_have_names_and_tips(explorer):
    for each in (explorer.run_button, explorer.pause_button, explorer.step_button, explorer.stop_button):
        assert each.description.isalpha()
        assert each.tooltip


# Every method


PLANE = ["Rosenbrock", "Rastrigin", "Rosenbrock in a box", "Rosenbrock in a disc", "NIST Misra1a"]  # one of each kind
PLANE += ["Himmelblau", "Beale", "Saddle", "Nonsmooth Rosenbrock", "Quadratic"] if PROOF else []
SPREAD = ["Wood", "HS71", "Breast cancer", "Digits network", "Digits softmax", *(["Gaussian process"] if PROOF else [])]
BUDGET = 1500
GLOBAL = {name for name, row in catalogue().items() if row.kind == "global"}
LOCAL_ONLY = "it ends at the nearest of several minima"
KINKS = "it stops at a kink"
EXPECTED_TO_FAIL = {
    ("Rosenbrock", "COBYLA"): "its linear models crawl along the valley",
    ("Rosenbrock", "shgo"): "its few samples find no basin to descend into",
    ("Beale", "COBYLA"): "its trust region shrinks before the answer",
    **{("Rastrigin", name): LOCAL_ONLY for name in catalogue() if name not in GLOBAL},
    ("Rastrigin", "brute"): LOCAL_ONLY,
    **{
        ("Nonsmooth Rosenbrock", name): KINKS
        for name in catalogue()
        if name not in ("Nelder-Mead", "SLSQP", "basinhopping", "differential_evolution", "direct")
    },
    ("Quadratic", "Powell"): "its line searches turn with the axes",
    ("Quadratic", "COBYLA"): "its trust region shrinks before the answer",
    ("Rosenbrock in a box", "Powell"): "its line searches end at the corner of the box",
    ("Rosenbrock in a box", "trust-constr"): "its barrier keeps it off the bound",
    ("Rosenbrock in a box", "direct"): "its rectangles are not small enough within the budget",
    ("Rosenbrock in a disc", "COBYLA"): "its trust region shrinks before the answer",
    ("Rosenbrock in a disc", "differential_evolution"): "its tolerance is looser than the problem's",
    **{
        ("NIST Misra1a", name): "its parameters differ by six decades"
        for name in ("CG", "L-BFGS-B", "TNC", "SLSQP", "Newton-CG", "COBYLA", "COBYQA")
    },
}
"""Pairs that fit and do not reach the known answer within the budget, with the reason."""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # SciPy's own, where a line search overflows
@pytest.mark.parametrize("problem", PLANE)
def test_every_method_reaches_the_answer_or_is_disabled_or_is_known_to_fail(explorer, problem):
    explorer.budget.evaluations.value = str(BUDGET)
    explorer.problem.value = problem
    spec = PROBLEMS[problem]
    known = traits(spec.make(), spec)
    failed = set()
    for name, row in catalogue().items():
        fits = fit(row, known)
        assert (name in explorer.method.enabled) == fits.fits
        if not fits:
            assert fits.reason in str(explorer.method.groups)
            continue
        end = ran(explorer, name)
        assert not end.failed
        assert not explorer.alert
        failed |= set() if end.solved else {name}
    assert failed == {name for of, name in EXPECTED_TO_FAIL if of == problem and name in explorer.method.enabled}


@pytest.mark.parametrize("problem", SPREAD)
def test_the_suggestion_solves_a_larger_problem(explorer, problem):
    explorer.problem.value = problem
    explorer._bench.form.method.suggested.click()
    explorer.run_button.click()
    assert ended(explorer).solved
