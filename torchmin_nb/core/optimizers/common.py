"""The keywords of all wrappers: one table of names, types, defaults and checks."""

from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from numbers import Integral
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, get_args, get_origin, get_type_hints

import torch

from ..history.callbacks import Callback
from ..validation import known_keywords, number, positive, truth
from .arguments import read_callbacks, read_errors, read_threads

__all__ = ["COMMON", "NONFINITE_ERRORS", "Common", "LossScale", "Threads", "read_common"]

LossScale = float | Literal["auto"]
Threads = int | Literal["auto"] | None


class Keyword(NamedTuple):
    """A row of the table: the default of a keyword, and the function that checks its value."""

    default: Any
    read: Callable[[str, Any], Any]


def _seconds(name: str, value: Any) -> Any:
    return positive(name, value)


def _whole(name: str, value: Any) -> Any:
    return positive(name, value, Integral)


def _callbacks(name: str, value: Any) -> Any:
    return read_callbacks(value)


def _threads(name: str, value: Any) -> Any:
    return read_threads(value)


NONFINITE_ERRORS = (torch.linalg.LinAlgError,)  # type: ignore[attr-defined]
"""The error of a factorisation that fails far from the minimum."""


class Common(TypedDict, total=False):
    """Keywords of every wrapper; `shares_parameters` puts their text into the docstring of each.

    Parameters
    ----------
    callbacks : callable or list of callables, optional
        Each is called with every `Iteration`; one that returns True stops the run. A callback may also have the methods
        ``on_start(history)``, ``on_evaluation(evaluation)`` and ``on_end(history)``. See `Callback`.
    max_seconds : float or None, optional
        Wall-clock seconds, pauses not counted. The run ends at the next closure call or product. Default: no limit.
    max_evaluations : int or None, optional
        Number of closure calls. The run ends before the next one. Default: no limit.
    target_loss : float or None, optional
        The run ends as soon as a feasible point has a loss of this value or less. Default: no target.
    keep_parameters : bool, optional
        Keep the point of every iteration in ``history.parameters``, shape (k, n), float64. Default False.
    keep_evaluations : bool, optional
        Keep every closure call in ``history.evaluations``. Default False.
    memory_budget : int or None, optional
        Bytes that the large arrays of the method may take: N×N matrices, Jacobians, grids. Default: what the machine
        has available.
    blas_threads : int, "auto" or None, optional
        Threads of NumPy's and SciPy's BLAS during the run. "auto", the default, uses one thread, except for large dense
        factorisations. None leaves the setting as it is.
    start_check : bool, optional
        Compare the first closure call with at most three more, which no count includes: at the same point, and at a
        point close by inside the bounds. ClosureError is raised if the closure moves the parameters, uses up an
        iterator, or depends on something computed before the call, and if captured and real derivatives differ.
        A ClosureWarning follows if the loss is not deterministic, if the gradient is not that of the loss, or if
        parameters have no gradient. False: the closure is called for the method only. Default True.
    nonfinite_errors : exception class or iterable of exception classes, optional
        If the closure or a constraint raises one of these at a trial point, the loss counts as NaN there and the trial
        is rejected. ``history.errors`` counts them by name. At the start they are raised. Default:
        ``torch.linalg.LinAlgError``; NumPy's LinAlgError is another class. ``()`` for none.
    """

    callbacks: Annotated[Callback | Iterable[Callback], Keyword((), _callbacks)]
    max_seconds: Annotated[float | None, Keyword(None, _seconds)]
    max_evaluations: Annotated[int | None, Keyword(None, _whole)]
    target_loss: Annotated[float | None, Keyword(None, number)]
    keep_parameters: Annotated[bool, Keyword(False, truth)]
    keep_evaluations: Annotated[bool, Keyword(False, truth)]
    memory_budget: Annotated[int | None, Keyword(None, _seconds)]
    blas_threads: Annotated[Threads, Keyword("auto", _threads)]
    start_check: Annotated[bool, Keyword(True, truth)]
    nonfinite_errors: Annotated[type[Exception] | Iterable[type[Exception]], Keyword(NONFINITE_ERRORS, read_errors)]


def _row(name: str, annotation: Any) -> tuple[Parameter, Keyword]:
    assert get_origin(annotation) is Annotated
    kind, keyword = get_args(annotation)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=keyword.default, annotation=kind), keyword


_ROWS = {name: _row(name, hint) for name, hint in get_type_hints(Common, include_extras=True).items()}

COMMON: tuple[Parameter, ...] = tuple(parameter for parameter, _ in _ROWS.values())
"""The shared keywords as parameters of a signature."""


def read_common(wrapper: str, own: Iterable[str], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """All shared keywords, checked, with defaults for the missing ones. own: the other keywords of the wrapper.

    Raises ArgumentTypeError for an unknown keyword, ArgumentError or ArgumentTypeError for a value that is not allowed.
    """
    known_keywords(wrapper, keywords, dict.fromkeys([*own, *_ROWS]))
    return {name: row.read(name, keywords.get(name, row.default)) for name, (_, row) in _ROWS.items()}
