"""Methods of the user's own: registered, run by name, and refused where they are wrong."""

import numpy as np
import pytest
import scipy.optimize
import torch
from scipy.optimize import OptimizeResult, rosen, rosen_der, rosen_hess

from torchmin_nb import METHODS, MinimizeWrapper, method, minimize
from torchmin_nb.core.methods.local import OWN_METHODS, find_method
from torchmin_nb.core.methods.user import NEEDS, unregister
from torchmin_nb.errors import (
    ArgumentError,
    ArgumentTypeError,
    MemoryBudgetError,
    TorchminError,
    UnknownMethodError,
    UnknownOptionError,
)

X0 = np.array([-1.2, 1.0])


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.fixture(autouse=True)
def _no_methods_left():
    yield
    for name in list(OWN_METHODS):
        unregister(name)


def newton(fun, x0, grad, hess, *, tol=1e-9):
    """Newton's method, undamped."""
    x = x0
    while np.linalg.norm(grad(x)) > tol:
        x = x - np.linalg.solve(hess(x), grad(x))
        yield x
    return "The gradient vanishes."


def newton_iterates():
    """The same by SciPy's own derivatives."""
    points = [X0]
    while np.linalg.norm(rosen_der(points[-1])) > 1e-9:
        points.append(points[-1] - np.linalg.solve(rosen_hess(points[-1]), rosen_der(points[-1])))
    return np.array(points)


def optimizer_of(name, start=X0, **common):
    x = torch.nn.Parameter(torch.tensor(start))
    optimizer = MinimizeWrapper([x], name, **common)
    optimizer.step(lambda: rosenbrock(x))
    return optimizer


def test_each_yield_is_an_iteration():
    method("My-Newton")(newton)
    optimizer = optimizer_of("my-newton", keep_parameters=True)
    oracle = newton_iterates()
    np.testing.assert_allclose(optimizer.history.parameters, oracle, rtol=1e-9)
    np.testing.assert_allclose(optimizer.history.loss, [rosen(x) for x in oracle], rtol=1e-7, atol=1e-15)
    assert optimizer.result.nit == len(oracle) - 1 == optimizer.history[-1].index
    assert optimizer.result.message == "The gradient vanishes."
    assert optimizer.history.method == "My-Newton"


def test_a_custom_method_of_scipy_runs_as_scipy_runs_it():
    def descent(fun, x0, args=(), *, jac=None, callback=None, rate=1e-3, **options):
        x = x0
        for nit in range(1, 31):  # noqa: B007
            x = x - rate * jac(x)
            if callback is not None:
                callback(x)
        return OptimizeResult(x=x, fun=fun(x), nit=nit, success=True, status=0, message="")

    method("descent")(descent)
    ours = minimize(rosenbrock, torch.tensor(X0), "descent", options={"rate": 5e-4})
    theirs = scipy.optimize.minimize(rosen, X0, jac=rosen_der, method=descent, options={"rate": 5e-4})
    np.testing.assert_allclose(ours.x.numpy(), theirs.x, rtol=1e-10)
    assert len(ours.history) == 31


@pytest.mark.filterwarnings("ignore:still reports success at the start:torchmin_nb.errors.StartWarning")
@pytest.mark.parametrize(
    ("needs", "level"),
    [("loss", "value"), ("gradient", "gradient"), ("products", "curvature"), ("hessian", "curvature")],
)
def test_what_it_needs_decides_what_is_computed(needs, level):
    @method("still", needs=needs)
    def still(fun, x0, **given):
        assert (given["grad"] is None) == (needs == "loss")
        yield x0

    assert set(NEEDS) == {"loss", "gradient", "products", "hessian"}
    assert find_method("still").level == level
    optimizer_of("still")


@pytest.mark.parametrize(
    ("function", "implied"),
    [
        (lambda fun, x0: iter([x0]), "loss"),
        (lambda fun, x0, **options: None, "gradient"),
        (newton, "hessian"),
    ],
    ids=["of the loss alone", "as SciPy", "newton"],
)
def test_parameters_imply_what_is_needed(function, implied):
    method("named")(function)
    spec = OWN_METHODS["named"]
    assert (spec.gradient, spec.curvature) == NEEDS[implied]


