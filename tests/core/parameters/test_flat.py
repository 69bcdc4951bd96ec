"""Parameters to one vector and back, without a bit lost."""

import numpy as np
import pytest
import torch

from torchmin_nb.core.parameters.flat import FlatParameters, trainable
from torchmin_nb.errors import ParameterError


def _leaf(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype).requires_grad_()


def _strided():
    return torch.randn(6, 8, dtype=torch.float64)[::2, 1::3].requires_grad_()


def _transposed():
    return torch.randn(3, 5).t().requires_grad_()


SETS = {
    "one vector": lambda: [_leaf(5)],
    "scalar": lambda: [_leaf()],
    "empty between": lambda: [_leaf(2), _leaf(0), _leaf(3, 0), _leaf(2, 2)],
    "mixed precision": lambda: [_leaf(3), _leaf(2, 2, dtype=torch.float32), _leaf()],
    "float32": lambda: [_leaf(4, 3, dtype=torch.float32)],
    "strided": lambda: [_strided(), _leaf(2)],
    "transposed": lambda: [_transposed()],
    "channels last": lambda: [_leaf(2, 3, 4, 5).detach().to(memory_format=torch.channels_last).requires_grad_()],
}
EACH_SET = pytest.mark.parametrize("make", SETS.values(), ids=SETS)


@EACH_SET
def test_read_is_the_values_in_order(make):
    tensors = make()
    x = FlatParameters(tensors).read()
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, np.concatenate([t.detach().double().numpy().ravel() for t in tensors]))


@EACH_SET
def test_read_is_fresh(make):
    flat = FlatParameters(make())
    x = flat.read()
    flat.read()[:] = 7
    np.testing.assert_array_equal(flat.read(), x)


@EACH_SET
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_is_written_where_the_parameters_are_now(make, dtype):
    """Also after the user has given them other memory, or another order of the same memory."""
    tensors = make()
    flat = FlatParameters(tensors)

    def moved():
        yield None
        for tensor in tensors:
            tensor.data = tensor.data.clone()
        yield None
        for tensor in tensors:
            tensor.data = tensor.data.as_strided(tensor.shape, tensor.data.contiguous().stride())
        yield None
        for tensor in tensors:
            if tensor.dim() == 2 and tensor.size(0) == tensor.size(1):
                tensor.data = tensor.data.t()
        yield None

    for _ in moved():
        x = torch.randn(flat.n, dtype=dtype)
        flat.write(x)
        for tensor, piece in zip(tensors, flat.scatter(x), strict=True):
            assert torch.equal(tensor, piece)


@EACH_SET
@pytest.mark.parametrize("write", ["write", "write_final"])
def test_write_then_read_rounds_once_to_the_dtype(make, write):
    tensors = make()
    flat = FlatParameters(tensors)
    x = np.random.default_rng(0).standard_normal(flat.n)
    getattr(flat, write)(x)
    rounded = np.concatenate([piece.double().numpy().ravel() for piece in flat.scatter(x)])
    np.testing.assert_array_equal(flat.read(), rounded)
    np.testing.assert_allclose(flat.read(), x, rtol=flat.eps)


@EACH_SET
@pytest.mark.parametrize("write", ["write", "write_final"])
def test_writing_keeps_storage_and_does_not_keep_x(make, write):
    tensors = make()
    flat = FlatParameters(tensors)
    before = [(t.data_ptr(), t.stride()) for t in tensors]
    x = np.ones(flat.n)
    getattr(flat, write)(x)
    x[:] = 5
    assert [(t.data_ptr(), t.stride()) for t in tensors] == before
    np.testing.assert_array_equal(flat.read(), np.ones(flat.n))


@EACH_SET
def test_scatter_and_gather_are_inverse(make):
    tensors = make()
    flat = FlatParameters(tensors)
    v = np.random.default_rng(1).standard_normal(flat.n).astype(np.float32).astype(np.float64)
    pieces = flat.scatter(v)
    assert [(p.shape, p.dtype) for p in pieces] == [(t.shape, t.dtype) for t in tensors]
    np.testing.assert_array_equal(flat.gather(pieces), v)
    v[:] = 0
    assert flat.gather(pieces).any()


