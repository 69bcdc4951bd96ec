"""SciPy's optimizers for PyTorch, made for the notebook."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ._public import publish
from ._version import __version__
from .analysis.landscape import landscape_data
from .analysis.spectrum import Spectrum, spectrum
from .core.autodiff.closure_check import ClosureReport
from .core.batches.full_batch import full_batch, shard
from .core.callbacks.checkpoint import Checkpoint, SavedRun
from .core.callbacks.history_file import HistoryFile
from .core.callbacks.run_store import RunStore, StoredRun
from .core.callbacks.tensorboard import TensorBoard
from .core.covariance.covariance import Covariance
from .core.covariance.estimates import Bands, Estimate
from .core.curvature.density import Density, Moment
from .core.display.hooks import (
    animated_by,
    comparison_shown_by,
    diagnosed_by,
    panel_shown_by,
    rescue_shown_by,
    run_watched_by,
    store_shown_by,
)
from .core.execution.result import Result
from .core.execution.run import Run
from .core.history.callbacks import Callback
from .core.history.history import History
from .core.history.metrics import record
from .core.history.records import Evaluation, Iteration
from .core.laplace.laplace import laplace
from .core.laplace.posterior import Laplace
from .core.methods.global_search import GLOBAL_METHODS
from .core.methods.least_squares import LEAST_SQUARES_METHODS
from .core.methods.local import METHODS, MethodSpec
from .core.methods.options import OptionSpec
from .core.methods.user import method, unregister
from .core.objective.constraints import Constraint
from .core.optimizers.curve_fit import CurveFit, curve_fit
from .core.optimizers.functional import minimize
from .core.optimizers.global_search import (
    BasinHoppingWrapper,
    BruteWrapper,
    DifferentialEvolutionWrapper,
    DirectWrapper,
    DualAnnealingWrapper,
    SHGOWrapper,
)
from .core.optimizers.least_squares import LeastSquaresWrapper
from .core.optimizers.minimize import MinimizeWrapper
from .core.optimizers.multistart import MultiStart, StartRun, multistart
from .core.optimizers.observe import observe
from .core.runtime.control import Status
from .core.signatures import shares_parameters, shows_keywords
from .core.storage.earlier_modules import find_earlier_modules
from .explore.comparison import Comparison, compare

__all__ = [
    "GLOBAL_METHODS",
    "LEAST_SQUARES_METHODS",
    "METHODS",
    "Bands",
    "BasinHoppingWrapper",
    "BruteWrapper",
    "Callback",
    "Checkpoint",
    "ClosureReport",
    "Comparison",
    "Constraint",
    "Covariance",
    "CurveFit",
    "Density",
    "DifferentialEvolutionWrapper",
    "DirectWrapper",
    "DualAnnealingWrapper",
    "Estimate",
    "Evaluation",
    "History",
    "HistoryFile",
    "Iteration",
    "Laplace",
    "LeastSquaresWrapper",
    "MethodSpec",
    "MinimizeWrapper",
    "Moment",
    "MultiStart",
    "OptionSpec",
    "Result",
    "Run",
    "RunStore",
    "SHGOWrapper",
    "SavedRun",
    "Spectrum",
    "StartRun",
    "Status",
    "StoredRun",
    "TensorBoard",
    "__version__",
    "compare",
    "curve_fit",
    "full_batch",
    "laplace",
    "method",
    "minimize",
    "multistart",
    "observe",
    "record",
    "shard",
    "spectrum",
    "unregister",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def _show_run(run: Run) -> None:
    """Import the views at the first use, and only if their packages are installed."""
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


def _watch_run(run: Run, interval: float) -> None:
    """The same for a cell that watches a run."""
    try:
        from .views.watching import watch_run
    except ModuleNotFoundError:
        run.wait_until_paused()
        print(repr(run))
    else:
        watch_run(run, interval)


def _show_comparison(comparison: Comparison) -> None:
    """The same for a comparison."""
    with suppress(ModuleNotFoundError):
        from .views.comparison_view import show_comparison

        show_comparison(comparison)


def _histories_page(histories: Mapping[str, History], **shown: Any) -> str:
    """The same for a figure in a page."""
    try:
        from .views.figures import convergence_figure
    except ModuleNotFoundError:
        return ""
    figure = convergence_figure(histories, **shown)
    return str(figure.to_html(full_html=False, include_plotlyjs=True))


def _show_store(store: RunStore) -> bool:
    """The same for the table of a store."""
    try:
        from .views.store.table import show_store
    except ModuleNotFoundError:
        return False
    return show_store(store)


def _diagnose(optimizer: Any, closure: Any, **how: Any) -> Any:
    """Import the doctor at the first use."""
    from .doctor import diagnose

    return diagnose(optimizer, closure, **how)


def _show_rescue(histories: Mapping[str, History], report: Any) -> None:
    """The same as for a comparison, for the remedies of a report."""
    with suppress(ModuleNotFoundError):
        from .views.rescue_view import show_rescue

        show_rescue(histories, report)


panel_shown_by(_show_run)
rescue_shown_by(_show_rescue)
diagnosed_by(_diagnose)
comparison_shown_by(_show_comparison, _histories_page)
run_watched_by(_watch_run)
animated_by(_animated)
store_shown_by(_show_store)
shares_parameters(landscape_data)(
    shows_keywords(landscape_data)(History.to_html)
)  # what core passes on to a page of views
publish(__name__)
find_earlier_modules()
