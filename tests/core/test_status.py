"""Status: one enum for the endings of torchmin_nb's own; whether a run ended early is a flag of its own."""

import io
import json
import math
import pickle
from contextlib import suppress
from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.optimize import OptimizeResult

import torchmin_nb
from torchmin_nb import (
    LEAST_SQUARES_METHODS,
    METHODS,
    BasinHoppingWrapper,
    BruteWrapper,
    Checkpoint,
    Constraint,
    DifferentialEvolutionWrapper,
    DirectWrapper,
    DualAnnealingWrapper,
    History,
    HistoryFile,
    LeastSquaresWrapper,
    MinimizeWrapper,
    SHGOWrapper,
    Status,
    observe,
)
from torchmin_nb.core.runtime import control
from torchmin_nb.core.solvers.table import SOLVERS

LONG = 60
NUMBERS = {98, 99, *range(101, 114)}
ENDINGS = [value for value in vars(control).values() if isinstance(value, control.Ending)]


def parameter():
    return torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def residuals(x):
    return torch.stack([1 - x[0], 10 * (x[1] - x[0] ** 2)])


def interrupt(iteration):
    raise KeyboardInterrupt


def fail(iteration):
    raise RuntimeError("a callback failed")


def minimizing(loss=rosenbrock, method="BFGS", **common):
    x = parameter()
    return MinimizeWrapper([x], method, start_check=False, **common), lambda: loss(x)


def fitting(**common):
    x = parameter()
    return LeastSquaresWrapper([x], **common), lambda: residuals(x)


def hopping(**common):
    x = parameter()
    return BasinHoppingWrapper([x], "BFGS", {"rng": 0, "niter": 3}, **common), lambda: rosenbrock(x)


EARLY = {
    "a callback": (lambda: minimizing(callbacks=[lambda it: True]), Status.STOPPED),
    "closure calls": (lambda: minimizing(max_evaluations=3), Status.MAX_EVALUATIONS),
    "seconds": (lambda: minimizing(max_seconds=1e-9), Status.MAX_SECONDS),
    "the target": (lambda: minimizing(target_loss=1.0), Status.TARGET_REACHED),
    "iterations": (lambda: minimizing(method={"method": "TNC", "options": {"maxiter": 2}}), Status.MAX_ITERATIONS),
    "an interrupt": (lambda: minimizing(callbacks=[interrupt]), Status.INTERRUPTED),
    "an error": (lambda: minimizing(callbacks=[fail]), Status.FAILED),
    "residuals": (lambda: fitting(max_evaluations=2), Status.MAX_EVALUATIONS),
    "hops": (lambda: hopping(max_evaluations=40), Status.MAX_EVALUATIONS),
}
FAILING = (Status.INTERRUPTED, Status.FAILED)


def run_to_its_end(make, status):
    optimizer, closure = make()
    if status in FAILING:
        with pytest.raises(KeyboardInterrupt if status is Status.INTERRUPTED else RuntimeError):
            optimizer.step(closure)
    else:
        optimizer.step(closure)
    return optimizer


def state_of(run):
    with suppress(RuntimeError, KeyboardInterrupt):
        run.wait(LONG)
    return run.state


def test_every_ending_of_ours_is_a_status_and_every_status_an_ending():
    assert {ending.status for ending in ENDINGS} == set(Status)
    assert {int(status) for status in Status} == NUMBERS
    assert all(type(ending.status) is Status for ending in ENDINGS)
    assert [ending for ending in ENDINGS if ending.success] == [control.TARGET]


def test_each_status_says_what_it_means():
    assert len({status.label for status in Status}) == len(Status)
    for status in Status:
        assert status.label == status.__doc__
        assert status.label.endswith(".")
        assert (status == int(status), Status(int(status)) is status) == (True, True)
    assert torchmin_nb.Status is control.Status
    assert control.EVALUATIONS.message == Status.MAX_EVALUATIONS.label


@pytest.mark.parametrize("copied", [deepcopy, lambda status: pickle.loads(pickle.dumps(status))])
def test_copies_are_the_same(copied):
    assert all(copied(status) is status for status in Status)


@pytest.mark.parametrize(("make", "status"), EARLY.values(), ids=EARLY)
def test_a_run_that_we_end_says_so(make, status):
    optimizer = run_to_its_end(make, status)
    result, history = optimizer.result, optimizer.history
    assert result.status is status
    assert history.status is status
    assert result.status == int(status)
    assert (history.ended_early, history.success) == (True, status is Status.TARGET_REACHED)


