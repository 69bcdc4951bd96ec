"""Stochastic Lanczos quadrature. Oracle: the eigenvalues themselves."""

import numpy as np
import pytest
import torch

from tests.core.curvature.test_lanczos import SPREAD, symmetric
from torchmin_nb.core.curvature.density import density_of

MATRIX = symmetric(SPREAD)


def density(probes, steps=200, matrix=MATRIX, seed=0):
    n = len(matrix)
    return density_of(
        matrix.mv, n, probes=probes, steps=steps, seed=seed, dtype=matrix.dtype, device=torch.device("cpu")
    )


def histogram(eigenvalues, grid, width):
    """Each eigenvalue as a bell."""
    bells = np.exp(-0.5 * ((grid[:, None] - eigenvalues) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    return bells.mean(axis=1)


def test_all_unit_vectors_are_exact():
    few = SPREAD[::4]
    found = density(50, matrix=symmetric(few))
    assert found.exact
    np.testing.assert_allclose(found.values, histogram(few, found.grid, found.width), atol=1e-9)
    for power in range(5):
        mean, error = found.moment(power)
        assert mean == pytest.approx((few**power).mean(), rel=1e-10)
        assert error == 0
    assert found.share(-np.inf, -0.5).value == pytest.approx(1 / 50)


def test_random_vectors_are_right_within_their_error():
    found = density(30, steps=60)
    assert not found.exact
    for power in (1, 2, 3):
        mean, error = found.moment(power)
        assert error > 0
        assert abs(mean - (SPREAD**power).mean()) < 4 * error
    expected = histogram(SPREAD, found.grid, 1.0)
    assert np.abs(found.at(found.grid, width=1.0) - expected).max() < 0.15 * expected.max()


def test_the_errors_fall_with_the_number_of_vectors():
    few, many = density(8, steps=30).moment(1).error, density(128, steps=30).moment(1).error
    assert many < few / 2


def test_the_integral_is_one_and_the_weights_too():
    found = density(5, steps=20)
    assert np.trapezoid(found.values, found.grid) == pytest.approx(1, abs=2e-3)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-12)


def test_one_vector_has_no_error():
    assert np.isnan(density(1, steps=20).moment().error)


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-12, 1e12])
def test_one_eigenvalue(value):
    found = density(3, matrix=value * torch.eye(50, dtype=torch.float64))
    assert np.isfinite(found.values).all()
    assert found.width > 0
    assert found.moment().value == pytest.approx(value)
    assert np.trapezoid(found.values, found.grid) == pytest.approx(1, abs=2e-3)


def test_no_product_after_the_krylov_space_has_ended():
    calls = []
    matrix = symmetric([0.0] * 97 + [1.0, 2.0, 3.0])
    found = density_of(
        lambda v: calls.append(1) or matrix.mv(v),
        100,
        probes=2,
        steps=80,
        seed=0,
        dtype=torch.float64,
        device=torch.device("cpu"),
    )
    assert len(calls) <= 2 * 6
    assert found.share(-0.5, 0.5).value == pytest.approx(0.97, abs=0.04)
