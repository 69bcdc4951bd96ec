"""`spectrum`. Oracle: eigenvalues of the dense Hessian, which torch.autograd.functional computes."""

import pickle

import numpy as np
import pytest
import torch
from torch.func import functional_call

from torchmin_nb import MinimizeWrapper, full_batch, spectrum
from torchmin_nb.errors import (
    ArgumentError,
    ArgumentTypeError,
    ClosureError,
    ClosureWarning,
    ConvergenceWarning,
    InconsistentClosureError,
    ParameterError,
    SecondDerivativeError,
)

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(60, 6, generator=GENERATOR, dtype=torch.float64)
TARGETS = torch.randint(0, 3, (60,), generator=GENERATOR)


def network(hidden=12, dtype=torch.float64):
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(6, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 3)).to(dtype)


def loss_of(model, inputs=INPUTS, targets=TARGETS):
    return torch.nn.functional.cross_entropy(model(inputs.to(next(model.parameters()))), targets)


def dense(model):
    """Eigenvalues and the matrix, without this package."""
    named = dict(model.named_parameters())
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in named.values()])

    def loss(vector):
        pieces = vector.split([tensor.numel() for tensor in named.values()])
        parts = {name: piece.reshape(named[name].shape) for name, piece in zip(named, pieces, strict=True)}
        return torch.nn.functional.cross_entropy(functional_call(model, parts, (INPUTS.to(flat),)), TARGETS)

    matrix = torch.autograd.functional.hessian(loss, flat).double()
    return np.linalg.eigvalsh(matrix.numpy()), matrix


@pytest.mark.parametrize("hidden", [5, 48])
def test_the_ends_of_a_network(hidden):
    model = network(hidden)
    expected, matrix = dense(model)
    assert len(expected) <= 500
    found = spectrum(lambda: loss_of(model), model, k=4, density=False, tolerance=1e-8)
    np.testing.assert_allclose(found.values, [*expected[:4], *expected[-4:]], atol=1e-8)
    np.testing.assert_allclose(found.negative, expected[:4])
    assert found.condition_number == np.inf
    measured = found.vectors @ matrix - torch.from_numpy(found.values)[:, None] * found.vectors
    assert (torch.linalg.vector_norm(measured, dim=1).numpy() <= found.residuals + 1e-12).all()
    assert found.n == len(expected)
    assert found.density is None


def test_the_density_of_a_network():
    model = network(3)
    expected, _ = dense(model)
    found = spectrum(lambda: loss_of(model), model, density=len(expected)).density
    bells = np.exp(-0.5 * ((found.grid[:, None] - expected) / found.width) ** 2).mean(1)
    np.testing.assert_allclose(found.values, bells / (found.width * np.sqrt(2 * np.pi)), atol=1e-8)
    drawn = spectrum(lambda: loss_of(model), model, density=12).density
    for power in (1, 2):
        mean, error = drawn.moment(power)
        assert abs(mean - (expected**power).mean()) < 4 * error


def test_float32():
    model = network(dtype=torch.float32)
    expected, _ = dense(model)
    found = spectrum(lambda: loss_of(model), model, density=2)
    assert found.vectors.dtype is torch.float32
    np.testing.assert_allclose(found.values, [*expected[:3], *expected[-3:]], atol=1e-4)


@pytest.mark.parametrize("shuffle", [False, True])
def test_full_batches(shuffle):
    model = network()
    data = torch.utils.data.TensorDataset(INPUTS, TARGETS)
    loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=shuffle)
    closure = full_batch(lambda batch: loss_of(model, *batch), loader)
    found = spectrum(closure, model, density=False, tolerance=1e-6)
    expected = spectrum(lambda: loss_of(model), model, density=False, tolerance=1e-6)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-8)


def test_vectors_have_the_names_and_shapes_of_the_parameters():
    model = network()
    found = spectrum(lambda: loss_of(model), model.named_parameters(), density=False)
    top = found.vector(-1)
    assert {name: part.shape for name, part in top.items()} == {n: p.shape for n, p in model.named_parameters()}
    assert sum(found.shares(-1).values()) == pytest.approx(1)
    assert "2.weight" in repr(found)
    assert "2.weight" in found._repr_html_()


def test_the_forms_of_the_parameters():
    model = network()
    closure = lambda: loss_of(model)  # noqa: E731
    optimizer = MinimizeWrapper(model.parameters(), "trust-ncg")
    adam = torch.optim.Adam(model.parameters())
    forms = [
        model,
        dict(model.named_parameters()),
        model.parameters(),
        model.named_parameters(),
        optimizer.param_groups,
        adam.param_groups,
    ]
    values = [spectrum(closure, form, density=False).values for form in forms]
    for other in values[1:]:
        np.testing.assert_array_equal(other, values[0])
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    np.testing.assert_allclose(spectrum(lambda: (x**3).sum(), x).values, [6, 12])


