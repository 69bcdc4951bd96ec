"""The table of methods, held against the installed SciPy; and that nothing else names a method."""

import ast
import inspect
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy
import scipy.optimize
import scipy.optimize._minimize as scipy_minimize
import torch
from scipy.optimize._trustregion import _minimize_trust_region

import torchmin_nb.core
from tests.core.problems import PROBLEMS
from tests.core.scipys import METHODS
from torchmin_nb import MinimizeWrapper
from torchmin_nb.core.methods.local import find_method
from torchmin_nb.core.methods.tables import method_tables
from torchmin_nb.core.runtime.blas_threads import blas_threads
from torchmin_nb.errors import (
    ArgumentError,
    ArgumentTypeError,
    MemoryBudgetError,
    TorchminError,
    UnknownMethodError,
    UnknownOptionError,
)

SOLVERS = {
    "Nelder-Mead": "_minimize_neldermead",
    "Powell": "_minimize_powell",
    "CG": "_minimize_cg",
    "BFGS": "_minimize_bfgs",
    "L-BFGS-B": "_minimize_lbfgsb",
    "TNC": "_minimize_tnc",
    "SLSQP": "_minimize_slsqp",
    "Newton-CG": "_minimize_newtoncg",
    "dogleg": "_minimize_dogleg",
    "trust-ncg": "_minimize_trust_ncg",
    "trust-krylov": "_minimize_trust_krylov",
    "trust-exact": "_minimize_trustregion_exact",
    "trust-constr": "_minimize_trustregion_constr",
    "COBYLA": "_minimize_cobyla",
    "COBYQA": "_minimize_cobyqa",
}
OPTIONS = [(spec, row) for spec in METHODS.values() for row in spec.options.values()]
OPTION_IDS = [f"{spec.name}-{row.name}" for spec, row in OPTIONS]

# Parameters of SciPy's solvers that are arguments of `minimize` itself.
ARGUMENTS = {"fun", "func", "x0", "args", "jac", "grad", "hess", "hessp", "bounds", "constraints", "callback"}

# SciPy's loop takes these for all four trust-region methods; each concerns one subproblem only.
OF_ANOTHER_SUBPROBLEM = {"subproblem", "inexact", "subproblem_maxiter"}

# Defaults of the table that differ from SciPy's, and why.
OTHER_DEFAULTS = {
    ("L-BFGS-B", "disp"): "SciPy marks it as deprecated by a sentinel; we print the summary",
    ("L-BFGS-B", "iprint"): "SciPy marks it as deprecated by a sentinel; ours to ignore",
}


def solver(name):
    return getattr(scipy_minimize, SOLVERS[name])


def signature(function):
    """SciPy's options with their defaults."""
    return {
        parameter.name: parameter.default
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD and parameter.name not in ARGUMENTS
    }


def scipy_options(spec):
    own = signature(solver(spec.name))
    if spec.radius != "loop":
        return own
    return own | {
        name: default
        for name, default in signature(_minimize_trust_region).items()
        if name not in OF_ANOTHER_SUBPROBLEM or name in spec.options
    }


def parameter(n=2, dtype=torch.float64):
    return torch.nn.Parameter(torch.zeros(n, dtype=dtype))


# The rows


def test_the_methods_are_scipys_fifteen():
    assert len(METHODS) == 15
    assert {name.lower() for name in METHODS} == set(scipy_minimize.MINIMIZE_METHODS)
    assert all(spec.name == name for name, spec in METHODS.items())


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        torchmin_nb.METHODS["SGD"] = torchmin_nb.METHODS["CG"]
    with pytest.raises(TypeError):
        torchmin_nb.METHODS["CG"].options["lr"] = None


SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))
NEW_OPTIONS = {"subproblem_maxiter": (1, 17)}
"""Options that the oldest SciPy does not know yet."""


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_the_options_are_scipys(spec):
    known = scipy_options(spec)
    missing = set(known) - set(spec.options)
    assert not missing, f"SciPy has options that the table lacks: {missing}"
    ours = {name for name, row in spec.options.items() if row.ours}
    invented = set(spec.options) - set(known) - ours - {name for name, since in NEW_OPTIONS.items() if since > SCIPY}
    assert not invented, f"the table has options that SciPy lacks: {invented}"


