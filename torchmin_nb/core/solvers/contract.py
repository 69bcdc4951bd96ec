"""The interfaces between a problem, a solver on the device, and a run.

Vectors are tensors of shape (n,) in the solver's dtype, on the parameters' device. Numbers for decisions are Python
floats: one transfer to the host for each closure call or product, and two for each iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, Self, TypeVar

import torch

from ..runtime.control import Ending

__all__ = ["Problem", "Sample", "Solver", "State"]


@dataclass(slots=True)
class Sample:
    """A point, evaluated, as a method is shown it.

    x, gradient: shape (n,). At a rejected trial, where the loss is not defined, loss is +inf or a finite wall, and the
    gradient the last finite one. slope: gradient·along, summed in float64; 0 where no direction was given. largest,
    norm: of the gradient, max and 2-norm.
    """

    x: torch.Tensor
    loss: float
    gradient: torch.Tensor
    slope: float
    largest: float
    norm: float


class Problem(Protocol):
    """A loss over n variables. Counting, stops, budgets, scale and rejected trials are its affair.

    eps: machine epsilon of the arithmetic in which the loss is computed. lower, upper: bounds of shape (n,), or None.
    """

    n: int
    dtype: torch.dtype
    device: torch.device
    eps: float
    lower: torch.Tensor | None
    upper: torch.Tensor | None

    def start(self) -> torch.Tensor:
        """A fresh x to begin at, shape (n,)."""
        ...

    def evaluate(self, x: torch.Tensor, along: torch.Tensor | None = None) -> Sample:
        """Loss and gradient at x, which it keeps: do not write to x afterwards. One closure call, one transfer."""
        ...

    def product(self, sample: Sample, v: torch.Tensor) -> torch.Tensor:
        """The Hessian at the sample times v, shape (n,): a fresh tensor. No transfer."""
        ...

    def hessian(self, sample: Sample) -> torch.Tensor:
        """The Hessian at the sample, shape (n, n), symmetric. No transfer."""
        ...


@dataclass(slots=True)
class State:
    """Where a method stands: tensors and numbers, nothing else, so that it is copied, saved and gone on from.

    sample: the point the method stands at. iteration: how many are over. step_norm: length of the last step, 0 where
    it was rejected. radius, ratio, accepted: for trust-region methods, of the last step. ended: the method's own code
    for why it cannot go on, or None.
    """

    sample: Sample
    iteration: int = 0
    step_norm: float = 0.0
    radius: float | None = None
    ratio: float | None = None
    accepted: bool | None = None
    ended: int | None = None

    def copy(self) -> Self:
        """A state of its own memory."""
        return self.unpacked(self.packed(), copy=True)

    def packed(self) -> dict[str, Any]:
        """The fields as tensors, numbers, lists and dicts: the state's own tensors, not copies."""
        return {field.name: _packed(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def unpacked(cls, values: dict[str, Any], *, copy: bool = False) -> Self:
        """The state of `packed` fields."""
        values = {name: _cloned(value) if copy else value for name, value in values.items()}
        return cls(**{**values, "sample": Sample(**values["sample"])})


def _packed(value: Any) -> Any:
    """Only the fields of Sample are stored, not those that a problem adds: see `packed_as`."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = getattr(value, "packed_as", type(value))
        return {field.name: _packed(getattr(value, field.name)) for field in fields(kind)}
    return [_packed(part) for part in value] if isinstance(value, list | tuple) else value


def _cloned(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _cloned(part) for name, part in value.items()}
    return [_cloned(part) for part in value] if isinstance(value, list) else value


_S = TypeVar("_S", bound=State)


class Solver(Protocol[_S]):
    """A method: its options are given to the constructor, under SciPy's names. All else is in the state.

    `step` evaluates first and changes the state's memory afterwards, in place where that is cheaper: an exception out
    of an evaluation leaves the state as it was. A step that fails sets `ended` and does not count an iteration, where
    SciPy's does not.
    """

    def init(self, problem: Problem) -> _S:
        """The state at the start, with one evaluation."""
        ...

    def step(self, problem: Problem, state: _S) -> _S:
        """One iteration. The state it is given may not be used afterwards."""
        ...

    def terminate(self, problem: Problem, state: _S) -> Ending | None:
        """How the method ends here, or None where it goes on."""
        ...

    def result(self, state: _S) -> dict[str, Any]:
        """What else a result has: `hess_inv`, ..."""
        ...
