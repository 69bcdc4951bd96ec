"""Remedies: a sentence, the changed call as code, and the change that `Report.rescue` can try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.methods.least_squares import LEAST_SQUARES_METHODS
from ..core.methods.local import METHODS
from ..explore.literal import literal
from .subject import Subject

__all__ = ["Change", "Remedy", "changed_call", "first_fitting"]

_LARGE = 3000
"""Largest number of parameters for methods with a matrix of N×N."""
_OF_RESIDUALS = ("trf", "lm", "gauss-newton")
_LEAST_SHARE, _SHARE = 20, 0.05
"""What `Report.rescue` gives a remedy: calls and products, and the part of the run's."""
_SHOWN = 12


@dataclass(frozen=True, eq=False)
class Change:
    """What a remedy changes in the call; None and False leave it as it was.

    Attributes
    ----------
    method : str or None
        Another method.
    options : dict
        Options that change.
    engine : str or None
        Another engine.
    double : bool
        Whether the parameters become float64.
    loss_scale : float, str or None
        Another scale of the loss.
    sizes : ndarray of shape (n,) or None
        Typical sizes of the parameters, for ``scale=``.
    start : ndarray of shape (n,) or None
        Where the new run begins; default: where the old one stood.
    factor : float
        How many times the budget of the old run it gets.

    See Also
    --------
    diagnose : makes it, and has an example.
    """

    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    engine: str | None = None
    double: bool = False
    loss_scale: float | str | None = None
    sizes: NDArray[np.float64] | None = None
    start: NDArray[np.float64] | None = None
    factor: float = 1.0


@dataclass(frozen=True, eq=False)
class Remedy:
    """One thing to change.

    Attributes
    ----------
    what : str
        What to do, in a sentence.
    code : str
        The changed call, as Python code.
    not_tried : str
        Why ``report.rescue()`` cannot try it; empty if it can.
    change : Change or None
        What it changes, for ``report.rescue()``.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> closure = lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> optimizer = MinimizeWrapper([x], dict(method="BFGS", options=dict(maxiter=5)))
    >>> loss = optimizer.step(closure)
    >>> optimizer.diagnose(closure).remedy.not_tried
    ''
    """

    what: str
    code: str
    not_tried: str = ""
    change: Change | None = None


def changed_call(subject: Subject, what: str, change: Change) -> Remedy:
    """The remedy of a change, with the code of the call."""
    return Remedy(what, _code(subject, change), change=change)


def first_fitting(subject: Subject, *names: str) -> str | None:
    """The first of these methods that accepts the bounds, the constraints and the size of the problem.

    For residuals, another method of least squares in place of one with gradients.
    """
    if subject.residuals:
        if METHODS[names[0]].gradient == "none":
            return None
        others = [name for name in _OF_RESIDUALS if LEAST_SQUARES_METHODS[name].bounds or not subject.bounded]
        return next((name for name in others if name != subject.method), None)
    for name in names:
        spec = METHODS[name]
        fits = (spec.bounds or not subject.bounded) and (spec.constraints or not subject.constraints)
        small = subject.flat.n <= _LARGE or not spec.dense
        small = small and (spec.curvature != "dense" or subject.flat.n <= _few_hessians(subject))
        if fits and small and name != subject.method:
            return name
    return None


def _few_hessians(subject: Subject) -> float:
    """The number of parameters up to which a trial of the rescue can pay for three Hessians."""
    return max(_LEAST_SHARE, subject.spent * _SHARE) / 3


def _code(subject: Subject, change: Change) -> str:
    lines = []
    if change.double:
        lines += ["for parameter in model.parameters():", "    parameter.data = parameter.data.double()"]
    if change.start is not None:
        lines += ["# start a little beside the present point: report.rescue() does this"]
    method = change.method or (subject.method if subject.spec is not None else "L-BFGS-B")
    arguments: dict[str, Any] = {"method": method}
    options = {**(_kept_options(subject) if change.method is None else {}), **change.options}
    if options:
        arguments["options"] = options
    parts = [_parameters(subject, change), literal(arguments if len(arguments) > 1 else method)]
    if change.engine is not None:
        parts.append(f"engine={literal(change.engine)}")
    if change.loss_scale is not None:
        parts.append(f"loss_scale={literal(change.loss_scale)}")
    wrapper = "LeastSquaresWrapper" if subject.residuals else "MinimizeWrapper"
    return "\n".join([*lines, f"optimizer = {wrapper}({', '.join(parts)})", "optimizer.step(closure)"])


def _kept_options(subject: Subject) -> dict[str, Any]:
    return {name: value for name, value in subject.options.items() if subject.spec and name in subject.spec.options}


def _parameters(subject: Subject, change: Change) -> str:
    if change.sizes is None:
        return "model.parameters()"
    groups, begin = [], 0
    for name, tensor in zip(subject.names, subject.flat.tensors, strict=True):
        part = change.sizes[begin : begin + tensor.numel()]
        begin += tensor.numel()
        groups.append(f'{{"params": [{_variable(name)}], "scale": {_scale(part, tensor)}}}')
    shown = groups[:_SHOWN] + ["..."] * (len(groups) > _SHOWN)
    return "[" + ", ".join(shown) + "]"


def _variable(name: str) -> str:
    return f"parameters[{name}]" if name.isdigit() else f"model.{name}"


def _scale(part: NDArray[np.float64], tensor: torch.Tensor) -> str:
    rounded = [float(f"{value:.1g}") for value in part]
    if len(set(rounded)) == 1:
        return f"{rounded[0]:g}"
    if len(rounded) > _SHOWN:
        return f"scale_of_shape_{'x'.join(map(str, tensor.shape))}"
    return f"torch.tensor({literal(np.array(rounded).reshape(tensor.shape).tolist())})"
