"""Checks of a closure: is it deterministic, and do its derivatives agree with each other and with its loss?"""

from __future__ import annotations

import random
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch

from ..errors import ClosureError, ClosureWarning, InconsistentClosureError, SecondDerivativeError
from .closure import Closure, ClosureResult, Evaluator, evaluate_curvature, evaluate_gradient, evaluate_value
from .curvature import HvpGraph, finite_difference_product

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .flat import FlatParameters

__all__ = [
    "ClosureReport",
    "check_closure",
    "check_curvature",
    "check_curvature_at",
    "deterministic_first_call",
    "once_differentiable",
    "preserved_buffers",
    "saved_bytes",
]

Result = TypeVar("Result")

_STOCHASTIC = (
    "the closure is not deterministic: at the same parameters the loss was {first:.8g}, then {second:.8g}; SciPy's "
    "methods compare losses between points and will be misled. Switch dropout off (model.eval()), draw the batch or "
    "the noise once outside the closure, or seed it inside"
)


@dataclass(frozen=True)
class ClosureReport:
    """What `optimizer.check(closure)` found.

    loss: at the current parameters. deterministic: two calls gave the same loss. gradient_error, curvature_error:
    largest relative deviation of directional derivatives from central differences of the loss and of the gradient; None
    where there is no such derivative. seconds_per_call, seconds_per_product: wall-clock, the fastest of three.
    problems: in words, empty when all is well.
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
            f"closure call       {self.seconds_per_call * 1e3:.3g} ms",
            f"product            {product}",
        ]
        return "\n".join([*lines, *(f"problem: {problem}" for problem in self.problems)])


def deterministic_first_call(evaluate: Evaluator, closure: Closure, flat: FlatParameters) -> ClosureResult:
    """Evaluate; where random numbers were drawn, once more, and warn if the loss differs."""
    before = _generators()
    result = evaluate(closure, flat)
    if _drawn_since(before):
        with preserved_buffers():
            second = evaluate(closure, flat).loss
        if not _close(second, result.loss, flat.eps):
            warnings.warn(_STOCHASTIC.format(first=result.loss, second=second), ClosureWarning, stacklevel=2)
    return result


def check_curvature(closure: Closure, flat: FlatParameters, *, measure: bool = False) -> int | None:
    """The start check of a run with second derivatives: two closure calls and a product, outside all counts.

    Raises InconsistentClosureError where the captured gradient or the backpropagated sum disagrees with the real
    gradient or the returned loss, SecondDerivativeError where an operation has no second derivative. With `measure`,
    returns the bytes that the graph keeps for backward.
    """
    with preserved_buffers(), _same_random_numbers() as rewind:
        real = evaluate_gradient(closure, flat)
        rewind()
        if measure:
            captured, kept = saved_bytes(lambda: evaluate_curvature(closure, flat), rewind)
        else:
            captured, kept = evaluate_curvature(closure, flat), None
        if _finite(real) and _close(real.loss, captured.loss, flat.eps):
            require_consistent(real, captured, flat.eps)
            _require_second_derivative(closure, flat, captured, rewind)
    flat.clear_gradients()
    return kept


def check_curvature_at(
    start: NDArray[np.float64], closure: Closure, flat: FlatParameters, *, measure: bool = False
) -> int | None:
    """`check_curvature` at the point `start`, shape (n,); the parameters are left as they were."""
    before = flat.read()
    flat.write_final(start)
    try:
        return check_curvature(closure, flat, measure=measure)
    finally:
        flat.write_final(before)


def require_consistent(real: ClosureResult, captured: ClosureResult, eps: float) -> None:
    """InconsistentClosureError where captured and real derivatives differ, with the likely cause."""
    tolerance = 1e3 * eps
    total = captured.backpropagated
    if total is not None and abs(total - captured.loss) > tolerance * (1 + abs(captured.loss)):
        raise InconsistentClosureError(
            f"the closure returned {captured.loss:.6g} but called backward() on losses that add up to {total:.6g}; "
            f"the two must be equal: return the sum of what is backpropagated, and leave gradient scaling to the end"
        )
    assert real.gradient is not None
    assert captured.gradient is not None
    difference = float(np.linalg.norm(real.gradient - captured.gradient))
    if difference > tolerance * (1 + float(np.linalg.norm(real.gradient))):
        raise InconsistentClosureError(_disagreement(real.gradient, captured.gradient))


def _disagreement(real: NDArray[np.float64], captured: NDArray[np.float64]) -> str:
    norms = float(np.linalg.norm(real)), float(np.linalg.norm(captured))
    head = f"the gradient in .grad (norm {norms[0]:.6g}) is not the derivative of the loss (norm {norms[1]:.6g}); "
    if not norms[1]:
        return head + "no gradient was captured: with checkpointing, use use_reentrant=False"
    factor = float(real @ captured) / norms[1] ** 2
    if abs(factor - 1) > 1e-2 and np.linalg.norm(real - factor * captured) <= 1e-3 * norms[0]:
        cause = f"it is scaled by {factor:.4g}, as gradient clipping or scaling does: leave that out of the closure"
    else:
        cause = (
            "a hook, gradient clipping or reentrant checkpointing changes it: leave that out of the closure; or each "
            "call updates what it depends on, as spectral_norm does: model.eval() stops that"
        )
    return head + cause + "; start_check=False runs all the same, with the derivative of the loss"


def _require_second_derivative(
    closure: Closure, flat: FlatParameters, captured: ClosureResult, rewind: Callable[[], None]
) -> None:
    assert captured.graph is not None
    direction = _direction(flat.n, 0)
    parts = HvpGraph(captured.graph, flat).parts(direction)
    hidden = once_differentiable(captured.graph)
    if not hidden and any(part is None and seen is not None for part, seen in zip(parts, captured.graph, strict=True)):
        # A parameter on which no gradient depends: its loss is linear, or an operation hides its second derivative.
        expected = _difference(closure, flat, direction, rewind)
        hidden = bool(np.linalg.norm(flat.gather(parts) - expected) > 0.1 * np.linalg.norm(expected))
    if hidden:
        raise SecondDerivativeError(
            "an operation of the closure hides its second derivative (a once_differentiable autograd.Function, or a "
            "gradient detached on the way); give it a differentiable backward, or pass curvature='finite-difference'"
        )


def once_differentiable(gradient: Sequence[torch.Tensor | None]) -> bool:
    """Whether the gradient's graph has the node that once_differentiable leaves; no product ever runs through it."""
    waiting = [part.grad_fn for part in gradient if part is not None]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("::Error"):
            return True
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions)
    return False


