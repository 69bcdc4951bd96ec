"""What every test starts from: one seed, gradients on, double precision nowhere by default, one thread."""

import gc
import os

# Before torch is imported, and for the processes that tests start: threads of several processes wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from itertools import groupby

import pytest
import torch

from tests.proof import PROOF, covering
from tests.quick import QUICK, left_out


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def pytest_collection_finish():
    """All that was imported stays: tests that collect garbage need not look through it each time."""
    gc.collect()
    gc.freeze()


MANY = 12
"""A test function with more cases than these, from several parameters, is thinned as one that is marked as crossed."""


def pytest_collection_modifyitems(config, items):
    """Leave tests out: most of them for `make quick`, and combinations of parameters for all but `make proof`."""
    out = set(left_out(items) if QUICK else [] if PROOF else crossed_out(items))
    config.hook.pytest_deselected(items=list(out))
    items[:] = [item for item in items if item not in out]


def crossed_out(items):
    """Of tests with crossed parameters, the cases that only `make proof` runs."""
    for _, group in groupby(items, key=lambda item: item.nodeid.partition("[")[0]):
        tests = list(group)
        if is_crossed(tests[0], len(tests)):
            chosen = covering([rows(test) for test in tests])
            yield from (test for index, test in enumerate(tests) if index not in chosen)


def is_crossed(test, cases):
    """Whether the cases of a test function are thinned."""
    if test.get_closest_marker("whole") or len(list(test.iter_markers("parametrize"))) < 2:
        return False
    return cases > MANY or bool(test.get_closest_marker("crossed"))


def rows(test):
    """What each table of parameters gave a test: a row is kept or left out as one."""
    given = {name: id(value) for name, value in test.callspec.params.items()}
    for mark in test.iter_markers("parametrize"):
        names = mark.args[0].replace(",", " ").split() if isinstance(mark.args[0], str) else mark.args[0]
        given[tuple(names)] = tuple(given.pop(name) for name in names)
    return given
