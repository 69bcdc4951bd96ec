"""How runs end: by themselves, stopped, out of budget, interrupted, failed; what is left behind each time."""

import gc
import math
import threading
import time
import weakref

import numpy as np
import pytest
import scipy
import scipy.linalg
import scipy.optimize
import torch

from tests.core.scipys import METHODS
from torchmin_nb import (
    BasinHoppingWrapper,
    BruteWrapper,
    Constraint,
    DifferentialEvolutionWrapper,
    DirectWrapper,
    DualAnnealingWrapper,
    HistoryFile,
    LeastSquaresWrapper,
    MinimizeWrapper,
    SHGOWrapper,
)
from torchmin_nb.errors import ArgumentError, ArgumentTypeError, NonFiniteStartError

EACH = pytest.mark.parametrize("method", METHODS)
SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))
GRADIENT = [name for name, spec in METHODS.items() if spec.gradient != "none"]
DIFFERENCES = [name for name in GRADIENT if "finite_diff_rel_step" in METHODS[name].options]
START = [-1.2, 1.0]


class Rosenbrock:
    """A closure that keeps its own record of every call, and may do something at one of them."""

    def __init__(self, n=2, at=None, do=None):
        start = START if n == 2 else np.linspace(-1.2, 1, n)
        self.p = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.points, self.losses = [], []
        self.at, self.do = at, do

    def __call__(self):
        x = self.p
        loss = (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
        if self.at == len(self.losses):
            self.do()
        self.points.append(x.detach().clone())
        self.losses.append(float(loss.detach()))
        return loss

    @property
    def calls(self):
        return len(self.losses)

    def require_best_point(self, optimizer):
        """The parameters, the result and the closure's own record agree."""
        best = int(np.argmin(self.losses))
        assert torch.equal(self.p.detach(), self.points[best])
        assert optimizer.result.fun == self.losses[best]
        np.testing.assert_array_equal(optimizer.result.x, self.points[best].numpy())
        assert optimizer.history.totals.nfev == self.calls


def _optimizer(closure, method, **kwargs):
    kwargs.setdefault("start_check", False)
    if isinstance(method, str) and METHODS[method].gradient == "none":
        method = {"method": method, "options": {"maxiter": 80}}
    return MinimizeWrapper([closure.p], method, **kwargs)


def _require_works_again(optimizer, closure):
    closure.at = None
    before = min(closure.losses, default=math.inf)
    loss = float(optimizer.step(closure))
    assert loss <= before
    assert optimizer.result.status not in (99, 102, 103, 106, 107)


def _raises(error):
    def do():
        raise error

    return do


# Stops and budgets


@EACH
def test_a_callback_stops_at_its_iteration(method):
    closure = Rosenbrock()
    optimizer = _optimizer(closure, method, callbacks=lambda iteration: iteration.index == 2)
    returned = optimizer.step(closure)
    result = optimizer.result
    assert (result.status, result.success, result.message) == (99, False, "Stopped by a callback.")
    spec = METHODS[method]  # SciPy's count, with the start or an iteration that has begun
    assert optimizer.history[-1].index == 2
    assert result.nit == 2 + max(spec.counted_at_start, spec.callback_at == "evaluation")
    assert float(returned) == result.fun
    closure.require_best_point(optimizer)


@pytest.mark.parametrize(
    ("answer", "stops"), [(True, True), (np.True_, True), (1, False), ("yes", False), ([0], False)]
)
def test_only_true_stops(answer, stops):
    closure = Rosenbrock()
    optimizer = _optimizer(closure, "BFGS", callbacks=lambda iteration: answer)
    optimizer.step(closure)
    assert (optimizer.result.status == 99) == stops


def test_every_callback_hears_the_iteration_that_stops():
    closure, heard = Rosenbrock(), []
    optimizer = _optimizer(closure, "BFGS", callbacks=[lambda it: it.index == 1, lambda it: heard.append(it.index)])
    optimizer.step(closure)
    assert heard == [0, 1]


@EACH
@pytest.mark.parametrize("budget", [1, 2, 7])
def test_max_evaluations_is_exact(method, budget):
    closure = Rosenbrock()
    optimizer = _optimizer(closure, method, max_evaluations=budget)
    optimizer.step(closure)
    assert closure.calls == budget
    assert (optimizer.result.status, optimizer.result.success) == (102, False)
    assert "max_evaluations" in optimizer.result.message
    closure.require_best_point(optimizer)


@EACH
def test_max_seconds(method):
    closure = Rosenbrock(n=6, at=4, do=lambda: time.sleep(0.05))
    optimizer = _optimizer(closure, method, max_seconds=0.05)
    optimizer.step(closure)
    assert (optimizer.result.status, optimizer.result.success) == (103, False)
    assert closure.calls <= 5
    closure.require_best_point(optimizer)


@EACH
def test_target_loss(method):
    closure = Rosenbrock()
    optimizer = _optimizer(closure, method, target_loss=5.0)
    returned = float(optimizer.step(closure))
    assert (optimizer.result.status, optimizer.result.success) == (104, True)
    assert returned <= 5.0
    assert all(loss > 5.0 for loss in closure.losses[:-1])
    closure.require_best_point(optimizer)


def test_a_target_that_the_start_meets():
    closure = Rosenbrock()
    optimizer = _optimizer(closure, "BFGS", target_loss=100)
    optimizer.step(closure)
    assert closure.calls == 1
    assert optimizer.result.success


@EACH
def test_stop_from_another_thread(method):
    closure = Rosenbrock(at=5)
    optimizer = _optimizer(closure, method)

    def stop():
        thread = threading.Thread(target=optimizer.stop)
        thread.start()
        thread.join()

    closure.do = stop
    optimizer.step(closure)
    assert (optimizer.result.status, optimizer.result.message) == (99, "Stopped on request.")
    assert closure.calls == 6
    closure.require_best_point(optimizer)
    _require_works_again(optimizer, closure)


def test_stop_outside_a_run_does_nothing():
    closure = Rosenbrock()
    optimizer = _optimizer(closure, "BFGS")
    optimizer.stop()
    optimizer.step(closure)
    assert optimizer.result.success


def test_powell_stops_within_one_closure_call():
    """Its first callback is 1,601 calls away at N = 200."""
    closure = Rosenbrock(n=200, at=10)
    optimizer = _optimizer(closure, "Powell")
    closure.do = optimizer.stop
    optimizer.step(closure)
    assert closure.calls == 11
    closure.require_best_point(optimizer)


# Errors of the user's code


class UserError(Exception):
    pass


ERRORS = {"error": UserError, "interrupt": KeyboardInterrupt, "exit": SystemExit}


@EACH
@pytest.mark.parametrize("kind", ERRORS.values(), ids=ERRORS)
def test_an_error_of_the_closure(method, kind):
    error = kind("at the seventh call")
    closure = Rosenbrock(at=6, do=_raises(error))
    optimizer = _optimizer(closure, method)
    with pytest.raises(kind) as caught:
        optimizer.step(closure)
    assert caught.value is error
    result = optimizer.result
    assert not result.success
    assert result.status == (106 if kind is KeyboardInterrupt else 107)
    assert result.message == ("Interrupted." if kind is KeyboardInterrupt else f"Failed: {kind.__name__}: {error}")
    assert optimizer.history.message == result.message
    assert optimizer.history.totals.nfev == 7
    best = int(np.argmin(closure.losses))
    assert torch.equal(closure.p.detach(), closure.points[best])
    assert result.fun == optimizer.history.final_loss == closure.losses[best]
    _require_works_again(optimizer, closure)


@EACH
def test_an_error_at_the_first_call(method):
    closure = Rosenbrock(at=0, do=_raises(UserError()))
    optimizer = _optimizer(closure, method)
    with pytest.raises(UserError):
        optimizer.step(closure)
    assert closure.p.tolist() == START
    assert math.isnan(optimizer.result.fun)
    assert not optimizer.result.success
    assert len(optimizer.history) == 0
    assert optimizer.history.summary()
    assert optimizer.history._repr_html_()
    _require_works_again(optimizer, closure)


@EACH
@pytest.mark.parametrize("kind", [UserError, KeyboardInterrupt])
def test_an_error_of_a_callback(method, kind):
    error = kind()

    def callback(iteration):
        if iteration.index == 1:
            raise error

    closure = Rosenbrock()
    optimizer = _optimizer(closure, method, callbacks=callback)
    with pytest.raises(kind) as caught:
        optimizer.step(closure)
    assert caught.value is error
    assert len(optimizer.history) == 2
    closure.require_best_point(optimizer)


@EACH
@pytest.mark.parametrize("error", [StopIteration, StopIteration("mine")])
def test_stopiteration_of_a_callback_ends_the_run_as_true_does(method, error):
    def callback(iteration):
        if iteration.index == 2:
            raise error

    closure, heard = Rosenbrock(), []
    optimizer = _optimizer(closure, method, callbacks=[callback, lambda iteration: heard.append(iteration.index)])
    optimizer.step(closure)
    result = optimizer.result
    assert (result.status, result.success, result.message) == (99, False, "Stopped by a callback.")
    begun = METHODS[method].counted_at_start or method == "COBYQA"  # SciPy's own count is one ahead there
    assert optimizer.history[-1].index == result.nit - begun == 2
    assert heard == [0, 1, 2]
    closure.require_best_point(optimizer)


@EACH
@pytest.mark.parametrize("at", [0, 6])
def test_stopiteration_of_on_evaluation_ends_the_run(method, at):
    class Watcher:
        def __call__(self, iteration):
            pass

        def on_evaluation(self, evaluation):
            if evaluation.index == at:
                raise StopIteration

    closure, after = Rosenbrock(), Listener()
    optimizer = _optimizer(closure, method, callbacks=[Watcher(), after])
    optimizer.step(closure)
    assert (optimizer.result.status, optimizer.result.success) == (99, False)
    assert closure.calls == at + 1
    assert len(optimizer.history) >= 1  # the start is told
    assert [value for name, value in after.told if name == "evaluation"] == list(range(at + 1))
    closure.require_best_point(optimizer)


class Listener:
    """A callback with all it may have; writes down what it is told, and may fail at one of them."""

    def __init__(self, fail=None):
        self.told, self.fail = [], fail

    def _tell(self, name, value):
        self.told.append((name, value))
        if name == self.fail and value != 0:
            raise UserError(name)

    def __call__(self, iteration):
        self._tell("iteration", iteration.index)

    def on_start(self, history):
        self._tell("start", len(history) if self.fail != "start" else 1)

    def on_evaluation(self, evaluation):
        self._tell("evaluation", evaluation.index)

    def on_end(self, history):
        self._tell("end", history.message)


@EACH
def test_an_error_of_on_evaluation(method):
    closure, listener = Rosenbrock(), Listener(fail="evaluation")
    optimizer = _optimizer(closure, method, callbacks=listener)
    with pytest.raises(UserError):
        optimizer.step(closure)
    assert closure.calls == 2
    names = [name for name, _ in listener.told if name != "iteration"]
    assert names == ["start", "evaluation", "evaluation", "end"]
    closure.require_best_point(optimizer)


def test_an_error_of_on_start_leaves_everything():
    closure = Rosenbrock()
    optimizer = _optimizer(closure, "BFGS", callbacks=Listener(fail="start"))
    with pytest.raises(UserError):
        optimizer.step(closure)
    assert closure.calls == 0
    assert closure.p.tolist() == START
    assert optimizer.result is None


def test_an_error_of_on_end_comes_after_all_is_settled():
    closure = Rosenbrock()
    optimizer = _optimizer(closure, "BFGS", callbacks=Listener(fail="end"))
    with pytest.raises(UserError):
        optimizer.step(closure)
    assert optimizer.result.success
    assert optimizer.history.success
    np.testing.assert_allclose(closure.p.detach(), [1, 1], atol=1e-4)


class UnspeakableError(Exception):
    """An error whose text cannot be had."""

    def __str__(self):
        raise ValueError("no text")

    __repr__ = __str__


@EACH
@pytest.mark.parametrize("place", ["closure", "callback", "on_evaluation", "constraint"])
def test_an_error_without_a_text_is_an_ending_like_others(method, place):
    error, after = UnspeakableError(), Listener()

    def fail(event=None):
        raise error

    class Failing:
        def __call__(self, iteration):
            if place == "callback" and iteration.index == 1:
                fail()

        def on_evaluation(self, evaluation):
            if place == "on_evaluation" and evaluation.index == 3:
                fail()

    def constraint():
        if closure.calls > 3:
            fail()
        return closure.p

    if place == "constraint":
        if not METHODS[method].constraints:
            pytest.skip("takes none")
        arguments = {"method": method, "constraints": Constraint(constraint, upper=10)}
    else:
        arguments = method
    closure = Rosenbrock(at=3 if place == "closure" else None, do=fail)
    optimizer = _optimizer(closure, arguments, callbacks=[Failing(), after])
    with pytest.raises(UnspeakableError) as caught:
        optimizer.step(closure)
    assert caught.value is error
    assert optimizer.result.status == 107
    assert optimizer.result.message.startswith("Failed: UnspeakableError: ")
    assert after.told[-1] == ("end", optimizer.result.message)
    assert (
        closure.p.tolist()
        == optimizer.result.x.tolist()
        == closure.points[closure.losses.index(optimizer.result.fun)].tolist()
    )
    assert optimizer.history.final_loss == optimizer.result.fun <= closure.losses[0]


class LeavingError(BaseException):
    """An error whose text ends the program."""

    def __str__(self):
        raise SystemExit


def test_no_text_of_an_error_loses_the_ending():
    after, closure = Listener(), Rosenbrock(at=3, do=lambda: (_ for _ in ()).throw(LeavingError()))
    optimizer = _optimizer(closure, "BFGS", callbacks=[after])
    with pytest.raises(LeavingError):
        optimizer.step(closure)
    assert optimizer.result.message.startswith("Failed: LeavingError: ")
    assert after.told[-1] == ("end", optimizer.result.message)


ALL_CALLED = ["on_start", "on_end", "on_bind", "on_release", "on_run"]


class Calls:
    """A callback that writes down which of its methods were called, and fails in one of them."""

    def __init__(self, fail=None, error=UserError):
        self.names, self.fail, self.error = [], fail, error
        self.messages = []

    def __call__(self, iteration):
        pass

    def __getattr__(self, name):
        if name not in ALL_CALLED:
            raise AttributeError(name)
        return lambda subject: self._call(name, subject)

    def _call(self, name, subject):
        self.names.append(name)
        if name == "on_end":
            self.messages.append(subject.message)
        if name == self.fail:
            raise self.error(name)


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("name", ["on_end", "on_release"])
def test_what_one_callback_raises_at_the_end_takes_no_call_from_the_others(name, position):
    callbacks = [Calls(), Calls(), Calls()]
    callbacks[position].fail = name
    closure = Rosenbrock()
    optimizer = _optimizer(closure, "BFGS", callbacks=callbacks)
    with pytest.raises(UserError, match=name):
        optimizer.step(closure)
    assert all(each.names == ["on_bind", "on_start", "on_end", "on_release"] for each in callbacks)
    assert optimizer.result.success


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_run_that_one_callback_refuses_has_ended_for_the_others(position):
    callbacks = [Calls(), Calls(), Calls()]
    callbacks[position].fail = "on_start"
    closure = Rosenbrock()
    optimizer = _optimizer(closure, "BFGS", callbacks=callbacks)
    with pytest.raises(UserError, match="on_start"):
        optimizer.step(closure)
    for each in callbacks:
        heard = ["on_end"] if each.fail is None else []  # who refuses hears no more of it
        assert each.names == ["on_bind", "on_start", *heard, "on_release"]
        assert each.messages == ["Failed: UserError: on_start"] * len(heard)
    assert closure.calls == 0
    assert optimizer.result is None


@pytest.mark.parametrize("position", [0, 1])
def test_a_run_that_one_callback_refuses_in_on_run_is_a_failed_run_to_the_others(position):
    seen = []

    class Watcher(Calls):
        def _call(self, name, subject):
            super()._call(name, subject)
            if name == "on_run":
                seen.append(subject)

    closure = Rosenbrock()
    callbacks = [Watcher(), Watcher()]
    callbacks[position].fail = "on_run"
    optimizer = _optimizer(closure, "BFGS", callbacks=callbacks)
    with pytest.raises(UserError, match="on_run"):
        optimizer.start(closure)
    assert [each.names for each in callbacks] == [["on_run"], ["on_run"]]
    (run,) = seen
    assert run.state == "failed"
    with pytest.raises(UserError):
        run.wait(10)


def test_what_ended_the_run_comes_before_what_on_end_raises():
    closure = Rosenbrock(at=2, do=_raises(ZeroDivisionError("mine")))
    callbacks = [Calls("on_end"), Calls("on_end", error=UnspeakableError), Calls()]
    optimizer = _optimizer(closure, "BFGS", callbacks=callbacks)
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        optimizer.step(closure)
    assert "UserError: on_end" in caught.value.__notes__[0]
    assert callbacks[2].messages == ["Failed: ZeroDivisionError: mine"]


def test_an_interrupt_at_the_end_comes_before_errors_and_others_are_noted():
    closure = Rosenbrock()
    callbacks = [Calls("on_end"), Calls("on_end", error=KeyboardInterrupt), Calls()]
    optimizer = _optimizer(closure, "BFGS", callbacks=callbacks)
    with pytest.raises(KeyboardInterrupt) as caught:
        optimizer.step(closure)
    assert "UserError: on_end" in caught.value.__notes__[0]
    assert callbacks[2].names[-2:] == ["on_end", "on_release"]


def test_a_history_file_is_free_for_the_next_run_after_anothers_on_end_has_failed(tmp_path):
    keeper, closure = HistoryFile(tmp_path / "run.jsonl"), Rosenbrock()
    optimizer = _optimizer(closure, "BFGS", callbacks=[Calls("on_end"), keeper])
    for _ in range(2):
        with pytest.raises(UserError):
            optimizer.step(closure)
    assert [history.success for history in HistoryFile.read_all(keeper.path)] == [True, True]


@EACH
def test_the_order_of_events(method):
    closure, listener = Rosenbrock(), Listener()
    optimizer = _optimizer(closure, {"method": method, "options": {"maxiter": 12}}, callbacks=[listener])
    optimizer.step(closure)
    names = [name for name, _ in listener.told]
    assert names[:3] == ["start", "evaluation", "iteration"]
    assert names[-1] == "end"
    assert names.count("start") == names.count("end") == 1
    assert [value for name, value in listener.told if name == "evaluation"] == list(range(closure.calls))
    assert [value for name, value in listener.told if name == "iteration"] == list(range(len(optimizer.history)))
    assert listener.told[-1][1] == optimizer.result.message


@EACH
def test_the_parameters_are_the_iterate_during_a_callback(method):
    if method == "COBYLA" and SCIPY < (1, 16):
        pytest.skip("this SciPy's COBYLA calls back before it evaluates the point")
    closure, wrong = Rosenbrock(), []

    def callback(iteration):
        with torch.no_grad():
            here = float(Rosenbrock.__call__(probe).detach())
        if not math.isclose(here, iteration.loss, rel_tol=1e-9, abs_tol=1e-12):
            wrong.append((iteration.index, here, iteration.loss))

    probe = Rosenbrock()
    probe.p = closure.p
    optimizer = _optimizer(closure, {"method": method, "options": {"maxiter": 15}}, callbacks=callback)
    optimizer.step(closure)
    assert not wrong


@EACH
def test_the_gradient_of_the_end_point_is_left_in_grad(method):
    closure = Rosenbrock()
    optimizer = _optimizer(closure, method, max_evaluations=12)
    optimizer.step(closure)
    if METHODS[method].gradient == "none":
        assert closure.p.grad is None
    else:
        expected = scipy.optimize.rosen_der(closure.p.detach().numpy())
        np.testing.assert_allclose(closure.p.grad, expected, rtol=1e-9, atol=1e-9)


# What SciPy calls its own callback


def _plain(method, callback, **kwargs):
    return scipy.optimize.minimize(
        scipy.optimize.rosen,
        START,
        method=method,
        callback=callback,
        jac=scipy.optimize.rosen_der if method in GRADIENT else None,
        hess=scipy.optimize.rosen_hess if METHODS[method].curvature != "none" else None,
        **kwargs,
    )


def _new_form(seen, stop_at=None):
    def callback(intermediate_result):
        seen.append(intermediate_result.x.copy())
        if len(seen) == stop_at:
            raise StopIteration

    return callback


def _old_form(seen, stop_at=None):
    def callback(x, state=None):
        seen.append(x.copy())
        if len(seen) == stop_at:
            raise StopIteration

    return callback


NEW_FORM_SINCE = {"COBYLA": (1, 16), "SLSQP": (1, 17)}


@EACH
@pytest.mark.parametrize("form", [_new_form, _old_form])
def test_scipys_callback_may_stop_with_stopiteration(method, form):
    closure, seen = Rosenbrock(), []
    optimizer = _optimizer(closure, {"method": method, "callback": form(seen, stop_at=2)})
    optimizer.step(closure)
    assert len(seen) == 2
    assert (optimizer.result.status, optimizer.result.success) == (99, False)
    closure.require_best_point(optimizer)


@EACH
@pytest.mark.parametrize("form", [_new_form, _old_form])
def test_scipys_callback_is_called_as_scipy_calls_it(method, form):
    ours, theirs, closure = [], [], Rosenbrock()
    options = {"maxiter": 30 if METHODS[method].gradient == "none" else 3}
    _optimizer(closure, {"method": method, "callback": form(ours), "options": options}).step(closure)
    if method == "TNC" or (form is _new_form and NEW_FORM_SINCE.get(method, (0, 0)) > SCIPY):
        assert ours
        return  # SciPy has no maxiter for TNC, and knows no intermediate_result for these
    _plain(method, form(theirs), options=options)
    np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["trust-constr", "BFGS"])
