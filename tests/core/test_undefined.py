"""Trials at which the loss is not defined: constants without a graph, and errors that stand for NaN.

The oracle is the same run with a loss that is NaN there and has a graph: what a method is shown must not differ.
"""

import math
import warnings
from functools import cache

import numpy as np
import pytest
import torch

from torchmin_nb import (
    METHODS,
    BasinHoppingWrapper,
    BruteWrapper,
    Constraint,
    DifferentialEvolutionWrapper,
    DirectWrapper,
    DualAnnealingWrapper,
    History,
    HistoryFile,
    LeastSquaresWrapper,
    MinimizeWrapper,
    SHGOWrapper,
    minimize,
    observe,
)
from torchmin_nb.errors import ArgumentTypeError, ClosureError, ClosureWarning, ConstantLossError, NonFiniteStartError

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in scalar:RuntimeWarning:scipy")

EACH = pytest.mark.parametrize("method", METHODS)
GRADIENT = [name for name, spec in METHODS.items() if spec.gradient != "none"]
SECOND_ORDER = [name for name, spec in METHODS.items() if spec.curvature != "none"]
START = (-1.2, 1.0)


def _leaf(*values, dtype=torch.float64):
    return torch.nn.Parameter(torch.tensor(values, dtype=dtype))


def _rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def _fail():
    return torch.linalg.cholesky(-torch.eye(2))


NONFINITE = {
    "NaN tensor": lambda: torch.tensor(math.nan),
    "inf tensor of one entry": lambda: torch.tensor([math.inf], dtype=torch.float64),
    "-inf": lambda: torch.tensor(-math.inf),
    "float NaN": lambda: math.nan,
    "numpy inf": lambda: np.float32(np.inf),
    "NaN with a graph elsewhere": lambda: torch.tensor(math.nan, requires_grad=True) * 2,
    "LinAlgError": _fail,
}
FINITE = {
    "1e6 tensor": lambda: torch.tensor(1e6),
    "float": lambda: 1e6,
    "integer": lambda: 10**6,
    "lower than any loss": lambda: torch.tensor(-5.0, dtype=torch.float64),
    "a graph elsewhere": lambda: torch.tensor(-7.0, requires_grad=True) * 2,
}
ALL = NONFINITE | FINITE


class Answering:
    """Rosenbrock's function, but for the second and third point: those are answered otherwise.

    backward: the closure calls it, and returns early, without it, where it answers otherwise.
    """

    def __init__(self, x, answer, *, backward=False):
        self.x, self.answer, self.backward, self.calls = x, answer, backward, {}

    def __call__(self):
        index = self.calls.setdefault(self.x.detach().numpy().tobytes(), len(self.calls))
        if index in (1, 2):
            return self.answer()
        loss = _rosenbrock(self.x)
        if self.backward:
            loss.backward()
        return loss

    def undefined(self, x):
        return self.calls.get(x.tobytes()) in (1, 2)


