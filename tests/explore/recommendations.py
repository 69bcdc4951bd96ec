"""Is `compare` right where it says that it is sure? `python -m tests.explore.recommendations [NAME ...]`.

The problems of the gallery that have no limits, and three models as users have them. A comparison from four starts
recommends a method. Then all methods run from five starts that it has not seen, and there the recommended method's cost
is divided by that of the best.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from torchmin_nb import compare
from torchmin_nb.core.display.tables import text_table
from torchmin_nb.problems import PROBLEMS
from torchmin_nb.problems.sources import sklearn_table

__all__ = ["SUBJECTS", "Checked", "check"]

METHODS = ("BFGS", "L-BFGS-B", "CG", "trust-ncg", "torch.LBFGS")
SEEN, FRESH = 4, 5
"""Starts of the comparison, and starts of which it knows nothing."""
UNSEEN = 1000
"""Seed of the fresh starts."""

Subject = tuple[Any, Callable[[], torch.Tensor]]
"""A model or its parameters, and the closure."""


class Checked(NamedTuple):
    """What was recommended, and the recommended method's cost in ratio to the best method's, for each fresh start."""

    name: str
    method: str
    sure: bool
    ratios: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The geometric mean of the ratios."""
        return math.exp(sum(map(math.log, self.ratios)) / len(self.ratios))


def check(name: str, *, budget: float = 200) -> Checked:
    """Of a subject by name."""
    model, closure = SUBJECTS[name]()
    common = dict(budget=budget, product_cost=2.0)
    found = compare(model, closure, METHODS, starts=SEEN, **common)
    fresh = compare(model, closure, METHODS, starts=FRESH + 1, seed=UNSEEN, **common)
    ratios = []
    for start in range(1, FRESH + 1):
        reached = {row.name: row.reached for row in fresh.rows if row.start == start}
        own, least = reached[found.best.name], min(reached.values())
        ratios.append(1.0 if own == least else own / least)  # where no method gets anywhere, none is better
    return Checked(name, found.best.name, found.sure, tuple(ratios))


def _of_gallery(name: str) -> Subject:
    problem = PROBLEMS[name].make()
    return list(problem.parameters), problem.closure


def convolution() -> Subject:
    """A convolutional network that classifies 150 digits of 8 × 8 pixels."""
    torch.manual_seed(0)
    table = sklearn_table("digits")
    inputs = torch.tensor(table.inputs[:150]).reshape(-1, 1, 8, 8) / 16
    labels = torch.tensor(table.targets[:150]).long()
    layers = torch.nn.Conv2d(1, 4, 3, stride=2), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(36, 10)
    model = torch.nn.Sequential(*layers).double()

    def closure() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(inputs), labels) + _decay(model)

    return model, closure


def attention() -> Subject:
    """One head of self-attention that finds the largest of seven numbers."""
    torch.manual_seed(0)
    values = torch.randn(40, 7, 1, dtype=torch.float64)
    largest = values.amax(1)
    embed, mix, out = torch.nn.Linear(1, 6), torch.nn.Linear(6, 18), torch.nn.Linear(6, 1)
    model = torch.nn.ModuleList([embed, mix, out]).double()

    def closure() -> torch.Tensor:
        query, key, value = mix(embed(values).tanh()).chunk(3, -1)
        weights = (query @ key.mT / 6**0.5).softmax(-1)
        return (out((weights @ value).mean(1)) - largest).square().mean() + _decay(model)

    return model, closure


def epidemic() -> Subject:
    """The rates and the start of an SIR epidemic, by Runge-Kutta steps, from 10 noisy counts of the infected."""
    truth = torch.tensor([1.4, 0.4, 0.02], dtype=torch.float64).log()
    counts = _infected(truth) + 0.005 * torch.randn(10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logarithms = torch.nn.Parameter(torch.tensor([0.5, 0.5, 0.05], dtype=torch.float64).log())
    return [logarithms], lambda: (_infected(logarithms) - counts).square().mean()


def _infected(logarithms: torch.Tensor) -> torch.Tensor:
    """The share of the infected on each of 10 evenings, shape (10,)."""
    infection, recovery, first = logarithms.exp()

    def flow(state: torch.Tensor) -> torch.Tensor:
        new, healed = infection * state[0] * state[1], recovery * state[1]
        return torch.stack([-new, new - healed])

    state, seen = torch.stack([1 - first, first]), []
    for _ in range(10):
        k1 = flow(state)
        k2 = flow(state + k1 / 2)
        k3 = flow(state + k2 / 2)
        state = state + (k1 + 2 * k2 + 2 * k3 + flow(state + k3)) / 6
        seen.append(state[1])
    return torch.stack(seen)


def _decay(model: torch.nn.Module) -> torch.Tensor:
    return 1e-3 * sum((p.square().sum() for p in model.parameters()), torch.zeros(()))


def _limited(name: str) -> bool:
    problem = PROBLEMS[name].make()
    return problem.bounds is not None or bool(problem.constraints)


SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    **{name: lambda name=name: _of_gallery(name) for name in PROBLEMS if not _limited(name)},
    "convolutional network": convolution,
    "self-attention": attention,
    "SIR epidemic": epidemic,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(SUBJECTS))
    head, lines = ["subject", "recommended", "sure", "mean ratio", "worst ratio"], []
    for name in parser.parse_args().names:
        found = check(name)
        lines.append(
            [name, found.method, "yes" if found.sure else "no", f"{found.mean:.2f}", f"{max(found.ratios):.2f}"]
        )
        print(*lines[-1], sep="\t", flush=True)
    print(text_table([head, *lines], align="<<<>>"))


if __name__ == "__main__":
    main()
