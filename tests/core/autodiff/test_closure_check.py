"""The checks of a closure: what they find, what they let pass, and that they leave nothing behind."""

import itertools
import random
import re

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from tests.quartics import Detaching, Once, Wrong
from torchmin_nb import METHODS, MinimizeWrapper
from torchmin_nb.errors import ClosureError, ClosureWarning, InconsistentClosureError, SecondDerivativeError

SECOND_ORDER = [name for name, spec in METHODS.items() if spec.curvature != "none"]
EACH_SECOND_ORDER = pytest.mark.parametrize("method", SECOND_ORDER)
ONE_OF_EACH_LEVEL = pytest.mark.parametrize("method", ["Nelder-Mead", "L-BFGS-B", "trust-ncg", "trust-exact"])


class Counted:
    """A closure that counts its calls."""

    def __init__(self, loss):
        self.loss, self.calls = loss, 0

    def __call__(self):
        self.calls += 1
        return self.loss()


@pytest.fixture
def p():
    return torch.nn.Parameter(torch.tensor([1.5, -0.5, 0.7], dtype=torch.float64))


def _net(dtype=torch.float64):
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).to(dtype)


def _data(dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(6, 3, dtype=dtype, generator=generator), torch.randn(6, 1, dtype=dtype, generator=generator)


# Derivatives that disagree, found before any work


def _clipped(p):
    loss = (p**2).sum()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p], 1e-2)
    return loss


def _clipped_by_value(p):
    loss = (p**2).sum()
    loss.backward()
    torch.nn.utils.clip_grad_value_([p], 1.2)
    return loss


def _scaled(p):
    loss = (p**2).sum()
    (loss * 1024).backward()
    return loss


def _scaled_and_unscaled(p):
    loss = (p**2).sum()
    (loss * 1024).backward()
    p.grad /= 1024
    return loss


def _scaled_gradient(p):
    loss = (p**2).sum()
    loss.backward(torch.tensor(1024.0, dtype=p.dtype))
    p.grad /= 1024
    return loss


def _half_backpropagated(p):
    (p[:1] ** 2).sum().backward()
    return (p**2).sum().detach()


def _mean_of_parts(p):
    losses = [(p**2).sum(), (p**4).sum()]
    for loss in losses:
        loss.backward()
    return sum(losses).detach() / 2


def _noisy_gradient(p):
    loss = (p**2).sum()
    loss.backward()
    p.grad[1] += 0.3
    return loss


INCONSISTENT = {
    _clipped: "scaled by .*clipping",
    _clipped_by_value: "a hook, gradient clipping",
    _scaled: r"returned 2.99 but called backward\(\) on losses that add up to 3061.*gradient scaling",
    _scaled_and_unscaled: "gradient scaling",
    _scaled_gradient: "gradient scaling|scaled by",
    _half_backpropagated: "return the sum of the losses that are backpropagated",
    _mean_of_parts: "return the sum of the losses that are backpropagated",
    _noisy_gradient: "a hook, gradient clipping",
}


@pytest.mark.parametrize("method", ["trust-ncg", "dogleg"])
@pytest.mark.parametrize(("form", "message"), INCONSISTENT.items(), ids=lambda f: getattr(f, "__name__", ""))
def test_an_inconsistent_closure_is_refused_before_any_work(form, message, method, p):
    start = p.detach().clone()
    closure = Counted(lambda: form(p))
    optimizer = MinimizeWrapper([p], method)
    with pytest.raises(InconsistentClosureError, match=message):
        optimizer.step(closure)
    assert closure.calls <= 3
    assert len(optimizer.history) == 0
    assert torch.equal(p, start)


@EACH_SECOND_ORDER
def test_start_check_false_runs_with_the_derivative_of_the_loss(method, p):
    loss = MinimizeWrapper([p], method, start_check=False).step(lambda: _clipped(p))
    assert loss < 1e-6


@EACH_SECOND_ORDER
def test_a_clip_that_does_not_bite_passes(method, p):
    def closure():
        loss = (p**2).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p], 1e6)
        return loss

    assert MinimizeWrapper([p], method).step(closure) < 1e-6


