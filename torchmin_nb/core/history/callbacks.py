"""Callbacks: their optional methods, and how they are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from ...errors import text_of
from .history import History
from .records import Evaluation, Iteration

__all__ = ["Callback", "Listener", "notify"]


class Callback(Protocol):
    """A callable of an `Iteration`. If it returns True or raises StopIteration, the run stops at the best point seen.

    Notes
    -----
    A callback may also have these methods. Each is called if it exists.

    - ``on_start(history)``: before the first closure call.
    - ``on_evaluation(evaluation)``: after each closure call; StopIteration stops the run.
    - ``on_end(history)``: when the run is over, however it ended.
    - ``on_bind(optimizer)``: before any work; it may refuse the run by raising.
    - ``on_release(optimizer)``: when parameters and result are final.
    - ``on_run(run)``: when a `Run` is made, in the thread that calls ``start``.

    If one callback raises, the others are still called, and then the error is raised.

    Examples
    --------
    >>> def small_enough(iteration):
    ...     return iteration.loss < 1.0
    >>> minimize(lambda x: (x**4).sum(), [3.0], "CG", callbacks=small_enough).message
    'Stopped by a callback.'
    """

    def __call__(self, iteration: Iteration, /) -> bool | None: ...


@runtime_checkable
class Listener(Protocol):
    """What a callback may have besides: each is called if it is there.

    on_start(history) before the first closure call, on_evaluation(evaluation) after each (StopIteration stops the run),
    on_end(history) when the run is over, however it ended. What one callback raises is raised once the others have been
    called. Around them, for what needs more than events: on_bind(optimizer) before any work,
    which may refuse by raising, and on_release(optimizer) when parameters and result are in place.
    """

    def on_start(self, history: History) -> None: ...
    def on_evaluation(self, evaluation: Evaluation) -> None: ...
    def on_end(self, history: History) -> None: ...


def notify(callbacks: Sequence[Any], name: str, subject: Any, accepting: list[Any] | None = None) -> None:
    """Call this method of every callback that has it. Then raise the first error, with the others as notes.

    An interrupt has priority over errors. accepting: filled with the callbacks that raised nothing.
    """
    failures: list[BaseException] = []
    for callback in callbacks:
        try:
            if hasattr(callback, name):
                getattr(callback, name)(subject)
            if accepting is not None:
                accepting.append(callback)
        except BaseException as error:
            failures.append(error)
    if not failures:
        return
    failures.sort(key=lambda failure: isinstance(failure, Exception))
    for other in failures[1:]:
        failures[0].add_note(f"{name} of a further callback raised {type(other).__name__}: {text_of(other)}")
    try:
        raise failures[0]
    finally:
        failures.clear()  # a traceback that contains itself would keep the objects of its frames alive
