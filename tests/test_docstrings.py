"""Public docstrings are in NumPy style, complete, and their examples run.

- A public callable with parameters has `Parameters`: those of its signature, in order, each with a type.
- One that returns something has `Returns`. A method without parameters may say it in its summary, as a property does.
- One that raises an error of the family in its own code has `Raises`, and names it.
- A record (a dataclass or a named tuple), a protocol, and a class that users are handed and never make have
  `Attributes`; those of a record are its fields.
- Every public class and function has `Examples`, which run. A record may have the example of what makes it, named in
  `See Also`. Errors and warnings have that of their module.
- Sections are numpydoc's, in its order.
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
from torchmin_nb.core.signatures import shares_parameters

PACKAGES = [
    "torchmin_nb",
    "torchmin_nb.analysis",
    "torchmin_nb.doctor",
    "torchmin_nb.errors",
    "torchmin_nb.explore",
    "torchmin_nb.nist",
    "torchmin_nb.problems",
    "torchmin_nb.solvers",
    "torchmin_nb.views",
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
ROWS = {"LeastSquaresSpec": LeastSquaresSpec, "GlobalSpec": GlobalSpec}
"""Rows of public tables, whose classes are not exported."""
HANDED_OUT = {"Comparison", "Report", "Result", "Run", "Status", "Picture"}
"""Classes that users are handed and never make."""
RESULT_FIELDS = {"x", "fun", "jac", "success", "status", "message", "nit", "nfev", "history"}
"""Keys of a Result, which is a dict."""
LONGEST_SUMMARY = 117
SECTION = re.compile(r"^(\S[^\n]*)\n(-{3,})(?:\n|\Z)", re.MULTILINE)
ENTRY = re.compile(r"^(?P<name>\S[^:\n]*?)(?: : (?P<type>\S[^\n]*))?$", re.MULTILINE)


# Docstrings, read


def sections(docstring):
    """Text by heading, in order; "" for what comes before the first."""
    parts = SECTION.split(inspect.cleandoc(docstring or ""))
    return {"": parts[0].strip(), **dict(zip(parts[1::3], map(str.rstrip, parts[3::3]), strict=True))}


def entries(docstring, section):
    """Names and types of a section's entries, in order."""
    return {found["name"]: found["type"] for found in ENTRY.finditer(sections(docstring).get(section, ""))}


# Public names


def public():
    """(name, class or function), under the first package that has it."""
    for package in PACKAGES:
        module = import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            value = value.__wrapped__ if isinstance(value, FunctionModule) else value
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{package}.{name}", value
    yield from ((f"torchmin_nb.{name}", kind) for name, kind in ROWS.items())


def is_ours(value):
    return inspect.isfunction(value) and value.__module__.startswith("torchmin_nb")


def members(kind):
    """(name, attribute, function) of the public methods and properties that are written in this package."""
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    for name in dir(kind):
        attribute = inspect.getattr_static(kind, name, None)
        function = attribute.fget if isinstance(attribute, property) else getattr(attribute, "__func__", attribute)
        if not name.startswith("_") and name not in fields and is_ours(function):
            yield name, attribute, function


def short(name):
    return name.rpartition(".")[2]


NAMES = dict({id(value): (name, value) for name, value in reversed(list(public()))}.values())
CLASSES = {name: value for name, value in NAMES.items() if inspect.isclass(value)}
MEMBERS = {
    id(function): (f"{name}.{member}", attribute, function)
    for name, kind in CLASSES.items()
    for member, attribute, function in members(kind)
}
"""One that several classes have is listed once."""
METHODS = {name: function for name, attribute, function in MEMBERS.values() if not isinstance(attribute, property)}
DOCUMENTED = {**NAMES, **{name: function for name, _, function in MEMBERS.values()}}


def is_record(value):
    return inspect.isclass(value) and (dataclasses.is_dataclass(value) or hasattr(value, "_fields"))


def is_protocol(value):
    return getattr(value, "_is_protocol", False)


def is_error(value):
    return inspect.isclass(value) and issubclass(value, Exception)


def has_attributes_instead(name, value):
    """Whether it has `Attributes` in place of `Parameters`."""
    return is_record(value) or is_protocol(value) or short(name) in HANDED_OUT


CALLABLES = {
    **{
        name: value
        for name, value in NAMES.items()
        if not has_attributes_instead(name, value) and not (is_error(value) and "__init__" not in vars(value))
    },
    **METHODS,
}


