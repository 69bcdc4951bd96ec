"""The history tells the points that a method accepted: never a trial of a line search."""

import numpy as np
import pytest
import scipy.optimize
import torch
from scipy.optimize import rosen, rosen_der

from tests.core.constrained import HOCK
from tests.core.problems import PROBLEMS
from tests.core.scipys import METHODS
from torchmin_nb import Constraint, MinimizeWrapper

START = (-1.2, 1.0)
EARLY = [name for name, spec in METHODS.items() if spec.callback_at == "trial"]
COUNTED = [name for name, spec in METHODS.items() if spec.callback_at == "evaluation"]
MAXITER = 25


def a_run(method="SLSQP", loss=None, x0=START, callbacks=(), scale=None, **arguments):
    p = torch.nn.Parameter(torch.tensor(x0, dtype=torch.float64))
    group = {"params": [p], **({} if scale is None else {"scale": scale})}
    optimizer = MinimizeWrapper(
        [group],
        {"method": method, **arguments},
        callbacks=callbacks,
        start_check=False,
        keep_parameters=True,
        keep_evaluations=True,
    )
    optimizer.step(lambda: loss(p))
    return optimizer


def rosen_of(p):
    return ((1 - p[:-1]) ** 2 + 100 * (p[1:] - p[:-1] ** 2) ** 2).sum()


