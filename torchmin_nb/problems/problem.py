"""A problem: parameters, a closure, and the known facts about the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ..errors import ArgumentError, ArgumentTypeError

__all__ = ["Problem", "ProblemSpec", "Setting"]


class Setting(NamedTuple):
    """A number of a problem that a person may choose, such as a dimension or a condition number.

    An int default asks for whole numbers. log: low to high is best shown on a logarithmic scale.
    """

    name: str
    default: float | int
    low: float | int
    high: float | int
    help: str
    log: bool = False


@dataclass(frozen=True)
class Problem:
    """One problem, ready to be minimised; each has parameters of its own.

    parameters: leaf tensors at the start point. closure: computes the loss from them, without backward().
    best_loss: the known minimum, of a real data set as computed once to full precision, or None where only a loss that
    is good enough is known; target: that loss. tolerance: a run whose loss is within it of best_loss (or of target) has
    solved the problem. minimizers: points (n,) of the global minima where they are known.
    function: the loss as a function of x (..., n) -> (...), where the problem is one of a plain vector; window: what
    to show of the plane of a 2-D one, ((x low, x high), (y low, y high)). bounds: (low, high), floats or tensors, for
    all parameters. constraints: what `minimizer_args["constraints"]` takes; feasible: whether x (..., n) fulfils
    them and the bounds to 1e-6, (...), for shading a contour plot. residuals: closure of the residuals (m,)
    where the loss is half the sum of their squares. measures: other numbers of the current point worth recording, such
    as an accuracy or the error against a known solution; computed under no_grad.
    """

    parameters: Sequence[torch.nn.Parameter]
    closure: Callable[[], torch.Tensor]
    best_loss: float | None = None
    tolerance: float = 1e-6
    target: float | None = None
    minimizers: tuple[tuple[float, ...], ...] = ()
    function: Callable[[torch.Tensor], torch.Tensor] | None = None
    window: tuple[tuple[float, float], tuple[float, float]] | None = None
    bounds: tuple[Any, Any] | None = None
    constraints: tuple[Any, ...] = ()
    feasible: Callable[[torch.Tensor], torch.Tensor] | None = None
    residuals: Callable[[], torch.Tensor] | None = None
    measures: Callable[[], dict[str, float]] | None = None

    @property
    def n(self) -> int:
        """How many parameters there are."""
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def x(self) -> torch.Tensor:
        """A copy of the parameters' current values as one vector, shape (n,)."""
        return torch.nn.utils.parameters_to_vector(self.parameters).detach().clone()

    def solved(self, loss: float) -> bool | None:
        """Whether a run that ended at this loss has solved the problem: it is at most best_loss + tolerance.

        Where best_loss is None, target takes its place; None where neither is known. A NaN never is. The loss of a
        point outside the bounds or the constraints says nothing: ask for feasibility first.
        """
        goal = self.target if self.best_loss is None else self.best_loss
        return None if goal is None else float(loss) <= goal + self.tolerance


@dataclass(frozen=True)
class ProblemSpec:
    """A row of PROBLEMS. hard: one line on what makes it hard; answer: the known answer in words; source: where from.

    build(dtype=, seed=, **settings) makes the Problem at its usual start (seed 0) or a random one (other seeds).
    smooth: twice differentiable all over; convex: everywhere; many_minima: more than one minimum, global or local.
    """

    name: str
    group: str
    hard: str
    answer: str
    source: str
    build: Callable[..., Problem]
    settings: tuple[Setting, ...] = ()
    smooth: bool = True
    convex: bool = False
    many_minima: bool = False

    def make(
        self,
        *,
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
        start: Sequence[float] | torch.Tensor | None = None,
        **settings: float,
    ) -> Problem:
        """The problem at its start point: `start`, shape (n,), else the usual one (seed 0) or a random one of `seed`.

        Raises ArgumentError for a setting that it has not or that is out of its range, for a dtype other than float32
        and float64, a negative seed, and a start of the wrong shape or not finite.
        """
        if dtype not in (torch.float32, torch.float64):
            raise ArgumentError(f"dtype={dtype} is not supported; choose torch.float32 or torch.float64")
        if not isinstance(seed, int):
            raise ArgumentTypeError(f"seed={seed!r} is not a whole number; choose 0 (the usual start) or more")
        if seed < 0:
            raise ArgumentError(f"seed={seed} is negative; choose 0 (the usual start) or more")
        problem = self.build(dtype=dtype, seed=seed, **self._chosen(settings))
        if start is not None:
            _place(problem.parameters, start, self.name)
        return problem

    def _chosen(self, values: Mapping[str, float]) -> dict[str, float]:
        known = {setting.name: setting for setting in self.settings}
        for name in values:
            if name not in known:
                raise ArgumentError(f"{self.name} has no setting {name!r}; it has {', '.join(known) or 'none'}")
        return {name: _checked(setting, values.get(name, setting.default)) for name, setting in known.items()}


def _checked(setting: Setting, value: float) -> float:
    if not isinstance(value, int | float):
        raise ArgumentTypeError(f"{setting.name}={value!r} is not a number; it is {setting.help}")
    if not setting.low <= value <= setting.high:
        raise ArgumentError(
            f"{setting.name}={value!r} is out of range; choose from {setting.low} to {setting.high} ({setting.help})"
        )
    if isinstance(setting.default, int):
        if value != math.floor(value):
            raise ArgumentError(f"{setting.name}={value!r} is not whole; it is {setting.help}")
        return int(value)
    return float(value)


def _place(parameters: Sequence[torch.nn.Parameter], start: Sequence[float] | torch.Tensor, name: str) -> None:
    """Write x, shape (n,), into the parameters."""
    try:
        x = torch.as_tensor(start, dtype=parameters[0].dtype).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(f"start={start!r} is not a vector of numbers") from error
    n = sum(parameter.numel() for parameter in parameters)
    if x.shape != (n,):
        raise ArgumentError(f"start has shape {tuple(x.shape)}; {name} takes one of shape ({n},)")
    if not torch.isfinite(x).all():
        raise ArgumentError(f"start={start!r} is not finite; choose finite numbers")
    torch.nn.utils.vector_to_parameters(x.clone(), parameters)
