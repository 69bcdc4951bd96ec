"""One run, whatever solver it calls: endings, results, and parameters left where they belong."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from scipy.optimize import OptimizeResult

from ...errors import MemoryBudgetError, text_of
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
    """The objective of a run, as its ending needs it; best: the best point, with x (n,) and loss, or None."""

    calls: Calls
    flat: FlatParameters
    control: Control
    counts: Counts
    requests: Counts
    best: Any

    def cached_point(self, x: NDArray[np.float64]) -> Point | None:
        """What is remembered of x."""
        ...

    def release(self) -> None:
        """Drop graphs and what knows the objective."""
        ...


class Engine(ABC):
    """Calls a solver on an objective, and ends the run well however it ends.

    start: x before the run, shape (n,). threads: what `blas_threads` takes. disp: print a summary at the end. check:
    called with the result of a run that raised nothing, while parameters and constraints can still be asked. zero: the
    ending that the method's status of 0 stands for where it is no success.
    `result` is an OptimizeResult as SciPy's, without gaps.
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
        """Call `solve`; fill result and history; raise what the user's code raised.

        A run that the solver ends leaves its x in the parameters; any other, the best point seen.
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
            del failure  # its traceback leads back here: a cycle that would keep the parameters

    def _end_after(self, error: BaseException) -> None:
        """Tell the callbacks. What one raises now is noted on the error that ended the run."""
        try:
            self._recorder.end()
        except Exception as other:
            error.add_note(f"on_end of a callback then raised {type(other).__name__}: {text_of(other)}")

    def _begin(self) -> None:
        """Tell the callbacks. A run that one of them refuses has ended for the others, before any work."""
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
        """What the solver returned, with x, fun, success, status and message, at the point where the run ends."""

    @abstractmethod
    def _best_point(self) -> dict[str, Any]:
        """The fields of a result at the best point seen; at the start, with a loss of NaN, where there was none."""

    def _ending_of_overflow(self, error: BaseException) -> Ending | None:
        """How a run ends whose solver gave up with this error since its own arithmetic overflowed; None for others."""
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
        """Leave the end point in the parameters and its gradient in `.grad`, drop graphs, fill the history."""
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
    """The result of a method, in which message, status and success say the same.

    Without success no status is 0, and no message speaks of success. SciPy's own number stays as `scipy_status`.
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
    return FAILED._replace(message=f"Failed: {type(failure).__name__}: {text_of(failure)}")


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
