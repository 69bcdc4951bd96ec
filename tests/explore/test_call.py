"""Forms into calls, calls into optimizers, and a person's own problems."""

import numpy as np
import pytest
import torch

from torchmin_nb import METHODS
from torchmin_nb.errors import ArgumentError, ArgumentTypeError, ClosureError, NonFiniteStartError, TorchminError
from torchmin_nb.explore import Call, Form, build, catalogue, of_function, of_model, read_form, run, subject_of

WRONG = [
    ({"method": "SGD"}, "method", "choose one of Nelder-Mead"),
    ({"problem": "Everest"}, "problem", "choose one of Rosenbrock"),
    ({"seed": "-1"}, "seed", "whole number of at least 0"),
    ({"seed": 1.5}, "seed", "got 1.5"),
    ({"start": "1, two"}, "start", "numbers such as"),
    ({"start": "1, nan"}, "start", "finite"),
    ({"start": "1, 2, 3"}, "start", "3"),
    ({"dtype": "float16"}, "dtype", "float64, float32"),
    ({"tol": "-1"}, "tol", "at least 0"),
    ({"max_iterations": 0}, "max_iterations", "at least 1"),
    ({"max_evaluations": "many"}, "max_evaluations", "whole number of at least 1"),
    ({"max_seconds": 0}, "max_seconds", "above 0"),
    ({"pace": "slow"}, "pace", "at least 0"),
    ({"options": {"gtol": "tiny"}}, "options.gtol", "must be a number of at least 0; default 0.0001"),
    ({"options": {"eta": 0.5}}, "options.eta", "at most 0.25"),
    ({"options": {"maxiter": "2.5"}}, "options.maxiter", "an integer of at least 0"),
    ({"engine": "cuda"}, "engine", "choose one of scipy, torch, auto"),
    ({"method": "TNC", "engine": "torch"}, "engine", "TNC needs engine='scipy'"),
    ({"method": "SSBFGS", "engine": "scipy"}, "engine", "SSBFGS needs engine='torch'"),
    ({"method": "direct", "engine": "torch"}, "engine", "it can run CG, BFGS"),
    ({"problem": "Quadratic", "settings": {"n": 0}}, "settings.n", "whole number from"),
]


@pytest.mark.parametrize(("given", "field", "words"), WRONG)
def test_a_wrong_field_says_what_is_allowed(given, field, words):
    reading = read_form(Form(**{"problem": "Rosenbrock", "method": "trust-ncg", **given}))
    assert reading.call is None
    assert set(reading.messages) == {field}
    assert words in reading.messages[field]


def test_all_wrong_fields_are_told_at_once():
    reading = read_form(Form("Rosenbrock", "trust-ncg", seed="x", tol="y", options={"gtol": "z", "eta": 9}))
    assert set(reading.messages) == {"seed", "tol", "options.gtol", "options.eta"}


def test_what_is_empty_or_default_is_left_out():
    rows = METHODS["trust-ncg"].options
    form = Form(
        "Quadratic",
        "TRUST-NCG",
        settings={"n": "2", "condition": 50},
        start=" ",
        tol="",
        options={"gtol": "1e-8", "eta": "0.15", "maxiter": "", "initial_trust_radius": 1, "c1": 3},
        max_iterations="",
        max_seconds="2.5",
        max_evaluations="100",
    )
    call = read_form(form).call
    assert rows["eta"].default == 0.15
    assert call == Call(
        "Quadratic", "trust-ncg", {"condition": 50.0}, options={"gtol": 1e-8}, max_seconds=2.5, max_evaluations=100
    )


@pytest.mark.parametrize(
    ("method", "option", "raw", "value"),
    [
        ("BFGS", "norm", "2", 2),
        ("BFGS", "norm", "-inf", -np.inf),
        ("CG", "maxiter", "1e3", 1000),
        ("CG", "maxiter", 1000.0, 1000),
        ("Nelder-Mead", "adaptive", "True", True),
        ("Nelder-Mead", "adaptive", True, True),
        ("trust-constr", "factorization_method", "QRFactorization", "QRFactorization"),
        ("differential_evolution", "strategy", "rand1bin", "rand1bin"),
        ("differential_evolution", "mutation", "(0.3, 0.9)", (0.3, 0.9)),
        ("differential_evolution", "polish", "False", False),
        ("brute", "finish", "None", None),
        ("trf", "loss", "huber", "huber"),
        ("trf", "x_scale", "jac", "jac"),
    ],
)
def test_text_becomes_the_value_that_the_option_takes(method, option, raw, value):
    found = read_form(Form("Rosenbrock", method, options={option: raw}))
    assert found.messages == {}
    assert found.call.options == {option: value}
    assert type(found.call.options[option]) is type(value)


