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
    """Keywords of every wrapper: MinimizeWrapper says what they mean."""

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
