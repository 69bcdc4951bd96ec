"""The source of residuals: one closure call that returns them, with their graph."""

from __future__ import annotations

import math
from typing import Protocol

import torch

from ...errors import ClosureError, ConstantLossError
from ..autodiff.closure import Closure, ClosureResult, constant_of, math_attention
from ..autodiff.graph import leaves, nodes_of
from ..autodiff.jacobian import JacobianGraph, jacobian_error
from ..parameters.flat import FlatParameters

__all__ = ["INDEPENDENT", "CostOfResiduals", "HalfSquare", "ResidualEvaluator", "as_residuals"]

INDEPENDENT = (
    "the residuals do not depend on the parameters: compute them from the same tensors that were passed to the "
    "optimizer, without .detach(), .item() or torch.no_grad()"
)


class CostOfResiduals(Protocol):
    """The loss as a function of residuals."""

    def of(self, residuals: torch.Tensor) -> torch.Tensor | float:
        """The cost of residuals (m,), without a graph."""
        ...

    def slope(self, residuals: torch.Tensor) -> torch.Tensor:
        """Its derivative with respect to them, shape (m,)."""
        ...


class HalfSquare:
    """½‖r‖², computed on the device of the residuals."""

    def of(self, residuals: torch.Tensor) -> torch.Tensor:
        """See CostOfResiduals: summed in float64 if the device has it, 0-d."""
        wide = residuals if residuals.device.type == "mps" else residuals.double()
        return 0.5 * torch.dot(wide, wide)

    def slope(self, residuals: torch.Tensor) -> torch.Tensor:
        """See CostOfResiduals."""
        return residuals


class ResidualEvaluator:
    """Evaluates by one closure call that returns residuals: the loss is their cost, and the result keeps them.

    m: the number of residuals, 0 before the first call. The first call also computes the gradient of the cost, and
    fills `.grad`. whole: whether a Jacobian of all residuals may be kept.
    """

    whole = True

    def __init__(self, closure: Closure, flat: FlatParameters, cost: CostOfResiduals):
        self.m = 0
        self._closure = closure
        self._flat = flat
        self._cost = cost

    def evaluate(self, level: str) -> ClosureResult:
        """See Evaluator. The level is always that of the residuals."""
        self._flat.clear_gradients()
        returned = self._returned()
        if not self.m:
            returned = as_residuals(returned)
        if _rejected(returned):
            return ClosureResult(math.nan, flat=self._flat)
        vector = as_residuals(returned)
        if self.m and vector.numel() != self.m:
            if bool(torch.isfinite(vector).all()):
                raise ClosureError(
                    f"the closure returned {vector.numel()} residuals, but {self.m} at the start; "
                    f"return {self.m} at each call"
                )
            return ClosureResult(math.nan, flat=self._flat)
        parts = None if self.m else self._fill_gradients(vector)
        self.m = vector.numel()
        graph = JacobianGraph(vector, self._flat) if vector.requires_grad else None
        return ClosureResult(
            self._cost.of(vector.detach()), parts, self._flat, residuals=vector.detach(), jacobian=graph
        )

    def residuals(self) -> torch.Tensor:
        """The residuals at the current values of the parameters, shape (m,), with their graph."""
        return as_residuals(self._returned())

    def cost(self, residuals: torch.Tensor) -> float:
        """The loss of residuals (m,)."""
        return float(self._cost.of(residuals.detach()))

    def _returned(self) -> object:
        with torch.enable_grad(), math_attention:
            return self._closure()

    def _fill_gradients(self, vector: torch.Tensor) -> list[torch.Tensor | None]:
        slope = self._cost.slope(vector.detach())
        try:
            parts = torch.autograd.grad(vector, self._flat.tensors, slope, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            explained = jacobian_error(error)
            if explained is error:
                raise
            raise explained from error
        reached = leaves(nodes_of(vector))
        for tensor, part in zip(self._flat.tensors, parts, strict=True):
            tensor.grad = part if id(tensor) in reached else None
        return self._flat.gradients()


def as_residuals(returned: object) -> torch.Tensor:
    """The return value of a closure as a vector of shape (m,). Raises ClosureError if it cannot be residuals."""
    if not isinstance(returned, torch.Tensor):
        what = "nothing" if returned is None else type(returned).__name__
        raise ClosureError(f"the closure returned {what}; it must return the residuals, a tensor of any shape")
    if not returned.dtype.is_floating_point:
        raise ClosureError(f"the closure returned residuals of {returned.dtype}; they must be real floating point")
    if not returned.numel():
        raise ClosureError(
            f"the closure returned an empty tensor, {tuple(returned.shape)}; return at least one residual"
        )
    return returned.reshape(-1)


def _rejected(returned: object) -> bool:
    """Whether the closure returned NaN or infinity without a graph; ConstantLossError for finite numbers."""
    constant = constant_of(returned)
    if constant is None or not constant.size:
        return False
    if torch.isfinite(torch.from_numpy(constant)).all():
        raise ConstantLossError(INDEPENDENT, float(abs(constant).max()))
    return True