@pytest.mark.parametrize(("spec", "row"), OPTIONS, ids=OPTION_IDS)
def test_the_defaults_are_scipys(spec, row):
    known = scipy_options(spec)
    if row.name not in known:
        assert row.ours or NEW_OPTIONS[row.name] > SCIPY
    elif (spec.name, row.name) not in OTHER_DEFAULTS:
        default = known[row.name]
        assert (row.default is None) == (default is None)
        assert row.default == default


def test_every_exception_is_still_needed():
    for name, option in OTHER_DEFAULTS:
        assert scipy_options(METHODS[name])[option] != METHODS[name].options[option].default


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_tol_sets_the_options_marked_as_tolerances(spec, monkeypatch):
    handed_over = {}

    def capture(fun, x0, *args, **options):
        handed_over.update(options)
        return scipy.optimize.OptimizeResult(x=x0, fun=0.0, success=True, status=0, message="", nit=0, nfev=1)

    monkeypatch.setattr(scipy_minimize, SOLVERS[spec.name], capture)
    x = parameter(dtype=torch.float32)
    MinimizeWrapper([x], dict(method=spec.name, tol=0.0123)).step(lambda: (x**4).sum())
    by_tol = {name for name, value in handed_over.items() if isinstance(value, float) and value == 0.0123}
    marked = {row.name for row in spec.options.values() if row.tolerance}
    assert by_tol & set(spec.options) == marked


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_saying_every_default_changes_nothing(spec):
    problem = PROBLEMS["Himmelblau"]
    said = {row.name: row.default for row in spec.options.values() if row.default is not None}

    def history(options):
        x = torch.nn.Parameter(torch.tensor(problem.x0))
        optimizer = MinimizeWrapper([x], dict(method=spec.name, options=options))
        optimizer.step(lambda: problem.loss(x))
        return optimizer.history

    assert len(said) > 2
    assert history(said).loss.tolist() == history({}).loss.tolist()


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_float32_changes_no_tolerance_of_scipys_but_only_steps_of_differences(spec):
    request = MinimizeWrapper([parameter()], spec.name).request
    float64, float32 = (request.scipy_options(torch.finfo(dtype).eps) for dtype in (torch.float64, torch.float32))
    assert float64 == {}
    assert float32 == {row.name: row.float32 for row in spec.options.values() if row.float32 is not None}
    # TNC takes its tolerances from `accuracy`, a step: without ours they would grow with it.
    tolerances = {name: value for name, value in float32.items() if spec.options[name].tolerance}
    assert tolerances == ({} if spec.name != "TNC" else {"ftol": 0.0, "gtol": pytest.approx(0.01 * 2.0**-13)})
    for name in float32:
        said = MinimizeWrapper([parameter()], dict(method=spec.name, options={name: 0.5})).request
        assert said.scipy_options(torch.finfo(torch.float32).eps)[name] == 0.5


