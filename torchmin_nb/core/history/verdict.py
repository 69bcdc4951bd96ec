"""How a run ended, in plain words: SciPy's messages speak of its variables, and call many a good end a failure."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from .history import History

__all__ = ["Verdict", "verdict"]


class Verdict(NamedTuple):
    """words: how it ended; empty while the run goes on. original: the message of SciPy, or of the solver."""

    words: str
    original: str


_ROUNDING = "a bad approximation|precision loss|rounding errors|stpmin|abnormal|linear search failed|unable to progress"
_WORDS = (
    (r"^converged \(\|f_n|factr\*epsmch|`ftol` term", "Converged: the loss hardly changes any more (ftol)"),
    (r"^converged \(\|x_n|`xtol` term", "Converged: the steps have become tiny (xtol)"),
    (r"both `ftol` and `xtol`", "Converged: loss and steps hardly change any more (ftol, xtol)"),
    (r"projected gradient|\|pg\| ~= 0", "Converged: the gradient is nearly zero"),
    (r"`gtol` term", "Converged: the gradient is nearly zero (gtol)"),
    (r"^optimization terminated successfully", "Converged: the method's own test is met"),
    (r"constraint violation exceeds", "Not converged: the constraints are not satisfied"),
    (r"inequality constraints incompatible", "Not converged: no step satisfies the linearised constraints"),
    (r"positive directional derivative", "Not converged: no step along the constraints lowers the loss"),
    (r"singular matrix|rank-deficient", "Not converged: the constraints' gradients depend on each other here"),
    (r"linalg error", "Not converged: the Hessian is not positive definite, or cannot be factorised"),
    (r"cg iterations didn't converge", "Not converged: the Hessian is not positive definite"),
    (
        r"iteration limit|number of iterations|iterations reached limit",
        "Not converged yet: the iteration limit is reached",
    ),
    (
        r"number of function evaluations|evaluations exceeds|evaluated maxfun|max_evaluations|calls and products",
        "Not converged yet: the limit of closure calls is reached",
    ),
    (r"max_seconds|time limit", "Not converged yet: the time limit is reached"),
    (r"nan result|became nan|not finite", "Failed: the loss is not a number here"),
)
_NEAR_ZERO = 100.0
"""Of √eps: a gradient that small, beside one of the start or a loss of size 1, is below the rounding of the loss."""


def verdict(history: History) -> Verdict:
    """The ending of a run; empty words while it goes on."""
    original = (history.message or "").strip()
    text = original.lower().rstrip(".")
    if not text:
        return Verdict("", "")
    if re.search(_ROUNDING, text):
        return Verdict(_at_rounding(history), original)
    words = next((words for pattern, words in _WORDS if re.search(pattern, text)), original.rstrip("."))
    return Verdict(words, original)


def _at_rounding(history: History) -> str:
    dtype = history.dtype or "float64"
    gradient = history.grad_norm[np.isfinite(history.grad_norm)]
    if not gradient.size:
        return "Stopped: rounding errors hide any further decrease"
    limit = _NEAR_ZERO * np.sqrt(np.finfo(dtype if dtype in ("float32", "float64") else "float32").eps)
    if gradient[-1] <= limit * max(1.0, min(abs(history[-1].loss), float(gradient[0]))):
        return f"Converged as far as {dtype} allows"
    return f"Not converged: no lower point was found, though the gradient norm is {gradient[-1]:.1e}"
