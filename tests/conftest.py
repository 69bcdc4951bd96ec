"""What every test starts from: one seed, gradients on, double precision nowhere by default, one thread."""

import os

# Before torch is imported, and for the processes that tests start: threads of several processes wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from itertools import groupby

import pytest
import torch

from tests.proof import PROOF, covering


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def pytest_collection_modifyitems(config, items):
    """Of tests marked as `crossed`, `make proof` runs all combinations of their parameters, and others some of them."""
    if PROOF:
        return
    left_out = []
    for _, group in groupby(items, key=lambda item: item.nodeid.partition("[")[0]):
        tests = list(group)
        if len(tests) > 1 and tests[0].get_closest_marker("crossed"):
            chosen = covering([test.callspec.params for test in tests])
            left_out += [test for index, test in enumerate(tests) if index not in chosen]
    config.hook.pytest_deselected(items=left_out)
    out = set(left_out)
    items[:] = [item for item in items if item not in out]
