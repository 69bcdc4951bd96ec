"""Methods for widgets to call: ipywidgets keeps each widget, and with it all that a callback of it holds."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["weakly"]


def weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """A bound method for a widget to call, that does not keep its object alive."""
    held = weakref.WeakMethod(method)

    def call(*arguments: Any, **keywords: Any) -> Any:
        living = held()
        return None if living is None else living(*arguments, **keywords)

    return call
