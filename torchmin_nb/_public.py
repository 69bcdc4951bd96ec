"""Helpers for the public packages: `__module__` of public names, and modules that can be called like a function."""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

__all__ = ["FunctionModule", "called_as_its_function", "publish", "published"]


def publish(package: str, defined_below: str | None = None) -> None:
    """Set `__module__` of all exported names to the package. Pickles then name the package, and still load after moves.

    defined_below: the package whose modules define the names; default: the exporting package.
    """
    names = vars(sys.modules[package])
    for name in names["__all__"]:
        if name in names:
            published(names[name], package, defined_below)


def published(value: Any, package: str, defined_below: str | None = None) -> Any:
    """The same value; if it is a class or function defined inside the package, its `__module__` is the package."""
    if isinstance(value, type | FunctionType) and value.__module__.startswith(f"{defined_below or package}."):
        if isinstance(value, type):
            _evaluate_annotations(value)
        value.__module__ = package
    return value


def _evaluate_annotations(kind: type) -> None:
    """Done while their names are looked up where the class is defined: `typing.get_type_hints` uses `__module__`."""
    with suppress(NameError):  # a name that is imported for type checkers only
        annotations = inspect.get_annotations(kind, eval_str=True)
        if annotations:
            kind.__annotations__ = annotations


class FunctionModule(ModuleType):
    """A module that contains a function of the same name. The module can be called like the function.

    An attribute of a package is either the module or the function that the package exports under this name; so it is
    the module, and `package.fit(...)` works as well as `import package.fit`.
    """

    @property
    def __wrapped__(self) -> Any:
        """The function: `inspect.signature` and `help` in a notebook show its parameters."""
        return getattr(self, self.__name__.rpartition(".")[2])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return import_module, (self.__name__,)


def called_as_its_function(name: str) -> ModuleType:
    """Make the module of this name callable, and return it."""
    module = sys.modules[name]
    module.__class__ = FunctionModule
    return module
