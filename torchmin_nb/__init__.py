"""SciPy's optimizers for PyTorch, made for the notebook."""

from ._version import __version__
from .core.constraints import Constraint
from .core.events import Callback, Evaluation, History, Iteration
from .core.functional import minimize
from .core.methods import METHODS
from .core.optimizer import MinimizeWrapper

__all__ = [
    "METHODS",
    "Callback",
    "Constraint",
    "Evaluation",
    "History",
    "Iteration",
    "MinimizeWrapper",
    "__version__",
    "minimize",
]
