"""A diagnosis leaves the model as it was, keeps its budget, and works at every state of a run."""

import random
import threading
import warnings

import numpy as np
import pytest
import torch

from tests.doctor.planted import FAILURES, HEALTHY_RULES, diagnosed, line, network, observed, parameter, rosenbrock
from torchmin_nb import BasinHoppingWrapper, Constraint, HistoryFile, MinimizeWrapper, observe
from torchmin_nb.doctor.examination import Examination
from torchmin_nb.doctor.laboratory import Laboratory
from torchmin_nb.doctor.rules import LAST, RULES
from torchmin_nb.doctor.subject import subject_of
from torchmin_nb.errors import ArgumentError, BusyError


def test_every_rule_is_planted():
    assert {rule.name for rule in (*RULES, LAST[0])} == {rule for rule, _ in FAILURES.values()} | HEALTHY_RULES
    assert all(rule.source for rule in RULES)


@pytest.mark.parametrize("budget", range(1, 24))
def test_a_saddle_is_never_called_converged_however_small_the_budget(budget):
    x = parameter(1.0, 0.0)
    report = diagnosed([x], lambda: x[0] ** 2 + (x[1] ** 2 - 1) ** 2, "BFGS", budget=budget)
    assert not report.healthy, repr(report)
    assert report.rule == "saddle" or (budget < 9 and report.rule == "nothing found"), repr(report)


def test_nothing_else_is_measured_on_a_stochastic_closure():
    x = parameter(-1.2, 1.0)
    report = diagnosed([x], lambda: rosenbrock(x) + 1e-3 * torch.rand(()) + x.abs().sum(), "BFGS")
    assert [finding.rule for finding in report.findings] == ["stochastic closure"]
    assert report.evaluations == 2
    with pytest.raises(ArgumentError, match="Make it deterministic"):
        report.rescue()


def test_without_a_run_a_loss_that_is_nan_has_no_go_on():
    x = parameter(-1.0, 2.0)
    report = MinimizeWrapper([x], "BFGS").diagnose(lambda: (x[0].log() + x[1]) ** 2)
    assert report.rule == "NaN or infinite"
    assert "Go on." not in [remedy.what for remedy in report.remedies]
    with pytest.raises(ArgumentError, match="no remedy to try"):
        report.rescue()


@pytest.mark.parametrize("name", ["a_rotated_valley", "a_cusp", "a_wrong_backward", "a_tiny_loss", "dropout"])
def test_evidence_has_its_numbers(name):
    for finding in FAILURES[name][1]().findings:
        for each in finding.evidence:
            numbers = each.number if isinstance(each.number, tuple) else (each.number,)
            first = each.value.split(" ")[0].strip(",%")
            assert each.number is not None, each
            assert all(isinstance(number, int | float) for number in numbers), each
            if first.replace(".", "").replace("e", "").replace("-", "").isdigit() and "%" not in each.value:
                assert float(first) == pytest.approx(numbers[0], rel=6e-3)


def test_the_first_operation_is_named_in_a_correct_sentence():
    x, data = parameter(1.0, 2.0), torch.tensor([1.0, float("nan")], dtype=torch.float64)
    report = diagnosed([x], lambda: ((x - data) ** 2).sum())
    assert report.verdict.endswith(
        "; the first operation that made it is sub, which was given data that are not finite."
    )


def test_the_parameter_whose_gradient_is_nan_is_named():
    rate, offset = parameter(0.0), parameter(1.0)
    optimizer = MinimizeWrapper([("rate", rate), ("offset", offset)], "BFGS", start_check=False)
    report = optimizer.diagnose(lambda: rate.square().sqrt() * 0 + (offset - 3) ** 2)
    assert "(parameters: rate); the first operation that made it is div" in report.verdict


@pytest.mark.parametrize(("arguments", "words"), [(dict(method="L-BFGS-B", options=dict(maxiter=3)), "STOP: TOTAL NO")])
def test_a_message_of_scipy_stands_behind_plain_words(arguments, words):
    x = parameter(-1.2, 1.0)
    meaning = diagnosed([x], lambda: rosenbrock(x), arguments).evidence[0].meaning
    assert meaning.startswith("then the run ended: Not converged yet: the iteration limit is reached")
    assert words in meaning


def test_the_parameter_with_a_wrong_slope_is_named():
    for name, entry in (("a_wrong_jac", 0), ("a_hook_on_one_small_entry", 1)):
        assert FAILURES[name][1]().verdict.endswith(f"that of parameter 0[{entry}].")


