"""A run as a Python script that repeats it."""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

from ..core.methods.local import MethodSpec
from ..core.methods.user import NEEDS
from .call import Call
from .literal import comment, is_name, literal, quoted
from .plan import Plan, plan
from .subject import Subject

__all__ = ["script"]

_WIDTH = 100
_END = """result = optimizer.result
print(f"loss        {result.fun:.10g}")
print(f"iterations  {optimizer.history[-1].index}")
print(f"ended       {result.message}")
"""
_PLACEHOLDER = "# Insert here: "


def script(call: Call) -> str:
    """A complete Python script that does a run again.

    It has the problem, the optimizer with what differs from the defaults, the run and its end. A problem of the gallery
    is made by name. A function or a method of yours is copied if its source can be had and needs nothing else.
    Otherwise, and for a model, a line says what to put there.

    Parameters
    ----------
    call : Call
        The run.

    Returns
    -------
    str
        The script.

    Raises
    ------
    ArgumentError
        If the problem cannot be made, or lacks what the method needs.

    Examples
    --------
    >>> text = script(Call("Rosenbrock", "BFGS", options=dict(gtol=1e-8)))
    >>> [line for line in text.splitlines() if "Wrapper(" in line]
    ['optimizer = MinimizeWrapper(problem.parameters, dict(method="BFGS", options=dict(gtol=1e-08)))']
    """
    made = plan(call, call.make(place=False))
    imports = {made.wrapper.__name__}
    if isinstance(call.problem, Subject):
        head, problem = _own(call, call.problem, imports)
    else:
        head, problem = ["from torchmin_nb.problems import PROBLEMS"], _gallery(call)
    spec = call.entry.spec
    if isinstance(spec, MethodSpec) and spec.solver is not None:
        lines, definition = _own_method(spec, spec.solver)
        head, problem = [*head, *lines], f"{definition}\n\n\n{problem.lstrip()}"
        imports.add("method")
    if "torch." in problem:
        head = ["import torch", *head]
    names = f"from torchmin_nb import {', '.join(sorted(imports))}"
    wanted = [line for line in head if line.startswith("import ")]
    others = [line for line in head if not line.startswith("import ")]
    top = "\n".join([*sorted(set(wanted)), *([""] if wanted else []), *sorted({*others, names})])
    title = f"{call.title} by {replace(call, method=call.entry.name).label}."
    return "\n".join(
        [_docstring(title), "", top, "", problem, _optimizer(made), f"optimizer.step({made.closure.code})", "", _END]
    )


def _docstring(text: str) -> str:
    """A docstring, in three quotes if the text needs no escape."""
    return f'"""{text}"""' if quoted(text) == f'"{text}"' else quoted(text)


def _gallery(call: Call) -> str:
    settings = {name: literal(value) for name, value in call.settings.items()}
    arguments = {
        **({} if call.dtype == "float64" else {"dtype": f"torch.{call.dtype}"}),
        **({"seed": repr(call.seed)} if call.seed else {}),
        **({} if call.start is None else {"start": literal(call.start)}),
        **settings,
    }
    return _wrapped(
        f"problem = PROBLEMS[{literal(call.problem)}].make(", [f"{name}={code}" for name, code in arguments.items()]
    )


def _optimizer(made: Plan) -> str:
    parts = [piece.code for piece in made.arguments]
    parts += [f"{name}={piece.code}" for name, piece in made.keywords.items()]
    return _wrapped(f"optimizer = {made.wrapper.__name__}(", parts)


def _wrapped(head: str, parts: list[str]) -> str:
    """A call on one line, or one argument a line."""
    line = head + ", ".join(parts) + ")"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([head, *(f"    {part}," for part in parts), ")"])


