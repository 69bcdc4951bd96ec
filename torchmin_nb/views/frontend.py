"""Which front end is there: a notebook, one without widgets, one that nobody watches, or a terminal."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Any

from ..errors import ArgumentError

__all__ = ["HEADLESS", "LIVE", "NOTEBOOK", "STATIC", "TERMINAL", "asked_client", "cell", "front_end", "shell"]

NOTEBOOK, STATIC, HEADLESS, TERMINAL = "notebook", "static", "headless", "terminal"
_VARIABLE = "TORCHMIN_NB_FRONT_END"
LIVE: dict[str, bool] = {}
"""Whether widgets live in a client: in a page, by the name of its session. Those of which it is not known are missing.
"""


def front_end() -> str:
    """NOTEBOOK with a browser and widgets, STATIC with a browser but without widgets, HEADLESS when nbclient or
    nbconvert runs the notebook, TERMINAL for all else.

    The environment variable TORCHMIN_NB_FRONT_END overrules what is found. Raises ArgumentError for another value.
    """
    chosen = os.environ.get(_VARIABLE)
    if chosen is not None:
        known = (NOTEBOOK, STATIC, HEADLESS, TERMINAL)
        if chosen not in known:
            raise ArgumentError(f"{_VARIABLE}={chosen!r} is not known; choose one of {', '.join(map(repr, known))}")
        return chosen
    kernel = getattr(shell(), "kernel", None)
    if kernel is None:
        return TERMINAL
    # A front end with a person behind it can be asked for input; nbclient says that it cannot.
    request = kernel.get_parent("shell").get("content", {})
    if not request.get("allow_stdin", False):
        return HEADLESS
    # Colab does not show what widgets are sent from other threads than the main one.
    widgets = "google.colab" not in sys.modules and find_spec("anywidget") and find_spec("ipywidgets")
    return NOTEBOOK if widgets and LIVE.get(_client(kernel), True) else STATIC


def asked_client() -> str | None:
    """The client that sent the present request; None where it need not be asked whether widgets live in it."""
    kernel = getattr(shell(), "kernel", None)
    return None if kernel is None or _VARIABLE in os.environ else _client(kernel)


def _client(kernel: Any) -> str:
    return str(kernel.get_parent("shell").get("header", {}).get("session", ""))


def cell() -> int | None:
    """The number of the cell that is running; None outside of notebooks."""
    return getattr(shell(), "execution_count", None)


def shell() -> Any:
    """The running IPython shell; IPython is not imported for the question."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
