"""MinimizeWrapper: the only caller of `scipy.optimize.minimize`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from ..errors import ArgumentError, ArgumentTypeError, DistributedError, MemoryBudgetError, ParameterError
from .check import ClosureReport, check_closure, check_curvature
from .closure import Closure, require_closure
from .control import FAILED, INTERRUPTED, STOPPED, Abort, Control, Ending, StopRun
from .events import Callback, History, Totals
from .flat import FlatParameters, trainable
from .methods import CUSTOM
from .objective import Derivatives, Objective
from .recorder import Recorder
from .request import Request, read_request, require_memory
from .threads import LARGE_DENSE, blas_threads
from .trust_region import PROBES

__all__ = ["MinimizeWrapper"]

_CURVATURE = ("autograd", "finite-difference")


class MinimizeWrapper(torch.optim.Optimizer):
    """`scipy.optimize.minimize` as a `torch.optim.Optimizer`: `step(closure)` runs the whole minimisation.

    params: tensors, named parameters or param groups; float32 and float64 may mix. Those with `requires_grad=False` are
        left alone.
    minimizer_args: what `scipy.optimize.minimize` takes besides `fun`, `x0` and `args`, as a dict — `method`,
        `options`, `tol`, `bounds`, `constraints`, `callback`, `jac`, `hess`, `hessp` — or just a method name, matched
        without regard to case. `maxiter` and `disp` work for every method. Gradients, Hessians and products come from
        autograd unless `jac`, `hess` or `hessp` say otherwise. Not mutated.
    callbacks: callables of an `Iteration`; `True` stops the run. One may also have `on_start(history)`,
        `on_evaluation(evaluation)` and `on_end(history)`.
    max_seconds, max_evaluations, target_loss: end the run at the next closure call or product.
    keep_parameters, keep_evaluations: what `history` keeps besides iterations.
    curvature: "autograd", or "finite-difference" for operations without a second derivative.
    hessian_chunk: rows of a dense Hessian made at once; chosen by size if None.
    memory_budget: bytes that the method's N×N arrays may take; what the machine has available if None.
    blas_threads: threads of NumPy's and SciPy's BLAS during a run; "auto" takes one, except for large dense
        factorisations; None leaves them as they are.
    start_check: compare captured and real derivatives before a run with second derivatives (two closure calls and a
        product, outside all counts), and warn of a closure that draws random numbers.

    A run that SciPy ends leaves SciPy's x in the parameters. One that is stopped, out of budget, interrupted or failed
    leaves the best point seen. SciPy always works in float64; the closure runs in the parameters' own dtype.

    Raises subclasses of `torchmin_nb.errors.TorchminError`: UnknownMethodError, UnknownOptionError, ArgumentError,
    ArgumentTypeError and ParameterError from the constructor; ClosureError, MemoryBudgetError and DistributedError
    from `step`.

    Source: https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.minimize.html

    >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> optimizer = MinimizeWrapper([x], "trust-ncg")
    >>> loss = optimizer.step(lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    >>> optimizer.result.success
    True
    """

    def __init__(
        self,
        params: Any,
        minimizer_args: Mapping[str, Any] | str | Callable[..., Any] = "BFGS",
        *,
        callbacks: Callback | Iterable[Callback] = (),
        max_seconds: float | None = None,
        max_evaluations: int | None = None,
        target_loss: float | None = None,
        keep_parameters: bool = False,
        keep_evaluations: bool = False,
        curvature: str = "autograd",
        hessian_chunk: int | None = None,
        memory_budget: int | None = None,
        blas_threads: int | str | None = "auto",
        start_check: bool = True,
    ):
        self.request: Request = read_request(minimizer_args)
        _construct(super().__init__, params)
        trainable(self.param_groups)
        self.callbacks = _read_callbacks(callbacks)
        self._budgets = {
            "max_seconds": _positive("max_seconds", max_seconds),
            "max_evaluations": _positive("max_evaluations", max_evaluations, Integral),
            "target_loss": _number("target_loss", target_loss),
        }
        self._keep = {"keep_parameters": keep_parameters, "keep_evaluations": keep_evaluations}
        self._curvature = _one_of("curvature", curvature, _CURVATURE)
        self._hessian_chunk = _positive("hessian_chunk", hessian_chunk, Integral)
        self._memory_budget = _positive("memory_budget", memory_budget)
        self._blas_threads = _read_threads(blas_threads)
        self._start_check = start_check
        self._objective: Objective | None = None
        self.history: History = History(_method_name(self.request))
        self.result: OptimizeResult | None = None

    @property
    def res(self) -> OptimizeResult | None:
        """The same as `result`."""
        return self.result

    def step(self, closure: Closure | None = None) -> torch.Tensor:  # type: ignore[override]
        """Run the whole minimisation; returns the loss at the end point, a 0-d tensor.

        closure: computes the loss from the parameters; it may call `backward()` once, several times or not at all.
        `result` then holds SciPy's OptimizeResult, `history` the iterations.
        """
        closure = require_closure(closure)
        _refuse_several_processes()
        self.result, self.history = None, History(_method_name(self.request))
        run = _Minimization(self, closure)
        self.history = run.history
        self._objective = run.objective
        try:
            run.minimize()
        finally:
            self._objective = None
            self.result = run.result
        return torch.tensor(run.result.fun, dtype=run.flat.tensors[0].dtype, device=run.flat.tensors[0].device)

    def stop(self) -> None:
        """End the run at its next closure call or product; any thread may ask."""
        objective = self._objective
        if objective is not None:
            objective.control.request(STOPPED)

    def record(self, **metrics: float | torch.Tensor) -> None:
        """Called inside the closure: put numbers of your own on this evaluation and its iteration.

        Outside a run it does nothing. Raises ArgumentTypeError for what is not a number.
        """
        numbers = {name: _as_number(name, value) for name, value in metrics.items()}
        if self._objective is not None:
            self._objective.metrics.update(numbers)

    def check(self, closure: Closure) -> ClosureReport:
        """Check a closure without a run: determinism, gradient and curvature against differences, timings.

        Parameters and random number generators are left as they were.
        """
        return check_closure(require_closure(closure), FlatParameters(trainable(self.param_groups)))

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.request.options.items())
        count = sum(tensor.numel() for tensor in trainable(self.param_groups))
        return f"{type(self).__name__}({_method_name(self.request)!r}, options=dict({options}), parameters={count})"


class _Minimization:
    """One run: the pieces put together, SciPy called, and the parameters left where they belong."""

    def __init__(self, optimizer: MinimizeWrapper, closure: Closure):
        self._request = request = optimizer.request
        self._optimizer = optimizer
        self.flat = FlatParameters(trainable(optimizer.param_groups))
        require_memory(request.spec, self.flat.n, optimizer._memory_budget)
        self._start = self.flat.read()
        bytes_per_row = self._check(closure) if optimizer._start_check else None
        self.objective = Objective(
            closure,
            self.flat,
            Derivatives(
                level=request.level,
                nonfinite=request.spec.nonfinite,
                gradient=request.jac if callable(request.jac) else None,
                curvature=optimizer._curvature,
                shift=request.spec.shift,
                chunk=optimizer._hessian_chunk,
                bytes_per_row=bytes_per_row,
            ),
            Control(**optimizer._budgets),
            watch_first=optimizer._start_check,
        )
        self.history = History(
            _method_name(request),
            options=request.options,
            n_parameters=self.flat.n,
            dtype="/".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in self.flat.tensors})),
            **optimizer._keep,
        )
        self._recorder = Recorder(
            self.objective,
            self.history,
            optimizer.callbacks,
            radius=PROBES[request.spec.radius],
            initial_radius=request.initial_radius,
            max_iterations=request.max_iterations,
            skip_first=request.spec.first_callback_is_start,
            scipy_callback=request.callback,
        )
        self.objective.observer = self._recorder
        self.result = OptimizeResult()

    def minimize(self) -> None:
        """Run SciPy; fill result and history; raise what the user's code raised."""
        self._recorder.start()
        failure: BaseException | None = None
        try:
            with blas_threads(self._threads()):
                self.result = self._from_scipy(self._call_scipy())
        except StopRun as stop:
            self.result = self._from_best(stop.ending)
        except Abort as abort:
            failure = abort.error
        except BaseException as error:
            failure = self._translated(error)
        if failure is not None:
            self.result = self._from_best(_ending_of(failure))
        try:
            self._settle()
            if failure is not None:
                raise failure
        finally:
            del failure  # its traceback leads back here: a cycle that would keep the parameters

    def _check(self, closure: Closure) -> int | None:
        spec, request = self._request.spec, self._request
        if request.level != "curvature" or self._optimizer._curvature != "autograd":
            return None
        try:
            return check_curvature(closure, self.flat, measure=spec.dense)
        finally:
            self.flat.write_final(self._start)

    def _threads(self) -> int | None:
        wanted = self._optimizer._blas_threads
        if wanted != "auto":
            return wanted  # type: ignore[return-value]
        return None if self._request.spec.dense and self.flat.n >= LARGE_DENSE else 1

    def _call_scipy(self) -> OptimizeResult:
        request = self._request
        return scipy.optimize.minimize(
            self.objective.value,
            self._start.copy(),
            method=request.method,
            bounds=request.bounds,
            constraints=request.constraints,
            tol=request.tol,
            callback=self._recorder.scipy_callback,
            options=request.scipy_options(self.flat.eps),
            **self._derivatives(),
        )

    def _derivatives(self) -> dict[str, Any]:
        """jac, hess and hessp as this method takes them: the user's own first, else autograd's."""
        request, spec, objective = self._request, self._request.spec, self.objective
        given: dict[str, Any] = {"hess": request.hess, "hessp": request.hessp}
        if spec.gradient != "none":
            own = callable(request.jac) or request.autograd_gradient
            given["jac"] = objective.gradient if own else request.jac or None
        if request.hess is None and request.hessp is None:
            if spec.curvature == "dense" or spec is CUSTOM:
                given["hess"] = objective.hessian
            if spec.curvature == "hvp" or spec is CUSTOM:
                given["hessp"] = objective.hvp
        return {name: value for name, value in given.items() if value is not None}

    # Endings

    def _from_scipy(self, result: object) -> OptimizeResult:
        if not isinstance(result, Mapping) or "x" not in result:
            raise ArgumentTypeError(
                f"the method callable returned {type(result).__name__}; return a scipy.optimize.OptimizeResult with x"
            )
        filled = OptimizeResult({**self._counted(), "success": True, "status": 0, "message": "", **result})
        filled.x = np.array(filled.x, dtype=np.float64).ravel()
        end = self.objective.known(filled.x)
        if end is not None and not self.objective.finite(end):  # the fun that SciPy reports is the wall it was shown
            filled.update(self._best_point(), success=False)
        if "fun" not in filled:
            filled.fun = self.objective.value(filled.x)
        filled.update(
            fun=float(filled.fun),
            success=bool(filled.success),
            status=int(filled.status),
            message=str(filled.message),
            **{name: int(filled[name]) for name in ("nit", "nfev", "njev", "nhev")},
        )
        return filled

    def _from_best(self, ending: Ending) -> OptimizeResult:
        return OptimizeResult(
            **self._best_point(),
            **self._counted(),
            success=ending.success,
            status=ending.status,
            message=ending.message,
        )

    def _best_point(self) -> dict[str, Any]:
        best = self.objective.best
        if best is None:
            return {"x": self._start, "fun": np.nan}
        return {"x": best.x, "fun": best.loss} | ({} if best.gradient is None else {"jac": best.gradient})

    def _counted(self) -> dict[str, int]:
        requests = self.objective.requests
        iterations = self.history[-1].index if len(self.history) else 0
        return {"nit": iterations, "nfev": requests.nfev, "njev": requests.njev, "nhev": requests.nhev}

    def _settle(self) -> None:
        """Leave the end point in the parameters and its gradient in `.grad`, drop graphs, tell the callbacks."""
        try:
            self._leave(self.result.x)
        finally:
            self.objective.release()
            self._close()

    def _close(self) -> None:
        result, objective, counts = self.result, self.objective, self.objective.counts
        self.history.ended(
            success=bool(result.success),
            status=int(result.status),
            message=str(result.message),
            loss=result.fun,
            totals=Totals(counts.nfev, counts.njev, counts.nhev, counts.nhvp, objective.control.elapsed),
        )
        if self._request.disp:
            print(_summary(result))
        self._recorder.end()

    def _leave(self, x: NDArray[np.float64]) -> None:
        self.flat.write_final(x)
        point = self.objective.known(x)
        self.flat.clear_gradients()
        if point is not None and point.gradient is not None:
            for tensor, part in zip(self.flat.tensors, self.flat.scatter(point.gradient), strict=True):
                tensor.grad = part

    def _translated(self, error: BaseException) -> BaseException:
        if not isinstance(error, MemoryError):
            return error
        translated = MemoryBudgetError(
            f"{_method_name(self._request)} ran out of memory with N = {self.flat.n:,} parameters; "
            f"L-BFGS-B, CG, Newton-CG and trust-ncg need the least"
        )
        translated.__cause__ = error
        return translated


def _ending_of(failure: BaseException) -> Ending:
    if isinstance(failure, KeyboardInterrupt):
        return INTERRUPTED
    return FAILED._replace(message=f"Failed: {type(failure).__name__}: {failure}")


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


def _method_name(request: Request) -> str:
    return request.method if isinstance(request.method, str) else getattr(request.method, "__name__", "custom")


# The constructor's arguments


def _construct(initialise: Callable[..., None], params: Any) -> None:
    """torch's own checks of the parameters, in our error family."""
    try:
        initialise(params, {})
    except TypeError as error:
        raise ArgumentTypeError(f"{error}; give model.parameters(), a list of tensors, or param groups") from error
    except ValueError as error:
        raise ParameterError(f"{error}; give model.parameters(), a list of leaf tensors, or param groups") from error


def _read_callbacks(callbacks: Any) -> list[Callback]:
    try:
        found: Sequence[Any] = [callbacks] if callable(callbacks) else list(callbacks)
    except TypeError:
        raise ArgumentTypeError(f"callbacks must be a callable or a list of them, got {callbacks!r}") from None
    for callback in found:
        if not callable(callback):
            raise ArgumentTypeError(f"a callback must be callable with an Iteration, got {type(callback).__name__}")
    return list(found)


def _read_threads(threads: Any) -> int | str | None:
    if threads == "auto" or threads is None:
        return threads  # type: ignore[no-any-return]
    return int(_positive("blas_threads", threads, Integral, ", 'auto'"))


def _positive(name: str, value: Any, kind: type = Real, others: str = "") -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, kind) or not value > 0:  # type: ignore[operator]
        what = "integer" if kind is Integral else "number"
        raise ArgumentError(f"{name} must be a positive {what}{others} or None, got {value!r}")
    return value


def _number(name: str, value: Any) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, Real) or value != value):
        raise ArgumentError(f"{name} must be a number or None, got {value!r}")
    return value


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ArgumentError(f"{name}={value!r} is not known; choose one of {', '.join(allowed)}")
    return str(value)


def _as_number(name: str, value: Any) -> float:
    try:
        return float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentTypeError(f"record({name}=...) takes a number or a scalar tensor, got {value!r}") from None


def _refuse_several_processes() -> None:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        raise DistributedError(
            f"the process group has {distributed.get_world_size()} processes; torchmin_nb runs in one: every process "
            f"would step on its own. Run the minimisation in a single process"
        )