def noisy_network():
    model = torch.nn.Sequential(network(1, 6), torch.nn.BatchNorm1d(6, dtype=torch.float64), torch.nn.Dropout(0.2))
    model.append(network(6, 1))
    return model


def test_the_model_is_left_as_it_was():
    model, (x, y) = noisy_network(), line()
    optimizer = MinimizeWrapper(model.parameters(), dict(method="L-BFGS-B", options=dict(maxiter=3)))

    def closure():
        return ((model(x) - y) ** 2).mean()

    with warnings.catch_warnings(action="ignore"):
        optimizer.step(closure)
    before = [(p, p.data_ptr(), p._version, p.detach().clone(), p.grad, p.grad.clone()) for p in model.parameters()]
    buffers = [(b, b.clone()) for b in model.buffers()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    history = optimizer.history
    optimizer.diagnose(closure)
    for tensor, memory, version, values, gradient, slope in before:
        assert (tensor.data_ptr(), tensor._version) == (memory, version)
        assert torch.equal(tensor, values)
        assert tensor.grad is gradient
        assert torch.equal(gradient, slope)
    assert all(torch.equal(buffer, values) for buffer, values in buffers)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert optimizer.history is history


def test_float32_parameters_keep_their_dtype_and_memory():
    x = parameter(-1.2, 1.0, 0.5, dtype=torch.float32)
    run = observe(torch.optim.LBFGS([x], max_iter=5), lambda: (x**4).sum() + (x[0] - x[1]) ** 2, steps=20)
    run.wait()
    memory, values = x.data_ptr(), x.detach().clone()
    run.diagnose()
    assert x.dtype is torch.float32
    assert x.data_ptr() == memory
    assert torch.equal(x, values)


@pytest.mark.parametrize("budget", [1, 2, 5, 13, 30])
@pytest.mark.parametrize("name", ["a_rotated_valley", "dropout", "a_cusp", "absolute_values", "float32_least_squares"])
def test_the_cap_is_kept(name, budget, monkeypatch):
    """Counted where the closure is called."""
    from tests.doctor import planted

    calls = []
    original = planted.diagnosed
    monkeypatch.setattr(planted, "diagnosed", lambda *a, **k: original(*a, **{**k, "budget": budget}))

    def observed(optimizer, closure, steps):
        run = observe(optimizer, lambda: calls.append(1) or closure(), steps=steps)
        run.wait()
        calls.clear()
        return run.diagnose(budget=budget)

    monkeypatch.setattr(planted, "observed", observed)
    report = FAILURES[name][1]()
    assert report.evaluations + report.products <= budget
    assert len(calls) <= budget


def test_a_long_run_allows_more():
    x, calls = parameter(*[0.5] * 40), []

    def closure():
        calls.append(1)
        return (x**4).sum() + (x[0] - x[1]).abs()

    run = observe(torch.optim.SGD([x], lr=1e-4), closure, steps=2000)
    run.wait()
    calls.clear()
    report = run.diagnose()
    assert report.evaluations + report.products <= 100
    assert len(calls) <= 100


@pytest.mark.parametrize("method", ["trust-ncg", "Newton-CG", "BFGS"])
@pytest.mark.parametrize("engine", ["scipy", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_paused_run_goes_on_as_if_it_had_not_been_examined(method, engine, dtype):
    def fitted(examine):
        x = parameter(-1.2, 1.0, 0.3, dtype=dtype)
        optimizer = MinimizeWrapper([x], method, engine=engine)
        run = optimizer.start(lambda: rosenbrock(x) + (x[2] - x[0]) ** 4, iterations=3)
        run.wait_until_paused()
        if examine:
            report = run.diagnose()
            assert (report.rule, report.remedy.code) == ("stopped", "run.resume()")
            assert run.state == "paused"
        run.resume()
        run.wait()
        return run.history

    plain, examined = fitted(False), fitted(True)
    assert np.array_equal(plain.loss, examined.loss)
    assert np.array_equal(plain.nfev, examined.nfev)


def test_float64_is_tried_with_the_data_of_the_closure_cast_too():
    x, data = parameter(3.0, 1.0, dtype=torch.float32), torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.5, 0.5]])
    shift = torch.zeros(3)

    def closure():
        shift.fill_(0.25)
        return torch.nn.functional.mse_loss(data @ x + shift, torch.stack([data[0, 0], data[1, 1], x[0]]))

    subject = subject_of(MinimizeWrapper([x], "BFGS"), closure, None)
    double = Examination(subject, Laboratory(subject, 60)).double
    exact = x.detach().double().requires_grad_()
    wide = data.double()
    loss = ((wide @ exact + 0.25 - torch.stack([wide[0, 0], wide[1, 1], exact[0]])) ** 2).mean()
    loss.backward()
    assert not double.follows
    assert "dtype" in double.reason
    assert double.loss == pytest.approx(loss.item(), rel=1e-14)
    assert double.slope == pytest.approx(float(exact.grad.abs().max()), rel=1e-14)


