"""A race: the same start and budget for all, every ending a row, stoppable at any time."""

import threading

import pytest
import torch

from torchmin_nb import method
from torchmin_nb.errors import BusyError, WorkerError
from torchmin_nb.explore import Call, Race, of_function, of_model, race, run, unregister

CALL = Call("Rosenbrock", "BFGS", max_evaluations=30)
METHODS = ["Nelder-Mead", "BFGS", "trust-exact", "dual_annealing"]


def calls(call=CALL, methods=METHODS):
    return [call.with_method(name) for name in methods]


def test_all_start_at_the_same_point_under_the_same_budget():
    rows = race(calls())
    assert [row.method for row in rows] == METHODS
    assert len({row.history[0].loss for row in rows}) == 1
    assert all(row.closure_calls <= 30 for row in rows)


def test_a_race_gives_what_single_runs_give():
    rows = race(calls())
    for row in rows:
        alone = run(row.call)
        assert (alone.loss, alone.iterations, alone.closure_calls) == (row.loss, row.iterations, row.closure_calls)


def test_the_engines_of_a_method_race_each_other():
    rows = race([CALL.with_method("trust-exact", engine=engine) for engine in ("scipy", "torch")])
    assert [row.name for row in rows] == ["trust-exact", "trust-exact (torch)"]
    assert [row.method for row in rows] == ["trust-exact"] * 2
    assert rows[1].history.loss == pytest.approx(rows[0].history.loss, rel=1e-6)
    assert run(rows[1].call).name == "trust-exact (torch)"


def test_rows_come_as_soon_as_they_are_there():
    begun = []
    ongoing = Race(calls(), on_begin=lambda index, call: begun.append((index, call.method)))
    rows = iter(ongoing)
    assert begun == []
    assert next(rows).method == "Nelder-Mead"
    assert begun == [(0, "Nelder-Mead")]
    assert len(ongoing.rows) == 1
    assert [row.method for row in rows] == METHODS[1:]


def test_a_users_model_is_put_back_and_never_copied():
    model = torch.nn.Linear(2, 1, dtype=torch.float64)
    seen = set()

    def closure():
        seen.add(id(model.weight))
        return (model(torch.eye(2, dtype=torch.float64)) - 1).square().sum()

    rows = race(calls(Call(of_model(model, closure), "BFGS"), ["BFGS", "trust-ncg", "CG"]))
    assert len({row.history[0].loss for row in rows}) == 1
    assert all(row.loss < 1e-6 for row in rows)
    assert len(seen) == 1


def test_failures_are_rows():
    def breaks(x):
        if breaks.calls > 12:
            raise RuntimeError("the sensor is off")
        breaks.calls += 1
        return x.square().sum()

    breaks.calls = 0
    subject = of_function(breaks, [3.0])
    rows = race([Call(subject, "CG"), *calls(methods=["lm", "BFGS"]), Call("Rosenbrock", "SGD")])
    assert [row.failed for row in rows] == [breaks.calls > 12, True, False, True]
    assert rows[1].reason.startswith("ArgumentError: lm needs residuals")
    assert "'SGD' is not known" in rows[3].reason
    breaks.calls = 13
    broken = run(Call(subject, "CG"))
    assert broken.reason == "RuntimeError: the sensor is off"


def test_stop_ends_the_run_under_way_and_begins_no_other():
    ongoing = None
    seen = []

    def watch(iteration):
        seen.append(iteration.index)
        if iteration.index == 3:
            threading.Thread(target=ongoing.stop).run()

    ongoing = Race(calls(methods=["CG", "BFGS"]), callbacks=watch)
    rows = ongoing.run_all()
    assert ongoing.stopped
    assert [row.method for row in rows] == ["CG"]
    assert seen[-1] <= 4
    assert not rows[0].solved


def test_a_race_that_was_stopped_before_it_began_runs_nothing():
    ongoing = Race(calls())
    ongoing.stop()
    assert ongoing.run_all() == []


def test_parameters_in_use_elsewhere_are_an_error():
    x = torch.nn.Parameter(torch.zeros(1))
    subject = of_model([x], lambda: x.square().sum())

    def within(iteration):
        with pytest.raises(BusyError):
            run(Call(subject, "BFGS"))

    assert not run(Call(subject, "CG"), callbacks=within).failed


def test_a_students_method_races_scipys():
    @method("newton")
    def newton(fun, x0, grad, hess):
        import numpy as np

        x = x0
        while np.linalg.norm(grad(x)) > 1e-9:
            x = x - np.linalg.solve(hess(x), grad(x))
            yield x

    try:
        own, theirs = race(calls(Call("Rosenbrock", "BFGS"), ["newton", "trust-exact"]))
    finally:
        unregister("newton")
    assert own.solved
    assert own.iterations < theirs.iterations


# Workers


def alike(rows, others):
    """Whether two races had the same runs, bit for bit."""
    pairs = list(zip(rows, others, strict=True))
    assert pairs
    return all(
        one.name == other.name
        and one.call is other.call
        and one.history.loss.tolist() == other.history.loss.tolist()
        and (one.loss, one.iterations, one.closure_calls, one.products, one.solved, one.reason)
        == (other.loss, other.iterations, other.closure_calls, other.products, other.solved, other.reason)
        for one, other in pairs
    )


@pytest.mark.slow
def test_copies_and_processes_run_the_same_race():
    entries = [*calls(), Call("Rosenbrock", "SGD")]
    here = race(entries)
    begun = []
    assert alike(here, race(entries, workers=map))
    assert alike(here, race(entries, workers=2, on_begin=lambda index, call: begun.append(index)))
    assert sorted(begun) == [0, 1, 2, 3, 4]


def test_a_users_model_and_a_students_method_travel():
    model = torch.nn.Linear(2, 1, dtype=torch.float64)
    subject = of_model(model, lambda: model(torch.eye(2).double()).square().sum())

    @method("halve")
    def halve(fun, x0):
        for _ in range(5):
            x0 = x0 / 2
            yield x0

    entries = calls(Call(subject, "BFGS"), ["BFGS", "halve"])
    try:
        model.weight.data.fill_(7.0)
        copies = race(entries, workers=map)
        assert (model.weight == 7).all()
        assert alike(copies, race(entries))
    finally:
        unregister("halve")


class Rows(Race):
    """A race that is stopped by its first row."""

    def __iter__(self):
        for row in super().__iter__():
            self.stop()
            yield row


def test_stop_ends_the_processes():
    assert len(Rows(calls(), workers=map).run_all()) == 1


def test_what_cannot_travel_is_named():
    lock = threading.Lock()
    with pytest.raises(WorkerError, match=r"the keywords cannot be sent .*callbacks.* → lock, of type lock"):
        race(calls(), workers=map, callbacks=lambda iteration: lock.locked())
