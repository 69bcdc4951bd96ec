"""Published problems, solved here and by plain SciPy: `python -m tests.published.proof [--set mgh|hs] [--dtype ...]`.

Both sides get the same derivatives, by autograd in the dtype of the parameters, float64 vectors, the same limit on
loss evaluations and no options: here torchmin_nb's defaults, there SciPy's. Whether a problem is solved is decided in
float64 at the final parameters, by the problem's own row. A false success is a run that reports success and is not
solved.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray

from tests.published.hock_schittkowski import HS
from tests.published.more_garbow_hillstrom import MGH, Published
from torchmin_nb import METHODS, Constraint, MinimizeWrapper
from torchmin_nb.core.display.tables import text_table
from torchmin_nb.core.methods.local import MethodSpec
from torchmin_nb.core.runtime.blas_threads import blas_threads

__all__ = ["Case", "Ending", "Oracle", "cases_of", "main", "ours", "plain"]

Tensor = torch.Tensor
DTYPES = {"float32": torch.float32, "float64": torch.float64}
FEASIBLE = 1e-6
"""Violations of constraints up to this are ignored when the best point of an unfinished run is chosen."""


class Case(NamedTuple):
    """A problem as both sides take it. solved: x (n,), float64, to whether it is a solution."""

    name: str
    loss: Callable[[Tensor], Tensor]
    start: tuple[float, ...]
    solved: Callable[[Tensor], bool]
    bounds: tuple[tuple[float, float], ...] | None = None
    equalities: Callable[[Tensor], Tensor] | None = None
    inequalities: Callable[[Tensor], Tensor] | None = None


class Ending(NamedTuple):
    """How a run ended: the loss in float64 at its last point, what was said of it, and calls of the loss."""

    loss: float
    solved: bool
    success: bool
    calls: int
    message: str

    @property
    def false_success(self) -> bool:
        return self.success and not self.solved


def cases_of(name: str) -> list[Case]:
    """The problems of a set: "mgh" or "hs"."""
    return {"mgh": _of_mgh, "hs": _of_hs}[name]()


def methods_of(name: str) -> list[str]:
    """Methods that a set is made for: with gradients for "mgh", with constraints for "hs"."""
    fits = (lambda spec: spec.constraints) if name == "hs" else (lambda spec: spec.gradient != "none")
    return [spec.name for spec in METHODS.values() if fits(spec)]


def _of_mgh() -> list[Case]:
    def solved(problem: Published) -> Callable[[Tensor], bool]:
        return lambda x: problem.solved(problem.loss(x).item())

    return [Case(name, problem.loss, problem.start, solved(problem)) for name, problem in MGH.items()]


def _of_hs() -> list[Case]:
    return [
        Case(name, row.loss, row.start, row.solved, row.bounds, row.equalities, row.inequalities)
        for name, row in HS.items()
    ]


def ours(case: Case, method: str, dtype: torch.dtype, budget: int) -> Ending:
    """torchmin_nb's run with its defaults."""
    x = torch.nn.Parameter(torch.tensor(case.start, dtype=dtype))
    limits = [(case.inequalities, np.inf), (case.equalities, 0.0)]
    constraints = [Constraint(fun, 0.0, upper) for fun, upper in limits if fun is not None]
    given = {"bounds": case.bounds, "constraints": constraints or None}
    arguments = {"method": method, **{key: value for key, value in given.items() if value is not None}}
    optimizer = MinimizeWrapper([x], arguments, max_evaluations=budget)
    try:
        optimizer.step(lambda: case.loss(x))
    except Exception as error:
        return _ending(case, x, False, budget, f"{type(error).__name__}: {error}")
    result = optimizer.result
    return _ending(case, x, bool(result.success), optimizer.history.totals.nfev, str(result.message))


class _BudgetError(Exception):
    """The limit on evaluations is reached."""


