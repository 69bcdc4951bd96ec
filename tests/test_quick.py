"""What `make quick` runs: of each test function the first case that is not slow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.quick import left_out

ROOT = Path(__file__).parent.parent


class Case:
    """A collected test. slow: whether it is marked so."""

    def __init__(self, nodeid, slow=False):
        self.nodeid, self.slow = nodeid, slow

    def get_closest_marker(self, name):
        return self.slow and name == "slow"


@pytest.mark.parametrize(
    ("tests", "kept"),
    [
        (["a.py::test_x", "a.py::test_y", "b.py::test_x"], ["a.py::test_x", "a.py::test_y", "b.py::test_x"]),
        (["a.py::test_x[1]", "a.py::test_x[2]", "a.py::test_x[a[0]]"], ["a.py::test_x[1]"]),
        (["a.py::A::test_x[1]", "a.py::B::test_x[1]"], ["a.py::A::test_x[1]", "a.py::B::test_x[1]"]),
        (["slow a.py::test_x[1]", "a.py::test_x[2]", "a.py::test_x[3]"], ["a.py::test_x[2]"]),
        (["slow a.py::test_x", "a.py::test_y"], ["a.py::test_y"]),
    ],
)
def test_one_case_of_each_function_is_kept_and_no_slow_one(tests, kept):
    cases = [Case(name.removeprefix("slow "), slow=name.startswith("slow ")) for name in tests]
    out = left_out(cases)
    assert [case.nodeid for case in cases if case not in out] == kept


@pytest.mark.slow
@pytest.mark.parametrize(("quick", "cases"), [("", 5), ("1", 1)])
def test_the_variable_chooses_the_fast_lane(quick, cases):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", __file__],
        cwd=ROOT,
        env={**os.environ, "TORCHMIN_NB_QUICK": quick},
        capture_output=True,
        text=True,
    )
    collected = [line for line in done.stdout.splitlines() if "::" in line]
    assert len([line for line in collected if "one_case" in line]) == cases, done.stdout + done.stderr
    assert len([line for line in collected if "fast_lane" in line]) == (0 if quick else 2)
