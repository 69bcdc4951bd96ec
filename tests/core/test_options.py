"""The values of options: what SciPy takes is taken, and nothing else gets as far as the first closure call."""

import inspect
import math
import re

import numpy as np
import pytest
import scipy.optimize
import torch

from tests.core.optimizers.global_search.searches import WRAPPERS, Loss, bowl, optimizer
from tests.core.scipys import LEAST_SQUARES_METHODS, METHODS
from tests.core.test_methods import SOLVERS, scipy_options
from tests.proof import some
from torchmin_nb import GLOBAL_METHODS, LeastSquaresWrapper, MinimizeWrapper
from torchmin_nb.core.methods.global_search import SHGO_OPTIONS
from torchmin_nb.errors import ArgumentError, TorchminError

NASTY = [
    *(10**400, -(10**400), 10**30, 2**31, 1e300, math.nan, math.inf, -math.inf, 0, -1, 1e-320, True),
    *("", b"x", [], {}, [None], object(), 1j, np.float64(2), np.int64(3), np.float32(1e-3)),
    *(np.array([1.0, 2.0]), np.zeros((2, 2)), np.array("a")),
]
BUDGET = {"max_evaluations": 30, "start_check": False}
QUIET = pytest.mark.filterwarnings("ignore")  # SciPy warns of some of them, and rightly


def ends_well(make, x, residuals=False):
    """The run works, or an error of the family is raised before the descent."""
    calls = []

    def closure():
        calls.append(1)
        loss = (1 - x[0]) ** 2 + 10 * (x[1] - x[0] ** 2) ** 2
        return torch.stack([1 - x[0], x[1] - x[0] ** 2, x.sum()]) if residuals else loss

    try:
        make().step(closure)
    except TorchminError:
        assert len(calls) <= 2


def parameter():
    return torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))


LOCAL = some(
    [(spec.name, row) for spec in METHODS.values() for row in spec.options.values()],
    lambda case: case[0],
    lambda case: (case[1].name, case[1].kind),
)


@QUIET
@pytest.mark.parametrize(("method", "row"), LOCAL, ids=[f"{method}-{row.name}" for method, row in LOCAL])
def test_any_value_of_an_option_of_minimize(method, row):
    differences = "2-point" if row.kind in ("step", "map") and row.name in METHODS[method].options else None
    jac = differences if "finite_diff_rel_step" in METHODS[method].options else None
    for value in NASTY:
        x = parameter()
        arguments = dict(method=method, options={row.name: value}, jac=jac)
        ends_well(lambda x=x, arguments=arguments: MinimizeWrapper([x], arguments, **BUDGET), x)


SQUARES = [(spec.name, row.name) for spec in LEAST_SQUARES_METHODS.values() for row in spec.options.values()]


@QUIET
@pytest.mark.parametrize(("method", "name"), SQUARES)
def test_any_value_of_an_option_of_least_squares(method, name):
    for value in NASTY:
        x = parameter()
        arguments = {"method": method, name: value}
        ends_well(lambda x=x, arguments=arguments: LeastSquaresWrapper([x], arguments, **BUDGET), x, residuals=True)


GLOBAL = [(name, row.name) for name, spec in GLOBAL_METHODS.items() for row in spec.options.values()]


@QUIET
@pytest.mark.parametrize(("name", "keyword"), GLOBAL)
def test_any_value_of_a_keyword_of_a_global_method(name, keyword):
    for value in NASTY:
        x = parameter()
        box = {} if keyword in ("bounds", "ranges") else {"bounds": (-2.0, 2.0)}
        kwargs = ({} if name == "basinhopping" else box) | {keyword: value}
        ends_well(lambda x=x, kwargs=kwargs: optimizer(name, [x], kwargs, **BUDGET), x)


