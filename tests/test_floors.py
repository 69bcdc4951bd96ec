"""The floors of the house: which package imports which. As CONTRIBUTING draws them, and so that no circle closes.

Imports are read from the source: those inside functions, and those for type checkers only, count as well.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import torchmin_nb

ROOT = Path(torchmin_nb.__file__).parent.parent
ALLOWED = {
    "errors": "",
    "_public": "",
    "_version": "",
    "nist": "",
    "core.signatures": "",
    "core.display": "",
    "core.validation": "",
    "core.storage": "",
    "core.runtime": "validation",
    "core.solvers": "runtime",
    "core.history": "runtime storage display",
    "core.methods": "validation signatures storage runtime",
    "core.parameters": "validation methods",
    "core.autodiff": "parameters",
    "core.objective": "runtime solvers history parameters autodiff",
    "core.batches": "validation runtime solvers parameters autodiff objective",
    "core.covariance": "display runtime parameters autodiff objective",
    "core.curvature": "runtime solvers parameters autodiff objective batches covariance",
    "core.execution": "validation display runtime solvers history methods parameters objective",
    "core.optimizers": """
        validation signatures display storage runtime solvers history methods parameters autodiff objective batches
        covariance execution
    """,
    "core.laplace": "validation display parameters autodiff covariance curvature optimizers",
    "core.callbacks": "validation display storage runtime history parameters optimizers",
    "problems": "_public nist core",
    "analysis": "_public core",
    "explore": "_public core problems",
    "doctor": "_public core explore",
    "views": "_public core problems analysis explore doctor",
    "solvers": "_public core",
    "environment": "_version core views",
    "demo": "core problems views",
    "__main__": "core environment demo",
}
"""What each package, or module that is in none, may import besides `errors`; `core` stands for all of its packages."""
FLOORS = list(ALLOWED)
"""From the ground up: none imports one above it."""


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted((ROOT / "torchmin_nb").rglob("*.py"))}


def package_of(module):
    """ "core.history" of torchmin_nb.core.history.rows, "views" of torchmin_nb.views.explorer.jobs."""
    parts = module.split(".")[1:]
    return ".".join(parts[: 2 if parts[:1] == ["core"] else 1])


def imported(path, source=None):
    """The modules of torchmin_nb that a module imports, wherever it does."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(source or path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = ".".join([*(parts[: len(parts) - node.level] if node.level else ()), *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else base for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@cache
def edges():
    return {
        module: {name for name in imported(path) if name.split(".")[0] == "torchmin_nb"} - {module}
        for module, path in MODULES.items()
    }


@pytest.mark.parametrize(
    "place",
    [
        "from ..history import History",
        "from torchmin_nb.core.history import History",
        "from .. import history",
        "import torchmin_nb.core.history",
        "def late():\n    from ..history.rows import Rows",
        "if TYPE_CHECKING:\n    from ..history.rows import Rows",
    ],
)
def test_the_reader_sees_imports(place):
    found = {package_of(name) for name in imported(ROOT / "torchmin_nb/core/runtime/control.py", place)}
    assert found == {"core.history"}


def test_every_import_exists():
    assert {name for names in edges().values() for name in names} <= MODULES.keys()


@pytest.mark.parametrize("module", [module for module in MODULES if package_of(module) not in ("", "core")])
def test_a_module_imports_what_its_package_may(module):
    package = package_of(module)
    allowed = {package, "errors", *ALLOWED[package].split(), *(f"core.{name}" for name in ALLOWED[package].split())}
    for name in edges()[module]:
        found = package_of(name)
        assert found in allowed or ("core" in allowed and found.startswith("core.")), name


def test_the_table_is_true():
    """Each row is needed, and lower than all that it serves; files are where packages are."""
    used = {package: set() for package in ALLOWED}
    for module, names in edges().items():
        if package_of(module) not in ("", "core"):
            used[package_of(module)] |= {package_of(name) for name in names} - {package_of(module)}
    for package, row in ALLOWED.items():
        below = {name for found in used[package] for name in (found, found.removeprefix("core."), found.split(".")[0])}
        assert set(row.split()) <= below, package
        assert all(FLOORS.index(found) < FLOORS.index(package) for found in used[package]), package


def test_no_circle_of_modules():
    """What is left once modules that import none of the others, or that none imports, are taken away."""
    left = {module: set(names) for module, names in edges().items()}
    while outer := {each for each in left if not left[each] & left.keys() or each not in set().union(*left.values())}:
        left = {module: names - outer for module, names in left.items() if module not in outer}
    assert not sorted(left)


def test_the_map_has_every_package():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(?:core/)?(\w+)/` \|", text, re.MULTILINE)
    folders = [name for name in ALLOWED if (ROOT / "torchmin_nb" / name.replace(".", "/")).is_dir()]
    assert sorted(rows) == sorted(name.removeprefix("core.") for name in folders)