def test_a_smaller_tol_is_no_loose_tolerance():
    def loose(tol, **options):
        x = parameter(2.0, 1.0)
        optimizer = MinimizeWrapper([x], dict(method="L-BFGS-B", tol=tol, options=options))
        optimizer.step(lambda: (x**2).sum())
        subject = subject_of(optimizer, lambda: (x**2).sum(), None)
        return Examination(subject, Laboratory(subject, 60)).loose

    assert not loose(1e-12)
    assert loose(1e-3)
    assert loose(1e-6)  # ftol is 2e-9 by default
    assert not loose(1e-6, ftol=0.0)


def test_verdicts_name_the_dtype_the_size_of_the_noise_and_units():
    assert "the floor of float16" in FAILURES["a_loss_in_half_precision"][1]().verdict
    noise = next(e for e in FAILURES["a_loss_of_four_printed_digits"][1]().evidence if e.name == "noise of the loss")
    assert noise.number == pytest.approx(1e-4 / 12**0.5, rel=0.01)
    rounded = FAILURES["a_loss_of_three_digits"][1]()
    assert next(e for e in rounded.evidence if e.name == "operations").value == "round"
    report = FAILURES["units_that_are_alike"][1]()
    assert "all units of parameter 0 are alike" in report.verdict
    report.rescue().wait()
    assert report.trials[0].loss < 0.2


def test_a_run_that_goes_on_is_paused_meanwhile():
    x = parameter(-1.2, 1.0)
    run = MinimizeWrapper([x], "BFGS").start(lambda: rosenbrock(x), pace=0.05)
    report = run.diagnose()
    assert not report.healthy
    assert run.wait().success


def test_a_run_cannot_examine_itself():
    x = parameter(-1.2, 1.0)
    errors = []

    def examine(iteration):
        try:
            run.diagnose()
        except BusyError as error:
            errors.append(error)
        return True

    optimizer = MinimizeWrapper([x], "BFGS", callbacks=[examine])
    run = optimizer.start(lambda: rosenbrock(x), paused=True)
    run.resume()
    run.wait()
    assert len(errors) == 1


def test_parameters_of_another_run_are_refused():
    x = parameter(-1.2, 1.0)
    optimizer = MinimizeWrapper([x], "BFGS")
    run = optimizer.start(lambda: rosenbrock(x), iterations=3)
    run.wait_until_paused()
    with pytest.raises(BusyError):
        MinimizeWrapper([x], "CG").diagnose(lambda: rosenbrock(x))
    run.stop()
    run.wait()


def test_without_a_run_and_with_a_wrong_budget():
    x = parameter(-1.2, 1.0)
    optimizer = MinimizeWrapper([x], "BFGS")
    assert optimizer.diagnose(lambda: rosenbrock(x)).rule == "stopped"
    with pytest.raises(ArgumentError):
        optimizer.diagnose(lambda: rosenbrock(x), budget=0)


def test_a_global_search_can_be_examined():
    x = parameter(1.0, 2.0)
    optimizer = BasinHoppingWrapper([x], search_args=dict(niter=5))
    optimizer.step(lambda: ((x - 3) ** 2).sum())
    assert optimizer.diagnose(lambda: ((x - 3) ** 2).sum()).healthy


def test_the_same_run_gives_the_same_report():
    first, second = (repr(FAILURES["a_rotated_valley"][1]()) for _ in range(2))
    assert first == second


def test_the_report_in_words_and_as_html(tmp_path):
    x = parameter(-1.2, 1.0)
    named = [("<b>x", x)]
    optimizer = MinimizeWrapper(
        named, dict(method="BFGS", options=dict(maxiter=4)), callbacks=[HistoryFile(tmp_path / "h")]
    )
    optimizer.step(lambda: rosenbrock(x))
    report = optimizer.diagnose(lambda: rosenbrock(x))
    text, page = repr(report), report._repr_html_()
    for part in (report.verdict, report.remedy.what, *(each.name for each in report.evidence)):
        assert part in text
    assert report.remedy.code.splitlines()[0].replace('"', "&quot;") in page
    assert "<b>x" not in page
    assert "Measured with" in page