@QUIET
@pytest.mark.parametrize("option", SHGO_OPTIONS)
def test_any_value_of_an_option_of_shgo(option):
    for value in NASTY:
        x = parameter()
        kwargs = dict(bounds=(-2.0, 2.0), options={option: value})
        ends_well(lambda x=x, kwargs=kwargs: optimizer("shgo", [x], kwargs, **BUDGET), x)


@pytest.mark.parametrize("value", [10**400, "a", object(), math.nan])
@pytest.mark.parametrize("where", ["tol", "bounds", "group bounds", "scale"])
def test_other_numbers(where, value):
    x = parameter()
    make = {
        "tol": lambda: MinimizeWrapper([x], dict(tol=value)),
        "bounds": lambda: MinimizeWrapper([x], dict(method="L-BFGS-B", bounds=[(value, None)] * 2)),
        "group bounds": lambda: MinimizeWrapper([{"params": [x], "bounds": (value, None)}], "L-BFGS-B"),
        "scale": lambda: MinimizeWrapper([{"params": [x], "scale": value}], "L-BFGS-B"),
    }
    with pytest.raises(ArgumentError):
        make[where]()


INTEGERS = [(f"{s.name}-{r.name}", r) for s in METHODS.values() for r in s.options.values() if r.kind == "int"]
INTEGERS += [(f"{n}-{r.name}", r) for n, s in GLOBAL_METHODS.items() for r in s.options.values() if r.kind == "int"]


@pytest.mark.parametrize("row", [row for _, row in INTEGERS], ids=[name for name, _ in INTEGERS])
def test_every_integer_has_an_end(row):
    """A compiled solver takes no others."""
    assert row.unlimited is not None or row.high is not None


# Forms that SciPy's documentation takes

FORMS = [(20.0, 20), (np.float64(20), 20), (np.int64(20), 20), (np.float32(20), 20)]


@pytest.mark.parametrize(("value", "whole"), FORMS)
@pytest.mark.parametrize("method", METHODS)
def test_an_integral_maxiter_is_that_integer(method, value, whole):
    results = []
    for most in (value, whole):
        x = parameter()
        made = MinimizeWrapper([x], dict(method=method, options=dict(maxiter=most)))
        made.step(lambda x=x: (1 - x[0]) ** 2 + 10 * (x[1] - x[0] ** 2) ** 2)
        assert type(made.request.options["maxiter"]) is int
        results.append((made.result.nit, made.result.nfev, made.result.fun))
    assert results[0] == results[1]


@pytest.mark.parametrize("method", METHODS)
def test_an_infinite_maxiter_is_no_limit(method):
    x = parameter()
    made = MinimizeWrapper([x], dict(method=method, options=dict(maxiter=math.inf)))
    made.step(lambda: (1 - x[0]) ** 2 + 10 * (x[1] - x[0] ** 2) ** 2)
    assert made.result.fun < 2e-3
    assert "maximum" not in made.result.message.lower()


NONE_YET = ["CG", "BFGS", "SLSQP", "Newton-CG", "Nelder-Mead", "trust-constr"]


@pytest.mark.filterwarnings("ignore:COBYLA. Invalid MAXFUN")
@pytest.mark.parametrize("method", METHODS)
def test_no_iterations(method):
    x = parameter()
    if METHODS[method].options["maxiter"].low == 1:  # SciPy's refuses 0 too
        with pytest.raises(ArgumentError, match="of at least 1, or inf for no limit"):
            MinimizeWrapper([x], dict(method=method, options=dict(maxiter=0)))
        with pytest.raises(ValueError, match="must be positive"):
            scipy.optimize.minimize(scipy.optimize.rosen, [-1.2, 1.0], method=method, options=dict(maxiter=0))
        return
    made = MinimizeWrapper([x], dict(method=method, options=dict(maxiter=0)))
    made.step(lambda: (1 - x[0]) ** 2 + 10 * (x[1] - x[0] ** 2) ** 2)
    assert made.history[-1].index <= 1
    assert not made.result.success or method == "trust-constr"
    if method in NONE_YET:
        assert len(made.history) == 1