class Plain:
    """A plain SciPy run: where it asked for gradients, and where it ended."""

    def __init__(self, gradient, **arguments):
        self.asked = []
        self._gradient = gradient
        self.result = scipy.optimize.minimize(jac=self._jac, **arguments)

    def _jac(self, x):
        self.asked.append(x.copy())
        return self._gradient(x)

    @property
    def iterates(self):
        last = [] if np.array_equal(self.asked[-1], self.result.x) else [self.result.x]
        return np.array([*self.asked, *last])


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
@pytest.mark.crossed
def test_no_method_goes_uphill_without_constraints(spec, problem):
    """Each of them accepts a point only if the loss falls, or reports the best so far."""
    optimizer = a_run(spec.name, problem.loss, problem.x0, options={"maxiter": MAXITER})
    history = optimizer.history
    assert len(history) > 2
    rise = np.diff(history.loss)
    assert (rise <= 1e-12 * np.abs(history.loss[:-1])).all()
    trials = {x.tobytes() for x in history.trials}
    if spec.name != "TNC":  # which gives its iterates back scaled and unscaled, not to the last bit
        assert all(x.tobytes() in trials for x in history.parameters)
    if spec.gradient != "none":
        norms = [np.linalg.norm(problem.grad(x)) for x in history.parameters]
        np.testing.assert_allclose(history.grad_norm, norms, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", EARLY)
@pytest.mark.parametrize("maxiter", [1, 7, 100])
def test_iterates_are_where_scipy_asks_for_gradients(method, maxiter):
    options = {"maxiter": maxiter}
    plain = Plain(rosen_der, fun=rosen, x0=START, method=method, options=options)
    optimizer = a_run(method, rosen_of, options=options)
    history, result = optimizer.history, optimizer.result
    np.testing.assert_allclose(history.parameters, plain.iterates, atol=1e-9)
    np.testing.assert_array_equal(history.parameters[-1], result.x)
    assert history.loss[-1] == result.fun
    assert (result.nit, result.nfev, result.njev) == (plain.result.nit, plain.result.nfev, plain.result.njev)
    assert history.totals.nfev == plain.result.nfev
    np.testing.assert_allclose(np.linalg.norm(np.diff(history.parameters, axis=0), axis=1), history.step_norm[1:])


@pytest.mark.parametrize("problem", HOCK.values(), ids=HOCK)
@pytest.mark.parametrize("method", EARLY)
def test_iterates_under_constraints(method, problem):
    optimizer = a_run(
        method,
        problem.loss,
        problem.x0,
        constraints=Constraint(problem.constraint, problem.lower, problem.upper),
        **({} if problem.bounds is None else {"bounds": [problem.bounds] * len(problem.x0)}),
    )
    history, result, known = optimizer.history, optimizer.result, problem.analytic
    x = history.parameters
    np.testing.assert_array_equal(x[-1], result.x)
    np.testing.assert_allclose(history.loss, [known["fun"](each) for each in x], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(history.grad_norm, [np.linalg.norm(known["grad"](each)) for each in x], rtol=1e-9)
    values = np.array([known["c"](each) for each in x]).reshape(len(x), -1)
    outside = np.maximum(np.subtract(problem.lower, values), np.subtract(values, problem.upper)).clip(0).max(axis=1)
    np.testing.assert_allclose(history.constraint_violation, outside, rtol=1e-6, atol=1e-9)
    assert history.totals.nfev == result.nfev


@pytest.mark.parametrize("jac", ["2-point", "3-point", rosen_der])
@pytest.mark.parametrize("method", EARLY)
def test_iterates_are_the_same_whoever_makes_the_gradient(method, jac):
    exact, other = (a_run(method, rosen_of, **given).history for given in ({}, {"jac": jac}))
    rows = 10  # beyond, differences are too coarse to compare
    np.testing.assert_allclose(other.parameters[:rows], exact.parameters[:rows], atol=1e-4)
    np.testing.assert_allclose(other.loss[:rows], exact.loss[:rows], rtol=1e-4)
    assert (np.diff(other.loss) <= 0).all()


@pytest.mark.parametrize("method", EARLY)
def test_a_run_inside_the_differences_of_another(method):
    """A fit as a function whose gradient SciPy makes: its own losses are no differences."""
    lengths = []

    def fitted(a):
        history = a_run(method, lambda p: ((p - float(a[0])) ** 4).sum() + (p**2).sum(), (2.0, 1.0)).history
        lengths.append(len(history))
        return history.loss[-1]

    scipy.optimize.approx_fprime(np.array([0.5]), fitted)
    alone = a_run(method, lambda p: ((p - 0.5) ** 4).sum() + (p**2).sum(), (2.0, 1.0)).history
    assert lengths == [len(alone), len(alone)]
    assert len(alone) > 3


@pytest.mark.parametrize("method", EARLY)
def test_scaled_and_fixed_variables(method):
    scaled = a_run(method, rosen_of, (-1.2, 1.0, 0.5), scale=0.1, bounds=[(-2, 2), (-2, 2), (0.5, 0.5)])
    history = scaled.history
    assert (np.diff(history.loss) < 0).all()
    assert (history.parameters[:, 2] == 0.5).all()
    np.testing.assert_array_equal(history.parameters[-1], scaled.result.x)


@pytest.mark.parametrize("method", EARLY)
def test_a_callback_stops_at_an_iterate(method):
    full = a_run(method, rosen_of).history
    optimizer = a_run(method, rosen_of, callbacks=[lambda iteration: iteration.index == 4])
    history = optimizer.history
    assert not optimizer.result.success
    np.testing.assert_array_equal(history.parameters, full.parameters[:5])
    np.testing.assert_array_equal(optimizer.result.x, full.parameters[4])


@pytest.mark.parametrize("method", EARLY)
def test_parameters_hold_the_iterate_while_a_callback_looks(method):
    seen = []
    p = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = MinimizeWrapper(
        [p], method, callbacks=lambda i: seen.append(p.detach().clone().numpy()), keep_parameters=True
    )
    optimizer.step(lambda: rosen_of(p))
    np.testing.assert_array_equal(seen, optimizer.history.parameters)


@pytest.mark.parametrize("method", EARLY)
def test_the_users_scipy_callback_hears_what_scipy_says(method):
    heard, told = [], []
    scipy.optimize.minimize(rosen, START, jac=rosen_der, method=method, callback=lambda x: told.append(x))
    a_run(method, rosen_of, callback=lambda x: heard.append(x))
    np.testing.assert_allclose(heard, told, rtol=1e-6, atol=1e-9)


# How many: SciPy's own count, whoever ends the run

LIMITS = [1, 2, 3, 4, 6, 9, 14, 22, None]


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("method", COUNTED)
def test_counted_iterates_are_where_a_run_of_so_many_iterations_ends(method, problem):
    """SciPy's run with maxiter=k ends where the k-th iteration of a longer one stands."""
    optimizer = a_run(method, problem.loss, problem.x0, options={"maxiter": MAXITER})
    path = optimizer.history.parameters
    for most in (limit for limit in LIMITS if limit is not None and limit < len(path)):
        plain = scipy.optimize.minimize(problem.f, problem.x0, method=method, options={"maxiter": most})
        np.testing.assert_allclose(path[most], plain.x, atol=1e-7)
        assert optimizer.history[most].nfev == plain.nfev


@pytest.mark.parametrize("maxiter", LIMITS)
@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
@pytest.mark.crossed
def test_the_last_iteration_is_scipys_count_of_them(spec, maxiter):
    problem = PROBLEMS["Wood"]
    calls = 6 if spec.maxiter_counts == "closure calls" else 0  # COBYLA's first model takes so many
    options = {} if maxiter is None else {"maxiter": maxiter + calls}
    optimizer = a_run(spec.name, problem.loss, problem.x0, options=options)
    last, nit = optimizer.history[-1].index, optimizer.result.nit
    final = spec.callback_at == "trial" and optimizer.result.success  # an iteration that finds nothing to move
    assert nit - last in {spec.counted_at_start, spec.counted_at_start + final}
    if maxiter is not None and spec.maxiter_counts == "iterations":
        assert nit <= maxiter


def derivatives(spec, problem):
    known = {"jac": problem.grad} if spec.gradient != "none" else {}
    return known | ({"hess": problem.hess} if spec.curvature != "none" else {})


def stopping(at):
    calls = []

    def callback(x, *state):
        calls.append(x)
        if len(calls) == at:
            raise StopIteration

    return callback


@pytest.mark.parametrize("at", [1, 2, 5])
@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_a_stop_in_scipys_callback_leaves_scipys_count(spec, at):
    problem = PROBLEMS["Rosenbrock 2"]
    try:
        plain = scipy.optimize.minimize(
            problem.f, problem.x0, method=spec.name, callback=stopping(at), **derivatives(spec, problem)
        )
    except StopIteration:  # TNC lets it out
        plain = {}
    optimizer = a_run(spec.name, problem.loss, problem.x0, callback=stopping(at))
    assert optimizer.result.nit == plain.get("nit", at)


@pytest.mark.parametrize("at", [1, 2, 5])
@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_a_stop_in_a_callback_of_ours_counts_as_scipy_does(spec, at):
    optimizer = a_run(spec.name, rosen_of, callbacks=lambda iteration: iteration.index == at)
    assert optimizer.history[-1].index == at
    assert optimizer.result.nit - at in {spec.counted_at_start, int(spec.callback_at == "evaluation")}
