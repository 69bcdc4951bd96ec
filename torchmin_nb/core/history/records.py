"""The records of a run: Iteration, Evaluation, Totals; and an event as JSON has it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, cast

from ..storage.stored_fields import fields_by_name, set_fields

__all__ = ["FIELDS", "Evaluation", "Iteration", "Totals", "encoded", "record"]


@dataclass(frozen=True, slots=True)
class Iteration:
    """One iteration of a method. None means that the method does not report it.

    index: 0 is the start. loss, grad_norm (2-norm), grad_norm_inf: at the point now held; after a rejected step that is
    the old one. step_norm: distance from the last iterate, 0 after a rejected step, None at the start. trust_radius: in
    force after this iteration's update, in units of x/scale; at index 0 the initial one. reduction_ratio: actual over
    predicted reduction. accepted: whether a trust-region step, or a hop, was taken. constraint_violation: the largest,
    of bounds too; 0 if feasible. nfev, njev, nhev, nhvp: closure calls, gradients, dense Hessians and Hessian-vector
    products really computed so far. rejected_errors: trials so far at which the closure raised one of the optimizer's
    `nonfinite_errors`; `History.errors` has their names. metrics: what the closure `record`ed at this point. elapsed:
    seconds since the start.
    """

    index: int
    loss: float
    grad_norm: float | None = None
    grad_norm_inf: float | None = None
    step_norm: float | None = None
    trust_radius: float | None = None
    reduction_ratio: float | None = None
    accepted: bool | None = None
    constraint_violation: float | None = None
    nfev: int = 0
    njev: int = 0
    nhev: int = 0
    nhvp: int = 0
    rejected_errors: int = field(default=0, metadata={"added_later": True})
    elapsed: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)

    __getstate__ = fields_by_name
    __setstate__ = set_fields


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One closure call: trial points of line searches, simplices and rejected steps included.

    index: 0 is the start. iteration: the iteration under way. loss: as computed, NaN and infinity included.
    step_norm: distance from the current iterate. elapsed: seconds since the start.
    """

    index: int
    iteration: int
    loss: float
    grad_norm: float | None = None
    step_norm: float = field(default=0.0, metadata={"earlier_name": "step"})
    elapsed: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def step(self) -> float:
        """The earlier name of `step_norm`."""
        return self.step_norm

    __getstate__ = fields_by_name
    __setstate__ = set_fields


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole cost of a run: what was computed, work after the last iteration included, and wall-clock seconds."""

    nfev: int
    njev: int
    nhev: int
    nhvp: int
    seconds: float

    __getstate__ = fields_by_name
    __setstate__ = set_fields


FIELDS = tuple(f.name for f in fields(Iteration))
"""The fields of every iteration. A closure cannot record numbers under these names."""


def record(event: Iteration | Evaluation) -> dict[str, Any]:
    """An event as a dict that is ready for JSON."""
    return cast("dict[str, Any]", encoded(asdict(event)))


def encoded(value: Any) -> Any:
    """A number for JSON. NaN and infinities become strings, because JSON does not have them."""
    if isinstance(value, Mapping):
        return {key: encoded(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
