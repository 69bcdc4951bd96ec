"""Parameters <-> one vector.

SciPy sees a float64 array, a solver on the device a tensor; the closure sees its own tensors, in their own dtype and
on their own device. Nothing here copies a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn.parameter import is_lazy

from ...errors import ClosureError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FlatParameters", "TrainableGroup", "Vector", "require_own_memory", "trainable"]

TrainableGroup = dict[str, object]
Vector: TypeAlias = "NDArray[np.float64] | torch.Tensor"
"""A point or direction, shape (n,): an array for SciPy, or a tensor on the device."""
_ALLOWED = (torch.float32, torch.float64)


def trainable(groups: Iterable[TrainableGroup]) -> list[torch.Tensor]:
    """The optimised tensors of the param groups: all with `requires_grad`, in order.

    Raises ParameterError if there is none, or if one is complex, of half precision or not floating point, sparse, or
    without values.
    """
    tensors = [p for group in groups for p in group["params"] if p.requires_grad]  # type: ignore[attr-defined]
    if len({id(tensor) for tensor in tensors}) < len(tensors):
        raise ParameterError("a parameter was passed twice; pass each tensor once, as model.parameters() does")
    for index, tensor in enumerate(tensors):
        if is_lazy(tensor) or tensor.is_meta:
            raise ParameterError(
                f"parameter {index} has no values yet; call a lazy module once first, or move the model off the meta "
                f"device with model.to_empty(device=...) and initialise it"
            )
        if tensor.layout != torch.strided:
            raise ParameterError(
                f"parameter {index} has the layout {tensor.layout}; torchmin_nb optimises dense tensors: pass a dense "
                f"one, e.g. tensor.to_dense(), and make the sparse tensor in the closure"
            )
        if tensor.is_complex():
            raise ParameterError(
                f"parameter {index} is {tensor.dtype} of shape {tuple(tensor.shape)}; torchmin_nb optimises real "
                f"numbers: optimise real and imaginary parts, real = torch.view_as_real(z).detach().clone()"
                f".requires_grad_(), and make z = torch.view_as_complex(real) in the closure"
            )
        if tensor.dtype not in _ALLOWED:
            raise ParameterError(
                f"parameter {index} is {tensor.dtype} of shape {tuple(tensor.shape)}; torchmin_nb optimises "
                f"torch.float32 and torch.float64: convert it first, e.g. with model.double()"
            )
    if not sum(tensor.numel() for tensor in tensors):
        raise ParameterError(
            "no parameter to optimise: every tensor is empty or has requires_grad=False; "
            "pass at least one floating-point tensor that requires grad"
        )
    return tensors


def require_own_memory(tensors: Sequence[torch.Tensor]) -> None:
    """Raise ParameterError if two entries share memory: a change of one would change the other."""
    remedy = "but the method moves every entry independently; "
    clusters: list[list[int]] = []
    reach = 0
    for begin, end, index in sorted((*_span(tensor), index) for index, tensor in enumerate(tensors) if tensor.numel()):
        if (end - begin) < tensors[index].numel() * tensors[index].element_size():
            raise ParameterError(
                f"entries of parameter {index}, of shape {tuple(tensors[index].shape)}, share memory, as in an "
                f"expanded tensor; {remedy}pass a clone(), or the tensor before expand()"
            )
        if begin >= reach:
            clusters.append([])
        clusters[-1].append(index)
        reach = max(reach, end)
    for cluster in clusters:
        if len(cluster) > 1 and _overlap([tensors[index] for index in cluster]):
            raise ParameterError(
                f"parameters {', '.join(map(str, sorted(cluster)))} share memory; {remedy}in place of views, pass the "
                f"tensor itself, and tie modules by the Parameter (a.weight = b.weight), not by its data"
            )


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """The first and last address of a tensor that is not empty."""
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (reach + 1) * tensor.element_size()


def _overlap(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether two tensors share an entry. Interleaved tensors, such as two columns of a matrix, do not."""
    words = torch.cat([_words(tensor) for tensor in tensors])
    return len(words.unique()) < len(words)


def _words(tensor: torch.Tensor) -> torch.Tensor:
    """The addresses of the 4-byte words of every entry."""
    begin, end = _span(tensor)
    width = tensor.element_size()
    entries = torch.arange(begin, end, width).as_strided(tensor.shape, tensor.stride()).reshape(-1, 1)
    return (entries + torch.arange(0, width, 4)).reshape(-1)


