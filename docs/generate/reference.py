"""The reference: a page for each public name, which autodoc fills, and one for each package."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any

from docs.generate.markdown import toctree
from torchmin_nb._public import FunctionModule

__all__ = ["PACKAGES", "public_names", "reference_pages"]

PACKAGES = {
    "torchmin_nb": "What most programs need: wrappers, runs, records, callbacks, tables of methods.",
    "torchmin_nb.views": "Live and saved figures: Dashboard, MethodExplorer, follow.",
    "torchmin_nb.explore": "The explorer without widgets: what fits, suggestions, races, scripts.",
    "torchmin_nb.doctor": "What is wrong with a run: findings with evidence, remedies, rescues.",
    "torchmin_nb.analysis": "Data that explain a run: landscapes, steps, order of convergence, profiles, costs.",
    "torchmin_nb.problems": "The gallery of test problems, each with its known answer.",
    "torchmin_nb.nist": "Nonlinear regressions with certified answers.",
    "torchmin_nb.solvers": "What a solver of your own on the device is made of.",
    "torchmin_nb.errors": "All errors and warnings.",
}
DATA = {
    "METHODS": "The local methods: a `MethodSpec` for each name, read-only. See [their pages](../methods/index.md).",
    "LEAST_SQUARES_METHODS": "The methods of least squares by name, read-only: rows like those of `METHODS`.",
    "GLOBAL_METHODS": "The global searches by name, read-only: rows like those of `METHODS`.",
    "__version__": "The version, a string.",
    "COLUMNS": "The columns of `RunTable`: the heading by the name of the field.",
    "NIST": "The regressions: a `NistProblem` for each name, read-only.",
    "PROBLEMS": "The gallery: a `ProblemSpec` for each name, read-only.",
    "INK": "Colour of text and axes in all figures.",
    "RUNS": "Colours of runs, in their order: they differ for colour-blind readers too.",
}
INTRODUCTION = """All public names. Each has an example that the test suite runs. In the examples, `np` is
NumPy, `torch` is PyTorch, and the names of the package are imported."""


def reference_pages() -> Iterator[tuple[str, str]]:
    """A page for all packages, one for each, and one for each name; errors share theirs."""
    listed = "\n".join(f"- [{package}]({package}.rst): {what}" for package, what in PACKAGES.items())
    yield (
        "reference/index.md",
        f"# Reference\n\n{INTRODUCTION}\n\n{listed}\n\n{toctree(list(PACKAGES))}\n",
    )
    for package in PACKAGES:
        yield f"reference/{package}.rst", _package(package)
        for name, value in _exported(package):
            if _home(package, name, value) == package and package != "torchmin_nb.errors":
                yield f"reference/{package}.{name}.rst", _name(package, name, value)


def _exported(package: str) -> list[tuple[str, Any]]:
    module = import_module(package)
    found = [(name, getattr(module, name)) for name in module.__all__]
    return [(name, value.__wrapped__ if isinstance(value, FunctionModule) else value) for name, value in found]


def _home(package: str, name: str, value: Any) -> str:
    """The package whose reference has the page: of several that export one name, the first."""
    same = (each for each in PACKAGES if any(other is value for _, other in _exported(each)))
    return next(same, package) if callable(value) else package


def _package(package: str) -> str:
    exported = _exported(package)
    parts = [_heading(package), f".. automodule:: {package}\n   :no-members:"]
    if package == "torchmin_nb.errors":
        return "\n\n".join([*parts, *(_directive(package, name, value) for name, value in exported)]) + "\n"
    homes = {name: _home(package, name, value) for name, value in exported}
    for title, kind in {"Functions": inspect.isfunction, "Classes": inspect.isclass, "Data": _is_data}.items():
        rows = [
            (f":doc:`{name} <{homes[name]}.{name}>`", _summary(name, value)) for name, value in exported if kind(value)
        ]
        if rows:
            parts += [_heading(title, "-"), _list_table(rows)]
    own = [f"   {name} <{package}.{name}>" for name, _ in exported if homes[name] == package]
    parts += [".. toctree::\n   :hidden:\n\n" + "\n".join(own)]
    return "\n\n".join(parts) + "\n"


def _is_data(value: Any) -> bool:
    return not inspect.isfunction(value) and not inspect.isclass(value)


def _summary(name: str, value: Any) -> str:
    return _rst(DATA[name]) if _is_data(value) else inspect.cleandoc(value.__doc__ or "").split("\n")[0]


def _name(package: str, name: str, value: Any) -> str:
    return f"{_heading(name)}\n\n{_directive(package, name, value)}\n"


def _directive(package: str, name: str, value: Any) -> str:
    if _is_data(value):
        return f".. py:data:: {package}.{name}\n\n   {_rst(DATA[name])}"
    if inspect.isfunction(value):
        return f".. autofunction:: {package}.{name}"
    lines = [f".. autoclass:: {package}.{name}"]
    members = ", ".join(_members(value))
    if members:
        lines.append(f"   :members: {members}")
    return "\n".join(lines)


def _members(kind: type) -> list[str]:
    """The public methods and properties that are written in this package, and the members of an enum."""
    names = list(getattr(kind, "__members__", {})) + [name for name in dir(kind) if not name.startswith("_")]
    return list(dict.fromkeys(name for name in names if _is_ours(kind, name)))


def _is_ours(kind: type, name: str) -> bool:
    attribute = inspect.getattr_static(kind, name, None)
    if isinstance(attribute, Enum):
        return True  # of an enum
    function = attribute.fget if isinstance(attribute, property) else getattr(attribute, "__func__", attribute)
    return inspect.isfunction(function) and function.__module__.startswith("torchmin_nb") and bool(function.__doc__)


def _heading(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}"


def _list_table(rows: list[tuple[str, str]]) -> str:
    lines = [".. list-table::", "   :widths: 30 70", ""]
    for name, what in rows:
        lines += [f"   * - {name}", f"     - {what}"]
    return "\n".join(lines)


def _rst(text: str) -> str:
    return re.sub(r"\[([^\]]+)\]\(([^)]+)\.md\)", r":doc:`\1 <\2>`", text)


@cache
def public_names() -> Mapping[str, str]:
    """What is written in a text, and the full name it stands for. A function is written with parentheses."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for name, value in _exported(package):
            full = f"{_home(package, name, value)}.{name}"
            written = f"{name}()" if inspect.isfunction(value) else name
            found.setdefault(written, set()).add(full)
            if inspect.isclass(value):
                for member in _members(value):
                    found.setdefault(f"{name}.{member}", set()).add(f"{full}.{member}")
                    found.setdefault(f"{name}.{member}()", set()).add(f"{full}.{member}")
    return {written: full.pop() for written, full in found.items() if len(full) == 1}
