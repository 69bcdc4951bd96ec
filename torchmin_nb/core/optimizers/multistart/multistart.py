"""`multistart(optimizer, closure, starts)`: one run from each start, in this process or in many."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.optimize import Bounds

from ....errors import ArgumentError, ArgumentTypeError, BusyError, ClosureError, DistributedError
from ...autodiff.closure import Closure, require_closure
from ...batches.full_batch import FullBatch
from ...execution.run import exclusive_parameters
from ...history.history import History
from ...parameters.bounds import group_scale, read_bounds
from ...parameters.flat import FlatParameters
from ...runtime.control import Control, Status
from ...runtime.processes import Answers, Workers, read_workers, spread
from ...runtime.torch_settings import torch_settings
from ...signatures import shows_keywords
from ...validation import count, number, positive
from ..arguments import refuse_several_processes
from ..base import ScipyOptimizer
from ..global_search.base import GlobalOptimizer
from ..global_search.population import LossOfParameters
from .result import MultiStart, StartRun, Tolerances
from .running import Answer, RemoteStart, Start, run_from
from .screening import screen
from .starts import Sampling, read_starts

__all__ = ["multistart"]

OnResult = Callable[[StartRun, MultiStart], object]
_Runs = Generator[StartRun | None, None, None]

_CLOSE, _CLOSE_ROUNDINGS = 1e-4, 10.0
_LATE, _INTERRUPTED = "the time (max_seconds) was over", "interrupted"


@shows_keywords()
def multistart(
    optimizer: ScipyOptimizer,
    closure: Closure | None,
    starts: Any,
    workers: Workers = 1,
    *,
    threads: int = 1,
    bounds: Any = None,
    sampling: Sampling = "latinhypercube",
    rng: Any = None,
    keep: int | None = None,
    loss: LossOfParameters | None = None,
    max_seconds: float | None = None,
    x_tolerance: float | None = None,
    loss_tolerance: float = 1e-4,
    on_result: OnResult | None = None,
) -> MultiStart:
    """Run a method from many starts, and keep the best end point.

    Parameters
    ----------
    optimizer : MinimizeWrapper or another wrapper
        Method, options, budgets and callbacks of each run. Its parameters end at the best point; ``result`` and
        ``history`` are those of the best run.
    closure : callable or None
        Computes the loss, as for ``step``. None for a global wrapper that has ``loss=``.
    starts : int, array_like of shape (k, n), or sequence
        The starts: rows of an array or tensor, or a sequence whose entries are vectors of shape (n,), or lists of
        tensors, one for each trainable parameter (for example ``list(model.parameters())`` of another model). An
        integer k: the present values of the parameters, and k - 1 points drawn between the bounds.
    workers : int or map-like callable, optional
        Number of processes, -1 for one on each core. 1, the default, runs everything in this process, one run after
        another. Or a function like ``map``, as SciPy's ``workers``: ``workers(function, starts)`` returns the values in
        order, for example the ``map`` of a pool, of Dask or of mpi4py.
    threads : int, optional
        Threads of torch in each run. Default 1, for every number of workers, so that it does not change the results.
    bounds : sequence of (low, high), scipy.optimize.Bounds or None, optional
        Between which starts are drawn; the runs do not see these. Default: the bounds of the optimizer.
    sampling : {"latinhypercube", "sobol", "halton", "random"}, optional
        How starts are drawn, by `scipy.stats.qmc`. Default "latinhypercube".
    rng : int, numpy.random.Generator or None, optional
        Seed of the drawn starts. Default: another one each time.
    keep : int or None, optional
        Compute the losses at all starts first, and run only from the best `keep` of them. Default: run from all.
    loss : callable or None, optional
        For `keep`: the loss as a function of the list of parameters, which `torch.func.vmap` accepts.
    max_seconds : float or None, optional
        Wall-clock seconds for all runs together: then runs end, and no other begins. Default: no limit.
    x_tolerance : float or None, optional
        Two end points are one minimum if no entry differs by more than this, relative to the width of the bounds, or
        without bounds to the parameter's ``scale`` plus its size. Default 1e-4; in float32 3e-3.
    loss_tolerance : float, optional
        And if their losses differ by no more than this, relative to the descent from the start. Default 1e-4.
    on_result : callable or None, optional
        Called with each run as it arrives, and with the `MultiStart` so far. If it returns True, no other run begins
        and running ones end. `StartsView` draws the runs. Methods ``on_start(total)`` and ``on_end(found)`` of it are
        called too, if it has them.

    Returns
    -------
    MultiStart
        The runs, best first, and the distinct minima.

    Raises
    ------
    ArgumentError
        If starts, bounds or a number is not allowed.
    ArgumentTypeError
        If optimizer, closure or workers is of the wrong type.
    WorkerError
        If optimizer or closure cannot be sent to a process. The message names the object.
    ClosureError
        If all runs failed.
    BusyError
        If another run is moving the same parameters.
    DistributedError
        If torch.distributed uses several processes.

    Notes
    -----
    Processes are spawned, not forked. Optimizer and closure are sent together, with cloudpickle: functions of a
    notebook by value, functions of a module by name. Callbacks are called in the worker, and what the closure changes
    besides the parameters is changed there. Each run has a new copy. With ``workers=1`` nothing is copied. The runs are
    the same bit for bit for every number of workers if the method and the closure are deterministic (a global search
    needs a seed).

    Only the losses of `keep` are computed together, under `torch.func.vmap`, if ``loss`` is passed, or if the closure
    has the attributes ``model`` and ``loss``; ``found.together`` says whether this was done. The runs are not
    vectorised: each has its own steps.

    A KeyboardInterrupt ends the runs that are under way; what was found until then is returned, with ``found.ended``.
    It is raised if nothing was found yet.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    >>> optimizer = MinimizeWrapper([{"params": [x], "bounds": (-3, 3)}], "L-BFGS-B")
    >>> found = multistart(optimizer, lambda: ((x**2 - 1) ** 2 + 0.3 * x).sum(), 8, rng=0)
    >>> [round(minimum.loss, 3) for minimum in found.minima], x.detach().numpy().round(3)
    ([-0.305, 0.294], array([-1.036]))
    >>> found.best.result is optimizer.result, len(found.failed)
    (True, 0)
    """
    if not isinstance(optimizer, ScipyOptimizer):
        raise ArgumentTypeError(
            f"multistart takes a wrapper of torchmin_nb, such as MinimizeWrapper(params), got "
            f"{type(optimizer).__name__}; its arguments are (optimizer, closure, starts)"
        )
    closure = optimizer._closure(closure) if isinstance(optimizer, GlobalOptimizer) else require_closure(closure)
    workers = read_workers(workers)
    count("threads", threads)
    positive("keep", keep, Integral)
    if loss is not None and keep is None:
        raise ArgumentError("loss= is for keep=, which computes the losses at all starts together; pass keep too")
    seconds = positive("max_seconds", max_seconds, Real)
    deadline = None if seconds is None else time.time() + seconds
    _refuse_ranks(closure)
    flat = optimizer._flat()
    boxes = [optimizer._bounds(flat), read_bounds(bounds, flat.n)]
    rows = read_starts(starts, flat, boxes[0] if bounds is None else boxes[1], sampling, rng)
    tolerances = _tolerances(optimizer, flat, boxes, x_tolerance, loss_tolerance)
    remote = None if workers == 1 else RemoteStart(optimizer, closure, threads, deadline)
    control = Control()
    with optimizer._steered_by(control), _restored_after_errors(flat):
        with exclusive_parameters(flat.tensors):
            screening = None if keep is None else screen(rows, closure, loss, flat)
        order = range(len(rows)) if screening is None else screening.best(keep or len(rows))
        items = [Start(index, rows[index]) for index in order]
        if remote is None:
            runs = _here(items, optimizer, closure, threads, deadline, control)
        else:
            answers = spread(remote, items, workers, threads=threads, stopped=lambda: control.ending)
            runs = _elsewhere(items, optimizer, answers)
        shell = partial(MultiStart, tolerances=tolerances, total=len(items), screening=screening)
        found = _gathered(runs, shell, on_result, control)
        _leave_at_best(optimizer, flat, found)
    return found


def _refuse_ranks(closure: Closure) -> None:
    if isinstance(closure, FullBatch) and closure.ranks is not None:
        raise DistributedError(
            "multistart cannot run on several ranks: they would not agree on the next start; call step on every rank, "
            "once for each start, or pass full_batch without group="
        )
    refuse_several_processes(closure)


def _tolerances(
    optimizer: ScipyOptimizer, flat: FlatParameters, boxes: Sequence[Bounds | None], x: float | None, loss: float
) -> Tolerances:
    x_close = _tolerance("x_tolerance", x, max(_CLOSE, _CLOSE_ROUNDINGS * flat.eps**0.5))
    loss_close = _tolerance("loss_tolerance", loss, _CLOSE)
    return Tolerances.of(x_close, loss_close, boxes, group_scale(optimizer.param_groups, flat.tensors), flat.n)


def _tolerance(name: str, value: Any, default: float) -> float:
    """A number of at least 0."""
    if number(name, value) is None:
        return default
    if value < 0:
        raise ArgumentError(f"{name} must be at least 0, got {value!r}")
    return float(value)


@contextmanager
def _restored_after_errors(flat: FlatParameters) -> Iterator[None]:
    before = flat.read()
    try:
        yield
    except BusyError:  # the parameters are another run's
        raise
    except BaseException:
        flat.write_final(before)
        raise


def _here(
    starts: Sequence[Start],
    optimizer: ScipyOptimizer,
    closure: Closure,
    threads: int,
    deadline: float | None,
    control: Control,
) -> _Runs:
    for start in starts:
        with torch_settings(threads=threads):
            run = run_from(start, optimizer, closure, deadline, lambda: control.ending)
        yield run


def _elsewhere(starts: Sequence[Start], optimizer: ScipyOptimizer, answers: Answers) -> _Runs:
    """The runs of workers as they arrive, with their warnings."""
    with exclusive_parameters(optimizer._flat().tensors), closing(answers):
        for place, answer in answers:
            if isinstance(answer, Answer):
                for category, text in answer.warned:
                    warnings.warn(text, category, stacklevel=5)
                yield answer.run
            else:
                index, x = starts[place]
                yield StartRun(index, x, History(optimizer.name), error=f"{type(answer).__name__}: {answer}")


def _gathered(
    runs: _Runs, shell: Callable[..., MultiStart], on_result: OnResult | None, control: Control
) -> MultiStart:
    """All runs, and why these are not all; on_result is called with each."""
    arrived: list[StartRun] = []
    ended = ""
    _tell(on_result, "on_start", shell(arrived).total)
    try:
        with closing(runs):
            for run in runs:
                if run is not None:
                    arrived.append(run)
                why = _why_end(run, control, lambda run: on_result is not None and on_result(run, shell(arrived)))
                ended = why or ended
                if why and why != _LATE:
                    break
        ended = ended or ("stopped" if control.ending else "")
    except KeyboardInterrupt:
        ended = _INTERRUPTED
        if not arrived:
            raise
    finally:
        found = shell(arrived, ended=ended)
        _tell(on_result, "on_end", found)
    return found


def _why_end(run: StartRun | None, control: Control, refused: Callable[[StartRun], object]) -> str:
    """Why no other run begins, in words; empty if others may."""
    if run is None:
        return _LATE
    if run.history.status == Status.INTERRUPTED:
        return _INTERRUPTED
    return "stopped by on_result" if refused(run) else "stopped" if control.ending else ""


def _tell(on_result: OnResult | None, event: str, told: object) -> None:
    hook = getattr(on_result, event, None)
    if hook is not None:
        hook(told)


def _leave_at_best(optimizer: ScipyOptimizer, flat: FlatParameters, found: MultiStart) -> None:
    """The best point and its gradient into the parameters, result and history into the optimizer.

    Raises ClosureError if all runs failed.
    """
    if found and len(found.failed) == len(found):
        errors = Counter(run.error for run in found)
        told = "; ".join(f"{error} ({times} of {len(found)})" for error, times in errors.most_common(3))
        raise ClosureError(f"all runs failed: {told}")
    if not found:
        return
    best = found.best
    optimizer.result, optimizer.history, optimizer._loaded = best.result, best.history, None
    flat.write_final(best.x)
    flat.clear_gradients()
    gradient = None if best.result is None else best.result.get("grad", best.result.get("jac"))
    if isinstance(gradient, np.ndarray) and gradient.shape == best.x.shape:
        for tensor, part in zip(flat.tensors, flat.scatter(gradient), strict=True):
            tensor.grad = part