def test_options_come_from_the_signature():
    method("my-newton")(newton)
    spec = OWN_METHODS["my-newton"]
    assert {"tol", "maxiter", "disp"} == set(spec.options)
    assert spec.options["tol"].default == 1e-9
    assert spec.summary == "Newton's method, undamped."
    short = optimizer_of(dict(method="my-newton", options={"maxiter": 2}))
    assert short.history[-1].index == 2
    with pytest.raises(UnknownOptionError, match="my-newton has no option 'rate'; it has disp, maxiter, tol"):
        optimizer_of(dict(method="my-newton", options={"rate": 1}))
    with pytest.raises(ArgumentError, match="must be a number"):
        optimizer_of(dict(method="my-newton", options={"tol": "small"}))


def test_registering_again_replaces():
    method("mine")(newton)
    assert len(optimizer_of("mine").history) > 2

    @method("mine")
    def _(fun, x0):
        yield x0

    assert len(optimizer_of("mine").history) == 2
    assert list(OWN_METHODS) == ["mine"]
    unregister("mine")
    with pytest.raises(UnknownMethodError):
        find_method("mine")
    with pytest.raises(UnknownMethodError, match="registered are none"):
        unregister("mine")


@pytest.mark.parametrize("name", [*METHODS, "bfgs", " ", ""])
def test_the_names_of_scipys_methods_are_kept(name):
    with pytest.raises(ArgumentError, match="choose another"):
        method(name)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: method(newton), 'write @method\\("my-method"\\)'),
        (lambda: method("mine", needs="luck"), "choose one of loss, gradient, products, hessian"),
        (lambda: method("mine")(3), "goes above a function"),
        (lambda: method("mine")(lambda x: x), "must take fun and x0 first"),
        (lambda: method("mine")(lambda fun, x0, rate: x0), "'rate' of 'mine' has no default"),
    ],
)
def test_wrong_use_names_the_remedy(use, words):
    with pytest.raises(TorchminError, match=words):
        use()
    assert not OWN_METHODS


@pytest.mark.parametrize(
    ("yielded", "error", "words"),
    [
        (np.zeros(3), ArgumentError, r"shape \(3,\); yield finite numbers of shape \(2,\)"),
        (np.array([np.nan, 0]), ArgumentError, "NaN or infinity"),
        ("x", ArgumentTypeError, "yielded 'x'"),
        (None, TorchminError, "yield"),
    ],
)
def test_what_is_no_iterate_is_refused(yielded, error, words):
    @method("wrong")
    def wrong(fun, x0):
        yield yielded

    with pytest.raises(error, match=words):
        optimizer_of("wrong")


def test_bounds_are_refused_unless_the_method_heeds_them():
    method("open")(newton)
    with pytest.raises(ArgumentError, match="open cannot take bounds"):
        optimizer_of(dict(method="open", bounds=[(-2, 2)] * 2))

    @method("boxed")
    def boxed(fun, x0, grad, bounds=None):
        for _ in range(5):
            x0 = np.clip(x0 - 1e-3 * grad(x0), bounds.lb, bounds.ub)
            yield x0

    result = optimizer_of(dict(method="boxed", bounds=[(-1.5, -1.1), (0, 1)]), start=[-1.2, 1.0]).result
    np.testing.assert_allclose(result.x, [-1.1, 1.0])


def test_a_dense_hessian_has_to_fit():
    method("my-newton")(newton)
    with pytest.raises(MemoryBudgetError, match="my-newton needs about"):
        optimizer_of("my-newton", memory_budget=10)


def test_budgets_end_it():
    @method("endless")
    def endless(fun, x0, grad):
        while True:
            x0 = x0 - 1e-4 * grad(x0)
            yield x0

    assert optimizer_of("endless", max_evaluations=7).history.totals.nfev == 7
    assert optimizer_of(dict(method="endless", options={"maxiter": 4})).history[-1].index == 4
