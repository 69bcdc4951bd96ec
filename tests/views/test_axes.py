"""Ranges and ticks: three labels at least, whatever the numbers are."""

import itertools

import numpy as np
import pytest

from torchmin_nb.views.axes import axis_of, x_axis_of

ENDS = {
    "a constant": (1.0, 1.0),
    "zero": (0.0, 0.0),
    "a negative constant": (-3.0, -3.0),
    "within a decade": (2.0, 7.0),
    "within a part of a decade": (0.11, 0.19),
    "about one": (0.9, 1.1),
    "two decades": (3e-5, 4e-3),
    "many decades": (1e-16, 3.0),
    "all numbers": (1e-300, 1e300),
    "beyond what can be added": (-1.7e308, 1.7e308),
    "large ones": (1e300, 1e308),
    "subnormal ones": (1e-320, 1e-310),
    "the smallest": (5e-324, 5e-324),
    "rounding": (1.0, 1.0 + 1e-15),
    "an offset": (1e5, 1e5 + 20),
    "across zero": (-5.0, 3.0),
    "from zero": (0.0, 1e-12),
}


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("ends", ENDS.values(), ids=ENDS)
def test_there_are_three_to_seven_different_labels_within_the_axis(ends, log):
    axis = axis_of(np.array(ends), log=log)
    assert axis.log == (log and ends[0] > 0)
    assert 3 <= len(axis.ticks) == len(axis.labels) == len(set(axis.labels)) <= 7
    assert all(np.isfinite([*axis.range, *axis.ticks]))
    places = np.log10(axis.ticks) if axis.log else np.array(axis.ticks)
    assert axis.range[0] <= places.min() < places.max() <= axis.range[1] + 1e-9
    assert max(map(len, axis.labels)) <= 11
    clipped = np.clip(ends, -1e306, 1e306)
    first, last = np.log10(clipped) if axis.log else clipped
    assert axis.range[0] <= first <= last <= axis.range[1]


@pytest.mark.parametrize("seed", range(20))
def test_any_numbers_have_three_labels(seed):
    random = np.random.default_rng(seed)
    for _ in range(100):
        low = 10.0 ** random.uniform(-300, 300)
        high = low * (1 + 10.0 ** random.uniform(-17, 300 - max(0.0, np.log10(low))))
        for values, log in itertools.product([(low, high), (-low, high), (-high, -low)], [True, False]):
            axis = axis_of(np.array(values), log=log)
            assert 3 <= len(set(axis.labels)) == len(axis.ticks) <= 7


@pytest.mark.parametrize("decades", np.linspace(0.7, 12, 40))
def test_labels_are_spread_over_a_log_axis(decades):
    for low in np.linspace(-9, 0, 37):
        axis = axis_of(np.array([10**low, 10 ** (low + decades)]), log=True)
        places = np.concatenate([[axis.range[0]], np.log10(axis.ticks), [axis.range[1]]])
        assert np.diff(places).max() < 0.55 * (axis.range[1] - axis.range[0])


@pytest.mark.parametrize(
    ("ends", "labels"),
    [
        ((0.148, 24.0), ("0.3", "1.0", "3.0", "10.0", "30.0")),
        ((1e-8, 3.0), ("10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²", "1")),
        ((0.01, 100.0), ("0.01", "0.1", "1", "10", "100")),
        ((20.0, 100.0), ("20", "50", "100")),
    ],
)
def test_log_labels(ends, labels):
    assert axis_of(np.array(ends), log=True).labels == labels


def test_without_numbers_there_is_an_axis():
    assert len(axis_of(np.empty(0), log=True).ticks) >= 3


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("largest", [0.0, 1.0, 2.0, 3.0, 9.0, 10.0, 37.0, 99.0, 20_000.0, 1e7, 123_456_789.0])
def test_an_x_axis_begins_at_zero_and_counts_in_whole_numbers(largest, whole):
    axis = x_axis_of(largest, whole=whole)
    assert 3 <= len(set(axis.labels)) == len(axis.ticks) <= 7
    assert axis.ticks[0] == 0
    assert axis.range[0] < 0
    assert largest < axis.range[1]
    assert not whole or all(tick == round(tick) for tick in axis.ticks)
