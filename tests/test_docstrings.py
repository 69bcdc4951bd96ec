"""Public docstrings are in NumPy style, complete, and their examples run.

The rules:
- A public callable with parameters has `Parameters`, with the names of its signature, each with a type.
- One that returns something has `Returns`; a method or property without parameters may say it in its summary.
- One that raises an error of the family itself has `Raises`, and names it.
- A record (a dataclass or a named tuple) describes its fields in `Attributes`. So does a class that users are handed
  and never make.
- Every public class and function has `Examples`, and they run; a record may name in `See Also` what makes it, which
  then has them. Errors and warnings share the example of their module.
- Sections stand in numpydoc's order.
"""

import ast
import builtins
import dataclasses
import doctest
import inspect
import re
import textwrap
from importlib import import_module

import numpy as np
import pytest
import torch

from torchmin_nb import errors
from torchmin_nb._public import FunctionModule
from torchmin_nb.core.methods.global_search import GlobalSpec
from torchmin_nb.core.methods.least_squares import LeastSquaresSpec

PACKAGES = [
    "torchmin_nb",
    "torchmin_nb.analysis",
    "torchmin_nb.errors",
    "torchmin_nb.explore",
    "torchmin_nb.nist",
    "torchmin_nb.problems",
    "torchmin_nb.solvers",
]
ORDER = [
    "Parameters",
    "Attributes",
    "Methods",
    "Returns",
    "Yields",
    "Other Parameters",
    "Raises",
    "Warns",
    "See Also",
    "Notes",
    "References",
    "Examples",
]
HANDED_OUT = {"Result", "Run", "Status", "Picture"}
"""Classes that users are handed and never make."""
FIELDS_OF_OTHERS = {"Picture": "matplotlib's Figure"}
ROWS = {"LeastSquaresSpec": LeastSquaresSpec, "GlobalSpec": GlobalSpec}
"""Of the tables; their classes are not exported."""
SECTION = re.compile(r"^(\S[^\n]*)\n(-{3,})\n", re.MULTILINE)
ENTRY = re.compile(r"^(?P<names>\S[^:\n]*?)(?: : (?P<type>\S[^\n]*))?$", re.MULTILINE)


def sections(docstring):
    """Text by heading, in order; "" for what comes before the first."""
    text = inspect.cleandoc(docstring or "")
    parts = SECTION.split(text)
    return {"": parts[0].strip(), **dict(zip(parts[1::3], map(str.rstrip, parts[3::3]), strict=True))}


def entries(section):
    """Names and types of a section's entries."""
    return {
        name.strip(): found["type"] for found in ENTRY.finditer(section) for name in found["names"].strip().split(", ")
    }


def public():
    for package in PACKAGES:
        module = import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            value = value.__wrapped__ if isinstance(value, FunctionModule) else value
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{package}.{name}", value
    yield from ((f"torchmin_nb.{name}", kind) for name, kind in ROWS.items())


def members(kind):
    """The public methods and properties of a class that are written in this package."""
    for name in dir(kind):
        if name.startswith("_") or (
            dataclasses.is_dataclass(kind) and name in {f.name for f in dataclasses.fields(kind)}
        ):
            continue
        static = inspect.getattr_static(kind, name)
        function = static.fget if isinstance(static, property) else getattr(static, "__func__", static)
        if inspect.isfunction(function) and function.__module__.startswith("torchmin_nb"):
            yield name, static, function


NAMES = dict({id(value): (name, value) for name, value in reversed(list(public()))}.values())
METHODS = {
    function.__qualname__: (static, function)
    for kind in NAMES.values()
    if inspect.isclass(kind)
    for _, static, function in members(kind)
}


def short(name):
    return name.rpartition(".")[2]


def is_error(value):
    return inspect.isclass(value) and issubclass(value, Exception)


def is_record(value):
    return inspect.isclass(value) and (dataclasses.is_dataclass(value) or hasattr(value, "_fields"))


def is_protocol(value):
    return getattr(value, "_is_protocol", False)


def has_own_parameters(name, value):
    """Whether the user calls it: not a record, which has Attributes, nor what is only handed out."""
    return not (is_record(value) or is_protocol(value) or short(name) in HANDED_OUT or is_plain_error(value))


def is_plain_error(value):
    return is_error(value) and "__init__" not in vars(value)


def parameters(function):
    return [
        {each.VAR_KEYWORD: "**", each.VAR_POSITIONAL: "*"}.get(each.kind, "") + each.name
        for each in inspect.signature(function).parameters.values()
        if each.name not in ("self", "cls")
    ]


CALLABLES = {
    **{name: value for name, value in NAMES.items() if has_own_parameters(name, value)},
    **{name: function for name, (static, function) in METHODS.items() if not isinstance(static, property)},
}
DOCUMENTED = {**NAMES, **{name: function for name, (_, function) in METHODS.items()}}


def returns(function):
    """Whether it returns something."""
    return inspect.isfunction(function) and inspect.signature(function).return_annotation not in (None, "None")


