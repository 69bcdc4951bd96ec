"""The start check: compares the first closure call of a run with at most three extra calls, outside all counts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import ClosureError, ClosureWarning, SecondDerivativeError
from ..parameters.device_variables import DeviceVariables
from .closure import (
    LEVELS,
    Closure,
    ClosureResult,
    Evaluate,
    Evaluator,
    evaluate_curvature,
    evaluate_gradient,
    evaluate_probe,
    evaluate_value,
)
from .closure_check import STOCHASTIC, ObservedClosure, require_consistent, same_loss
from .explained_errors import MADE_BEFORE, is_exhausted, repeated_call_error
from .graph import made_before, once_differentiable, saved_bytes
from .hessian import Gradient
from .side_effects import Generators, preserved_buffers

if TYPE_CHECKING:
    from ..parameters.flat import FlatParameters, Vector
    from ..parameters.variables import Variables

__all__ = ["StartCheck"]

_CALLS = 3
_NEAR, _FAR = 0.4, 0.2
"""Lengths of displacements, as powers of epsilon: in scaled variables, relative to 1 plus the norm of the point."""
_BACK = 0.5
"""Length of the backward displacement over the forward one. Not 1: an oscillation could look alike on both sides."""
_MEASURABLE = 100
"""A change of the loss of this many roundings counts as a change."""
_OFF, _OFF_AND_STALE = 0.5, 0.2
"""How far the change of the loss over the one predicted is off, as a factor, where it is wrong; and where a graph is
older than the call."""
_IRREGULAR = torch.from_numpy(
    np.random.default_rng(0).uniform(0.5, 1.5, 4099) * np.random.default_rng(1).choice([-1.0, 1.0], 4099)
)
"""Repeated, the direction of a displacement where no gradient gives its signs: drawing so many numbers takes long."""
_PART_STALE = 0.01
"""The same if both sides agree: then a small part of the loss is older than the call."""


@dataclass(frozen=True)
class _Displacement:
    """A step in x (n,), by how much the loss changed, and the gradient after it where it was computed."""

    step: torch.Tensor
    change: float
    gradient: torch.Tensor | None


class StartCheck:
    """Compares the first closure call of a run with at most three more: at the same point, and displaced.

    closure: the user's closure; `loss` turns its return value into the loss. variables: the solver's variables; points
    are displaced in their units and bounds. labels: one name for each parameter. gradient: whether the method uses it;
    curvature: also its graph. measure: `bytes_per_row` then has the bytes that the graph keeps for backward, where they
    can be counted. constrained: parameters that the loss does not depend on may appear in a constraint. apart:
    `closure` is only a part of the loss; its first call is one more call.

    Parameters, `.grad`, buffers and random number generators are left as the first call left them.
    """

    def __init__(
        self,
        closure: Closure,
        flat: FlatParameters,
        variables: Variables,
        labels: Sequence[str],
        *,
        loss: Callable[[Any], Any] = lambda returned: returned,
        gradient: bool = True,
        curvature: bool = False,
        measure: bool = False,
        constrained: bool = False,
        apart: bool = False,
    ):
        self.bytes_per_row: int | None = None
        self._seen = ObservedClosure(closure, loss)
        self._flat = flat
        self._variables = variables
        self._labels = labels
        self._gradient = gradient
        self._curvature = curvature
        self._measure = measure
        self._constrained = constrained
        self._apart = apart
        self._curved = False  # whether there is a real gradient to compare captured derivatives with
        self._calls_left = _CALLS
        self._eps = flat.eps
        self._near: torch.Tensor | None = None

    def first(self, evaluator: Evaluator, level: str) -> ClosureResult:
        """The first call of the run, which is counted; `evaluator` is the run's."""
        self._evaluate = LEVELS[level]
        self._before = Generators.now()
        if self._apart:
            return evaluator.evaluate(level)
        return self._measured(self._evaluate, lambda: evaluator.evaluate(level))

    def compare(self, first: ClosureResult, x: Vector) -> None:
        """The other calls, after the first at x (n,). Raises ClosureError; warns (ClosureWarning) once of a finding.

        All vectors have the dtype and the device of x.
        """
        gradients, after = self._flat.gradients(), Generators.now()
        self._first = self._real = first
        self._x = torch.from_numpy(x) if isinstance(x, np.ndarray) else x
        self._device_variables = DeviceVariables(self._variables, self._x.dtype, self._x.device)
        try:
            with preserved_buffers():
                if self._apart:
                    self._first = self._real = self._first_of_part()
                self._held = self._values()
                self._drawn = not self._before.same(Generators.now() if self._apart else after)
                self._compare(gradients)
        finally:
            after.put_back()
            self._flat.write(x)
            for tensor, gradient in zip(self._flat.tensors, gradients, strict=True):
                tensor.grad = gradient
            self._seen.forget()
            del self._first, self._real  # they hold graphs

    def _first_of_part(self) -> ClosureResult:
        """The first call of a closure that is a part of the loss."""
        self._before = Generators.now()
        self._flat.write(self._x)
        return self._measured(self._evaluate, lambda: self._evaluate(self._seen, self._flat))

    def _compare(self, gradients: Sequence[Any]) -> None:
        first = self._first
        parts = None if first.graph is None else self._product(first)
        second = self._repeat(self._counterpart(), rewind=self._curvature)
        self._nodes = self._seen.nodes
        self._eps = self._seen.precision(self._flat.eps, first.loss)
        self._real, captured = (second, first) if first.graph is not None else (first, second)
        absent = [a is None and b is None for a, b in zip(gradients, self._flat.gradients(), strict=True)]
        if not self._same_loss(second):
            return
        self._curved = self._curvature and self._finite(self._real)
        if self._curved:
            require_consistent(self._real, captured, self._eps, self._x)
        if not all(absent) and not self._constrained:
            _warn_of_unreached([label for label, gone in zip(self._labels, absent, strict=True) if gone])
        if np.isfinite(first.loss):
            self._compare_displaced(captured, parts)

    def _compare_displaced(self, captured: ClosureResult, parts: Gradient | None) -> None:
        constant = False
        if self._curved:
            parts = self._product(captured) if parts is None else parts
            constant = self._has_constant_part(captured, parts)
        near = self._displaced(self._near_point(), evaluate_gradient if constant else evaluate_value)
        if constant and parts is not None and self._product_deviates(parts, near):
            raise SecondDerivativeError(_HIDDEN)
        if self._curvature and self._drawn and self._calls_left and not self._same_loss(self._repeat(evaluate_value)):
            return
        if near is not None and self._suspicious(near):
            self._judge(near)

    # Calls

    def _counterpart(self) -> Evaluate:
        """The second call: with the captured gradient, to compare with the real one, or the same call again."""
        if not self._curvature:
            return self._evaluate
        return evaluate_gradient if self._first.graph is not None else evaluate_curvature

    def _repeat(self, evaluate: Evaluate, *, rewind: bool = False) -> ClosureResult:
        """Another call at the same point, with the same random numbers or new ones."""
        try:
            result = self._call(evaluate, self._x, rewind=rewind)
        except Exception as error:
            new = repeated_call_error(error)
            if new is error:
                raise
            raise new from None
        self._flat.require_held(self._x)
        return result

    def _call(self, evaluate: Evaluate, x: torch.Tensor, *, rewind: bool) -> ClosureResult:
        self._calls_left -= 1
        if rewind and self._drawn:
            self._before.put_back()
        self._flat.write(x)
        return self._measured(evaluate, lambda: evaluate(self._seen, self._flat))

    def _measured(self, evaluate: Evaluate, call: Callable[[], ClosureResult]) -> ClosureResult:
        if not self._measure or evaluate is not evaluate_curvature:
            return call()
        result, self.bytes_per_row = saved_bytes(call, self._refused)
        return result

    def _refused(self) -> None:
        """Call the closure once more after it could not be measured."""
        self._calls_left -= 1
        self._before.put_back()

    # Checks

    def _same_loss(self, second: ClosureResult) -> bool:
        """Whether two calls at the same point agree; warns where they do not."""
        if same_loss(self._first, second.loss, self._eps, self._x):
            return True
        message = STOCHASTIC.format(first=self._first.loss, second=second.loss)
        warnings.warn(message, ClosureWarning, stacklevel=2)
        return False

    def _displaced(self, z: torch.Tensor, evaluate: Evaluate) -> _Displacement | None:
        """The loss at z, with the same random numbers; None if it cannot be computed."""
        at = self._to_user(z)
        try:
            result = self._call(evaluate, at, rewind=True)
        except Exception as error:
            if is_exhausted(error):
                raise repeated_call_error(error) from None
            return None  # z may be outside the domain of the loss
        self._flat.require_held(at)
        if not np.isfinite(result.loss):
            return None
        return _Displacement(self._values() - self._held, result.loss - self._first.loss, self._gradient_of(result))

    # Vectors

    def _values(self) -> torch.Tensor:
        """The parameters' values, which have their own precision."""
        return self._flat.join([tensor.detach() for tensor in self._flat.tensors], self._x.dtype, self._x.device)

    def _gradient_of(self, result: ClosureResult) -> torch.Tensor | None:
        return result.vector(self._x.dtype, self._x.device)

    def _to_user(self, z: torch.Tensor) -> torch.Tensor:
        x, still = self._device_variables.to_user(z), self._variables.unreached()
        return x if still is None else torch.where(torch.from_numpy(still).to(x.device), self._x, x)

    def _near_point(self) -> torch.Tensor:
        """The point of the first displacement, in the solver's variables."""
        if self._near is None:
            self._near = self._target(_NEAR, 1)
        return self._near

    def _target(self, power: float, factor: float) -> torch.Tensor:
        """A point in the solver's variables, inside their bounds: a multiple of a random step along the gradient."""
        variables = self._device_variables
        z = variables.to_solver(self._x)
        step = _IRREGULAR.to(z).repeat(-(-len(z) // len(_IRREGULAR)))[: len(z)]
        gradient = self._gradient_of(self._real)
        if gradient is not None:
            slope = variables.gradient_to_solver(gradient)
            step = torch.where(slope * step < 0, -step, step)
        size, length = torch.stack([torch.linalg.vector_norm(v) for v in (step, z)]).tolist()
        step *= factor * self._eps**power * (1 + length) / size
        low, high = variables.lower, variables.upper
        if low is None or high is None:
            return z + step
        inside = (z + step >= low) & (z + step <= high)
        return torch.clamp(torch.where(inside, z + step, z - step), low, high)

    def _finite(self, result: ClosureResult) -> bool:
        gradient = self._gradient_of(result)
        return bool(np.isfinite(result.loss)) and gradient is not None and bool(gradient.isfinite().all())

    def _suspicious(self, move: _Displacement) -> bool:
        gradient = self._gradient_of(self._real)
        if gradient is None:
            return move.change == 0
        if not self._gradient and move.change != 0:
            return False
        predicted = self._predicted(move, gradient)
        if predicted is None:
            return False
        off, shows = abs(move.change / predicted - 1), self._exceeds_rounding(move.change - predicted)
        return off > _OFF_AND_STALE or (off > _PART_STALE and shows and self._stale())

    def _stale(self) -> bool:
        """Whether a graph in the last result is older than the call."""
        return made_before(self._nodes, self._seen.nodes, self._flat.tensors)

    def _exceeds_rounding(self, change: float) -> bool:
        return abs(change) > _MEASURABLE * self._eps * abs(self._first.loss)

    def _predicted(self, move: _Displacement, gradient: torch.Tensor) -> float | None:
        """The change of the loss to first order; None if it is smaller than rounding."""
        change = float(gradient @ move.step)
        return change if self._exceeds_rounding(change) and np.isfinite(change) else None

    def _judge(self, near: _Displacement) -> None:
        """Report a stale graph or a wrong gradient: the loss has one slope on both sides, and the gradient another."""
        unchanged = near.change == 0
        stale = self._stale()
        ahead, behind = self._ratios(near, unchanged=unchanged)
        if not _gradient_is_wrong(ahead, behind, stale=stale):
            return
        if stale or (unchanged and not self._nodes):
            raise ClosureError(_CHANGES.format(ratio=ahead) + MADE_BEFORE)
        if self._gradient:
            warnings.warn(_CHANGES.format(ratio=ahead) + _WRONG, ClosureWarning, stacklevel=2)

    def _ratios(self, near: _Displacement, *, unchanged: bool) -> tuple[float, float]:
        """Actual over predicted change of the loss, on both sides; NaN if not known."""
        gradient, far = self._gradient_of(self._real), None
        if self._calls_left:
            evaluate = evaluate_value if gradient is not None else evaluate_probe
            far = self._displaced(self._target(_FAR if unchanged else _NEAR, -_BACK), evaluate)
        elif unchanged:
            far = near
        gradient = gradient if gradient is not None or far is None else far.gradient
        if far is None or gradient is None:
            return np.nan, np.nan
        return self._ratio(near, gradient), self._ratio(far, gradient)

    def _ratio(self, move: _Displacement, gradient: torch.Tensor) -> float:
        predicted = self._predicted(move, gradient)
        return np.nan if predicted is None else move.change / predicted

    def _product(self, captured: ClosureResult) -> Gradient:
        """A product with the Hessian at the start, along the step of the near displacement."""
        assert captured.graph is not None
        self._flat.write(self._x)
        return captured.graph.parts(self._to_user(self._near_point()) - self._x)

    def _has_constant_part(self, captured: ClosureResult, product: Gradient) -> bool:
        """Whether no gradient depends on some parameter: the loss is linear in it, or an operation hides its curvature.

        SecondDerivativeError where the graph shows the latter.
        """
        assert captured.graph is not None
        if once_differentiable(captured.graph.gradient):
            raise SecondDerivativeError(_HIDDEN)
        return any(
            part is None and seen is not None for part, seen in zip(product, captured.graph.gradient, strict=True)
        )

    def _product_deviates(self, parts: Gradient, near: _Displacement | None) -> bool:
        """Whether a product differs from the change of the gradient along the same step."""
        real = self._gradient_of(self._real)
        if near is None or near.gradient is None or real is None:
            return False
        product = self._flat.join(parts, real.dtype, real.device)
        scale, norm = self._device_variables.scale, torch.linalg.vector_norm
        grown = scale * (near.gradient - real)
        noise = _MEASURABLE * self._eps * norm(scale * real)
        return bool(norm(scale * product - grown) > 0.1 * norm(grown) + noise)


def _gradient_is_wrong(ahead: float, behind: float, *, stale: bool) -> bool:
    """Whether the two ratios agree with each other and differ from 1; False for NaN."""
    ratio, spread = (_BACK * ahead + behind) / (1 + _BACK), abs(ahead - behind)
    off = max(ratio, 1 / ratio) - 1 if ratio > 0 else abs(ratio - 1)
    straight = spread <= 0.2 * max(abs(ahead), abs(behind))
    least = (_PART_STALE if spread <= 0.2 * off else _OFF_AND_STALE) if stale else _OFF
    return straight and off > least


_CHANGES = "after a small step, the loss changed by {ratio:.3g} times the change that its gradient predicts: "
_WRONG = (
    "the gradient in .grad is not the derivative of the loss that the closure returns. Use no gradient clipping, "
    "scaling or hooks in the closure, return the loss on which backward() was called, and compute everything that "
    "depends on the parameters inside the closure; optimizer.check(closure) shows details, start_check=False skips the "
    "check"
)
_HIDDEN = (
    "an operation of the closure hides its second derivative (a once_differentiable autograd.Function, or a "
    "detached gradient); make its backward differentiable, or pass curvature='finite-difference'"
)
_SHOWN = 8


def _warn_of_unreached(names: Sequence[str]) -> None:
    """Issue a ClosureWarning that names the parameters that no gradient reached."""
    if not names:
        return
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    warnings.warn(
        f"the loss does not depend on {listed}: no gradient reached it at the start. Methods with gradients do not "
        "change such a parameter until a gradient reaches it. If this is intended, set requires_grad=False or do not "
        "pass it to the optimizer; else use it in the closure without .detach(), .item() or torch.no_grad()",
        ClosureWarning,
        stacklevel=2,
    )
