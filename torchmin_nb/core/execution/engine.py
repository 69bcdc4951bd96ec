"""One run, whatever solver it calls: endings, results, and parameters left where they belong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from ...errors import ArgumentError, ArgumentTypeError, MemoryBudgetError, TorchminError, text_of
from ..history.records import Totals
from ..objective.objective import Objective
from ..runtime.blas_threads import blas_threads
from ..runtime.control import FAILED, INTERRUPTED, UNCONVERGED, UNDEFINED, Abort, Ending, StopRun
from .optimality import EndingCheck
from .recorder import Recorder
from .result import Result
from .scipy_iterates import ScipyIterates

__all__ = ["VIOLATIONS", "Engine"]

VIOLATIONS = ("constr_violation", "maxcv")
"""SciPy's names for the constraint violation at x."""

_POINT_FIELDS = (
    *("jac", "grad", "hess", "lagrangian_grad", "optimality", "constr", "v", "multipliers"),
    *("residuals", "active_mask"),
)
"""What a result says of its x, besides the loss and the violation."""

_SUCCESSFUL = re.compile(r"(?<!un)success", re.IGNORECASE)
_SCIPY, _NUMPY, _OURS = Path(scipy.__file__).parent, Path(np.__file__).parent, Path(__file__).parents[1]