@pytest.mark.parametrize(("make", "status"), EARLY.values(), ids=EARLY)
def test_the_state_of_its_run(make, status):
    optimizer, closure = make()
    expected = "finished" if status is Status.TARGET_REACHED else "failed" if status in FAILING else "stopped"
    assert state_of(optimizer.start(closure)) == expected


@pytest.mark.parametrize("make", [minimizing, fitting, hopping], ids=["minimize", "least squares", "global"])
def test_a_run_that_scipy_ends_has_scipys_own_code(make):
    optimizer, closure = make()
    assert optimizer.history.ended_early is None
    run = optimizer.start(closure)
    assert run.wait(LONG).status == optimizer.history.status
    assert type(optimizer.result.status) is int
    assert (run.state, optimizer.history.ended_early) == ("finished", False)


@pytest.mark.parametrize("success", [True, False])
@pytest.mark.parametrize("number", [*sorted(NUMBERS), 0, 1, 97, 100])
def test_a_method_of_the_users_may_return_any_number(number, success):
    def own(fun, x0, args=(), **options):
        x = np.ones_like(x0)
        return OptimizeResult(x=x, fun=fun(x), success=success, status=number, message="as it likes", nit=0)

    optimizer, closure = minimizing(method=own)
    run = optimizer.start(closure)
    contradicts = number == 0 and not success
    assert run.wait(LONG).status == (Status.UNCONVERGED if contradicts else number)
    assert (type(optimizer.result.status) is int) != contradicts
    assert (run.state, optimizer.history.ended_early) == ("finished", False)
    stored = History.from_json(optimizer.history.to_json())
    assert (stored.status, stored.ended_early) == (optimizer.result.status, False)
    assert stored == optimizer.history


# Message, status and success say the same, whatever method ends however

IMPOSSIBLE = [Constraint(lambda x: x.sum(), lower=3.0), Constraint(lambda x: x.sum(), upper=-3.0)]
LIMITED = {
    "trust-constr": ({"maxiter": 2}, Status.MAX_ITERATIONS, 0),
    "TNC": ({"maxfun": 3}, 3, 3),
    "BFGS": ({"maxiter": 2}, 1, 1),
    "SLSQP": ({"maxiter": 2}, 9, 9),
    "COBYLA": ({"maxiter": 5}, 3, 3),
    "COBYQA": ({"maxiter": 5}, 6, 6),
}
"""Options, `status` and `scipy_status` of runs that end at their limit."""


def say_the_same(optimizer):
    """The rule: 0 stands for success alone, no message speaks of success without one, and the history has it all."""
    result, history = optimizer.result, optimizer.history
    assert (history.success, history.status, history.message) == (result.success, result.status, result.message)
    assert type(result.success) is bool
    if result.success:
        assert not isinstance(result.status, Status) or result.status is Status.TARGET_REACHED
        assert "exceed" not in result.message
    else:
        assert result.status != 0
        assert "success" not in result.message.lower()
    assert result.status is Status.NOISE_FLOOR or (result.scipy_status is None) == (history.ended_early is True)
    return result


def engines(row):
    return [engine for engine in row.engines if engine != "torch" or row.name in SOLVERS]


def ends(engine, method, ending):
    """The run of a method that is to end so; None where the method cannot."""
    row, arguments, common = METHODS[method], {"method": method, "options": {}}, {}
    if ending == "at its limit":
        arguments["options"] = {"maxiter": 5}
    elif ending == "without a feasible point":
        if not row.constraints:
            return None
        arguments["constraints"] = IMPOSSIBLE
    elif ending == "stopped":
        common["callbacks"] = [lambda iteration: True]
    elif ending == "at the target":
        common["target_loss"] = 20.0
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0] if ending != "at the start" else [1.0, 1.0], dtype=torch.float64))
    loss = {"at a kink": lambda: (x - 0.3).abs().sum(), "beyond all numbers": lambda: ((x * 1e150 - 3) ** 2).sum()}
    optimizer = MinimizeWrapper([x], arguments, engine=engine, start_check=False, **common)
    optimizer.step(loss.get(ending, lambda: rosenbrock(x)))
    return optimizer


