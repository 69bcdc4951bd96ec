"""Sums in float64, whatever the vectors are."""

import math

import pytest
import torch

from torchmin_nb.core.runtime.control import Status, StopRun
from torchmin_nb.core.solvers.contract import Sample
from torchmin_nb.core.solvers.vectors import dot, finite_curvature, norm1, numbers, stands


@pytest.mark.parametrize("n", [1, 1000, 2**15, 2**15 + 1, 10**6 + 7])
def test_products_of_float32_lose_little(n):
    generator = torch.Generator().manual_seed(n)
    a, b = (torch.randn(n, generator=generator) for _ in range(2))
    for left, right in ((a, b), (a, a)):
        exact = (left.double() * right.double()).sum()
        found = dot(left, right)
        assert found.dtype == torch.float64
        assert abs(found - exact) <= 1e-6 * (left.double() * right.double()).abs().sum()
    assert norm1(a).dtype == torch.float64
    assert norm1(a).item() == pytest.approx(a.double().abs().sum().item(), rel=1e-12)


def test_a_long_float32_sum_is_better_than_torchs():
    a = torch.full((2**22,), 0.1)
    exact = (a.double() ** 2).sum()
    assert abs(dot(a, a) - exact) < 0.1 * abs(torch.dot(a, a) - exact)


def test_numbers():
    assert numbers(torch.tensor(1.0), torch.tensor(2.5)) == [1.0, 2.5]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_curvature_that_is_not_finite(value):
    finite_curvature(1.0, -3.0)
    with pytest.raises(StopRun) as stopped:
        finite_curvature(1.0, value)
    assert stopped.value.ending.status is Status.NONFINITE_CURVATURE


def test_a_point_stands_where_the_step_is_lost_in_rounding():
    x = torch.ones(2, dtype=torch.float64)
    sample = Sample(x, 2.0, x, 0.0, 1.0, 1.0)
    assert stands(sample, x + 1e-17, 1e-17)
    assert not stands(sample, x + 1e-15, 1e-17)
    assert not stands(sample, x.clone(), 1e-3)  # not looked at
