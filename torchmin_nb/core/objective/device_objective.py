"""The objective of a solver on the device: loss, gradient and products as tensors on that device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch

from ...errors import NonFiniteStartError
from ..autodiff.hessian import DenseHessian, HvpGraph
from ..autodiff.side_effects import preserved_buffers
from ..runtime.control import NONFINITE_CURVATURE, Abort, StopRun
from ..solvers.contract import Sample, State
from ..solvers.vectors import dot, numbers
from .calls import Calls, Counts
from .objective import Derivatives, Point, nonfinite_start, power_of_two
from .scaled_objective import STIFF

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..parameters.device_variables import DeviceVariables

__all__ = ["DeviceObjective", "DevicePoint", "OnDevice"]


@dataclass(eq=False, slots=True)
class DevicePoint:
    """An evaluated point in the user's variables: x (n,) and the gradient are tensors; norms: 2-norm, largest entry.

    graph: of the gradient, for products.
    """

    x: torch.Tensor
    loss: float
    gradient: torch.Tensor | None
    norms: tuple[float | None, float | None]
    metrics: dict[str, float]
    graph: HvpGraph | None = None
    violation: float | None = None
    host: Point | None = None

    def without_graph(self) -> DevicePoint:
        """A point with the same tensors that keeps no graph."""
        return DevicePoint(self.x, self.loss, self.gradient, self.norms, self.metrics)

    def position(self) -> NDArray[np.float64]:
        """x on the host."""
        return self.x.to("cpu", torch.float64).numpy()

    def distance(self, other: DevicePoint) -> float:
        """The distance from another point."""
        return float(torch.linalg.vector_norm(self.x - other.x))

    def to_host(self) -> Point:
        """The same in arrays, made once, without its graph."""
        if self.host is None:
            gradient = None if self.gradient is None else _copied(self.gradient)
            self.host = Point(_copied(self.x), self.loss, gradient, self.metrics)
        return self.host


class Observer(Protocol):
    """Receives every closure call."""

    def evaluated(self, point: DevicePoint) -> None: ...


@dataclass(slots=True)
class _EvaluatedSample(Sample):
    """A Sample with a reference to its point."""

    packed_as: ClassVar[type] = Sample
    point: DevicePoint


class OnDevice:
    """Shared by a solver on the device, its events and its endings: variables z (n,), the best point, the end point.

    `best` is the point of lowest finite loss, `first` the start, kept if there are bounds. The solver sees the loss
    divided by `loss_scale`. `requests` counts its evaluations like SciPy. violation: of the bounds at x.
    """

    def __init__(
        self,
        calls: Calls,
        variables: DeviceVariables,
        observer: Observer | None = None,
        *,
        violation: Callable[[NDArray[np.float64]], float] | None = None,
    ):
        self.calls, self.variables, self.violation = calls, variables, violation
        self.flat, self.control, self.counts = calls.flat, calls.control, calls.counts
        self.requests = Counts()
        self.loss_scale = 1.0
        self.best: DevicePoint | None = None
        self.first: Point | None = None
        self.n, self.dtype, self.device = variables.n, variables.dtype, variables.device
        self.eps = max(self.flat.eps, torch.finfo(self.dtype).eps)
        self.lower, self.upper = variables.lower, variables.upper
        self._observer = observer
        self._end: DevicePoint | None = None

    def start(self) -> torch.Tensor:
        """See Problem: the parameters' values, moved inside the bounds."""
        return self.variables.start

    def point_of(self, state: State) -> DevicePoint:
        """The point of a state in the user's variables; for a loaded state, from the fields of its sample."""
        sample = state.sample
        gradient = self.variables.gradient_to_user(sample.gradient)
        gradient = gradient if self.loss_scale == 1 else gradient * self.loss_scale
        norms = [sample.norm * self.loss_scale, sample.largest * self.loss_scale]
        if not self.variables.plain:
            norms = torch.stack([torch.linalg.vector_norm(gradient), largest_entry(gradient)]).tolist()
        user = self.variables.to_user(sample.x)
        return DevicePoint(user, sample.loss * self.loss_scale, gradient, (norms[0], norms[1]), {})

    def begin_at(self, state: State) -> None:
        """Begin at a loaded state, and report its point to the observer. No closure call."""
        point = self.point_of(state)
        self.best = None
        self._record(point)

    def scale_by_start(self) -> float:
        """Let the solver see the loss in a unit that fits the start: see Objective.typical_loss."""
        raise NotImplementedError

    def use_scale(self, scale: float) -> None:
        """Divide the loss that the solver sees by this."""
        self.loss_scale = scale

    def finish_at(self, state: State) -> Point:
        """The end of the run on the host; `cached_point` finds it."""
        self._end = self.point_of(state)
        return self._end.to_host()

    def result_fields(self, state: State) -> dict[str, Any]:
        """The fields of a result besides x and the loss, in the user's variables."""
        return {"jac": self.finish_at(state).gradient}

    def best_on_host(self) -> Point | None:
        """The best point, as arrays."""
        if self.best is None:
            return None
        end = self._end
        return end.to_host() if end is not None and end.x is self.best.x else self.best.to_host()

    def cached_point(self, x: NDArray[np.float64]) -> Point | None:
        """The end or the best point, where x is one of them."""
        on_host = (lambda: None if self._end is None else self._end.to_host(), self.best_on_host)
        points = (make() for make in on_host)  # one at a time: each copies two vectors
        return next((point for point in points if point is not None and np.array_equal(point.x, x)), None)

    def release(self) -> None:
        """Free graphs and references to this objective; the end point and the best point remain."""
        self.violation = self._observer = None
        self.calls.release()

    def _record(self, point: DevicePoint) -> None:
        """Note an evaluated point with a finite loss."""
        if self.best is None or point.loss < self.best.loss:
            self.best = point if point.graph is None else point.without_graph()
        if self.first is None and self.violation is not None:
            self.first = point.to_host()
        self._notify(point, point.loss)

    def _notify(self, point: DevicePoint, shown: float) -> None:
        if self._observer is not None:
            self._observer.evaluated(point)
        self.control.after_evaluation(shown)


