"""The runs, ranked, and the minima that they found."""

import math
import re

import numpy as np
import pytest

from torchmin_nb import History, Iteration, MultiStart, Result, StartRun
from torchmin_nb.core.history.records import Totals
from torchmin_nb.core.optimizers.multistart.result import Tolerances
from torchmin_nb.core.optimizers.multistart.screening import Screening
from torchmin_nb.errors import ArgumentError

PLAIN = Tolerances.of(1e-4, 1e-4, [], None, 2)


def run(index, loss, x, *, success=True, error=None, first=10.0, violation=None):
    history = History("BFGS")
    history.append(Iteration(0, first, constraint_violation=violation))
    history.append(Iteration(1, loss, constraint_violation=violation))
    message = "done" if success else "Maximum number of iterations has been exceeded."
    history.ended(success=success, status=0, message=message, loss=loss, totals=Totals(5, 5, 0, 0, 0.1))
    result = Result(x=np.asarray(x, dtype=float), fun=loss, success=success)
    return StartRun(index, np.zeros(2), history, result, error)


NEVER_BEGAN = StartRun(9, np.zeros(2), History("BFGS"), error="NonFiniteStartError: nan")

RANKED = [
    run(4, -1.0, [1, 1]),
    run(0, 0.5, [2, 1]),
    run(2, 0.5, [3, 3]),
    run(3, math.nan, [0, 0], success=False),
    run(1, -7.0, [5, 5], violation=1.0),
    run(5, -9.0, [5, 6], error="RuntimeError: the sensor is off", success=False),
    NEVER_BEGAN,
]


def test_the_best_is_first_and_failures_are_last():
    found = MultiStart(RANKED[::-1], PLAIN, 8)
    assert [each.index for each in found] == [4, 0, 2, 3, 1, 5, 9]
    assert found.best is RANKED[0]
    assert found.failed == (RANKED[5], NEVER_BEGAN)
    assert list(found.histories) == ["start 4", "start 0", "start 2", "start 3", "start 1", "start 5", "start 9"]
    assert found[:2] == tuple(RANKED[:2])
    assert found.summary() == "7 of 8 starts: 3 distinct minima, best loss -1, 2 failed"


SAME = {
    "equal": ([1, 1], 0.0, [1, 1], 0.0, {}, True),
    "within 1e-4 of 1 + |x|": ([1000, 1], 0.0, [1000.09, 1], 0.0, {}, True),
    "beyond": ([1000, 1], 0.0, [1000.11, 1], 0.0, {}, False),
    "in one entry": ([1, 1], 0.0, [1, 1.001], 0.0, {}, False),
    "small against their scale": ([1e-6, 1], 0.0, [3e-6, 1], 0.0, dict(scale=np.array([1e-6, 1.0])), False),
    "a step of the loss": ([1, 1], 0.0, [1, 1.0001], 0.1, {}, False),
    "losses that differ little against the descent": ([1, 1], 0.0, [1, 1.0001], 1e-4, {}, True),
}


@pytest.mark.parametrize("case", SAME)
def test_distinct_minima(case):
    x, loss, y, other, given, same = SAME[case]
    tolerances = Tolerances.of(1e-4, 1e-4, [], given.get("scale"), 2)
    found = MultiStart([run(0, loss, x), run(1, other, y)], tolerances, 2)
    assert len(found.minima) == (1 if same else 2)
    assert found.minima[0].starts == ((0, 1) if same else (0,))
    assert found.minima[0].loss == loss
    assert [found.minimum_of(each) for each in found] == ([0, 0] if same else [0, 1])


def test_the_width_of_the_bounds_is_the_scale_where_there_are_bounds():
    from scipy.optimize import Bounds

    boxes = [Bounds([0, -np.inf], [1000, np.inf]), None, Bounds([0, 0], [1, 10])]
    tolerances = Tolerances.of(1e-2, 1.0, boxes, None, 2)
    assert tolerances.width.tolist() == [1000, 10]
    assert tolerances.same(run(0, 0.0, [0, 0]), run(1, 0.0, [9, 0.09]))
    assert not tolerances.same(run(0, 0.0, [0, 0]), run(1, 0.0, [9, 0.11]))


def test_a_run_without_success_belongs_to_a_minimum_only_where_another_ended():
    there, elsewhere = run(1, 0.0, [1, 1], success=False), run(2, 5.0, [4, 4], success=False)
    found = MultiStart([run(0, 0.0, [1, 1]), there, elsewhere], PLAIN, 3)
    assert [minimum.starts for minimum in found.minima] == [(0, 1)]
    assert found.minimum_of(elsewhere) is None


def test_text_and_html():
    found = MultiStart(
        [*RANKED[:2], run(7, 1.0, [0, 0], error="<b>Error</b>: " + "x" * 200)], PLAIN, 9, ended="stopped"
    )
    text, page = repr(found), found._repr_html_()
    assert text.startswith("3 of 9 starts: 2 distinct minima, best loss -1, 1 failed, stopped\n")
    assert re.search(r"^start 4 +-1 +0 +– +1 +5 +0.10 +done$", text, re.MULTILINE)
    assert "&lt;b&gt;Error&lt;/b&gt;" in page
    assert "<b>Error" not in page
    assert page.count("<tr>") == 4
    many = MultiStart([run(index, 0.0, [index, 0]) for index in range(50)], PLAIN, 50)
    assert repr(many).endswith("… 30 more")
    assert many._repr_html_().count("<tr>") == 21
    assert "… 30 more" in many._repr_html_()


def test_nothing_was_run():
    found = MultiStart([], PLAIN, 5, screening=Screening(np.ones(5), together=True), ended="the time was over")
    assert repr(found) == "0 of 5 starts: 0 distinct minima, the time was over"
    assert found.together
    assert found.screened.tolist() == [1] * 5
    with pytest.raises(ArgumentError, match="no start was run"):
        found.best  # noqa: B018
    assert NEVER_BEGAN.x is NEVER_BEGAN.start
    assert math.isnan(NEVER_BEGAN.loss)
    assert NEVER_BEGAN.ending == "NonFiniteStartError: nan"