def check_closure(closure: Closure, flat: FlatParameters, *, directions: int = 3) -> ClosureReport:
    """All checks at the current parameters, which are left as they are, as are the random number generators.

    Random directions are drawn from a fixed seed; steps are eps^(1/3) of the parameters' dtype.
    """
    problems: list[str] = []
    x = flat.read()
    with _unchanged(flat, x), preserved_buffers(), _same_random_numbers() as rewind:
        first, seconds = _timed(lambda: evaluate_value(closure, flat))
        second = evaluate_value(closure, flat)
        deterministic = _close(first.loss, second.loss, flat.eps)
        if not deterministic:
            problems.append(_STOCHASTIC.format(first=first.loss, second=second.loss))
        if not np.isfinite(first.loss):
            problems.append(f"the loss is {first.loss} at these parameters")
        checks = _Directional(closure, flat, x, rewind, [_direction(flat.n, seed) for seed in range(directions)])
        gradient_error = _tried(checks.gradient_error, problems) if np.isfinite(first.loss) else None
        curvature_error = _tried(checks.curvature_error, problems) if gradient_error is not None else None
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


class _Directional:
    """Directional derivatives along given directions, against central differences."""

    def __init__(
        self,
        closure: Closure,
        flat: FlatParameters,
        x: NDArray[np.float64],
        rewind: Callable[[], None],
        directions: list[NDArray[np.float64]],
    ):
        self._closure, self._flat, self._x, self._rewind = closure, flat, x, rewind
        self._directions = directions
        self._real: ClosureResult | None = None
        self.seconds_per_product: float | None = None

    def gradient_error(self) -> float:
        self._real = self._at(self._x, evaluate_gradient)
        assert self._real.gradient is not None
        h = self._flat.eps ** (1 / 3) * (1 + float(np.linalg.norm(self._x)))
        errors = [
            abs(self._slope(direction, h) - float(self._real.gradient @ direction)) for direction in self._directions
        ]
        scale = float(np.linalg.norm(self._real.gradient)) / np.sqrt(self._flat.n)
        return float(max(errors) / max(scale, self._flat.eps ** (1 / 3)))

    def curvature_error(self) -> float:
        assert self._real is not None
        captured = self._at(self._x, evaluate_curvature)
        require_consistent(self._real, captured, self._flat.eps)
        assert captured.graph is not None
        graph = HvpGraph(captured.graph, self._flat)
        _, self.seconds_per_product = _timed(lambda: graph.hvp(self._directions[0]))
        products = [graph.hvp(direction) for direction in self._directions]
        errors = [
            float(np.linalg.norm(product - _difference(self._closure, self._flat, direction, self._rewind, self._x)))
            / max(float(np.linalg.norm(product)), self._flat.eps ** (1 / 3))
            for product, direction in zip(products, self._directions, strict=True)
        ]
        return float(max(errors))

    def _at(self, x: NDArray[np.float64], evaluate: Evaluator) -> ClosureResult:
        self._rewind()
        self._flat.write(np.ascontiguousarray(x))
        return evaluate(self._closure, self._flat)

    def _slope(self, direction: NDArray[np.float64], h: float) -> float:
        ahead = self._at(self._x + h * direction, evaluate_value).loss
        behind = self._at(self._x - h * direction, evaluate_value).loss
        return (ahead - behind) / (2 * h)