@pytest.mark.parametrize(
    ("method", "engine", "kept"),
    [
        ("CG", None, None),
        ("CG", "", None),
        ("CG", "scipy", None),
        ("CG", "torch", "torch"),
        ("CG", "auto", "auto"),
        ("TNC", "scipy", None),
        ("TNC", "auto", None),
        ("SSBFGS", "torch", None),
        ("brute", "scipy", None),
    ],
)
def test_the_engine_is_kept_where_it_is_not_the_methods_own(method, engine, kept):
    call = read_form(Form("Rosenbrock", method, engine=engine)).call
    assert call.engine == kept
    assert call.label == (method if kept is None else f"{method} ({kept})")
    assert call.with_method(method, engine=engine) == call


def test_options_that_only_scipy_has_are_left_out_on_the_device_and_refused_in_a_call():
    form = {"problem": "Rosenbrock", "method": "trust-ncg", "options": {"return_all": True, "gtol": "1e-9"}}
    assert read_form(Form(**form)).call.options == {"return_all": True, "gtol": 1e-9}
    assert read_form(Form(**form, engine="torch")).call.options == {"gtol": 1e-9}
    call = read_form(Form(**form, engine="auto")).call
    assert (call.options["return_all"], call.entry.engine) == (True, "scipy")
    with pytest.raises(ArgumentError, match="return_all of trust-ncg needs engine='scipy'"):
        build(Call("Rosenbrock", "trust-ncg", engine="torch", options={"return_all": True}))


@pytest.mark.parametrize(("method", "problem"), [("trust-ncg", "Rosenbrock"), ("lm", "NIST Misra1a")])
def test_the_engine_of_the_call_runs_it(method, problem):
    for engine, runs_on in ((None, "scipy"), ("scipy", "scipy"), ("torch", "torch"), ("auto", "torch")):
        optimizer, _ = build(Call(problem, method, engine=engine))
        assert optimizer.engine == runs_on
    for wrong in ("TNC", "direct"):
        with pytest.raises(ArgumentError, match=f"{wrong} needs engine='scipy'"):
            build(Call("Rosenbrock", wrong, engine="torch"))


@pytest.mark.parametrize("row", catalogue().values(), ids=catalogue())
def test_every_default_as_text_changes_nothing(row):
    raw = {name: str(option.default) for name, option in row.options.items()}
    reading = read_form(Form("Rosenbrock", row.name, options=raw))
    assert reading.messages == {}
    assert reading.call.options == {}


def test_an_unknown_method_or_problem_is_an_error_of_the_call():
    with pytest.raises(ArgumentError):
        Call("Everest", "CG").make()
    with pytest.raises(ArgumentError):
        build(Call("Rosenbrock", "SGD"))


def test_a_call_changes_method_and_forgets_its_options():
    call = Call("Rosenbrock", "CG", options={"c1": 1e-3}, tol=1e-9, max_seconds=3)
    assert call.with_method("bfgs") == Call("Rosenbrock", "BFGS", max_seconds=3)
    on_device = call.with_method("bfgs", engine="torch")
    assert on_device == Call("Rosenbrock", "BFGS", max_seconds=3, engine="torch")
    assert on_device.with_method("CG").engine is None
    with pytest.raises(ArgumentError, match="TNC needs engine='scipy'"):
        call.with_method("TNC", engine="torch")


@pytest.mark.parametrize("method", ["CG", "lm", "shgo", "basinhopping"])
def test_the_budget_of_iterations_holds_for_every_kind(method):
    row = run(Call("NIST Misra1a" if method == "lm" else "Rosenbrock", method, max_iterations=2))
    assert row.iterations <= 2


@pytest.mark.parametrize("method", ["dual_annealing", "differential_evolution", "basinhopping"])
def test_random_methods_are_seeded_by_the_call(method):
    rows = [run(Call("Himmelblau", method, seed=seed, max_evaluations=60)) for seed in (3, 3, 4)]
    assert rows[0].history.loss.tolist() == rows[1].history.loss.tolist()
    assert rows[0].history.loss.tolist() != rows[2].history.loss.tolist()


# One's own


def bowl(x):
    return ((x - 3) ** 2).sum()