class DeviceObjective(OnDevice):
    """A closure as the Problem that solvers see: z (n,) in the dtype and on the device of `variables`.

    NaN and infinite trials are replaced as for SciPy: see Derivatives. A sample without a graph, such as the sample of
    a loaded state, is evaluated again for products.
    """

    def __init__(self, calls: Calls, derivatives: Derivatives, variables: DeviceVariables, *rest: Any, **more: Any):
        super().__init__(calls, variables, *rest, **more)
        self.derivatives = derivatives
        self._last_finite: tuple[float, torch.Tensor, float, float] | None = None  # without x, to save memory
        self._scaled_start: Sample | None = None
        self._dense: DenseHessian | None = None

    def evaluate(self, x: torch.Tensor, along: torch.Tensor | None = None) -> Sample:
        """See Problem."""
        self.requests.nfev += 1
        self.requests.njev += 1
        if self._scaled_start is not None:
            known, self._scaled_start = self._scaled_start, None
            return known
        user = self.variables.to_user(x)
        result = self.calls.call(user, self.derivatives.evaluator)
        gradient = result.vector(self.dtype, self.device)
        if gradient is None:
            point = DevicePoint(user, result.loss, None, (None, None), self.calls.metrics)
            return self._rejected(x, point, along)
        shown = self._to_solver(gradient)
        loss, slope, (norm, largest), norms = self._numbers(result.value, shown, along, gradient)
        point = DevicePoint(user, loss, gradient, norms, self.calls.metrics, result.graph)
        if not (math.isfinite(loss) and math.isfinite(largest)):
            return self._rejected(x, point, along)
        sample = _EvaluatedSample(x, loss / self.loss_scale, shown, slope, largest, norm, point)
        self._last_finite = sample.loss, shown, largest, norm
        self._record(point)
        return sample

    def product(self, sample: Sample, v: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """See Problem. In entries that no gradient has reached yet, the product is v, which prevents steps there."""
        self.requests.nhev += 1
        if known is not None:
            return known
        product = self._product(sample, v)
        unreached = self._unreached()
        return product if unreached is None else torch.where(unreached, v, product)

    def hessian(self, sample: Sample) -> torch.Tensor:
        """See Problem. Raises StopRun if it is not finite. Large in entries that no gradient has reached yet."""
        self.requests.nhev += 1
        self.counts.nhev += 1
        hessian = self._built(sample)
        largest = float(hessian.abs().max())
        if not math.isfinite(largest):
            raise StopRun(NONFINITE_CURVATURE)
        unreached = self._unreached()
        if unreached is not None:
            hessian.diagonal()[unreached] = STIFF * (largest or 1.0)
        return hessian

    # For events and endings

    def point_of(self, state: State) -> DevicePoint:
        """The point of a state in the user's variables; for a loaded state, from the fields of its sample."""
        return state.sample.point if isinstance(state.sample, _EvaluatedSample) else super().point_of(state)

    def begin_at(self, state: State) -> None:
        """Begin at a loaded state, and report its point to the observer. No closure call."""
        point = super().point_of(state)
        known = _EvaluatedSample(
            **{part.name: getattr(state.sample, part.name) for part in fields(Sample)}, point=point
        )
        state.sample, self._last_finite = known, (known.loss, known.gradient, known.largest, known.norm)
        super().begin_at(state)

    def scale_by_start(self) -> float:
        """Evaluate the start, and let the solver see the loss in this unit: see Objective.typical_loss."""
        first = self.evaluate(self.start())
        self.requests = Counts()
        self.loss_scale = scale = power_of_two(first.largest)
        for name in ("loss", "slope", "largest", "norm"):
            setattr(first, name, getattr(first, name) / scale)
        first.gradient = first.gradient / scale
        self._last_finite = first.loss, first.gradient, first.largest, first.norm
        self._scaled_start = first
        return scale

    def release(self) -> None:
        """See OnDevice."""
        self._last_finite = self._scaled_start = None
        super().release()

    # Evaluation

    def _numbers(
        self, value: torch.Tensor | float, shown: torch.Tensor, along: torch.Tensor | None, gradient: torch.Tensor
    ) -> tuple[float, float, tuple[float, float], tuple[float, float]]:
        """Loss, slope, and 2-norm and largest entry of the gradient: as shown to the solver, and the user's."""
        values = [torch.linalg.vector_norm(shown), *torch.aminmax(shown)]
        if shown is not gradient:
            values += [torch.linalg.vector_norm(gradient), *torch.aminmax(gradient)]
        if along is not None:
            values.append(dot(shown, along))
        if isinstance(value, torch.Tensor):
            values.append(value.to(self.device))
        on_host = numbers(*values)
        loss = on_host.pop() if isinstance(value, torch.Tensor) else value
        slope = 0.0 if along is None else on_host.pop()
        norms = on_host[0], max(-on_host[1], on_host[2])
        users = norms if shown is gradient else (on_host[3], max(-on_host[4], on_host[5]))
        return loss, slope, norms, users

    def _rejected(self, x: torch.Tensor, point: DevicePoint, along: torch.Tensor | None) -> Sample:
        """The values for the method where the loss is not defined: they make it reject the trial."""
        last = self._last_finite
        if last is None:
            raise Abort(NonFiniteStartError(nonfinite_start(point.loss)))
        loss, gradient, largest, norm = last
        shown = math.inf
        if self.derivatives.nonfinite == "wall":
            shown = loss + 10 * (1 + abs(loss))
        slope = 0.0 if along is None else float(dot(gradient, along))
        self._notify(point, shown * self.loss_scale)
        return Sample(x, shown, gradient, slope, largest, norm)

    def _to_solver(self, gradient: torch.Tensor) -> torch.Tensor:
        """A gradient or product in the solver's variables, with its scale."""
        shown = self.variables.gradient_to_solver(gradient)
        return shown if self.loss_scale == 1 else shown / self.loss_scale

    # Curvature

    def _point(self, sample: Sample) -> DevicePoint:
        assert isinstance(sample, _EvaluatedSample)  # a sample of this run, not of the loaded state
        return sample.point

    def _product(self, sample: Sample, v: torch.Tensor) -> torch.Tensor:
        self.control.before_product(self.counts.work)
        self.counts.nhvp += 1
        direction = self.variables.direction_to_user(v)
        try:
            if self.derivatives.curvature != "autograd":
                return self._to_solver(self._difference(self._point(sample).x, direction))
            return self._to_solver(self._with_graph(sample, lambda graph: graph.product(direction)))
        except Exception as error:
            raise Abort(error) from error

    def _built(self, sample: Sample) -> torch.Tensor:
        if self.derivatives.curvature != "autograd":
            units = torch.eye(self.n, dtype=self.dtype, device=self.device)
            rows = torch.stack([self._product(sample, unit) for unit in units])
            return (rows + rows.T) / 2
        n, before_chunk = self.flat.n, self.control.before_work
        self._dense = self._dense or DenseHessian(n, self.calls.bytes_per_row, self.derivatives.chunk)
        build = self._dense.build
        self.control.before_product(self.counts.work, n)
        try:
            hessian = self._with_graph(sample, lambda now: build(now, n, before_chunk, self.dtype, self.device))
        except Exception as error:
            raise Abort(error) from error
        self.counts.nhvp += n
        hessian = self.variables.hessian_to_solver(hessian)
        return hessian if self.loss_scale == 1 else hessian.div_(self.loss_scale)

    def _with_graph(self, sample: Sample, use: Callable[[HvpGraph], torch.Tensor]) -> torch.Tensor:
        """What `use` makes of the graph at a sample."""
        point = self._point(sample)
        graph = point.graph or self.calls.call(point.x, "curvature").graph
        if graph is None:
            raise StopRun(NONFINITE_CURVATURE)
        product, point.graph = self.calls.with_graph(point.x, graph, use)
        return product

    def _difference(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """H v by a central difference of gradients along v, as `finite_difference_product`."""
        scale = self.variables.scale
        length = float(torch.linalg.vector_norm(v / scale))
        if length == 0:
            return torch.zeros_like(v)
        h = self.flat.eps ** (1 / 3) * (1 + float(torch.linalg.vector_norm(x / scale))) / length
        ahead, behind = self._unrecorded_gradient(x + h * v), self._unrecorded_gradient(x - h * v)
        if ahead is not None and behind is not None:
            return (ahead - behind).div_(2 * h)
        here = self._unrecorded_gradient(x)
        if here is None or (ahead is None and behind is None):
            raise StopRun(NONFINITE_CURVATURE)
        change = ahead - here if ahead is not None else here - behind  # type: ignore[operator]
        return change.div_(h)

    def _unrecorded_gradient(self, x: torch.Tensor) -> torch.Tensor | None:
        """The gradient at an extra point: counted, without an event; None if it is not finite."""
        with preserved_buffers():
            result = self.calls.call(x, "gradient")
        gradient = result.vector(self.dtype, self.device)
        return gradient if gradient is not None and bool(torch.isfinite(gradient).all()) else None

    def _unreached(self) -> torch.Tensor | None:
        unreached = self.calls.unreached()
        return self.variables.mask_to_solver(self.flat.mask(unreached)) if unreached else None


def _copied(x: torch.Tensor) -> NDArray[np.float64]:
    return x.to("cpu", torch.float64, copy=True).numpy()


def largest_entry(x: torch.Tensor) -> torch.Tensor:
    """The largest absolute value, 0-d; NaN if an entry is NaN. Much faster than a norm of order infinity."""
    low, high = torch.aminmax(x)
    return torch.maximum(-low, high)
