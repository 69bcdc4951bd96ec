"""The pages that are made: methods from their rows, the reference from the public names, the course from the notebooks.

`pages()` has the text of each; `write_pages(folder)` writes them. Git ignores them all.
"""

from __future__ import annotations

import html
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torchmin_nb
from torchmin_nb import GLOBAL_METHODS, LEAST_SQUARES_METHODS, METHODS
from torchmin_nb._public import FunctionModule
from torchmin_nb.core.methods.options import OptionSpec
from torchmin_nb.core.methods.row import MethodRow
from torchmin_nb.core.methods.tables import method_tables

__all__ = ["GENERATED", "PACKAGES", "pages", "public_names", "write_pages"]

ROOT = Path(__file__).parent.parent
GENERATED = ("course", "methods", "reference")
"""The folders that contain nothing else."""
TABLES: Mapping[str, Mapping[str, MethodRow]] = {
    "MinimizeWrapper": METHODS,
    "LeastSquaresWrapper": LEAST_SQUARES_METHODS,
    "Global search": GLOBAL_METHODS,
}
PACKAGES = {
    "torchmin_nb": "What most programs need: wrappers, runs, records, callbacks, tables of methods.",
    "torchmin_nb.views": "Live and saved figures: Dashboard, MethodExplorer, follow.",
    "torchmin_nb.explore": "The explorer without widgets: what fits, suggestions, races, scripts.",
    "torchmin_nb.analysis": "Data that explain a run: landscapes, steps, order of convergence, profiles, costs.",
    "torchmin_nb.problems": "The gallery of test problems, each with its known answer.",
    "torchmin_nb.nist": "Nonlinear regressions with certified answers.",
    "torchmin_nb.solvers": "What a solver of your own on the device is made of.",
    "torchmin_nb.errors": "All errors and warnings.",
}
DATA = {
    "METHODS": "The local methods: a `MethodSpec` for each name, read-only. They have [a page each](../methods/index.md).",
    "LEAST_SQUARES_METHODS": "The methods of least squares by name, read-only: rows like those of `METHODS`.",
    "GLOBAL_METHODS": "The global searches by name, read-only: rows like those of `METHODS`.",
    "__version__": "The version, a string.",
    "COLUMNS": "The columns of `RunTable`: the heading by the name of the field.",
    "NIST": "The regressions: a `NistProblem` for each name, read-only.",
    "PROBLEMS": "The gallery: a `ProblemSpec` for each name, read-only.",
    "INK": "Colour of text and axes in all figures.",
    "RUNS": "Colours of runs, in their order: they differ for colour-blind readers too.",
}


def pages() -> dict[str, str]:
    """The text of each page, by its path below docs/."""
    return dict([*_methods(), *_reference(), *_course(), *_records()])


def write_pages(folder: Path) -> None:
    """Write the pages that have changed, and remove those that are made no more."""
    made = pages()
    for name in GENERATED:
        for path in (folder / name).glob("*"):
            if path.relative_to(folder).as_posix() not in made:
                path.unlink()
    for name, text in made.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")


# Methods


def _methods() -> Iterator[tuple[str, str]]:
    yield "methods/index.md", _methods_index()
    for family, table in TABLES.items():
        for row in table.values():
            yield f"methods/{_page(row)}.md", _method(family, row)


def _page(row: MethodRow) -> str:
    return row.name.lower().replace("_", "-")


def _methods_index() -> str:
    parts = [METHODS_INTRODUCTION]
    for family, (header, *rows) in method_tables().items():
        links = {row.name: f"[{row.name}]({_page(row)}.md)" for row in TABLES[family].values()}
        parts += [f"## {FAMILIES[family]}", _table([header[:-1], *((links[row[0]], *row[1:-1]) for row in rows)])]
        parts += ["\n".join(f"- {links[row[0]]}: {row[-1]}" for row in rows)]
        parts += [_toctree([_page(row) for row in TABLES[family].values()])]
    return "\n\n".join(parts) + "\n"


