"""Lanczos with full reorthogonalisation. Oracle: NumPy's eigenvalues of the dense matrix."""

import numpy as np
import pytest
import torch

from torchmin_nb.core.curvature.lanczos import lanczos
from torchmin_nb.errors import ClosureError


def symmetric(values, seed=1):
    """A symmetric matrix with these eigenvalues, and random eigenvectors."""
    values = torch.as_tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))
    return (turn * values) @ turn.T


SPREAD = np.concatenate([[-3.0, -1.0], np.linspace(0, 1, 196), [7.0, 20.0]])


@pytest.mark.parametrize(("lowest", "highest"), [(0, 1), (1, 0), (2, 2), (0, 3)])
def test_the_ends_are_those_of_numpy(lowest, highest):
    matrix = symmetric(SPREAD)
    pairs = lanczos(matrix.mv, 200, lowest=lowest, highest=highest, tolerance=1e-9)
    expected = np.linalg.eigvalsh(matrix.numpy())
    assert pairs.converged
    assert len(pairs.values) < 200
    np.testing.assert_allclose(pairs.values[:lowest], expected[:lowest], atol=1e-9)
    np.testing.assert_allclose(pairs.values[::-1][:highest], expected[::-1][:highest], atol=1e-9)


def test_vectors_and_residuals():
    matrix = symmetric(SPREAD)
    pairs = lanczos(matrix.mv, 200, steps=25, tolerance=0)
    rows = pairs.vectors(np.arange(25))
    torch.testing.assert_close(rows @ rows.T, torch.eye(25, dtype=torch.float64), atol=1e-12, rtol=0)
    measured = torch.linalg.vector_norm(rows @ matrix - torch.from_numpy(pairs.values)[:, None] * rows, dim=1)
    np.testing.assert_allclose(pairs.residuals, measured.numpy(), atol=1e-11)
    assert (pairs.residuals > 0).all()
    distances = np.abs(pairs.values[:, None] - SPREAD).min(axis=1)
    assert (distances <= pairs.residuals + 1e-11).all()


def test_all_steps_give_all_eigenvalues():
    matrix = symmetric(SPREAD)
    pairs = lanczos(matrix.mv, 200, tolerance=0)
    assert pairs.complete
    np.testing.assert_allclose(pairs.values, SPREAD, atol=1e-11)


@pytest.mark.parametrize(
    "values",
    [[5.0] * 3 + [1.0] * 60, [0.0] * 60 + [2.0, 3.0, 3.0], [1.0] * 40, [0.0] * 40, [-1.0] * 20 + [1.0] * 20, [4.0]],
)
def test_multiplicities_are_counted(values):
    """The Krylov space of one vector has each value once; further spaces find the rest, and end early."""
    k = min(3, len(values))
    pairs = lanczos(symmetric(values).mv, len(values), lowest=k, highest=k, tolerance=1e-9)
    assert pairs.converged
    assert len(values) < 50 or not pairs.complete
    np.testing.assert_allclose(pairs.values[:k], sorted(values)[:k], atol=1e-12)
    np.testing.assert_allclose(pairs.values[-k:], sorted(values)[-k:], atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_basis_is_orthonormal_in_its_dtype(dtype):
    matrix = symmetric(np.geomspace(1e-8, 1e8, 120)).to(dtype)
    pairs = lanczos(matrix.mv, 120, tolerance=0, dtype=dtype)
    error = pairs.basis @ pairs.basis.T - torch.eye(120, dtype=dtype)
    assert pairs.basis.dtype is dtype
    assert float(error.abs().max()) < 50 * torch.finfo(dtype).eps


def test_steps_limit_the_products():
    calls = []
    matrix = symmetric(SPREAD)
    pairs = lanczos(lambda v: calls.append(1) or matrix.mv(v), 200, lowest=5, highest=5, steps=7)
    assert len(calls) == len(pairs.values) == 7
    assert not pairs.converged


def test_the_global_random_numbers_are_left_alone_and_the_seed_repeats():
    matrix, before = symmetric(SPREAD), torch.get_rng_state()
    first, second, other = (lanczos(matrix.mv, 200, steps=5, seed=seed).basis for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_products_that_are_not_finite(bad):
    with pytest.raises(ClosureError, match="not finite"):
        lanczos(lambda v: v * bad, 4)
