"""The conductor of the explorer's jobs, with jobs and a clock of the test's own; and the buttons that follow it."""

import threading
import time

import pytest

from tests.views.shown import LONG, Clock, StillTicker
from torchmin_nb import compare
from torchmin_nb.explore import Call, run
from torchmin_nb.problems import PROBLEMS
from torchmin_nb.views.explorer.conductor import Conductor
from torchmin_nb.views.explorer.jobs import RaceJob, RunJob, SamplingJob
from torchmin_nb.views.explorer.stage import PCA, Stage
from torchmin_nb.views.explorer.steering import Steering
from torchmin_nb.views.ticker import POLL


class Job:
    """A job that is where the test says."""

    def __init__(self):
        self.ended, self.seen, self.stopped = False, 0, False

    def stop(self):
        self.stopped = True


class Audience:
    """Notes what it is told, in which state of the conductor, and raises what it is asked to."""

    def __init__(self):
        self.lock, self.clock = threading.RLock(), Clock()
        self.told, self.raises = [], None
        self.beats = []
        self.conductor = Conductor(
            self.lock,
            show=self.show,
            finish=self.finish,
            fail=lambda error: self.told.append(error),
            beat=self.beat,
            clock=self.clock,
        )

    def beat(self, *, whole):
        self.beats.append(whole)
        return 0

    def show(self, job):
        self.note("show", job)

    def finish(self, job):
        self.note("finish", job)

    def note(self, what, job):
        self.told.append((what, job, self.conductor.job, self.conductor.running, self.others_wait()))
        if self.raises is not None:
            raise self.raises

    def others_wait(self):
        free = []
        other = threading.Thread(target=lambda: free.append(self.lock.acquire(blocking=False)))
        other.start()
        other.join(LONG)
        return free == [False]


@pytest.fixture
def audience(monkeypatch):
    monkeypatch.setattr("torchmin_nb.views.explorer.conductor.Ticker", StillTicker)
    return Audience()


def test_a_job_is_shown_when_there_is_something_new_and_not_too_often(audience):
    conductor, job = audience.conductor, Job()
    conductor.begin(job)
    assert conductor.look() == POLL
    assert audience.told == [("show", job, job, True, True)]
    audience.clock.now += 10
    conductor.look()
    assert len(audience.told) == 1
    job.seen = 1
    conductor.look()
    job.seen = 2
    conductor.look()
    assert len(audience.told) == 2
    audience.clock.now += 10
    conductor.look()
    assert len(audience.told) == 3


def test_the_views_hear_that_the_kernel_is_there_and_get_all_that_is_new_again(audience):
    conductor, job = audience.conductor, Job()
    conductor.begin(job)
    for _ in range(60):
        audience.clock.now += 0.1
        conductor.look()
    assert len(audience.beats) == 6 - 1
    assert sum(audience.beats) == 1
    job.ended = True
    conductor.look()
    assert audience.beats[5:] == [False]


def test_the_end_is_told_once_and_nothing_runs_after_it(audience):
    conductor, job = audience.conductor, Job()
    conductor.begin(job)
    job.ended = True
    assert not conductor.wait(0)
    assert conductor.look() is None
    assert conductor.look() is None
    assert audience.told == [("finish", job, None, True, True)]
    assert conductor.wait(0)
    assert not conductor.running


@pytest.mark.parametrize("ended", [False, True])
def test_what_a_picture_raises_is_told_and_the_clock_goes_on(audience, ended):
    conductor, job = audience.conductor, Job()
    audience.raises = RuntimeError("no colours")
    conductor.begin(job)
    job.ended = ended
    assert conductor.look() == (None if ended else POLL)
    assert audience.told[1:] == [audience.raises]
    assert conductor.running == (not ended)


def test_one_that_is_closed_stops_its_job_and_tells_nothing_more(audience):
    conductor, job = audience.conductor, Job()
    conductor.begin(job)
    with audience.lock:  # as the garbage collector may, in the middle of a look of another thread
        closing = threading.Thread(target=conductor.close)
        closing.start()
        closing.join(LONG)
    assert not closing.is_alive()
    assert job.stopped
    assert conductor.wait(0)
    job.ended = True
    assert conductor.look() is None
    assert audience.told == []


def test_a_run_is_paused_resumed_and_stopped(audience):
    conductor = audience.conductor
    trial = RunJob(Call("Rosenbrock", "CG", pace=0.01), "a run", paused=True)
    conductor.begin(trial)
    assert conductor.run_job is trial
    assert trial.run.wait_until_paused(LONG)
    conductor.pause()
    until(lambda: len(trial.history))
    conductor.pause()
    assert trial.run.wait_until_paused(LONG)
    conductor.stop()
    trial.run.wait(LONG)
    assert trial.row.reason == "Stopped on request."
    conductor.look()
    assert conductor.run_job is None
    conductor.pause()
    conductor.stop()


# Jobs


