"""Signatures that show every keyword: what `help()`, `inspect.signature` and Shift-Tab read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from inspect import Parameter
from typing import Any, TypeVar

__all__ = ["keyword_only", "shows_keywords"]

Function = TypeVar("Function", bound=Callable[..., Any])


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
