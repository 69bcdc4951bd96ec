"""The residuals of a least-squares solver on the device, and their Jacobian, as tensors on that device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from ...errors import NonFiniteStartError
from ..autodiff.jacobian import DenseJacobian, JacobianGraph, jacobian_error
from ..runtime.control import Abort
from ..solvers.contract import State
from ..solvers.least_squares import LeastSquaresState, ResidualSample
from .calls import Calls, Counts
from .device_objective import DevicePoint, OnDevice, largest_entry
from .objective import nonfinite_start, power_of_two
from .residual_evaluator import ResidualEvaluator
from .residuals import graph_of

__all__ = ["DeviceResiduals"]

_WHOLE_BYTES = 2**28
"""Up to this size a Jacobian is computed in one piece, by columns if that is faster, also if rows are requested."""


@dataclass(slots=True)
class _Linearised(ResidualSample):
    """A ResidualSample with references to its point and its graph."""

    packed_as: ClassVar[type] = ResidualSample
    graph: JacobianGraph
    point: DevicePoint


class DeviceResiduals(OnDevice):
    """Residuals as the ResidualProblem that solvers see: over √loss_scale, as functions of z (n,).

    A sample of another run, such as the sample of a loaded state, is evaluated again for its derivative.
    """

    def __init__(self, evaluator: ResidualEvaluator, calls: Calls, *rest: Any, **more: Any):
        super().__init__(calls, *rest, **more)
        self._evaluator = evaluator
        self.whole = evaluator.whole
        self._dense: DenseJacobian | None = None
        self._scaled_start: _Linearised | None = None
        self._root = 1.0

    # Called by solvers

    def residuals(self, x: torch.Tensor) -> ResidualSample:
        """See ResidualProblem."""
        self.requests.nfev += 1
        if self._scaled_start is not None:
            known, self._scaled_start = self._scaled_start, None
            return known
        user = self.variables.to_user(x)
        result = self.calls.call(user, "value")
        vector, loss = result.residuals, result.loss
        if vector is None or not math.isfinite(loss):
            return self._undefined(x, DevicePoint(user, loss, None, (None, None), self.calls.metrics))
        gradient, norms = None, (None, None)
        if result.parts is not None:
            gradient = self.flat.join(result.parts, self.dtype, self.device)
            two, largest = torch.stack([torch.linalg.vector_norm(gradient), largest_entry(gradient)]).tolist()
            norms = (two, largest)
        point = DevicePoint(user, loss, gradient, norms, self.calls.metrics)
        values = vector.to(self.device, self.dtype)
        values = values if self._root == 1 else values / self._root
        sample = _Linearised(x, values, loss / self.loss_scale, graph_of(result), point)
        self._record(point)
        return sample

    def jacobian(self, sample: ResidualSample) -> torch.Tensor:
        """See ResidualProblem."""
        return torch.cat([rows for rows, _ in self.equations(sample)])

    def equations(self, sample: ResidualSample) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """See ResidualProblem; in one piece if J is small and need not be built batch by batch."""
        self.requests.njev += 1
        self.counts.njev += 1
        graph = self._at(sample)
        m, n = graph.shape
        self._dense = self._dense or DenseJacobian(m, n, self.flat.eps)
        before, residuals = self.control.before_work, sample.residuals
        try:
            if self.whole and m * n * residuals.element_size() <= _WHOLE_BYTES:
                whole = self._dense.build(graph, before, self.dtype, self.device)
                yield self._rows_to_solver(whole), residuals
            else:
                for rows, part in graph.equations(self._dense, before, residuals):
                    yield self._rows_to_solver(rows), part
        except Exception as error:
            raise Abort(jacobian_error(error)) from error

    def product(self, sample: ResidualSample, v: torch.Tensor) -> torch.Tensor:
        """See ResidualProblem."""
        product = self._operate(sample, lambda graph: graph.product(self.variables.direction_to_user(v)))
        return product if self._root == 1 else product / self._root

    def adjoint(self, sample: ResidualSample, u: torch.Tensor) -> torch.Tensor:
        """See ResidualProblem."""
        product = self.variables.gradient_to_solver(self._operate(sample, lambda graph: graph.adjoint(u)))
        return product if self._root == 1 else product / self._root

    # For events and endings

    def point_of(self, state: State) -> DevicePoint:
        """See OnDevice: with the numbers that the closure recorded there."""
        point = super().point_of(state)
        sample = state.point if isinstance(state, LeastSquaresState) else None
        return replace(point, metrics=sample.point.metrics) if isinstance(sample, _Linearised) else point

    def result_fields(self, state: State) -> dict[str, Any]:
        """See OnDevice: the fields of `scipy.optimize.least_squares`, with the Jacobian if it is small."""
        assert isinstance(state, LeastSquaresState)
        end, point = self.finish_at(state), state.point
        fields: dict[str, Any] = {
            "cost": end.loss,
            "grad": end.gradient,
            "residuals": (point.residuals * self._root).to("cpu", torch.float64).numpy(),
            "optimality": state.sample.largest * self.loss_scale,
        }
        small = self._evaluator.m * self.flat.n * 8 <= _WHOLE_BYTES
        if isinstance(point, _Linearised) and self.whole and small:
            self.calls.write_parameters(point.point.x)
            dense = self._dense or DenseJacobian(*point.graph.shape, self.flat.eps)
            self.counts.njev += 1
            fields["jac"] = dense.build(point.graph, self.control.before_work).numpy()
        return fields

    def scale_by_start(self) -> float:
        """See OnDevice."""
        first = self.residuals(self.start())
        assert isinstance(first, _Linearised)
        assert first.point.gradient is not None
        self.requests = Counts()
        largest = float(self.variables.gradient_to_solver(first.point.gradient).abs().max())
        self.use_scale(power_of_two(largest))
        first.residuals, first.cost = first.residuals / self._root, first.cost / self.loss_scale
        self._scaled_start = first
        return self.loss_scale

    def use_scale(self, scale: float) -> None:
        """See OnDevice."""
        self.loss_scale, self._root = scale, math.sqrt(scale)

    def release(self) -> None:
        """See OnDevice."""
        self._scaled_start = None
        super().release()

    def _undefined(self, x: torch.Tensor, point: DevicePoint) -> ResidualSample:
        if self.best is None:
            raise Abort(NonFiniteStartError(nonfinite_start(point.loss)))
        self._notify(point, math.inf)
        return ResidualSample(x, torch.full((self._evaluator.m,), math.nan).to(x), math.inf)

    def _at(self, sample: ResidualSample) -> JacobianGraph:
        """The graph of a sample, after writing its point into the parameters."""
        if isinstance(sample, _Linearised):
            self.calls.write_parameters(sample.point.x)
            return sample.graph
        return graph_of(self.calls.call(self.variables.to_user(sample.x), "value"))

    def _rows_to_solver(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of a Jacobian with respect to x as rows with respect to z, of the scaled residuals."""
        rows = self.variables.rows_to_solver(rows)
        return rows if self._root == 1 else rows / self._root

    def _operate(self, sample: ResidualSample, product: Callable[[JacobianGraph], torch.Tensor]) -> torch.Tensor:
        self.control.before_product(self.counts.work)
        self.counts.nhvp += 1
        try:
            return product(self._at(sample))
        except Exception as error:
            raise Abort(jacobian_error(error)) from error
