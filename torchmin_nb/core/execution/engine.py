"""One run of any solver: its endings, its result, and the final values of the parameters."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from scipy.optimize import OptimizeResult

from ...errors import MemoryBudgetError, described, text_of
from ..history.records import Totals
from ..runtime.blas_threads import blas_threads
from ..runtime.control import FAILED, INTERRUPTED, UNCONVERGED, Abort, Control, Ending, StopRun
from .optimality import EndingCheck
from .recorder import Recorder
from .result import Result

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..objective.calls import Calls, Counts
    from ..objective.objective import Point
    from ..parameters.flat import FlatParameters

__all__ = ["Engine", "Evaluated"]

_SUCCESSFUL = re.compile(r"(?<!un)success", re.IGNORECASE)


class Evaluated(Protocol):
    """The part of an objective that the end of a run needs. best: the best point, with x (n,) and loss, or None."""

    calls: Calls
    flat: FlatParameters
    control: Control
    counts: Counts
    requests: Counts
    best: Any

    def cached_point(self, x: NDArray[np.float64]) -> Point | None:
        """The cached point at x, if any."""
        ...

    def release(self) -> None:
        """Free graphs and references to the objective."""
        ...


class Engine(ABC):
    """Calls a solver on an objective, and finishes the run after every ending.

    start: x before the run, shape (n,). threads: an argument of `blas_threads`. disp: print a summary at the end.
    check:
    called with the result if nothing was raised, while parameters and constraints can still be evaluated. zero: the
    ending for the method's status 0 without success.
    `result` is a complete OptimizeResult.
    """

    def __init__(
        self,
        objective: Evaluated,
        recorder: Recorder,
        start: NDArray[np.float64],
        *,
        threads: int | None = None,
        disp: bool = False,
        check: EndingCheck | None = None,
        zero: Ending = UNCONVERGED,
    ):
        self.objective = objective
        self.flat = objective.flat
        self.history = recorder.history
        self.start = start
        self.result = OptimizeResult()
        self._early = False
        self._recorder = recorder
        self._threads = threads
        self._disp = disp
        self._check = check
        self._zero = zero

    def run(self, solve: Callable[[], object]) -> None:
        """Call `solve`; fill result and history; raise the error of the user's code, if any.

        If the solver ends the run, the parameters hold its x; after other endings they hold the best point.
        """
        self._begin()
        failure: BaseException | None = None
        ended_by_method = False
        try:
            with blas_threads(self._threads):
                self.result = _consistent(self._completed(solve()), self._zero)
            ended_by_method = True
        except StopRun as stop:
            self.result = self._from_best(stop.ending)
        except Abort as abort:
            failure = abort.error
        except BaseException as error:
            ending = self._ending_of_overflow(error)
            if ending is None:
                failure = self._translated(error)
            else:
                self.result = self._from_best(ending)
        if failure is not None:
            self.result = self._from_best(_ending_of(failure))
        try:
            if failure is None and self._check is not None:
                self._check(self.result, ended_by_method=ended_by_method)
            self._settle()
            if failure is not None:
                raise failure
        except BaseException as error:
            self._end_after(error)
            raise
        else:
            self._recorder.end()
        finally:
            del failure  # its traceback refers to this frame: a reference cycle that would keep the parameters alive

    def _end_after(self, error: BaseException) -> None:
        """Call on_end of the callbacks. An error raised there becomes a note on the error that ended the run."""
        try:
            self._recorder.end()
        except Exception as other:
            error.add_note(f"on_end of a callback then raised {type(other).__name__}: {text_of(other)}")

    def _begin(self) -> None:
        """Call on_start of the callbacks. If one of them refuses the run, on_end of the others is called."""
        try:
            self._recorder.start()
        except BaseException as error:
            try:
                self._refused(_ending_of(error))
            finally:
                raise error

    def _refused(self, ending: Ending) -> None:
        totals = Totals(0, 0, 0, 0, self.objective.control.elapsed)
        self.history.ended(**ending._asdict(), loss=None, totals=totals, early=True)
        self.objective.release()
        self._recorder.end()

    @abstractmethod
    def _completed(self, result: Any) -> OptimizeResult:
        """The solver's result at the end point, with x, fun, success, status and message."""

    @abstractmethod
    def _best_point(self) -> dict[str, Any]:
        """The fields of a result at the best point; without one, at the start, with a loss of NaN."""

    def _ending_of_overflow(self, error: BaseException) -> Ending | None:
        """The ending, if the solver raised this error because its own arithmetic overflowed; None for other errors."""
        return None

    def _translated(self, error: BaseException) -> BaseException:
        """The error that the user sees."""
        if not isinstance(error, MemoryError):
            return error
        translated = MemoryBudgetError(
            f"{self.history.method} ran out of memory with N = {self.flat.n:,} parameters; "
            f"L-BFGS-B, CG, Newton-CG and trust-ncg need the least"
        )
        translated.__cause__ = error
        return translated

    @property
    def _iterations(self) -> int:
        return self._recorder.iterations

    def _from_best(self, ending: Ending) -> OptimizeResult:
        self._early = True
        return OptimizeResult(**self._best_point(), **self._counted(), **ending._asdict())

    def _counted(self) -> dict[str, int]:
        requests = self.objective.requests
        return {"nit": self._iterations, "nfev": requests.nfev, "njev": requests.njev, "nhev": requests.nhev}

    def _settle(self) -> None:
        """Write the end point into the parameters and its gradient into `.grad`, free graphs, fill the history."""
        try:
            self._write_end_point(self.result.x)
        finally:
            self.objective.release()
            self._close()

    def _close(self) -> None:
        result, objective, counts = self.result, self.objective, self.objective.counts
        self.history.ended(
            success=bool(result.success),
            status=result.status,
            message=str(result.message),
            loss=result.fun,
            totals=Totals(counts.nfev, counts.njev, counts.nhev, counts.nhvp, objective.control.elapsed),
            early=self._early,
        )
        self.result = Result.of_run(result, self.history)
        if self._disp:
            print(_summary(result))

    def _write_end_point(self, x: NDArray[np.float64]) -> None:
        self.flat.write_final(x)
        point = self.objective.cached_point(x)
        self.flat.clear_gradients()
        if point is not None and point.gradient is not None:
            for tensor, part in zip(self.flat.tensors, self.flat.scatter(point.gradient), strict=True):
                tensor.grad = part


def _consistent(result: OptimizeResult, zero: Ending) -> OptimizeResult:
    """The result of a method, with consistent message, status and success.

    Without success, the status is not 0 and the message does not report success. `scipy_status` is SciPy's number.
    """
    if result.success:
        return result
    if result.status == 0:
        message = result.message if zero is UNCONVERGED else zero.message
        result.update(status=zero.status, message=message, scipy_status=0)
    if _SUCCESSFUL.search(result.message):
        result.update(message=UNCONVERGED.message)
    return result


def _ending_of(failure: BaseException) -> Ending:
    if isinstance(failure, KeyboardInterrupt):
        return INTERRUPTED
    return FAILED._replace(message=f"Failed: {described(failure)}")


def _summary(result: OptimizeResult) -> str:
    """What SciPy's `disp` prints, the same for every method."""
    return "\n".join(
        [
            str(result.message),
            f"         Current function value: {result.fun:.6f}",
            f"         Iterations: {result.nit}",
            f"         Function evaluations: {result.nfev}",
            f"         Gradient evaluations: {result.njev}",
            f"         Hessian evaluations: {result.nhev}",
        ]
    )