@pytest.mark.parametrize("backward", [True, False])
def test_reentrant_checkpointing_is_named(backward):
    net, (x, y) = _net(), _data()
    x.requires_grad_()

    def closure():
        loss = ((checkpoint(net, x, use_reentrant=True) - y) ** 2).mean()
        if backward:
            loss.backward()
        return loss

    with pytest.raises(ClosureError, match="use_reentrant=False"):
        MinimizeWrapper(net.parameters(), "trust-ncg").step(closure)


def test_reentrant_checkpointing_of_a_part_is_named():
    head, net, (x, y) = torch.nn.Linear(1, 1).double(), _net(), _data()
    x.requires_grad_()

    def closure():
        loss = ((head(checkpoint(net, x, use_reentrant=True)) - y) ** 2).mean()
        loss.backward()
        return loss

    with pytest.raises(InconsistentClosureError, match="reentrant checkpointing"):
        MinimizeWrapper([*head.parameters(), *net.parameters()], "trust-ncg").step(closure)


@EACH_SECOND_ORDER
def test_checkpointing_without_reentry_gives_the_same_run(method):
    (x, y), losses = _data(), []
    for checkpointed in (False, True):
        torch.manual_seed(1)
        net = _net()

        def closure(net=net, checkpointed=checkpointed):
            out = checkpoint(net, x, use_reentrant=False) if checkpointed else net(x)
            return ((out - y) ** 2).mean()

        optimizer = MinimizeWrapper(net.parameters(), {"method": method, "options": {"maxiter": 4}})
        optimizer.step(closure)
        losses.append(optimizer.history.loss)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-9)


# Second derivatives that are missing


def _cdist(p):
    return torch.cdist(p[None, :2], torch.ones(1, 2, dtype=p.dtype)).sum() ** 2 + (p**2).sum()


def _once(p):
    return Once.apply(p).sum()


def _once_beside_a_penalty(p):
    return Once.apply(p).sum() + (p**2).sum()


def _once_backward(p):
    loss = _once_beside_a_penalty(p)
    loss.backward()
    return loss


def _detaching(p):
    return Detaching.apply(p).sum()


def _embedding_bag(p):
    bag = torch.nn.functional.embedding_bag(torch.tensor([[0, 1]]), p[:, None] ** 2, mode="mean")
    return (bag**2).sum() + (p**2).sum()


MISSING = {
    _cdist: "cdist",
    _once: "once_differentiable",
    _once_beside_a_penalty: "once_differentiable",
    _once_backward: "once_differentiable",
    _detaching: "detached gradient",
    _embedding_bag: "embedding_bag",
}
EACH_MISSING = pytest.mark.parametrize("form", MISSING, ids=lambda form: form.__name__.strip("_"))


@EACH_MISSING
@pytest.mark.parametrize("method", ["trust-krylov", "trust-exact"])
def test_an_operation_without_a_second_derivative_is_named_before_any_work(form, method, p):
    start = p.detach().clone()
    optimizer = MinimizeWrapper([p], method)
    with pytest.raises(SecondDerivativeError, match=f"(?s){MISSING[form]}.*curvature='finite-difference'"):
        optimizer.step(lambda: form(p))
    assert len(optimizer.history) == 0
    assert torch.equal(p, start)


@EACH_MISSING
@EACH_SECOND_ORDER
def test_finite_differences_are_the_way_on(form, method, p):
    optimizer = MinimizeWrapper([p], method, curvature="finite-difference")
    closure = Counted(lambda: form(p))
    start = float(form(p).detach())
    loss = optimizer.step(closure)
    assert loss < 0.05 * start or (form is _cdist and loss < 1.01)
    assert optimizer.history.totals.nfev + 1 <= closure.calls <= optimizer.history.totals.nfev + 3


@EACH_SECOND_ORDER
def test_attention_works_in_its_differentiable_backend(method):
    torch.manual_seed(2)
    query = torch.nn.Parameter(torch.randn(1, 2, 3, 4, dtype=torch.float64))
    key, value, target = torch.randn(3, 1, 2, 3, 4, dtype=torch.float64)

    def closure():
        return ((torch.nn.functional.scaled_dot_product_attention(query, key, value) - target) ** 2).mean()

    optimizer = MinimizeWrapper([query], {"method": method, "options": {"maxiter": 5}})
    start = float(closure().detach())
    assert optimizer.step(closure) < start