def _run(closure, arguments, **kwargs):
    """The optimizer after a run, and its ClosureWarnings."""
    optimizer = MinimizeWrapper(
        [closure.x], arguments, max_evaluations=300, keep_evaluations=True, start_check=False, **kwargs
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer.step(closure)
    return optimizer, [each for each in caught if issubclass(each.category, ClosureWarning)]


@cache
def _reference(arguments, **kwargs):
    x = _leaf(*START)
    return _run(Answering(x, lambda: _rosenbrock(x) * torch.nan), arguments, **kwargs)[0].result


def _require_same_run(optimizer, closure, reference):
    result = optimizer.result
    np.testing.assert_allclose(result.x, reference.x, rtol=1e-12)
    assert (result.success, result.status, result.nit) == (reference.success, reference.status, reference.nit)
    assert not closure.undefined(closure.x.detach().numpy())
    assert result.fun == pytest.approx(float(_rosenbrock(closure.x.detach())), rel=1e-12)
    assert np.isfinite(optimizer.history.loss).all()


@pytest.mark.parametrize("backward", [False, True], ids=["returned", "backward inside"])
@pytest.mark.parametrize("answer", NONFINITE)
@EACH
@pytest.mark.crossed
def test_a_loss_that_is_not_finite_needs_no_graph(method, answer, backward):
    closure = Answering(_leaf(*START), NONFINITE[answer], backward=backward and method in GRADIENT)
    optimizer, warned = _run(closure, method)
    _require_same_run(optimizer, closure, _reference(method))
    assert not warned
    assert not any(math.isfinite(each.loss) for each in optimizer.history.evaluations if each.index in (1, 2))


@pytest.mark.parametrize("backward", [False, True], ids=["returned", "backward inside"])
@pytest.mark.parametrize("answer", FINITE)
@pytest.mark.parametrize("method", GRADIENT)
@pytest.mark.crossed
def test_a_finite_constant_is_a_rejected_trial(method, answer, backward):
    closure = Answering(_leaf(*START), FINITE[answer], backward=backward)
    optimizer, warned = _run(closure, method)
    _require_same_run(optimizer, closure, _reference(method))
    assert len(warned) == 1
    assert "constant" in str(warned[0].message)
    told = [each.loss for each in optimizer.history.evaluations if each.index in (1, 2)]
    assert (
        told == [torch.as_tensor(FINITE[answer]()).item()] * 2
    )  # what the closure said, not what the method was shown


@pytest.mark.parametrize("answer", ["1e6 tensor", "float", "integer"])
@pytest.mark.parametrize("method", [name for name in METHODS if name not in GRADIENT])
@pytest.mark.crossed
def test_a_number_is_an_ordinary_loss_without_gradients(method, answer):
    x = _leaf(*START)
    outside = {"hit": False}

    def closure():
        outside["hit"] |= bool(x.detach().norm() > 1.6)
        return FINITE[answer]() if x.detach().norm() > 1.6 else _rosenbrock(x).item()

    optimizer = MinimizeWrapper([x], method, max_evaluations=400)
    optimizer.step(closure)
    assert outside["hit"]
    assert optimizer.result.fun < 0.2


@pytest.mark.parametrize("answer", ["NaN tensor", "LinAlgError", "1e6 tensor"])
@pytest.mark.parametrize("form", ["float32", "jac", "finite-difference", "2-point"])
def test_other_ways_to_a_derivative(form, answer):
    """The wall lies across the way: 1.2 above the valley, and hides the point one step along the gradient."""
    if form == "jac" and answer in FINITE:
        pytest.skip("with jac= a closure need have no graph: a number is its loss")
    x = _leaf(*START, dtype=torch.float32 if form == "float32" else torch.float64)

    def jac(at):
        if at[1] > 1.1:
            raise torch.linalg.LinAlgError("jac must not be asked beyond the wall")
        return np.array([-2 * (1 - at[0]) - 400 * at[0] * (at[1] - at[0] ** 2), 200 * (at[1] - at[0] ** 2)])

    extra = {"jac": {"jac": jac}, "2-point": {"jac": "2-point"}}.get(form, {})
    method = "trust-ncg" if form == "finite-difference" else "L-BFGS-B"
    curvature = "finite-difference" if form == "finite-difference" else "autograd"
    optimizer = MinimizeWrapper([x], {"method": method, **extra}, curvature=curvature, max_evaluations=400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        optimizer.step(lambda: ALL[answer]() if float(x.detach()[1]) > 1.1 else _rosenbrock(x))
    assert optimizer.result.fun < 1e-2
    assert optimizer.result.fun == pytest.approx(float(_rosenbrock(x.detach())), rel=1e-3, abs=1e-7)


def test_a_product_of_differences_at_the_edge_takes_the_side_that_is_defined():
    """H of x³ at 1 is 6; the loss is not defined beyond 1."""
    from torchmin_nb.core.autodiff.hessian import finite_difference_product

    def gradient(x):
        return np.where(x > 1, np.nan, 3 * x**2)

    product = finite_difference_product(gradient, np.ones(1), np.ones(1), 2.0**-52)
    np.testing.assert_allclose(product, 6, rtol=1e-4)


@pytest.mark.parametrize("answer", ["NaN tensor", "float NaN", "-inf"])
@EACH
def test_the_start_must_be_finite(method, answer):
    x = _leaf(*START)
    with pytest.raises(NonFiniteStartError):
        MinimizeWrapper([x], method).step(NONFINITE[answer])
    assert x.tolist() == list(START)


@pytest.mark.parametrize("answer", FINITE)
@pytest.mark.parametrize("method", GRADIENT)
def test_a_constant_at_the_start_is_an_error(method, answer):
    with pytest.raises(ClosureError, match=r"gave no gradient|does not depend"):
        MinimizeWrapper([_leaf(*START)], method).step(FINITE[answer])


def test_where_warnings_are_errors_the_constant_is_one():
    closure = Answering(_leaf(*START), FINITE["float"])
    optimizer = MinimizeWrapper([closure.x], "BFGS", start_check=False)
    with pytest.raises(ClosureWarning):
        optimizer.step(closure)


def test_each_run_warns_once():
    closure = Answering(_leaf(*START), FINITE["float"])
    assert len(_run(closure, "BFGS")[1]) == 1
    with torch.no_grad():
        closure.x.copy_(torch.tensor(START))
    closure.calls.clear()
    assert len(_run(closure, "BFGS")[1]) == 1


def test_a_function_of_x_too():
    def fun(x):
        return math.inf if x.detach().norm() > 1.6 else _rosenbrock(x)

    result = minimize(fun, torch.tensor(START, dtype=torch.float64), "BFGS")
    np.testing.assert_allclose(result.x, [1, 1], atol=1e-4)


def test_an_observed_optimizer_ends_where_its_loss_is_nan():
    x = _leaf(1.0)
    run = observe(torch.optim.SGD([x], lr=0.1), lambda: (x**2).sum() if x.detach() > 0.7 else math.nan, steps=9)
    assert run.wait(60).status == 109
    assert x.item() == pytest.approx(0.8)


# Global searches

BOX = [(-3.0, 3.0)] * 2
LOCAL = ("L-BFGS-B", "trust-exact")
SEARCHES = {
    "basinhopping": lambda x, local: BasinHoppingWrapper([x], local, {"niter": 12, "rng": 1, "stepsize": 1.5}),
    "dual_annealing": lambda x, local: DualAnnealingWrapper([x], local, {"bounds": BOX, "maxiter": 30, "rng": 1}),
    "shgo": lambda x, local: SHGOWrapper([x], local, {"bounds": BOX, "n": 32, "sampling_method": "sobol"}),
    "brute": lambda x, local: BruteWrapper([x], {"ranges": (-3, 3), "Ns": 8, "finish": local}),
    "differential_evolution": lambda x, local: DifferentialEvolutionWrapper(
        [x], {"bounds": BOX, "maxiter": 12, "rng": 1, "polish": local}
    ),
}
WITHOUT_GRADIENT = {
    "direct": lambda x: DirectWrapper([x], {"bounds": BOX, "maxiter": 60}),
    "differential_evolution": lambda x: DifferentialEvolutionWrapper([x], {"bounds": BOX, "rng": 1, "polish": False}),
}


def _bumpy(x):
    """Many minima; the lowest is 0 at (½, ½)."""
    return ((x - 0.5) ** 2).sum() + (1 - torch.cos(3 * (x - 0.5))).sum()


def _search(optimizer, x, answer, beyond):
    calls = {"outside": 0}

    def closure():
        if beyond(x.detach()):
            calls["outside"] += 1
            return answer()
        return _bumpy(x)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ClosureWarning)
        optimizer.step(closure)
    return calls["outside"], [each for each in caught if issubclass(each.category, ClosureWarning)]


@pytest.mark.parametrize(
    "answer", ["NaN tensor", "float NaN", "-inf", "LinAlgError", "1e6 tensor", "lower than any loss"]
)
@pytest.mark.parametrize("local", LOCAL)
@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_goes_on_where_a_descent_meets_no_gradient(search, local, answer):
    """The domain ends close to the minimum, so that descents and samples leave it."""
    x = _leaf(-0.3, 0.1)
    optimizer = SEARCHES[search](x, local)
    outside, warned = _search(optimizer, x, ALL[answer], lambda at: bool(at[0] > 0.6))
    assert outside
    np.testing.assert_allclose(x.detach(), [0.5, 0.5], atol=1e-3)
    assert optimizer.result.fun == pytest.approx(float(_bumpy(x.detach())), abs=1e-9)
    assert len(warned) == (answer in FINITE)
    assert bool(optimizer.history.errors) == (answer == "LinAlgError")


@pytest.mark.parametrize("search", WITHOUT_GRADIENT)
def test_a_search_without_gradients_takes_numbers_as_losses(search):
    x = _leaf(-0.3, 0.1)
    optimizer = WITHOUT_GRADIENT[search](x)
    outside, warned = _search(optimizer, x, lambda: -5.0, lambda at: bool(at[0] > 0.6))
    assert outside
    assert not warned
    assert optimizer.result.fun == -5


def test_a_population_with_an_error_is_evaluated_point_by_point():
    """A batched factorisation fails as a whole for one bad matrix."""
    x, called = _leaf(0.2, 0.3), []

    def loss(parameters):
        (at,) = parameters
        called.append(at.dim())
        torch.linalg.cholesky(torch.eye(2, dtype=at.dtype) * (1.5 - at[0]))  # not positive definite beyond 1.5
        return ((at - 0.5) ** 2).sum()

    kwargs = {"bounds": BOX, "maxiter": 40, "rng": 1, "polish": False, "popsize": 20}
    optimizer = DifferentialEvolutionWrapper([x], kwargs, loss=loss)
    optimizer.step()
    np.testing.assert_allclose(x.detach(), [0.5, 0.5], atol=1e-2)
    assert optimizer.history.errors["LinAlgError"] > 0
    assert optimizer.history.totals.nfev > len(called)  # later generations are evaluated together again


# Least squares

VECTORS = {
    "NaN vector": (lambda x: torch.full((2,), math.nan, dtype=torch.float64), False),
    "one infinity": (lambda x: torch.tensor([1.0, math.inf]), False),
    "another length": (lambda x: torch.tensor([math.nan]), False),
    "another length with a graph": (lambda x: x.sum().reshape(1) * math.nan, False),
    "float NaN": (lambda x: math.nan, False),
    "LinAlgError": (lambda x: _fail(), False),
    "constants": (lambda x: torch.full((2,), 1e6), True),
    "a scalar": (lambda x: torch.tensor(1e6), True),
    "a number": (lambda x: 1e6, True),
    "lower than any": (lambda x: torch.zeros(2, dtype=torch.float64), True),
    "numpy": (lambda x: np.array([1e6, 1.0]), True),
}


def _residuals(x):
    return torch.stack([1 - x[0], 10 * (x[1] - x[0] ** 2)])


def _fit(arguments, answer, **kwargs):
    """A run whose second and third closure call are answered otherwise."""
    x, calls = _leaf(*START), []

    def closure():
        calls.append(None)
        return answer(x) if len(calls) in (2, 3) else _residuals(x)

    optimizer = LeastSquaresWrapper([x], arguments, start_check=False, **kwargs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ClosureWarning)
        optimizer.step(closure)
    return optimizer.result, optimizer.history, [each for each in caught if issubclass(each.category, ClosureWarning)]


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize(
    ("method", "jacobian"), [("lm", "dense"), ("trf", "dense"), ("dogbox", "dense"), ("trf", "operator")]
)
def test_residuals_that_are_not_defined_are_a_rejected_trial(method, jacobian, vector):
    answer, constant = VECTORS[vector]
    result, history, warned = _fit(method, answer, jacobian=jacobian)
    expected, *_ = _fit(method, lambda x: _residuals(x) * math.nan, jacobian=jacobian)
    np.testing.assert_array_equal(result.x, expected.x)
    assert (result.status, result.nit) == (expected.status, expected.nit)
    assert result.cost < 1e-12
    assert len(warned) == constant
    assert history.errors == ({"LinAlgError": 2} if vector == "LinAlgError" else {})


@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: torch.full((2,), math.nan), NonFiniteStartError),
        (lambda: torch.full((2,), 1.0), ClosureError),
        (_fail, torch.linalg.LinAlgError),
    ],
)
def test_the_start_of_a_fit_must_be_defined(method, answer, error):
    with pytest.raises(error):
        LeastSquaresWrapper([_leaf(*START)], method).step(answer)


