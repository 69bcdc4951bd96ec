"""Every solver that the profiles compare, run under a `Meter`, which counts what it spends and when its loss falls.

All get the same functions and start, in float64, exact derivatives, tolerances of 1e-15 and the same budget. So a run
ends when it has passed the strictest test, when the budget is spent, or when the solver can do no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray

from tests.published.hock_schittkowski import HS
from tests.published.more_garbow_hillstrom import MGH
from tests.published.nist_strd import STRD
from tests.published.proof import Case, Oracle
from torchmin_nb import LEAST_SQUARES_METHODS, METHODS, Constraint, LeastSquaresWrapper, MinimizeWrapper
from torchmin_nb.core.objective.calls import Calls, Counts

__all__ = [
    "BUDGETS",
    "FAMILIES",
    "PRICE",
    "TAUS",
    "FinishedError",
    "Meter",
    "Solver",
    "Task",
    "costs",
    "solvers_of",
    "tasks_of",
]

Tensor = torch.Tensor

TAUS = (1e-3, 1e-6)
PRICE = 1.0
"""Of a product with the Hessian or the Jacobian, in closure calls; what `digits` and `small` measure."""
BUDGETS = {"mgh": 100, "nist": 100, "hs": 500}
"""Of a run, in closure calls and priced products, for each of n + 1; 100 is Moré and Wild's."""
FAMILIES = ("first order", "second order", "gradient-free", "least squares")
FEASIBLE = 1e-5
"""Of the largest entry of x, or of 1: how far a constraint may be violated, as in the set."""
TIGHT, ENDLESS = 1e-15, 10**6
LIMITS = ("maxiter", "maxfun", "maxfev", "max_nfev", "max_iter")
STEERING = {"Powell": ("xtol",)}
"""Tolerances that choose steps too, and keep their default."""


class Task(NamedTuple):
    """min loss(x) over x (n,) from a start. minima: the known local minima, the least first.

    residuals: x to (m,), whose sum of squares is the loss; None without. violation: of the constraints at x, relative
    to its size; None without constraints.
    """

    case: Case
    minima: tuple[float, ...]
    residuals: Callable[[Tensor], Tensor] | None = None
    violation: Callable[[Tensor], float] | None = None

    @property
    def name(self) -> str:
        return self.case.name

    @property
    def n(self) -> int:
        return len(self.case.start)

    def allowed(self, minimum: float, first: float) -> float:
        """What τ is a share of: f(x₀) − f*, or with constraints max(1, |f*|), as a start may violate them."""
        return first - minimum if self.violation is None else max(1.0, abs(minimum))


class FinishedError(Exception):
    """The run has passed the strictest test, or spent its budget."""


@dataclass
class Meter:
    """The loss of a task; counts calls and products, and keeps when a feasible loss was lower than all before."""

    task: Task
    budget: float
    calls: int = 0
    products: Callable[[], float] = lambda: 0
    first: float = np.nan
    lower: list[tuple[float, float]] = field(default_factory=list)
    """(cost, loss), the loss falling."""

    def loss(self, x: Tensor) -> Tensor:
        """Of x (n,)."""
        value = self.task.case.loss(x)
        self._count(x, value.item())
        return value

    def residuals(self, x: Tensor) -> Tensor:
        """Of x (n,), shape (m,)."""
        assert self.task.residuals is not None
        values = self.task.residuals(x)
        self._count(x, values.detach().square().sum().item())
        return values

    def _count(self, x: Tensor, loss: float) -> None:
        self.calls += 1
        cost = self.calls + PRICE * self.products()
        if cost > self.budget:
            raise FinishedError
        if self.calls == 1:
            self.first = loss
        violation, below = self.task.violation, self.lower[-1][1] if self.lower else np.inf
        if loss < below and (violation is None or violation(x.detach()) <= FEASIBLE):
            self.lower.append((cost, loss))
            least = self.task.minima[0]
            if loss <= least + min(TAUS) * self.task.allowed(least, self.first):
                raise FinishedError


def costs(task: Task, meter: Meter) -> dict[float, float]:
    """By τ, what was spent until f(x) ≤ f* + τ (f(x₀) − f*); infinity if that never came.

    f* is the local minimum that the run came to: the largest known one that its lowest loss does not pass.
    """
    if not meter.lower:
        return dict.fromkeys(TAUS, np.inf)
    lowest = meter.lower[-1][1]
    slack = [min(TAUS) * task.allowed(minimum, meter.first) for minimum in task.minima]
    minimum = max(
        (minimum for minimum, slack in zip(task.minima, slack, strict=True) if minimum - slack <= lowest),
        default=task.minima[0],
    )
    allowed = task.allowed(minimum, meter.first)
    return {tau: next((cost for cost, loss in meter.lower if loss <= minimum + tau * allowed), np.inf) for tau in TAUS}


