"""Problems with bounds and with constraints."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..core.objective.constraints import FEASIBLE, Constraint
from .classic import rosenbrock
from .problem import Problem, ProblemSpec
from .vector import Function, vector_problem

__all__ = ["LIMITED"]

_WINDOW = ((-2.0, 2.0), (-1.0, 3.0))
_DISC = ((-1.5, 1.5), (-1.5, 1.5))


def _box(*, dtype: torch.dtype, seed: int) -> Problem:
    low, high = torch.tensor([-2.0, -1.0], dtype=dtype), torch.tensor([0.5, 2.0], dtype=dtype)
    return vector_problem(
        rosenbrock,
        (-1.2, 1.0),
        [(-2.0, 0.5), (-1.0, 2.0)],
        dtype=dtype,
        seed=seed,
        best_loss=0.25,
        minimizers=((0.5, 0.25),),
        window=_WINDOW,
        bounds=(low, high),
        feasible=lambda x: _within(x, low, high).all(-1),
    )


def _within(values: torch.Tensor, low: torch.Tensor | float, high: torch.Tensor | float) -> torch.Tensor:
    """Whether low <= values <= high, with the tolerance for the best point of a run, relative to the larger values."""
    slack = FEASIBLE * values.abs().clamp(min=1)
    return (values >= low - slack) & (values <= high + slack)


def _constrained(problem: Problem, fun: Function, lower: float, upper: float) -> Problem:
    """The problem with the constraint lower <= fun(x) <= upper; fun: (..., n) -> (...)."""
    (x,) = problem.parameters
    others = problem.feasible

    def feasible(points: torch.Tensor) -> torch.Tensor:
        inside = _within(fun(points), lower, upper)
        return inside if others is None else inside & others(points)

    constraint = Constraint(lambda: fun(x), lower, upper)
    return replace(problem, constraints=(*problem.constraints, constraint), feasible=feasible)


def _disc(*, dtype: torch.dtype, seed: int) -> Problem:
    problem = vector_problem(
        rosenbrock,
        (0.0, 0.0),
        [(-0.7, 0.7)] * 2,
        dtype=dtype,
        seed=seed,
        # The root of d/dt f(cos t, sin t), by mpmath with 40 digits.
        best_loss=0.04567480871950023,
        minimizers=((0.7864151541684278, 0.6176983125233935),),
        window=_DISC,
    )
    return _constrained(problem, lambda x: x.square().sum(-1), -torch.inf, 1.0)


def hs71(x: torch.Tensor) -> torch.Tensor:
    """a d (a + b + c) + c."""
    a, b, c, d = x.unbind(-1)
    return a * d * (a + b + c) + c


def _hs71(*, dtype: torch.dtype, seed: int) -> Problem:
    problem = vector_problem(
        hs71,
        (1.0, 5.0, 5.0, 1.0),
        [(1.0, 5.0)] * 4,
        dtype=dtype,
        seed=seed,
        # From the equations of the multipliers, by mpmath with 40 digits; Hock and Schittkowski print 17.0140173.
        best_loss=17.0140172891563,
        tolerance=2e-5,  # the constraints are satisfied up to a tolerance, which can lower the loss
        minimizers=((1.0, 4.742999637264417, 3.821149984184874, 1.379408293172672),),
        bounds=(1.0, 5.0),
        feasible=lambda x: _within(x, 1.0, 5.0).all(-1),
    )
    problem = _constrained(problem, lambda x: x.prod(-1), 25.0, torch.inf)
    return _constrained(problem, lambda x: x.square().sum(-1), 40.0, 40.0)


LIMITED = (
    ProblemSpec(
        "Rosenbrock in a box",
        "limited",
        hard="the bound x ≤ 0.5 cuts the valley before its lowest point: the gradient is not 0 at the answer",
        answer="0.25 at (0.5, 0.25), on the bound",
        source="H. H. Rosenbrock, The Computer Journal 3 (1960) 175–184, with added bounds",
        build=_box,
    ),
    ProblemSpec(
        "Rosenbrock in a disc",
        "limited",
        hard="the valley leaves the disc x² + y² ≤ 1: the run must turn from the floor to the circle",
        answer="0.045675 at (0.78642, 0.61770), on the circle",
        source="https://www.mathworks.com/help/optim/ug/example-nonlinear-constrained-minimization.html",
        build=_disc,
    ),
    ProblemSpec(
        "HS71",
        "limited",
        hard="an equality, an inequality and a bound meet at the answer; the usual start violates the equality",
        answer="17.0140173 at (1, 4.7430, 3.8211, 1.3794)",
        source="W. Hock, K. Schittkowski, Test Examples for Nonlinear Programming Codes, Springer (1981), no. 71",
        build=_hs71,
    ),
)
