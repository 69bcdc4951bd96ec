"""Physics-informed networks: boundary-value problems with known solutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from .networks import forward, layers
from .problem import Problem, ProblemSpec, Setting

__all__ = ["PINN", "POISSON", "laplacian", "poisson"]

_TARGET = 1e-4
_POINTS = 64


def _build(*, dtype: torch.dtype, seed: int, hidden: int, waves: int, boundary_weight: float) -> Problem:
    """−u'' = (kπ)² sin kπx on [0, 1], u(0) = u(1) = 0, k = waves, by a network u; the solution is sin kπx."""
    parameters = layers([1, hidden, hidden, 1], dtype, seed)
    wave_number = waves * math.pi
    collocation = torch.linspace(0, 1, _POINTS + 2, dtype=dtype)[1:-1, None]
    force = wave_number**2 * torch.sin(wave_number * collocation)
    ends = torch.tensor([[0.0], [1.0]], dtype=dtype)
    fine = torch.linspace(0, 1, 201, dtype=dtype)[:, None]

    def closure() -> torch.Tensor:
        with torch.enable_grad():  # the derivatives by x are needed even without gradients by the parameters
            x = collocation.clone().requires_grad_()
            (slope,) = torch.autograd.grad(forward(parameters, x).sum(), x, create_graph=True)
            (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
            return (bend + force).square().mean() + boundary_weight * forward(parameters, ends).square().sum()

    def measures() -> dict[str, float]:
        with torch.no_grad():
            return {"solution error": float((forward(parameters, fine) - torch.sin(wave_number * fine)).abs().max())}

    return Problem(parameters, closure, target=_TARGET * waves**4, tolerance=0.0, measures=measures)


PINN = ProblemSpec(
    "PINN",
    "network",
    hard="residual and boundary terms conflict, and their curvatures differ widely: gradient descent stalls early",
    answer="not unique: 0.0001 × waves⁴ or less is good enough, the error of sin kπx is then about 0.002; a loss of 0 "
    "would solve the equation at every collocation point",
    source="M. Raissi, P. Perdikaris, G. E. Karniadakis, Physics-informed neural networks, J. Comput. Phys. 378 (2019)",
    build=_build,
    settings=(
        Setting("hidden", 10, 4, 40, "units in each of the two hidden layers"),
        Setting("waves", 1, 1, 4, "half waves of the solution on the interval"),
        Setting("boundary_weight", 10.0, 0.1, 1000.0, "weight of the boundary values in the loss", log=True),
    ),
    many_minima=True,
)


_POISSON_TARGET = 1e-3
_SIDE = 30
_FINE = 200
_DEVIATION = 0.1


def _grid(points: int, dtype: torch.dtype) -> torch.Tensor:
    """The inner nodes of a grid with `points` on each side of the unit square, shape ((points − 2)², 2)."""
    inner = torch.linspace(0, 1, points, dtype=dtype)[1:-1]
    return torch.cartesian_prod(inner, inner)


def _edges(points: int, dtype: torch.dtype) -> torch.Tensor:
    """`points` points on each side of the unit square, corners included, shape (4·points, 2)."""
    along = torch.linspace(0, 1, points, dtype=dtype)
    zero, one = torch.zeros_like(along), torch.ones_like(along)
    sides = [(along, zero), (along, one), (zero, along), (one, along)]
    return torch.cat([torch.stack(side, 1) for side in sides])


def _waves(x: torch.Tensor) -> torch.Tensor:
    """sin πx sin πy at points (k, 2), shape (k, 1)."""
    return torch.sin(math.pi * x).prod(1, keepdim=True)


def laplacian(parameters: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Δu of a network u with one hidden layer at points (k, d), shape (k, 1): closed form, from tanh'' = −2 tanh tanh'.

    It takes a fraction of the time of two passes by autograd, and has derivatives of every order.
    """
    weight, bias, outer, _ = parameters
    value = torch.tanh(x @ weight + bias)
    return (-2 * value * (1 - value.square())) @ (weight.square().sum(0)[:, None] * outer)


def poisson(dtype: torch.dtype) -> Callable[[Sequence[torch.Tensor]], torch.Tensor]:
    """The residuals (904,) of −Δu = 2π² sin πx sin πy on the unit square, u = 0 on its boundary, for a network u.

    Half the sum of their squares is the mean square of Δu + f at 28 × 28 points, and four times that of u at 120 points
    of the boundary, whose length is four.
    """
    inside, boundary = _grid(_SIDE, dtype), _edges(_SIDE, dtype)
    force = 2 * math.pi**2 * _waves(inside)
    inner, outer = math.sqrt(2 / len(inside)), math.sqrt(8 / len(boundary))

    def residuals(parameters: Sequence[torch.Tensor]) -> torch.Tensor:
        equation = inner * (laplacian(parameters, inside) + force)
        return torch.cat([equation, outer * forward(parameters, boundary)]).squeeze(1)

    return residuals


def _build_poisson(*, dtype: torch.dtype, seed: int, hidden: int) -> Problem:
    """A network with one hidden layer and parameters from N(0, 0.1²); the solution is sin πx sin πy."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, hidden), (hidden,), (hidden, 1), (1,)]
    drawn = [_DEVIATION * torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    parameters = [torch.nn.Parameter(each.to(dtype)) for each in drawn]
    residuals, fine = poisson(dtype), _grid(_FINE, dtype)
    exact = _waves(fine)

    def measures() -> dict[str, float]:
        with torch.no_grad():
            error = forward(parameters, fine) - exact
        return {"relative L2 error": float(error.norm() / exact.norm())}

    return Problem(
        parameters,
        lambda: residuals(parameters).square().sum() / 2,
        target=_POISSON_TARGET,
        tolerance=0.0,
        residuals=lambda: residuals(parameters),
        measures=measures,
    )


POISSON = ProblemSpec(
    "Poisson PINN",
    "network",
    hard="the loss decreases by ten powers of ten along a narrow, curved valley, where quasi-Newton methods are slow",
    answer="not unique: 0.001 or less is good enough, the relative L2 error is then below 0.01; least squares by "
    "gauss-newton reach an error of 3e-7 in 200 iterations, the median of ten seeds",
    source="J. Müller, M. Zeinhofer, Achieving high accuracy with PINNs via energy natural gradient descent, ICML 2023",
    build=_build_poisson,
    settings=(Setting("hidden", 32, 4, 64, "units in the hidden layer"),),
    many_minima=True,
)