class Engine:
    """Calls a solver of SciPy on an objective, and ends the run well however it ends.

    start: x before the run, shape (n,). iterates: counts the iterations, where the method does so its own way.
    threads: what `blas_threads` takes. disp: print a summary at the end. check: called with the result of a run that
    raised nothing, while parameters and constraints can still be asked.
    `result` is SciPy's OptimizeResult with the gaps filled.
    """

    def __init__(
        self,
        objective: Objective,
        recorder: Recorder,
        start: NDArray[np.float64],
        *,
        iterates: ScipyIterates | None = None,
        threads: int | None = None,
        disp: bool = False,
        check: EndingCheck | None = None,
    ):
        self.objective = objective
        self.flat = objective.flat
        self.history = recorder.history
        self.start = start
        self.result = OptimizeResult()
        self._early = False
        self._recorder = recorder
        self._progress = recorder if iterates is None else iterates
        self._threads = threads
        self._disp = disp
        self._check = check

    def run(self, solve: Callable[[], object]) -> None:
        """Call `solve`; fill result and history; raise what the user's code raised.

        A run that the solver ends leaves its x in the parameters; any other, the best point seen.
        """
        self._begin()
        failure: BaseException | None = None
        ended_by_method = False
        try:
            with blas_threads(self._threads):
                self.result = self._completed(solve())
            ended_by_method = True
        except StopRun as stop:
            self.result = self._from_best(stop.ending)
        except Abort as abort:
            failure = abort.error
        except BaseException as error:
            failure = self._translated(error)
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

    def _completed(self, result: object) -> OptimizeResult:
        if not isinstance(result, Mapping) or "x" not in result:
            raise ArgumentTypeError(
                f"the method callable returned {type(result).__name__}; return a scipy.optimize.OptimizeResult with x"
            )
        filled = OptimizeResult({**self._counted(), **_default_ending(result), **result})
        filled.x = self._point(filled.x)
        filled.update({name: _number(filled, name, int) for name in ("status", "nit", "nfev", "njev", "nhev")})
        if "fun" in filled:
            filled.fun = _number(filled, "fun", float)
        end = self.objective.cached_point(filled.x)
        loss = None if end is None else end.loss
        if end is None and (trial := self.objective.trials.at(filled.x)) is not None:
            loss = trial.loss
        if loss is None and np.isfinite(filled.x).all():  # no point that was told, as far as can be seen
            end = self.objective.end_point(filled.x)
            loss = end.loss
        if end is not None:
            filled.x = end.x.copy()  # also where the two differ in the sign of a zero, which a loss may depend on
        undefined = (end is not None and not self.objective.finite(end)) or (loss is not None and not np.isfinite(loss))
        if undefined or not np.isfinite(filled.x).all():  # the fun that SciPy reports is the wall it was shown
            filled.update(UNDEFINED._asdict())
            self._put_best(filled)
        else:  # L-BFGS-B goes back to x after a failed line search, and reports the trial's loss
            filled.fun = loss
        jac = filled.get("jac")
        if end is not None and end.gradient is not None and isinstance(jac, np.ndarray) and jac.shape == filled.x.shape:
            filled.jac = end.gradient  # SLSQP and Newton-CG report that of the point before
        filled.update(success=bool(filled.success), message=str(filled.message))
        if not filled.success and self.objective.has_better_than(filled.x, filled.fun):
            self._put_best(filled)
        return _consistent(filled)

    def _put_best(self, filled: OptimizeResult) -> None:
        """The best point in place of the one at which the method gave up, which stays as `scipy_x`."""
        given_up = filled.x
        for name in _POINT_FIELDS:
            filled.pop(name, None)
        filled.update(self._best_point(), scipy_x=given_up)
        violation = self.objective.violation
        if violation is not None:
            filled.update({name: violation(filled.x) for name in VIOLATIONS if name in filled})

    def _point(self, x: Any) -> NDArray[np.float64]:
        """The x of a result, shape (n,). Raises ArgumentTypeError."""
        try:
            point = np.array(x, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            point = np.empty(0)
        if point.size != self.flat.n:
            raise ArgumentTypeError(
                f"the method callable returned x={x!r}; return an OptimizeResult with x, {self.flat.n} numbers"
            )
        return point

    def _from_best(self, ending: Ending) -> OptimizeResult:
        self._early = True
        return OptimizeResult(**self._best_point(), **self._counted(), **ending._asdict())

    def _best_point(self) -> dict[str, Any]:
        best = self.objective.best
        if best is None:
            return {"x": self.start, "fun": np.nan}
        return {"x": best.x, "fun": best.loss} | ({} if best.gradient is None else {"jac": best.gradient})

    def _counted(self) -> dict[str, int]:
        requests = self.objective.requests
        return {"nit": self._progress.iterations, "nfev": requests.nfev, "njev": requests.njev, "nhev": requests.nhev}

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

    def _translated(self, error: BaseException) -> BaseException:
        translated: BaseException | None = None
        if isinstance(error, MemoryError):
            translated = MemoryBudgetError(
                f"{self.history.method} ran out of memory with N = {self.flat.n:,} parameters; "
                f"L-BFGS-B, CG, Newton-CG and trust-ncg need the least"
            )
        elif _refused_by_scipy(error):
            kind = ArgumentTypeError if isinstance(error, TypeError) else ArgumentError
            translated = kind(
                f"SciPy's {self.history.method} refused what it was given: {error}; "
                f"its options were {dict(self.history.options)}"
            )
        if translated is None:
            return error
        translated.__cause__ = error
        return translated


def _ending_of(failure: BaseException) -> Ending:
    if isinstance(failure, KeyboardInterrupt):
        return INTERRUPTED
    return FAILED._replace(message=f"Failed: {type(failure).__name__}: {text_of(failure)}")


def _default_ending(result: Mapping[str, Any]) -> dict[str, Any]:
    """Success, status and message, for a method that leaves some of them out: what it does say decides."""
    success = bool(result["success"]) if "success" in result else result.get("status", 0) in (0, None)
    return {"success": success, "status": 0 if success else 1, "message": ""}


def _consistent(result: OptimizeResult) -> OptimizeResult:
    """The result, with no message of success where there is none: message, status and success say the same.

    Where we find fault with SciPy's end, all three are those of an `Ending`; here SciPy's own contradict each other.
    """
    if not result.success and _SUCCESSFUL.search(result.message):
        result.update(message=UNCONVERGED.message, status=result.status or UNCONVERGED.status)
    return result


def _number(result: Mapping[str, Any], name: str, kind: type) -> Any:
    """One number of a result. Raises ArgumentTypeError."""
    try:
        return kind(np.asarray(result[name]).item())
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            f"the method callable returned {name}={result[name]!r}; return an OptimizeResult with a number there, or "
            f"leave it out"
        ) from None


def _refused_by_scipy(error: BaseException) -> bool:
    """Whether SciPy itself, and no function that it called, raised what it raises for arguments."""
    refusal = isinstance(error, ValueError | TypeError | AttributeError | NameError) or type(error) is Exception
    if not refusal or isinstance(error, TorchminError | np.linalg.LinAlgError):
        return False
    files = [Path(frame.f_code.co_filename) for frame, _ in walk_tb(error.__traceback__)]
    homes = [_home(file) for file in files if file.suffix != ".pyx"]
    while homes and homes[-1] is _NUMPY:
        homes.pop()
    return None not in homes and homes[-1:] == [_SCIPY]


def _home(file: Path) -> Path | None:
    """SciPy, NumPy or this package, whichever the file is of; None for the user's."""
    return next((home for home in (_SCIPY, _NUMPY, _OURS) if home in file.parents), None)


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
