"""The traits of a problem that decide which methods fit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..core.autodiff.closure_check import check_closure
from ..core.objective.constraints import Constraint
from ..core.parameters.flat import FlatParameters
from ..core.runtime.memory import available_bytes
from ..problems import Problem, ProblemSpec

__all__ = ["Traits", "measured", "traits"]


@dataclass(frozen=True)
class Traits:
    """A problem as the choice of a method sees it.

    Attributes
    ----------
    n : int
        Number of parameters.
    dtype : str
        "float32", "float64" or "float32/float64".
    bounds : bool
        Whether any parameter has bounds.
    box : bool
        Whether all parameters have finite bounds, or a window to search in.
    constraints : bool
        Whether there are constraints.
    equalities : bool
        Whether there are equality constraints.
    smooth : bool
        Whether the loss is twice differentiable everywhere.
    convex : bool
        Whether the loss is convex everywhere.
    many_minima : bool
        Whether the loss has more than one minimum.
    residuals : int or None
        Number of residuals; None if the loss is no sum of squares.
    seconds_per_call : float or None
        Seconds of a closure call with gradient, if measured.
    seconds_per_product : float or None
        Seconds of a Hessian-vector product, if measured.
    memory : float
        Bytes that are available.

    Examples
    --------
    >>> Traits(n=1000, seconds_per_call=0.01, seconds_per_product=0.03).product_cost
    3.0
    """

    n: int
    dtype: str = "float64"
    bounds: bool = False
    box: bool = False
    constraints: bool = False
    equalities: bool = False
    smooth: bool = True
    convex: bool = False
    many_minima: bool = False
    residuals: int | None = None
    seconds_per_call: float | None = None
    seconds_per_product: float | None = None
    memory: float = float("inf")

    @property
    def product_cost(self) -> float:
        """Cost of a Hessian-vector product, in closure calls; 2 if nothing was measured."""
        if not self.seconds_per_call or not self.seconds_per_product:
            return 2.0
        return self.seconds_per_product / self.seconds_per_call


def traits(
    problem: Problem, spec: ProblemSpec | None = None, *, bounds: bool = True, constraints: bool = True
) -> Traits:
    """What is known of a problem without a closure call. Its residuals are computed once, to count them.

    Parameters
    ----------
    problem : Problem
        The problem.
    spec : ProblemSpec or None, optional
        Its row, for what the problem does not know itself: smooth, convex, many_minima.
    bounds : bool, optional
        False if its bounds are not used. Default True.
    constraints : bool, optional
        False if its constraints are not used. Default True.

    Returns
    -------
    Traits
        The traits, without times.

    Examples
    --------
    >>> from torchmin_nb.problems import PROBLEMS
    >>> spec = PROBLEMS["HS71"]
    >>> found = traits(spec.make(), spec)
    >>> found.n, found.bounds, found.constraints
    (4, True, True)
    """
    heeded = problem.constraints if constraints else ()
    window = problem.window is not None and problem.n == len(problem.window)
    return Traits(
        n=problem.n,
        dtype="/".join(sorted({str(p.dtype).removeprefix("torch.") for p in problem.parameters})),
        bounds=bounds and problem.bounds is not None,
        box=bounds and (_finite(problem) or (problem.bounds is None and window)),
        constraints=bool(heeded),
        equalities=any(map(_equality, heeded)),
        smooth=spec is None or spec.smooth,
        convex=spec is not None and spec.convex,
        many_minima=spec is not None and spec.many_minima,
        residuals=_residuals(problem),
        memory=float(available_bytes()),
    )


def measured(
    known: Traits, problem: Problem, *, clock: Callable[[Problem], tuple[float, float | None]] | None = None
) -> Traits:
    """The same traits with the seconds of one closure call and one Hessian-vector product.

    It takes about twenty closure calls. The parameters are restored.

    Parameters
    ----------
    known : Traits
        The traits of the problem.
    problem : Problem
        The problem.
    clock : callable or None, optional
        Measures a problem and returns (seconds per call, seconds per product); for tests.

    Returns
    -------
    Traits
        The traits, with times.

    Raises
    ------
    ClosureError
        If the closure cannot be evaluated.

    Examples
    --------
    >>> from torchmin_nb.problems import PROBLEMS
    >>> problem = PROBLEMS["Rosenbrock"].make()
    >>> measured(traits(problem), problem).seconds_per_product > 0
    True
    """
    call, product = (clock or _clock)(problem)
    return replace(known, seconds_per_call=call, seconds_per_product=product)


def _clock(problem: Problem) -> tuple[float, float | None]:
    report = check_closure(problem.closure, FlatParameters(list(problem.parameters)), directions=1)
    return report.seconds_per_call, report.seconds_per_product


def _finite(problem: Problem) -> bool:
    if problem.bounds is None:
        return False
    sides = [torch.as_tensor(np.inf if side is None else side, dtype=torch.float64) for side in problem.bounds]
    return all(bool(side.isfinite().all()) for side in sides)


def _equality(constraint: object) -> bool:
    if isinstance(constraint, Constraint):
        return bool(np.any(np.asarray(constraint.lower) == np.asarray(constraint.upper)))
    return isinstance(constraint, dict) and constraint.get("type") == "eq"


def _residuals(problem: Problem) -> int | None:
    if problem.residuals is None:
        return None
    with torch.no_grad():
        return int(problem.residuals().numel())
