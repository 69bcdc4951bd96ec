"""What derivatives cost: values against torch's own, bytes of tensors whose sizes are known."""

import numpy as np
import pytest
import torch

from torchmin_nb.analysis import curvature_cost
from torchmin_nb.errors import SecondDerivativeError


def _wood(x):
    return ((x[1:] - x[:-1] ** 2) ** 2).sum() + x.exp().sum()


def test_values_are_those_of_torch():
    x = torch.nn.Parameter(torch.linspace(-1, 1, 6, dtype=torch.float64))
    v = np.arange(6.0)
    cost = curvature_cost(lambda: _wood(x), [x], v)
    hessian = torch.autograd.functional.hessian(_wood, x.detach()).numpy()
    assert np.allclose(cost.hessian.value, hessian, atol=1e-13)
    assert np.allclose(cost.product.value, hessian @ v, atol=1e-12)
    assert np.allclose(cost.gradient.value, torch.func.grad(_wood)(x.detach()), atol=1e-13)
    assert cost.n == 6
    assert x.grad is None


def test_bytes_are_those_of_the_tensors():
    """f = Σ x³: the product 6 x ⊙ v needs a few vectors, the Hessian one matrix at least, and the inputs count not."""
    n = 1000
    x = torch.nn.Parameter(torch.ones(n, dtype=torch.float64))
    ballast = torch.ones(10 * n, dtype=torch.float64)
    whole, small = (curvature_cost(lambda: (x**3).sum() + ballast.view(-1)[0], [x], chunk=chunk) for chunk in (n, 10))
    assert 8 * n <= whole.product.bytes <= 8 * 8 * n
    assert 8 * n**2 <= small.hessian.bytes < 3 * 8 * n**2 < whole.hessian.bytes
    assert (whole.chunk, small.chunk) == (n, 10)


def test_without_the_matrix():
    x = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    cost = curvature_cost(lambda: (x**3).sum(), [x], dense=False)
    assert cost.hessian is None
    assert "hessian" not in cost.table()
    assert np.allclose(cost.product.value, 6 / 3**0.5)
    assert [row.split()[0] for row in cost.table().splitlines()] == ["N", "gradient", "product"]


def test_a_closure_that_calls_backward():
    x = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))

    def closure():
        loss = (x**4).sum()
        loss.backward()
        return loss

    assert curvature_cost(closure, [x]).hessian.value.item() == 48


def test_no_second_derivative():
    x = torch.nn.Parameter(torch.ones(4, 1, dtype=torch.float64))
    with pytest.raises(SecondDerivativeError):
        curvature_cost(lambda: torch.cdist(x, 2 * x).sum(), [x])
