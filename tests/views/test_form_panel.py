"""The explorer's form on its own: what is told, and what of it outlives the panel."""

import pytest

from torchmin_nb.explore import Call, Traits, catalogue, of_function, traits
from torchmin_nb.problems import PROBLEMS
from torchmin_nb.views.explorer.form_panel import SPEEDS, FormPanel
from torchmin_nb.views.explorer.parts import free
from torchmin_nb.views.explorer.problem_panel import OWN
from torchmin_nb.views.explorer.race_panel import RacePanel, race_names


@pytest.fixture
def panel():
    """Makes panels that tell into a list, as the workbench hears them, with the problem of their menu shown."""
    made = []

    def make(subject=None):
        told = []
        panel = FormPanel(subject, told.append)
        panel.told = told
        made.append(panel)
        show(panel)
        return panel

    yield make
    for each in made:
        free(each.problem.menu, each.problem.card, each.method.menu, each.method.engine, each.method.card, each.speed)
        free(*(part.drawer for part in (each.problem, each.method, each.options, each.budget)))


def show(panel):
    problem = panel.problem_call.make()
    panel.show(problem, traits(problem, panel.problem.spec))
    panel.told.clear()


def fill(form, problem, *, seed, gtol, speed):
    form.problem.menu.value = problem
    form.problem.seed.value = seed
    form.method.menu.value = "CG"
    form.choose_method()
    form.options.fields["gtol"].input.value = gtol
    form.speed.value = speed


def bowl(x):
    return ((x - 3) ** 2).sum()


def test_every_field_is_told_by_its_kind(panel):
    form = panel()
    fill(form, "Beale", seed="1", gtol="1e-3", speed="1 a second")
    form.budget.seconds.value = "5"
    assert form.told == ["problem", "start", "method", "options", "budget", "budget"]
    call = Call("Beale", "CG", seed=1, options={"gtol": 1e-3}, max_iterations=1000, max_seconds=5.0, pace=1.0)
    assert form.reading.call == call


def test_what_is_wrong_is_said_beside_its_field_and_only_there(panel):
    form = panel()
    form.budget.seconds.value = "0"
    assert "max_seconds" in form.show_messages().messages
    assert "above 0" in form.budget.message.value
    assert not form.problem.message.value
    form.problem.seed.value = "-1"
    form.budget.seconds.value = ""
    form.show_messages()
    assert "seed" in form.problem.message.value
    assert not form.budget.message.value
    assert form.problem_call is None


def test_the_suggestion_is_taken_with_its_options_in_one_change(panel):
    form = panel()
    form.method.menu.value = "CG"
    form.choose_method()
    form.told.clear()
    form.method.suggested.click()
    best = form.method.advice.best
    assert form.told == ["options"]
    assert (form.reading.call.method, form.reading.call.options) == (best.method, dict(best.options))
    assert form.fit


def choose(form, method, engine=None):
    form.method.menu.value = method
    if engine is not None:
        form.method.engine.value = engine
    form.choose_method()


@pytest.mark.parametrize("row", catalogue().values(), ids=catalogue())
def test_the_engine_is_offered_where_there_are_two(panel, row):
    form = panel()
    choose(form, row.name, "torch")
    assert form.method.engine.layout.display == ("" if len(row.engines) > 1 else "none")
    assert form.raw.engine == ("torch" if "torch" in row.engines else "scipy")
    assert form.reading.call.engine == ("torch" if len(row.engines) > 1 else None)
    assert set(form.options.fields) == set(row.on(form.raw.engine).options)
    assert ("runs on</b> SciPy" in form.method.card.value) == ("scipy" in row.engines)


def test_the_engine_and_what_only_scipy_has_are_remembered(panel):
    form = panel()
    choose(form, "trust-ncg")
    form.options.fields["return_all"].input.value = True
    form.options.fields["gtol"].input.value = "1e-7"
    form.told.clear()
    form.method.engine.value = "torch"
    assert form.told == ["method"]
    form.choose_method()
    assert form.reading.call == Call(
        "Rosenbrock", "trust-ncg", options={"gtol": 1e-7}, max_iterations=1000, max_seconds=60.0, engine="torch"
    )
    choose(form, "TNC")
    assert form.reading.call.engine is None
    choose(form, "trust-ncg")
    assert form.reading.call.engine == "torch"
    other = panel()
    other.recall(form.choices())
    assert other.reading.call == form.reading.call
    choose(other, "trust-ncg", "scipy")
    assert other.reading.call.options == {"gtol": 1e-7, "return_all": True}
    choose(other, "trust-ncg", "torch")
    other.options.reset.click()
    choose(other, "trust-ncg", "scipy")
    assert other.reading.call.options == {}