class Solver(NamedTuple):
    """family: of FAMILIES, by what it needs. run: works on a meter until it ends."""

    name: str
    family: str
    run: Callable[[Meter], None]


def tasks_of(name: str) -> list[Task]:
    """The tasks of "mgh", "nist" or "hs"."""
    return {"mgh": _of_mgh, "nist": _of_nist, "hs": _of_hs}[name]()


def _of_mgh() -> list[Task]:
    return [
        Task(Case(row.name, row.loss, row.start, bool), tuple(sorted(row.minima)), row.residuals)
        for row in MGH.values()
    ]


def _of_nist() -> list[Task]:
    def loss(residuals: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda b: residuals(b).square().sum()

    return [
        Task(
            Case(f"{row.name}, {side}", loss(row.residuals), tuple(start.tolist()), bool), (row.squares,), row.residuals
        )
        for row in STRD.values()
        for side, start in zip(("far", "near"), row.starts, strict=True)
    ]


def _of_hs() -> list[Task]:
    def relative(violation: Callable[[Tensor], float]) -> Callable[[Tensor], float]:
        return lambda x: violation(x) / max(1.0, x.abs().max().item())

    return [
        Task(
            Case(row.name, row.loss, row.start, bool, row.bounds, row.equalities, row.inequalities),
            tuple(sorted((row.optimum, *row.others))),
            violation=relative(row.violation),
        )
        for row in HS.values()
    ]


def solvers_of(name: str) -> list[Solver]:
    """Those that run a set: all for "mgh", those with constraints for "hs", fits and a few others for "nist"."""
    if name == "hs":
        return [each for each in _local() if METHODS[each.name.split(",")[0].removeprefix("SciPy ")].constraints]
    every = [*_local(), *_least_squares(), Solver("torch.optim.LBFGS", "first order", _torch_lbfgs), *_torchmin()]
    if name == "mgh":
        return every
    few = ("BFGS", "SSBroyden", "L-BFGS-B", "trust-exact", "torch.optim.LBFGS")
    return [each for each in every if each.family == "least squares" or each.name in few]


# torchmin_nb and plain SciPy


def _local() -> Iterator[Solver]:
    families = {"value": "gradient-free", "gradient": "first order", "curvature": "second order"}
    for name, row in METHODS.items():
        for engine in row.engines:
            yield Solver(_named(name, engine), families[row.level], _ours(name, engine))
        if "scipy" in row.engines:
            yield Solver(f"SciPy {name}", families[row.level], _plain(name))


def _least_squares() -> Iterator[Solver]:
    for name, row in LEAST_SQUARES_METHODS.items():
        for engine in row.engines:
            yield Solver(_named(name, engine), "least squares", _our_fit(name, engine))
        if "scipy" in row.engines:
            yield Solver(f"SciPy {name}", "least squares", _plain_fit(name))


def _named(name: str, engine: str) -> str:
    return name if engine == "scipy" or name in ("SSBFGS", "SSBroyden", "gauss-newton") else f"{name}, torch engine"


def _options(row: Any) -> dict[str, Any]:
    """No end by choice: tight tolerances, no other limit than the budget."""
    tight = {
        option.name: TIGHT
        for option in row.options.values()
        if option.tolerance and option.name not in STEERING.get(row.name, ())
    }
    return tight | {option: ENDLESS for option in LIMITS if option in row.options}


class _Counted:
    """A wrapper that lends the running counts of its run to the meter. A Jacobian is n products."""

    meter: Meter

    def _calls(self, *given: Any) -> Calls:
        calls: Calls = super()._calls(*given)  # type: ignore[misc]
        self.meter.products = lambda: self._products(calls.counts)
        return calls

    def _products(self, counts: Counts) -> float:
        return counts.nhvp


class _Minimize(_Counted, MinimizeWrapper):
    pass


class _Fit(_Counted, LeastSquaresWrapper):
    def _products(self, counts: Counts) -> float:
        return counts.nhvp + self.meter.task.n * counts.njev


def _ours(method: str, engine: str) -> Callable[[Meter], None]:
    def run(meter: Meter) -> None:
        case, x = meter.task.case, _parameter(meter)
        limits = [(case.inequalities, np.inf), (case.equalities, 0.0)]
        constraints = [Constraint(fun, 0.0, upper) for fun, upper in limits if fun is not None]
        given = {"bounds": case.bounds, "constraints": constraints or None}
        arguments: dict[str, Any] = {"method": method, "options": _options(METHODS[method])}
        arguments |= {key: value for key, value in given.items() if value is not None}
        optimizer = _Minimize([x], arguments, engine=engine)
        optimizer.meter = meter
        optimizer.step(lambda: meter.loss(x))

    return run


def _our_fit(method: str, engine: str) -> Callable[[Meter], None]:
    def run(meter: Meter) -> None:
        x = _parameter(meter)
        arguments = {"method": method, **_options(LEAST_SQUARES_METHODS[method])}
        optimizer = _Fit([x], arguments, engine=engine)
        optimizer.meter = meter
        optimizer.step(lambda: meter.residuals(x))

    return run


class _Metered(Oracle):
    """What plain SciPy calls, counted: a Hessian is n products, and neither it nor a product is a call."""

    def __init__(self, meter: Meter):
        super().__init__(meter.task.case, torch.float64, ENDLESS)
        self.meter, self.products = meter, 0
        meter.products = lambda: self.products

    def value_and_gradient(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        leaf = self.tensor(x)
        loss = self.meter.loss(leaf)
        return loss.item(), torch.autograd.grad(loss, leaf)[0].numpy()

    def hessian(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        self.products += self.meter.task.n
        return super().hessian(x)

    def product(self, x: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        self.products += 1
        return super().product(x, v)


def _plain(method: str) -> Callable[[Meter], None]:
    def run(meter: Meter) -> None:
        spec, oracle, case = METHODS[method], _Metered(meter), meter.task.case
        given = {"bounds": case.bounds, "constraints": oracle.constraints(spec)}
        options = {name: value for name, value in _options(spec).items() if not spec.options[name].ours}
        scipy.optimize.minimize(
            oracle.value if spec.gradient == "none" else oracle.value_and_gradient,
            np.array(case.start),
            method=method,
            options=options,
            **oracle.derivatives(spec),
            **{key: value for key, value in given.items() if value},
        )

    return run


def _plain_fit(method: str) -> Callable[[Meter], None]:
    def run(meter: Meter) -> None:
        residuals, made = meter.task.residuals, []
        assert residuals is not None
        meter.products = lambda: meter.task.n * len(made)

        def jacobian(x: NDArray[np.float64]) -> NDArray[np.float64]:
            made.append(None)
            return torch.func.jacrev(residuals)(torch.tensor(x)).numpy()

        scipy.optimize.least_squares(
            lambda x: meter.residuals(torch.tensor(x)).numpy(),
            np.array(meter.task.case.start),
            jacobian,
            method=method,
            ftol=TIGHT,
            xtol=TIGHT,
            gtol=TIGHT,
            max_nfev=ENDLESS,
        )

    return run


# Peers


def _torch_lbfgs(meter: Meter) -> None:
    x = _parameter(meter)
    optimizer = torch.optim.LBFGS(
        [x],
        max_iter=ENDLESS,
        max_eval=ENDLESS,
        history_size=10,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = meter.loss(x)
        loss.backward()
        return loss

    optimizer.step(closure)


TORCHMIN: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "cg": ("first order", "", {"gtol": TIGHT}),
    "bfgs": ("first order", "", {"gtol": TIGHT, "xtol": TIGHT}),
    "l-bfgs": ("first order", "", {"gtol": TIGHT, "xtol": TIGHT, "history_size": 10}),
    "newton-cg": ("second order", "", {"xtol": TIGHT}),
    "newton-exact": ("second order", "dense", {"xtol": TIGHT}),
    "dogleg": ("second order", "dense", {"gtol": TIGHT}),
    "trust-ncg": ("second order", "", {"gtol": TIGHT}),
    "trust-krylov": ("second order", "", {"gtol": TIGHT}),
    "trust-exact": ("second order", "dense", {"gtol": TIGHT}),
}
"""By the method's name: family, whether it builds Hessians, options."""


def _torchmin() -> Iterator[Solver]:
    if find_spec("torchmin") is None:
        print("pytorch-minimize: not installed; pip install pytorch-minimize")
        return
    for method, (family, form, options) in TORCHMIN.items():
        yield Solver(f"pytorch-minimize {method}", family, _by_torchmin(method, form == "dense", options))


def _by_torchmin(method: str, dense: bool, options: Mapping[str, Any]) -> Callable[[Meter], None]:
    """Passes back through the graph are counted by a hook: the gradient of each call, and what comes besides."""

    def run(meter: Meter) -> None:
        from torchmin import minimize

        passes: list[None] = []
        meter.products = lambda: (len(passes) - meter.calls + 1) * (meter.task.n if dense else 1)  # one call has begun

        def fun(x: Tensor) -> Tensor:
            seen = x * 1.0
            seen.register_hook(lambda _: passes.append(None))
            return meter.loss(seen)

        start = torch.tensor(meter.task.case.start, dtype=torch.float64)
        minimize(fun, start, method, max_iter=ENDLESS, options=dict(options))

    return run


def _parameter(meter: Meter) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(meter.task.case.start, dtype=torch.float64))
