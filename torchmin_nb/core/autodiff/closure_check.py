"""Checks of a closure: is it deterministic, and do its derivatives agree with each other and with its loss?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import ClosureError, InconsistentClosureError
from .closure import (
    Closure,
    ClosureEvaluator,
    ClosureResult,
    Evaluator,
    OwnEvaluator,
    evaluator_for,
)
from .explained_errors import explained
from .graph import nodes_of, precision
from .hessian import finite_difference_product
from .side_effects import restored_afterwards

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..parameters.flat import FlatParameters, Vector

__all__ = [
    "STOCHASTIC",
    "ClosureReport",
    "ObservedClosure",
    "check_closure",
    "different_losses",
    "require_consistent",
    "same_loss",
]


STOCHASTIC = (
    "the closure is not deterministic: at the same parameters the loss was {first:.8g}, then {second:.8g}; the methods "
    "compare losses of different points, which is then wrong. Switch dropout off (model.eval()), draw the batch or "
    "the noise once outside the closure, or seed it inside; do not take data from an iterator inside the closure, and "
    "do not change anything that the loss depends on"
)


@dataclass(frozen=True)
class ClosureReport:
    """What ``optimizer.check(closure)`` found. Printed, it is a table.

    Attributes
    ----------
    loss : float
        The loss at the current parameters.
    deterministic : bool
        Whether two calls gave the same loss.
    gradient_error : float or None
        Largest relative deviation of directional derivatives from central differences of the loss; None without a
        gradient.
    curvature_error : float or None
        The same for second derivatives and differences of the gradient; None without second derivatives.
    seconds_per_call : float
        Wall-clock seconds of a closure call with its gradient, or without where there is none: the fastest of five.
    seconds_per_product : float or None
        Wall-clock seconds of a Hessian-vector product, the fastest of five.
    problems : tuple of str
        Problems in words; empty if there is none.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    >>> report = MinimizeWrapper([x]).check(lambda: (x**4).sum() + torch.rand(()))
    >>> report.ok, report.deterministic, len(report.problems) > 0
    (False, False, True)
    """

    loss: float
    deterministic: bool
    gradient_error: float | None
    curvature_error: float | None
    seconds_per_call: float
    seconds_per_product: float | None
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def __str__(self) -> str:
        product = "–" if self.seconds_per_product is None else f"{self.seconds_per_product * 1e3:.3g} ms"
        lines = [
            f"loss               {self.loss:.8g}",
            f"deterministic      {'yes' if self.deterministic else 'no'}",
            f"gradient error     {_shown(self.gradient_error)}  against differences of the loss",
            f"curvature error    {_shown(self.curvature_error)}  against differences of the gradient",
            f"closure call       {self.seconds_per_call * 1e3:.3g} ms  with its gradient",
            f"product            {product}",
        ]
        return "\n".join([*lines, *(f"problem: {problem}" for problem in self.problems)])


def require_consistent(real: ClosureResult, captured: ClosureResult, eps: float, x: torch.Tensor) -> None:
    """InconsistentClosureError where captured and real derivatives differ at x (n,), with the likely cause."""
    tolerance = 1e3 * eps
    total = _total(captured)
    if different_losses(captured, eps):
        raise InconsistentClosureError(
            f"the closure returned {captured.loss:.6g} but called backward() on losses that add up to {total:.6g}; "
            f"the two must be equal: return the sum of the losses that are backpropagated, without gradient scaling"
        )
    gradient, derivative = (result.vector(x.dtype, x.device) for result in (real, captured))
    assert gradient is not None
    assert derivative is not None
    if _norm(gradient - derivative) > tolerance * (1 + _norm(gradient)):
        raise InconsistentClosureError(_disagreement(gradient, derivative))


def different_losses(captured: ClosureResult, eps: float) -> bool:
    """Whether the closure backpropagated another loss than it returned."""
    total = _total(captured)
    return total is not None and abs(total - captured.loss) > 1e3 * eps * (1 + abs(captured.loss))


def _total(captured: ClosureResult) -> float | None:
    return None if captured.backpropagated is None else sum(map(float, captured.backpropagated))


def _disagreement(real: torch.Tensor, captured: torch.Tensor) -> str:
    norms = _norm(real), _norm(captured)
    head = f"the gradient in .grad (norm {norms[0]:.6g}) is not the derivative of the loss (norm {norms[1]:.6g}); "
    if not norms[1]:
        return head + "no gradient was captured: with checkpointing, use use_reentrant=False"
    factor = float(real @ captured) / norms[1] ** 2
    if abs(factor - 1) > 1e-2 and _norm(real - factor * captured) <= 1e-3 * norms[0]:
        cause = f"it is scaled by {factor:.4g}, as by gradient clipping or scaling: remove that from the closure"
    else:
        cause = (
            "a hook, gradient clipping or reentrant checkpointing changes it: remove that from the closure; or each "
            "call changes a value that the loss depends on, as spectral_norm does: model.eval() prevents that"
        )
    return head + cause + "; with start_check=False the run starts all the same, and uses the derivative of the loss"


def _norm(v: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(v))


def check_closure(
    closure: Closure,
    flat: FlatParameters,
    *,
    directions: int = 3,
    scale: NDArray[np.float64] | float = 1.0,
) -> ClosureReport:
    """All checks at the current parameters. Parameters and random number generators are not changed.

    Random directions are drawn from a fixed seed; steps are eps^(1/3) of the parameters' dtype. Directions, steps and
    errors refer to the scaled parameters x/scale.
    """
    problems: list[str] = []
    x = flat.read()
    seen = ObservedClosure(closure)
    own = isinstance(closure, OwnEvaluator)
    evaluator = evaluator_for(closure, flat) if own else ClosureEvaluator(seen, flat)
    with restored_afterwards(flat) as rewind:
        first = evaluator.evaluate("value")
        second = evaluator.evaluate("value")
        deterministic = same_loss(first, second.loss, seen.precision(flat.eps, first.loss), x)
        if not deterministic:
            problems.append(STOCHASTIC.format(first=first.loss, second=second.loss))
        if not np.isfinite(first.loss):
            problems.append(f"the loss is {first.loss} at these parameters")
        units = [_direction(flat.n, seed) for seed in range(directions)]
        checks = _Directional(evaluator, flat, x, rewind, units, scale)
        gradient_error = _error_or_none(checks.gradient_error, problems) if np.isfinite(first.loss) else None
        curvature_error = _error_or_none(checks.curvature_error, problems) if gradient_error is not None else None
        seconds = _timed(lambda: checks.at(x, "value" if gradient_error is None else "gradient"))
    tolerance = 30 * flat.eps ** (1 / 3)
    if gradient_error is not None and gradient_error > tolerance:
        problems.append(f"the gradient deviates from differences of the loss by {gradient_error:.1e} (relative)")
    if curvature_error is not None and curvature_error > tolerance:
        problems.append(f"the curvature deviates from differences of the gradient by {curvature_error:.1e} (relative)")
    return ClosureReport(
        loss=first.loss,
        deterministic=deterministic,
        gradient_error=gradient_error,
        curvature_error=curvature_error,
        seconds_per_call=seconds,
        seconds_per_product=checks.seconds_per_product,
        problems=tuple(problems),
    )


class ObservedClosure:
    """A closure that keeps the return value of its last call, with its graph."""

    def __init__(self, closure: Closure, loss: Callable[[Any], Any] = lambda returned: returned):
        self._closure, self._loss = closure, loss
        self.returned: Any = None
        self.nodes: set[Any] = set()

    def __call__(self) -> Any:
        try:
            self.returned = self._closure()
        except Exception as error:
            new = explained(error)
            if new is error:
                raise
            raise new from None
        self.nodes = nodes_of(self.returned)
        return self._loss(self.returned)

    def forget(self) -> None:
        """Free the graph."""
        self.returned, self.nodes = None, set()

    def precision(self, eps: float, loss: float) -> float:
        """Machine epsilon of the coarsest dtype in the closure, at least that of the parameters."""
        if isinstance(self.returned, torch.Tensor):
            return max(eps, precision(self.returned, self.nodes))
        single = torch.tensor(loss, dtype=torch.float32).item() == loss
        return max(eps, torch.finfo(torch.float32).eps if single else 0.0)


class _Directional:
    """Directional derivatives along unit directions of the scaled parameters, against central differences."""

    def __init__(
        self,
        evaluator: Evaluator,
        flat: FlatParameters,
        x: NDArray[np.float64],
        rewind: Callable[[], None],
        units: list[NDArray[np.float64]],
        scale: NDArray[np.float64] | float,
    ):
        self._evaluator, self._flat, self._x, self._rewind = evaluator, flat, x, rewind
        self._scale = scale
        self._directions = [scale * unit for unit in units]
        self._real: ClosureResult | None = None
        self.seconds_per_product: float | None = None

    def gradient_error(self) -> float:
        self._real = self.at(self._x, "gradient")
        assert self._real.gradient is not None
        h = self._flat.eps ** (1 / 3) * (1 + float(np.linalg.norm(self._x / self._scale)))
        errors = [
            abs(self._slope(direction, h) - float(self._real.gradient @ direction)) for direction in self._directions
        ]
        size = float(np.linalg.norm(self._real.gradient * self._scale)) / np.sqrt(self._flat.n)
        return float(max(errors) / max(size, self._flat.eps ** (1 / 3)))

    def curvature_error(self) -> float:
        assert self._real is not None
        captured = self.at(self._x, "curvature")
        require_consistent(self._real, captured, self._flat.eps, torch.from_numpy(self._x))
        assert captured.graph is not None
        graph = captured.graph
        self.seconds_per_product = _timed(lambda: graph.hvp(self._directions[0]))
        products = [graph.hvp(direction) for direction in self._directions]
        return float(max(map(self._deviation, products, self._directions)))

    def _deviation(self, product: NDArray[np.float64], direction: NDArray[np.float64]) -> float:
        expected = finite_difference_product(self._gradient, self._x, direction, self._flat.eps, self._scale)
        self._flat.write(self._x)
        size, error = np.linalg.norm(product * self._scale), np.linalg.norm((product - expected) * self._scale)
        return float(error / max(size, self._flat.eps ** (1 / 3)))

    def _gradient(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        gradient = self.at(x, "gradient").gradient
        return np.full(self._flat.n, np.nan) if gradient is None else gradient

    def at(self, x: NDArray[np.float64], level: str) -> ClosureResult:
        """Evaluate at x, with the random numbers of the start."""
        self._rewind()
        self._flat.write(np.ascontiguousarray(x))
        return self._evaluator.evaluate(level)

    def _slope(self, direction: NDArray[np.float64], h: float) -> float:
        ahead = self.at(self._x + h * direction, "value").loss
        behind = self.at(self._x - h * direction, "value").loss
        return (ahead - behind) / (2 * h)


def _error_or_none(check: Callable[[], float], problems: list[str]) -> float | None:
    try:
        return check()
    except ClosureError as error:
        problems.append(str(error))
        return None


def _timed(call: Callable[[], Any], repeats: int = 5) -> float:
    """Seconds of the fastest: other work on the machine only adds to them."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _direction(n: int, seed: int) -> NDArray[np.float64]:
    v = np.random.default_rng(seed).standard_normal(n)
    return np.asarray(v / np.linalg.norm(v))


def same_loss(first: ClosureResult, loss: float, eps: float, x: Vector) -> bool:
    """Whether a loss at x equals that of the first result up to rounding, estimated from the loss and from g·x."""
    if not (np.isfinite(first.loss) and np.isfinite(loss)):
        return bool(np.array_equal(first.loss, loss, equal_nan=True))
    if first.loss == loss:
        return True
    at = torch.as_tensor(x)
    gradient = first.vector(at.dtype, at.device)
    terms = 0.0 if gradient is None else float(gradient.abs() @ at.abs())
    size = max(abs(first.loss), abs(loss), terms if np.isfinite(terms) else 0.0)
    return bool(abs(first.loss - loss) <= 1e3 * eps * size)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"