def test_only_trust_constr_heeds_what_scipys_callback_returns(method):
    closure = Rosenbrock()
    optimizer = _optimizer(closure, {"method": method, "callback": lambda x, *state: True})
    optimizer.step(closure)
    assert (optimizer.result.status == 99) == (method == "trust-constr")


@EACH
def test_an_error_of_scipys_callback(method):
    error, closure = UserError(), Rosenbrock()

    def callback(x, *state):
        raise error

    optimizer = _optimizer(closure, {"method": method, "callback": callback})
    with pytest.raises(UserError) as caught:
        optimizer.step(closure)
    assert caught.value is error
    assert optimizer.result.status == 107
    closure.require_best_point(optimizer)


# The user's own derivatives and tolerance


def _same_run(ours, theirs, closure):
    assert ours.success == theirs.success
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(closure.p.detach(), ours.x)
    assert abs(ours.nit - theirs.nit) <= 2 + theirs.nit // 10


@pytest.mark.parametrize("method", GRADIENT)
def test_the_users_jac(method):
    closure, calls = Rosenbrock(), []

    def jac(x):
        calls.append(1)
        return scipy.optimize.rosen_der(x)

    optimizer = _optimizer(closure, {"method": method, "jac": jac})
    optimizer.step(closure)
    assert calls
    assert len(calls) == optimizer.history.totals.njev - (closure.calls if METHODS[method].curvature != "none" else 0)
    _same_run(optimizer.result, _plain(method, None), closure)


