"""torch's own optimizers as runs: the same parameters as a training loop, the same events as SciPy's methods."""

import operator
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from torchmin_nb import MinimizeWrapper, Run, observe, record
from torchmin_nb.errors import ArgumentError, ArgumentTypeError, BusyError, ClosureError, NonFiniteStartError

LONG = 20.0  # seconds a test waits at most for what takes milliseconds
STEPS = 12

OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.05, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.05),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "Rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=4, history_size=3),
    "LBFGS, line search": lambda p: torch.optim.LBFGS(p, max_iter=3, line_search_fn="strong_wolfe"),
}


class Fit:
    """A small network with a buffer that every closure call moves, and data in two halves."""

    def __init__(self, dtype=torch.float32):
        generator = torch.Generator().manual_seed(7)
        layers = torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
        self.model = torch.nn.Sequential(*layers).to(dtype)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype) / 2)
        self.x = torch.randn(20, 3, generator=generator, dtype=dtype)
        self.y = torch.sin(self.x.sum(1, keepdim=True))
        self.optimizer = None
        self.calls = 0

    def loss(self, rows=slice(None)):
        self.calls += 1
        return (self.model(self.x[rows]) - self.y[rows]).square().sum() / 20

    def with_backward(self):
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        return loss

    def zeroing_in_place(self):
        self.optimizer.zero_grad(set_to_none=False)
        loss = self.loss()
        loss.backward()
        return loss

    def several_backwards(self):
        self.optimizer.zero_grad()
        parts = [self.loss(slice(0, 10)), self.loss(slice(10, 20))]
        for part in parts:
            part.backward()
        return sum(part.detach() for part in parts)

    def accumulating(self):
        loss = self.loss()
        loss.backward()
        return loss

    def gradient_by_hand(self):
        loss = self.loss()
        parameters = list(self.model.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        return loss

    def gradient_in_place(self):
        loss = self.loss()
        parameters = list(self.model.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.zero_()
            parameter.grad.add_(gradient)
        return loss

    def without_backward(self):
        return self.loss()

    def state(self):
        return {**self.model.state_dict(), **{f"grad {n}": p.grad for n, p in self.model.named_parameters()}}


class OldForm:
    """The older closure class: model, loss(model), __call__."""

    def __init__(self, fit):
        self.fit, self.model = fit, fit.model

    @staticmethod
    def loss(model):
        raise AssertionError("only __call__ is called")

    def __call__(self):
        return self.fit.with_backward()


CLOSURES = {
    name: operator.attrgetter(name)
    for name in (
        "with_backward",
        "zeroing_in_place",
        "several_backwards",
        "accumulating",
        "gradient_by_hand",
        "gradient_in_place",
    )
} | {"old form": OldForm}


def same(first, second):
    """Bit for bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def trained(build, closure, dtype, steps=STEPS):
    """The oracle: an ordinary training loop, with the losses it saw at the begin of each step."""
    fit = Fit(dtype)
    fit.optimizer = build(fit.model.parameters())
    losses = [torch.as_tensor(fit.optimizer.step(closure(fit))).detach().item() for _ in range(steps)]
    return fit, losses


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("form", CLOSURES)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.crossed
def test_parameters_state_gradients_and_calls_are_those_of_a_training_loop(name, form, dtype):
    build, closure = OPTIMIZERS[name], CLOSURES[form]
    plain, losses = trained(build, closure, dtype)
    fit = Fit(dtype)
    fit.optimizer = build(fit.model.parameters())
    run = observe(fit.optimizer, closure(fit), STEPS)
    result = run.wait(LONG)
    assert isinstance(run, Run)
    assert same(fit.state(), plain.state())
    assert same(fit.optimizer.state_dict(), plain.optimizer.state_dict())
    assert fit.calls == plain.calls
    assert run.history.loss[:STEPS].tolist() == losses
    assert (run.state, result.success, result.status, result.nit) == ("finished", True, 0, STEPS)
    assert torch.equal(torch.tensor(result.x, dtype=dtype), torch.nn.utils.parameters_to_vector(fit.model.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_closure_without_backward_is_that_of_the_loop_that_calls_it(name):
    plain, losses = trained(OPTIMIZERS[name], CLOSURES["with_backward"], torch.float64)
    fit = Fit(torch.float64)
    fit.optimizer = OPTIMIZERS[name](fit.model.parameters())
    run = observe(fit.optimizer, fit.without_backward, STEPS)
    run.wait(LONG)
    assert same(fit.state(), plain.state())
    assert run.history.loss[:STEPS].tolist() == losses


def quadratic(build, start=(3.0, -2.0)):
    """x² + 10 y², whose loss and gradient are known at every point."""
    x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    weights = torch.tensor([1.0, 10.0], dtype=torch.float64)
    return x, build([x]), lambda: (weights * x**2).sum()


def loss_at(points):
    return (np.array([1.0, 10.0]) * points**2).sum(axis=1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_iteration_k_is_the_point_after_k_steps(name):
    _x, optimizer, closure = quadratic(OPTIMIZERS[name])
    run = observe(optimizer, closure, STEPS, keep_parameters=True, keep_evaluations=True)
    run.wait(LONG)
    y, again, loss = quadratic(OPTIMIZERS[name])
    points = [y.detach().numpy().copy()]

    def counted():
        counted.calls += 1
        again.zero_grad()
        value = loss()
        value.backward()
        return value

    counted.calls, before = 0, []
    for _ in range(STEPS):
        before.append(counted.calls + 1)
        again.step(counted)
        points.append(y.detach().numpy().copy())
    history, points = run.history, np.array(points)
    rows = len(history)
    assert rows in (STEPS, STEPS + 1)
    assert np.array_equal(history.index, np.arange(rows))
    assert np.array_equal(history.parameters, points[:rows])
    assert np.allclose(history.loss, loss_at(points[:rows]), rtol=1e-14)
    gradients = 2 * np.array([1.0, 10.0]) * points[:rows]
    assert np.allclose(history.grad_norm, np.linalg.norm(gradients, axis=1), rtol=1e-14)
    assert np.allclose(history.grad_norm_inf, np.abs(gradients).max(axis=1), rtol=1e-14)
    assert history[0].step_norm is None
    assert np.allclose(history.step_norm[1:], np.linalg.norm(np.diff(points[:rows], axis=0), axis=1), rtol=1e-14)
    assert history.nfev[:STEPS].tolist() == before
    assert np.array_equal(history.nfev, history.njev)
    assert np.all(np.diff(history.elapsed) >= 0)
    assert len(history.evaluations) == counted.calls == history.totals.nfev == run.result.nfev
    assert [e.index for e in history.evaluations] == list(range(counted.calls))


def test_the_history_names_class_and_defaults():
    _x, optimizer, closure = quadratic(OPTIMIZERS["Adam"])
    run = observe(optimizer, closure, 2)
    run.wait(LONG)
    history = run.history
    assert (history.method, history.options["lr"], history.options["amsgrad"]) == ("Adam", 0.05, True)
    assert (history.n_parameters, history.dtype) == (2, "float64")
    assert type(history).from_json(history.to_json()).options["betas"] == [0.9, 0.999]


def test_the_end_point_is_told_where_it_is_known():
    _x, optimizer, closure = quadratic(OPTIMIZERS["Adam"])
    run = observe(optimizer, closure, 3)
    result = run.wait(LONG)
    assert run.history.index.tolist() == [0, 1, 2]  # Adam never evaluates its last point
    assert (result.fun, run.history.final_loss) == (run.history[-1].loss, run.history[-1].loss)
    assert "jac" not in result

    _x, optimizer, closure = quadratic(OPTIMIZERS["Adam"])
    run = observe(optimizer, closure, 3, evaluate_end=True)
    result = run.wait(LONG)
    assert (run.history.index.tolist(), run.history[-1].nfev, result.nit) == ([0, 1, 2, 3], 4, 3)
    assert result.fun == run.history[-1].loss == pytest.approx(closure().item())
    assert np.allclose(result.jac, [2, 20] * result.x)

    _x, optimizer, closure = quadratic(lambda p: torch.optim.LBFGS(p, max_iter=30, line_search_fn="strong_wolfe"))
    run = observe(optimizer, closure, 1)
    result = run.wait(LONG)
    assert (result.message, run.history.index.tolist()) == ("The step is done.", [0, 1])
    assert result.fun == run.history[1].loss == closure().item() < 1e-8


def test_metrics_by_record():
    x, optimizer, closure = quadratic(OPTIMIZERS["LBFGS"])

    def recorded():
        record(first=x[0], twice=2 * closure())
        return closure()

    run = observe(optimizer, recorded, 4, keep_parameters=True, keep_evaluations=True)
    run.wait(LONG)
    assert np.array_equal(run.history.metrics["first"], run.history.parameters[:, 0])
    assert np.allclose(run.history.metrics["twice"], 2 * run.history.loss)
    assert all(e.metrics["twice"] == pytest.approx(2 * e.loss) for e in run.history.evaluations)
    record(outside=1.0)  # nowhere to go
    with pytest.raises(ArgumentTypeError, match=r"record\(wrong=...\)"):
        record(wrong="text")


def test_the_same_record_serves_scipys_methods():
    x, _, closure = quadratic(OPTIMIZERS["SGD"])
    optimizer = MinimizeWrapper([x], "L-BFGS-B")

    def recorded():
        optimizer.record(own=1.0)
        record(first=x[0])
        return closure()

    optimizer.step(recorded)
    assert set(optimizer.history.metrics) == {"own", "first"}
    assert optimizer.history.metrics["first"][0] == 3.0


class Heard:
    """A callback with everything that a callback may have."""

    def __init__(self, x):
        self.x, self.iterations, self.points, self.evaluations, self.ends = x, [], [], [], []

    def on_run(self, run):
        self.run = run

    def on_start(self, history):
        self.started = len(history)

    def on_evaluation(self, evaluation):
        self.evaluations.append(evaluation)

    def on_end(self, history):
        self.ends.append(history.message)

    def __call__(self, iteration):
        self.iterations.append(iteration)
        self.points.append(self.x.detach().numpy().copy())


def test_callbacks_hear_the_whole_run_with_the_parameters_at_the_iterate():
    x, optimizer, closure = quadratic(OPTIMIZERS["LBFGS, line search"])
    heard = Heard(x)
    run = observe(optimizer, closure, 5, callbacks=heard, keep_parameters=True)
    result = run.wait(LONG)
    assert heard.run is run
    assert (heard.started, heard.ends) == (0, [result.message])
    assert heard.iterations == list(run.history)
    assert np.array_equal(heard.points, run.history.parameters)
    assert len(heard.evaluations) == result.nfev


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_paused_run_goes_on_as_if_it_had_never_paused(name):
    plain, _ = trained(OPTIMIZERS[name], CLOSURES["with_backward"], torch.float64)
    fit = Fit(torch.float64)
    fit.optimizer = OPTIMIZERS[name](fit.model.parameters())
    run = observe(fit.optimizer, fit.with_backward, STEPS, iterations=4)
    assert run.wait_until_paused(LONG)
    assert (run.state, len(run.history)) == ("paused", 5)
    run.advance(3)
    assert run.wait_until_paused(LONG)
    assert (run.state, len(run.history)) == ("paused", 8)
    with pytest.raises(BusyError):
        observe(fit.optimizer, fit.with_backward, STEPS)
    run.resume()
    run.wait(LONG)
    assert same(fit.state(), plain.state())
    assert same(fit.optimizer.state_dict(), plain.optimizer.state_dict())


def test_a_run_may_begin_paused():
    _x, optimizer, closure = quadratic(OPTIMIZERS["Adam"])
    run = observe(optimizer, closure, 3, paused=True)
    assert run.wait_until_paused(LONG)
    assert (run.state, len(run.history)) == ("pending", 0)
    run.resume()
    assert run.wait(LONG).nit == 3


def overshooting(**keywords):
    """SGD that bounces away from the minimum of x²: the start is the best point it sees."""
    x = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    return x, torch.optim.SGD([x], lr=1.1), lambda: (x**2).sum()


def stop_at(index):
    return lambda iteration: iteration.index == index


@pytest.mark.parametrize(
    ("keywords", "message", "rows"),
    [
        ({"callbacks": stop_at(5)}, "Stopped by a callback.", 6),
        ({"max_evaluations": 4}, "The budget of closure calls (max_evaluations) is spent.", 4),
        ({"max_seconds": 1e-9}, "The time budget (max_seconds) is spent.", 0),
    ],
)
def test_a_run_that_is_ended_leaves_the_best_point(keywords, message, rows):
    x, optimizer, closure = overshooting()
    run = observe(optimizer, closure, 50, **keywords)
    result = run.wait(LONG)
    assert (run.state, result.message, result.success, len(run.history)) == ("stopped", message, False, rows)
    assert x.item() == result.x[0] == 1.0


def test_stop_acts_on_a_run_that_stands_still():
    x, optimizer, closure = overshooting()
    run = observe(optimizer, closure, 50, iterations=3)
    assert run.wait_until_paused(LONG)
    assert x.item() != 1.0
    run.stop()
    assert run.wait(LONG).message == "Stopped on request."
    assert (run.state, x.item(), x.grad.item()) == ("stopped", 1.0, 2.0)


def test_the_target_is_an_iteration_and_stays():
    _x, optimizer, closure = quadratic(lambda p: torch.optim.SGD(p, lr=0.04))
    run = observe(optimizer, closure, 500, target_loss=1e-3)
    result = run.wait(LONG)
    assert (result.message, result.success) == ("The target loss has been reached.", True)
    assert run.history[-1].loss == result.fun == closure().item() <= 1e-3 < run.history[-2].loss


def into_nan(where):
    """SGD down x² that goes on to NaN at the given call: of the loss, of the gradient, or of the parameters."""
    x = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([x], lr=0.1)
    calls = []

    def closure():
        calls.append(1)
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        if len(calls) == 4 and where == "gradient":
            x.grad.fill_(float("inf"))
        return loss * float("nan") if len(calls) == 4 and where == "loss" else loss

    def poison(*_):
        if len(calls) == 4 and where == "parameters":
            x.data.fill_(float("nan"))

    optimizer.register_step_post_hook(poison)
    return x, optimizer, closure


@pytest.mark.parametrize("where", ["loss", "gradient", "parameters"])
@pytest.mark.parametrize("steps", [4, 9])
def test_nan_ends_the_run_at_the_best_point(where, steps):
    x, optimizer, closure = into_nan(where)
    heard = Heard(x)
    run = observe(optimizer, closure, steps, callbacks=[heard])
    result = run.wait(LONG)
    assert (run.state, result.status, result.success) == ("stopped", 109, False)
    assert result.message == "The loss or its gradient became NaN or infinite."
    seen = 4 if where == "parameters" else 3
    assert len(run.history) == seen
    assert np.isfinite(run.history.loss).all()
    assert x.item() == result.x[0] == pytest.approx(0.8 ** (seen - 1))
    assert result.fun == run.history[-1].loss
    assert heard.ends == [result.message]


def test_a_start_that_is_not_finite_is_an_error():
    x, optimizer, _ = quadratic(OPTIMIZERS["Adam"])
    run = observe(optimizer, lambda: x.sum() * float("nan"), 3)
    with pytest.raises(NonFiniteStartError, match="the loss is nan at the starting point"):
        run.wait(LONG)
    assert (run.state, x.tolist()) == ("failed", [3.0, -2.0])


def test_an_error_of_the_closure_is_raised_and_the_best_point_kept():
    x, optimizer, closure = overshooting()

    def failing():
        if abs(x.item()) > 1.5:
            raise ZeroDivisionError("mine")
        return closure()

    run = observe(optimizer, failing, 50)
    with pytest.raises(ZeroDivisionError, match="mine"):
        run.wait(LONG)
    assert (run.state, x.item()) == ("failed", 1.0)
    assert run.history.message == "Failed: ZeroDivisionError: mine"


class Deaf(torch.optim.SGD):
    """Its step calls no closure."""

    def step(self, closure=None):
        return None


def detached(x):
    return lambda: torch.tensor(1.0)


@pytest.mark.parametrize(
    ("build", "closure", "words"),
    [
        (lambda p: Deaf(p, lr=0.1), lambda x: lambda: (x**2).sum(), "Deaf.step did not call its closure"),
        (OPTIMIZERS["Adam"], lambda x: lambda: torch.tensor(1.0), "its loss has no graph"),
        (OPTIMIZERS["Adam"], lambda x: lambda: 1.0, "it returned a float"),
        (OPTIMIZERS["LBFGS"], lambda x: lambda: None, "returned nothing"),
        (OPTIMIZERS["SGD"], lambda x: lambda: x**2, "must be a scalar"),
        (OPTIMIZERS["SGD"], lambda x: lambda: torch.ones(1, requires_grad=True).sum(), "does not depend on the"),
    ],
)
def test_closures_that_cannot_serve(build, closure, words):
    x, optimizer, _ = quadratic(build)
    run = observe(optimizer, closure(x), 3)
    with pytest.raises(ClosureError, match=words):
        run.wait(LONG)
    assert x.tolist() == [3.0, -2.0]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"steps": 0}, ArgumentError, "steps must be a positive integer, got 0"),
        ({"steps": None}, ArgumentError, "steps must be a positive integer"),
        ({"steps": 2.5}, ArgumentError, "steps must be a positive integer"),
        ({"closure": 3.0}, ArgumentTypeError, "the closure must be callable"),
        ({"torch_optimizer": "Adam"}, ArgumentTypeError, "takes a torch.optim.Optimizer, got str"),
        ({"callbacks": [3]}, ArgumentTypeError, "a callback must be callable"),
        ({"max_seconds": -1}, ArgumentError, "max_seconds"),
        ({"iterations": 0}, ArgumentError, "iterations"),
        ({"pace": "slow"}, ArgumentError, "pace"),
    ],
)
def test_arguments_are_checked_before_the_run(change, error, words):
    _x, optimizer, closure = quadratic(OPTIMIZERS["Adam"])
    with pytest.raises(error, match=words):
        observe(**{"torch_optimizer": optimizer, "closure": closure, "steps": 3, **change})


def test_our_own_wrappers_have_start():
    x, _, closure = quadratic(OPTIMIZERS["Adam"])
    with pytest.raises(ArgumentTypeError, match=r"for BFGS call start\(closure\)"):
        observe(MinimizeWrapper([x], "BFGS"), closure, 3)


def test_a_learning_rate_schedule_is_a_hook():
    def schedule(optimizer):
        return torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)

    x, optimizer, closure = quadratic(OPTIMIZERS["SGD"])
    scheduler = schedule(optimizer)
    optimizer.register_step_post_hook(lambda *_: scheduler.step())
    rates = []
    watch = observe(optimizer, closure, 8, callbacks=[lambda iteration: rates.append(optimizer.param_groups[0]["lr"])])
    watch.wait(LONG)

    y, again, loss = quadratic(OPTIMIZERS["SGD"])
    other, expected = schedule(again), []
    for _ in range(8):
        expected.append(again.param_groups[0]["lr"])
        again.zero_grad()
        loss().backward()
        again.step()
        other.step()
    assert rates == expected == [0.02, 0.02, 0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025]
    assert torch.equal(x, y)


def test_random_batches_are_drawn_as_in_the_loop_and_no_more():
    def batches():
        generator = torch.Generator().manual_seed(3)
        return iter([torch.randn(2, generator=generator, dtype=torch.float64) for _ in range(6)])

    x, optimizer, _ = quadratic(OPTIMIZERS["SGD"])
    drawn = batches()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observe(optimizer, lambda: (x - next(drawn)).square().sum(), 6).wait(LONG)
    with pytest.raises(StopIteration):
        next(drawn)
    y, again, _ = quadratic(OPTIMIZERS["SGD"])
    for batch in batches():
        again.zero_grad()
        (y - batch).square().sum().backward()
        again.step()
    assert torch.equal(x, y)


def test_frozen_parameters_and_hooks_of_the_user_are_left_alone():
    x, optimizer, closure = quadratic(OPTIMIZERS["Adam"])
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    optimizer.add_param_group({"params": [frozen]})
    fired = []
    x.register_post_accumulate_grad_hook(lambda p: fired.append(threading.current_thread().name))
    observe(optimizer, closure, 3).wait(LONG)
    assert (frozen.tolist(), len(fired)) == ([1.0, 1.0], 3)
    closure().backward()
    assert len(fired) == 4


def test_a_zero_gradient_is_backpropagated_once():
    """At a stationary point the closure's own zero gradient is told from none."""
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = torch.optim.SGD([x], lr=0.1)
    calls = []
    x.register_post_accumulate_grad_hook(lambda p: calls.append(1))

    def closure():
        optimizer.zero_grad(set_to_none=False)
        loss = (x**2).sum()
        loss.backward()
        return loss

    run = observe(optimizer, closure, 3)
    run.wait(LONG)
    assert (len(calls), run.history.grad_norm.tolist()) == (3, [0.0] * 4)


def test_a_run_has_the_callers_number_of_threads():
    """A new thread's OpenMP begins with the machine's number, whatever the caller has set."""

    def of_openmp():  # torch's own get_num_threads would set it on the way
        home = Path(torch.__file__).parent
        own = [each for each in threadpool_info() if home in Path(each["filepath"]).parents]
        return [each["num_threads"] for each in own if each["user_api"] == "openmp"]

    if not of_openmp():
        pytest.skip("torch brings no OpenMP of its own")
    before = torch.get_num_threads()
    wanted = before + 1
    _x, optimizer, closure = quadratic(OPTIMIZERS["SGD"])
    seen = []
    try:
        torch.set_num_threads(wanted)
        observe(optimizer, lambda: seen.append(of_openmp()) or closure(), 1).wait(LONG)
    finally:
        torch.set_num_threads(before)
    assert seen == [[wanted]]
