"""What the ordinary tests run of a test that `make proof` runs whole."""

from collections import Counter
from itertools import product

import pytest

from tests import proof
from tests.proof import covering, some


@pytest.mark.parametrize("sizes", [(1,), (5,), (3, 3), (15, 7, 2), (2, 2, 2, 2)])
def test_each_value_occurs_and_few_combinations_are_taken(sizes):
    axes = [[object() for _ in range(size)] for size in sizes]
    combinations = [dict(zip("abcd", values, strict=False)) for values in product(*axes)]
    chosen = [combinations[index] for index in covering(combinations)]
    for name, values in zip("abcd", axes, strict=False):
        assert {id(combination[name]) for combination in chosen} == set(map(id, values))
    assert len(chosen) == max(sizes)


def test_a_value_that_occurs_in_few_combinations_is_not_lost():
    combinations = [{"method": "BFGS", "problem": problem} for problem in "abc"] + [{"method": "CG", "problem": "a"}]
    assert covering(combinations) == {0, 1, 2, 3}


def test_the_values_of_a_short_parameter_take_turns():
    combinations = [dict(method=method, dtype=dtype) for method in range(6) for dtype in ("float32", "float64")]
    chosen = [combinations[index] for index in covering(combinations)]
    assert Counter(combination["dtype"] for combination in chosen) == {"float32": 3, "float64": 3}


@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_long_series_keeps_a_case_of_each_kind(monkeypatch, all_of_them):
    monkeypatch.setattr(proof, "PROOF", all_of_them)
    series = [("BFGS", "float"), ("BFGS", "int"), ("CG", "float"), ("CG", "float"), ("TNC", "int")]
    taken = some(series, lambda case: case[0], lambda case: case[1])
    assert taken == (series if all_of_them else [series[0], series[2], series[4]])
