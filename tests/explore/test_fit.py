"""Which methods fit which problems: each refusal has its reason, and what is refused would have failed."""

import pytest
import torch

from torchmin_nb.explore import Call, Traits, build, catalogue, entry, fit, of_function, run, traits
from torchmin_nb.explore.fit import MANY_CALLS
from torchmin_nb.problems import PROBLEMS

ALL = catalogue()
BY_ENGINE = {row.label: row for each in ALL.values() for row in map(each.on, each.engines)}
TABLE = [
    ("CG", {"bounds": True}, "takes no bounds"),
    ("BFGS", {"constraints": True}, "takes no constraints"),
    ("direct", {"box": True, "constraints": True}, "takes no constraints"),
    ("dual_annealing", {}, "needs finite bounds on every parameter"),
    ("trf", {}, "needs residuals"),
    ("lm", {"residuals": 3}, "as many residuals as parameters: 3 < 10"),
    ("BFGS", {"n": 40_000, "memory": 8e9}, "N×N = 12.8 GB"),
    ("COBYLA", {"n": 10_000}, "gradient-free at N = 10,000: ~10,002 closure calls in the first iteration"),
    ("Powell", {"n": 10_000}, "gradient-free at N = 10,000: ~100,000 closure calls"),
    ("brute", {"box": True}, "searches at most 4 variables"),
]


@pytest.mark.parametrize(("name", "given", "reason"), TABLE)
def test_what_does_not_fit_says_why(name, given, reason):
    found = fit(entry(name), Traits(**{"n": 10, **given}))
    assert not found
    assert reason in found.reason


@pytest.mark.parametrize(("name", "given"), [("BFGS", {"n": 20_000, "memory": 8e9}), ("lm", {"n": 10, "residuals": 3})])
def test_what_does_not_fit_by_scipy_may_fit_on_the_device(name, given):
    assert not fit(entry(name), Traits(**given))
    assert fit(entry(name).on("torch"), Traits(**given))


def test_on_the_device_lm_needs_no_more_residuals_than_parameters():
    subject = of_function(lambda x: 0.5 * (x.sum() - 1) ** 2, [2.0, 3.0], residuals=lambda x: x.sum()[None] - 1)
    row = run(Call(subject, "lm", engine="torch"))
    assert row.x.sum() == pytest.approx(1)
    assert row.x[1] - row.x[0] == pytest.approx(1)  # the step of least norm


@pytest.mark.parametrize("row", ALL.values(), ids=ALL)
def test_every_method_fits_some_problem(row):
    assert fit(row, Traits(n=2, box=True, residuals=5))


@pytest.mark.parametrize(
    ("name", "given", "caution"),
    [
        ("trust-ncg", {"smooth": False}, "second derivatives"),
        ("trust-exact", {"n": 4000}, "4,000×4,000 matrix"),
        ("BFGS", {"many_minima": True}, "nearest of several minima"),
        ("CG", {"dtype": "float32"}, "float32"),
    ],
)
def test_cautions_do_not_refuse(name, given, caution):
    found = fit(entry(name), Traits(**{"n": 10, **given}))
    assert found
    assert any(caution in words for words in found.cautions)
    assert not fit(entry(name), Traits(n=10)).cautions


def test_a_gradient_free_method_is_refused_by_its_calls_alone():
    for n in (100, 2000, 6000):
        for row in ALL.values():
            refused = "gradient-free" in fit(row, Traits(n=n)).reason
            assert refused == (row.kind == "local" and not row.gradient and row.calls(n) > MANY_CALLS)


@pytest.mark.parametrize("problem", ["Rosenbrock", "Rosenbrock in a box", "Rosenbrock in a disc", "HS71", "NIST MGH09"])
@pytest.mark.parametrize("row", BY_ENGINE.values(), ids=BY_ENGINE)
@pytest.mark.crossed
def test_what_fits_begins_and_what_does_not_is_refused_by_the_wrapper(row, problem):
    """The rule agrees with the wrappers: a method that fits makes ten closure calls, others cannot be made."""
    call = Call(problem, row.name, max_evaluations=10, max_iterations=2, engine=row.engine)
    made = call.make()
    fits = fit(row, traits(made, call.spec))
    refusals = (ValueError, RuntimeError)
    if fits:
        optimizer, closure = build(call, made)
        optimizer.step(closure)
        assert len(optimizer.history)
    else:
        with pytest.raises(refusals):  # noqa: PT012 least_squares sees only at the start how many residuals there are
            optimizer, closure = build(call, made)
            optimizer.step(closure)


def test_the_traits_of_a_problem_are_read_off_it():
    names = ["Rosenbrock", "Rosenbrock in a box", "Rosenbrock in a disc", "HS71", "NIST Misra1a", "Rastrigin"]
    names.append("Nonsmooth Rosenbrock")
    known = {name: traits(PROBLEMS[name].make(), PROBLEMS[name]) for name in names}
    assert known["Rosenbrock"].box
    assert not known["Rosenbrock"].bounds
    assert known["Rosenbrock in a box"].bounds
    assert known["Rosenbrock in a box"].box
    assert known["Rosenbrock in a disc"].constraints
    assert not known["Rosenbrock in a disc"].equalities
    assert known["HS71"].equalities
    assert known["NIST Misra1a"].residuals == 14
    assert not known["Nonsmooth Rosenbrock"].smooth
    assert known["Rastrigin"].many_minima
    spec = PROBLEMS["HS71"]
    free = traits(spec.make(dtype=torch.float32), spec, bounds=False, constraints=False)
    assert (free.dtype, free.bounds, free.box, free.constraints, free.equalities) == ("float32", *[False] * 4)
