"""Is `compare` right where it says that it is sure? `python -m tests.explore.recommendations [NAME ...]`.

The problems of the gallery that have no limits, and three models as users have them. A comparison from five starts
recommends a method. Where it is sure, all methods run from eight starts that it has not seen, and the recommended
method's mean cost there is divided by that of the best.
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

__all__ = ["FRESH", "SUBJECTS", "Checked", "check"]

METHODS = (("BFGS", dict(engine="torch")), "L-BFGS-B", "CG", "trust-ncg", "torch.LBFGS")
SEEN, FRESH = 5, 8
"""Starts of the comparison, and starts of which it knows nothing."""
LATE = 10.0
"""The ratio of costs that counts for a run that does not get as low as the best within the budget."""
UNSEEN = 1000
"""Seed of the fresh starts."""

Subject = tuple[Any, Callable[[], torch.Tensor]]
"""A model or its parameters, and the closure."""


class Checked(NamedTuple):
    """What was recommended. Where it is sure: ratio, its mean cost over the fresh starts to that of the method that is
    the best there; close, from how many of them it was the best, or within 1.2 of it.
    """

    name: str
    method: str
    sure: bool
    ratio: float | None = None
    close: int | None = None


def check(name: str, *, fresh: int = FRESH) -> Checked:
    """Of a subject by name."""
    model, closure = SUBJECTS[name]()
    common = dict(budget=200, product_cost=2.0)
    found = compare(model, closure, METHODS, starts=SEEN, **common)
    if not found.sure:
        return Checked(name, found.best.name, False)
    whole = compare(model, closure, METHODS, starts=fresh + 1, seed=UNSEEN, **common)
    costs: dict[str, list[float]] = {}
    for start in range(1, fresh + 1):
        reached = {row.name: row.reached for row in whole.rows if row.start == start}
        for method, cost in reached.items():
            costs.setdefault(method, []).append(min(cost / min(reached.values()), LATE))
    means = {method: math.exp(sum(map(math.log, each)) / len(each)) for method, each in costs.items()}
    close = sum(cost <= 1.2 for cost in costs[found.best.name])
    return Checked(name, found.best.name, True, means[found.best.name] / min(means.values()), close)


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
    lines = [["subject", "recommended", "sure", "cost to the best's", f"close of {FRESH}"]]
    for name in parser.parse_args().names:
        found = check(name)
        numbers = [f"{found.ratio:.2f}", str(found.close)] if found.sure else ["", ""]
        lines.append([name, found.method, "yes" if found.sure else "no", *numbers])
        print(*lines[-1], sep="\t", flush=True)
    print(text_table(lines, align="<<<>>"))


if __name__ == "__main__":
    main()
