"""What least-squares solvers on the device share: the factorisation in chunks of rows, and few transfers."""

import numpy as np
import pytest
import torch

from tests.core.solvers.residual_functions import FunctionResiduals
from tests.core.solvers.transfers import counted_transfers
from torchmin_nb.core.solvers.gauss_newton import GaussNewton
from torchmin_nb.core.solvers.least_squares import triangle
from torchmin_nb.core.solvers.levenberg_marquardt import LevenbergMarquardt


def _draw(m, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(m, n, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(("m", "n"), [(50, 6), (6, 6), (4, 6), (1, 3), (3, 1)])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_the_triangle_in_chunks_is_that_of_the_whole(m, n, chunk):
    J, r = _draw(m, n), _draw(m, 1, seed=1)[:, 0]
    R, qtr = triangle(zip(J.split(chunk), r.split(chunk), strict=True))
    assert R.shape == (min(m, n), n)
    assert qtr.shape == (min(m, n),)
    torch.testing.assert_close(R.T @ R, J.T @ J, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(R.T @ qtr, J.T @ r, rtol=1e-12, atol=1e-12)


def test_singular_values_survive_that_the_normal_matrix_loses():
    """1e-11 of the largest, whose square is 1e-22."""
    left, right = (np.linalg.qr(_draw(*shape).numpy())[0] for shape in [(60, 5), (5, 5)])
    singular = np.array([1.0, 1e-2, 1e-5, 1e-8, 1e-11])
    J = torch.tensor(left * singular @ right.T)
    R, _ = triangle((rows, rows.new_zeros(len(rows))) for rows in J.split(7))
    np.testing.assert_allclose(torch.linalg.svdvals(R).numpy(), singular, rtol=1e-4)
    normal = np.sqrt(np.abs(np.linalg.eigvalsh((J.T @ J).numpy())))
    assert abs(normal.min() - 1e-11) > 1e-11


def _chain(x):
    """Shape (58,) for x (30,), with damped steps on the way from -1.2."""
    return torch.cat([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])


@pytest.mark.parametrize(
    ("solver", "per_evaluation", "per_iteration"),
    [(LevenbergMarquardt(), 2, 2), (GaussNewton(solver="exact"), 1, 2)],
    ids=["lm", "gauss-newton"],
)
def test_few_numbers_leave_the_device_and_no_vector(solver, per_evaluation, per_iteration):
    """One transfer an evaluation is the problem's. lm measures each trial step, mostly once, before it is made."""
    problem = FunctionResiduals(_chain, torch.full((30,), -1.2))
    with counted_transfers() as transfers:
        state = solver.init(problem)
        for _ in range(15):
            state = solver.step(problem, state)
    assert state.iteration == 15
    assert max(transfers) < 12
    assert len(transfers) <= per_evaluation * state.nfev + per_iteration * (state.iteration + 1)


def test_products_bring_one_number_each():
    problem = FunctionResiduals(_chain, torch.full((30,), -1.2))
    solver = GaussNewton(solver="cg")
    with counted_transfers() as transfers:
        state = solver.init(problem)
        for _ in range(8):
            state = solver.step(problem, state)
    assert max(transfers) < 12
    assert len(transfers) <= state.nfev + problem.counts["products"] + 2 * (state.iteration + 1)
