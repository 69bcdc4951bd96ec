"""What importing brings in: the names that are promised, and nothing of the notebook."""

import ast
import copy
import pickle
import subprocess
import sys
from dataclasses import fields
from enum import EnumType
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import get_type_hints

import pytest

import torchmin_nb
from torchmin_nb import explore
from torchmin_nb._public import FunctionModule

PACKAGE = Path(torchmin_nb.__file__).parent
NOTEBOOK = ("plotly", "ipywidgets", "IPython", "matplotlib", "pandas", "anywidget", "sklearn", "mlxtend", "tensorboard")
PROMISED = {
    "torchmin_nb": """
        Bands BasinHoppingWrapper BruteWrapper Callback Checkpoint ClosureReport Comparison Constraint Covariance
        CurveFit Density DifferentialEvolutionWrapper DirectWrapper DualAnnealingWrapper Estimate Evaluation
        GLOBAL_METHODS History HistoryFile Iteration LEAST_SQUARES_METHODS Laplace LeastSquaresWrapper METHODS
        MethodSpec MinimizeWrapper Moment MultiStart OptionSpec Result Run RunStore SHGOWrapper SavedRun Spectrum
        StartRun Status StoredRun TensorBoard __version__ compare curve_fit full_batch laplace method minimize
        multistart observe record shard spectrum unregister
    """,
    "torchmin_nb.views": """
        Axis Chart Contours Dashboard INK Mark MethodExplorer Picture ProgressLine RUNS Region StartsView animated_html
        bands_figure bands_picture chart_figure chart_picture convergence_figure curves_picture follow landscape_chart
        landscape_figure landscape_picture multistart_figure multistart_picture order_figure order_picture
        profile_figure profile_picture show show_slider slider_figure spectrum_figure spectrum_picture step_figure
        step_picture style
    """,
    "torchmin_nb.doctor": "Change Evidence Finding Remedy Report Trial diagnose",
    "torchmin_nb.solvers": "Ending Problem Sample Solver State",
    "torchmin_nb.analysis": """
        CostTable CurvatureCost Landscape Measurement Order Plane Profile Surface cost_table curvature_cost data_profile
        explained_methods hessian_plane landscape_data order_data order_of_convergence performance_profile
        plane_landscape sample step_data trajectory_plane
    """,
    "torchmin_nb.explore": """
        Advice COLUMNS Call Compared Entry Fit Form Race Reading RunRow RunTable Subject Suggestion Traits build
        catalogue entry fit groups measured method of_function of_model plan race read_form report_html row_of run
        script subject_of suggest traits unregister
    """,
    "torchmin_nb.problems": "PROBLEMS Problem ProblemSpec Setting Split digits",
}
"""The public names, written out: one that is added or taken away is meant to be."""
FROM_THE_ROOT = {"method", "unregister"}
"""Names of `explore` that are the root's."""
NAMED_AS_MODULES = {
    "torchmin_nb.explore": ("catalogue", "fit", "plan", "race", "script", "suggest", "traits"),
    "torchmin_nb.views": ("chart_figure", "chart_picture"),
}


def _imported_by(statement):
    """The modules that a fresh interpreter has after the statement."""
    code = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return done.stdout.split()


@pytest.mark.slow
def test_importing_brings_in_nothing_of_the_notebook():
    modules = _imported_by("import torchmin_nb")
    assert "torchmin_nb.core.optimizers.minimize" in modules
    assert not [name for name in modules if name.split(".")[0] in NOTEBOOK]
    assert not [name for name in modules if name.startswith("torchmin_nb.views")]


def _imports(path):
    """Absolute names of what a module imports, also inside functions; type-checking imports left out."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    for node in ast.walk(_without_type_checking(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _without_type_checking(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return tree


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=lambda path: path.stem)
def test_core_knows_nothing_of_the_views(path):
    for name in _imports(path):
        assert not name.startswith("torchmin_nb.views"), name
        root = name.split(".")[0]
        # History.to_dataframe imports pandas when it is called, with a message of its own where it is missing.
        assert root not in NOTEBOOK or (root, path.stem) == ("pandas", "history"), name


def test_the_import_reader_sees_relative_imports():
    found = set(_imports(PACKAGE / "core" / "execution" / "recorder.py"))
    assert {
        "torchmin_nb.core.history.records",
        "torchmin_nb.core.history.records.Evaluation",
        "numpy",
    } <= found


@pytest.mark.parametrize("package", PROMISED)
def test_public_names(package):
    module, names = import_module(package), PROMISED[package].split()
    assert sorted(module.__all__) == sorted(names) == dir(module)
    assert len(set(names)) == len(names)
    assert all(hasattr(module, name) for name in names)


@pytest.mark.slow
def test_public_names_in_a_fresh_interpreter():
    """Where nothing else has imported what they need, `*` takes them all."""
    imports = "".join(f"from {package} import *; " for package in PROMISED)
    expected = {name for names in PROMISED.values() for name in names.split()}
    code = f"{imports}print(*set({sorted(expected)}) - set(globals()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package, names in PROMISED.items() for name in names.split()]
)
def test_public_names_say_where_they_are_from(package, name):
    value = getattr(import_module(package), name)
    if isinstance(value, FunctionModule):
        assert value.__wrapped__.__module__ == value.__name__ == f"{package}.{name}"
    elif isinstance(value, type | FunctionType):
        assert value.__module__ == ("torchmin_nb" if name in FROM_THE_ROOT else package)
        assert pickle.loads(pickle.dumps(value)) is value
        assert f"{value.__module__}.{name}" in repr(value) or isinstance(value, FunctionType | EnumType)
    else:
        assert not callable(value)


@pytest.mark.parametrize("name", ["Iteration", "Evaluation", "Covariance", "ClosureReport", "OptionSpec", "MethodSpec"])
def test_annotations_of_public_classes_can_be_evaluated(name):
    kind = getattr(torchmin_nb, name)
    if name == "Covariance":  # its arrays are imported for type checkers only
        assert set(kind.__annotations__) == {each.name for each in fields(kind)}
    else:
        assert set(get_type_hints(kind)) >= {each.name for each in fields(kind)}


BOTH = """
import inspect, types
import {package} as package
{first}
import {package}.{name}
from {package} import {name} as taken
import {package}.{name} as module
assert isinstance(module, types.ModuleType) and module is taken is package.{name}, module
assert inspect.isfunction(module.{name}) and inspect.signature(module) == inspect.signature(module.{name})
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "from {package} import {name}", "package.{name}"])
def test_a_module_named_as_its_function_is_both(first):
    """Whichever of them is asked for first in a fresh interpreter."""
    pairs = [dict(package=package, name=name) for package, names in NAMED_AS_MODULES.items() for name in names]
    code = "\n".join(BOTH.format(**pair, first=first.format(**pair)) for pair in pairs)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)


def test_a_module_named_as_its_function_is_called_and_copied():
    traits = torchmin_nb.explore.Traits(2)
    assert explore.fit(explore.entry("BFGS"), traits) == explore.fit.fit(explore.entry("BFGS"), traits)
    assert copy.deepcopy(explore.fit) is pickle.loads(pickle.dumps(explore.fit)) is explore.fit


@pytest.mark.parametrize(
    "path", sorted(path for path in PACKAGE.rglob("*.py") if path.stem[0] != "_"), ids=lambda path: path.stem
)
def test_every_modules_all_is_true(path):
    tree = ast.parse(path.read_text())
    defined, names = set(), None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(node.value)
    assert names is not None
    assert set(names) <= defined


def test_version_is_a_release():
    assert all(part.isdigit() for part in torchmin_nb.__version__.split(".")[:2])