def raised(value):
    """The errors of the family that the function itself, or the constructor, raises by name."""
    function = vars(value).get("__init__") if inspect.isclass(value) else inspect.unwrap(value)
    if function is None:
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
    }
    return names & set(errors.__all__)


def attributes(kind):
    """What the objects of a class have: class attributes, annotations, and what the constructor sets."""
    if issubclass(kind, dict):
        return {"x", "fun", "jac", "success", "status", "message", "nit", "nfev", "history", *dir(kind)}
    found = set(dir(kind))
    for each in kind.__mro__:
        found |= set(vars(each).get("__annotations__", ()))
        if inspect.isfunction(vars(each).get("__init__")):
            found |= set(re.findall(r"self\.(\w+)", inspect.getsource(each.__init__)))
    return found


def mistakes(name, value, *, method):
    """What a docstring lacks of the rules for callables."""
    parts, wanted = sections(value.__doc__), parameters(value)
    found = entries(parts.get("Parameters", ""))
    if list(found) != wanted:
        yield f"Parameters are {list(found)}, the signature has {wanted}"
    yield from (f"{each} has no type" for each, kind in found.items() if not kind)
    if returns(value) and not (method and not wanted) and "Returns" not in parts:
        yield "no Returns"
    missing = raised(value) - set(entries(parts.get("Raises", "")))
    if missing:
        yield f"Raises lacks {missing}"


@pytest.mark.parametrize("name", CALLABLES)
def test_a_callable_describes_what_goes_in_and_comes_out(name):
    assert not list(mistakes(name, CALLABLES[name], method=name in METHODS))


@pytest.mark.parametrize("name", DOCUMENTED)
def test_sections_are_numpydocs_and_in_order(name):
    text = DOCUMENTED[name].__doc__
    parts = sections(text)
    found = list(parts)[1:]
    assert parts[""], "no summary"
    assert found == [section for section in ORDER if section in found]
    for heading, line in SECTION.findall(inspect.cleandoc(text)):
        assert len(heading) == len(line), heading
    assert all(parts[section].strip() for section in found)
    assert len(parts[""].split("\n")[0]) <= 116
    assert "{shared}" not in text


@pytest.mark.parametrize("name", [name for name in NAMES if is_record(NAMES[name]) or short(name) in HANDED_OUT])
def test_a_record_describes_its_fields(name):
    kind = NAMES[name]
    found = entries(sections(kind.__doc__).get("Attributes", ""))
    assert all(found.values()), "an attribute has no type"
    if dataclasses.is_dataclass(kind):
        assert list(found) == [field.name for field in dataclasses.fields(kind)]
    elif hasattr(kind, "_fields"):
        assert list(found) == list(kind._fields)
    elif short(name) not in FIELDS_OF_OTHERS:
        assert found


@pytest.mark.parametrize(
    "name", [name for name, kind in NAMES.items() if inspect.isclass(kind) and not is_record(kind)]
)
def test_attributes_of_a_class_exist(name):
    assert set(entries(sections(NAMES[name].__doc__).get("Attributes", ""))) <= attributes(NAMES[name])


@pytest.mark.parametrize("name", DOCUMENTED)
def test_what_it_raises_exists(name):
    for section in ("Raises", "Warns"):
        for each in entries(sections(DOCUMENTED[name].__doc__).get(section, "")):
            kind = getattr(errors, each, None) or getattr(builtins, each, None)
            assert inspect.isclass(kind), each
            assert issubclass(kind, BaseException), each


@pytest.mark.parametrize("name", [name for name in NAMES if not is_error(NAMES[name])])
def test_there_is_an_example(name):
    parts = sections(NAMES[name].__doc__)
    if "Examples" not in parts:
        makers = [each for each in re.findall(r"\w+", parts.get("See Also", "")) if each in map(short, NAMES)]
        assert is_record(NAMES[name])
        assert any(
            "Examples" in sections(value.__doc__)
            for each in makers
            for full, value in NAMES.items()
            if short(full) == each
        )


# Examples


def example_names(name):
    """What a user has who wrote `import numpy as np, torch` and `from torchmin_nb... import *`."""
    package = name.rpartition(".")[0] if name in NAMES else "torchmin_nb"
    kinds = [full for full, kind in NAMES.items() if name.partition(".")[0] == short(full)]
    packages = ["torchmin_nb", package, *(full.rpartition(".")[0] for full in kinds)]
    known = {"np": np, "torch": torch}
    for each in packages:
        module = import_module(each)
        known |= {public_name: getattr(module, public_name) for public_name in module.__all__}
    return known


def with_examples():
    for package in PACKAGES:
        module = import_module(package)
        if ">>>" in (module.__doc__ or ""):
            yield package, module.__doc__, {"__name__": package}
    for name, value in DOCUMENTED.items():
        if ">>>" in (value.__doc__ or ""):
            yield name, value.__doc__, example_names(name)


@pytest.mark.parametrize(("name", "text", "known"), [pytest.param(*row, id=row[0]) for row in with_examples()])
def test_examples_run(name, text, known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(inspect.cleandoc(text), dict(known), name, None, None)
    report = []
    doctest.DocTestRunner().run(test, out=report.append)
    assert not report, "".join(report)
