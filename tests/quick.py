"""What `make quick` leaves out: TORCHMIN_NB_QUICK is set there."""

import os

__all__ = ["QUICK", "left_out"]

QUICK = bool(os.environ.get("TORCHMIN_NB_QUICK"))


def left_out(tests):
    """The tests that are marked as slow, and of the others all but the first case of each test function."""
    kept, out = set(), []
    for test in tests:
        function = test.nodeid.partition("[")[0]
        if function in kept or test.get_closest_marker("slow"):
            out.append(test)
        else:
            kept.add(function)
    return out
