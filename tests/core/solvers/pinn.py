"""−Δu = f on the unit square by a network of 129 parameters, a Problem: `python -m tests.core.solvers.pinn SSBroyden`.

u = sin πx sin πy; the loss is the mean square of the residual at 28×28 points and four times that of u at 120 boundary
points. The script prints the relative L2 error on 198×198 points after a run from each seed.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch

from torchmin_nb.core.solvers.contract import Sample
from torchmin_nb.core.solvers.table import SOLVERS

__all__ = ["Pinn"]

_HIDDEN = 32


def _grid(values: torch.Tensor) -> torch.Tensor:
    return torch.cartesian_prod(values, values)


class Pinn:
    """Starts at normal weights of standard deviation 0.1, drawn in float64."""

    n = 4 * _HIDDEN + 1
    lower = upper = None
    device = torch.device("cpu")

    def __init__(self, seed: int, dtype: torch.dtype = torch.float64):
        self.dtype, self.eps = dtype, torch.finfo(dtype).eps
        self._x0 = 0.1 * torch.randn(self.n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        line = torch.linspace(0, 1, 30, dtype=torch.float64)
        sides = [torch.stack([line, torch.full_like(line, end)], 1) for end in (0.0, 1.0)]
        inside = _grid(line[1:-1])
        self._inside, self._force = inside.to(dtype), (2 * math.pi**2 * self._solution(inside)).to(dtype)
        self._boundary = torch.cat([*sides, *(side.flip(1) for side in sides)]).to(dtype)
        self.evaluations = 0

    @staticmethod
    def _solution(points: torch.Tensor) -> torch.Tensor:
        return torch.sin(math.pi * points).prod(1)

    @staticmethod
    def _layers(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        weights, biases, out, bias = x.split([2 * _HIDDEN, _HIDDEN, _HIDDEN, 1])
        return weights.view(_HIDDEN, 2), biases, out, bias

    def _value(self, x: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        weights, biases, out, bias = self._layers(x)
        return torch.tanh(points @ weights.T + biases) @ out + bias

    def _loss(self, x: torch.Tensor) -> torch.Tensor:
        weights, biases, out, _ = self._layers(x)
        t = torch.tanh(self._inside @ weights.T + biases)
        laplacian = (-2 * t * (1 - t * t)) @ (out * weights.square().sum(1))
        return (laplacian + self._force).square().mean() + 4 * self._value(x, self._boundary).square().mean()

    def start(self) -> torch.Tensor:
        return self._x0.to(self.dtype)

    def evaluate(self, x: torch.Tensor, along: torch.Tensor | None = None) -> Sample:
        self.evaluations += 1
        leaf = x.detach().requires_grad_()
        loss = self._loss(leaf)
        (gradient,) = torch.autograd.grad(loss, leaf)
        wide = gradient.double()
        slope = wide.new_zeros(()) if along is None else wide @ along.double()
        value, *rest = torch.stack([loss.detach().double(), slope, wide.abs().max(), wide.norm()]).tolist()
        return Sample(x, value, gradient, *rest)

    def error(self, x: torch.Tensor) -> float:
        """The relative L2 error of u."""
        points = _grid(torch.linspace(0, 1, 198, dtype=torch.float64))
        exact = self._solution(points)
        return float((self._value(x.double(), points) - exact).norm() / exact.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=tuple(SOLVERS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=3000)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    errors = []
    for seed in range(asked.seeds):
        problem, begun = Pinn(seed, getattr(torch, asked.dtype)), time.perf_counter()
        solver = SOLVERS[asked.method].solver(gtol=1e-12, maxiter=asked.iterations)
        state = solver.init(problem)
        while (ending := solver.terminate(problem, state)) is None:
            state = solver.step(problem, state)
        errors.append(problem.error(state.sample.x))
        counts = f"{state.iteration} iterations, {problem.evaluations} evaluations"
        seconds = time.perf_counter() - begun
        print(
            f"{seed}: error {errors[-1]:.2e}, loss {state.sample.loss:.2e}, {counts}, {seconds:.1f} s. {ending.message}"
        )
    print(f"{asked.method}, {asked.dtype}: median {np.median(errors):.2e}, worst {max(errors):.2e}")


if __name__ == "__main__":
    main()