def _regression(method, dtype, options=None):
    """sin 4x by a small network, from one start."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).to(dtype)
    x = torch.linspace(-1, 1, 64, dtype=dtype)[:, None]
    optimizer = MinimizeWrapper(net.parameters(), dict(method=method, options=options or {}))
    optimizer.step(lambda: ((net(x) - torch.sin(4 * x)) ** 2).mean())
    return optimizer.result


@pytest.mark.parametrize(
    ("method", "enough"), {"L-BFGS-B": 4e-5, "BFGS": 1e-5, "CG": 8e-5, "TNC": 5e-5, "trust-ncg": 6e-5}.items()
)
def test_float32_defaults_do_not_end_a_fit_whose_loss_is_small(method, enough):
    """Before, L-BFGS-B ended at 2.7e-4, TNC at 7e-4 and CG at 1.8e-4, and called it success."""
    result = _regression(method, torch.float32)
    assert result.fun < enough


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_what_a_method_takes_is_what_scipy_takes(spec):
    takes = inspect.signature(solver(spec.name)).parameters
    assert spec.constraints == ("constraints" in takes)
    assert spec.bounds == ("bounds" in takes)
    assert (spec.gradient != "none") == bool({"jac", "grad"} & set(takes))
    assert (spec.curvature != "none") == ("hess" in takes)
    assert (spec.curvature == "hvp") == ("hessp" in takes)
    if spec.radius_option is not None:
        assert spec.radius_option in spec.options


def test_the_table_in_words_has_a_row_a_method():
    head, *rows = method_tables()["MinimizeWrapper"]
    assert [row[0] for row in rows] == list(torchmin_nb.METHODS)
    assert {len(row) for row in rows} == {len(head)}
    assert all(cell for row in rows for cell in row)


# Cost


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_the_first_iteration_takes_about_as_many_closure_calls_as_stated(spec):
    for n in (10, 40):
        x = torch.nn.Parameter(torch.linspace(-1, 1, n, dtype=torch.float64))
        optimizer = MinimizeWrapper([x], spec.name, callbacks=lambda iteration: iteration.index >= 1)
        optimizer.step(lambda x=x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())
        # COBYQA tells an iteration for each point of its first model.
        calls = 2 * n + 1 if spec.name == "COBYQA" else optimizer.history[1].nfev
        assert spec.calls(n) / 3 <= calls <= 3 * spec.calls(n)
        assert (calls >= n) == (spec.gradient == "none")
    assert spec.cost


# Memory

N = 160

# What is reserved and not touched: pages that are never written cost nothing.
RESERVED_ONLY = {"trust-krylov": "(2N+1)·N doubles for Lanczos vectors, one vector used a product"}


def peak_doubles(method):
    """The peak of what NumPy allocates in a short run, in doubles."""
    x = torch.nn.Parameter(torch.linspace(-1, 1, N, dtype=torch.float64))
    row = METHODS[method].options.get("maxfev")
    # Long enough for a simplex to be built, and for two iterations of the others.
    options = {"maxiter": N + 20} if method == "COBYLA" else {"maxiter": 2} | ({"maxfev": 3 * N} if row else {})
    optimizer = MinimizeWrapper([x], dict(method=method, options=options), start_check=False, blas_threads=None)
    with blas_threads(1):
        tracemalloc.start()
        try:
            optimizer.step(lambda: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())
            return tracemalloc.get_traced_memory()[1] / 8
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_the_arrays_are_as_large_as_stated(spec):
    peak_doubles(spec.name)  # imports and caches
    peak = peak_doubles(spec.name)
    stated = spec.arrays(N)
    if spec.dense:
        assert stated / 1.5 < peak < 1.5 * stated
    elif spec.name in RESERVED_ONLY:
        assert peak > N**2
    else:
        assert stated == 0
        assert peak < 0.7 * N**2


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_a_run_too_big_for_memory_is_refused_before_it_begins(spec):
    x = parameter(300)
    calls = []

    def closure():
        calls.append(None)
        return (x**2).sum()

    budget = 8 * 300**2
    optimizer = MinimizeWrapper([x], dict(method=spec.name, options={"maxiter": 1}), memory_budget=budget)
    if not spec.dense:
        optimizer.step(closure)
        assert calls
        return
    with pytest.raises(MemoryBudgetError, match=re.escape(spec.name)) as refusal:
        optimizer.step(closure)
    assert not calls
    message = str(refusal.value)
    assert "N = 300 parameters" in message
    assert "720 kB are available" in message
    assert f"about {_megabytes(8 * spec.arrays(300))} of" in message
    fitting = message.split("no such array: ")[1].split(", ")
    assert set(fitting) == {other.name for other in METHODS.values() if not other.dense}
    assert isinstance(refusal.value, RuntimeError)


def _megabytes(size):
    return f"{size / 1e6:.1f} MB"


# Errors


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("spell", [str.lower, str.upper, str.swapcase])
def test_names_match_without_regard_to_case(spec, spell):
    assert find_method(spell(spec.name)) is spec
    assert MinimizeWrapper([parameter()], spell(spec.name)).request.method == spec.name


@pytest.mark.parametrize("name", ["SGD", "lbfgs", "trust", "", " CG", "_custom"])
def test_an_unknown_method_names_the_known_ones(name):
    with pytest.raises(UnknownMethodError) as refusal:
        MinimizeWrapper([parameter()], name)
    assert repr(name) in str(refusal.value)
    assert str(refusal.value).endswith(", ".join(torchmin_nb.METHODS))
    assert isinstance(refusal.value, ValueError)


@pytest.mark.parametrize("method", [3, 1.5, ["CG"], torch.zeros(2)])
def test_a_method_that_is_no_name_is_refused(method):
    with pytest.raises(ArgumentTypeError, match="names: Nelder-Mead, Powell"):
        MinimizeWrapper([parameter()], dict(method=method))


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_an_unknown_option_names_the_known_ones(spec):
    with pytest.raises(UnknownOptionError) as refusal:
        MinimizeWrapper([parameter()], dict(method=spec.name, options={"learning_rate": 0.1}))
    message = str(refusal.value)
    assert message == f"{spec.name} has no option 'learning_rate'; it has {', '.join(sorted(spec.options))}"
    assert isinstance(refusal.value, ValueError)


def refused_values(row):
    """Values outside what the row allows."""
    if row.kind in ("any", "array"):
        return []
    values = ["often"]
    if row.kind == "int":
        values.append(1.5)
    if row.kind != "choice" and row.kind != "bool":
        values += [row.low - 1] if row.low is not None else []
        values += [row.high + max(1, abs(row.high))] if row.high is not None else []
    return values


@pytest.mark.parametrize(("spec", "row"), OPTIONS, ids=OPTION_IDS)
def test_a_value_outside_the_table_is_refused_with_what_is_allowed(spec, row):
    for value in refused_values(row):
        with pytest.raises(ArgumentError) as refusal:
            MinimizeWrapper([parameter()], dict(method=spec.name, options={row.name: value}))
        message = str(refusal.value)
        assert f"option {row.name}={value!r} of {spec.name} must be" in message
        assert f"default {row.default!r}" in message
        for limit in (row.low, row.high):
            assert limit is None or f"{limit:g}" in message
        for choice in row.choices:
            assert repr(choice) in message


@pytest.mark.parametrize(("spec", "row"), OPTIONS, ids=OPTION_IDS)
def test_defaults_and_limits_are_allowed(spec, row):
    values = [row.default, row.float32, row.low, row.high, *row.choices]
    for value in values:
        allowed = int(value) if row.kind == "int" and value is not None else value
        MinimizeWrapper([parameter()], dict(method=spec.name, options={row.name: allowed}))


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_bounds_and_constraints_are_refused_where_scipy_would_ignore_them(spec):
    given = {"bounds": [(0, 1)] * 2, "constraints": {"type": "eq", "fun": np.sum}}
    for name, value in given.items():
        if getattr(spec, name):
            MinimizeWrapper([parameter()], {"method": spec.name, name: value})
            continue
        with pytest.raises(ArgumentError) as refusal:
            MinimizeWrapper([parameter()], {"method": spec.name, name: value})
        able = str(refusal.value).split("that can: ")[1].split(", ")
        assert set(able) == {other.name for other in METHODS.values() if getattr(other, name)}


def test_every_refusal_is_of_the_family():
    for refused in (dict(method="SGD"), dict(method="CG", options={"lr": 1}), dict(methods="CG"), 3):
        with pytest.raises(TorchminError):
            MinimizeWrapper([parameter()], refused)


# A method is a row


def decided_by_name(tree):
    """String constants in comparisons, `match` cases and look-ups: where a method may be singled out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        elif isinstance(node, ast.Subscript):
            parts = [node.slice]
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            parts = node.args if node.func.attr in ("startswith", "endswith", "get") else []
        else:
            continue
        for part in parts:
            yield from (leaf for leaf in ast.walk(part) if isinstance(leaf, ast.Constant))


def singled_out(source):
    names = {name.lower() for name in METHODS}
    constants = decided_by_name(ast.parse(source))
    return {leaf.value for leaf in constants if isinstance(leaf.value, str) and leaf.value.lower() in names}


@pytest.mark.parametrize(
    "source",
    [
        "if method == 'dogleg': pass",
        "x = name.lower() in ('cg', 'bfgs')",
        "match method:\n    case 'TNC': pass",
        "METHODS['SLSQP']",
        "table = {'Powell': 1}",
    ],
)
def test_the_search_finds_what_it_is_for(source):
    assert singled_out(source)


CORE = Path(torchmin_nb.core.__path__[0])


@pytest.mark.parametrize(
    "path",
    sorted(path for path in CORE.rglob("*.py") if path.parent.name not in ("methods", "solvers")),
    ids=lambda path: path.name,
)
def test_no_module_but_the_tables_decides_by_the_name_of_a_method(path):
    assert not singled_out(path.read_text())
