"""Signatures and docstrings that show every keyword: what `help()`, `inspect.signature` and Shift-Tab read."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from inspect import Parameter
from typing import Any, TypeVar

__all__ = ["keyword_only", "shares_parameters", "shows_keywords"]

Function = TypeVar("Function", bound=Callable[..., Any])

_PLACE = "{shared}"
_PARAMETERS = re.compile(r"^(?:Parameters|Attributes)\n-+\n(.*?)(?=^\S[^\n]*\n-+$|\Z)", re.MULTILINE | re.DOTALL)
_ENTRY = re.compile(r"^(\S[^\n]*)((?:\n(?:[ ][^\n]*)?)*)", re.MULTILINE)


def shows_keywords(*sources: Callable[..., Any] | Iterable[Parameter]) -> Callable[[Function], Function]:
    """Decorator of a function with `**keywords`: its signature shows each keyword, with annotation and default.

    sources: functions to which the keywords are passed, or parameters. The function's own parameters come first.
    Annotations are evaluated, so that a choice is shown as its values and not as the name of a type.
    """

    def show(function: Function) -> Function:
        signature = _evaluated(function)
        own = [each for each in signature.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        passed = {each.name: each for source in sources for each in keyword_only(source)}
        added = [each for name, each in passed.items() if name not in signature.parameters]
        function.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        return function

    return show


def keyword_only(source: Callable[..., Any] | Iterable[Parameter]) -> list[Parameter]:
    """The keyword-only parameters of a function, or of a sequence of parameters."""
    parameters = _evaluated(source).parameters.values() if callable(source) else source
    return [each for each in parameters if each.kind is Parameter.KEYWORD_ONLY]


def _evaluated(function: Callable[..., Any]) -> inspect.Signature:
    """The signature, with evaluated annotations if all their names exist at run time."""
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:
        return inspect.signature(function)


def shares_parameters(*sources: Any) -> Callable[[Function], Function]:
    """Decorator of a class or function: the line `{shared}` of its docstring becomes the parameters of others.

    sources: classes or functions with a docstring in NumPy style. Taken are the parameters of the signature (the fields
    of a record) that the docstring does not describe itself. A docstring is None under `python -OO`, and stays so.
    """

    def share(target: Function) -> Function:
        if target.__doc__ is not None:
            text = inspect.cleandoc(target.__doc__)
            shared = {name: entry for source in sources for name, entry in _entries(source.__doc__ or "").items()}
            wanted = inspect.signature(target).parameters.keys() - _entries(text).keys()
            target.__doc__ = text.replace(_PLACE, "\n".join(shared[name] for name in shared if name in wanted))
        return target

    return share


def _entries(docstring: str) -> dict[str, str]:
    """The entries of the section `Parameters`, or of a record's `Attributes`, by name."""
    section = _PARAMETERS.search(inspect.cleandoc(docstring))
    found = _ENTRY.finditer(section[1].strip()) if section else ()
    return {entry[1].partition(" : ")[0].strip(): entry[0].rstrip() for entry in found if entry[1] != _PLACE}
