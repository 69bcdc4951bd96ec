"""Products with the Hessian of a closure, or with JᵀJ of its residuals, at the present values of the parameters."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ...errors import ClosureError, MemoryBudgetError, SecondDerivativeError
from ..autodiff.closure import Closure, ClosureResult, OwnEvaluator, evaluator_for, require_closure
from ..autodiff.hessian import DenseHessian, HvpGraph
from ..autodiff.jacobian import DenseJacobian, JacobianGraph
from ..autodiff.side_effects import autograd_enabled, restored_afterwards
from ..autodiff.start_check import StartCheck
from ..batches.full_batch import FullBatch
from ..covariance.names import parameter_names
from ..objective.calls import Calls
from ..objective.residual_evaluator import HalfSquare, ResidualEvaluator
from ..parameters.bounds import group_bounds
from ..parameters.device_variables import DeviceVariables
from ..parameters.flat import FlatParameters, require_own_memory, trainable
from ..parameters.variables import Variables
from ..runtime.control import Abort, Control
from ..runtime.memory import available_bytes, readable_bytes

__all__ = ["Curvature", "Read", "opened"]

_ARRAYS = 4
"""The number of n×n arrays that eigenvalues of a dense matrix need."""


class Read:
    """Parameters as they were passed: the tensors as one vector, their names, and which entries are free.

    n: the number of free entries. dtype, device: of vectors.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]]):
        tensors = trainable(groups)  # type: ignore[arg-type]
        require_own_memory(tensors)
        self.flat, self.names = FlatParameters(tensors), parameter_names(groups)
        self.bounds = group_bounds(groups, tensors)
        self.variables = Variables(self.flat.read(), None, self.bounds)
        self.n, self.dtype, self.device = self.variables.n, self.flat.widest, tensors[0].device
        if not self.n:
            raise ClosureError("every entry of the parameters is fixed by its bounds, so there is no curvature")

    @property
    def wide(self) -> torch.dtype:
        """The dtype of dense matrices: float64 where the device has it."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def free(self, dtype: torch.dtype | None = None) -> DeviceVariables:
        """Translates between the parameters and their free entries."""
        return DeviceVariables(self.variables, dtype or self.dtype, self.device)

    def labels(self) -> list[str]:
        """The parameters in words."""
        return [
            f"parameter {name} of shape {tuple(tensor.shape)}"
            for name, tensor in zip(self.names, self.flat.tensors, strict=True)
        ]


class Curvature(ABC):
    """The curvature at a point, over the free entries of the parameters.

    loss: there. gradient: shape (n,), in the parameters' dtype. count: the products computed so far.
    """

    def __init__(self, read: Read, result: ClosureResult):
        assert result.parts is not None
        self.read, self.n, self.loss = read, read.n, result.loss
        self._free = read.free()
        gradient = read.flat.join(result.parts, read.dtype, read.device)
        self.gradient = self._free.gradient_to_solver(gradient)
        self.count = 0

    def product(self, v: torch.Tensor) -> torch.Tensor:
        """The matrix times v, shape (n,)."""
        self.count += 1
        return self._free.gradient_to_solver(self._product(self._free.direction_to_user(v)))

    def dense(self) -> torch.Tensor:
        """The symmetric matrix, shape (n, n), float64. Raises MemoryBudgetError if there is not enough memory."""
        needed, there = _ARRAYS * 8 * self.read.flat.n**2, available_bytes()
        if self.read.flat.on_host and needed > there:
            raise MemoryBudgetError(
                f"a dense matrix of {self.read.flat.n:,} parameters and its eigenvectors need "
                f"{readable_bytes(needed)}, but {readable_bytes(there)} are available; use products alone: "
                f"spectrum(closure, params), or form='low-rank' or 'diagonal'"
            )
        self.count += self.read.flat.n
        return self._checked(self.read.free(self.read.wide).hessian_to_solver(self._dense()))

    def diagonal(self) -> torch.Tensor:
        """The diagonal of the matrix, shape (n,), float64: as many products as there are parameters, in chunks."""
        self.count += self.read.flat.n
        return self._checked(self.read.free(self.read.wide).gradient_to_solver(self._diagonal()))

    @abstractmethod
    def _product(self, v: torch.Tensor) -> torch.Tensor: ...

    @abstractmethod
    def _dense(self) -> torch.Tensor: ...

    @abstractmethod
    def _diagonal(self) -> torch.Tensor: ...

    @staticmethod
    def _checked(matrix: torch.Tensor) -> torch.Tensor:
        if not bool(torch.isfinite(matrix).all()):
            raise ClosureError(
                "the Hessian has NaN or infinite entries at the present parameters; choose a point where the loss has "
                "second derivatives"
            )
        return matrix


class _Hessian(Curvature):
    def __init__(self, read: Read, calls: Calls):
        self._calls, self._x = calls, read.flat.read()
        result = calls.call(self._x, "curvature")
        _require_finite(result)
        if result.graph is None:
            raise SecondDerivativeError("the gradient has no graph, so there are no second derivatives here")
        super().__init__(read, result)
        self._graph: HvpGraph = result.graph
        self._dense_builder = DenseHessian(read.flat.n, calls.bytes_per_row)

    def _with_graph(self, use: Callable[[HvpGraph], torch.Tensor]) -> torch.Tensor:
        found, self._graph = self._calls.with_graph(self._x, self._graph, use)
        return found

    def _product(self, v: torch.Tensor) -> torch.Tensor:
        return self._with_graph(lambda graph: graph.product(v))

    def _dense(self) -> torch.Tensor:
        build, read = self._dense_builder.build, self.read
        return self._with_graph(lambda graph: build(graph, read.flat.n, _nothing, read.wide, read.device))

    def _diagonal(self) -> torch.Tensor:
        diagonal, read = self._dense_builder.diagonal, self.read
        return self._with_graph(lambda graph: diagonal(graph, read.flat.n, read.wide, read.device))


class _GaussNewton(Curvature):
    """JᵀJ of the residuals: the part of the Hessian of ½‖r‖² that is never negative."""

    def __init__(self, read: Read, calls: Calls):
        result = calls.call(read.flat.read(), "gradient")
        _require_finite(result)
        if result.jacobian is None:
            raise ClosureError("the residuals do not depend on the parameters; compute them from the same tensors")
        if result.jacobian.shape[0] == 1 < read.n:
            raise ClosureError(
                "the closure returned one number, but curvature='ggn' needs the residuals r, of which ½‖r‖² is the "
                "loss; return them, or use curvature='hessian' with the loss"
            )
        super().__init__(read, result)
        assert result.residuals is not None
        self._graph: JacobianGraph = result.jacobian
        self._residuals = result.residuals.to(read.device, read.wide)

    def _product(self, v: torch.Tensor) -> torch.Tensor:
        return self._graph.adjoint(self._graph.product(v))

    def _dense(self) -> torch.Tensor:
        n = self.read.flat.n
        return sum((rows.T @ rows for rows in self._rows()), start=self._residuals.new_zeros(n, n))

    def _diagonal(self) -> torch.Tensor:
        start = self._residuals.new_zeros(self.read.flat.n)
        return sum((rows.square().sum(0) for rows in self._rows()), start=start)

    def _rows(self) -> Iterator[torch.Tensor]:
        """Rows of J, or of another matrix with the same JᵀJ, in chunks."""
        builder = DenseJacobian(*self._graph.shape, self.read.flat.eps)
        for rows, _ in self._graph.equations(builder, _nothing, self._residuals):
            yield rows


@contextmanager
def opened(closure: Closure, read: Read, *, residuals: bool = False) -> Iterator[Curvature]:
    """The curvature of the closure, with the checks of a run's start. Parameters, `.grad` and buffers are restored.

    residuals: the closure returns residuals r; the loss is ½‖r‖², and the curvature JᵀJ. Raises ClosureError if the
    loss is not finite.
    """
    require_closure(closure)
    calls = _residual_calls(closure, read) if residuals else _calls(closure, read)
    try:
        with autograd_enabled(), restored_afterwards(read.flat):
            yield _GaussNewton(read, calls) if residuals else _Hessian(read, calls)
    except Abort as abort:
        raise abort.error from None
    finally:
        calls.release()


def _calls(closure: Closure, read: Read) -> Calls:
    control = Control()
    apart = isinstance(closure, OwnEvaluator)
    checked = closure.sample() if isinstance(closure, OwnEvaluator) else closure
    check = StartCheck(checked, read.flat, read.variables, read.labels(), curvature=True, measure=True, apart=apart)
    return Calls(evaluator_for(closure, read.flat, control), read.flat, control, check)


def _residual_calls(closure: Closure, read: Read) -> Calls:
    control, cost = Control(), HalfSquare()
    if isinstance(closure, FullBatch):
        return Calls(closure.residual_evaluator(read.flat, control, cost), read.flat, control)
    return Calls(ResidualEvaluator(closure, read.flat, cost), read.flat, control)


def _require_finite(result: ClosureResult) -> None:
    if not math.isfinite(result.loss) or result.parts is None:
        raise ClosureError(
            f"the loss is {result.loss} at the present parameters, so it has no curvature there; choose a point where "
            f"it is finite"
        )


def _nothing() -> None:
    """Nothing stops a chunk."""