@dataclass
class Oracle:
    """What plain SciPy calls: float64 vectors outside, the dtype inside. Keeps the best feasible point."""

    case: Case
    dtype: torch.dtype
    budget: int
    calls: int = 0
    best: tuple[float, NDArray[np.float64]] = field(default=(np.inf, np.empty(0)))

    def tensor(self, x: NDArray[np.float64]) -> Tensor:
        return torch.tensor(x, dtype=self.dtype, requires_grad=True)

    def value(self, x: NDArray[np.float64]) -> float:
        return self.value_and_gradient(x)[0]

    def value_and_gradient(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        if self.calls >= self.budget:
            raise _BudgetError(f"{self.budget} evaluations")
        self.calls += 1
        leaf = self.tensor(x)
        loss = self.case.loss(leaf)
        (gradient,) = torch.autograd.grad(loss, leaf)
        if loss.item() < self.best[0] and _violation(self.case, leaf.detach()) <= FEASIBLE:
            self.best = loss.item(), np.array(x)
        return loss.item(), gradient.double().numpy()

    def hessian(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return torch.autograd.functional.hessian(self.case.loss, self.tensor(x)).double().numpy()

    def product(self, x: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        return _product(self.case.loss, self.tensor(x), self.tensor(v)).double().numpy()

    def derivatives(self, spec: MethodSpec) -> dict[str, Any]:
        given: dict[str, Any] = {} if spec.gradient == "none" else {"jac": True}
        made = {"dense": {"hess": self.hessian}, "hvp": {"hessp": self.product}}
        return {**given, **made.get(spec.curvature, {})}

    def constraints(self, spec: MethodSpec) -> list[Any]:
        limits = [("ineq", self.case.inequalities, np.inf), ("eq", self.case.equalities, 0.0)]
        return [self._constraint(spec, *limit) for limit in limits if limit[1] is not None]

    def _constraint(self, spec: MethodSpec, kind: str, fun: Callable[[Tensor], Tensor], upper: float) -> Any:
        def values(x: NDArray[np.float64]) -> NDArray[np.float64]:
            return fun(self.tensor(x)).detach().double().numpy()

        def jacobian(x: NDArray[np.float64]) -> NDArray[np.float64]:
            return torch.autograd.functional.jacobian(fun, self.tensor(x)).double().numpy()

        def hessian(x: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
            weights = self.tensor(v).detach()
            return torch.autograd.functional.hessian(lambda y: fun(y) @ weights, self.tensor(x)).double().numpy()

        if spec.constraint_form == "object":
            exact = {"jac": jacobian, "hess": hessian} if spec.gradient != "none" else {}
            return scipy.optimize.NonlinearConstraint(values, 0.0, upper, **exact)
        return {"type": kind, "fun": values, "jac": jacobian}


def plain(case: Case, method: str, dtype: torch.dtype, budget: int) -> Ending:
    """SciPy's run with SciPy's defaults."""
    spec, oracle = METHODS[method], Oracle(case, dtype, budget)
    start = torch.tensor(case.start, dtype=dtype).double().numpy()
    fun = oracle.value if spec.gradient == "none" else oracle.value_and_gradient
    given = {"bounds": case.bounds, "constraints": oracle.constraints(spec)}
    try:
        result = scipy.optimize.minimize(
            fun,
            start,
            method=method,
            **oracle.derivatives(spec),
            **{key: value for key, value in given.items() if value},
        )
    except Exception as error:
        x = oracle.best[1] if np.isfinite(oracle.best[0]) else start
        return _ending(case, torch.tensor(x, dtype=dtype), False, oracle.calls, f"{type(error).__name__}: {error}")
    return _ending(case, torch.tensor(result.x, dtype=dtype), bool(result.success), oracle.calls, str(result.message))


def _ending(case: Case, x: Tensor, success: bool, calls: int, message: str) -> Ending:
    exact = x.detach().double()
    return Ending(case.loss(exact).item(), case.solved(exact), success, calls, message)


def _violation(case: Case, x: Tensor) -> float:
    low, high = torch.tensor(case.bounds or [(-np.inf, np.inf)] * len(x), dtype=x.dtype).T
    parts = [low - x, x - high]
    parts += [] if case.inequalities is None else [-case.inequalities(x)]
    parts += [] if case.equalities is None else [case.equalities(x).abs()]
    return torch.cat(parts).max().item()


def _product(loss: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss(x), x, create_graph=True)
    if not gradient.requires_grad:  # linear
        return torch.zeros_like(x)
    product = torch.autograd.grad(gradient @ v.detach(), x, allow_unused=True)[0]
    return torch.zeros_like(x) if product is None else product


Pair = tuple[Ending, Ending]


def compare(cases: Sequence[Case], method: str, dtype: torch.dtype, budget: int) -> dict[str, Pair]:
    """By problem: how ours ended, and plain SciPy's."""
    with warnings.catch_warnings(), blas_threads(1), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return {case.name: (ours(case, method, dtype, budget), plain(case, method, dtype, budget)) for case in cases}


def row(method: str, pairs: Mapping[str, Pair]) -> tuple[str, ...]:
    """One line of the table, ours before SciPy's."""
    sides = list(zip(*pairs.values(), strict=True))
    counts = [
        [sum(ending.solved for ending in side) for side in sides],
        [sum(ending.false_success for ending in side) for side in sides],
        [sum(ending.calls for ending in side) for side in sides],
    ]
    return (method, *(str(count) for both in counts for count in both))


def differences(method: str, pairs: Mapping[str, Pair]) -> Iterator[str]:
    """Where one side solves a problem and the other does not, or where only one says success of an unsolved one."""
    for name, (own, scipys) in pairs.items():
        if own.solved != scipys.solved or own.false_success != scipys.false_success:
            yield f"{method}: {name}: {_said(own)} | SciPy {_said(scipys)}"


def _said(ending: Ending) -> str:
    word = "solved" if ending.solved else "FALSE SUCCESS" if ending.success else "not solved"
    return f"{word}, {ending.loss:.6g}, {ending.calls} calls, {ending.message.splitlines()[0][:60]}"


HEADER = ("method", "solved", "SciPy", "false success", "SciPy", "calls", "SciPy")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", dest="sets", nargs="+", choices=("mgh", "hs"), default=("mgh", "hs"))
    parser.add_argument("--dtype", nargs="+", choices=tuple(DTYPES), default=tuple(DTYPES))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), help="default: all that fit the set")
    parser.add_argument("--problems", nargs="+", default=(), help="parts of names; default: all")
    parser.add_argument("--budget", type=int, default=2000, help="loss evaluations a run may take")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    for name in asked.sets:
        cases = [
            case for case in cases_of(name) if not asked.problems or any(part in case.name for part in asked.problems)
        ]
        for dtype in asked.dtype:
            _report(
                f"{name}, {dtype}, {len(cases)} problems", cases, asked.methods or methods_of(name), dtype, asked.budget
            )


def _report(title: str, cases: Sequence[Case], methods: Sequence[str], dtype: str, budget: int) -> None:
    found = {method: compare(cases, method, DTYPES[dtype], budget) for method in methods}
    print(f"\n{title}: ours and plain SciPy's")
    print(text_table([HEADER, *(row(method, pairs) for method, pairs in found.items())]))
    for method, pairs in found.items():
        for line in differences(method, pairs):
            print(line)


if __name__ == "__main__":
    main()