@pytest.mark.parametrize("method", [name for name, spec in METHODS.items() if spec.curvature != "none"])
@pytest.mark.parametrize("name", ["hess", "hessp"])
def test_the_users_hess_and_hessp(method, name):
    closure, calls = Rosenbrock(), []
    own = {"hess": scipy.optimize.rosen_hess, "hessp": scipy.optimize.rosen_hess_prod}[name]

    def counted(*args):
        calls.append(1)
        return own(*args)

    if name == "hessp" and METHODS[method].curvature == "dense":
        with pytest.raises(ArgumentError, match=f"{method} accepts hess, not hessp"):
            _optimizer(closure, {"method": method, name: counted})
        return
    optimizer = _optimizer(closure, {"method": method, name: counted})
    optimizer.step(closure)
    assert calls
    assert optimizer.history.totals.nhvp == optimizer.history.totals.nhev == 0
    assert optimizer.result.fun < 1e-6 or method == "dogleg"


@pytest.mark.parametrize("method", GRADIENT)
@pytest.mark.parametrize(
    ("returned", "named"),
    [(np.ones(3), r"shape \(3,\); return one of shape \(2,\)"), (None, "None|shape"), (1.0, "shape")],
    ids=["three", "None", "number"],
)
def test_a_jac_of_another_size_is_refused(method, returned, named):
    closure = Rosenbrock()
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"jac returned.*({named})"):
        _optimizer(closure, {"method": method, "jac": lambda x: returned}).step(closure)
    assert closure.p.tolist() == START


