"""The result of one evaluation, at three levels: the loss, the gradient, the gradient with its graph.

An Evaluator computes it. The one here makes one closure call; results stay tensors on the parameters' device.

A closure is any callable without arguments that computes the loss from the parameters. It may call
`backward()` once, several times (the losses are summed) or not at all. It need not call `zero_grad()`, because
gradients are cleared before each call. It may be an object with `model`, `loss(model)` and `__call__`.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from ...errors import ArgumentTypeError, ClosureError, ConstantLossError, text_of
from .capture import CaptureBackward, Gradient, differentiable_gradient
from .hessian import HvpGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..parameters.flat import FlatParameters
    from .jacobian import JacobianGraph

__all__ = [
    "LEVELS",
    "Closure",
    "ClosureEvaluator",
    "ClosureResult",
    "Evaluate",
    "Evaluator",
    "OwnEvaluator",
    "Steering",
    "Unsteered",
    "as_loss",
    "backpropagate",
    "constant_of",
    "evaluator_for",
    "math_attention",
    "require_closure",
    "require_gradient_parts",
    "scalar_of",
]

Closure = Callable[[], Any]


@dataclass(eq=False, slots=True)
class ClosureResult:
    """One evaluation: the loss, a number or a 0-d tensor, and the gradient, one part for each parameter, or None.

    A loss that is not finite needs no gradient. graph: the graph of the gradient, for products with the Hessian, or
    None. backpropagated: the losses on which the closure called `backward()`, or None. undefined: see
    `Objective`; never set by an evaluator. residuals: of a closure that returns them, shape (m,). jacobian: their
    graph, or None if they have none.
    """

    value: torch.Tensor | float
    parts: Sequence[torch.Tensor | None] | None = None
    flat: FlatParameters | None = field(default=None, repr=False)
    graph: HvpGraph | None = None
    backpropagated: Sequence[torch.Tensor] | None = None
    undefined: bool = False
    residuals: torch.Tensor | None = None
    jacobian: JacobianGraph | None = field(default=None, repr=False)
    _gathered: NDArray[np.float64] | None = field(default=None, repr=False)
    _joined: torch.Tensor | None = field(default=None, repr=False)

    @property
    def gradient(self) -> NDArray[np.float64] | None:
        """The gradient for SciPy, float64 of shape (n,), gathered once; None without a gradient."""
        if self._gathered is None and self.parts is not None and self.flat is not None:
            self._gathered = self.flat.gather(self.parts)
        return self._gathered

    def vector(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor | None:
        """The gradient as a tensor of shape (n,), joined once; None without a gradient."""
        if self.graph is not None:
            return self.graph.vector.detach().to(device, dtype)
        kept = self._joined
        if self.parts is not None and self.flat is not None and (kept is None or kept.dtype != dtype):
            self._joined = kept = self.flat.join(self.parts, dtype, device)
        return kept

    @property
    def loss(self) -> float:
        """The loss as a number; a tensor is copied to the host once."""
        self.value = float(self.value)
        return self.value


class Evaluator(Protocol):
    """The source of loss, gradient and products: one closure, or a sum over many batches."""

    def evaluate(self, level: str) -> ClosureResult:
        """The result at the parameters' current values, at one of LEVELS. Fills `.grad` if there is a gradient."""
        ...


class Steering(Protocol):
    """What an evaluation of several parts asks and tells: a run's Control."""

    batch: tuple[int, int] | None

    def before_work(self) -> None:
        """Called before each part; waits while the run is paused, and raises if it must end."""
        ...

    def require_running(self) -> None:
        """The same without waiting."""
        ...


class Unsteered:
    """The Steering of an evaluation outside a run."""

    batch: tuple[int, int] | None = None

    def before_work(self) -> None:
        """Nothing stops it."""

    def require_running(self) -> None:
        """Nothing stops it."""


class OwnEvaluator(ABC):
    """A closure that is not evaluated by one call: it has an evaluator of its own."""

    @abstractmethod
    def __call__(self) -> torch.Tensor:
        """The loss, as any closure computes it."""

    @abstractmethod
    def evaluator(self, flat: FlatParameters, control: Steering) -> Evaluator:
        """The evaluator of a run."""

    @abstractmethod
    def sample(self) -> Closure:
        """A closure of a part of the loss, on which the checks at the start are made."""


def evaluator_for(closure: Closure, flat: FlatParameters, control: Steering | None = None) -> Evaluator:
    """The evaluator of a closure. control: of the run, if there is one."""
    if isinstance(closure, OwnEvaluator):
        return closure.evaluator(flat, control or Unsteered())
    return ClosureEvaluator(closure, flat)


