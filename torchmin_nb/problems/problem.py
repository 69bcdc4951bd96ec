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

    Attributes
    ----------
    name : str
        Name of the setting.
    default : float or int
        Its default. An int asks for whole numbers.
    low : float or int
        Smallest allowed value.
    high : float or int
        Largest allowed value.
    help : str
        What it is, in words.
    log : bool
        Whether its range is best shown on a logarithmic scale.

    Examples
    --------
    >>> [setting.name for setting in PROBLEMS["Quadratic"].settings]
    ['n', 'condition']
    """

    name: str
    default: float | int
    low: float | int
    high: float | int
    help: str
    log: bool = False


@dataclass(frozen=True)
class Problem:
    """One problem, ready to be minimised. Each has parameters of its own.

    Attributes
    ----------
    parameters : sequence of torch.nn.Parameter
        Leaf tensors at the start point, n entries in all.
    closure : callable
        Computes the loss from them, without ``backward()``.
    best_loss : float or None
        The known minimum of the loss; for a real data set, computed once to full precision. None if only `target` is
        known.
    tolerance : float
        A run has solved the problem if its loss is at most best_loss (or target) + tolerance.
    target : float or None
        A loss that is good enough.
    minimizers : tuple of tuples of float
        The known global minimizers, each of shape (n,).
    function : callable or None
        The loss as a function of x, (..., n) -> (...), if the problem is one of a plain vector.
    window : ((float, float), (float, float)) or None
        What to show of the plane of a 2-D problem: ((x low, x high), (y low, y high)).
    bounds : (low, high) or None
        Floats or tensors, for all parameters.
    constraints : tuple
        What ``minimizer_args["constraints"]`` takes.
    feasible : callable or None
        Whether x, (..., n) -> (...), fulfils constraints and bounds to 1e-6; for shading a contour plot.
    residuals : callable or None
        Closure of the residuals, shape (m,), if the loss is half the sum of their squares.
    measures : callable or None
        Other numbers at the current point that are worth recording, by name, such as an accuracy. Computed without
        gradients.

    Examples
    --------
    >>> problem = PROBLEMS["Rosenbrock"].make()
    >>> problem.n, problem.x, problem.best_loss
    (2, tensor([-1.2000,  1.0000], dtype=torch.float64), 0.0)
    >>> optimizer = MinimizeWrapper(problem.parameters, "trust-ncg")
    >>> problem.solved(optimizer.step(problem.closure))
    True
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
        """Number of entries of all parameters."""
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def x(self) -> torch.Tensor:
        """A copy of the parameters' current values as one vector, shape (n,)."""
        return torch.nn.utils.parameters_to_vector(self.parameters).detach().clone()

    def solved(self, loss: float) -> bool | None:
        """Whether a run that ended at this loss has solved the problem: loss ≤ best_loss + tolerance.

        If `best_loss` is None, `target` takes its place. The loss of a point outside the bounds or the constraints says
        nothing: check that the point is feasible first.

        Parameters
        ----------
        loss : float
            The loss at the end point. NaN is never solved.

        Returns
        -------
        bool or None
            None if neither `best_loss` nor `target` is known.
        """
        goal = self.target if self.best_loss is None else self.best_loss
        return None if goal is None else float(loss) <= goal + self.tolerance


@dataclass(frozen=True)
class ProblemSpec:
    """A row of PROBLEMS: a problem with its settings and its known answer.

    Attributes
    ----------
    name : str
        Name of the problem.
    group : str
        The heading under which it is listed.
    hard : str
        What makes it hard, in a line.
    answer : str
        The known answer, in words.
    source : str
        Where it is from.
    build : callable
        ``build(dtype=, seed=, **settings)`` makes the Problem at its usual start (seed 0) or at a random one.
    settings : tuple of Setting
        What may be chosen.
    smooth : bool
        Whether it is twice differentiable everywhere.
    convex : bool
        Whether it is convex everywhere.
    many_minima : bool
        Whether it has more than one minimum, global or local.

    Examples
    --------
    >>> spec = PROBLEMS["Rosenbrock N-D"]
    >>> spec.smooth, spec.convex
    (True, False)
    >>> spec.make(n=10).n
    10
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
        """The problem at its start point.

        Parameters
        ----------
        dtype : torch.float32 or torch.float64, optional
            dtype of the parameters. Default torch.float64.
        seed : int, optional
            0, the default: the usual start. Other numbers: a random start.
        start : array_like of shape (n,) or None, optional
            A start of your own.
        **settings : float
            Settings by name.

        Returns
        -------
        Problem
            With parameters of its own.

        Raises
        ------
        ArgumentError
            If a setting is unknown or out of range, the dtype is another one, the seed is negative, or the start has a
            wrong shape or is not finite.
        ArgumentTypeError
            If seed, settings or start are no numbers.
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