def test_residuals_of_another_length_are_still_an_error():
    with pytest.raises(ClosureError, match="returned 3 residuals, but 2 at the start"):
        _fit("trf", lambda x: torch.cat([_residuals(x), x[:1]]))


# Errors that stand for NaN


class DomainError(Exception):
    pass


def _raises(error):
    def answer():
        raise error

    return answer


@pytest.mark.parametrize(
    ("classes", "error", "name"),
    [
        ((DomainError,), DomainError(), "DomainError"),
        (DomainError, DomainError(), "DomainError"),
        ([np.linalg.LinAlgError, ZeroDivisionError], np.linalg.LinAlgError(), "LinAlgError"),
        ((ArithmeticError,), ZeroDivisionError(), "ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize("method", ["BFGS", "trust-exact", "Nelder-Mead"])
def test_the_users_own_errors_stand_for_nan(method, classes, error, name):
    closure = Answering(_leaf(*START), _raises(error))
    optimizer, _ = _run(closure, method, nonfinite_errors=classes)
    _require_same_run(optimizer, closure, _reference(method))
    count = sum(math.isnan(each.loss) for each in optimizer.history.evaluations)
    assert optimizer.history.errors == {name: count}
    assert optimizer.history[-1].rejected_errors == count > 0


@pytest.mark.parametrize(
    ("classes", "error"),
    [
        ((), torch.linalg.LinAlgError("mine")),
        ((DomainError,), torch.linalg.LinAlgError("mine")),
        ((torch.linalg.LinAlgError,), np.linalg.LinAlgError("mine")),
        ((Exception,), KeyboardInterrupt()),
        ((Exception,), ClosureError("ours is no trial")),
    ],
)
def test_other_errors_are_raised(classes, error):
    closure = Answering(_leaf(*START), _raises(error))
    with pytest.raises(type(error)) as caught:
        MinimizeWrapper([closure.x], "BFGS", start_check=False, nonfinite_errors=classes).step(closure)
    assert caught.value is error


@EACH
def test_the_error_at_the_start_is_raised_unchanged(method):
    error = torch.linalg.LinAlgError("at the start")
    with pytest.raises(torch.linalg.LinAlgError) as caught:
        MinimizeWrapper([_leaf(*START)], method).step(_raises(error))
    assert caught.value is error


@pytest.mark.parametrize(
    "value", [None, 3, "LinAlgError", ("LinAlgError",), (KeyboardInterrupt,), (DomainError(),), int]
)
def test_classes_that_are_none_are_refused(value):
    with pytest.raises(ArgumentTypeError, match="nonfinite_errors") as caught:
        LeastSquaresWrapper([_leaf(*START)], nonfinite_errors=value)
    assert "LinAlgError,)" in str(caught.value)


@pytest.mark.filterwarnings("ignore:trust-constr reports success:torchmin_nb.errors.ConvergenceWarning")
@pytest.mark.parametrize("method", ["SLSQP", "trust-constr", "COBYLA", "COBYQA"])
def test_a_constraint_may_fail_so_too(method):
    x, raised = _leaf(0.5), []

    def constraint():
        if x.detach() > 3:
            raised.append(float(x.detach()))
            raise torch.linalg.LinAlgError("beyond 3")
        return x

    arguments = {"method": method, "constraints": Constraint(constraint, upper=1.5)}
    optimizer = MinimizeWrapper([x], arguments, max_evaluations=100)
    optimizer.step(lambda: (x - 2).square().sum() * (50 if method != "COBYLA" else 1))
    assert x.item() == pytest.approx(1.5, abs=1e-3)
    assert optimizer.history.errors == ({"LinAlgError": len(raised)} if raised else {})


@pytest.fixture
def history():
    """A run with two errors, and one of another kind."""
    errors = iter([torch.linalg.LinAlgError("a"), DomainError("b")])
    closure = Answering(_leaf(*START), lambda: _raises(next(errors))())
    kwargs = {"nonfinite_errors": (torch.linalg.LinAlgError, DomainError)}
    return _run(closure, "BFGS", **kwargs)[0].history


def test_the_history_counts_and_names_them(history):
    assert history.errors == {"LinAlgError": 1, "DomainError": 1}
    assert history.rejected_errors.dtype == np.int64
    assert history.rejected_errors[0] == 0
    assert history.rejected_errors[-1] == 2
    assert list(history.to_dataframe()["rejected_errors"]) == list(history.rejected_errors)
    head, *rows = (line.split(",") for line in history.to_csv().splitlines())
    assert [int(row[head.index("rejected_errors")]) for row in rows] == list(history.rejected_errors)
    assert History.from_json(history.to_json()) == history
    assert History.from_json(history.to_json()).errors == history.errors


def test_a_history_of_an_older_version_has_none(history):
    import json

    stored = json.loads(history.to_json())
    del stored["errors"]
    for each in stored["iterations"]:
        del each["rejected_errors"]
    loaded = History.from_json(json.dumps(stored))
    assert loaded.errors == {}
    assert not loaded.rejected_errors.any()


def test_histories_add_them_up(history):
    both = history + history
    assert both.errors == {"LinAlgError": 2, "DomainError": 2}
    assert both[-1].rejected_errors == 4


def test_a_history_file_keeps_them(tmp_path):
    closure = Answering(_leaf(*START), _fail)
    optimizer, _ = _run(closure, "BFGS", callbacks=HistoryFile(tmp_path / "run.jsonl"))
    assert HistoryFile.read(tmp_path / "run.jsonl") == optimizer.history
    assert optimizer.history.errors["LinAlgError"] > 0


def test_a_constant_is_no_error_of_the_history():
    closure = Answering(_leaf(*START), FINITE["float"])
    optimizer, _ = _run(closure, "BFGS")
    assert optimizer.history.errors == {}
    assert isinstance(ConstantLossError("", 1.0), ClosureError)
