"""What every test starts from: one seed, gradients on, double precision nowhere by default, one thread."""

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


def pytest_collection_modifyitems(config, items):
    """Leave tests out: most of them for `make quick`, and combinations of `crossed` tests for all but `make proof`."""
    out = set(left_out(items) if QUICK else [] if PROOF else crossed_out(items))
    config.hook.pytest_deselected(items=list(out))
    items[:] = [item for item in items if item not in out]


def crossed_out(items):
    """Of tests marked as `crossed`, the cases that only `make proof` runs."""
    for _, group in groupby(items, key=lambda item: item.nodeid.partition("[")[0]):
        tests = list(group)
        if len(tests) > 1 and tests[0].get_closest_marker("crossed"):
            chosen = covering([test.callspec.params for test in tests])
            yield from (test for index, test in enumerate(tests) if index not in chosen)
