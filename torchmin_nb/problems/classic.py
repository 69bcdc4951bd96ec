"""Test functions from the literature, each with its known minima; x has shape (..., n), the value (...)."""

from __future__ import annotations

import math

import torch

from .problem import Problem, ProblemSpec, Setting
from .vector import Builder, Function, plane_problem, vector_problem

__all__ = [
    "CLASSIC",
    "beale",
    "double_well",
    "himmelblau",
    "nonsmooth_rosenbrock",
    "powell_singular",
    "quadratic",
    "rastrigin",
    "rosenbrock",
    "wood",
]


def rosenbrock(x: torch.Tensor) -> torch.Tensor:
    """Σ 100 (x[i+1] − x[i]²)² + (1 − x[i])²."""
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(-1)


def himmelblau(x: torch.Tensor) -> torch.Tensor:
    """(x² + y − 11)² + (x + y² − 7)²."""
    u, v = x.unbind(-1)
    return (u**2 + v - 11) ** 2 + (u + v**2 - 7) ** 2


def beale(x: torch.Tensor) -> torch.Tensor:
    """(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²."""
    u, v = x.unbind(-1)
    return (1.5 - u + u * v) ** 2 + (2.25 - u + u * v**2) ** 2 + (2.625 - u + u * v**3) ** 2


def rastrigin(x: torch.Tensor) -> torch.Tensor:
    """10 n + Σ x[i]² − 10 cos 2π x[i]."""
    return (10 + x**2 - 10 * torch.cos(2 * math.pi * x)).sum(-1)


def double_well(x: torch.Tensor) -> torch.Tensor:
    """(x² − 1)² / 4 + y² / 2: a saddle at 0 between two minima."""
    u, v = x.unbind(-1)
    return (u**2 - 1) ** 2 / 4 + v**2 / 2


