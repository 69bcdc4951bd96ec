"""Products and Hessians against analytic ones, at the point they were asked for, and nothing kept afterwards."""

import gc
import os
import tracemalloc
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import scipy
import scipy.optimize
import torch

from torchmin_nb import METHODS, MinimizeWrapper
from torchmin_nb.core.autodiff import backward_pass as backward_pass_module
from torchmin_nb.core.autodiff.backward_pass import backward_pass
from torchmin_nb.core.autodiff.closure import ClosureEvaluator, evaluate_curvature
from torchmin_nb.core.autodiff.hessian import DenseHessian, finite_difference_product, positive_definite
from torchmin_nb.core.objective.calls import Calls
from torchmin_nb.core.objective.objective import Derivatives, Objective
from torchmin_nb.core.parameters.flat import FlatParameters
from torchmin_nb.core.runtime.control import Abort, Control
from torchmin_nb.errors import ClosureWarning, SecondDerivativeError

TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-4}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)
_STATM = Path("/proc/self/statm")
SECOND_ORDER = [name for name, spec in METHODS.items() if spec.curvature != "none"]
PRODUCTS = [name for name, spec in METHODS.items() if spec.curvature == "hvp"]


def _rosen(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def _parameter(values, dtype=torch.float64):
    return torch.nn.Parameter(torch.as_tensor(values, dtype=dtype))


def _objective(closure, tensors, *, level="curvature", **kwargs):
    flat = FlatParameters(tensors)
    return Objective(Calls(ClosureEvaluator(closure, flat), flat, Control()), Derivatives(level, **kwargs))


def _mlp(dtype=torch.float64, hidden=5):
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(3, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 1)).to(dtype)
    x, y = torch.randn(7, 3, dtype=dtype), torch.randn(7, 1, dtype=dtype)
    return net, lambda: ((net(x) - y) ** 2).mean(), (x, y)


def _mlp_hessian(net, data):
    """torch's own Hessian, shape (n, n)."""
    names = [name for name, _ in net.named_parameters()]
    values = [p.detach().clone() for p in net.parameters()]

    def loss(*tensors):
        out = torch.func.functional_call(net, dict(zip(names, tensors, strict=True)), (data[0],))
        return ((out - data[1]) ** 2).mean()

    blocks = torch.autograd.functional.hessian(loss, tuple(values))
    rows = [
        torch.cat([block.reshape(value.numel(), -1) for block in row], dim=1)
        for row, value in zip(blocks, values, strict=True)
    ]
    return torch.cat(rows).double().numpy()