# What a callable says of its calls


def parameters(function):
    stars = {inspect.Parameter.VAR_KEYWORD: "**", inspect.Parameter.VAR_POSITIONAL: "*"}
    found = inspect.signature(function).parameters.values()
    return [stars.get(each.kind, "") + each.name for each in found if each.name not in ("self", "cls")]


def returns(function):
    """Whether it returns something."""
    return inspect.isfunction(function) and inspect.signature(function).return_annotation not in (None, "None")


def raised(value):
    """The errors of the family that the function, or the constructor, raises in its own code."""
    function = vars(value).get("__init__") if inspect.isclass(value) else inspect.unwrap(value)
    if function is None:
        return set()
    calls = [node.exc for node in ast.walk(parsed(function)) if isinstance(node, ast.Raise)]
    names = {call.func.id for call in calls if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
    return names & set(errors.__all__)


def parsed(function):
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def mistakes(value, *, method=False):
    """What a callable's docstring lacks."""
    text, wanted = value.__doc__, parameters(value)
    found = entries(text, "Parameters")
    if list(found) != wanted:
        yield f"Parameters are {list(found)}, the signature has {wanted}"
    yield from (f"{name} has no type" for name, kind in found.items() if not kind)
    if returns(value) and not (method and not wanted) and "Returns" not in sections(text):
        yield "no Returns"
    yield from (f"Raises lacks {name}" for name in raised(value) - entries(text, "Raises").keys())


def disorder(text):
    """What is wrong with the sections of a docstring."""
    parts = sections(text)
    headings = list(parts)[1:]
    if not parts[""] or len(parts[""].split("\n")[0]) > LONGEST_SUMMARY:
        yield "no summary in one line"
    if headings != [section for section in ORDER if section in headings]:
        yield f"sections are {headings}"
    yield from (
        f"{heading} is underlined by {len(line)}"
        for heading, line in SECTION.findall(inspect.cleandoc(text or ""))
        if len(heading) != len(line)
    )
    yield from (f"{section} is empty" for section in headings if not parts[section].strip())
    if "{" + "shared}" in (text or ""):
        yield "a place has been left unfilled"


@pytest.mark.parametrize("name", CALLABLES)
def test_a_callable_describes_what_goes_in_and_comes_out(name):
    assert not list(mistakes(CALLABLES[name], method=name in METHODS))


@pytest.mark.parametrize("name", DOCUMENTED)
def test_sections_are_numpydocs_and_in_order(name):
    assert not list(disorder(DOCUMENTED[name].__doc__))


@pytest.mark.parametrize("name", DOCUMENTED)
def test_what_it_raises_are_exceptions(name):
    text = DOCUMENTED[name].__doc__
    for each in (*entries(text, "Raises"), *entries(text, "Warns")):
        kind = getattr(errors, each, None) or getattr(builtins, each, None)
        assert inspect.isclass(kind), each
        assert issubclass(kind, BaseException), each


def test_the_walk_finds_what_there_is():
    assert {"torchmin_nb.minimize", "torchmin_nb.views.Dashboard", "torchmin_nb.explore.fit"} <= NAMES.keys()
    assert {"torchmin_nb.Run.branch", "torchmin_nb.problems.ProblemSpec.make"} <= METHODS.keys()
    assert any(name.endswith("Wrapper.step") for name in METHODS)
    assert len(DOCUMENTED) > 250
    assert len(CALLABLES) > 150


# Attributes


def fields(kind):
    return [each.name for each in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else list(kind._fields)


def attributes(kind):
    """What the objects of a class have: class attributes, annotations, and what its methods set."""
    found = set(dir(kind)) | (RESULT_FIELDS if issubclass(kind, dict) else set())
    for each in kind.__mro__:
        found |= set(vars(each).get("__annotations__", ()))
        for function in filter(is_ours, vars(each).values()):
            found |= {node.attr for node in ast.walk(parsed(function)) if is_set(node)}
    return found


def is_set(node):
    """Whether it is `self.name = ...`."""
    stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    return stored and isinstance(node.value, ast.Name) and node.value.id == "self"


@pytest.mark.parametrize("name", CLASSES)
def test_attributes_are_those_of_the_class(name):
    kind, found = CLASSES[name], entries(CLASSES[name].__doc__, "Attributes")
    assert all(found.values()), "an attribute has no type"
    if is_record(kind):
        assert list(found) == fields(kind)
    elif is_protocol(kind):
        assert set(found) == set(vars(kind).get("__annotations__", ()))
    else:
        assert set(found) <= attributes(kind)
        assert found or name in CALLABLES or is_error(kind)


# Examples


def example_names(name):
    """What a user has who wrote `import numpy as np, torch` and `from torchmin_nb... import *`."""
    package = next(package for package in reversed(PACKAGES) if name.startswith(f"{package}."))
    known = {"np": np, "torch": torch}
    for each in ("torchmin_nb", package):
        known |= {public_name: getattr(import_module(each), public_name) for public_name in import_module(each).__all__}
    return known


def with_examples():
    for package in PACKAGES:
        if ">>>" in (import_module(package).__doc__ or ""):
            yield pytest.param(import_module(package).__doc__, {"__name__": package}, id=package)
    for name, value in DOCUMENTED.items():
        if ">>>" in (value.__doc__ or ""):
            yield pytest.param(value.__doc__, example_names(name), id=name)


@pytest.mark.parametrize(("text", "known"), [*with_examples()])
def test_examples_run(text, known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(inspect.cleandoc(text), known, "example", None, None)
    report = []
    doctest.DocTestRunner().run(test, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("name", [name for name in NAMES if not is_error(NAMES[name])])
def test_there_is_an_example(name):
    parts = sections(NAMES[name].__doc__)
    if is_record(NAMES[name]) and "Examples" not in parts:
        makers = [value for other, value in NAMES.items() if short(other) in entries(NAMES[name].__doc__, "See Also")]
        assert makers
        parts = sections(makers[0].__doc__)
    assert ">>>" in parts.get("Examples", "")


def test_errors_share_the_example_of_their_module():
    assert ">>>" in sections(errors.__doc__)["Examples"]


# The rules refuse what they should


def bare(x: int, y: int = 0) -> int:
    """Without sections."""
    raise errors.ArgumentError


def misnamed(x: int) -> None:
    """Another name.

    Parameters
    ----------
    y : int
        Not in the signature.
    """


def untyped(x: int) -> None:
    """No type.

    Parameters
    ----------
    x
        Something.
    """


def silent(x: int) -> int:
    """Says not what it raises.

    Parameters
    ----------
    x : int
        Something.

    Returns
    -------
    int
        The same.
    """
    from torchmin_nb.errors import ArgumentError

    if x < 0:
        raise ArgumentError("negative")
    return x


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (bare, ["Parameters are [], the signature has ['x', 'y']", "no Returns"]),
        (misnamed, ["Parameters are ['y'], the signature has ['x']"]),
        (untyped, ["x has no type"]),
        (silent, ["Raises lacks ArgumentError"]),
    ],
)
def test_a_docstring_with_a_mistake_is_refused(function, found):
    assert list(mistakes(function)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "no summary in one line"),
        ("One.\n\nNotes\n-----\nA.\n\nReturns\n-------\nint\n", "sections are ['Notes', 'Returns']"),
        ("One.\n\nAnything\n--------\nA.\n", "sections are ['Anything']"),
        ("One.\n\nNotes\n---\nA.\n", "Notes is underlined by 3"),
        ("One.\n\nNotes\n-----\n\n", "Notes is empty"),
        ("One.\n\nParameters\n----------\n{" + "shared}\n", "a place has been left unfilled"),
    ],
)
def test_sections_in_disorder_are_refused(text, found):
    assert list(disorder(text)) == [found]


# Parameters that several share


class Shared:
    """Two of them.

    Parameters
    ----------
    a : int
        The first.

        In two paragraphs.
    b : str, optional
        The second.
    """


def test_shared_parameters_come_from_their_source():
    @shares_parameters(Shared)
    def function(x, b, a):
        """Takes both.

        Parameters
        ----------
        x : float
            Its own.
        {shared}

        Returns
        -------
        int
            Something.
        """

    assert entries(function.__doc__, "Parameters") == {"x": "float", "a": "int", "b": "str, optional"}
    assert "In two paragraphs." in function.__doc__


def test_what_is_described_or_not_taken_is_not_shared():
    @shares_parameters(Shared)
    def function(b):
        """Takes one, and describes it.

        Parameters
        ----------
        b : bytes
            Its own.
        {shared}
        """

    assert entries(function.__doc__, "Parameters") == {"b": "bytes"}


def test_without_docstrings_nothing_is_shared():
    def function(a):
        pass

    assert shares_parameters(Shared)(function).__doc__ is None
