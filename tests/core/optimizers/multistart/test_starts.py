"""Where the runs start."""

import numpy as np
import pytest
import torch
from scipy.optimize import Bounds
from scipy.stats import qmc

from torchmin_nb.core.optimizers.multistart.starts import read_starts
from torchmin_nb.core.parameters.flat import FlatParameters
from torchmin_nb.errors import ArgumentError, ArgumentTypeError

FLAT = FlatParameters([torch.full((2, 2), 7.0), torch.full((1,), 8.0)])
BOX = Bounds(np.array([-1.0, 0, 0, 0, 10]), np.array([1.0, 1, 1, 2, 20]))
ROWS = np.arange(15.0).reshape(3, 5)

FORMS = {
    "array": ROWS,
    "tensor": torch.from_numpy(ROWS),
    "lists of numbers": ROWS.tolist(),
    "vectors": [torch.from_numpy(row).float().requires_grad_() for row in ROWS],
    "parameters": [[torch.from_numpy(row[:4]).reshape(2, 2), torch.from_numpy(row[4:])] for row in ROWS],
    "generator": (row for row in ROWS),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_starts(form):
    rows = read_starts(FORMS[form], FLAT, None, "latinhypercube", None)
    assert rows.dtype == np.float64
    assert np.array_equal(rows, ROWS)


def test_one_variable_may_have_plain_numbers():
    rows = read_starts([1.0, 2, torch.tensor(3.0)], FlatParameters([torch.zeros(1)]), None, "random", None)
    assert rows.tolist() == [[1.0], [2.0], [3.0]]


@pytest.mark.parametrize("sampling", ["latinhypercube", "sobol", "halton", "random"])
def test_a_number_takes_the_present_point_and_draws_the_rest(sampling):
    rows = read_starts(10, FLAT, BOX, sampling, 0)
    assert rows.shape == (10, 5)
    assert rows[0].tolist() == [7, 7, 7, 7, 8]
    assert ((rows[1:] >= BOX.lb) & (rows[1:] <= BOX.ub)).all()
    assert np.ptp(rows[1:], axis=0) == pytest.approx(BOX.ub - BOX.lb, rel=0.5)
    assert np.array_equal(rows, read_starts(10, FLAT, BOX, sampling, np.random.default_rng(0)))
    assert not np.array_equal(rows, read_starts(10, FLAT, BOX, sampling, 1))
    if sampling != "random":
        unit = (rows[1:] - BOX.lb) / (BOX.ub - BOX.lb)
        assert qmc.discrepancy(unit) < 0.5


def test_one_start_needs_no_bounds():
    assert read_starts(1, FLAT, None, "sobol", None).tolist() == [[7, 7, 7, 7, 8]]


HALF_OPEN = Bounds(np.zeros(5), np.array([1.0, np.inf, 1, np.inf, 1]))
REFUSED = {
    "zero": (0, BOX, "latinhypercube", None, ArgumentError, "starts must be a positive integer, got 0"),
    "no bounds": (5, None, "latinhypercube", None, ArgumentError, "5 of 5 variables have no finite ones; pass bounds="),
    "open": (5, HALF_OPEN, "latinhypercube", None, ArgumentError, "2 of 5 variables have no finite ones"),
    "sampling": (5, BOX, "grid", None, ArgumentError, "sampling='grid' is not known; choose one of latinhypercube"),
    "rng": (5, BOX, "sobol", "seed", ArgumentError, "rng must be an integer"),
    "none": (None, BOX, "sobol", None, ArgumentTypeError, "shape .k, 5. or a list of starts, got NoneType"),
    "empty": ([], BOX, "sobol", None, ArgumentError, "starts is empty"),
    "width": (ROWS[:, :4], BOX, "sobol", None, ArgumentError, "start 0 has 4 numbers in 1 parts for 5 variables"),
    "parts": ([[np.zeros(4), 0.0, []]], BOX, "sobol", None, ArgumentError, "start 0 has 5 numbers in 3 parts"),
    "text": (["abc"], BOX, "sobol", None, ArgumentTypeError, "start 0 must be numbers, or one tensor for each"),
    "nan": ([ROWS[0], np.full(5, np.nan)], BOX, "sobol", None, ArgumentError, "start 1 has NaN or infinite entries"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    starts, bounds, sampling, rng, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        read_starts(starts, FLAT, bounds, sampling, rng)