class _NoVmap(torch.autograd.Function):
    """exp, differentiable any number of times, but not under vmap: its backward looks at the numbers."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return _NoVmapTimes.apply(g, y)


class _NoVmapTimes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        if not g.any():
            return None, None
        return _NoVmapTimes.apply(g, b), _NoVmapTimes.apply(g, a)


# Against the truth


@DTYPES
@pytest.mark.parametrize("n", [2, 7])
def test_rosenbrock_product_is_the_analytic_one(dtype, n):
    p = _parameter(np.linspace(-1.2, 1, n), dtype)
    objective = _objective(lambda: _rosen(p), [p])
    rng = np.random.default_rng(0)
    x = rng.standard_normal(n).astype(np.float32).astype(np.float64)
    v = rng.standard_normal(n).astype(np.float32).astype(np.float64)
    expected = scipy.optimize.rosen_hess_prod(x, v)
    product = objective.hvp(x, v)
    assert product.dtype == np.float64
    assert np.linalg.norm(product - expected) <= TOLERANCE[dtype] * np.linalg.norm(expected)
    hessian = scipy.optimize.rosen_hess(x)
    assert np.linalg.norm(objective.hessian(x) - hessian) <= TOLERANCE[dtype] * np.linalg.norm(hessian)
    assert objective.counts.nfev == 1


@DTYPES
def test_mlp_hessian_is_torchs_own(dtype):
    net, closure, data = _mlp(dtype)
    objective = _objective(closure, list(net.parameters()))
    x = objective.flat.read()
    expected = _mlp_hessian(net, data)
    scale = np.linalg.norm(expected)
    hessian = objective.hessian(x)
    assert np.linalg.norm(hessian - expected) <= TOLERANCE[dtype] * scale
    np.testing.assert_array_equal(hessian, hessian.T)
    v = np.random.default_rng(1).standard_normal(len(x))
    assert np.linalg.norm(objective.hvp(x, v) - expected @ v) <= 3 * TOLERANCE[dtype] * scale


def test_mixed_precision_hessian():
    a, b = _parameter([0.5, -0.25]), _parameter([2.0], torch.float32)
    objective = _objective(lambda: (a**2).sum() * (b**3).sum().double(), [a, b])
    expected = [[16, 0, 12], [0, 16, -6], [12, -6, 6 * 2 * 0.3125]]
    np.testing.assert_allclose(objective.hessian(objective.flat.read()), expected, rtol=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_chunk_sizes_agree(chunk):
    net, closure, data = _mlp()
    objective = _objective(closure, list(net.parameters()), chunk=chunk)
    np.testing.assert_allclose(objective.hessian(objective.flat.read()), _mlp_hessian(net, data), atol=1e-12)
    assert objective.counts.nhvp == objective.flat.n
    assert objective.counts.nhev == 1


def test_chunk_follows_the_memory_of_a_row():
    assert DenseHessian(10_000, bytes_per_row=2**20).chunk == 64
    assert DenseHessian(10_000, bytes_per_row=2**40).chunk == 1
    assert DenseHessian(5).chunk == 5
    assert DenseHessian(10_000).chunk == 256


def test_what_refuses_vmap_is_done_row_by_row():
    p = _parameter([0.1, 0.2, 0.3])
    objective = _objective(lambda: (_NoVmap.apply(p) ** 2).sum(), [p])
    x = objective.flat.read()
    np.testing.assert_allclose(objective.hessian(x), np.diag(4 * np.exp(2 * x)), rtol=1e-14)
    assert objective._dense.vectorised is False
    np.testing.assert_allclose(objective.hessian(x + 1), np.diag(4 * np.exp(2 * x + 2)), rtol=1e-14)


def test_a_stop_is_heard_between_chunks():
    p = _parameter(np.ones(9))
    graph = evaluate_curvature(lambda: (p**4).sum(), FlatParameters([p])).graph
    calls = []
    DenseHessian(9, chunk=2).build(graph, 9, lambda: calls.append(1))
    assert len(calls) == 5


# At the right point


def test_product_at_an_older_point_of_a_power():
    """`p**4` saves the leaf itself: with the newer values in it, its graph would be silently wrong."""
    p = _parameter([1.0, 2.0])
    objective = _objective(lambda: (p**4).sum(), [p])
    old, new, v = np.array([1.0, 2.0]), np.array([2.0, -3.0]), np.array([1.0, -0.5])
    objective.value(old)
    objective.value(new)
    for x in (old, new, old, old, new):
        np.testing.assert_allclose(objective.hvp(x, v), 12 * x**2 * v, rtol=1e-14)
        np.testing.assert_allclose(objective.hessian(x), np.diag(12 * x**2), rtol=1e-14)
    assert objective.counts.nfev == 2


def test_product_at_an_older_point_of_an_mlp():
    net, closure, data = _mlp()
    objective = _objective(closure, list(net.parameters()))
    old = objective.flat.read()
    new = old + 0.3
    v = np.random.default_rng(0).standard_normal(len(old))
    expected = {}
    for name, x in (("new", new), ("old", old)):
        objective.flat.write_final(x)
        expected[name] = _mlp_hessian(net, data) @ v
    objective.value(old)
    objective.value(new)
    np.testing.assert_allclose(objective.hvp(old, v), expected["old"], atol=1e-12)
    np.testing.assert_allclose(objective.hvp(new, v), expected["new"], atol=1e-12)
    assert objective.counts.nfev == 2


def test_a_gradient_and_a_product_at_a_forgotten_point_are_evaluated_again():
    p = _parameter([1.0])
    objective = _objective(lambda: (p**4).sum(), [p])
    for x in (1.0, 2.0, 3.0):
        objective.value(np.array([x]))
    np.testing.assert_allclose(objective.hvp(np.array([1.0]), np.array([1.0])), [12.0])
    assert objective.counts.nfev == 4


def test_products_survive_a_caller_that_writes_over_its_vectors():
    p = _parameter([1.0, 2.0])
    objective = _objective(lambda: (p**4).sum(), [p])
    x = np.array([1.0, 2.0])
    objective.value(x)
    gradient = objective.gradient(x)
    gradient[:] = np.nan
    x[:] = 5
    np.testing.assert_allclose(objective.gradient(np.array([1.0, 2.0])), [4, 32])
    hessian = objective.hessian(np.array([1.0, 2.0]))
    hessian[:] = 0
    np.testing.assert_allclose(objective.hessian(np.array([1.0, 2.0])), [[12, 0], [0, 48]])
    assert objective.counts.nfev == 1


def test_finite_difference_products_between_evaluations_do_not_spoil_the_held_point():
    p = _parameter([1.0, 2.0])
    objective = _objective(lambda: (p**4).sum(), [p], curvature="finite-difference")
    x = np.array([1.0, 2.0])
    for _ in range(2):
        np.testing.assert_allclose(objective.hvp(x, np.array([1.0, 0.0])), [12, 0], rtol=1e-4)
        assert objective.value(x) == 17
    assert objective.counts.nfev == 5


# Losses that are flat somewhere


def test_a_linear_loss_has_a_zero_hessian():
    p = _parameter([1.0, 2.0])
    objective = _objective(lambda: (3 * p).sum(), [p])
    x = objective.flat.read()
    np.testing.assert_array_equal(objective.hvp(x, np.ones(2)), [0, 0])
    np.testing.assert_array_equal(objective.hessian(x), np.zeros((2, 2)))


def test_a_parameter_that_is_not_used_has_zero_rows():
    p, unused, q = _parameter([1.0]), _parameter([5.0, 6.0]), _parameter([2.0])
    objective = _objective(lambda: (p**2 * q).sum(), [p, unused, q])
    expected = np.zeros((4, 4))
    expected[np.ix_([0, 3], [0, 3])] = [[4, 2], [2, 0]]
    np.testing.assert_allclose(objective.hessian(objective.flat.read()), expected)


@pytest.mark.parametrize("method", SECOND_ORDER)
def test_every_hessian_method_takes_an_unused_and_a_linear_parameter(method):
    p, unused, linear = _parameter([2.0]), _parameter([5.0]), _parameter([0.0])
    optimizer = MinimizeWrapper([p, unused, linear], {"method": method, "options": {"maxiter": 5}})
    with pytest.warns(ClosureWarning, match="does not depend on parameter 1 of shape"):
        optimizer.step(lambda: ((p - 1) ** 2).sum() + 0.1 * linear.sum())
    assert unused.item() == 5
    assert optimizer.history[-1].loss < optimizer.history[0].loss


# positive_definite


def test_positive_definite_leaves_such_a_matrix_alone():
    matrix = np.array([[2.0, 1.0], [1.0, 2.0]])
    assert positive_definite(matrix, 1e-16) is matrix


@pytest.mark.parametrize(
    "matrix", [np.diag([1.0, -3.0]), np.zeros((2, 2)), np.ones((3, 3)), -np.eye(4), np.diag([1e-30, -1e-30])]
)
def test_positive_definite_shifts_by_a_multiple_of_the_identity(matrix):
    before = matrix.copy()
    shifted = positive_definite(matrix, np.finfo(np.float64).eps)
    np.linalg.cholesky(shifted)
    shift = shifted - matrix
    np.testing.assert_allclose(shift, shift[0, 0] * np.eye(len(matrix)), rtol=1e-6, atol=1e-30)
    np.testing.assert_array_equal(matrix, before)
    lowest = np.linalg.eigvalsh(before)[0]
    assert shift[0, 0] <= -min(lowest, 0) + 1e-7 * max(1, np.abs(before).max())


# Finite differences


@DTYPES
def test_finite_differences_are_near_the_exact_product(dtype):
    p = _parameter(np.linspace(-0.5, 0.5, 5), dtype)
    objective = _objective(lambda: _rosen(p), [p], curvature="finite-difference")
    x = objective.flat.read()
    for length in (1e-3, 1.0, 1e3):
        v = length * np.random.default_rng(0).standard_normal(5)
        expected = scipy.optimize.rosen_hess_prod(x, v)
        error = np.linalg.norm(objective.hvp(x, v) - expected) / np.linalg.norm(expected)
        assert error < {torch.float64: 1e-6, torch.float32: 1e-2}[dtype]
    assert objective.counts.nhvp == 3
    assert objective.counts.nfev == 1 + 2 * 3


def test_finite_difference_product_of_zero_asks_for_no_gradient():
    np.testing.assert_array_equal(finite_difference_product(None, np.ones(2), np.zeros(2), 1e-16), [0, 0])


def test_finite_difference_hessian_is_symmetric():
    p = _parameter([0.5, -0.5, 0.2])
    objective = _objective(lambda: _rosen(p), [p], curvature="finite-difference")
    hessian = objective.hessian(objective.flat.read())
    np.testing.assert_array_equal(hessian, hessian.T)
    np.testing.assert_allclose(hessian, scipy.optimize.rosen_hess([0.5, -0.5, 0.2]), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("ask", [lambda o, x: o.hvp(x, np.ones(4)), lambda o, x: o.hessian(x)], ids=["hvp", "hessian"])
def test_an_operation_without_a_second_derivative_is_named(ask):
    x, y = _parameter([[1.0, 2.0]]), _parameter([[0.0, 1.0]])
    objective = _objective(lambda: torch.cdist(x, y).sum(), [x, y])
    with pytest.raises(Abort, match=r"cdist.*finite-difference") as caught:
        ask(objective, objective.flat.read())
    assert isinstance(caught.value.error, SecondDerivativeError)


# The memo


def test_the_memo_holds_the_last_two_points():
    p = _parameter([0.0])
    objective = _objective(lambda: (p**2).sum(), [p], level="gradient")
    a, b, c = np.array([1.0]), np.array([2.0]), np.array([3.0])
    for x, calls in ((a, 1), (b, 2), (a, 2), (c, 3), (a, 3), (b, 4)):
        assert objective.value(x) == x[0] ** 2
        np.testing.assert_array_equal(objective.gradient(x), 2 * x)
        assert objective.counts.nfev == calls


@pytest.mark.parametrize("method", SECOND_ORDER)
def test_one_closure_call_a_trial_even_after_rejected_steps(method):
    """From here the trust regions reject several trials; coming back to the held point must cost nothing."""
    seen = []
    p = _parameter([-1.2, 1.0])

    def closure():
        seen.append(p.detach().numpy().tobytes())
        return _rosen(p)

    MinimizeWrapper([p], method, start_check=False).step(closure)
    assert len(seen) == len(set(seen))


# Nothing is kept


def _graph_tensors():
    return [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor) and thing.grad_fn is not None]


@pytest.mark.parametrize("method", SECOND_ORDER)
def test_graphs_are_gone_after_a_run(method):
    p = _parameter([-1.2, 1.0])
    optimizer = MinimizeWrapper([p], {"method": method, "options": {"maxiter": 4}})
    gc.collect()
    before = len(_graph_tensors())
    optimizer.step(lambda: _rosen(p))
    assert len(_graph_tensors()) == before


ENDINGS = {
    "by itself": {},
    "out of budget": {"max_evaluations": 3},
    "stopped": {"callbacks": lambda iteration: iteration.index == 1},
    "failed": {"callbacks": lambda iteration: 1 / (1 - iteration.index)},
}


SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))


@pytest.mark.parametrize(
    ("method", "ending"),
    [*((name, "by itself") for name in METHODS), *((name, end) for name in ("TNC", "trust-exact") for end in ENDINGS)],
)
def test_no_reference_cycle_keeps_the_parameters(method, ending):
    if SCIPY < (1, 17) and method in ("dogleg", "trust-exact", "trust-constr"):
        pytest.skip("SciPy's own objects held each other in cycles")
    p = _parameter([-1.2, 1.0])
    reference = weakref.ref(p)
    optimizer = MinimizeWrapper([p], {"method": method, "options": {"maxiter": 4}}, **ENDINGS[ending])
    gc.collect()
    gc.disable()
    try:
        _step(optimizer, p)
        del optimizer, p
        assert reference() is None
    finally:
        gc.enable()


def _step(optimizer, p):
    with suppress(ZeroDivisionError):
        optimizer.step(lambda: _rosen(p))


def _resident():
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _large_run(method, n, **kwargs):
    scale = torch.linspace(1, 10, n, dtype=torch.float64)
    p = _parameter(np.ones(n))
    optimizer = MinimizeWrapper([p], {"method": method, "options": {"maxiter": 4}}, **kwargs)
    optimizer.step(lambda: (scale * p**2).sum() / 2)
    assert optimizer.history.totals.nhvp > 0
    assert optimizer.history.totals.nhev == 0


@pytest.mark.parametrize("method", [name for name in PRODUCTS if name != "trust-krylov"])
def test_products_never_make_an_n_by_n_array(method):
    """Ten vectors are 1.6 MB here, an N×N array 3.2 GB."""
    n = 20_000
    tracemalloc.start()
    try:
        _large_run(method, n)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * n**2 / 50


@pytest.mark.skipif(not _STATM.exists(), reason="resident memory is read from /proc")
def test_trust_krylov_reserves_much_and_touches_little():
    """SciPy's own (2N+1)×N array: 12.8 GB of address space here, of which only the rows in use become memory."""
    n = 20_000
    resident = [_resident()]
    _large_run("trust-krylov", n, callbacks=lambda iteration: resident.append(_resident()))
    assert max(resident) - resident[0] < 8 * n**2 / 50