@pytest.mark.parametrize("method", GRADIENT)
def test_a_jac_that_is_nan_at_the_start_is_refused(method):
    closure = Rosenbrock()
    with pytest.raises(NonFiniteStartError, match="jac returned NaN"):
        _optimizer(closure, {"method": method, "jac": lambda x: x * np.nan}).step(closure)
    assert closure.p.tolist() == START


@pytest.mark.parametrize("method", GRADIENT)
def test_a_jac_that_is_nan_later_ends_the_run_at_the_best_point(method):
    closure = Rosenbrock()

    def jac(x):
        return scipy.optimize.rosen_der(x) * (1 if x[0] == START[0] else np.nan)

    optimizer = _optimizer(closure, {"method": method, "jac": jac})
    optimizer.step(closure)
    assert (optimizer.result.status, optimizer.result.success) == (98, False)
    closure.require_best_point(optimizer)


SECOND = [name for name, spec in METHODS.items() if spec.curvature != "none"]


@pytest.mark.parametrize("method", SECOND)
def test_the_users_derivatives_may_be_tensors_with_a_graph(method):
    closure = Rosenbrock()

    def loss(x):
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2

    def jac(x):
        x = torch.tensor(x, requires_grad=True)
        return torch.autograd.grad(loss(x), x, create_graph=True)[0]

    def hess(x):
        return torch.autograd.functional.hessian(loss, torch.tensor(x), create_graph=True)

    optimizer = _optimizer(closure, {"method": method, "jac": jac, "hess": hess})
    optimizer.step(closure)
    plain = _optimizer(closure := Rosenbrock(), method)
    plain.step(closure)
    np.testing.assert_allclose(optimizer.result.x, plain.result.x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", SECOND)
@pytest.mark.parametrize("name", ["hess", "hessp"])
def test_a_hess_of_another_size_is_refused(method, name):
    if name == "hessp" and METHODS[method].curvature == "dense":
        pytest.skip("accepts hess, not hessp")
    closure = Rosenbrock()
    returned = {"hess": np.eye(3), "hessp": np.ones(3)}[name]
    with pytest.raises(ArgumentError, match=rf"{name} returned an array of shape \(3.*return one of shape \(2"):
        _optimizer(closure, {"method": method, name: lambda *args: returned}).step(closure)


@pytest.mark.parametrize("hess", ["4-point", 5, True, scipy.optimize.BFGS], ids=repr)
@pytest.mark.parametrize("method", SECOND)
def test_a_hess_that_is_none_is_refused_by_the_constructor(method, hess):
    with pytest.raises(ArgumentError, match=f"hess=.* is not allowed for {method}: a callable.*leave it out"):
        _optimizer(Rosenbrock(), {"method": method, "hess": hess})


@pytest.mark.parametrize("method", ["dogleg", "trust-exact"])
@pytest.mark.parametrize("hess", ["2-point", scipy.optimize.SR1()], ids=["2-point", "SR1"])
def test_a_method_that_factorises_takes_no_approximation(method, hess):
    with pytest.raises(ArgumentError, match=f"not allowed for {method}: a callable or None"):
        _optimizer(Rosenbrock(), {"method": method, "hess": hess})


def test_a_jac_that_is_an_array_is_refused():
    with pytest.raises(ArgumentError, match="jac=array"):
        _optimizer(Rosenbrock(), {"method": "BFGS", "jac": np.ones(2)})


def test_scipys_hess_strategies_pass_through():
    closure = Rosenbrock()
    optimizer = _optimizer(closure, {"method": "trust-constr", "hess": scipy.optimize.BFGS()})
    optimizer.step(closure)
    assert optimizer.result.fun < 1e-6
    assert optimizer.history.totals.nhvp == 0


@pytest.mark.parametrize("jac", [False, "2-point", "3-point"])
@pytest.mark.parametrize("method", DIFFERENCES)
def test_scipys_finite_differences(method, jac):
    closure = Rosenbrock()
    hess = {"hess": scipy.optimize.rosen_hess} if METHODS[method].curvature != "none" else {}
    optimizer = _optimizer(closure, {"method": method, "jac": jac, **hess})
    optimizer.step(closure)
    theirs = scipy.optimize.minimize(scipy.optimize.rosen, START, method=method, jac=jac, **hess)
    assert optimizer.result.fun < max(1e-3, 10 * theirs.fun)
    assert optimizer.history.totals.njev == 0
    assert abs(closure.calls - theirs.nfev) <= 5 + theirs.nfev // 4
    assert closure.p.grad is None


STEPS = {"eps": 1e-3, "finite_diff_rel_step": 1e-2}
STEP_OF = {None: None, False: 1e-3, "2-point": 1e-2, "3-point": 1e-2}
"""The step from x = 1 that each `jac` takes, of the two options; autograd takes none."""


@pytest.mark.parametrize(("jac", "step"), STEP_OF.items())
@pytest.mark.parametrize("method", ["BFGS", "CG", "L-BFGS-B", "SLSQP", "TNC"])
def test_which_option_is_the_step_of_finite_differences(method, jac, step):
    x = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    seen = []

    def closure():
        seen.append(abs(x.item() - 1))
        return (x**2).sum()

    MinimizeWrapper([x], {"method": method, "jac": jac, "options": {"maxiter": 1, **STEPS}}, start_check=False).step(
        closure
    )
    trials = [distance for distance in seen if distance > 0]
    assert step is None or trials[0] == pytest.approx(step)
    assert [each for each in STEPS.values() if pytest.approx(each, rel=1e-6) in trials] == ([step] if step else [])


@pytest.mark.parametrize("jac", [False, "2-point", "3-point"])
@pytest.mark.parametrize("method", DIFFERENCES)
def test_finite_differences_see_something_in_float32(method, jac):
    """SciPy's own step, 1.5e-8 of x, moves no float32 number: each difference would be zero, the start "optimal"."""
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0]))
    request = {"method": method, "jac": jac}
    if METHODS[method].curvature != "none":
        request["hess"] = scipy.optimize.BFGS()
    optimizer = MinimizeWrapper([x], request)
    optimizer.step(lambda: (1 - x[0]) ** 2 + (x[1] - x[0] ** 2) ** 2)
    assert optimizer.result.fun < 1e-3