def test_fixed_entries_are_left_out():
    x = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    weights = torch.tensor([-1.0, 5.0, 3.0, 2.0], dtype=torch.float64)
    low = torch.tensor([-9.0, 0.0, -9.0, -9.0])
    group = {"params": [x], "bounds": (low, -low)}
    found = spectrum(lambda: 0.5 * (weights * x**2).sum() + x[0] * x[1], [group], k=9)
    np.testing.assert_allclose(found.values, [-1, 2, 3], atol=1e-12)
    assert found.n == 3
    assert not found.vectors[:, 1].any()
    assert found.density.moment(1).value == pytest.approx(4 / 3)
    with pytest.raises(ClosureError, match="fixed"):
        spectrum(lambda: (x**2).sum(), [{"params": [x], "bounds": (0.0, 0.0)}])


def test_a_condition_number():
    x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    weights = torch.tensor([1.0, 50.0, 3.0], dtype=torch.float64)
    found = spectrum(lambda: 0.5 * (weights * x**2).sum(), [x])
    assert found.condition_number == pytest.approx(50)
    assert not len(found.negative)
    assert "condition number 50" in repr(found)


@pytest.mark.parametrize("loss", [lambda x: x.sum(), lambda x: 0 * (x**2).sum()])
def test_no_curvature(loss):
    x = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    found = spectrum(lambda: loss(x), [x])
    np.testing.assert_array_equal(found.values, np.zeros(5))
    assert found.converged
    assert found.condition_number == np.inf


def test_one_parameter():
    x = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    found = spectrum(lambda: x**4, [("x", x)])
    np.testing.assert_allclose(found.values, [48])
    assert found.density.exact
    assert found.vector(0)["x"].shape == ()


def test_a_tensor_that_the_loss_does_not_depend_on():
    x, other = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    with pytest.warns(ClosureWarning, match="does not depend on parameter"):
        found = spectrum(lambda: (x**2).sum(), [x, other])
    np.testing.assert_allclose(found.values, [0, 0, 2, 2], atol=1e-14)


def test_closures_that_cannot_be_used():
    x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    with pytest.raises(ClosureError, match="nan"):
        spectrum(lambda: (x**2).sum() * float("nan"), [x])
    with pytest.raises(ClosureError, match="not finite"):
        spectrum(lambda: (x.abs() ** 1.5).sum(), [x])
    with pytest.raises(ClosureError, match="does not depend"):
        spectrum(lambda: torch.zeros((), requires_grad=True) * 1, [x])
    with pytest.raises(ArgumentTypeError, match="callable"):
        spectrum((x**2).sum(), [x])
    with pytest.raises(ArgumentTypeError, match="params must be tensors"):
        spectrum(lambda: (x**2).sum(), [0.0])
    with pytest.raises(ArgumentTypeError, match="params must be tensors"):
        spectrum(lambda: (x**2).sum(), 3)
    with pytest.raises(ParameterError, match="no parameter"):
        spectrum(lambda: (x**2).sum(), [])


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, gradient):
        return gradient * 2


def test_an_operation_without_a_second_derivative():
    x = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    with pytest.raises((SecondDerivativeError, InconsistentClosureError)):
        spectrum(lambda: (_Once.apply(x) ** 3).sum(), [x])


def test_a_closure_that_draws_random_numbers_is_reported():
    model = torch.nn.Sequential(network(), torch.nn.Dropout(0.5))
    with pytest.warns(ClosureWarning, match="not deterministic"):
        spectrum(lambda: loss_of(model), model, density=False)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"k": 0}, "k must be"),
        ({"k": 1.5}, "k must be"),
        ({"steps": -1}, "steps must be"),
        ({"density": -2}, "density"),
        ({"tolerance": 0.0}, "tolerance"),
    ],
)
def test_arguments(options, match):
    x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    with pytest.raises(ArgumentError, match=match):
        spectrum(lambda: (x**2).sum(), [x], **options)


def test_too_few_steps_are_warned_of():
    model = network()
    with pytest.warns(ConvergenceWarning, match="after 8 steps"):
        found = spectrum(lambda: loss_of(model), model, steps=8, density=False)
    assert not found.converged
    assert "not converged" in repr(found)


def test_nothing_is_changed():
    model = network()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss_of(model).backward()
    gradients, state = [parameter.grad for parameter in model.parameters()], torch.get_rng_state()
    spectrum(lambda: loss_of(model), model)
    assert all(map(torch.equal, before, model.parameters()))
    assert all(one.grad is kept for one, kept in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_and_pickles():
    model = network()
    one, same, other = (spectrum(lambda: loss_of(model), model, density=2, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.density.nodes, same.density.nodes)
    assert one.density.moment() != other.density.moment()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).values, one.values)
