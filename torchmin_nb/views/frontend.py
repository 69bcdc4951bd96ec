"""Which front end is there: a notebook, a notebook that nobody watches, or a terminal."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["HEADLESS", "NOTEBOOK", "TERMINAL", "front_end"]

NOTEBOOK, HEADLESS, TERMINAL = "notebook", "headless", "terminal"


def front_end() -> str:
    """NOTEBOOK with a browser, HEADLESS when nbclient or nbconvert runs the notebook, TERMINAL for all else."""
    shell = _shell()
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return TERMINAL
    # A front end with a person behind it can be asked for input; nbclient says that it cannot.
    request = kernel.get_parent("shell").get("content", {})
    return NOTEBOOK if request.get("allow_stdin", False) else HEADLESS


def _shell() -> Any:
    """The running IPython shell; IPython is not imported for the question."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
