"""The methods as one list: complete, truthful, and with one's own."""

import subprocess
import sys

import pytest

from torchmin_nb import GLOBAL_METHODS, LEAST_SQUARES_METHODS, METHODS, method
from torchmin_nb.errors import ArgumentError, UnknownMethodError
from torchmin_nb.explore import catalogue, entry, groups, unregister
from torchmin_nb.explore.catalogue import GLOBAL, LEAST_SQUARES, LOCAL

ALL = catalogue()


def test_every_method_of_every_wrapper_has_a_row():
    assert set(ALL) == {*METHODS, *LEAST_SQUARES_METHODS, *GLOBAL_METHODS}
    kinds = {LOCAL: METHODS, LEAST_SQUARES: LEAST_SQUARES_METHODS, GLOBAL: GLOBAL_METHODS}
    for kind, table in kinds.items():
        assert [row.name for row in ALL.values() if row.kind == kind] == list(table)
        assert all(ALL[name].spec is spec for name, spec in table.items())


@pytest.mark.parametrize("row", ALL.values(), ids=ALL)
def test_a_row_says_what_it_needs_costs_and_is_for(row):
    assert row.needs
    assert row.cost
    assert row.when.endswith((".", "." + "\n")) or row.when
    assert row.reference.startswith("https://docs.scipy.org/" if "scipy" in row.engines else "https://doi.org/")
    assert row.options
    assert not {"bounds", "constraints", "callback", "disp"} & set(row.options)


def test_groups_keep_the_order_and_hold_all():
    found = groups()
    assert list(found) == [
        "gradient-free",
        "first order and quasi-Newton",
        "constrained",
        "Newton and trust region",
        "least squares",
        "global",
    ]
    assert sorted(row.name for rows in found.values() for row in rows) == sorted(ALL)


def test_memory_is_that_of_the_table_and_some_vectors():
    assert ALL["BFGS"].bytes(1000) == 8 * (METHODS["BFGS"].arrays(1000) + 10_000)
    assert ALL["L-BFGS-B"].bytes(1000) == 80_000
    assert ALL["lm"].bytes(10, 500) > 8 * 10 * 500
    assert ALL["BFGS"].on("torch").bytes(1000) == ALL["SSBFGS"].bytes(1000) == 8 * (1000**2 + 10_000)


@pytest.mark.parametrize("row", ALL.values(), ids=ALL)
def test_a_row_of_each_engine_has_the_options_that_this_engine_takes(row):
    assert row.engines == getattr(row.spec, "engines", ("scipy",))
    assert row.engine == row.engines[0]
    assert row.label == row.name
    assert row.on(None) is row
    for engine in row.engines:
        other = row.on(engine)
        left_out = {name for name, option in row.options.items() if option.scipy_only and engine == "torch"}
        assert (other.name, other.engine) == (row.name, engine)
        assert set(other.options) == set(row.options) - left_out
        assert other.label == (row.name if engine == row.engine else f"{row.name} ({engine})")
        assert other.on(row.engine).options == row.options
    for engine in {"scipy", "torch"} - set(row.engines):
        with pytest.raises(ArgumentError, match=f"engine='{engine}' cannot run {row.name}; it can run "):
            row.on(engine)


def test_auto_is_torch_unless_an_option_needs_scipy():
    assert [ALL[name].on("auto").engine for name in ("BFGS", "TNC", "SSBFGS", "direct")] == [
        "torch",
        "scipy",
        "torch",
        "scipy",
    ]
    assert ALL["BFGS"].on("auto", {"return_all": True}).engine == "scipy"
    with pytest.raises(ArgumentError, match="choose one of scipy, torch, auto"):
        ALL["BFGS"].on("cuda")


def test_names_match_without_regard_to_case_and_unknown_ones_are_named():
    assert entry("nelder-mead").name == "Nelder-Mead"
    with pytest.raises(UnknownMethodError, match="'SGD' is not known; choose one of Nelder-Mead"):
        entry("SGD")


def test_ones_own_method_is_a_row_until_it_is_forgotten():
    @method("stroll", needs="gradient", summary="Strolls.")
    def stroll(fun, x0, grad, *, pace=0.1):
        yield x0

    try:
        row = groups()["your own"][0]
        assert (row.name, row.kind, row.when) == ("stroll", LOCAL, "Strolls.")
        assert row.options["pace"].default == 0.1
    finally:
        unregister("stroll")
    assert "your own" not in groups()


@pytest.mark.slow
def test_nothing_of_the_notebook_is_imported():
    code = "import sys, torchmin_nb.explore; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"plotly", "ipywidgets", "IPython", "matplotlib"} & set(done.stdout.split())