@pytest.mark.filterwarnings("ignore::torchmin_nb.errors.StartWarning")
@pytest.mark.filterwarnings("ignore::torchmin_nb.errors.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:delta_grad == 0.0:UserWarning")
@pytest.mark.filterwarnings("ignore:Singular Jacobian matrix:UserWarning")  # by its last bit, of trust-constr
@pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")
@pytest.mark.parametrize(
    ("engine", "method"), [(engine, row.name) for row in METHODS.values() for engine in engines(row)]
)
def test_message_status_and_success_of_every_method_agree_at_every_ending(engine, method):
    seen = {}
    for ending in (
        "converged", "at the start", "at its limit", "stopped", "at the target", "at a kink", "beyond all numbers",
        "without a feasible point",
    ):  # fmt: skip
        optimizer = ends(engine, method, ending)
        if optimizer is not None:
            seen[ending] = say_the_same(optimizer)
    assert seen["at the start"].success
    assert seen["stopped"].status is Status.STOPPED
    assert seen["at the target"].status is Status.TARGET_REACHED
    assert not seen["at its limit"].success
    if "without a feasible point" in seen:
        assert not seen["without a feasible point"].success


@pytest.mark.parametrize("method", LIMITED)
def test_a_limit_of_scipys_has_its_status(method):
    options, status, number = LIMITED[method]
    optimizer, closure = minimizing(method={"method": method, "options": options})
    optimizer.step(closure)
    result = optimizer.result
    assert (result.status, result.scipy_status) == (status, number)
    assert type(result.status) is type(status)
    if isinstance(status, Status):
        assert result.message == status.label


@pytest.mark.parametrize(
    ("engine", "method"), [(engine, row.name) for row in LEAST_SQUARES_METHODS.values() for engine in row.engines]
)
def test_least_squares_agree_at_every_ending(engine, method):
    for least_squares_args, common, status in (
        ({}, {}, None),
        ({"max_nfev": 2}, {}, Status.MAX_EVALUATIONS),
        ({}, {"max_evaluations": 2}, Status.MAX_EVALUATIONS),
    ):
        optimizer, closure = fitting(
            least_squares_args={"method": method, **least_squares_args}, engine=engine, **common
        )
        optimizer.step(closure)
        result = say_the_same(optimizer)
        assert result.success == (status is None)
        assert status is None or result.status is status
        assert (result.scipy_status == 0) == ("max_nfev" in least_squares_args)


SEARCHES = {
    "basinhopping": (BasinHoppingWrapper, (None, {"niter": 1, "rng": 0}), True),
    "basinhopping, cut short": (
        BasinHoppingWrapper,
        ({"method": "L-BFGS-B", "options": {"maxiter": 1}}, {"niter": 1, "rng": 0}),
        False,
    ),
    "dual annealing": (DualAnnealingWrapper, (None, {"maxiter": 2, "rng": 0}), True),
    "dual annealing, cut short": (DualAnnealingWrapper, (None, {"maxfun": 5, "rng": 0}), False),
    "shgo": (SHGOWrapper, (None, {"n": 8}), True),
    "differential evolution": (DifferentialEvolutionWrapper, ({"popsize": 4, "rng": 0},), True),
    "differential evolution, cut short": (
        DifferentialEvolutionWrapper,
        ({"maxiter": 1, "polish": False, "rng": 0},),
        False,
    ),
    "direct": (DirectWrapper, ({"f_min": 0.0, "f_min_rtol": 1.0},), True),
    "direct, cut short": (DirectWrapper, ({"maxiter": 2},), False),
    "brute": (BruteWrapper, ({"Ns": 3},), True),
}
"""A search, its arguments, and whether SciPy calls its end a success."""


@pytest.mark.filterwarnings("ignore::torchmin_nb.errors.StartWarning")
@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("early", [False, True], ids=["to its end", "stopped"])
def test_global_searches_agree_at_every_ending(name, early):
    wrapper, arguments, success = SEARCHES[name]
    x = parameter()
    optimizer = wrapper(
        [{"params": [x], "bounds": (-2.0, 2.0)}], *arguments, max_evaluations=3 if early else None, start_check=False
    )
    optimizer.step(lambda: rosenbrock(x))
    result = say_the_same(optimizer)
    assert result.success == (success and not early)
    assert (early or name == "dual annealing, cut short") == (result.status is Status.MAX_EVALUATIONS)


@pytest.mark.filterwarnings("ignore::torchmin_nb.errors.ConvergenceWarning")
@pytest.mark.parametrize("method", ["COBYLA", "COBYQA"])
def test_zero_without_success_is_unconverged(method):
    result = ends("scipy", method, "without a feasible point").result
    assert (result.success, result.status, result.scipy_status) == (False, Status.UNCONVERGED, 0)
    assert result.maxcv > 1