METHODS_INTRODUCTION = """# Methods

Each method has a page with its options. `python -m torchmin_nb methods` prints the tables below. N is the number of
parameters; “–” means no. *Needs* says what is computed at a point: the loss alone, its gradient, products of the Hessian with a
vector, or the whole Hessian. *Memory* N² means that the method keeps N×N matrices: with 10,000 parameters they take
800 MB each. *Trust radius* says whether the radius of the trust region is recorded and drawn. *Engines* are explained in the
[guide](../guide/engines.md), and other words in the [glossary](../guide/glossary.md).

Which one to take: [compare](../guide/compare.md) runs several on your model; [notebook 04](../course/04_choosing_a_method.ipynb) has a
decision table."""
FAMILIES = {
    "MinimizeWrapper": "Local methods: `MinimizeWrapper`",
    "LeastSquaresWrapper": "Least squares: `LeastSquaresWrapper`",
    "Global search": "Global search: a wrapper each",
}


def _method(family: str, row: MethodRow) -> str:
    call = f"{_wrapper(family, row)}({_arguments(family, row)}).step(closure)"
    facts = "\n".join(f"* - {name}\n  - {value}" for name, value in _facts(row) if value)
    return f"""# {row.name}

{row.summary}

```python
from torchmin_nb import {_wrapper(family, row)}

{call}
```

```{{list-table}}
:stub-columns: 1
:widths: 30 70

{facts}
```

## When it stops

{_stopping(row)}

## Options

{_options(row)}
"""


def _wrapper(family: str, row: MethodRow) -> str:
    if row.name not in GLOBAL_METHODS:
        return family
    return next(name for name in torchmin_nb.__all__ if getattr(getattr(torchmin_nb, name), "spec", None) is row)


def _arguments(family: str, row: MethodRow) -> str:
    if row.name not in GLOBAL_METHODS:
        return f'model.parameters(), "{row.name}"'
    return '[{"params": [x], "bounds": (-5, 5)}]' if row.bounds else "[x]"


def _facts(row: MethodRow) -> Iterator[tuple[str, str]]:
    local = row.name in METHODS
    if row.name not in GLOBAL_METHODS:
        yield "Needs", row.needs
    if local:
        yield "Memory", "N×N matrices" if row.dense else "some vectors of length N"  # type: ignore[attr-defined]
    yield "An iteration costs", row.cost
    if row.name in GLOBAL_METHODS:
        yield "Bounds", "needed on every variable" if row.bounds else "not needed"
        yield "Random", _yes(row.stochastic)  # type: ignore[attr-defined]
        yield "Descends locally", _yes(row.local)  # type: ignore[attr-defined]
    else:
        yield "Bounds", _yes(row.bounds)
    if row.name not in LEAST_SQUARES_METHODS:
        yield "Constraints", _yes(row.constraints)
    else:
        yield "Robust losses", _yes(row.robust)  # type: ignore[attr-defined]
        yield "Products with the Jacobian suffice", _yes(row.operator)  # type: ignore[attr-defined]
    if row.name not in GLOBAL_METHODS:
        yield "Trust radius", "recorded and drawn" if row.radius != "none" else "–"  # type: ignore[attr-defined]
    yield "Engines", ", ".join(row.engines)
    if getattr(row, "lost_state", ""):
        yield "A continued run has lost", row.lost_state  # type: ignore[attr-defined]
    yield "Taught in", _taught().get(row.name, "")
    scipys = row.reference.startswith("https://docs.scipy.org/")
    yield "Described in", f"[{'SciPy’s documentation' if scipys else 'the paper'}]({row.reference})"
    yield "Paper", getattr(row, "source", "")


def _yes(value: bool) -> str:
    return "yes" if value else "–"


def _stopping(row: MethodRow) -> str:
    rules = [f"- `{option.name}`: {option.help}" for option in row.options.values() if option.tolerance]
    if any(option.tolerance for option in row.options.values()) and row.name in METHODS:
        rules.append("- `tol`, one number, sets all of these.")
    if "maxiter" in row.options:
        rules.append(f"- `maxiter`: {row.options['maxiter'].help}")
    rules.append(
        "- `max_seconds`, `max_evaluations` and `target_loss` stop every method: see [Stopping](../guide/stopping.md)."
    )
    return "\n".join(rules)


def _options(row: MethodRow) -> str:
    if not row.options:
        return "None."
    both = len(row.engines) > 1
    header = ("option", "default", "meaning", *(("engine",) if both else ()))
    rows = [
        (f"`{each.name}`", _default(each), each.help, *(("scipy" if each.scipy_only else "both",) if both else ()))
        for each in row.options.values()
    ]
    return _table([header, *rows])


