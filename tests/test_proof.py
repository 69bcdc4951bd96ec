"""What the ordinary tests run of a test that `make proof` runs whole."""

from itertools import product

import pytest

from tests.proof import covering


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