def test_where_scipy_ended_at_no_finite_loss_the_run_was_not_stopped():
    def own(fun, x0, args=(), **options):
        fun(x0)
        return OptimizeResult(x=np.full_like(x0, 9e9), fun=0.0, success=True, status=0, message="")

    optimizer, closure = minimizing(lambda x: rosenbrock(x) + torch.where(x[0] > 1e9, math.nan, 0.0), own)
    run = optimizer.start(closure)
    assert run.wait(LONG).status is Status.UNDEFINED
    assert (run.state, run.history.ended_early) == ("finished", False)


def test_torchs_own_optimizers_end_by_the_same_statuses():
    x = parameter()
    optimizer = torch.optim.SGD([x], lr=1e6)
    run = observe(optimizer, lambda: rosenbrock(x), 50)
    assert run.wait(LONG).status is Status.NONFINITE_LOSS
    assert (run.state, run.history.ended_early) == ("stopped", True)
    y = parameter()
    done = observe(torch.optim.SGD([y], lr=1e-4), lambda: rosenbrock(y), 3)
    assert done.wait(LONG).status == 0
    assert (done.state, done.history.ended_early) == ("finished", False)


# Stored forms


def test_a_state_dict_is_plain_and_the_status_comes_back():
    optimizer = run_to_its_end(*EARLY["closure calls"])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other, _ = minimizing()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.result.status is Status.MAX_EVALUATIONS
    assert other.history.status is Status.MAX_EVALUATIONS
    assert other.history.ended_early is True
    assert other.history == optimizer.history


@pytest.mark.parametrize(("make", "status"), EARLY.values(), ids=EARLY)
def test_history_files_keep_the_flag(make, status, tmp_path):
    optimizer, closure = make()
    optimizer.callbacks.insert(0, HistoryFile(tmp_path / "run.jsonl"))
    state_of(optimizer.start(closure))
    stored = HistoryFile.read(tmp_path / "run.jsonl")
    assert (stored.status, stored.ended_early) == (status, True)
    assert type(stored.status) is Status
    assert stored == optimizer.history


def test_a_checkpoint_of_a_run_under_way_has_a_status_of_its_own(tmp_path):
    saved = []

    def look(iteration):
        saved.append(Checkpoint.load(tmp_path / "run.pt"))
        return len(saved) > 2

    clock = iter(range(10**6))
    keeper = Checkpoint(tmp_path / "run.pt", every=1e-9, clock=lambda: next(clock))
    optimizer, closure = minimizing(callbacks=[keeper, look])
    optimizer.step(closure)
    assert saved[-1].optimizer["run"]["result"]["status"] == Status.UNDER_WAY
    assert saved[-1].history.ended_early is None
    assert Checkpoint.load(tmp_path / "run.pt").history.ended_early is True


@pytest.mark.parametrize(
    ("number", "message", "expected"),
    [(99, "Stopped on request.", True), (109, "", True), (110, "", False), (0, "", False), (None, None, None)],
)
def test_a_history_of_an_older_version_is_known_by_its_number(number, message, expected):
    stored = json.loads(run_to_its_end(*EARLY["closure calls"]).history.to_json())
    del stored["ended_early"]
    stored.update(status=number, message=message, success=None if number is None else False)
    history = History.from_json(json.dumps(stored))
    assert (history.status, history.ended_early) == (number, expected)


def test_a_pickled_history_of_an_older_version_is_known_by_its_number():
    history = run_to_its_end(*EARLY["closure calls"]).history
    state = {name: value for name, value in history.__dict__.items() if name != "_early"}
    older = History.__new__(History)
    older.__dict__.update(state, status=102)
    assert older.ended_early is True


def test_what_is_no_flag_is_refused():
    stored = json.loads(run_to_its_end(*EARLY["closure calls"]).history.to_json())
    with pytest.raises(torchmin_nb.errors.HistoryError, match="ended_early"):
        History.from_json(json.dumps({**stored, "ended_early": "yes"}))


def test_a_joined_history_ends_as_its_second_run():
    first = run_to_its_end(*EARLY["closure calls"]).history
    optimizer, closure = minimizing()
    optimizer.step(closure)
    joint, other = first + optimizer.history, optimizer.history + first
    assert (joint.status, joint.ended_early) == (optimizer.history.status, False)
    assert (other.status, other.ended_early) == (Status.MAX_EVALUATIONS, True)
    assert type(other.status) is Status
