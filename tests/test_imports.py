"""What importing brings in: the names that are promised, and nothing of the notebook."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import torchmin_nb

PACKAGE = Path(torchmin_nb.__file__).parent
NOTEBOOK = ("plotly", "ipywidgets", "IPython", "matplotlib", "pandas", "anywidget", "sklearn", "mlxtend", "tensorboard")
PROMISED = {
    "GLOBAL_METHODS",
    "LEAST_SQUARES_METHODS",
    "METHODS",
    "BasinHoppingWrapper",
    "BruteWrapper",
    "Callback",
    "Checkpoint",
    "Constraint",
    "DifferentialEvolutionWrapper",
    "DirectWrapper",
    "DualAnnealingWrapper",
    "Evaluation",
    "History",
    "HistoryFile",
    "Iteration",
    "LeastSquaresWrapper",
    "MinimizeWrapper",
    "Run",
    "SHGOWrapper",
    "Status",
    "TensorBoard",
    "__version__",
    "method",
    "minimize",
    "observe",
    "record",
}


def _imported_by(statement):
    """The modules that a fresh interpreter has after the statement."""
    code = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return done.stdout.split()


def test_importing_brings_in_nothing_of_the_notebook():
    modules = _imported_by("import torchmin_nb")
    assert "torchmin_nb.core.optimizer" in modules
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
        assert root not in NOTEBOOK or (root, path.stem) == ("pandas", "events"), name


def test_the_import_reader_sees_relative_imports():
    found = set(_imports(PACKAGE / "core" / "recorder.py"))
    assert {"torchmin_nb.core.events", "torchmin_nb.core.events.Evaluation", "numpy", "inspect"} <= found


def test_public_names():
    assert set(torchmin_nb.__all__) == PROMISED
    assert all(hasattr(torchmin_nb, name) for name in torchmin_nb.__all__)
    assert len(set(torchmin_nb.__all__)) == len(torchmin_nb.__all__)


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
