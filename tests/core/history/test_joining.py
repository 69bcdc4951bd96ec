"""Runs one after the other as one history, held against the parts."""

import operator

import numpy as np
import pytest
import torch

from torchmin_nb import History, MinimizeWrapper, observe, record
from torchmin_nb.errors import ArgumentError

LONG = 20.0
COUNTS = ("nfev", "njev", "nhev", "nhvp")
KEEP = {"keep_parameters": True, "keep_evaluations": True}


def fresh():
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))

    def closure():
        record(first=x[0])
        return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

    return x, closure


def by_torch(x, closure, steps=20, **keywords):
    run = observe(torch.optim.Adam([x], lr=0.02), closure, steps, **keywords)
    run.wait(LONG)
    return run.history


def by_scipy(x, closure, method="L-BFGS-B", maxiter=5, **keywords):
    optimizer = MinimizeWrapper([x], {"method": method, "options": {"maxiter": maxiter}}, **keywords)
    optimizer.step(closure)
    return optimizer.history


def check_joint(history, first, second, *, once):
    """Everything of the parts, with indices, counts and seconds going on."""
    rows = len(first) + len(second) - once
    assert history.index.tolist() == list(range(rows))
    assert history.loss.tolist() == [*first.loss, *second.loss[once:]]
    for name in COUNTS:
        gone = [*getattr(first, name), *(getattr(second, name)[once:] + getattr(first.totals, name))]
        assert getattr(history, name).tolist() == gone
        assert getattr(history.totals, name) == getattr(first.totals, name) + getattr(second.totals, name)
    assert history.elapsed.tolist() == [*first.elapsed, *(second.elapsed[once:] + first.totals.seconds)]
    assert history.totals.seconds == first.totals.seconds + second.totals.seconds
    assert history.metrics["first"].tolist() == [*first.metrics["first"], *second.metrics["first"][once:]]
    for name in ("success", "status", "message", "final_loss"):
        assert getattr(history, name) == getattr(second, name)
    assert (history.n_parameters, history.dtype) == (2, "float64")


def test_adam_then_l_bfgs_b():
    x, closure = fresh()
    first = by_torch(x, closure, **KEEP)
    second = by_scipy(x, closure, **KEEP)
    kept = first.to_json(), second.to_json()
    history = first + second
    # Adam's end point is evaluated by the next run's start: 20 iterations of its own, then number 20.
    check_joint(history, first, second, once=False)
    assert history.method == "Adam → L-BFGS-B"
    assert (history.options["1. lr"], history.options["2. maxiter"]) == (0.02, 5)
    assert np.array_equal(history.parameters, np.vstack([first.parameters, second.parameters]))
    steps = np.linalg.norm(np.diff(history.parameters, axis=0), axis=1)
    assert np.allclose(history.step_norm[1:], steps, rtol=1e-12)
    assert np.array_equal(history.trials, np.vstack([first.trials, second.trials]))
    assert [e.index for e in history.evaluations] == list(range(history.totals.nfev))
    assert [e.loss for e in history.evaluations] == [e.loss for e in [*first.evaluations, *second.evaluations]]
    assert [e.iteration for e in history.evaluations][20] == 20
    assert (first.to_json(), second.to_json()) == kept
    assert History.from_json(history.to_json()) == history


@pytest.mark.parametrize("keep", [KEEP, {}], ids=["points kept", "losses only"])
@pytest.mark.parametrize(
    "begin",
    [
        lambda x, closure, **k: by_scipy(x, closure, **k),
        lambda x, closure, **k: by_torch(x, closure, evaluate_end=True, **k),
    ],
    ids=["SciPy", "torch"],
)
def test_the_point_where_two_runs_meet_is_told_once(begin, keep):
    x, closure = fresh()
    first = begin(x, closure, **keep)
    second = by_scipy(x, closure, "trust-ncg", **keep)
    history = first + second
    check_joint(history, first, second, once=True)
    meeting = history[len(first) - 1]
    assert meeting.step_norm == first[-1].step_norm
    assert first[-1].trust_radius is None
    assert meeting.trust_radius == second[0].trust_radius == 1.0
    assert history.keep_parameters == history.keep_evaluations == bool(keep)
    if keep:
        assert np.array_equal(history.parameters, np.vstack([first.parameters, second.parameters[1:]]))
        assert [e.iteration for e in history.evaluations][first.totals.nfev] == len(first) - 1
        assert len(history.evaluations) == history.totals.nfev


def test_equal_losses_at_different_points_do_not_meet():
    first = History("a", n_parameters=1, keep_parameters=True)
    second = History("b", n_parameters=1, keep_parameters=True)
    x, closure = fresh()
    start = by_scipy(x, closure)[0]
    first.append(start, np.array([1.0]))
    second.append(start, np.array([-1.0]))
    assert [it.step_norm for it in first + second] == [None, 2.0]
    plain = History("c")
    plain.append(start)
    assert len(first + plain) == 1
    assert (first + plain)[0].step_norm is None


def test_the_order_of_joining_does_not_matter():
    x, closure = fresh()
    parts = [by_torch(x, closure, 5), by_torch(x, closure, 4), by_scipy(x, closure, maxiter=2), by_scipy(x, closure)]
    one, two, three, four = parts
    left = ((one + two) + three) + four
    right = one + (two + (three + four))
    assert left.method == right.method == "Adam → Adam → L-BFGS-B → L-BFGS-B"
    assert (left.options, left.index.tolist()) == (right.options, right.index.tolist())
    assert left.options["3. maxiter"] == 2
    assert left.options["4. maxiter"] == 5
    for name in ("loss", "elapsed", *COUNTS):
        assert np.allclose(getattr(left, name), getattr(right, name), rtol=1e-12)
    assert (one + two).to_json() == (one + two).to_json()


def test_only_what_both_keep_is_kept():
    x, closure = fresh()
    history = by_torch(x, closure, keep_parameters=True) + by_scipy(x, closure, keep_evaluations=True)
    assert (history.keep_parameters, history.keep_evaluations, history.evaluations) == (False, False, [])


def test_a_run_that_was_stopped_goes_on_from_its_best_point():
    x = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))

    def closure():
        return (x**2).sum()

    run = observe(torch.optim.SGD([x], lr=1.1), closure, 9, max_evaluations=4)
    run.wait(LONG)
    history = run.history + by_scipy(x, closure)
    assert history.index.tolist() == list(range(len(history)))
    assert history[4].loss == history[0].loss == 1.0
    assert history.final_loss == pytest.approx(0.0, abs=1e-12)


def test_parts_that_have_not_begun_or_not_ended():
    x, closure = fresh()
    part = by_scipy(x, closure)
    empty = History("SGD")
    assert list(empty + part) == list(part)
    assert (empty + part).method == "SGD → L-BFGS-B"
    assert list(part + empty) == list(part)
    assert (part + empty).message is None
    assert (part + empty).totals is None
    running = History("Adam")
    for iteration in part[:3]:
        running.append(iteration)
    assert (running + part)[3].nfev == part[2].nfev + part[0].nfev
    assert (History() + part).method == "L-BFGS-B"


def test_what_cannot_be_joined():
    with pytest.raises(ArgumentError, match="of 2 and of 3 parameters cannot be joined"):
        History("a", n_parameters=2) + History("b", n_parameters=3)
    with pytest.raises(TypeError):
        operator.add(History("a"), [1])