@EACH
@pytest.mark.parametrize("tol", [1e-2, 1e-8])
def test_tol_means_what_it_means_to_scipy(method, tol):
    closure = Rosenbrock()
    options = {} if METHODS[method].gradient != "none" else {"maxiter": 120}
    optimizer = _optimizer(closure, {"method": method, "tol": tol, "options": options})
    optimizer.step(closure)
    theirs = _plain(method, None, tol=tol, options=options)
    assert optimizer.result.success == theirs.success
    assert optimizer.result.fun == pytest.approx(theirs.fun, rel=0.05, abs=1e-5)


def test_a_method_of_the_users_own():
    closure, asked = Rosenbrock(), {}

    def newton(fun, x0, args=(), jac=None, hess=None, hessp=None, callback=None, **options):
        asked.update(options)
        x = x0
        for _ in range(20):
            x = x - np.linalg.solve(hess(x), jac(x))
            np.testing.assert_allclose(hessp(x, np.ones(2)), hess(x) @ np.ones(2), rtol=1e-9)
            callback(x)
        return scipy.optimize.OptimizeResult(x=x)

    optimizer = _optimizer(closure, {"method": newton, "options": {"damping": 1}})
    assert optimizer.step(closure) < 1e-20
    assert asked["damping"] == 1
    assert len(optimizer.history) == 21
    assert optimizer.result.success


