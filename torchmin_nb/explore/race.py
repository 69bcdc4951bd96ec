"""Methods run from the same start, with the same budget, alone or in processes; each run becomes a row of the table."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from operator import itemgetter
from typing import Unpack

from ..core.history.history import History
from ..core.methods.local import own_rows, put_rows
from ..core.optimizers.base import ScipyOptimizer
from ..core.optimizers.common import COMMON, Common
from ..core.runtime.packing import Packer, unpack
from ..core.runtime.processes import Workers, read_workers, spread
from ..core.runtime.torch_settings import torch_settings
from ..core.signatures import shares_parameters, shows_keywords
from ..errors import BusyError
from ..problems import Problem
from .call import Call
from .plan import build
from .subject import Subject
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
    workers: Workers = 1,
    on_begin: Callable[[int, Call], None] | None = None,
    **common: Unpack[Common],
) -> list[RunRow]:
    """Run several calls, one after another or in processes. See `Race`.

    Parameters
    ----------
    calls : iterable of Call
        The runs.
    names : sequence of str or None, optional
        Names of the rows. Default: the methods, with their engines if named.
    warm : bool, optional
        Evaluate closure and gradient once before each run. Default True.
    workers : int or map-like callable, optional
        Number of processes, as for `Race`. Default 1: everything runs in this process.
    on_begin : callable or None, optional
        Called with (index, call) before each run.
    {shared}

    Returns
    -------
    list of RunRow
        A row for each run, in the order of the calls.

    Raises
    ------
    BusyError
        If another run is moving the same parameters.
    WorkerError
        If a call or a callback cannot be sent to a process.

    Examples
    --------
    >>> call = Call("Rosenbrock", "BFGS")
    >>> [(row.name, row.solved) for row in race([call, call.with_method("BFGS", engine="torch")])]
    [('BFGS', True), ('BFGS (torch)', True)]
    """
    return Race(list(calls), names=names, warm=warm, workers=workers, on_begin=on_begin, **common).run_all()


@shares_parameters(Common)
class Race:
    """Runs of several calls. Iterate over it: each row comes as soon as its run has ended.

    With ``workers=1`` runs never overlap. Each has the machine to itself, with the BLAS threads that it would have
    alone (``blas_threads="auto"``); a number holds all to the same. With more workers, losses and counts are the same,
    and seconds are those of runs that share the machine.

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
    workers : int or map-like callable, optional
        Number of processes, -1 for one on each core, or a function like ``map``, as for `multistart`. Each process has
        one thread and its own copy of the problem; callbacks are called there. Default 1.
    on_begin : callable or None, optional
        Called with (index, call) before each run.
    {shared}

    Attributes
    ----------
    calls : list of Call
        The runs.
    rows : list of RunRow
        The rows so far, as they arrived.

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
        workers: Workers = 1,
        on_begin: Callable[[int, Call], None] | None = None,
        **common: Unpack[Common],
    ):
        self.calls = list(calls)
        self.rows: list[RunRow] = []
        self._names = [call.label for call in self.calls] if names is None else list(names)
        self._warm = warm
        self._workers = read_workers(workers)
        self._arrived: list[int] = []
        self._on_begin = on_begin
        self._common = common
        self._stopped = threading.Event()
        self._running: ScipyOptimizer | None = None

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End the present run at its next closure call, and begin no other. Any thread may call it.

        The runs of worker processes are ended at once, without a row.
        """
        self._stopped.set()
        running = self._running
        if running is not None:
            running.stop()

    def run_all(self) -> list[RunRow]:
        """Run all calls and return the rows in their order, a list of RunRow; those so far if it was stopped."""
        rows = list(self)
        return [row for _, row in sorted(zip(self._arrived[-len(rows) :], rows, strict=False), key=itemgetter(0))]

    def __iter__(self) -> Iterator[RunRow]:
        for index, row in self._here() if self._workers == 1 else self._elsewhere():
            self.rows.append(row)
            self._arrived.append(index)
            yield row

    def _here(self) -> Iterator[tuple[int, RunRow]]:
        for index, (call, name) in enumerate(zip(self.calls, self._names, strict=True)):
            if self.stopped:
                return
            self._begun(index)
            yield index, self._run(call, name)

    def _elsewhere(self) -> Iterator[tuple[int, RunRow]]:
        if self.stopped:
            return
        run = RemoteCall(self._warm, self._common)
        pairs = list(zip(self.calls, self._names, strict=True))
        items = [packed_call(call, name) for call, name in pairs]
        with closing(spread(run, items, self._workers, on_begin=self._begun, stopped=self._stopped.is_set)) as answers:
            for index, answer in answers:
                call, name = pairs[index]
                if isinstance(answer, RunRow):
                    yield index, replace(answer, call=call)
                else:
                    yield index, row_of(call, History(call.method), None, name=name, error=answer)

    def _begun(self, index: int) -> None:
        if self._on_begin is not None:
            self._on_begin(index, self.calls[index])

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


class RemoteCall:
    """Runs packed calls in another process: a function for any `map`. Raises WorkerError for callbacks that cannot go.

    The row comes back without its call, which may hold the user's model.
    """

    def __init__(self, warm: bool, common: Common):
        packer = Packer()
        packer.add("the keywords", (warm, dict(common)))
        self._data = packer.data

    def __call__(self, packed: bytes) -> RunRow:
        """The row of a call."""
        ((warm, common),) = unpack(self._data)
        rows, *_, call, name = unpack(packed)
        put_rows(rows)
        with torch_settings(threads=1):
            (row,) = Race([call], names=[name], warm=warm, **common).run_all()
        return replace(row, call=Call(row.problem, row.method))


def packed_call(call: Call, name: str) -> bytes:
    """A call for another process. Raises WorkerError if it cannot go there, or would leave its parameters here."""
    own = call.problem if isinstance(call.problem, Subject) else None
    packer = Packer(own.parameters if own is not None else ())
    packer.add("the registered method", own_rows([call.method]))
    if own is not None and own.closure is not None:
        packer.add_closure(own.closure)
    packer.add("the call", call)
    packer.add("its name", name)
    return packer.data


def _warm_up(problem: Problem) -> None:
    with suppress(Exception):  # the run itself reports the error
        loss = problem.closure()
        if loss.requires_grad:
            loss.backward()
        for parameter in problem.parameters:
            parameter.grad = None
