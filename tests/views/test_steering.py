"""The explorer's buttons as the panel shows them, and what it says of jobs."""

import time

import pytest

from tests.views.shown import LONG
from torchmin_nb.explore import Call, run
from torchmin_nb.views.explorer import steering
from torchmin_nb.views.explorer.jobs import RaceJob, RunJob
from torchmin_nb.views.explorer.steering import Steering


def test_a_press_in_a_view_calls_what_the_button_is_for():
    calls = []
    made = Steering(**{name: lambda name=name: calls.append(name) for name in ("run", "pause", "step", "stop")})
    for button in made.buttons:
        made.press(button.action, 1)
    assert calls == ["run", "pause", "step", "stop"]
    made.press("dance", 1)
    assert len(calls) == 4
    assert [button.label for button in made.buttons if button.enabled] == ["Run", "Step"]
    assert [button.says for button in made.buttons] == ["starting", "", "", ""]


def test_before_a_run_it_says_what_run_would_start():
    header = steering.ready(Call("Beale", "CG"))
    assert (header.badge, header.method) == ("ready", "CG")
    assert "CG starts on Beale" in header.verdict
    assert "field is wrong" in steering.ready(None).verdict


def test_a_run_under_way_has_its_numbers_and_its_limit():
    job = RunJob(Call("Rosenbrock", "CG", max_iterations=10), "mine", paused=True)
    try:
        assert job.run.wait_until_paused(LONG)
        assert steering.of_job(job).badge == "paused"
        job.run.advance(5)
        assert job.run.wait_until_paused(LONG)
        header = steering.of_job(job)
        assert (header.badge, header.method) == ("paused", "mine")
        assert ("iteration", "5 / 10") in header.facts
        assert header.progress == 0.5
    finally:
        job.stop()
        job.run.wait(LONG)


@pytest.mark.parametrize(
    ("method", "limit", "badge", "tone", "how"),
    [("BFGS", None, "finished", "good", "solved"), ("CG", 3, "finished", "warning", "not solved")],
)
def test_an_ended_run_says_whether_it_found_the_answer(method, limit, badge, tone, how):
    header = steering.of_row(run(Call("Rosenbrock", method, max_iterations=limit)))
    assert (header.badge, header.tone, header.progress) == (badge, tone, None)
    assert header.verdict.endswith(f" · {how}")


def test_a_race_counts_its_runs():
    calls = [Call("Rosenbrock", name) for name in ("BFGS", "CG")]
    race = RaceJob(calls, ["BFGS", "CG"])
    deadline = time.monotonic() + LONG
    while not race.ended and time.monotonic() < deadline:
        time.sleep(0.01)
    header = steering.of_job(race)
    assert (header.badge, header.method, header.progress) == ("running", "Race", 0.5)
    assert header.verdict == "Run 2 of 2: CG on Rosenbrock."
    assert steering.of_race(race).verdict.startswith("2 runs, 2 solved")


def test_what_is_wrong_stands_in_place_of_the_verdict():
    header = steering.ready(Call("Beale", "CG"))
    assert steering.with_error(header, "") == header
    wrong = steering.with_error(header, "no data")
    assert (wrong.verdict, wrong.tone, wrong.badge) == ("no data", "error", "ready")