def powell_singular(x: torch.Tensor) -> torch.Tensor:
    """(a + 10 b)² + 5 (c − d)² + (b − 2 c)⁴ + 10 (a − d)⁴."""
    a, b, c, d = x.unbind(-1)
    return (a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4


def wood(x: torch.Tensor) -> torch.Tensor:
    """Two Rosenbrock valleys, (a, b) with 100 and (c, d) with 90, coupled through b and d."""
    a, b, c, d = x.unbind(-1)
    valleys = 100 * (b - a**2) ** 2 + (1 - a) ** 2 + 90 * (d - c**2) ** 2 + (1 - c) ** 2
    return valleys + 10 * (b + d - 2) ** 2 + (b - d) ** 2 / 10


def nonsmooth_rosenbrock(x: torch.Tensor) -> torch.Tensor:
    """8 |y − x²| + (1 − x)²: the valley's floor is a kink."""
    u, v = x.unbind(-1)
    return 8 * (v - u**2).abs() + (1 - u) ** 2


def quadratic(x: torch.Tensor, condition: float) -> torch.Tensor:
    """½ Σ λ[i] (Q (x − 1))[i]², λ from 1 to `condition` in equal ratios.

    Q = I − 2 v vᵀ/vᵀv with v = (1, 2, …, n) turns the axes, so that no single coordinate is an eigenvector.
    """
    n = x.shape[-1]
    v = torch.arange(1, n + 1, dtype=x.dtype, device=x.device)
    weights = condition ** torch.linspace(0, 1, n, dtype=x.dtype, device=x.device)
    centred = x - 1
    turned = centred - (centred @ v)[..., None] * (2 * v / (v @ v))
    return (weights * turned**2).sum(-1) / 2


def _rosenbrock(*, dtype: torch.dtype, seed: int, n: int) -> Problem:
    usual = [-1.2 if index % 2 == 0 else 1.0 for index in range(n)]
    return vector_problem(
        rosenbrock, usual, [(-2.0, 2.0)] * n, dtype=dtype, seed=seed, best_loss=0.0, minimizers=((1.0,) * n,)
    )


def _four(function: Function, usual: tuple[float, ...], minimizer: float, tolerance: float) -> Builder:
    """A builder of a problem in four dimensions, with the minimum 0 at (minimizer, …, minimizer)."""

    def build(*, dtype: torch.dtype, seed: int) -> Problem:
        return vector_problem(
            function,
            usual,
            [(-4.0, 4.0)] * 4,
            dtype=dtype,
            seed=seed,
            best_loss=0.0,
            tolerance=tolerance,
            minimizers=((minimizer,) * 4,),
        )

    return build


def _quadratic(*, dtype: torch.dtype, seed: int, n: int, condition: float) -> Problem:
    return vector_problem(
        lambda x: quadratic(x, condition),
        [-1.0] * (n - 1) + [2.0],
        [(-2.0, 4.0)] * n,
        dtype=dtype,
        seed=seed,
        best_loss=0.0,
        minimizers=((1.0,) * n,),
        window=((-2.0, 4.0), (-2.0, 4.0)) if n == 2 else None,
    )


_MORE = "J. J. Moré, B. S. Garbow, K. E. Hillstrom, Testing unconstrained optimization software, ACM TOMS 7 (1981)"

CLASSIC = (
    ProblemSpec(
        "Rosenbrock",
        "classic",
        hard="a curved valley with a flat floor: steepest descent zigzags, and the way along the floor is long",
        answer="0 at (1, 1), the only minimum",
        source="H. H. Rosenbrock, The Computer Journal 3 (1960) 175–184",
        build=plane_problem(
            rosenbrock, (-1.2, 1.0), ((-2.0, 2.0), (-1.0, 3.0)), best_loss=0.0, minimizers=((1.0, 1.0),)
        ),
    ),
    ProblemSpec(
        "Rosenbrock N-D",
        "classic",
        hard="the curved valley in n dimensions; from n = 4 on there is a second, local minimum near (−1, 1, …, 1)",
        answer="0 at (1, …, 1)",
        source="Y.-W. Shang, Y.-H. Qiu, A note on the extended Rosenbrock function, Evol. Comput. 14 (2006) 119–126",
        build=_rosenbrock,
        settings=(Setting("n", 10, 2, 200, "number of dimensions", log=True),),
        many_minima=True,
    ),
    ProblemSpec(
        "Himmelblau",
        "classic",
        hard="four minima of the same value: the start and the method decide which one a run reaches",
        answer="0 at (3, 2) and at three other points",
        source="D. M. Himmelblau, Applied Nonlinear Programming, McGraw-Hill (1972)",
        build=plane_problem(
            himmelblau,
            (0.0, 0.0),
            ((-6.0, 6.0), (-6.0, 6.0)),
            best_loss=0.0,
            minimizers=(
                (3.0, 2.0),
                (-2.805118086952745, 3.131312518250573),
                (-3.779310253377747, -3.283185991286170),
                (3.584428340330492, -1.848126526964404),
            ),
        ),
        many_minima=True,
    ),
    ProblemSpec(
        "Beale",
        "classic",
        hard="a flat plain between steep walls; from x < 0 the loss decreases for ever towards x = −∞, y = 1",
        answer="0 at (3, 0.5), the only minimum; 0.452 is approached at infinity",
        source=_MORE + ", no. 5",
        build=plane_problem(beale, (1.0, 1.0), ((-4.5, 4.5), (-4.5, 4.5)), best_loss=0.0, minimizers=((3.0, 0.5),)),
    ),
    ProblemSpec(
        "Rastrigin",
        "classic",
        hard="a bowl with a local minimum near every whole number: a local method ends in the nearest one",
        answer="0 at (0, 0), among about a hundred local minima; a global search finds it",
        source="L. A. Rastrigin, Systems of Extremal Control, Nauka (1974)",
        build=plane_problem(
            rastrigin, (2.2, -1.7), ((-5.12, 5.12), (-5.12, 5.12)), best_loss=0.0, minimizers=((0.0, 0.0),)
        ),
        many_minima=True,
    ),
    ProblemSpec(
        "Saddle",
        "classic",
        hard="starts near the ridge of a saddle at (0, 0): plain Newton steps go to the saddle",
        answer="0 at (−1, 0) and (1, 0); the saddle has 0.25",
        source="J. Nocedal, S. J. Wright, Numerical Optimization (2006), section 3.4, on indefinite Hessians",
        build=plane_problem(
            double_well,
            (0.1, 1.0),
            ((-2.0, 2.0), (-1.5, 1.5)),
            best_loss=0.0,
            minimizers=((-1.0, 0.0), (1.0, 0.0)),
        ),
        many_minima=True,
    ),
    ProblemSpec(
        "Powell singular",
        "classic",
        hard="the Hessian is singular at the minimum: Newton's method slows from quadratic to linear convergence",
        answer="0 at (0, 0, 0, 0)",
        source=_MORE + ", no. 13",
        build=_four(powell_singular, (3.0, -1.0, 0.0, 1.0), 0.0, tolerance=1e-8),
        convex=True,
    ),
    ProblemSpec(
        "Wood",
        "classic",
        hard="there is a saddle near (−0.97, 0.95, −0.97, 0.95), value 7.877, where a run may stop or become slow",
        answer="0 at (1, 1, 1, 1)",
        source=_MORE + ", no. 14",
        build=_four(wood, (-3.0, -1.0, -3.0, -1.0), 1.0, tolerance=1e-6),
    ),
    ProblemSpec(
        "Nonsmooth Rosenbrock",
        "classic",
        hard="the floor of the valley is a kink: gradients jump across it and do not vanish on the way to the minimum",
        answer="0 at (1, 1); gradient norms do not show that it is near",
        source="A. S. Lewis, M. L. Overton, Nonsmooth optimization via quasi-Newton methods, Math. Prog. 141 (2013)",
        build=plane_problem(
            nonsmooth_rosenbrock,
            (-1.0, 0.5),
            ((-2.0, 2.0), (-1.0, 3.0)),
            best_loss=0.0,
            tolerance=1e-3,
            minimizers=((1.0, 1.0),),
        ),
        smooth=False,
    ),
    ProblemSpec(
        "Quadratic",
        "classic",
        hard="a long, thin ellipse across the axes: steepest descent needs about as many steps as the condition number",
        answer="0 at (1, …, 1), the only minimum; one Newton step",
        source="J. Nocedal, S. J. Wright, Numerical Optimization (2006), section 3.3",
        build=_quadratic,
        settings=(
            Setting("n", 2, 2, 200, "number of dimensions", log=True),
            Setting("condition", 100.0, 1.0, 1e6, "largest over smallest eigenvalue of the Hessian", log=True),
        ),
        convex=True,
    ),
)