def test_a_trial_says_when_there_is_something_new():
    trial = RunJob(Call("Rosenbrock", "CG"), "mine", paused=True)
    assert trial.run.wait_until_paused(LONG)
    assert trial.seen == (0, "paused")
    trial.run.advance(1)
    assert trial.run.wait_until_paused(LONG)
    assert trial.seen == (2, "paused")
    trial.stop()
    trial.run.wait(LONG)
    assert trial.ended
    assert trial.error is None
    assert (trial.row.name, trial.row.iterations) == ("mine", 1)


def over(job):
    """The same job, once it has ended."""
    until(lambda: job.ended)
    return job


def until(holds):
    deadline = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_race_gives_its_rows_once_and_a_profile_over_several_starts():
    calls = [Call("Rosenbrock", name, seed=seed) for seed in (0, 1) for name in ("BFGS", "trust-exact")]
    contest = over(RaceJob(calls, [f"{call.method} {call.seed}" for call in calls]))
    assert [row.name for row in contest.take()] == ["BFGS 0", "trust-exact 0", "BFGS 1", "trust-exact 1"]
    assert contest.take() == []
    assert contest.seen == (3, 4)
    assert contest.words == "Run 4 of 4: trust-exact on Rosenbrock."
    profile = contest.profile()
    assert profile.problems == 2
    assert profile.at("trust-exact", 1e9) == 1.0


def test_a_race_from_one_start_has_no_profile_and_can_be_stopped():
    contest = RaceJob([Call("Rosenbrock", "Nelder-Mead", pace=0.01), Call("Rosenbrock", "BFGS")], ["a", "b"])
    contest.stop()
    assert len(over(contest).rows) <= 1
    assert contest.error is None
    assert contest.profile() is None


@pytest.mark.slow
def test_a_race_in_processes_gives_the_same_rows():
    calls = [Call("Rosenbrock", name) for name in ("BFGS", "CG")]
    contest = over(RaceJob(calls, ["BFGS", "CG"], workers=2))
    assert contest.error is None
    assert {row.name: row.loss for row in contest.rows} == {call.method: run(call).loss for call in calls}


def test_a_race_is_ranked_as_compare_ranks_its_runs():
    calls = [Call("Rosenbrock", name, seed=seed) for seed in (0, 1, 2) for name in ("CG", "BFGS")]
    contest = over(RaceJob(calls, [f"{call.method} {call.seed}" for call in calls], price=3.0))
    start = PROBLEMS["Rosenbrock"].make()
    compared = compare([*start.parameters], start.closure, ["CG", "BFGS"], budget=10_000, product_cost=3.0)
    reached = {row.name: row.reached for row in contest.ranking().rows if row.start == 0}
    assert reached == {row.name: row.reached for row in compared.rows}
    assert contest.ranking().best.name == min(reached, key=reached.get)
    assert len(contest.ranking().ratios["BFGS"]) == 3


def test_an_infeasible_point_is_not_the_best_of_a_race():
    calls = [Call("Rosenbrock in a disc", name) for name in ("SLSQP", "trust-constr")]
    ranking = over(RaceJob(calls, ["SLSQP", "trust-constr"])).ranking()
    lowest = {row.name: row.loss for row in ranking.rows}
    known = PROBLEMS["Rosenbrock in a disc"].make().best_loss
    assert all(loss >= known - 1e-4 for loss in lowest.values())


def test_a_sampling_leaves_a_plane_with_the_stage_or_says_what_went_wrong():
    call = Call("Wood", "BFGS")
    contest = over(RaceJob([call], ["BFGS"]))
    stage, history = Stage(call, call.make()), contest.rows[0].history
    assert over(SamplingJob(stage, PCA, "BFGS", history)).error is None
    assert stage.sampled(PCA, "BFGS")
    wrong = over(SamplingJob(stage, PCA, "none", type(history)("BFGS")))
    assert isinstance(wrong.error, ValueError)
    assert not stage.sampled(PCA, "none")


# Buttons


def test_buttons_allow_what_can_be_done_now():
    steering = Steering(run=int, pause=int, step=int, stop=int)
    buttons = {"run": steering.run, "pause": steering.pause, "step": steering.step, "stop": steering.stop}

    def allowed(job):
        steering.show(job)
        return {name for name, button in buttons.items() if not button.disabled}, steering.pause.description

    assert allowed(None) == ({"run", "step"}, "Pause")
    trial = RunJob(Call("Rosenbrock", "CG", pace=0.1), "a run", paused=True)
    assert trial.run.wait_until_paused(LONG)
    assert allowed(trial) == ({"pause", "step", "stop"}, "Resume")
    trial.run.resume()
    assert allowed(trial) == ({"pause", "stop"}, "Pause")
    trial.stop()
    trial.run.wait(LONG)
    contest = RaceJob([Call("Rosenbrock", "CG")], ["CG"])
    assert allowed(contest) == ({"stop"}, "Pause")
    over(contest)
    call = Call("Wood", "CG")
    sampling = SamplingJob(Stage(call, call.make()), PCA, "CG", contest.rows[0].history)
    assert allowed(sampling) == (set(), "Pause")
    over(sampling)