class FlatParameters:
    """A list of tensors seen as one vector x of shape (n,): a float64 array, or a tensor.

    Frozen tensors do not belong in the list: see `trainable`. on_host: whether Python reads all without a transfer.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]):
        self.tensors = list(tensors)
        self._shapes = [tensor.shape for tensor in self.tensors]
        self._sizes = [tensor.numel() for tensor in self.tensors]
        self.n = sum(self._sizes)
        self.on_host = all(tensor.device.type == "cpu" for tensor in self.tensors)
        self._memory: list[tuple[int, torch.Size, bool]] = []
        self._places: list[torch.Tensor] | None = None

    @property
    def eps(self) -> float:
        """Machine epsilon of the coarsest dtype among the parameters."""
        return max(torch.finfo(tensor.dtype).eps for tensor in self.tensors)

    @property
    def widest(self) -> torch.dtype:
        """The widest dtype among the parameters."""
        return torch.float64 if any(tensor.dtype is torch.float64 for tensor in self.tensors) else torch.float32

    def read(self) -> NDArray[np.float64]:
        """The current values, a new vector of shape (n,)."""
        return self.gather([tensor.detach() for tensor in self.tensors])

    def write(self, x: Vector) -> None:
        """Copy x into the parameters, in place.

        Through `.data`, so that the graph of an earlier point can still be used: write that point's values back
        before the backward pass. The storage does not change: views of the parameters remain views.
        """
        whole = torch.from_numpy(x) if isinstance(x, np.ndarray) else x
        places = self._places_for(whole)
        if places is None:
            torch._foreach_copy_([tensor.data for tensor in self.tensors], self._chunks(whole))
        else:
            torch.split_with_sizes_copy(whole, self._sizes, out=places)

    def write_final(self, x: Vector) -> None:
        """Copy x into the parameters so that autograd refuses graphs of earlier points."""
        with torch.no_grad():
            for tensor, values in zip(self.tensors, self._chunks(x), strict=True):
                tensor.copy_(values)

    @property
    def version(self) -> int:
        """A number that increases with every in-place change that autograd notices."""
        return sum([tensor._version for tensor in self.tensors])  # a list: this is called twice in each closure call

    def require_held(self, x: Vector) -> None:
        """Raise ClosureError if a closure call has changed the parameters, which held x before."""
        if all(map(_equal, self.tensors, self._chunks(x))):
            return
        held, written = self.read(), self.gather(self._chunks(x))
        if isinstance(x, np.ndarray):
            written = self.gather(self.scatter(x))
        if not np.array_equal(held, written, equal_nan=True):
            raise ClosureError(
                f"the closure moved the parameters, by up to {np.abs(held - written).max():.3g}; it must not change "
                f"them: use bounds=(low, high) in the param group in place of clamp_(), and compute other "
                f"transformations of the parameters as a part of the loss"
            )

    def mask(self, indices: Iterable[int]) -> NDArray[np.bool_]:
        """Shape (n,), true for the entries of these tensors."""
        chosen = set(indices)
        return np.repeat([index in chosen for index in range(len(self.tensors))], self._sizes)

    def gather(self, parts: Sequence[torch.Tensor | None]) -> NDArray[np.float64]:
        """One new array of shape (n,) from one tensor for each parameter; None counts as zeros."""
        return self.join(parts, torch.float64, torch.device("cpu")).numpy()

    def join(self, parts: Sequence[torch.Tensor | None], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """The same as a tensor."""
        try:
            flat: torch.Tensor = _flatten_dense_tensors(parts)
            flat = flat.detach() if flat.requires_grad else flat
            if flat.numel() == self.n:
                return flat.to(device, dtype, copy=len(parts) == 1)  # of one tensor it is a view
        except (TypeError, RuntimeError):  # a part is missing, sparse or on another device
            pass
        self._require_shapes()
        whole = torch.empty(self.n, dtype=dtype, device=device)
        for piece, part in zip(whole.split(self._sizes), parts, strict=True):
            _fill(piece, part)
        return whole

    def concatenated(self, parts: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """The same on the device of the first tensor, in the widest dtype, with the graph of the parts."""
        with torch.enable_grad():
            try:
                flat: torch.Tensor = _flatten_dense_tensors(parts)
            except (TypeError, RuntimeError):  # as in `join`
                device = self.tensors[0].device
                dense = [
                    torch.zeros_like(tensor) if part is None else part.to_dense() if part.is_sparse else part
                    for tensor, part in zip(self.tensors, parts, strict=True)
                ]
                flat = torch.cat([part.reshape(-1).to(device) for part in dense])
        return flat

    def pieces(self, v: torch.Tensor) -> list[torch.Tensor]:
        """v of shape (n,) as views of it with the shape of each parameter."""
        return list(self._chunks(v))

    def split(self, v: torch.Tensor) -> list[torch.Tensor]:
        """v of shape (n,) as tensors with the shape, dtype and device of each parameter; views of v where possible."""
        return [
            piece.to(device=tensor.device, dtype=tensor.dtype)
            for tensor, piece in zip(self.tensors, self._chunks(v), strict=True)
        ]

    def scatter(self, v: Vector) -> list[torch.Tensor]:
        """v of shape (n,) as new tensors with the shape, dtype and device of each parameter."""
        return [
            values.to(device=tensor.device, dtype=tensor.dtype, copy=True)
            for tensor, values in zip(self.tensors, self._chunks(v), strict=True)
        ]

    def split_rows(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Rows of shape (k, n) as tensors of shape (k, *parameter.shape)."""
        pieces = rows.split(self._sizes, dim=1)
        return [
            piece.reshape(len(rows), *shape).to(device=tensor.device, dtype=tensor.dtype)
            for tensor, shape, piece in zip(self.tensors, self._shapes, pieces, strict=True)
        ]

    def join_rows(self, parts: Sequence[torch.Tensor | None], rows: torch.Tensor) -> None:
        """The inverse of `split_rows`: writes into rows of shape (k, n) that contain zeros."""
        for piece, part in zip(rows.split(self._sizes, dim=1), parts, strict=True):
            if part is not None:
                piece.copy_(part.detach().reshape(len(rows), -1))

    def clear_gradients(self) -> None:
        """Set every `.grad` to None, so that all gradients afterwards are from the closure."""
        for tensor in self.tensors:
            tensor.grad = None

    def gradients(self) -> list[torch.Tensor | None]:
        """The `.grad` of each parameter."""
        return [tensor.grad for tensor in self.tensors]

    def _chunks(self, x: Vector) -> tuple[torch.Tensor, ...]:
        self._require_shapes()
        whole = torch.from_numpy(x) if isinstance(x, np.ndarray) else x
        pieces: tuple[torch.Tensor, ...] = _unflatten_dense_tensors(whole, self.tensors)
        return pieces

    def _places_for(self, x: torch.Tensor) -> list[torch.Tensor] | None:
        """The memory of each parameter as a vector, if x can be copied there in one operation.

        This takes half the time of copies between tensors of the parameters' shapes.
        """
        memory = [(tensor.data_ptr(), tensor.shape, tensor.is_contiguous()) for tensor in self.tensors]
        if memory != self._memory:
            self._require_shapes()
            kinds = {(tensor.device, tensor.dtype, tensor.is_contiguous()) for tensor in self.tensors}
            alike = len(kinds) == 1 and self.tensors[0].is_contiguous()
            self._places = [tensor.data.view(-1) for tensor in self.tensors] if alike else None
            self._memory = memory
        if self._places is None:
            return None
        first = self._places[0]
        return self._places if x.dtype == first.dtype and x.device == first.device else None

    def _require_shapes(self) -> None:
        for index, (tensor, shape) in enumerate(zip(self.tensors, self._shapes, strict=True)):
            if tensor.shape != shape:
                raise ParameterError(
                    f"parameter {index} had shape {tuple(shape)} when the run began and has {tuple(tensor.shape)} now; "
                    f"a closure must not resize parameters"
                )


def _equal(tensor: torch.Tensor, values: torch.Tensor) -> bool:
    return torch.equal(tensor, values.to(tensor))


def _fill(piece: torch.Tensor, part: torch.Tensor | None) -> None:
    if part is None:
        piece.zero_()
    else:
        dense = part.to_dense() if part.is_sparse else part
        piece.copy_(dense.detach().reshape(-1))