class ClosureEvaluator:
    """Evaluates by one closure call."""

    def __init__(self, closure: Closure, flat: FlatParameters):
        self.closure = closure
        self._flat = flat

    def evaluate(self, level: str) -> ClosureResult:
        """See Evaluator."""
        return LEVELS[level](self.closure, self._flat)


def require_closure(closure: object) -> Closure:
    """The closure itself; ArgumentTypeError if it cannot be called."""
    if closure is None:
        raise ArgumentTypeError(
            "step() needs a closure: a function without arguments that computes the loss, "
            "as in torch.optim.LBFGS; define `def closure(): ... return loss` and call step(closure)"
        )
    if not callable(closure):
        raise ArgumentTypeError(
            f"the closure must be callable without arguments, got {type(closure).__name__}; "
            f"pass the function itself, not the loss it returns"
        )
    return closure


def evaluate_value(closure: Closure, flat: FlatParameters) -> ClosureResult:
    """The loss; the gradient too if the closure called `backward()`."""
    flat.clear_gradients()
    with torch.enable_grad():
        returned = closure()
    return ClosureResult(as_loss(returned), _gradient_parts(flat), flat)


def evaluate_sample(closure: Closure, flat: FlatParameters) -> ClosureResult:
    """The loss of a closure that can be differentiated; ConstantLossError for a finite one without a graph."""
    flat.clear_gradients()
    with torch.enable_grad():
        returned = closure()
    loss = as_loss(returned)
    if math.isfinite(loss) and _no_gradients(flat):
        _differentiable(returned, loss)
    return ClosureResult(loss, _gradient_parts(flat), flat)


def evaluate_gradient(closure: Closure, flat: FlatParameters) -> ClosureResult:
    """Loss and gradient by the real `backward`, so that hooks fire; called here if the closure did not."""
    flat.clear_gradients()
    with torch.enable_grad():
        returned = closure()
        loss, parts = scalar_of(returned), _gradient_parts(flat)
        if parts is None and _needs_gradient(returned, loss):
            backpropagate(returned, loss)
            parts = require_gradient_parts(flat, loss)
    return ClosureResult(loss, parts, flat)


def backpropagate(returned: object, loss: torch.Tensor | float) -> None:
    """`backward()` of what the closure returned; ConstantLossError if it cannot be differentiated."""
    _backward(_differentiable(returned, loss))


def require_gradient_parts(flat: FlatParameters, loss: torch.Tensor | float) -> list[torch.Tensor | None] | None:
    """The contents of `.grad`. If all are None: None for a loss that is not finite, else ConstantLossError."""
    parts = _gradient_parts(flat)
    if parts is None and math.isfinite(loss):
        raise ConstantLossError(_INDEPENDENT, float(loss))
    return parts


def evaluate_probe(closure: Closure, flat: FlatParameters) -> ClosureResult:
    """The loss, and the gradient if there is one: not under `torch.no_grad()`, and not for a plain number."""
    flat.clear_gradients()
    with torch.enable_grad():
        returned = closure()
        if _no_gradients(flat) and isinstance(returned, torch.Tensor) and returned.requires_grad:
            as_loss(returned)
            _backward(returned.reshape(()))
    return ClosureResult(as_loss(returned), _gradient_parts(flat), flat)


def evaluate_curvature(closure: Closure, flat: FlatParameters) -> ClosureResult:
    """Loss, gradient and the gradient's graph, ready for Hessian-vector products.

    `backward()` is captured and differentiated with `create_graph=True`. Attention runs in the one backend
    that has a second derivative.
    """
    flat.clear_gradients()
    capture = CaptureBackward(flat.tensors)
    with torch.enable_grad(), math_attention:
        with capture:
            returned = closure()
        loss = scalar_of(returned)
        if not capture.called and not _needs_gradient(returned, loss):
            return ClosureResult(loss, _gradient_parts(flat), flat)
        gradient = capture.gradient if capture.called else _captured(returned, loss, flat)
    if all(part is None for part in gradient):
        if not math.isfinite(loss):
            return ClosureResult(loss)
        hidden = "; torch.utils.checkpoint hides them too, unless use_reentrant=False"
        raise ConstantLossError(_INDEPENDENT + hidden, float(loss))
    scalars = capture.scalars if capture.called else None
    return ClosureResult(loss, gradient, flat, HvpGraph(gradient, flat), scalars)


class _MathAttention:
    """Attention in the MATH backend. The choice is process-wide; the last thread that leaves restores it.

    The same as torch's `sdpa_kernel`, which takes a tenth of a small closure's time.
    """

    def __init__(self) -> None:
        names = ("cudnn", "flash", "mem_efficient", "math", "overrideable")
        self._switches = [
            (getattr(torch._C, f"_get_{name}_sdp_enabled"), getattr(torch._C, f"_set_sdp_use_{name}"), name == "math")
            for name in names
            if hasattr(torch._C, f"_set_sdp_use_{name}")
        ]
        self._lock, self._holders = threading.Lock(), 0
        self._found: list[bool] = []

    def __enter__(self) -> None:
        with self._lock:
            if not self._holders:
                self._found = [enabled() for enabled, _, _ in self._switches]
                for _, switch, wanted in self._switches:
                    switch(wanted)
            self._holders += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                for (_, switch, _), found in zip(self._switches, self._found, strict=True):
                    switch(found)


