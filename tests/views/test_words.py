"""The status line."""

import pytest

from tests.views.histories import a_history
from torchmin_nb import History, Iteration
from torchmin_nb.core.history.records import Totals
from torchmin_nb.views.words import status_line


def test_before_the_first_iteration():
    assert status_line(History("CG")) == "CG · starting"
    assert status_line(History("CG"), "pending") == "CG · starting"
    assert status_line(History("CG"), "paused") == "CG · waiting to be started"


def test_while_it_runs():
    line = status_line(a_history(length=3, ended=False))
    assert line == "trust-ncg · iteration 2 · loss 0.25 · gradient norm 1.0e+00 · radius 3 · 1.0 s · running"


def test_what_is_not_reported_is_not_mentioned():
    line = status_line(a_history("Powell", 3, radius=False, gradient=False, ended=False))
    assert line == "Powell · iteration 2 · loss 0.25 · 1.0 s · running"


def test_when_it_has_ended_the_final_loss_and_the_whole_time_are_shown():
    history = a_history("CG", 3, radius=False, ended=False)
    totals = Totals(nfev=9, njev=9, nhev=0, nhvp=0, seconds=7.25)
    history.ended(success=False, status=99, message="Stopped by a callback.", loss=0.125, totals=totals)
    line = status_line(history)
    assert "loss 0.125" in line
    assert line.endswith("7.2 s · ended: Stopped by a callback")


def test_success_is_said():
    assert status_line(a_history()).endswith("finished: It converged")


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -1e300])
def test_any_loss_can_be_said(loss):
    history = History("COBYLA")
    history.append(Iteration(12_345, loss))
    assert status_line(history).startswith(f"COBYLA · iteration 12,345 · loss {loss:.5g} · 0.0 s")


def test_the_runs_own_numbers_are_told_as_far_as_there_is_room():
    history = History("dual_annealing")
    history.append(Iteration(0, 2.0, metrics={"temperature": 5230.0, "minima": 3.0, "a": 1.0, "b": 2.0, "c": 3.0}))
    assert "loss 2 · temperature 5230 · minima 3 · a 1 · b 2 · 0.0 s" in status_line(history)


def test_the_state_of_a_run_is_said_until_it_has_ended():
    assert status_line(a_history(ended=False), "paused").endswith(" · paused")
    assert status_line(a_history(), "finished").endswith(" · finished: It converged")
