"""SciPy's optimizers for PyTorch, made for the notebook."""

from ._version import __version__
from .core.constraints import Constraint
from .core.events import Callback, Evaluation, History, Iteration
from .core.functional import minimize
from .core.least_squares import LeastSquaresWrapper
from .core.least_squares_methods import LEAST_SQUARES_METHODS
from .core.methods import METHODS
from .core.optimizer import MinimizeWrapper

__all__ = [
    "LEAST_SQUARES_METHODS",
    "METHODS",
    "Callback",
    "Constraint",
    "Evaluation",
    "History",
    "Iteration",
    "LeastSquaresWrapper",
    "MinimizeWrapper",
    "__version__",
    "minimize",
]
