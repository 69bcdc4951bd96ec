"""GLOBAL_METHODS beside the functions of the installed SciPy."""

import inspect

import pytest
import scipy.optimize

from tests.core.optimizers.global_search.searches import EACH, WRAPPERS
from torchmin_nb import GLOBAL_METHODS


def test_the_table_names_scipys_functions():
    assert set(GLOBAL_METHODS) == set(WRAPPERS)
    for name, wrapper in WRAPPERS.items():
        assert wrapper.spec is GLOBAL_METHODS[name]
        assert callable(getattr(scipy.optimize, name))
        assert GLOBAL_METHODS[name].reference.endswith(f"scipy.optimize.{name}.html")


SUPPLIED = {
    "func": "the closure",
    "args": "closures take none",
    "minimizer_kwargs": "minimizer_args",
    "workers": "all closure calls use the same parameters",
    "full_output": "the result is always whole",
}
NOT_TAKEN = {
    ("basinhopping", "x0"): "the parameters' values are the start",
}
OTHER_DEFAULTS = {
    ("dual_annealing", "x0"): "the parameters have values to start from",
    ("differential_evolution", "x0"): "the parameters have values to start from",
    ("differential_evolution", "vectorized"): "on where vmap can",
    ("differential_evolution", "updating"): "follows vectorized",
    ("brute", "finish"): "a gradient method in place of Nelder-Mead",
}


@EACH
def test_the_keywords_are_scipys(name):
    known = set(inspect.signature(getattr(scipy.optimize, name)).parameters) - set(SUPPLIED)
    known -= {keyword for method, keyword in NOT_TAKEN if method == name}
    spec = GLOBAL_METHODS[name]
    if spec.stochastic:
        known |= {"rng", "seed"}  # one parameter under two names before SciPy 1.15
    ours = {row.name for row in spec.options.values() if row.ours}
    assert set(spec.options) - ours <= known
    assert known <= set(spec.options)
    assert spec.stochastic == ("rng" in spec.options)


@EACH
def test_the_defaults_are_scipys(name):
    parameters = inspect.signature(getattr(scipy.optimize, name)).parameters
    for row in GLOBAL_METHODS[name].options.values():
        if row.name in parameters and not row.ours and (name, row.name) not in OTHER_DEFAULTS:
            default = parameters[row.name].default
            assert row.default == (None if default is inspect.Parameter.empty else default), row.name


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        GLOBAL_METHODS["anneal"] = GLOBAL_METHODS["shgo"]
