"""`backward()` answered with a differentiable gradient: the same numbers, and nothing else of the closure changed."""

import threading

import numpy as np
import pytest
import torch

from torchmin_nb import METHODS, MinimizeWrapper
from torchmin_nb.core.autodiff.capture import CaptureBackward, differentiable_gradient
from torchmin_nb.core.autodiff.closure import evaluate_curvature, evaluate_gradient
from torchmin_nb.core.parameters.flat import FlatParameters
from torchmin_nb.errors import ClosureError

A = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)


@pytest.fixture
def p():
    return torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64))


@pytest.fixture
def q():
    return torch.nn.Parameter(torch.tensor([0.3], dtype=torch.float64))


def _loss(p, q):
    return (A * p**3).sum() + (q**2 * p.sum()).sum()


def _tensor_backward(p, q):
    _loss(p, q).backward()


def _autograd_backward(p, q):
    torch.autograd.backward(_loss(p, q))


def _keywords(p, q):
    torch.autograd.backward(tensors=[_loss(p, q)], grad_tensors=None, retain_graph=True)


def _several_tensors(p, q):
    torch.autograd.backward([(A * p**3).sum(), (q**2 * p.sum()).sum()])


def _grad_tensors(p, q):
    torch.autograd.backward([A * p**3, q**2 * p.sum()], [torch.ones_like(p), torch.ones_like(q)])


def _none_among_grad_tensors(p, q):
    torch.autograd.backward([A * p**3, (q**2 * p.sum()).sum()], [torch.ones_like(p), None])


def _weighted(p, q):
    _loss(p, q).backward(gradient=torch.tensor(2.0, dtype=torch.float64))


def _vector_with_gradient(p, q):
    (A * p**3).backward(torch.ones_like(p))


def _only_q(p, q):
    _loss(p, q).backward(inputs=[q])


def _only_one_tensor(p, q):
    _loss(p, q).backward(inputs=p)


def _two_calls(p, q):
    (A * p**3).sum().backward()
    (q**2 * p.sum()).sum().backward()


def _retained(p, q):
    loss = _loss(p, q)
    loss.backward(retain_graph=True)
    loss.backward()


def _inner_gradient(p, q):
    (inner,) = torch.autograd.grad((p**2).sum() * q.sum(), p, create_graph=True)
    (inner**2).sum().backward()


def _other_leaf_first(p, q):
    other = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    ((p + other) ** 2).sum().backward(inputs=[other])
    (p * other.grad).sum().backward()


FORMS = [
    _tensor_backward,
    _autograd_backward,
    _keywords,
    _several_tensors,
    _grad_tensors,
    _none_among_grad_tensors,
    _weighted,
    _vector_with_gradient,
    _only_q,
    _only_one_tensor,
    _two_calls,
    _retained,
    _inner_gradient,
    _other_leaf_first,
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__.strip("_"))
def test_captured_is_the_real_backward(form, p, q):
    form(p, q)
    real = [p.grad, q.grad]
    p.grad = q.grad = None
    with CaptureBackward([p, q]) as capture:
        form(p, q)
    assert capture.called
    for tensor, gradient, expected in zip([p, q], capture.gradient, real, strict=True):
        if expected is None:
            assert gradient is None
            assert tensor.grad is None
        else:
            torch.testing.assert_close(gradient.detach(), expected, rtol=1e-14, atol=0)
            torch.testing.assert_close(tensor.grad, expected, rtol=1e-14, atol=0)
            assert not tensor.grad.requires_grad


@pytest.mark.parametrize("form", [_tensor_backward, _several_tensors, _grad_tensors, _two_calls, _inner_gradient])
def test_the_captured_gradient_can_be_differentiated(form, p, q):
    def gradient(x):
        p.data.copy_(x)
        p.grad = q.grad = None
        form(p, q)
        return p.grad

    start, h = p.detach().clone(), 1e-5
    direction = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)
    with CaptureBackward([p, q]) as capture:
        form(p, q)
    (product,) = torch.autograd.grad(capture.gradient[0], p, direction)
    expected = (gradient(start + h * direction) - gradient(start - h * direction)) / (2 * h)
    torch.testing.assert_close(product, expected, rtol=1e-6, atol=1e-6)


def test_total_is_the_sum_of_the_scalars(p, q):
    with CaptureBackward([p, q]) as capture:
        _two_calls(p, q)
    assert capture.total == pytest.approx(float(_loss(p, q).detach()))
    with CaptureBackward([p, q]) as capture:
        _weighted(p, q)
    assert capture.total is None


def test_gradients_accumulate_in_grad(p, q):
    p.grad = torch.ones_like(p)
    with CaptureBackward([p]) as capture:
        p.sum().backward()
    assert p.grad.tolist() == [2, 2, 2]
    assert capture.gradient[0].tolist() == [1, 1, 1]


def test_a_vector_without_gradient_is_refused_as_torch_does(p):
    with pytest.raises(RuntimeError, match="scalar outputs"), CaptureBackward([p]):
        (p**2).backward()


