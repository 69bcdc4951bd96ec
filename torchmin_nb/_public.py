"""What the packages say of their public names: the package they are from, and modules that are called as a function."""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

__all__ = ["FunctionModule", "called_as_its_function", "publish", "published"]


def publish(package: str, defined_below: str | None = None) -> None:
    """Set `__module__` of all that the package exports: pickles name the package, and survive moves.

    defined_below: the package that defines them; this one if None.
    """
    names = vars(sys.modules[package])
    for name in names["__all__"]:
        if name in names:
            published(names[name], package, defined_below)


def published(value: Any, package: str, defined_below: str | None = None) -> Any:
    """The same value; a class or function that is defined below the package says that it is from the package."""
    if isinstance(value, type | FunctionType) and value.__module__.startswith(f"{defined_below or package}."):
        if isinstance(value, type):
            _evaluate_annotations(value)
        value.__module__ = package
    return value


def _evaluate_annotations(kind: type) -> None:
    """Done while their names are looked up where the class is defined: `typing.get_type_hints` uses `__module__`."""
    with suppress(NameError):  # of a name that only type checkers import
        annotations = inspect.get_annotations(kind, eval_str=True)
        if annotations:
            kind.__annotations__ = annotations


class FunctionModule(ModuleType):
    """A module with a function of its own name. It can be called like the function.

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
    """The module of this name, which can be called from now on."""
    module = sys.modules[name]
    module.__class__ = FunctionModule
    return module
