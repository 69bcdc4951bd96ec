"""The 27 regressions against what NIST certifies of them."""

import numpy as np
import pytest
import torch

from tests.published.nist_strd import STRD
from torchmin_nb.nist import NIST

pytestmark = pytest.mark.slow

SETS = pytest.mark.parametrize("row", STRD.values(), ids=STRD)


def test_the_collection_is_whole():
    assert len(STRD) == 27
    assert sum(len(row.y) for row in STRD.values()) == 2176


@SETS
def test_the_sum_of_squares_at_the_certified_parameters(row):
    """The generated data of Lanczos1 are met to 1e-13, where eleven digits of the parameters do not lead."""
    squares = row.residuals(row.certified).square().sum().item()
    assert squares == pytest.approx(row.squares, rel=1e-7, abs=1e-19)


@SETS
def test_the_certified_deviations_are_those_of_the_model(row):
    """√diag(s² (JᵀJ)⁻¹), by the QR factorisation of J with columns of norm 1."""
    J = torch.func.jacrev(row.residuals)(row.certified).numpy()
    norms = np.linalg.norm(J, axis=0)
    inverse = np.linalg.inv(np.linalg.qr(J / norms)[1])
    variance = row.squares / (len(J) - len(norms))
    deviations = np.sqrt(variance * np.sum(inverse**2, axis=1)) / norms
    np.testing.assert_allclose(deviations, row.deviations, rtol=1e-5)


@SETS
def test_neither_start_is_near(row):
    for start in row.starts:
        assert row.digits(start) < 3
        assert torch.isfinite(row.residuals(start)).all()


@pytest.mark.parametrize("name", NIST)
def test_the_sets_that_are_shipped_are_the_same(name):
    shipped, row = NIST[name], STRD[name]
    assert torch.equal(shipped.x, row.x)
    assert torch.equal(shipped.y, row.y)
    assert [list(start) for start in shipped.starts] == [start.tolist() for start in row.starts]
    assert list(shipped.certified) == row.certified.tolist()
    assert list(shipped.deviations) == row.deviations.tolist()
    assert shipped.residual_sum == row.squares
    torch.testing.assert_close(shipped.residuals(row.starts[1]), row.residuals(row.starts[1]))