@pytest.mark.parametrize("start_check", [True, False])
@pytest.mark.parametrize(
    ("method", "engine"),
    [(name, engine) for name in ("Newton-CG", "trust-ncg", "trust-exact") for engine in METHODS[name].engines],
)
def test_a_graph_that_a_later_call_changed_in_place_is_made_anew(method, engine, start_check):
    def end(writes):
        x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
        weights = torch.tensor([1.0, 100.0], dtype=torch.float64)

        def closure():
            if writes:
                weights.mul_(1.0)  # as a module that updates a buffer in its forward pass
            return (weights * torch.stack([1 - x[0], x[1] - x[0] ** 2]) ** 2).sum()

        optimizer = MinimizeWrapper([x], method, engine=engine, start_check=start_check)
        optimizer.step(closure)
        assert optimizer.result.success
        return x.tolist(), optimizer.result.nit

    assert end(writes=True) == end(writes=False)


def test_products_need_nothing_private_of_torch(monkeypatch):
    x = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64, requires_grad=True)
    unused = torch.zeros(2, requires_grad=True)
    (slope,) = torch.autograd.grad((x.sin() * x.prod()).sum(), x, create_graph=True)
    v = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    own = backward_pass([slope], [x, unused], [v], create_graph=True)
    monkeypatch.setattr(backward_pass_module, "_run", None)
    other = backward_pass([slope], [x, unused], [v], create_graph=True)
    assert own[1] is other[1] is None
    torch.testing.assert_close(own[0], other[0], rtol=0, atol=0)
    assert own[0].requires_grad
    assert other[0].requires_grad
