"""Whole generations under vmap against one point at a time: python -m tests.benchmarks.populations"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch

from torchmin_nb import DifferentialEvolutionWrapper

__all__ = ["PROBLEMS", "Fit", "Ratio", "compare"]


class Fit:
    """A closure with `model` and `loss(model)`: an MLP with tanh, fitted to a sine on k samples."""

    def __init__(self, hidden: int, samples: int):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(1, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 1))
        inputs = torch.linspace(-1, 1, samples)[:, None]
        self.loss = lambda model: torch.nn.functional.mse_loss(model(inputs), torch.sin(3 * inputs))

    def __call__(self) -> torch.Tensor:
        return self.loss(self.model)


PROBLEMS = {
    "MLP 1-3-1, 100 samples": (3, 100),
    "MLP 1-10-1, 100 samples": (10, 100),
    "MLP 1-10-1, 10,000 samples": (10, 10_000),
}


class Ratio(NamedTuple):
    """Seconds of the loop and of vmap, medians; their ratio; points evaluated."""

    loop: float
    together: float
    ratio: float
    points: int


def compare(hidden: int, samples: int, *, generations: int = 20, repeats: int = 3) -> Ratio:
    """Differential evolution without polish, the same seed and the same generations both ways."""
    rounds = [
        (_run(hidden, samples, generations, False), _run(hidden, samples, generations, True)) for _ in range(repeats)
    ]
    loop, together = (median(seconds[side][0] for seconds in rounds) for side in (0, 1))
    return Ratio(loop, together, median(slow[0] / fast[0] for slow, fast in rounds), rounds[0][0][1])


def _run(hidden: int, samples: int, generations: int, together: bool) -> tuple[float, int]:
    fit = Fit(hidden, samples)
    closure: Callable[[], torch.Tensor] = fit if together else fit.__call__
    kwargs = dict(bounds=(-3.0, 3.0), maxiter=generations, tol=0.0, rng=0, polish=False, updating="deferred")
    optimizer = DifferentialEvolutionWrapper(fit.model.parameters(), kwargs)
    start = time.perf_counter()
    optimizer.step(closure)
    assert optimizer.history.totals is not None
    return time.perf_counter() - start, optimizer.history.totals.nfev


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"{'':28} {'loop':>9} {'together':>9} {'ratio':>6} {'points':>7}")
    for name, problem in PROBLEMS.items():
        found = compare(*problem)
        print(f"{name:28} {found.loop:7.2f} s {found.together:7.2f} s {found.ratio:6.1f} {found.points:7,}")


if __name__ == "__main__":
    main()