def test_the_closures_own_grad_passes_through(p):
    with CaptureBackward([p]) as capture:
        (inner,) = torch.autograd.grad((p**3).sum(), p)
    assert not capture.called
    torch.testing.assert_close(inner, 3 * p.detach() ** 2)


def test_other_leaves_named_in_inputs_are_filled(p):
    other = torch.ones(3, dtype=torch.float64, requires_grad=True)
    with CaptureBackward([p]) as capture:
        (p * other).sum().backward(inputs=[other])
    assert not capture.called
    assert p.grad is None
    torch.testing.assert_close(other.grad, p.detach())


def test_clipping_grad_in_the_closure_leaves_the_graph_alone(p):
    flat = FlatParameters([p])

    def closure():
        loss = (p**4).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p], 1e-3)
        p.grad.zero_()
        return loss

    result = evaluate_curvature(closure, flat)
    np.testing.assert_allclose(result.gradient, 4 * flat.read() ** 3, rtol=1e-14)


def test_clipping_after_a_plain_return_leaves_the_graph_alone(p):
    flat = FlatParameters([p])
    result = evaluate_curvature(lambda: (p**4).sum(), flat)
    p.grad.zero_()
    torch.testing.assert_close(result.graph.gradient[0].detach(), 4 * p.detach() ** 3)


@pytest.mark.parametrize("evaluate", [evaluate_gradient, evaluate_curvature])
@pytest.mark.parametrize("backward", [True, False])
def test_tensor_hooks_fire_and_count(evaluate, backward, p):
    calls = []
    p.register_hook(lambda gradient: calls.append(1) or 2 * gradient)

    def closure():
        loss = (p**2).sum()
        if backward:
            loss.backward()
        return loss

    result = evaluate(closure, FlatParameters([p]))
    assert calls == [1]
    np.testing.assert_allclose(result.gradient, 4 * p.detach().numpy())


def test_post_accumulate_hooks_fire_for_first_order_methods(p):
    calls = []
    p.register_post_accumulate_grad_hook(lambda tensor: calls.append(tensor.grad is not None))
    optimizer = MinimizeWrapper([p], "L-BFGS-B", start_check=False)
    optimizer.step(lambda: (p**2).sum())
    assert calls == [True] * optimizer.history.totals.nfev


def test_module_hooks_fire_for_first_order_methods():
    net = torch.nn.Linear(2, 1).double()
    calls = []
    net.register_full_backward_hook(lambda *_: calls.append(1))
    x = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    evaluate_gradient(lambda: (net(x) ** 2).sum(), FlatParameters(list(net.parameters())))
    assert calls == [1]


def test_no_grad_outside_does_not_matter(p):
    with torch.no_grad():
        result = evaluate_curvature(lambda: (p**4).sum(), FlatParameters([p]))
    assert result.graph.gradient[0].requires_grad


def test_unused_parameters_are_none(p, q):
    gradient = differentiable_gradient((p**2).sum(), [p, q])
    assert gradient[1] is None


def test_a_gradient_hidden_from_capture_names_checkpointing(p):
    with pytest.raises(ClosureError, match="use_reentrant=False"):
        evaluate_curvature(lambda: torch.zeros(1, requires_grad=True).sum(), FlatParameters([p]))


def _flash_enabled():
    return torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()


def test_attention_backends_are_restored_also_by_overlapping_threads(p):
    before = _flash_enabled()
    inside, leave = threading.Event(), threading.Event()
    seen = []

    def slow():
        inside.set()
        assert leave.wait(10)
        seen.append(_flash_enabled())
        return (p**2).sum()

    def quick():
        seen.append(_flash_enabled())
        return (p**2).sum()

    other = torch.nn.Parameter(p.detach().clone())
    thread = threading.Thread(target=evaluate_curvature, args=(slow, FlatParameters([p])))
    thread.start()
    assert inside.wait(10)
    # Leaves first though it came second, then comes again: neither may restore what the other still needs.
    for _ in range(2):
        evaluate_curvature(lambda: (other**2).sum() + 0 * quick().detach(), FlatParameters([other]))
    leave.set()
    thread.join()
    assert seen == [(False, False)] * 3
    assert _flash_enabled() == before


def test_attention_backends_are_restored_after_an_error(p):
    before = _flash_enabled()
    with pytest.raises(ZeroDivisionError):
        evaluate_curvature(lambda: 1 / 0, FlatParameters([p]))
    assert _flash_enabled() == before


@pytest.mark.parametrize("method", [name for name, spec in METHODS.items() if spec.curvature != "none"])
def test_an_adversarial_inner_backward_works_with_every_hessian_method(method):
    p = torch.nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
    target = torch.tensor([0.5, 0.25], dtype=torch.float64)

    def closure():
        nudge = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        ((p.detach() + nudge - target) ** 2).sum().backward()
        return ((p - target + 0.1 * nudge.grad) ** 2).sum()

    start = float(closure().detach())
    assert MinimizeWrapper([p], method).step(closure) < start