def _default(option: OptionSpec) -> str:
    if option.default is None:
        return "chosen"
    shown = f"{option.default:g}" if isinstance(option.default, float) else repr(option.default)
    float32 = f" (float32: {option.float32:.1g})" if isinstance(option.float32, float) else ""
    return f"`{shown}`{float32}"


def _table(rows: list[tuple[str, ...]]) -> str:
    header, *body = ([cell.replace("|", r"\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *body))


def _toctree(entries: list[str], caption: str = "") -> str:
    return "\n".join(["```{toctree}", ":hidden:", *([f":caption: {caption}"] if caption else []), "", *entries, "```"])


# Reference


def _reference() -> Iterator[tuple[str, str]]:
    listed = "\n".join(f"- [{package}]({package}.rst): {what}" for package, what in PACKAGES.items())
    yield (
        "reference/index.md",
        f"# Reference\n\n{REFERENCE_INTRODUCTION}\n\n{listed}\n\n{_toctree(list(PACKAGES))}\n",
    )
    for package in PACKAGES:
        yield f"reference/{package}.rst", _package(package)
        for name, value in _exported(package):
            if _home(package, name, value) == package and package != "torchmin_nb.errors":
                yield f"reference/{package}.{name}.rst", _name(package, name, value)


REFERENCE_INTRODUCTION = """All public names. Each has an example that the test suite runs. In the examples, `np` is NumPy, `torch` is
PyTorch, and the names of the package are imported."""


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


# The course

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@cache
def _taught() -> Mapping[str, str]:
    """A link to its notebook for each method: the one that has it in its title."""
    titles = {path: json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"] for path in NOTEBOOKS}
    first = {path: "".join(source).strip().splitlines()[0].removeprefix("# ") for path, source in titles.items()}
    return {
        name: f"[{title}](../course/{path.name})"
        for path, title in first.items()
        for name in re.findall(r"`([^`]+)`", title)
    }


def _course() -> Iterator[tuple[str, str]]:
    for path in NOTEBOOKS:
        book = json.loads(path.read_text(encoding="utf-8"))
        for cell in book["cells"]:
            cell["outputs"] = [_shown(output) for output in cell.get("outputs", [])] or cell.get("outputs", [])
            if cell["cell_type"] != "code":
                del cell["outputs"]
                cell["source"] = _links("".join(cell["source"]))
        book["cells"].insert(
            1, _markdown("download", f"{{download}}`Download this notebook <../../notebooks/{path.name}>`")
        )
        if path == NOTEBOOKS[0]:
            book["cells"].append(_markdown("contents", _toctree([each.stem for each in NOTEBOOKS[1:]])))
        yield f"course/{path.name}", json.dumps(book, ensure_ascii=False)


def _links(source: str) -> str:
    """Links as this site has them: headings in lower case, pictures of this folder."""
    lowered = re.sub(r"\]\(#[^)]+\)", lambda found: found[0].lower(), source)
    return lowered.replace("../docs/", "../")


def _markdown(name: str, source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": source}


def _shown(output: dict[str, Any]) -> dict[str, Any]:
    """A picture with its words; of a Plotly figure also the data, which figures.js draws in place of the picture."""
    data = output.get("data", {})
    if "image/png" not in data:
        return output
    words = output["metadata"]["image/png"]["alt"]
    source = "".join(data["image/png"]).replace("\n", "")
    shown = f'<img class="dark-light" alt="{html.escape(words)}" src="data:image/png;base64,{source}">'
    if PLOTLY in data:
        figure = json.dumps(data[PLOTLY], ensure_ascii=False).replace("</", r"<\/")
        shown = f'<div class="stored-figure">{shown}<script type="application/json">{figure}</script></div>'
    return {**output, "data": {"text/html": shown}, "metadata": {}}


PLOTLY = "application/vnd.plotly.v1+json"


# Records


def _records() -> Iterator[tuple[str, str]]:
    yield "benchmarks.md", (ROOT / "tests" / "benchmarks" / "README.md").read_text(encoding="utf-8")
    yield "changelog.md", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
