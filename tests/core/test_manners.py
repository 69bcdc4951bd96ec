"""A torch optimizer's manners: state_dict, copies, groups, hooks; and runs that go on."""

import copy
import io
import pickle
import warnings

import numpy as np
import pytest
import torch

from torchmin_nb import METHODS, LeastSquaresWrapper, MinimizeWrapper
from torchmin_nb.errors import (
    ArgumentError,
    ArgumentTypeError,
    HistoryError,
    ParameterError,
    StartWarning,
)

EXACT = ("Newton-CG", "dogleg", "trust-ncg", "trust-krylov", "trust-exact")
"""Methods whose whole memory travels: a continued run is the uninterrupted one to the last bit."""


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def new(method, start=(-1.2, 1.0), **options):
    x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    return x, MinimizeWrapper([x], dict(method=method, options=options))


def carried(state):
    """Through a file, read back with torch.load's safe default."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def continued(method, first, second):
    """A run of `first` iterations, carried over into a new optimizer for `second` more."""
    x, optimizer = new(method, maxiter=first)
    optimizer.step(lambda: rosenbrock(x))
    y, other = new(method, x.tolist(), maxiter=second)
    other.load_state_dict(carried(optimizer.state_dict()))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        other.step(lambda: rosenbrock(y))
    return other, [warning for warning in told if warning.category is StartWarning]


@pytest.mark.parametrize("method", METHODS)
def test_history_and_result_travel(method):
    x, optimizer = new(method, maxiter=8)
    optimizer.step(lambda: rosenbrock(x))
    _, other = new(method)
    other.load_state_dict(carried(optimizer.state_dict()))
    assert other.history == optimizer.history
    for name in ("x", "fun", "nit", "nfev", "success", "status", "message"):
        assert np.array_equal(other.result[name], optimizer.result[name]), name


@pytest.mark.parametrize("method", EXACT)
def test_a_continued_run_is_the_long_run(method):
    other, told = continued(method, 9, 200)
    x, whole = new(method, maxiter=209)
    whole.step(lambda: rosenbrock(x))
    assert not told
    assert other.result.nit + 9 == whole.result.nit
    assert np.array_equal(other.result.x, whole.result.x)
    if METHODS[method].radius != "none":
        assert other.history[0].trust_radius == whole.history[9].trust_radius


def test_nelder_mead_goes_on_with_its_simplex():
    other, told = continued("Nelder-Mead", 9, 200)
    x, whole = new("Nelder-Mead", maxiter=209)
    whole.step(lambda: rosenbrock(x))
    assert not told
    assert np.array_equal(other.result.x, whole.result.x)  # SciPy counts one iteration more a start


@pytest.mark.parametrize(("method", "option"), [("BFGS", "hess_inv0"), ("Powell", "direc")])
def test_what_was_learned_is_taken_up(method, option):
    other, told = continued(method, 9, 200)
    assert not told
    assert other.result.success
    assert other.result.fun < 1e-10
    assert option in other.history.options
    assert option not in other.request.options  # the user's own options are not rewritten


@pytest.mark.parametrize("method", [name for name, spec in METHODS.items() if spec.lost_state])
def test_what_is_lost_is_said(method):
    _, told = continued(method, 5, 3)
    (warning,) = told
    assert METHODS[method].lost_state in str(warning.message)


def test_only_the_step_after_loading_goes_on():
    x, optimizer = new("L-BFGS-B", maxiter=3)
    optimizer.step(lambda: rosenbrock(x))
    optimizer.load_state_dict(optimizer.state_dict())
    with pytest.warns(StartWarning, match="correction pairs"):
        optimizer.step(lambda: rosenbrock(x))
    optimizer.step(lambda: rosenbrock(x))


def test_a_run_with_scale_says_that_arrays_are_not_taken_up():
    x, optimizer = new("BFGS", maxiter=5)
    optimizer.step(lambda: rosenbrock(x))
    scaled = MinimizeWrapper([{"params": [x], "scale": 2.0}], dict(method="BFGS", options=dict(maxiter=3)))
    state = optimizer.state_dict()
    state["param_groups"][0]["scale"] = 2.0
    scaled.load_state_dict(state)
    with pytest.warns(StartWarning, match="without its memory"):
        scaled.step(lambda: rosenbrock(x))


def test_the_state_before_any_run_loads():
    x, optimizer = new("CG", maxiter=3)
    optimizer.load_state_dict(carried(optimizer.state_dict()))
    assert optimizer.result is None
    optimizer.step(lambda: rosenbrock(x))


@pytest.mark.parametrize("method", METHODS)
def test_copies_and_pickles_run_alike(method):
    x, optimizer = new(method, maxiter=6)
    optimizer.step(lambda: rosenbrock(x))
    results = []
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        (y,) = twin.param_groups[0]["params"]
        assert y is not x
        assert twin.history == optimizer.history
        assert twin.request.spec is METHODS[method]
        twin.step(lambda y=y: rosenbrock(y))
        results.append(twin.result.fun)
    assert results[0] == results[1]


def test_step_hooks_and_zero_grad():
    x, optimizer = new("BFGS", maxiter=3)
    called = []
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    optimizer.step(lambda: rosenbrock(x))
    assert called == ["before", "after"]
    assert x.grad is not None
    optimizer.zero_grad()
    assert x.grad is None


def test_add_param_group_joins_the_next_run():
    x, optimizer = new("BFGS")
    y = torch.nn.Parameter(torch.tensor(5.0, dtype=torch.float64))
    optimizer.add_param_group({"params": [y], "scale": 2.0})
    optimizer.step(lambda: rosenbrock(x) + (y - 3) ** 2)
    assert optimizer.history.n_parameters == 3
    assert y.item() == pytest.approx(3, abs=1e-4)


def test_groups_refuse_what_means_nothing():
    x = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(ArgumentError, match=r"'weight_decay'.*params, bounds and scale.*loss"):
        MinimizeWrapper([{"params": [x], "weight_decay": 0.1}])


def test_an_added_group_is_checked_before_it_is_added():
    x, optimizer = new("L-BFGS-B")
    with pytest.raises(ArgumentError, match=r"'lr'.*params, bounds and scale"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(2))], "lr": 0.1})
    with pytest.raises(ParameterError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [x]})
    with pytest.raises(ArgumentTypeError, match="must be a dict"):
        optimizer.add_param_group([x])
    assert len(optimizer.param_groups) == 1


def test_the_state_of_another_kind_of_optimizer_is_refused():
    x = torch.nn.Parameter(torch.zeros(2))
    optimizer = MinimizeWrapper([{"params": [x], "bounds": (0, 0.5)}], "L-BFGS-B")
    with pytest.raises(ArgumentError, match="the key 'lr'"):
        optimizer.load_state_dict(torch.optim.LBFGS([x]).state_dict())
    assert optimizer.param_groups[0]["bounds"] == (0, 0.5)


@pytest.mark.parametrize("run", [{}, None, 3, {"history": "x", "result": None}, {"history": "{}", "result": 3}])
def test_a_state_without_a_readable_run_is_refused_and_leaves_the_optimizer(run):
    x, optimizer = new("BFGS", maxiter=3)
    optimizer.step(lambda: rosenbrock(x))
    history, result = optimizer.history, optimizer.result
    with pytest.raises(HistoryError, match=r"no run|not a stored history"):
        optimizer.load_state_dict({**optimizer.state_dict(), "run": run})
    assert (optimizer.history, optimizer.result) == (history, result)


@pytest.mark.parametrize("method", ["BFGS", "Nelder-Mead", "Powell"])
def test_arrays_of_another_number_of_parameters_are_not_taken_up(method):
    x, optimizer = new(method, maxiter=3)
    optimizer.step(lambda: rosenbrock(x))
    y = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    other = MinimizeWrapper([y], method)
    other.load_state_dict(optimizer.state_dict())
    with pytest.warns(StartWarning, match="without its memory"):
        other.step(lambda: ((y - 1) ** 2).sum())
    assert other.result.fun < 1e-6


def test_an_unknown_keyword_is_answered_with_all_keywords():
    with pytest.raises(
        ArgumentTypeError,
        match=r"no keyword 'curvatur'; it has curvature, hessian_chunk, loss_scale, engine, solver_dtype, keep_states, "
        r"callbacks",
    ):
        MinimizeWrapper([torch.nn.Parameter(torch.zeros(2))], curvatur="autograd")


def test_repr_names_method_options_and_size():
    _, optimizer = new("TNC", maxiter=3)
    assert repr(optimizer) == "MinimizeWrapper('TNC', options=dict(maxiter=3), parameters=2)"


def test_stop_during_the_start_check_is_not_lost():
    x, optimizer = new("trust-ncg")
    calls = []

    def closure():
        calls.append(1)
        if len(calls) == 1:
            optimizer.stop()
        return rosenbrock(x)

    optimizer.step(closure)
    assert optimizer.result.status == 99
    assert x.tolist() == [-1.2, 1.0]


def test_other_wrappers_say_that_they_begin_anew():
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = LeastSquaresWrapper([x], "trf")
    optimizer.step(lambda: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    optimizer.load_state_dict(carried(optimizer.state_dict()))
    with pytest.warns(StartWarning, match="without its memory"):
        optimizer.step(lambda: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
