"""Each contender runs a problem with a method for a number of iterations and tells what it cost.

All get the same start, the same budget of iterations and tolerances of zero, so that none ends early by choice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from tests.benchmarks.problems import Problem
from torchmin_nb import MinimizeWrapper

__all__ = [
    "METHODS",
    "Contender",
    "NotOffered",
    "Outcome",
    "contenders_for",
    "floor",
    "on_device",
    "ours",
    "torch_lbfgs",
    "torchmin_minimizer",
    "torchmin_scipy",
    "torchmin_scipy_one_thread",
]


class Outcome(NamedTuple):
    """seconds of the run; loss at its end; calls of the closure; products with the Hessian, None if not known."""

    seconds: float
    loss: float
    calls: int
    products: int | None


class Method(NamedTuple):
    """One method under the names and options of SciPy and of torchmin."""

    scipy: str
    scipy_options: dict[str, Any]
    torchmin: str
    torchmin_options: dict[str, Any]
    curvature: bool = False


METHODS = {
    "L-BFGS": Method(
        "L-BFGS-B", {"maxcor": 10, "ftol": 0, "gtol": 0}, "l-bfgs", {"history_size": 10, "gtol": 0, "xtol": 0}
    ),
    "CG": Method("CG", {"gtol": 0}, "cg", {"gtol": 0}),
    "BFGS": Method("BFGS", {"gtol": 0}, "bfgs", {"gtol": 0, "xtol": 0}),
    "Newton-CG": Method("Newton-CG", {"xtol": 0}, "newton-cg", {"xtol": 0}, curvature=True),
    "trust-ncg": Method("trust-ncg", {"gtol": 0}, "trust-ncg", {"gtol": 0}, curvature=True),
}


class NotOffered(Exception):  # noqa: N818
    """The contender has no such method."""


Contender = Callable[[Problem, Method, int], Outcome]


class _Counted:
    def __init__(self, function: Callable[..., torch.Tensor]):
        self._function = function
        self.calls = 0

    def __call__(self, *args: Any) -> torch.Tensor:
        self.calls += 1
        return self._function(*args)


def ours(problem: Problem, method: Method, iterations: int, **settings: Any) -> Outcome:
    model = problem.fresh()
    closure = _Counted(problem.closure(model))
    options = {**method.scipy_options, "maxiter": iterations}
    optimizer = MinimizeWrapper(model.parameters(), {"method": method.scipy, "options": options}, **settings)
    seconds = _timed(lambda: optimizer.step(closure))
    totals = optimizer.history.totals
    assert totals is not None
    return Outcome(seconds, _end(problem, model), closure.calls, totals.nhvp)


def on_device(problem: Problem, method: Method, iterations: int) -> Outcome:
    """Ours by a solver on the device."""
    return ours(problem, method, iterations, engine="torch")


def torch_lbfgs(problem: Problem, method: Method, iterations: int) -> Outcome:
    if method.torchmin != "l-bfgs":
        raise NotOffered("L-BFGS only")
    model = problem.fresh()
    closure = _Counted(problem.closure(model))
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=iterations,
        max_eval=25 * iterations,
        history_size=10,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )
    seconds = _timed(lambda: optimizer.step(closure))
    return Outcome(seconds, _end(problem, model), closure.calls, 0)


def torchmin_minimizer(problem: Problem, method: Method, iterations: int) -> Outcome:
    from torchmin import Minimizer

    model = problem.fresh()

    def without_backward() -> torch.Tensor:
        model.zero_grad()
        return problem.loss(model)

    closure = _Counted(without_backward)
    optimizer = Minimizer(
        model.parameters(), method=method.torchmin, max_iter=iterations, options=dict(method.torchmin_options)
    )
    seconds = _timed(lambda: optimizer.step(closure))
    return Outcome(seconds, _end(problem, model), closure.calls, None if method.curvature else 0)


def torchmin_scipy(problem: Problem, method: Method, iterations: int) -> Outcome:
    from torchmin import ScipyMinimizer

    if method.scipy == "trust-ncg":
        raise NotOffered("passes SciPy neither hess nor hessp")
    model = problem.fresh()
    closure = _Counted(problem.closure(model))
    options = {**method.scipy_options, "maxiter": iterations}
    optimizer = ScipyMinimizer(model.parameters(), method=method.scipy, options=options)
    seconds = _timed(lambda: optimizer.step(closure))
    return Outcome(seconds, _end(problem, model), closure.calls, 0)


def torchmin_scipy_one_thread(problem: Problem, method: Method, iterations: int) -> Outcome:
    """What remains between ScipyMinimizer and ours when both leave BLAS one thread."""
    from torchmin_nb.core.runtime.blas_threads import blas_threads

    with blas_threads(1):
        return torchmin_scipy(problem, method, iterations)


def autograd_minimize(problem: Problem, method: Method, iterations: int) -> Outcome:
    from autograd_minimize import minimize

    named = {name: parameter.detach() for name, parameter in problem.model.named_parameters()}
    function = _Counted(lambda *values: problem.loss_at(dict(zip(named, values, strict=True))))
    ends: dict[str, Any] = {}

    def run() -> None:
        ends["result"] = minimize(
            function,
            [value.numpy() for value in named.values()],
            backend="torch",
            precision=str(problem.inputs.dtype).removeprefix("torch."),
            method=method.scipy,
            options={**method.scipy_options, "maxiter": iterations},
        )

    seconds = _timed(run)
    # Each of its products is a call of the function too, and counted as such.
    return Outcome(seconds, float(ends["result"].fun), function.calls, None if method.curvature else 0)


def contenders_for(method: Method) -> dict[str, Contender]:
    """ours first: ratios refer to it."""
    rivals: dict[str, Contender] = {
        "torchmin.Minimizer": torchmin_minimizer,
        "torchmin.ScipyMinimizer": torchmin_scipy,
        "  the same, BLAS on one thread": torchmin_scipy_one_thread,
        "autograd-minimize": autograd_minimize,
    }
    if method.torchmin == "l-bfgs":
        rivals = {"torch.optim.LBFGS": torch_lbfgs, **rivals}
    return {"torchmin_nb": ours, "  the same, engine='torch'": on_device, **rivals}


def floor(problem: Problem, calls: int, products: int) -> Outcome:
    """Nothing but the closure, and double backward through one graph, as often as asked."""
    model = problem.fresh()
    closure = problem.closure(model)
    parameters = list(model.parameters())
    seconds = _timed(lambda: [closure() for _ in range(calls)])
    if products:
        gradient = torch.autograd.grad(problem.loss(model), parameters, create_graph=True)
        weights = [torch.ones_like(part) for part in gradient]
        seconds += _timed(
            lambda: [
                torch.autograd.grad(gradient, parameters, weights, retain_graph=True, allow_unused=True)
                for _ in range(products)
            ]
        )
    return Outcome(seconds, float("nan"), calls, products)


@torch.no_grad()
def _end(problem: Problem, model: torch.nn.Module) -> float:
    return float(problem.loss(model))


def _timed(action: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun
