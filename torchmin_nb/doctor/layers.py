"""Inside one closure call: activations by layer, operations with kinks, the first operation that is not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["FirstNonFinite", "Layer", "Watch"]

_DEAD = {"relu": 0.0, "relu_": 0.0, "threshold": 0.0, "relu6": 0.0}
_SATURATED = {"tanh": (-1.0, 1.0), "tanh_": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "sigmoid_": (0.0, 1.0)}
_MAPS = frozenset(
    (
        "linear",
        "matmul",
        "__matmul__",
        "__rmatmul__",
        "mm",
        "mv",
        "addmm",
        "addmv",
        "bmm",
        "einsum",
        "bilinear",
        "conv1d",
        "conv2d",
        "conv3d",
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
    )
)
"""Operations in which weights meet what comes before them."""
_BENDS = frozenset(
    (
        *_DEAD,
        *_SATURATED,
        "softplus",
        "gelu",
        "silu",
        "elu",
        "elu_",
        "selu",
        "celu",
        "leaky_relu",
        "leaky_relu_",
        "prelu",
        "mish",
        "softsign",
        "logsigmoid",
        "hardtanh",
        "hardswish",
        "sin",
        "cos",
        "softmax",
    )
)
"""Functions that stand between the layers of a network."""
_NEAR_END = 0.01
_KINKS = frozenset(
    (
        "abs",
        "absolute",
        "relu",
        "relu_",
        "relu6",
        "leaky_relu",
        "prelu",
        "clamp",
        "clamp_",
        "clamp_min",
        "clamp_max",
        "clip",
        "max",
        "min",
        "maximum",
        "minimum",
        "amax",
        "amin",
        "fmax",
        "fmin",
        "where",
        "l1_loss",
        "smooth_l1_loss",
        "hinge_embedding_loss",
        "margin_ranking_loss",
        "triplet_margin_loss",
        "median",
        "sort",
        "topk",
        "norm",
        "vector_norm",
        "cdist",
        "dist",
        "hardtanh",
        "hardsigmoid",
        "hardswish",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "adaptive_max_pool2d",
        "quantile",
        "kthvalue",
        "threshold",
    )
)
_STEPS = frozenset(
    ("round", "round_", "floor", "ceil", "trunc", "sign", "heaviside", "argmax", "argmin", "one_hot", "bucketize")
)
_SOFTMAX = frozenset(("softmax", "log_softmax", "cross_entropy", "logsumexp"))
_BORING = frozenset(
    (
        "full",
        "fill",
        "empty",
        "zeros",
        "ones",
        "masked_fill",
        "scalar_tensor",
        "constant_pad",
        "copy",
        "detach",
        "view",
        "new_full",
    )
)


@dataclass
class Layer:
    """The outputs of one activation function: what share of its units is dead or saturated on all samples.

    function: "relu", "tanh", "sigmoid". after: names of the parameters that it follows. units: number of units.
    ended: share of the units that are at the end of the function's range on every sample. outputs: the share of all
    outputs. hidden: whether parameters follow.
    """

    function: str
    after: tuple[str, ...]
    units: int
    ended: float
    outputs: float
    hidden: bool = False

    @property
    def place(self) -> str:
        """What it follows, in words."""
        return ", ".join(self.after) or "the input"


class Watch(TorchFunctionMode):
    """Sees the functions that a closure calls: `layers`, in order; `kinks`, `steps`: names of operations; `softmax`.

    deep: whether weights are applied to what an activation function made of other weights.

    names: of the parameters, by the id of the tensor.
    """

    def __init__(self, names: Mapping[int, str]):
        super().__init__()
        self.names = names
        self.layers: list[Layer] = []
        self.kinks: dict[str, None] = {}
        self.steps: dict[str, None] = {}
        self.softmax = self.deep = False
        self._bent: bool | None = None
        self._after: tuple[str, ...] = ()

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        known = [self.names[id(arg)] for arg in args if isinstance(arg, torch.Tensor) and id(arg) in self.names]
        if known and name not in ("backward", "grad", "register_hook", "__get__"):
            self._after = tuple(dict.fromkeys(known))
            for layer in self.layers:
                layer.hidden = True
        self._follow(
            name, weights=any(isinstance(arg, torch.Tensor) and arg.dim() > 1 and id(arg) in self.names for arg in args)
        )
        if name in _KINKS:
            self.kinks[name.strip("_")] = None
        self.softmax = self.softmax or name in _SOFTMAX
        if name in _STEPS:
            self.steps[name] = None
        if (name in _DEAD or name in _SATURATED) and isinstance(result, torch.Tensor) and result.numel():
            self._note(name, result.detach())
        return result

    def _follow(self, name: str, *, weights: bool) -> None:
        """Notice weights, then an activation function, then weights again."""
        if name in _MAPS and weights:
            self.deep, self._bent = self.deep or bool(self._bent), False
        elif name in _BENDS and self._bent is not None:
            self._bent = True

    def _note(self, name: str, out: torch.Tensor) -> None:
        if not out.is_floating_point() or torch._C._functorch.is_batchedtensor(out):
            return
        if name in _DEAD:
            at_end = out <= 0
        else:
            low, high = _SATURATED[name]
            width = _NEAR_END * (high - low) / 2
            at_end = (out < low + width) | (out > high - width)
        axis = 1 if out.dim() == 4 else out.dim() - 1
        units = at_end.movedim(axis, 0).reshape(at_end.shape[axis], -1) if out.dim() else at_end.reshape(1, 1)
        self.layers.append(
            Layer(
                name.strip("_"),
                self._after,
                len(units),
                float(units.all(1).double().mean()),
                float(at_end.double().mean()),
            )
        )


class FirstNonFinite(TorchDispatchMode):
    """Finds the first operation, forward or backward, whose result is not finite although what it was given is.

    `first`: by "NaN" and "inf", the name of the operation and the shape of its result. `was_given`: whether the first
    NaN came from data that were not finite.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.was_given = False

    @property
    def operation(self) -> str:
        """The first operation that made NaN, or the infinity that came before it."""
        found = self.first.get("inf") or self.first.get("NaN")
        return found[0] if found else ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if isinstance(result, torch.Tensor) and result.is_floating_point() and name.strip("_") not in _BORING:
            self._look(name.strip("_"), result, [each for each in args if isinstance(each, torch.Tensor)])
        return result

    def _look(self, name: str, result: torch.Tensor, given: Sequence[torch.Tensor]) -> None:
        if bool(torch.isfinite(result).all()):
            return
        nan = bool(torch.isnan(result).any())
        kind = "NaN" if nan else "inf"
        clean = all(bool(torch.isfinite(each).all()) for each in given if each.is_floating_point())
        if clean and kind not in self.first:
            self.first[kind] = (name, tuple(result.shape))
        elif nan and "NaN" not in self.first:
            self.first["NaN"] = (name, tuple(result.shape))
            self.was_given = "inf" not in self.first
