"""What a gradient, a product with the Hessian and the dense Hessian of a closure cost: time, and memory of tensors."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..core.autodiff.closure import Closure, ClosureResult, evaluator_for, require_closure
from ..core.autodiff.graph import saved_bytes
from ..core.autodiff.hessian import DenseHessian, HvpGraph
from ..core.autodiff.side_effects import restored_afterwards
from ..core.parameters.flat import FlatParameters, trainable
from ..errors import SecondDerivativeError

__all__ = ["CurvatureCost", "Measurement", "curvature_cost"]

_LEAST, _MOST, _PATIENCE = 3, 30, 0.2
"""Repetitions of a measurement, and the seconds after which those above the least are left out."""


class Measurement(NamedTuple):
    """A value, and what its computation took.

    Attributes
    ----------
    value : ndarray
        What was computed, float64: shape (n,), or (n, n) for a Hessian.
    seconds : float
        The shortest time of at least three repetitions.
    bytes : int
        Most memory that the new tensors had at one time, on all devices; NumPy's arrays are not counted.

    See Also
    --------
    curvature_cost : makes it, and has an example.
    """

    value: NDArray[np.float64]
    seconds: float
    bytes: int


class CurvatureCost(NamedTuple):
    """What first and second derivatives of one closure cost at one point.

    Attributes
    ----------
    n : int
        Number of parameters.
    chunk : int
        How many products one backward pass of the dense Hessian computes.
    gradient : Measurement
        A closure call with its gradient.
    product : Measurement
        The Hessian times a direction, at a point whose gradient is known.
    hessian : Measurement or None
        All N products, in chunks, at such a point; None unless it was asked for.

    See Also
    --------
    curvature_cost : makes it, and has an example.
    """

    n: int
    chunk: int
    gradient: Measurement
    product: Measurement
    hessian: Measurement | None

    def table(self) -> str:
        """The numbers as text: milliseconds, times in gradients, and megabytes of tensors."""
        lines = [f"{'N = ' + format(self.n, ','):12} {'time':>12} {'in gradients':>13} {'tensors':>12}"]
        for name in ("gradient", "product", "hessian"):
            if (row := getattr(self, name)) is not None:
                share = row.seconds / self.gradient.seconds
                lines.append(f"{name:12} {1e3 * row.seconds:9.2f} ms {share:13.1f} {row.bytes / 1e6:9.3f} MB")
        return "\n".join(lines)


def curvature_cost(
    closure: Closure,
    params: Iterable[torch.Tensor],
    direction: ArrayLike | None = None,
    *,
    dense: bool = True,
    chunk: int | None = None,
) -> CurvatureCost:
    """Compute derivatives at the current values of the parameters, as a run does, and measure time and memory.

    Parameters
    ----------
    closure : callable
        As for ``step(closure)``. It is called 5 to 32 times.
    params : iterable of Tensor
        The parameters.
    direction : array_like of shape (n,), optional
        The vector of the product. Default None: all entries equal, length 1.
    dense : bool, optional
        Whether the N×N Hessian is computed too. Default True.
    chunk : int or None, optional
        How many products one backward pass computes. Default None: what fits a cache of 64 MB.

    Returns
    -------
    CurvatureCost
        Values, seconds and bytes.

    Raises
    ------
    SecondDerivativeError
        If an operation of the closure has no second derivative.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    >>> cost = curvature_cost(lambda: (x**3).sum(), [x], direction=[1.0, 0.0])
    >>> cost.product.value.tolist(), cost.hessian.value.tolist()
    ([6.0, 0.0], [[6.0, 0.0], [0.0, 12.0]])
    """
    flat = FlatParameters(trainable([{"params": list(params)}]))
    evaluator = evaluator_for(require_closure(closure), flat)
    with restored_afterwards(flat):
        result, kept = saved_bytes(lambda: evaluator.evaluate("curvature"))
        graph = _graph_of(result)
        builder = DenseHessian(flat.n, kept, chunk)
        v = np.full(flat.n, flat.n**-0.5) if direction is None else np.asarray(direction, dtype=np.float64)
        hessian = _measured(lambda: builder.build(graph, flat.n, lambda: None).numpy()) if dense else None
        product = _measured(lambda: graph.hvp(v))
        gradient = _measured(lambda: _gradient_of(evaluator.evaluate("gradient")))
    return CurvatureCost(flat.n, builder.chunk, gradient, product, hessian)


def _graph_of(result: ClosureResult) -> HvpGraph:
    if result.graph is None:
        raise SecondDerivativeError("the gradient has no graph here: the loss is not finite, or has no derivative")
    return result.graph


def _gradient_of(result: ClosureResult) -> NDArray[np.float64]:
    return np.asarray(result.gradient)


def _measured(compute: Callable[[], NDArray[np.float64]]) -> Measurement:
    with _LiveTensors() as tensors:
        value = compute()
    return Measurement(value, _shortest(compute), tensors.most)


def _shortest(compute: Callable[[], object]) -> float:
    taken: list[float] = []
    while len(taken) < _LEAST or (len(taken) < _MOST and sum(taken) < _PATIENCE):
        begin = time.perf_counter()
        compute()
        taken.append(time.perf_counter() - begin)
    return min(taken)


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of all tensors made under it, for as long as each is alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = {_key(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)}
        made = func(*args, **kwargs)
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and (key := _key(tensor)) not in given | self._alive.keys():
                storage = tensor.untyped_storage()
                self._alive[key] = storage.nbytes()
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._forget, key)
        return made

    def _forget(self, key: int) -> None:
        self.now -= self._alive.pop(key, 0)


def _key(tensor: torch.Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key