def test_no_resume_lets_a_run_go_on_while_it_is_examined():
    x, moved = parameter(-1.2, 1.0), []

    def closure():
        if threading.current_thread() is threading.main_thread():  # of the diagnosis
            run.resume()
            moved.append(len(run.history))
        return rosenbrock(x)

    run = MinimizeWrapper([x], "BFGS", start_check=False).start(closure, iterations=3)
    run.wait_until_paused()
    run.diagnose()
    assert set(moved) == {4}
    assert run.wait().success


def test_saturated_units_of_a_fit_are_no_verdict():
    """A step is fitted by units at the ends of their range, whose gradients are as large as the others'."""
    model = network(1, 8, 1)
    with torch.no_grad():
        model[0].weight.mul_(200)
        model[0].bias.copy_(-model[0].weight[:, 0] * torch.linspace(-0.9, 0.9, 8))
    x = torch.linspace(-1, 1, 160, dtype=torch.float64)[:, None]
    y = torch.sign(x - 0.11) + torch.sign(x + 0.4)
    report = diagnosed(model.parameters(), lambda: ((model(x) - y) ** 2).mean(), "BFGS")
    out = torch.tanh(model[0](x)).abs()
    assert float((out > 0.99).double().mean()) > 0.9
    assert "dead or saturated layer" not in [finding.rule for finding in report.findings], repr(report)


@pytest.mark.parametrize(("steepness", "kink"), [(1e5, False), (1e14, True)])
def test_a_steep_bend_is_no_kink(steepness, kink):
    """The gradient of log cosh changes over 1/steepness: from 1e-5 away it looks like a jump in both cases."""
    x = parameter(1e-9, 2.0)

    def closure():
        stretched = steepness * x[0]
        return torch.nn.functional.softplus(-2 * stretched.abs()) / steepness + x[0].abs() + (x[1] - 2) ** 2

    subject = subject_of(MinimizeWrapper([x], "BFGS"), closure, None)
    assert (Examination(subject, Laboratory(subject, 60)).kink is not None) == kink


def test_a_constraint_twice_is_named_beside_a_run_that_converged():
    x = parameter(0.9, 0.9, 0.1)
    constraints = [
        Constraint(lambda: x[0] + x[1], lower=1, upper=1),
        Constraint(lambda: 2 * x[0] + 2 * x[1], lower=2, upper=2),
        Constraint(lambda: x[2], lower=0),
    ]
    arguments = dict(method="trust-constr", constraints=constraints)
    report = diagnosed([x], lambda: (x[0] - 2) ** 2 + x[1] ** 2 + x[2], arguments)
    assert report.healthy
    assert [finding.rule for finding in report.findings] == ["converged", "dependent constraints (LICQ)"]
    for shown in (repr(report), report._repr_html_()):
        assert "multipliers are not unique" in shown
    once = dict(method="SLSQP", constraints=constraints[1:])
    once = diagnosed([x], lambda: (x[0] - 2) ** 2 + x[1] ** 2 + x[2], once)
    assert [finding.rule for finding in once.findings] == ["converged"]


def inside(loss_scale=1.0, **options):
    x = parameter(-1.2, 1.0)
    optimizer = torch.optim.LBFGS([x], line_search_fn="strong_wolfe", **options)
    return observed(optimizer, lambda: loss_scale * rosenbrock(x), 1)


def test_how_a_step_of_lbfgs_ended_inside():
    limited, called = inside(max_iter=8), inside(max_iter=50, max_eval=10)
    assert "max_iter=8" in repr(limited)
    assert "max_eval=10" in repr(called)
    assert {limited.rule, called.rule} == {"budget too small"}
    assert inside(max_iter=200).healthy
    tiny = inside(1e-9, max_iter=200)
    assert tiny.rule == "tolerance too large for the loss", repr(tiny)


def test_a_constant_in_the_loss_is_told_where_a_tolerance_is_relative_to_it():
    x = parameter(-1.2, 1.0)
    report = diagnosed([x], lambda: 1e8 + rosenbrock(x), "L-BFGS-B")
    assert "most of which is a constant" in report.verdict
    assert report.remedy.code == "return loss - (1e+08)"
