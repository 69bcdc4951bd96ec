"""The start check: compares the first closure call of a run with one extra call, outside all counts.

Where the two do not agree, up to three more calls find out why.
"""

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
from .closure_check import STOCHASTIC, ObservedClosure, different_losses, require_consistent, same_loss
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
_SAME = 1000
"""Losses or gradients that differ by up to this many roundings agree."""
_CURVED = 0.05
"""The change of a gradient and a product with the Hessian differ by at most this fraction, over a small step."""


@dataclass(frozen=True)
class _Displacement:
    """A step in x (n,), by how much the loss changed, and the result there, at `end`."""

    end: torch.Tensor
    step: torch.Tensor
    change: float
    result: ClosureResult


class StartCheck:
    """Compares the first closure call of a run with one more, displaced; if they disagree, with others: see `_CALLS`.

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
        self._moved: _Displacement | None = None
        self._along_near: Gradient | None = None
        self._tried = False  # whether the near displacement has been called
        self._nodes: set[Any] = set()

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
                self._loss = self._first.loss  # now: a loss that is an entry of a parameter moves with it
                self._held = self._rounded(self._x)
                self._drawn = not self._before.same(Generators.now() if self._apart else after)
                if not self._agrees(gradients):
                    self._compare(gradients)
        finally:
            after.put_back()
            self._flat.write(x)
            for tensor, gradient in zip(self._flat.tensors, gradients, strict=True):
                tensor.grad = gradient
            self._seen.forget()
            self._moved = self._along_near = None
            del self._first, self._real  # they hold graphs

    def _first_of_part(self) -> ClosureResult:
        """The first call of a closure that is a part of the loss."""
        self._before = Generators.now()
        self._flat.write(self._x)
        return self._measured(self._evaluate, lambda: self._evaluate(self._seen, self._flat))

    def _agrees(self, gradients: Sequence[Any]) -> bool:
        """Whether a call at a displaced point agrees with the first call in all that can be compared.

        The change of the loss is that of the mean of both gradients, and the change of the gradient a product with the
        Hessian. So there is no noise, no stale graph and no wrong derivative. False if it is not certain.
        """
        first, before = self._first, self._gradient_of(self._first)
        if first.graph is not None:
            self._product(first)  # now, because another call may change what it needs
        if self._drawn or before is None or (self._curvature and first.graph is None):
            return False
        if different_losses(first, self._eps):
            return False
        self._moved = near = self._displaced(
            self._near_point(), evaluate_gradient if self._curvature else self._evaluate
        )
        self._tried, self._nodes = True, self._seen.nodes
        self._eps = self._seen.precision(self._flat.eps, self._loss)
        after = None if near is None else self._gradient_of(near.result)
        if near is None or after is None:
            return False
        predicted = float((before + after) @ near.step) / 2
        off, rounding = abs(near.change - predicted), self._eps * max(abs(self._loss), abs(self._loss + near.change))
        if not off <= max(_MEASURABLE * rounding, min(_SAME * rounding, _PART_STALE * abs(predicted))):
            return False
        if self._curvature and not self._product_agrees(first, after - before):
            return False
        self._warn_of_unreached(gradients)
        return True

    def _compare(self, gradients: Sequence[Any]) -> None:
        """Find out what is wrong, if anything is: first by repeating the last call."""
        last, x = (self._first, self._x) if self._moved is None else (self._moved.result, self._moved.end)
        second = self._repeat(self._counterpart(last), x, rewind=self._curvature)
        self._nodes = self._nodes or self._seen.nodes
        self._eps = self._seen.precision(self._flat.eps, last.loss)
        real, captured = (second, last) if last.graph is not None else (last, second)
        if not self._same_loss(last, second, x):
            return
        self._curved = self._curvature and self._finite(real)
        if self._curved:
            require_consistent(real, captured, self._eps, x)
        self._warn_of_unreached(gradients)
        if self._moved is None:
            self._real = real
        if np.isfinite(self._loss):
            self._compare_displaced(captured if self._first.graph is None else self._first)

    def _compare_displaced(self, captured: ClosureResult) -> None:
        near = self._moved
        constant = self._curved and self._has_constant_part(captured)
        if not self._tried:
            near = self._displaced(self._near_point(), evaluate_gradient if constant else evaluate_value)
        if near is not None and constant and self._product_deviates(captured, near):
            raise SecondDerivativeError(_HIDDEN)
        if self._curvature and self._drawn and self._calls_left:
            again = self._repeat(evaluate_value, self._x)
            if not self._same_loss(self._first, again, self._x):
                return
        doubtful = near is not None and self._suspicious(near)
        if near is not None and doubtful and self._judge(near):
            return
        if self._tried and (doubtful or not self._gradient):  # the first call may have been unlike all others
            self._same_loss(self._first, self._repeat(evaluate_value, self._x), self._x)

    # Calls

    def _counterpart(self, last: ClosureResult) -> Evaluate:
        """The second call: with the captured gradient, to compare with the real one, or the same call again."""
        if not self._curvature:
            return self._evaluate
        return evaluate_gradient if last.graph is not None else evaluate_curvature

    def _repeat(self, evaluate: Evaluate, x: torch.Tensor, *, rewind: bool = False) -> ClosureResult:
        """Another call at the same point, with the same random numbers or new ones."""
        try:
            result = self._call(evaluate, x, rewind=rewind)
        except Exception as error:
            new = repeated_call_error(error)
            if new is error:
                raise
            raise new from None
        self._flat.require_held(x)
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

    def _warn_of_unreached(self, gradients: Sequence[Any]) -> None:
        """gradients: `.grad` of each parameter after the first call."""
        absent = [a is None and b is None for a, b in zip(gradients, self._flat.gradients(), strict=True)]
        if not all(absent) and not self._constrained:
            _warn_of_unreached([label for label, gone in zip(self._labels, absent, strict=True) if gone])

    def _same_loss(self, first: ClosureResult, second: ClosureResult, x: torch.Tensor) -> bool:
        """Whether two calls at x agree; warns where they do not."""
        if same_loss(first, second.loss, self._eps, x):
            return True
        message = STOCHASTIC.format(first=first.loss, second=second.loss)
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
        return _Displacement(at, self._rounded(at) - self._held, result.loss - self._loss, result)

    # Vectors

    def _rounded(self, x: torch.Tensor) -> torch.Tensor:
        """x, which was written into the parameters, in their precision."""
        if all(tensor.dtype == x.dtype for tensor in self._flat.tensors):
            return x
        return self._flat.join([tensor.detach() for tensor in self._flat.tensors], x.dtype, x.device)

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
        step = _IRREGULAR[: len(z)].to(z, copy=True)
        if len(step) < len(z):
            step = step.repeat(-(-len(z) // len(step)))[: len(z)]
        gradient = self._gradient_of(self._real)
        if gradient is not None:
            step.copysign_(variables.gradient_to_solver(gradient))
        size, length = torch.stack([torch.linalg.vector_norm(v) for v in (step, z)]).tolist()
        step *= factor * self._eps**power * (1 + length) / (size or 1.0)  # of no entry where all are fixed
        low, high = variables.lower, variables.upper
        if low is None or high is None:
            return step.add_(z)
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
        return abs(change) > _MEASURABLE * self._eps * abs(self._loss)

    def _predicted(self, move: _Displacement, gradient: torch.Tensor) -> float | None:
        """The change of the loss to first order; None if it is smaller than rounding."""
        change = float(gradient @ move.step)
        return change if self._exceeds_rounding(change) and np.isfinite(change) else None

    def _judge(self, near: _Displacement) -> bool:
        """Report a stale graph or a wrong gradient: the loss has one slope on both sides, and the gradient another."""
        unchanged = near.change == 0
        stale = self._stale()
        ahead, behind = self._ratios(near, unchanged=unchanged)
        if not _gradient_is_wrong(ahead, behind, stale=stale):
            return False
        if stale or (unchanged and not self._nodes):
            raise ClosureError(_CHANGES.format(ratio=ahead) + MADE_BEFORE)
        if self._gradient:
            warnings.warn(_CHANGES.format(ratio=ahead) + _WRONG, ClosureWarning, stacklevel=2)
        return True

    def _ratios(self, near: _Displacement, *, unchanged: bool) -> tuple[float, float]:
        """Actual over predicted change of the loss, on both sides; NaN if not known."""
        gradient, far = self._gradient_of(self._real), None
        if self._calls_left:
            evaluate = evaluate_value if gradient is not None else evaluate_probe
            far = self._displaced(self._target(_FAR if unchanged else _NEAR, -_BACK), evaluate)
        elif unchanged:
            far = near
        gradient = gradient if gradient is not None or far is None else self._gradient_of(far.result)
        if far is None or gradient is None:
            return np.nan, np.nan
        return self._ratio(near, gradient), self._ratio(far, gradient)

    def _ratio(self, move: _Displacement, gradient: torch.Tensor) -> float:
        predicted = self._predicted(move, gradient)
        return np.nan if predicted is None else move.change / predicted

    def _product(self, captured: ClosureResult) -> Gradient:
        """A product with the Hessian at the start, along the step of the near displacement."""
        if self._along_near is None:
            assert captured.graph is not None
            self._flat.write(self._x)
            self._along_near = captured.graph.parts(self._to_user(self._near_point()) - self._x)
        return self._along_near

    def _product_agrees(self, captured: ClosureResult, change: torch.Tensor) -> bool:
        """Whether the captured gradient is the derivative of the loss, and changes as its graph says."""
        assert captured.graph is not None
        if once_differentiable(captured.graph.gradient):
            return False
        product = self._flat.join(self._product(captured), change.dtype, change.device)
        norm, gradient = torch.linalg.vector_norm, captured.graph.vector.detach()
        off, size, expected = torch.stack([norm(change - product), norm(gradient), norm(product)]).tolist()
        return bool(off <= _SAME * self._eps * (1 + size) + _CURVED * expected)

    def _has_constant_part(self, captured: ClosureResult) -> bool:
        """Whether no gradient depends on some parameter: the loss is linear in it, or an operation hides its curvature.

        SecondDerivativeError where the graph shows the latter.
        """
        assert captured.graph is not None
        if once_differentiable(captured.graph.gradient):
            raise SecondDerivativeError(_HIDDEN)
        pairs = zip(self._product(captured), captured.graph.gradient, strict=True)
        return any(part is None and seen is not None for part, seen in pairs)

    def _product_deviates(self, captured: ClosureResult, near: _Displacement) -> bool:
        """Whether a product differs from the change of the gradient along the same step."""
        real, after = self._gradient_of(self._real), self._gradient_of(near.result)
        if real is None or after is None:
            return False
        product = self._flat.join(self._product(captured), real.dtype, real.device)
        scale, norm = self._device_variables.scale, torch.linalg.vector_norm
        grown = scale * (after - real)
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
