"""Methods run one after another from the same start, with the same budget; each run becomes a row of the table."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Unpack

from ..core.history.history import History
from ..core.optimizers.base import ScipyOptimizer
from ..core.optimizers.common import COMMON, Common
from ..core.signatures import shares_parameters, shows_keywords
from ..errors import BusyError
from ..problems import Problem
from .call import Call
from .plan import build
from .table import RunRow, row_of

__all__ = ["Race", "race", "run"]


@shares_parameters(Common)
@shows_keywords(COMMON)
def run(call: Call, *, name: str | None = None, **common: Unpack[Common]) -> RunRow:
    """Run a call to its end. An error of the closure, the method or the call becomes a row with its reason.

    Parameters
    ----------
    call : Call
        The run.
    name : str or None, optional
        Name of the row. Default: the method, with its engine if one is named.
    {shared}

    Returns
    -------
    RunRow
        What came out.

    Raises
    ------
    BusyError
        If another run is moving the same parameters.

    Examples
    --------
    >>> row = run(Call("Rosenbrock", "BFGS"))
    >>> row.name, row.solved
    ('BFGS', True)
    """
    return Race([call], names=[name or call.label], warm=False, **common).run_all()[0]


@shares_parameters(Common)
@shows_keywords(COMMON)
def race(
    calls: Iterable[Call],
    *,
    names: Sequence[str] | None = None,
    warm: bool = True,
    on_begin: Callable[[int, Call], None] | None = None,
    **common: Unpack[Common],
) -> list[RunRow]:
    """Run several calls one after another. See `Race`.

    Parameters
    ----------
    calls : iterable of Call
        The runs.
    names : sequence of str or None, optional
        Names of the rows. Default: the methods, with their engines if named.
    warm : bool, optional
        Evaluate closure and gradient once before each run. Default True.
    on_begin : callable or None, optional
        Called with (index, call) before each run.
    {shared}

    Returns
    -------
    list of RunRow
        A row for each run.

    Raises
    ------
    BusyError
        If another run is moving the same parameters.

    Examples
    --------
    >>> call = Call("Rosenbrock", "BFGS")
    >>> [(row.name, row.solved) for row in race([call, call.with_method("BFGS", engine="torch")])]
    [('BFGS', True), ('BFGS (torch)', True)]
    """
    return Race(list(calls), names=names, warm=warm, on_begin=on_begin, **common).run_all()


@shares_parameters(Common)
class Race:
    """Runs of several calls, one after another. Iterate over it: each row comes as soon as its run has ended.

    Runs never overlap. Each has the machine to itself, with the BLAS threads that it would have alone
    (``blas_threads="auto"``); a number holds all to the same.

    Parameters
    ----------
    calls : sequence of Call
        The same problem, start and budget with several methods or engines, as ``call.with_method(name)`` and
        ``call.with_method(name, engine="torch")`` make them. A problem of the gallery is made anew for each run. The
        parameters of a model of yours are put back to where they were at first.
    names : sequence of str or None, optional
        Names of the rows. Default: the methods, with their engines if named.
    warm : bool, optional
        Evaluate closure and gradient once before each run, outside all counts, so that the first run does not pay for
        what torch does only once. Default True.
    on_begin : callable or None, optional
        Called with (index, call) before each run.
    {shared}

    Attributes
    ----------
    calls : list of Call
        The runs.
    rows : list of RunRow
        The rows so far.

    Examples
    --------
    >>> call = Call("Rosenbrock", "BFGS")
    >>> contest = Race([call, call.with_method("trust-ncg")])
    >>> [row.name for row in contest if row.solved]
    ['BFGS', 'trust-ncg']
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
        """End the present run at its next closure call, and begin no other. Any thread may call it."""
        self._stopped.set()
        running = self._running
        if running is not None:
            running.stop()

    def run_all(self) -> list[RunRow]:
        """Run all calls and return the rows, a list of RunRow; those so far if it was stopped."""
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
