"""Closure calls at points, for SciPy's objective and for solvers on the device."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ...errors import ClosureWarning, ConstantLossError, TorchminError
from ..autodiff.closure import ClosureResult, Evaluator
from ..autodiff.explained_errors import explained
from ..autodiff.hessian import ChangedGraphError, HvpGraph
from ..history.metrics import collecting
from ..runtime.control import Abort, Control

if TYPE_CHECKING:
    from ..autodiff.start_check import StartCheck
    from ..parameters.flat import FlatParameters, Vector

__all__ = ["Calls", "Counts"]

T = TypeVar("T")

_FEW, _EARLY, _OFTEN = 1000, 8, 16
"""Up to _FEW entries, the first _EARLY closure calls, and then one in _OFTEN, are checked for moved parameters."""
_CONSTANT = (
    "the closure returned a constant without a gradient, {loss:.6g}, at a trial; such trials are rejected, like NaN. "
    "Return float('nan') where the loss is not defined, or a penalty that is computed from the parameters"
)


@dataclass(slots=True)
class Counts:
    """Closure calls (nfev), gradients (njev), dense Hessians (nhev) and products (nhvp)."""

    nfev: int = 0
    njev: int = 0
    nhev: int = 0
    nhvp: int = 0

    @property
    def work(self) -> int:
        """Closure calls and products."""
        return self.nfev + self.nhvp


@dataclass(eq=False)
class Calls:
    """Writes a point into the parameters and evaluates there; counts, checks, and keeps the user's numbers.

    Exceptions of the closure are raised as `Abort`, stops and budgets as `StopRun`. After the first call, exceptions of
    `nonfinite_errors` count as a NaN loss; `errors` counts them by name. `metrics`: the numbers that the closure
    recorded in the last call. `bytes_per_row`: the memory of the graph of one gradient, if measured.
    """

    evaluator: Evaluator
    flat: FlatParameters
    control: Control
    start_check: StartCheck | None = None
    nonfinite_errors: tuple[type[Exception], ...] = ()
    errors: dict[str, int] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    metrics: dict[str, float] = field(default_factory=dict)
    bytes_per_row: int | None = None

    def __post_init__(self) -> None:
        self._written: Vector | None = None
        self._warned = False
        self._unreached: Sequence[int] = range(len(self.flat.tensors))

    def call(self, x: Vector, level: str) -> ClosureResult:
        """One evaluation at x (n,), counted."""
        self.control.before_evaluation(self.counts.nfev, self.counts.nhvp)
        self.flat.write(x)
        self._written = x
        self.metrics = {}
        self.counts.nfev += 1
        version = self.flat.version
        check = self.start_check if self.counts.nfev == 1 else None
        try:
            with collecting(self.metrics):
                result = check.first(self.evaluator, level) if check else self.evaluator.evaluate(level)
            if self._check_now() or self.flat.version != version:
                self.flat.require_held(x)
            if result.parts is not None and self._unreached:
                self._unreached = [index for index in self._unreached if self.flat.tensors[index].grad is None]
            if check and not self.control.ending:
                self._check_start(check, result)
        except Exception as error:
            result = self._rejected(error)
        self.counts.njev += result.parts is not None
        return result

    def with_graph(self, x: Vector, graph: HvpGraph, use: Callable[[HvpGraph], T]) -> tuple[T, HvpGraph]:
        """What `use` makes of the graph at x, and the graph: a new one, by a closure call, where it was changed."""
        self.write_parameters(x)
        try:
            return use(graph), graph
        except ChangedGraphError:
            renewed = self.call(x, "curvature").graph
            if renewed is None:
                raise
            return use(renewed), renewed

    def write_parameters(self, x: Vector) -> None:
        """Write x into the parameters, unless they hold it already. No closure call."""
        if self._written is x:
            return
        if not isinstance(x, np.ndarray) or self._written is None or not np.array_equal(self._written, x):
            self.flat.write(x)
            self._written = x.copy() if isinstance(x, np.ndarray) else x

    def invalidate(self) -> None:
        """Invalidate the cached parameter values after user code has run."""
        self._written = None

    def count_nonfinite_error(self, error: Exception) -> None:
        """Count an error that means an undefined loss or constraint; raise any other error as `Abort`."""
        if isinstance(error, TorchminError) or not isinstance(error, self.nonfinite_errors):
            raise Abort(error) from error
        name = type(error).__name__.lstrip("_")
        self.errors[name] = self.errors.get(name, 0) + 1

    def unreached(self) -> Sequence[int]:
        """The tensors that no gradient has reached yet; empty if no gradient has reached any tensor."""
        return self._unreached if len(self._unreached) < len(self.flat.tensors) else ()

    def release(self) -> None:
        """Free all references to the closure."""
        self.evaluator, self.start_check = _ReleasedEvaluator(), None

    def _rejected(self, error: Exception) -> ClosureResult:
        """The result for a closure call that raised this error: a rejected trial; at the start the error is raised."""
        if self.counts.nfev == 1:
            raise Abort(explained(error)) from error
        if isinstance(error, ConstantLossError):
            self._warn_of_constant(error)
            return ClosureResult(error.loss, undefined=True)
        self.count_nonfinite_error(explained(error))
        return ClosureResult(math.nan, undefined=True)

    def _warn_of_constant(self, error: ConstantLossError) -> None:
        """Warn once in a run."""
        warned, self._warned = self._warned, True
        if warned:
            return
        try:
            warnings.warn(_CONSTANT.format(loss=error.loss), ClosureWarning, stacklevel=2)
        except ClosureWarning as raised:  # where warnings are errors
            raise Abort(raised) from error

    def _check_now(self) -> bool:
        """Whether to check for changes of the parameters that autograd does not notice, as through `.data`."""
        calls = self.counts.nfev
        often = self.flat.on_host and self.flat.n <= _FEW and (calls <= _EARLY or calls % _OFTEN == 0)
        return often or calls & (calls - 1) == 0

    def _check_start(self, check: StartCheck, first: ClosureResult) -> None:
        """The calls of the start check; what the closure records in them is not kept."""
        assert self._written is not None
        metrics, self.metrics = self.metrics, {}
        try:
            with collecting({}):
                check.compare(first, self._written)
        finally:
            self.metrics = metrics
            self.bytes_per_row, self.start_check = check.bytes_per_row, None


class _ReleasedEvaluator:
    """The evaluator of a run that has ended."""

    def evaluate(self, level: str) -> ClosureResult:
        raise RuntimeError("the run is over; its closure is not called any more")
