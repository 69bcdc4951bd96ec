"""The user's functions as SciPy calls them: their exceptions are not taken for errors of SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .control import Abort

__all__ = ["UserFunction", "shielded"]


class UserFunction:
    """Calls a function; its exceptions are raised as `Abort`, except StopIteration, which SciPy handles.

    Attributes are read from the function and written to it: basinhopping adapts `take_step.stepsize`.
    """

    __slots__ = ("__wrapped__",)

    def __init__(self, function: Callable[..., Any]):
        object.__setattr__(self, "__wrapped__", function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.__wrapped__(*args, **kwargs)
        except StopIteration:
            raise
        except Exception as error:
            raise Abort(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, value)


def shielded(value: Any) -> Any:
    """A callable as a UserFunction; another value unchanged."""
    return UserFunction(value) if callable(value) else value