def test_what_lm_ignores_is_taken():
    x = parameter()
    ignored = dict(f_scale=2.0, tr_solver="lsmr", tr_options={"regularize": True})
    made = LeastSquaresWrapper([x], dict(method="lm", **ignored))
    made.step(lambda: torch.stack([1 - x[0], 10 * (x[1] - x[0] ** 2)]))
    assert made.result.x == pytest.approx([1, 1])


@pytest.mark.parametrize("given", [dict(n=None), dict(iters=None), dict(n=None, iters=None)])
def test_shgo_takes_none_as_scipy_does(given):
    plain = scipy.optimize.shgo(lambda x: float(((x - 0.3) ** 2).sum()), [(-2, 2)] * 2, **given)
    loss = Loss(bowl, [1.0, 1.0])
    made = optimizer("shgo", [loss.x], dict(bounds=(-2, 2), **given))
    made.step(loss)
    assert (made.result.fun, made.result.nit) == (pytest.approx(plain.fun, abs=1e-12), plain.nit)


def test_shgo_takes_derivatives_in_its_options(capsys):
    loss, calls = Loss(bowl, [1.0, 1.0]), []

    def jac(x):
        calls.append(x)
        return 2 * (x - 0.3)

    options = dict(jac=jac, hess=lambda x: 2 * np.eye(2), disp=True)
    made = optimizer("shgo", [loss.x], dict(bounds=(-2, 2), options=options), "trust-constr")
    made.step(loss)
    assert calls
    assert made.result.x == pytest.approx([0.3, 0.3], abs=1e-5)
    assert "Current function value" in capsys.readouterr().out
    assert optimizer("shgo", [loss.x], dict(bounds=(-2, 2), options=dict(ftol=1e-3))).request.options["ftol"] == 1e-3


def test_shgos_callback_hears_the_descents():
    heard, plain = [], []
    loss = Loss(bowl, [1.0, 1.0])
    optimizer("shgo", [loss.x], dict(bounds=(-2, 2), callback=heard.append)).step(loss)
    scipy.optimize.shgo(lambda x: float(((x - 0.3) ** 2).sum()), [(-2, 2)] * 2, callback=plain.append)
    assert heard
    assert len(heard) == len(plain)
    np.testing.assert_allclose(heard, plain, atol=1e-6)


def test_a_polish_of_the_users_own():
    loss, told = Loss(bowl, [1.0, 1.0]), {}

    def polish(func, x0, **kwargs):
        told.update(kwargs, start=x0)
        return scipy.optimize.minimize(func, x0, method="Nelder-Mead", bounds=kwargs["bounds"], tol=1e-12)

    made = optimizer("differential_evolution", [loss.x], dict(bounds=(-2, 2), rng=1, maxiter=3, polish=polish))
    made.step(loss)
    assert made.result.x == pytest.approx([0.3, 0.3], abs=1e-6)
    assert set(told) == {"start", "bounds", "constraints"}


@pytest.mark.parametrize("name", ["dual_annealing", "basinhopping", "shgo"])
def test_the_same_bounds_for_search_and_local_method(name):
    loss = Loss(bowl, [1.0, 1.0])
    box = [(-2.0, 2.0)] * 2
    kwargs = {} if name == "basinhopping" else {"bounds": box, **({"maxiter": 5, "rng": 1} if name[0] == "d" else {})}
    kwargs |= {"niter": 2, "rng": 1} if name == "basinhopping" else {}
    group = {"params": [loss.x], "bounds": (-2.0, 2.0)} if name == "basinhopping" else {"params": [loss.x]}
    made = optimizer(name, [group], kwargs, dict(method="L-BFGS-B", bounds=box))
    made.step(loss)
    assert made.result.fun == pytest.approx(0, abs=1e-9)
    with pytest.raises(ArgumentError, match="different bounds"):
        optimizer(name, [group], kwargs, dict(method="L-BFGS-B", bounds=[(-1.0, 2.0)] * 2))


