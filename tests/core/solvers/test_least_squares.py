"""The factorisation of a Jacobian in chunks of rows."""

import numpy as np
import pytest
import torch

from torchmin_nb.core.solvers.least_squares import triangle


def _draw(m, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(m, n, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(("m", "n"), [(50, 6), (6, 6), (4, 6), (1, 3), (3, 1)])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_the_triangle_in_chunks_is_that_of_the_whole(m, n, chunk):
    J, r = _draw(m, n), _draw(m, 1, seed=1)[:, 0]
    R, qtr = triangle(J.split(chunk), r)
    assert R.shape == (min(m, n), n)
    assert qtr.shape == (min(m, n),)
    torch.testing.assert_close(R.T @ R, J.T @ J, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(R.T @ qtr, J.T @ r, rtol=1e-12, atol=1e-12)


def test_singular_values_survive_that_the_normal_matrix_loses():
    """1e-11 of the largest, whose square is 1e-22."""
    left, right = (np.linalg.qr(_draw(*shape).numpy())[0] for shape in [(60, 5), (5, 5)])
    singular = np.array([1.0, 1e-2, 1e-5, 1e-8, 1e-11])
    J = torch.tensor(left * singular @ right.T)
    R, _ = triangle(J.split(7), torch.zeros(60, dtype=torch.float64))
    np.testing.assert_allclose(torch.linalg.svdvals(R).numpy(), singular, rtol=1e-4)
    normal = np.sqrt(np.abs(np.linalg.eigvalsh((J.T @ J).numpy())))
    assert abs(normal.min() - 1e-11) > 1e-11