def test_a_suggestion_brings_its_engine(panel):
    form = panel()
    choose(form, "trust-ncg", "torch")
    form.method.suggested.click()
    assert (form.reading.call.method, form.reading.call.engine) == ("trust-exact", None)
    known = Traits(n=500)
    form.method.offer(known)
    assert "engine = torch" in form.method.suggestion.value
    form.method.suggested.click()
    assert (form.raw.method, form.raw.engine) == ("BFGS", "torch")


def test_a_method_that_fits_on_the_device_only_can_be_chosen_and_says_so(panel):
    form = panel()
    choose(form, "BFGS")
    form.method.offer(Traits(n=20_000, memory=8e9))
    assert form.method.menu.value != "BFGS"  # by SciPy
    assert "BFGS" in form.method.menu.enabled
    choose(form, "BFGS", "scipy")
    assert "N×N = 3.2 GB" in form.fit.reason
    choose(form, "BFGS", "torch")
    assert form.fit


def test_options_of_other_methods_are_kept_and_wrong_ones_left_out(panel):
    form = panel()
    for name, value in (("BFGS", "1e-2"), ("CG", "-1")):
        form.method.menu.value = name
        form.choose_method()
        form.options.fields["gtol"].input.value = value
    assert form.kept_options("BFGS") == {"gtol": 1e-2}
    assert form.kept_options("CG") == {}
    assert form.kept_options("L-BFGS-B") == {}


def test_another_form_recalls_what_was_chosen(panel):
    first, second = panel(), panel()
    fill(first, "Quadratic", seed="2", gtol="1e-3", speed="5 a second")
    first.problem.settings["condition"].value = 3.0
    first.budget.evaluations.value = "70"
    second.recall(first.choices())
    assert second.reading.call == first.reading.call
    assert second.reading.call.pace == SPEEDS["5 a second"]


def test_of_a_problem_that_is_not_there_only_method_and_speed_are_recalled(panel):
    own, gallery = panel(of_function(bowl, [0.0, 0.0])), panel()
    own.problem.seed.value, own.method.menu.value, own.speed.value = "4", "Powell", "1 a second"
    assert own.choices().fields["problem"] == OWN
    gallery.recall(own.choices())
    assert gallery.problem.menu.value == next(iter(PROBLEMS))
    assert gallery.problem.seed.value == "0"
    assert (gallery.method.menu.value, gallery.speed.value) == ("Powell", "1 a second")


def test_runs_of_a_race_are_named_by_what_tells_them_apart():
    one = [Call("Beale", "CG"), Call("Beale", "BFGS")]
    assert race_names(one) == ["CG", "BFGS"]
    assert race_names([*one, Call("Beale", "CG", seed=1)])[1:] == ["BFGS · Beale · seed 0", "CG · Beale · seed 1"]
    assert race_names([*one, Call("Beale", "CG", engine="torch")])[-1] == "CG (torch)"


def test_both_engines_of_a_method_can_be_ticked_for_a_race():
    race = RacePanel(lambda: None)
    race.offer(Traits(n=2, residuals=9))
    by_torch = {label for label in race.methods.enabled if label.endswith("(torch)")}
    assert by_torch == {f"{row.name} (torch)" for row in catalogue().values() if len(row.engines) > 1}
    race.methods.value = ["trust-ncg", "trust-ncg (torch)", "SSBFGS"]
    call = Call("Beale", "Powell", max_seconds=5.0)
    kept = {("trust-ncg", "torch"): {"gtol": 1e-9}}
    assert race.calls(call, lambda *runner: kept.get(runner, {})) == [
        Call("Beale", "trust-ncg", max_seconds=5.0),
        Call("Beale", "trust-ncg", max_seconds=5.0, engine="torch", options={"gtol": 1e-9}),
        Call("Beale", "SSBFGS", max_seconds=5.0),
    ]
    race.problems.value = ["NIST Misra1a"]
    race.methods.value = ["lm", "lm (torch)"]
    assert [each.label for each in race.calls(call, lambda *_: {}) if each.problem != "Beale"] == ["lm", "lm (torch)"]
    free(race.drawer)
