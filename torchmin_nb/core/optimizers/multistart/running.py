"""The run from one start, here or in another process."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ....errors import BusyError, text_of
from ...autodiff.closure import Closure
from ...methods.local import own_rows, put_rows
from ...parameters.flat import trainable
from ...runtime.packing import Packer, unpack
from ...runtime.torch_settings import torch_settings
from ..base import ScipyOptimizer
from .result import StartRun

__all__ = ["Answer", "RemoteStart", "Start", "run_from"]


class Start(NamedTuple):
    """Number and point, shape (n,), of a start."""

    number: int
    x: NDArray[np.float64]


class Answer(NamedTuple):
    """What a worker sends back. run: None after the deadline. warned: categories and texts of its warnings."""

    run: StartRun | None
    warned: tuple[tuple[type[Warning], str], ...]


def run_from(
    start: Start,
    optimizer: ScipyOptimizer,
    closure: Closure,
    deadline: float | None = None,
    stopped: Callable[[], bool] | None = None,
) -> StartRun | None:
    """The run from a start, with the optimizer's parameters; None after the deadline, a time.time().

    stopped: whether the run is to end at its next iteration. Errors of the run are kept in it.
    """
    run = optimizer._forgetful()
    if stopped is not None:
        run.callbacks.append(lambda iteration: stopped())
    if deadline is not None:
        left = deadline - time.time()
        if left <= 0:
            return None
        own = run._budgets["max_seconds"]
        run._budgets = {**run._budgets, "max_seconds": left if own is None else min(own, left)}
    run._flat().write_final(start.x)
    error = None
    try:
        run.step(closure)
    except BusyError:
        raise
    except KeyboardInterrupt:
        if run.result is None or not math.isfinite(run.result.fun):
            raise
    except Exception as failure:
        error = f"{type(failure).__name__}: {text_of(failure)}"
    return StartRun(start.number, start.x, run.history, run.result, error)


class RemoteStart:
    """Runs starts in another process: a function for any `map`. Each run has its own copy of optimizer and closure.

    Raises WorkerError if they cannot be sent, or if the closure would not use the optimizer's parameters there.
    """

    def __init__(self, optimizer: ScipyOptimizer, closure: Closure, threads: int, deadline: float | None):
        request = getattr(optimizer, "request", None)
        packer = Packer(trainable(optimizer.param_groups))
        packer.add("the registered method", own_rows([] if request is None else [request.spec.name]))
        packer.add_closure(closure)
        packer.add("the optimizer", optimizer._forgetful())
        self._data = packer.data
        self._threads = threads
        self._deadline = deadline
        self._dtype = torch.get_default_dtype()

    def __call__(self, start: Start) -> Answer:
        """The run from a start, and its warnings."""
        rows, closure, optimizer = unpack(self._data)
        put_rows(rows)
        with torch_settings(threads=self._threads, dtype=self._dtype), warnings.catch_warnings(record=True) as caught:
            run = run_from(start, optimizer, closure, self._deadline)
        return Answer(run, tuple((_known(each.category), str(each.message)) for each in caught))


def _known(category: type[Warning]) -> type[Warning]:
    """A category that the other process has too."""
    return UserWarning if category.__module__ == "__main__" else category
