"""A page for each method, made from its row, and one with their tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torchmin_nb
from docs.generate.course import taught
from docs.generate.markdown import table, toctree
from torchmin_nb import GLOBAL_METHODS, LEAST_SQUARES_METHODS, METHODS
from torchmin_nb.core.methods.options import OptionSpec
from torchmin_nb.core.methods.row import MethodRow
from torchmin_nb.core.methods.tables import method_tables

__all__ = ["method_pages"]

TABLES: Mapping[str, Mapping[str, MethodRow]] = {
    "MinimizeWrapper": METHODS,
    "LeastSquaresWrapper": LEAST_SQUARES_METHODS,
    "Global search": GLOBAL_METHODS,
}
INTRODUCTION = """# Methods

Each method has a page with its options. `python -m torchmin_nb methods` prints the tables below. N is the number of
parameters; “–” means no. *Needs* says what is computed at a point: the loss alone, its gradient, products of the
Hessian with a vector, or the whole Hessian. *Memory* N² means that the method keeps N×N matrices: with 10,000
parameters they take 800 MB each. *Trust radius* says whether the radius of the trust region is recorded and drawn.
*Engines* are explained in the [guide](../guide/engines.md), and other words in the [glossary](../guide/glossary.md).

Which one to take: [compare](../guide/compare.md) runs several on your model;
[notebook 04](../course/04_choosing_a_method.ipynb) has a decision table."""
FAMILIES = {
    "MinimizeWrapper": "Local methods: `MinimizeWrapper`",
    "LeastSquaresWrapper": "Least squares: `LeastSquaresWrapper`",
    "Global search": "Global search: a wrapper each",
}


def method_pages() -> Iterator[tuple[str, str]]:
    """The tables, and the page of each row."""
    yield "methods/index.md", _methods_index()
    for family, rows in TABLES.items():
        for row in rows.values():
            yield f"methods/{_page(row)}.md", _method(family, row)


def _page(row: MethodRow) -> str:
    return row.name.lower().replace("_", "-")


def _methods_index() -> str:
    parts = [INTRODUCTION]
    for family, (header, *rows) in method_tables().items():
        links = {row.name: f"[{row.name}]({_page(row)}.md)" for row in TABLES[family].values()}
        parts += [f"## {FAMILIES[family]}", table([header[:-1], *((links[row[0]], *row[1:-1]) for row in rows)])]
        parts += ["\n".join(f"- {links[row[0]]}: {row[-1]}" for row in rows)]
        parts += [toctree([_page(row) for row in TABLES[family].values()])]
    return "\n\n".join(parts) + "\n"


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
    yield "Taught in", taught().get(row.name, "")
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
    return table([header, *rows])


def _default(option: OptionSpec) -> str:
    if option.default is None:
        return "chosen"
    shown = f"{option.default:g}" if isinstance(option.default, float) else repr(option.default)
    float32 = f" (float32: {option.float32:.1g})" if isinstance(option.float32, float) else ""
    return f"`{shown}`{float32}"
