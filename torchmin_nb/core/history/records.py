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

    Attributes
    ----------
    index : int
        Number of the iteration; 0 is the start.
    loss : float
        The loss at the current point. After a rejected step that is the old point.
    grad_norm : float or None
        2-norm of the gradient at the current point.
    grad_norm_inf : float or None
        Largest entry of the gradient at the current point, in size.
    step_norm : float or None
        Distance from the last iterate: 0 after a rejected step, None at the start.
    trust_radius : float or None
        Trust radius after the update of this iteration, in units of x/scale; at index 0 the initial one.
    reduction_ratio : float or None
        Actual reduction of the loss over predicted reduction.
    accepted : bool or None
        Whether a trust-region step, or a hop of basin hopping, was taken.
    constraint_violation : float or None
        Largest violation of constraints and bounds; 0 if feasible.
    kkt_residual : float or None
        With bounds or constraints, the largest entry of the gradient that no multiplier explains, in units of the loss
        over x/scale; 0 at a solution. With bounds alone it is the projected gradient. None without a gradient, and with
        more constraints than can be examined at every iteration: about 100 of 50 parameters.
    nfev : int
        Closure calls so far.
    njev : int
        Gradients computed so far.
    nhev : int
        Dense Hessians computed so far.
    nhvp : int
        Hessian-vector products computed so far.
    rejected_errors : int
        Trials so far at which the closure raised one of the optimizer's ``nonfinite_errors``. `History.errors` has
        their names.
    elapsed : float
        Seconds since the start, pauses not counted.
    metrics : dict of str to float
        Numbers that the closure recorded at this point; see `record`.

    Examples
    --------
    >>> history = minimize(lambda x: (x**2).sum(), torch.tensor([3.0, 4.0]), "BFGS").history
    >>> start = history[0]
    >>> start.loss, start.grad_norm, start.step_norm, start.nfev
    (25.0, 10.0, None, 1)
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
    kkt_residual: float | None = field(default=None, metadata={"added_later": 2})
    nfev: int = 0
    njev: int = 0
    nhev: int = 0
    nhvp: int = 0
    rejected_errors: int = field(default=0, metadata={"added_later": 1})
    elapsed: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)

    __getstate__ = fields_by_name
    __setstate__ = set_fields


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One closure call. Trial points of line searches and simplices, and rejected steps, are among them.

    Attributes
    ----------
    index : int
        Number of the call; 0 is the start.
    iteration : int
        Index of the iteration that is under way.
    loss : float
        The loss as computed; it may be NaN or infinite.
    grad_norm : float or None
        2-norm of the gradient, if one was computed.
    step_norm : float
        Distance from the current iterate.
    elapsed : float
        Seconds since the start, pauses not counted.
    metrics : dict of str to float
        Numbers that the closure recorded in this call.

    Examples
    --------
    >>> x0 = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> history = minimize(rosenbrock, x0, "Nelder-Mead", keep_evaluations=True).history
    >>> first = history.evaluations[0]
    >>> first.index, first.iteration, round(first.loss, 3), first.grad_norm
    (0, 0, 24.2, None)
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