def _own(call: Call, subject: Subject, imports: set[str]) -> tuple[list[str], str]:
    """Import lines and the definition of `problem` for the user's problem."""
    limits = _limits(subject)
    if subject.function is None:
        lines = [
            f"{_PLACEHOLDER}the model and the closure of {comment(subject.name)}, as in your notebook.",
            "from my_module import closure, model",
            "",
            *_constraints(subject),
        ]
        parts = ["[p for p in model.parameters() if p.requires_grad]", "closure", *limits]
        body = [*lines, _wrapped("problem = Problem(", parts)]
        return ["from torchmin_nb.problems import Problem"], "\n".join(body)
    source, name, wanted = _source(subject.function)
    start = call.start if call.start is not None else tuple(subject.values[0].reshape(-1).tolist())
    shape = tuple(subject.values[0].shape)
    values = f"torch.tensor({literal(list(start))}, dtype=torch.{call.dtype})"
    if shape != (len(start),):
        values += f".reshape({shape})"
    if subject.residuals is not None and call.entry.kind == "least squares":
        residual_source, residual_name, more = _source(subject.residuals)
        source, wanted = f"{source}\n\n\n{residual_source}", [*wanted, *more]
        limits = [*limits, f"residuals=lambda: {residual_name}(x)"]
    lines = ["", source, "", "", *_constraints(subject), f"x = torch.nn.Parameter({values})"]
    lines.append(_wrapped("problem = Problem(", ["[x]", f"lambda: {name}(x)", *limits]))
    return ["from torchmin_nb.problems import Problem", "import torch", *wanted], "\n".join(lines)


def _limits(subject: Subject) -> list[str]:
    parts = []
    if subject.bounds is not None:
        parts.append(f"bounds=({', '.join(map(_side, subject.bounds))})")
    if subject.constraints:
        parts.append("constraints=constraints")
    return parts


def _constraints(subject: Subject) -> list[str]:
    missing = f"{_PLACEHOLDER}the constraints of {comment(subject.name)}."
    return [missing, "constraints = ()"] if subject.constraints else []


def _side(side: Any) -> str:
    values = getattr(side, "tolist", lambda: side)()
    return f"torch.tensor({literal(values)}, dtype=torch.float64)" if isinstance(values, list) else literal(values)


def _own_method(spec: MethodSpec, solver: Callable[..., Any]) -> tuple[list[str], str]:
    """Import lines, and the registration of a user's method."""
    source, _, imports = _source(inspect.unwrap(solver))
    needs = next(name for name, columns in NEEDS.items() if columns == (spec.gradient, spec.curvature))
    limits = "".join(f", {name}=True" for name in ("bounds", "constraints") if getattr(spec, name))
    decorator = f'@method({quoted(spec.name)}, needs="{needs}"{limits})'
    note, gap, definition = source.rpartition("\n\ndef ") if source.startswith("#") else ("", "", source)
    registered = f"{decorator}\n{'def ' if gap else ''}{definition}"
    return imports, f"\n{note}{gap[:2]}{registered}"


def _source(function: Callable[..., Any]) -> tuple[str, str, list[str]]:
    """The source of a function, its name there, and the imports it needs; a placeholder without a source."""
    name = getattr(function, "__name__", "function")
    try:
        source = textwrap.dedent(inspect.getsource(function)).rstrip()
        tree = ast.parse(source)
        definition = tree.body[0]
        stands = len(tree.body) == 1 and isinstance(definition, ast.FunctionDef)
        name = definition.name if isinstance(definition, ast.FunctionDef) else name
        if isinstance(definition, ast.FunctionDef):  # without its decorators
            source = "\n".join(source.split("\n")[definition.lineno - 1 :])
    except (OSError, TypeError, SyntaxError):
        stands = False
    if not stands:
        name = name if is_name(name) else "function"
        signature = ", ".join(inspect.signature(function).parameters)
        lines = [f"def {name}({signature}):", f"    {_PLACEHOLDER}your function.", "    raise NotImplementedError"]
        return "\n".join(lines), name, []
    imports, missing = _needed(function)
    if missing:
        source = f"{_PLACEHOLDER}{', '.join(missing)}, which {name} uses.\n\n{source}"
    return source, name, imports


def _needed(function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """Import lines for the modules that a function uses, and its other global names."""
    seen = inspect.getclosurevars(function)
    names = {name: value for name, value in {**seen.globals, **seen.nonlocals}.items() if not hasattr(builtins, name)}
    modules = {name: value.__name__ for name, value in names.items() if isinstance(value, ModuleType)}
    modules = {name: path for name, path in modules.items() if all(map(is_name, path.split(".")))}
    lines = [f"import {path}" if path == name else f"import {path} as {name}" for name, path in modules.items()]
    return lines, sorted(set(names) - set(modules))