@EACH_SET
def test_rows_are_scattered_one_by_one(make):
    flat = FlatParameters(make())
    rows = torch.from_numpy(np.random.default_rng(2).standard_normal((3, flat.n))).float().double()
    stacked = flat.split_rows(rows)
    for index, row in enumerate(rows):
        for piece, single in zip(stacked, flat.split(row), strict=True):
            assert torch.equal(piece[index], single)
    joined = torch.zeros(3, flat.n, dtype=torch.float64)
    flat.join_rows(stacked, joined)
    assert torch.equal(joined, rows)


def test_missing_gradients_are_zeros():
    flat = FlatParameters([_leaf(2), _leaf(3)])
    np.testing.assert_array_equal(flat.gather([None, torch.ones(3)]), [0, 0, 1, 1, 1])
    rows = torch.zeros(2, 5, dtype=torch.float64)
    flat.join_rows([torch.ones(2, 2), None], rows)
    assert rows.tolist() == [[1, 1, 0, 0, 0]] * 2


def test_sparse_gradients_are_densified_and_summed():
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    flat = FlatParameters(list(embedding.parameters()))
    embedding(torch.tensor([1, 1, 3])).sum().backward()
    assert embedding.weight.grad.is_sparse
    np.testing.assert_array_equal(flat.gather(flat.gradients()), [0, 0, 2, 2, 0, 0, 1, 1])


def test_tied_weights_are_one_parameter():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    tensors = trainable([{"params": list(net.parameters())}])
    assert len(tensors) == 1
    FlatParameters(tensors).write(np.arange(9.0))
    assert torch.equal(net[1].weight.detach().ravel(), torch.arange(9.0))


def test_a_tensor_given_twice_is_refused():
    p = _leaf(2)
    with pytest.raises(ParameterError, match="passed twice"):
        trainable([{"params": [p]}, {"params": [_leaf(1), p]}])


def test_views_see_what_is_written():
    base = torch.zeros(4, dtype=torch.float64)
    view = base[1:3].requires_grad_()
    FlatParameters([view]).write(np.array([5.0, 6.0]))
    assert base.tolist() == [0, 5, 6, 0]


def test_write_keeps_old_graphs_usable_and_write_final_does_not():
    p = _leaf(3)
    flat = FlatParameters([p])
    loss = (p**3).sum()
    flat.write(np.zeros(3))
    torch.autograd.grad(loss, p, retain_graph=True)
    flat.write_final(np.zeros(3))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, p)


def test_eps_is_the_coarsest():
    assert FlatParameters([_leaf(1), _leaf(1, dtype=torch.float32)]).eps == torch.finfo(torch.float32).eps
    assert FlatParameters([_leaf(1)]).eps == torch.finfo(torch.float64).eps


@pytest.mark.parametrize(
    "use",
    [lambda f: f.write(np.zeros(3)), lambda f: f.read(), lambda f: f.scatter(np.zeros(3)), lambda f: f.gather([None])],
    ids=["write", "read", "scatter", "gather"],
)
def test_a_resized_parameter_is_named(use):
    p = _leaf(3)
    flat = FlatParameters([p])
    p.data = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(ParameterError, match=r"parameter 0 had shape \(3,\) .* has \(2, 2\) now"):
        use(flat)


def test_clear_gradients():
    p = _leaf(2)
    p.grad = torch.ones(2, dtype=torch.float64)
    flat = FlatParameters([p])
    flat.clear_gradients()
    assert p.grad is None


def test_trainable_skips_the_frozen():
    free, frozen = _leaf(2), torch.zeros(3)
    assert trainable([{"params": [frozen]}, {"params": [free]}]) == [free]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64, torch.complex128])
def test_trainable_refuses_other_dtypes(dtype):
    remedy = "view_as_real" if dtype.is_complex else "float32 and torch.float64"
    with pytest.raises(ParameterError, match=rf"parameter 1 is {dtype} of shape \(2,\).*{remedy}"):
        trainable([{"params": [_leaf(1), torch.zeros(2, dtype=dtype, requires_grad=True)]}])


def test_frozen_parameters_may_have_any_dtype():
    free = _leaf(1)
    frozen = [torch.zeros(2, dtype=torch.float16), torch.zeros(2, dtype=torch.int64)]
    assert trainable([{"params": [*frozen, free]}]) == [free]


@pytest.mark.parametrize("params", [[], [torch.zeros(2)], [torch.zeros(0, requires_grad=True)]])
def test_trainable_refuses_nothing_to_do(params):
    with pytest.raises(ParameterError, match="no parameter to optimise"):
        trainable([{"params": params}])
