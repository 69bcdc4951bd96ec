"""SciPy's optimizers for PyTorch, made for the notebook."""

from typing import Any

from ._public import publish
from ._version import __version__
from .analysis.landscape import landscape_data
from .core.check import ClosureReport
from .core.checkpoint import Checkpoint, SavedRun
from .core.constraints import Constraint
from .core.control import Status
from .core.events import Callback, Evaluation, History, Iteration
from .core.functional import minimize
from .core.global_search import (
    GLOBAL_METHODS,
    BasinHoppingWrapper,
    BruteWrapper,
    DifferentialEvolutionWrapper,
    DirectWrapper,
    DualAnnealingWrapper,
    SHGOWrapper,
)
from .core.history_file import HistoryFile
from .core.least_squares import LeastSquaresWrapper
from .core.least_squares_methods import LEAST_SQUARES_METHODS
from .core.methods import METHODS, MethodSpec, OptionSpec
from .core.metrics import record
from .core.observe import observe
from .core.optimizer import MinimizeWrapper
from .core.own import method, unregister
from .core.report import animated_by
from .core.result import Result
from .core.run import Run, panel_shown_by
from .core.signatures import shows_keywords
from .core.tensorboard import TensorBoard
from .core.uncertainty import Covariance

__all__ = [
    "GLOBAL_METHODS",
    "LEAST_SQUARES_METHODS",
    "METHODS",
    "BasinHoppingWrapper",
    "BruteWrapper",
    "Callback",
    "Checkpoint",
    "ClosureReport",
    "Constraint",
    "Covariance",
    "DifferentialEvolutionWrapper",
    "DirectWrapper",
    "DualAnnealingWrapper",
    "Evaluation",
    "History",
    "HistoryFile",
    "Iteration",
    "LeastSquaresWrapper",
    "MethodSpec",
    "MinimizeWrapper",
    "OptionSpec",
    "Result",
    "Run",
    "SHGOWrapper",
    "SavedRun",
    "Status",
    "TensorBoard",
    "__version__",
    "method",
    "minimize",
    "observe",
    "record",
    "unregister",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def _show_run(run: Run) -> None:
    """Views are imported when one is wanted, and only if their packages are there."""
    try:
        from .views.live import show_run
    except ModuleNotFoundError:
        print(repr(run))
    else:
        show_run(run)


def _animated(history: History, **shown: Any) -> str:
    """The same for animated pages."""
    from .views import animated_html

    return animated_html(history, **shown)


panel_shown_by(_show_run)
animated_by(_animated)
shows_keywords(landscape_data)(History.to_html)  # what core passes on to a page of views
publish(__name__)