def test_a_method_of_the_users_own_that_returns_nothing():
    closure = Rosenbrock()
    with pytest.raises(TypeError, match="OptimizeResult with x"):
        _optimizer(closure, {"method": lambda fun, x0, **rest: None}).step(closure)
    assert closure.p.tolist() == START


@pytest.mark.parametrize(
    ("returned", "named"),
    [
        (dict(x=np.ones(3)), r"x=array.*2 numbers"),
        (dict(x=None), "x=None"),
        (dict(x="here"), "x='here'"),
        (dict(x=np.ones(2), fun=None), "fun=None"),
        (dict(x=np.ones(2), fun="low"), "fun='low'"),
        (dict(x=np.ones(2), fun=0.0, status="done"), "status='done'"),
        (dict(x=np.ones(2), fun=0.0, nit=None), "nit=None"),
    ],
)
def test_a_method_of_the_users_own_that_returns_something_else(returned, named):
    closure = Rosenbrock()
    with pytest.raises(ArgumentTypeError, match=named):
        _optimizer(closure, {"method": lambda fun, x0, **rest: scipy.optimize.OptimizeResult(returned)}).step(closure)
    assert closure.p.tolist() == START


def test_a_method_of_the_users_own_that_ends_at_nan_leaves_the_best_point():
    closure = Rosenbrock()

    def wild(fun, x0, **rest):
        return scipy.optimize.OptimizeResult(x=x0 * np.nan, fun=min(fun(x0), fun(x0 / 2)), success=True)

    optimizer = _optimizer(closure, {"method": wild})
    optimizer.step(closure)
    assert closure.p.tolist() == [-0.6, 0.5]
    assert not optimizer.result.success
    assert optimizer.result.fun == pytest.approx(scipy.optimize.rosen([-0.6, 0.5]))


@pytest.mark.parametrize(
    ("method", "options", "named"),
    [
        ("BFGS", dict(c1=0.9, c2=0.1), "c1.*c2"),
        ("BFGS", dict(hess_inv0=-np.eye(2)), "positive definite"),
        ("trust-ncg", dict(initial_trust_radius=2000.0), "max trust radius"),
        ("trust-exact", dict(eta=0.25), "stringency"),
        ("COBYQA", dict(final_tr_radius=2.0), "initial trust-region radius"),
    ],
)
def test_what_scipy_refuses_is_an_argument_error_that_names_the_options(method, options, named):
    closure = Rosenbrock()
    with pytest.raises(ArgumentError, match=rf"SciPy's {method} refused.*{named}.*{next(iter(options))}") as caught:
        _optimizer(closure, {"method": method, "options": options}).step(closure)
    assert isinstance(caught.value.__cause__, Exception)
    assert closure.p.tolist() == START


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("TNC", "scale", "wide"),
        ("BFGS", "hess_inv0", np.eye(3)),
        ("Nelder-Mead", "initial_simplex", np.zeros((2, 2))),
        ("Powell", "direc", np.eye(3)),
        ("L-BFGS-B", "maxcor", 10**10),
    ],
)
def test_a_wrong_type_shape_or_size_is_refused_before_any_work(method, option, value):
    with pytest.raises(ArgumentError, match=rf"{option}.* of {method} .*must"):
        _optimizer(Rosenbrock(), {"method": method, "options": {option: value}})


@pytest.mark.parametrize(
    ("hess", "message"),
    [(lambda x: int("seven"), "invalid literal"), (lambda x: scipy.linalg.expm(np.ones(3)), "array")],
    ids=["Python", "SciPy"],
)
def test_a_value_error_of_a_function_that_scipy_calls_stays_what_it_is(hess, message):
    closure = Rosenbrock()
    with pytest.raises(ValueError, match=message) as caught:
        _optimizer(closure, {"method": "trust-exact", "hess": hess}).step(closure)
    assert not isinstance(caught.value, ArgumentError)


def _raises_a_value_error(*args, **kwargs):
    return int("seven")