def test_a_linear_loss_is_not_mistaken_for_a_hidden_derivative(p):
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    optimizer = MinimizeWrapper([p], {"method": "trust-ncg", "options": {"maxiter": 2}})
    optimizer.step(lambda: (weights * p).sum())
    assert optimizer.history.totals.nfev > 0


def test_a_network_of_kinks_passes():
    """ReLU and an absolute loss: the Hessian is zero almost everywhere, and that is the truth."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)).double()
    x, y = _data()
    optimizer = MinimizeWrapper(net.parameters(), {"method": "trust-ncg", "options": {"maxiter": 2}})
    optimizer.step(lambda: (net(x) - y).abs().mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@EACH_SECOND_ORDER
def test_an_honest_closure_passes_at_many_starts(dtype, method):
    for seed in range(3):
        torch.manual_seed(seed)
        net, (x, y) = _net(dtype), _data(dtype)

        def closure(net=net, x=x, y=y):
            loss = 1e4 * ((net(x) - y) ** 2).mean()
            loss.backward()
            return loss

        MinimizeWrapper(net.parameters(), {"method": method, "options": {"maxiter": 1}}).step(closure)


# Randomness


@ONE_OF_EACH_LEVEL
def test_dropout_is_warned_of_with_the_remedy(method):
    net, (x, y) = _net(), _data()
    drop = torch.nn.Dropout(0.5)
    optimizer = MinimizeWrapper(net.parameters(), method, max_evaluations=3)
    with pytest.warns(ClosureWarning, match=r"not deterministic.*model\.eval\(\)") as caught:
        optimizer.step(lambda: ((net(drop(x)) - y) ** 2).mean())
    assert len(caught) == 1


@ONE_OF_EACH_LEVEL
@pytest.mark.parametrize("draw", [np.random.random, random.random], ids=["NumPy", "Python"])
def test_draws_of_other_generators_are_warned_of(draw, method, p):
    optimizer = MinimizeWrapper([p], method, max_evaluations=3)
    with pytest.warns(ClosureWarning, match="not deterministic"):
        optimizer.step(lambda: ((p - draw()) ** 2).sum())


@EACH_SECOND_ORDER
def test_a_closure_that_differentiates_by_torch_func(method, p):
    """torch.func refuses the hooks by which the start check measures a graph."""
    optimizer = MinimizeWrapper([p], method)
    optimizer.step(lambda: torch.func.grad(lambda x: (x**4).sum())(p).square().sum() + ((p - 1) ** 2).sum())
    x = p.detach()
    torch.testing.assert_close(96 * x**5 + 2 * (x - 1), torch.zeros_like(x), rtol=0, atol=1e-3)


def test_a_buffer_that_each_call_updates_is_named():
    layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 4).double())
    x, _ = _data()
    with pytest.raises(InconsistentClosureError, match=r"spectral_norm does: model\.eval\(\)"):
        MinimizeWrapper(layer.parameters(), "trust-ncg").step(lambda: (layer(x) - 1).square().mean())


def _clamped(p):
    with torch.no_grad():
        p.clamp_(max=0.5)
    return (p**2).sum()


def _clamped_past_autograd(p):
    p.data.clamp_(max=0.5)
    return (p**2).sum()


def _stepped(p):
    loss = (p**2).sum()
    loss.backward()
    torch.optim.SGD([p], lr=0.1).step()
    return loss


@ONE_OF_EACH_LEVEL
@pytest.mark.parametrize("form", [_clamped, _clamped_past_autograd, _stepped], ids=lambda form: form.__name__)
def test_a_closure_that_moves_the_parameters_is_refused(form, method, p):
    start = p.detach().clone()
    with pytest.raises(ClosureError, match=r"the closure moved the parameters, by up to .*bounds=\(low, high\)"):
        MinimizeWrapper([p], method).step(lambda: form(p))
    assert torch.equal(p.detach(), start)


@ONE_OF_EACH_LEVEL
def test_a_closure_that_moves_the_parameters_later_is_refused(method, p):
    calls = itertools.count()
    with pytest.raises(ClosureError, match="moved the parameters"):
        MinimizeWrapper([p], method).step(lambda: _clamped(p) if next(calls) > 5 else ((p - 2) ** 4).sum())


@ONE_OF_EACH_LEVEL
def test_a_closure_may_move_the_parameters_and_put_them_back(method, p):
    def closure():
        with torch.no_grad():
            kept = p.clone()
            ahead = (p.add_(0.125) ** 2).sum()
            p.copy_(kept)
        return (p**2).sum() + 0 * ahead

    assert float(MinimizeWrapper([p], method).step(closure)) < 1e-4


@ONE_OF_EACH_LEVEL
def test_dropout_in_eval_mode_is_not_warned_of(method):
    net, (x, y) = _net(), _data()
    drop = torch.nn.Dropout(0.5).eval()
    MinimizeWrapper(net.parameters(), method, max_evaluations=3).step(lambda: ((net(drop(x)) - y) ** 2).mean())


@ONE_OF_EACH_LEVEL
def test_start_check_false_does_not_warn(method):
    net, (x, y) = _net(), _data()
    drop = torch.nn.Dropout(0.5)
    optimizer = MinimizeWrapper(net.parameters(), method, max_evaluations=3, start_check=False)
    closure = Counted(lambda: ((net(drop(x)) - y) ** 2).mean())
    optimizer.step(closure)
    assert closure.calls == optimizer.history.totals.nfev


@ONE_OF_EACH_LEVEL
def test_drawing_numbers_that_do_not_matter_is_not_warned_of(method):
    """A DataLoader draws a seed at each pass, though its batches are the same."""
    net, data = _net(), torch.utils.data.TensorDataset(*_data())
    loader = torch.utils.data.DataLoader(data, batch_size=2)

    def closure():
        return sum(((net(x) - y) ** 2).sum() for x, y in loader)

    MinimizeWrapper(net.parameters(), method, max_evaluations=3).step(closure)


@ONE_OF_EACH_LEVEL
def test_a_seed_inside_the_closure_is_not_warned_of(method, p):
    def closure():
        torch.manual_seed(0)
        return ((p + torch.randn(3, dtype=torch.float64)) ** 2).sum()

    MinimizeWrapper([p], method, max_evaluations=3).step(closure)


# Outside all counts, and nothing left behind


@EACH_SECOND_ORDER
def test_the_start_check_is_outside_all_counts(method, p):
    totals, results, calls = [], [], []
    for check in (False, True):
        with torch.no_grad():
            p.copy_(torch.tensor([1.5, -0.5, 0.7]))
        closure = Counted(lambda: (p**4).sum() + p.prod())
        optimizer = MinimizeWrapper([p], method, start_check=check, keep_evaluations=True, max_evaluations=5)
        optimizer.step(closure)
        total = optimizer.history.totals
        totals.append((total.nfev, total.njev, total.nhev, total.nhvp, len(optimizer.history.evaluations)))
        results.append({name: optimizer.result[name] for name in ("nfev", "njev", "nhev", "nit")})
        calls.append(closure.calls)
    assert totals[0] == totals[1]
    assert results[0] == results[1]
    assert calls[0] == totals[0][0]
    assert calls[1] == calls[0] + 1


def test_records_of_the_check_are_not_kept(p):
    optimizer = MinimizeWrapper([p], {"method": "trust-ncg", "options": {"maxiter": 2}})
    count = iter(range(100))

    def closure():
        optimizer.record(call=next(count))
        return (p**2).sum()

    optimizer.step(closure)
    assert optimizer.history[0].metrics == {"call": 0}


def _flat_state(tensors):
    return [t.detach().clone() for t in tensors], [t.grad.clone() for t in tensors], torch.get_rng_state()


def _same(before, after):
    return all(
        torch.equal(a, b)
        for a, b in zip((*before[0], *before[1], before[2]), (*after[0], *after[1], after[2]), strict=True)
    )


@pytest.mark.parametrize("breaks", [False, True])
def test_check_leaves_parameters_gradients_and_generator(breaks):
    net, (x, y) = _net(), _data()
    drop = torch.nn.Dropout(0.5)
    tensors = list(net.parameters())
    for tensor in tensors:
        tensor.grad = torch.randn_like(tensor)
    calls = iter(range(1000))

    def closure():
        if breaks and next(calls) == 8:
            raise ZeroDivisionError
        loss = ((net(drop(x)) - y) ** 2).mean() + 0 * (random.random() + np.random.random())
        loss.backward()
        return loss

    before = _flat_state(tensors)
    other_generators = random.getstate(), np.random.get_state()[2:]
    optimizer = MinimizeWrapper(tensors, "trust-ncg")
    if breaks:
        with pytest.raises(ZeroDivisionError):
            optimizer.check(closure)
    else:
        optimizer.check(closure)
    assert _same(before, _flat_state(tensors))
    assert (random.getstate(), np.random.get_state()[2:]) == other_generators
    assert optimizer.result is None
    assert len(optimizer.history) == 0


def test_the_start_check_leaves_the_generator(p):
    draws = []

    def closure():
        draws.append(float(torch.rand(())))
        return (p**2).sum() + 0 * draws[-1]

    torch.manual_seed(0)
    MinimizeWrapper([p], "trust-ncg", max_evaluations=1).step(closure)
    assert draws[0] == draws[1] == draws[2]


# The report


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-6), (torch.float32, 1e-2)])
def test_report_of_a_good_closure(dtype, bound):
    net, (x, y) = _net(dtype), _data(dtype)
    report = MinimizeWrapper(net.parameters()).check(lambda: ((net(x) - y) ** 2).mean())
    assert report.ok
    assert report.deterministic
    assert report.problems == ()
    assert report.loss == pytest.approx(float(((net(x) - y) ** 2).mean().detach()))
    assert 0 <= report.gradient_error < bound
    assert 0 <= report.curvature_error < bound
    assert 0 < report.seconds_per_call < 1
    assert 0 < report.seconds_per_product < 1
    lines = str(report).splitlines()
    assert [line[:18].strip() for line in lines] == [
        "loss",
        "deterministic",
        "gradient error",
        "curvature error",
        "closure call",
        "product",
    ]
    assert "yes" in lines[1]


class Timed(torch.autograd.Function):
    """x² that takes 1 s, its gradient 2 s and a product 7 s, on the clock of a test."""

    @staticmethod
    def forward(ctx, x, clock):
        ctx.save_for_backward(x)
        ctx.clock = clock
        clock[0] += 1
        return x**2

    @staticmethod
    def backward(ctx, given):
        (x,) = ctx.saved_tensors
        ctx.clock[0] += 2
        return TimedGradient.apply(x, given, ctx.clock), None


class TimedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, given, clock):
        ctx.save_for_backward(given)
        ctx.clock = clock
        return 2 * x * given

    @staticmethod
    def backward(ctx, v):
        (given,) = ctx.saved_tensors
        ctx.clock[0] += 7
        return 2 * given * v, None, None


@pytest.mark.parametrize("backward", [False, True], ids=["returns the loss", "calls backward()"])
def test_a_call_is_timed_with_its_gradient(monkeypatch, p, backward):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def closure():
        loss = Timed.apply(p, clock).sum()
        if backward:
            p.grad = None
            loss.backward()
        return loss

    report = MinimizeWrapper([p]).check(closure)
    assert (report.seconds_per_call, report.seconds_per_product) == (3, 7)


def test_report_of_a_gradient_free_closure(p):
    report = MinimizeWrapper([p], "Nelder-Mead").check(lambda: float((p**2).sum().detach()))
    assert report.deterministic
    assert report.gradient_error is report.curvature_error is report.seconds_per_product is None
    assert "called backward()" in report.problems[0]
    assert "–" in str(report)


FOUND = {
    "a wrong gradient": (lambda p: Wrong.apply(p).sum(), "gradient deviates from differences of the loss"),
    "a detached backward": (
        lambda p: Detaching.apply(p).sum() + (p**2).sum(),
        "curvature deviates from differences of the gradient",
    ),
    "cdist": (_cdist, "cdist has no second derivative|_cdist_backward has no second derivative"),
    "clipping": (_clipped, "clipping"),
    "noise": (lambda p: (p**2).sum() * torch.rand((), dtype=torch.float64), "not deterministic"),
    "NaN": (lambda p: (p**2).sum() * torch.nan, "the loss is nan"),
}


@pytest.mark.parametrize(("form", "message"), FOUND.values(), ids=FOUND)
def test_the_report_names_what_is_wrong(form, message, p):
    report = MinimizeWrapper([p]).check(lambda: form(p))
    assert not report.ok
    assert any(re.search(message, problem) for problem in report.problems), report.problems
    assert "problem: " in str(report)