math_attention = _MathAttention()


Evaluate = Callable[[Closure, "FlatParameters"], ClosureResult]
LEVELS: dict[str, Evaluate] = {
    "value": evaluate_value,
    "sample": evaluate_sample,
    "gradient": evaluate_gradient,
    "probe": evaluate_probe,
    "curvature": evaluate_curvature,
}

_INDEPENDENT = (
    "the loss does not depend on the parameters: no gradient reached any of them; compute it from the same "
    "tensors that were passed to the optimizer, without .detach(), .item() or torch.no_grad()"
)
_OR_BEFORE = (
    "; or it was computed from values from before the closure call, such as a prediction made outside it: "
    "compute everything that depends on the parameters inside the closure, again in each call"
)
_NO_GRAPH = (
    "the closure gave no gradient: it neither called backward() nor returned a loss that can be differentiated "
    "({what}); call loss.backward() in it, or return the loss tensor itself, outside torch.no_grad(); "
    "or choose a method without gradients (Nelder-Mead, Powell, COBYLA, COBYQA), which accepts this closure"
)


def as_loss(returned: object) -> float:
    """The returned loss as a Python float."""
    return float(scalar_of(returned))


def scalar_of(returned: object) -> torch.Tensor | float:
    """The returned loss as a number, or as a 0-d tensor that stays on its device. Raises ClosureError."""
    if returned is None:
        raise ClosureError("the closure returned nothing; end it with `return loss`")
    if isinstance(returned, torch.Tensor):
        if returned.numel() != 1:
            raise ClosureError(
                f"the closure returned a tensor of shape {tuple(returned.shape)}; the loss must be a scalar: "
                f"reduce it with .sum() or .mean()"
            )
        if returned.is_complex():
            raise ClosureError(f"the closure returned a complex loss ({returned.dtype}); return its .real or .abs()")
        return returned.detach() if returned.dim() == 0 else returned.detach().reshape(())
    if isinstance(returned, np.ndarray | np.generic) and returned.size == 1:
        returned = returned.item()
    if not isinstance(returned, Real):
        raise ClosureError(
            f"the closure returned {type(returned).__name__}; the loss must be a scalar tensor or a real number"
        )
    return float(returned)


def constant_of(returned: object) -> NDArray[np.float64] | None:
    """The numbers that a closure returned without a graph, shape (k,); None if there is a graph, or no numbers."""
    if isinstance(returned, torch.Tensor):
        plain = not (returned.requires_grad or returned.is_complex())
        return returned.detach().to("cpu", torch.float64).numpy().reshape(-1) if plain else None
    if not isinstance(returned, Real | np.ndarray | np.generic):
        return None
    try:
        return np.asarray(returned, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        return None


def _needs_gradient(returned: object, loss: torch.Tensor | float) -> bool:
    """Whether a needed gradient is missing. A loss that is not finite needs none."""
    return (isinstance(returned, torch.Tensor) and returned.requires_grad) or math.isfinite(loss)


def _differentiable(returned: object, loss: torch.Tensor | float) -> torch.Tensor:
    if not isinstance(returned, torch.Tensor):
        raise ConstantLossError(_NO_GRAPH.format(what=f"it returned a {type(returned).__name__}"), float(loss))
    if not returned.requires_grad:
        raise ConstantLossError(_NO_GRAPH.format(what="its loss has no graph"), float(loss))
    return returned.reshape(())


def _captured(returned: object, loss: torch.Tensor | float, flat: FlatParameters) -> Gradient:
    graph = differentiable_gradient(_differentiable(returned, loss), flat.tensors)
    for tensor, part in zip(flat.tensors, graph, strict=True):
        tensor.grad = None if part is None else part.detach().clone()
    return graph


def _backward(loss: torch.Tensor) -> None:
    try:
        loss.backward()
    except RuntimeError as error:
        if "second time" in text_of(error):
            raise ClosureError(_INDEPENDENT + _OR_BEFORE) from error
        raise


def _no_gradients(flat: FlatParameters) -> bool:
    return all(gradient is None for gradient in flat.gradients())


def _gradient_parts(flat: FlatParameters) -> list[torch.Tensor | None] | None:
    """The contents of `.grad`, one entry for each parameter; None if all are None."""
    parts = flat.gradients()
    return parts if any(part is not None for part in parts) else None