_BOX = [(-2.0, 2.0), (-2.0, 2.0)]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: MinimizeWrapper([p], dict(method="BFGS", jac=_raises_a_value_error)),
        lambda p: MinimizeWrapper([p], dict(method="trust-ncg", hessp=_raises_a_value_error)),
        lambda p: MinimizeWrapper(
            [p], dict(method="trust-constr", constraints=dict(type="ineq", fun=_raises_a_value_error))
        ),
        lambda p: MinimizeWrapper([p], dict(method="CG", callback=_raises_a_value_error)),
        lambda p: MinimizeWrapper([p], dict(method=_raises_a_value_error)),
        lambda p: LeastSquaresWrapper([p], dict(method="trf", loss=_raises_a_value_error)),
        lambda p: LeastSquaresWrapper([p], dict(method="trf", callback=_raises_a_value_error)),
        lambda p: BasinHoppingWrapper([p], None, dict(take_step=_raises_a_value_error)),
        lambda p: BasinHoppingWrapper([p], None, dict(accept_test=_raises_a_value_error)),
        lambda p: BasinHoppingWrapper([p], dict(method=_raises_a_value_error)),
        lambda p: BasinHoppingWrapper([p], None, dict(callback=_raises_a_value_error)),
        lambda p: DifferentialEvolutionWrapper([p], dict(bounds=_BOX, strategy=_raises_a_value_error)),
        lambda p: DifferentialEvolutionWrapper([p], dict(bounds=_BOX, callback=_raises_a_value_error, maxiter=2)),
        lambda p: DifferentialEvolutionWrapper([p], dict(bounds=_BOX, polish=_raises_a_value_error, maxiter=2)),
        lambda p: DualAnnealingWrapper([p], None, dict(bounds=_BOX, callback=_raises_a_value_error)),
        lambda p: DirectWrapper([p], dict(bounds=_BOX, callback=_raises_a_value_error)),
        lambda p: SHGOWrapper([p], None, dict(bounds=_BOX, callback=_raises_a_value_error)),
        lambda p: BruteWrapper([p], dict(ranges=_BOX, Ns=3, finish=_raises_a_value_error)),
    ],
)
def test_an_error_of_a_users_function_stays_what_it_is_wherever_scipy_calls_it(make):
    p = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = make(p)
    residuals = lambda: torch.stack([1 - p[0], 10 * (p[1] - p[0] ** 2)])  # noqa: E731
    closure = residuals if isinstance(optimizer, LeastSquaresWrapper) else lambda: residuals().square().sum()
    with pytest.raises(ValueError, match="invalid literal") as caught:
        optimizer.step(closure)
    assert type(caught.value) is ValueError


def test_a_step_of_the_users_own_is_adapted_as_scipy_adapts_it():
    class Hop:
        stepsize = 0.5

        def __call__(self, x):
            return x + self.stepsize

    hop, p = Hop(), torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    search = BasinHoppingWrapper([p], None, dict(take_step=hop, niter=6, interval=2, rng=0))
    search.step(lambda: p.square().sum())
    assert hop.stepsize != 0.5


def test_the_loss_is_that_of_the_end_point_after_a_failed_line_search():
    closure = Rosenbrock()
    optimizer = _optimizer(closure, {"method": "L-BFGS-B", "options": {"maxls": 1}})
    returned = optimizer.step(closure)
    assert not optimizer.result.success
    assert closure.p.tolist() == START
    assert float(returned) == optimizer.result.fun == pytest.approx(scipy.optimize.rosen(START))


@pytest.mark.parametrize("method", METHODS)
def test_a_callback_that_moves_the_parameters_does_not_mislead_the_method(method):
    def run(callbacks, **arguments):
        x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
        optimizer = MinimizeWrapper(
            [x], dict(method=method, options=dict(maxiter=25), **arguments), callbacks=callbacks(x)
        )
        optimizer.step(lambda: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())
        return optimizer

    class Meddler:
        def __init__(self, x):
            self.x = x

        def __call__(self, event):
            self.x.data.fill_(7.0)

        on_evaluation = __call__

    left_alone = run(lambda x: [])
    meddled = run(lambda x: [Meddler(x)])
    assert np.array_equal(meddled.history.loss, left_alone.history.loss)
    assert np.array_equal(meddled.result.x, left_alone.result.x)
    assert meddled.history.totals.nfev == left_alone.history.totals.nfev


# Message, status and success say the same


def _require_agreement(result):
    """No success under a failing status, no word of success where there is none, and no success without a loss."""
    claims = "success" in result.message.lower().replace("unsuccess", "")
    assert not (claims and not result.success), (result.success, result.status, result.message)
    assert result.success or result.status != 0
    assert result.status != 110 or not result.success
    if result.success:
        assert math.isfinite(result.fun)


@pytest.mark.filterwarnings("ignore::torchmin_nb.errors.StartWarning")
@pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")
@EACH
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(("dtype", "factor"), [(torch.float32, 1e30), (torch.float64, 1e150), (torch.float64, 1e30)])
def test_message_status_and_success_agree_where_the_loss_overflows(method, n, dtype, factor):
    x = torch.nn.Parameter(torch.full((n,), 1 / factor, dtype=dtype))
    optimizer = MinimizeWrapper([x], {"method": method, "options": {"maxiter": 40}}, start_check=False)
    optimizer.step(lambda: ((x * factor - 3) ** 2).sum())
    result, history = optimizer.result, optimizer.history
    _require_agreement(result)
    assert math.isfinite(result.fun)
    assert (history.success, history.status, history.message) == (result.success, result.status, result.message)


def test_an_end_where_the_loss_is_not_finite_is_no_success():
    """SLSQP goes 1e60 far, to a loss that float32 cannot hold, and says that all is well."""
    x = torch.nn.Parameter(torch.tensor([1e-30]))
    optimizer = MinimizeWrapper([x], "SLSQP")
    optimizer.step(lambda: ((x * 1e30 - 3) ** 2).sum())
    result = optimizer.result
    assert (result.success, result.status) == (False, 110)
    assert result.message == "SciPy ended where the loss is not finite; the best point seen is kept."
    assert result.fun == pytest.approx(4)