class Steps:
    """A hop of the user's own whose length SciPy adapts."""

    def __init__(self):
        self.stepsize = 0.5
        self._random = np.random.default_rng(3)

    def __call__(self, x):
        return x + self._random.uniform(-self.stepsize, self.stepsize, x.shape)


def test_basin_hopping_adapts_the_users_own_step():
    lengths, ends = [], []
    for own in (False, True):
        steps, loss = Steps(), Loss(lambda x: (x**2 - 2 * torch.cos(6 * x)).sum(), [1.3, 2.0])
        common = dict(niter=30, take_step=steps, interval=5, accept_test=lambda **new: bool((new["x_new"] < 3).all()))
        if own:
            made = optimizer("basinhopping", [loss.x], common | dict(rng=1))
            made.step(loss)
            ends.append(made.result.fun)
        else:
            f = lambda x: float((x**2 - 2 * np.cos(6 * x)).sum())  # noqa: E731
            jac = lambda x: 2 * x + 12 * np.sin(6 * x)  # noqa: E731
            ends.append(scipy.optimize.basinhopping(f, [1.3, 2.0], minimizer_kwargs=dict(jac=jac), rng=1, **common).fun)
        lengths.append(steps.stepsize)
    assert lengths[0] == pytest.approx(lengths[1])
    assert lengths[0] != 0.5
    assert ends[0] == pytest.approx(ends[1])


def test_brute_on_one_point():
    loss = Loss(bowl, [1.0])
    made = optimizer("brute", [loss.x], dict(bounds=(-1.0, 2.0), Ns=1, finish=None))
    made.step(loss)
    assert made.result.grid.tolist() == [-1.0]
    assert made.result.Jout == pytest.approx([1.69])


@pytest.mark.parametrize("name", [name for name, spec in GLOBAL_METHODS.items() if spec.bounds])
def test_a_box_too_wide_for_a_float(name):
    loss = Loss(bowl, [1.0, 1.0])
    with pytest.raises((ArgumentError, TorchminError)):
        optimizer(name, [loss.x], dict(bounds=(-1e308, 1e308))).step(loss)
    assert loss.calls == 0


# SciPy's own signatures: what is new there fails here

SUPPLIED = {"fun", "x0", "args", "kwargs", "jac", "bounds", "method", "callback"}
NOT_FOR_AUTOGRAD = {"diff_step", "jac_sparsity", "workers"}


@pytest.mark.parametrize("spec", LEAST_SQUARES_METHODS.values(), ids=LEAST_SQUARES_METHODS)
def test_all_of_least_squares_is_known(spec):
    known = set(inspect.signature(scipy.optimize.least_squares).parameters)
    assert known - SUPPLIED - NOT_FOR_AUTOGRAD == set(spec.options)


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_all_options_of_minimize_are_known(spec):
    assert spec.name in SOLVERS
    assert set(scipy_options(spec)) <= set(spec.options)


@pytest.mark.parametrize("name", GLOBAL_METHODS)
def test_all_keywords_of_a_global_method_are_known(name):
    supplied = {"func", "x0", "args", "minimizer_kwargs", "workers", "full_output", "seed"}
    known = set(inspect.signature(getattr(scipy.optimize, name)).parameters)
    assert known - supplied <= set(GLOBAL_METHODS[name].options)
    assert WRAPPERS[name].spec is GLOBAL_METHODS[name]


def test_all_options_of_shgo_are_known():
    """They are named in its code only: `options.get("maxfev", None)`, `options["f_min"]`, and moved ones in a list."""
    source = inspect.getsource(scipy.optimize._shgo.SHGO.init_options)
    for name in [*SHGO_OPTIONS]:
        assert f"'{name}'" in source or name == "ftol"
    assert set(re.findall(r"options(?:\.get\(|\[)'(\w+)'", source)) - {"options"} <= set(SHGO_OPTIONS)
