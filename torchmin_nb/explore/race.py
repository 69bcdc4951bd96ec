"""Methods run one after another from the same start, with the same budget; each run becomes a row of the table."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Unpack

from ..core.history.history import History
from ..core.optimizers.base import ScipyOptimizer
from ..core.optimizers.common import COMMON, Common
from ..core.signatures import shows_keywords
from ..errors import BusyError
from ..problems import Problem
from .call import Call
from .plan import build
from .table import RunRow, row_of

__all__ = ["Race", "race", "run"]


@shows_keywords(COMMON)
def run(call: Call, *, name: str | None = None, **common: Unpack[Common]) -> RunRow:
    """Run a call to its end. An error of the closure, the method or the call is a row with its reason.

    name: of the row; the method's, with its engine, if None. The other keywords are those of every wrapper: see
    MinimizeWrapper.
    """
    return Race([call], names=[name or call.label], warm=False, **common).run_all()[0]


@shows_keywords(COMMON)
def race(
    calls: Iterable[Call],
    *,
    names: Sequence[str] | None = None,
    warm: bool = True,
    on_begin: Callable[[int, Call], None] | None = None,
    **common: Unpack[Common],
) -> list[RunRow]:
    """All runs of a Race, as rows: its keywords are those of Race."""
    return Race(list(calls), names=names, warm=warm, on_begin=on_begin, **common).run_all()


class Race:
    """Runs calls one after another; iterate over it for a row each, as soon as it is there.

    calls: the same problem, start and budget by several methods or engines, as `call.with_method(name)` and
    `call.with_method(name, engine="torch")` make them. One of the gallery is made afresh for each; the parameters of
    the user's model are put back to where they were at first.
    names: of the rows; the methods', with their engines, if None. warm: evaluate the closure and its gradient once
    before each run, outside all counts, so that the first runner does not pay for what torch does only once.
    on_begin: called with (index, call) before a run. The other keywords are those of every wrapper, callbacks included:
    see MinimizeWrapper.

    Runs never overlap, and each has the machine to itself, with the BLAS threads that it would have alone
    (blas_threads="auto"); give a number to hold all to the same.
    """

    @shows_keywords(COMMON)
    def __init__(
        self,
        calls: Sequence[Call],
        *,
        names: Sequence[str] | None = None,
        warm: bool = True,
        on_begin: Callable[[int, Call], None] | None = None,
        **common: Unpack[Common],
    ):
        self.calls = list(calls)
        self.rows: list[RunRow] = []
        self._names = [call.label for call in self.calls] if names is None else list(names)
        self._warm = warm
        self._on_begin = on_begin
        self._common = common
        self._stopped = threading.Event()
        self._running: ScipyOptimizer | None = None

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End the run under way at its next closure call, and begin no other. Any thread may ask."""
        self._stopped.set()
        running = self._running
        if running is not None:
            running.stop()

    def run_all(self) -> list[RunRow]:
        """All rows; those so far where it was stopped."""
        return list(self)

    def __iter__(self) -> Iterator[RunRow]:
        for index, (call, name) in enumerate(zip(self.calls, self._names, strict=True)):
            if self.stopped:
                return
            if self._on_begin is not None:
                self._on_begin(index, call)
            row = self._run(call, name)
            self.rows.append(row)
            yield row

    def _run(self, call: Call, name: str) -> RunRow:
        problem, optimizer, failure = None, None, None
        try:
            problem = call.make()
            if self._warm:
                _warm_up(problem)
            optimizer, closure = build(call, problem, **self._with_stop())
            self._running = optimizer
            optimizer.step(closure)
        except BusyError:
            raise
        except Exception as error:
            failure = error
        finally:
            self._running = None
        history = History(call.method) if optimizer is None else optimizer.history
        return row_of(call, history, problem, name=name, error=failure)

    def _with_stop(self) -> Common:
        """The common keywords, and a callback that handles a stop from before the start of the run."""
        passed = self._common.get("callbacks", ())
        callbacks = [passed] if callable(passed) else list(passed)
        return {**self._common, "callbacks": [*callbacks, lambda iteration: self.stopped]}


def _warm_up(problem: Problem) -> None:
    with suppress(Exception):  # the run itself reports the error
        loss = problem.closure()
        if loss.requires_grad:
            loss.backward()
        for parameter in problem.parameters:
            parameter.grad = None