CONTRADICTIONS = [
    ({"success": False}, (False, 1, "")),
    ({"success": False, "message": "Optimization terminated successfully"}, (False, 1, "The method did not converge.")),
    (
        {"success": False, "status": 0, "message": "Successful"},
        (False, 111, "The method did not converge."),
    ),
    ({"success": False, "status": 7, "message": "unsuccessful"}, (False, 7, "unsuccessful")),
    ({"status": 3, "message": "gave up"}, (False, 3, "gave up")),
    ({"status": 0}, (True, 0, "")),
    ({}, (True, 0, "")),
    ({"success": True, "status": 2, "message": "converged"}, (True, 2, "converged")),
]


@pytest.mark.filterwarnings("ignore:solver reports success at the start:torchmin_nb.errors.StartWarning")
@pytest.mark.parametrize(("said", "expected"), CONTRADICTIONS)
def test_what_a_method_of_ones_own_says_is_made_to_agree(said, expected):
    def solver(fun, x0, **kwargs):
        return scipy.optimize.OptimizeResult(x=x0, fun=fun(x0), **said)

    closure = Rosenbrock()
    optimizer = MinimizeWrapper([closure.p], solver)
    optimizer.step(closure)
    result = optimizer.result
    assert (result.success, result.status, result.message) == expected


def test_basinhopping_whose_descents_fail_does_not_speak_of_success():
    closure = Rosenbrock()
    local = {"method": "BFGS", "options": {"maxiter": 1}}
    optimizer = BasinHoppingWrapper([closure.p], local, {"niter": 2, "rng": 1})
    optimizer.step(closure)
    result = optimizer.result
    assert not result.success
    assert result.status == 1
    assert result.message == "The lowest local search did not converge: Maximum number of iterations has been exceeded."


def test_a_search_cut_short_has_a_status_that_is_no_success():
    closure = Rosenbrock()
    kwargs = {"bounds": [(-2, 2)] * 2, "maxiter": 1, "polish": False, "rng": 1}
    optimizer = DifferentialEvolutionWrapper([closure.p], kwargs)
    optimizer.step(closure)
    assert (optimizer.result.success, optimizer.result.status) == (False, 1)


# Constraints alone are work too

INFEASIBLE = {
    "ours": lambda: Constraint(lambda x: x.sum(), lower=100),
    "dict": lambda: {"type": "ineq", "fun": lambda x: x.sum() - 100},
    "NonlinearConstraint": lambda: scipy.optimize.NonlinearConstraint(lambda x: x.sum(), 100, np.inf),
    "LinearConstraint": lambda: scipy.optimize.LinearConstraint([[1, 1]], 100, np.inf),
}


@pytest.mark.parametrize("kind", INFEASIBLE)
@pytest.mark.parametrize("how", ["max_seconds", "stop"])
def test_a_run_ends_while_scipy_evaluates_constraints_only(kind, how):
    """Without a feasible point differential evolution asks for no loss at all; it would go on for 10⁵ generations."""
    closure = Rosenbrock()
    kwargs = {"bounds": [(-2, 2)] * 2, "maxiter": 100_000, "tol": 0, "constraints": INFEASIBLE[kind](), "rng": 1}
    budget = {"max_seconds": 0.2} if how == "max_seconds" else {}
    optimizer = DifferentialEvolutionWrapper([closure.p], kwargs, **budget)
    if how == "stop":
        run = optimizer.start(closure)
        run.pause()
        assert run.wait_until_paused(60)
        run.stop()
        result = run.wait(60)
    else:
        optimizer.step(closure)
        result = optimizer.result
    assert result.status == (103 if how == "max_seconds" else 99)
    assert closure.calls < 10


def test_max_seconds_is_seen_between_two_constraints():
    """Each call of the constraint takes longer than the budget: there is one after the start, and no more."""
    closure, calls = Rosenbrock(), []

    def constraint():
        calls.append(closure.calls)
        time.sleep(0.03 if closure.calls else 0)
        return closure.p.sum()

    arguments = {"method": "COBYLA", "constraints": Constraint(constraint, upper=0)}
    optimizer = MinimizeWrapper([closure.p], arguments, max_seconds=0.02)
    optimizer.step(closure)
    assert optimizer.result.status == 103
    assert sum(made > 0 for made in calls) <= 2


# Memory


def _fit_closure(x):
    return lambda: torch.stack([1 - x[0], 10 * (x[1] - x[0] ** 2)])


def _run_in_a_thread(optimizer, closure):
    optimizer.start(closure).wait(60)


def _fails(optimizer, closure):
    calls = []

    def failing():
        calls.append(None)
        if len(calls) == 8:
            raise UserError
        return closure()

    with pytest.raises(UserError):
        optimizer.step(failing)


def _refused(optimizer, closure):
    optimizer.callbacks = [Calls("on_start")]
    with pytest.raises(UserError):
        optimizer.step(closure)


WAYS = {
    "step": lambda optimizer, closure: optimizer.step(closure),
    "start": _run_in_a_thread,
    "failure": _fails,
    "refused": _refused,
    "covariance": lambda optimizer, closure: optimizer.covariance(lambda: torch.cat([closure(), closure()])),
    "covariance of the run": lambda optimizer, closure: (optimizer.step(closure), optimizer.check(closure)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("callbacks", [(), (lambda iteration: None,)], ids=["alone", "watched"])
@pytest.mark.parametrize(
    ("method", "jacobian"),
    [("lm", "dense"), ("trf", "dense"), ("dogbox", "dense"), ("trf", "operator"), ("dogbox", "operator")],
)
@pytest.mark.crossed
def test_least_squares_leave_the_model_to_be_freed(method, jacobian, callbacks, way):
    x = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    alive = weakref.ref(x)
    optimizer = LeastSquaresWrapper([x], method, jacobian=jacobian, callbacks=callbacks)
    gc.collect()
    gc.disable()
    try:
        WAYS[way](optimizer, _fit_closure(x))
        result, history = optimizer.result, optimizer.history
        del optimizer, x
        assert alive() is None
        assert (result is None) == (way in ("refused", "covariance"))
        assert history is not None
    finally:
        gc.enable()