def _difference(
    closure: Closure,
    flat: FlatParameters,
    direction: NDArray[np.float64],
    rewind: Callable[[], None],
    x: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """H @ direction by differences of gradients; the parameters are put back."""
    here = flat.read() if x is None else x

    def gradient(at: NDArray[np.float64]) -> NDArray[np.float64]:
        rewind()
        flat.write(np.ascontiguousarray(at))
        result = evaluate_gradient(closure, flat)
        return np.full(flat.n, np.nan) if result.gradient is None else result.gradient

    product = finite_difference_product(gradient, here, direction, flat.eps)
    flat.write(here)
    return product


def saved_bytes(call: Callable[[], Result], rewind: Callable[[], None] = lambda: None) -> tuple[Result, int | None]:
    """What `call` returns, and the bytes that autograd saves in it for backward; None where they cannot be counted.

    torch.func refuses the hooks that count: then it is called once more without them, after `rewind`.
    """
    total = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            return call(), total
    except RuntimeError as error:
        if "support saved tensor hooks" not in str(error):
            raise
    rewind()
    return call(), None


@contextmanager
def preserved_buffers() -> Iterator[None]:
    """Put back the buffers, such as BatchNorm statistics, of every module that runs inside, in this thread."""
    saved: dict[torch.Tensor, torch.Tensor] = {}
    thread = threading.get_ident()

    def remember(module: torch.nn.Module, inputs: object) -> None:
        if threading.get_ident() != thread:  # the hook is the whole process's
            return
        for buffer in module.buffers(recurse=False):
            if buffer not in saved:
                saved[buffer] = buffer.detach().clone()

    hook = torch.nn.modules.module.register_module_forward_pre_hook(remember)
    try:
        yield
    finally:
        hook.remove()
        for buffer, value in saved.items():
            buffer.data.copy_(value)


@contextmanager
def _same_random_numbers() -> Iterator[Callable[[], None]]:
    """Yields a function that rewinds the generators to where they were; rewinds at the end too."""
    state = _generators()

    def rewind() -> None:
        torch.set_rng_state(state.torch)
        np.random.set_state(state.numpy)
        random.setstate(state.python)

    try:
        yield rewind
    finally:
        rewind()


class _Generators(NamedTuple):
    """Where the generators that every draw comes from by default are: torch's on the CPU, NumPy's, Python's."""

    torch: torch.Tensor
    numpy: Any
    python: Any


def _generators() -> _Generators:
    return _Generators(torch.get_rng_state(), np.random.get_state(), random.getstate())


def _drawn_since(before: _Generators) -> bool:
    now = _generators()
    keys = np.array_equal(before.numpy[1], now.numpy[1]) and before.numpy[2:] == now.numpy[2:]
    return not (keys and before.python == now.python and torch.equal(before.torch, now.torch))


@contextmanager
def _unchanged(flat: FlatParameters, x: NDArray[np.float64]) -> Iterator[None]:
    """Puts the parameters back at x, and their `.grad` to what it was."""
    gradients = flat.gradients()
    try:
        yield
    finally:
        flat.write_final(x)
        for tensor, gradient in zip(flat.tensors, gradients, strict=True):
            tensor.grad = gradient


def _tried(check: Callable[[], float], problems: list[str]) -> float | None:
    try:
        return check()
    except ClosureError as error:
        problems.append(str(error))
        return None


def _timed(call: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def _direction(n: int, seed: int) -> NDArray[np.float64]:
    v = np.random.default_rng(seed).standard_normal(n)
    return np.asarray(v / np.linalg.norm(v))


def _finite(result: ClosureResult) -> bool:
    return bool(np.isfinite(result.loss)) and result.gradient is not None and bool(np.isfinite(result.gradient).all())


def _close(a: float, b: float, eps: float) -> bool:
    return bool(np.isclose(a, b, rtol=1e3 * eps, atol=1e3 * eps, equal_nan=True))


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"
