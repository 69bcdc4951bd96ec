"""The length of a vector."""

import math

import numpy as np
import pytest

from torchmin_nb.core.parameters.arrays import length


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([3.0, 4.0], 5.0),
        ([], 0.0),
        ([0.0, 0.0], 0.0),
        ([3e200, 4e200], 5e200),
        ([-3e300, 4e300], 5e300),
        ([1e-200, 0.0], 1e-200),
        ([math.inf, 1.0], math.inf),
    ],
)
def test_the_length(entries, expected):
    assert length(np.array(entries)) == pytest.approx(expected, rel=1e-12)


def test_nan_stays():
    assert math.isnan(length(np.array([math.nan, 1e300])))