def test_a_function_and_a_start_are_a_problem():
    row = run(Call(of_function(bowl, [0, 1, 2]), "BFGS"))
    assert row.loss < 1e-9
    assert row.problem == "bowl"
    assert row.solved is None


def test_what_is_brought_is_a_subject_and_nothing_is_none():
    x = torch.nn.Parameter(torch.ones(2))
    assert subject_of(bowl, [0, 1, 2], name="a bowl").name == "a bowl"
    assert subject_of(model=[x], closure=lambda: x.square().sum()).parameters == (x,)
    assert subject_of() is None


def test_runs_compare_on_the_same_problem_from_whatever_start_by_whatever_method():
    call = Call("Quadratic", "BFGS", settings={"n": 5, "condition": 10.0})
    same = Call("Quadratic", "CG", settings={"condition": 10.0, "n": 5}, seed=3, start=(1.0,) * 5, max_iterations=7)
    assert call.problem_key == same.problem_key
    assert (call.instance, same.instance) == ("Quadratic, n = 5, condition = 10, seed 0", f"{same.title}, seed 3")
    for other in ({"settings": {"n": 5}}, {"dtype": "float32"}, {"problem": "Wood"}):
        assert Call(**{"problem": "Quadratic", "method": "BFGS", "settings": call.settings, **other}).problem_key != (
            call.problem_key
        )
    brought = [Call(of_function(bowl, [0, 1, 2]), name).problem_key for name in ("CG", "BFGS")]
    assert brought[0] == brought[1] != Call(of_function(bowl, [0, 1]), "CG").problem_key


def test_the_dtype_and_the_start_of_the_call_hold_for_a_function():
    problem = Call(of_function(bowl, [0, 1, 2]), "BFGS", dtype="float32", start=(5.0, 5.0, 5.0)).make()
    assert problem.x.dtype == torch.float32
    assert problem.x.tolist() == [5, 5, 5]
    assert problem.function(torch.zeros(4, 2, 3)).tolist() == [[27.0] * 2] * 4
    with pytest.raises(ArgumentError, match="has 2 numbers for 3 parameters"):
        Call(of_function(bowl, [0, 1, 2]), "BFGS", start=(1, 2)).make()


def test_reading_a_form_leaves_a_model_where_it_is():
    x = torch.nn.Parameter(torch.ones(2))
    subject = of_model([x], lambda: x.square().sum())
    x.data.fill_(5.0)
    assert read_form(Form(subject, "BFGS", start="1, 2")).call is not None
    assert "has 1 numbers for 2" in read_form(Form(subject, "BFGS", start="1")).messages["start"]
    assert x.tolist() == [5, 5]


def test_a_model_is_put_back_before_each_run():
    model = torch.nn.Linear(3, 1, dtype=torch.float64)
    data = torch.eye(3, dtype=torch.float64)
    subject = of_model(model, lambda: (model(data) - 1).square().sum())
    before = [parameter.detach().clone() for parameter in model.parameters()]
    first = run(Call(subject, "BFGS"))
    assert first.loss < 1e-9
    second = run(Call(subject, "BFGS"))
    assert second.history.loss.tolist() == first.history.loss.tolist()
    subject.make()
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("bring", "error", "words"),
    [
        (lambda: of_function(3, [0.0]), ArgumentTypeError, "callable with a tensor"),
        (lambda: of_function(bowl, "here"), ArgumentTypeError, "numbers such as"),
        (lambda: of_function(bowl, [0.0, np.nan]), NonFiniteStartError, "pass finite numbers"),
        (
            lambda: of_function(lambda x: x.log().sum(), [-1.0]),
            NonFiniteStartError,
            "start at a point where it is finite",
        ),
        (lambda: of_function(lambda x: x * 2, [1.0, 2.0]), TorchminError, "scalar"),
        (lambda: of_function(lambda x: x @ torch.ones(3), [1.0]), ClosureError, "call it once yourself"),
        (lambda: of_model(torch.nn.Linear(1, 1), 3), ArgumentTypeError, "no arguments"),
        (lambda: of_model(torch.nn.Identity(), lambda: 0), ArgumentError, "requires_grad=True"),
        (lambda: subject_of(bowl), ArgumentError, "needs a start"),
        (lambda: subject_of(model=torch.nn.Linear(1, 1)), ArgumentError, "pass both"),
        (lambda: subject_of(closure=lambda: 0), ArgumentError, "pass both"),
    ],
)
def test_what_cannot_be_run_names_the_remedy(bring, error, words):
    with pytest.raises(error, match=words):
        bring()
