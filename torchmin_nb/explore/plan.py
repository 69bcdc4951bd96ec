"""The calls of a run, each as code and as a value together: the shown code is the code that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack, cast

import torch

from ..core.methods.global_search import GLOBAL_METHODS, GlobalSpec
from ..core.optimizers.base import ScipyOptimizer
from ..core.optimizers.common import COMMON, Common
from ..core.optimizers.global_search import (
    BasinHoppingWrapper,
    BruteWrapper,
    DifferentialEvolutionWrapper,
    DirectWrapper,
    DualAnnealingWrapper,
    SHGOWrapper,
)
from ..core.optimizers.least_squares import LeastSquaresWrapper
from ..core.optimizers.minimize import MinimizeWrapper
from ..core.signatures import shares_parameters, shows_keywords
from ..errors import ArgumentError
from ..problems import Problem
from .call import Call
from .catalogue import GLOBAL, LEAST_SQUARES, LOCAL
from .literal import literal

__all__ = ["Piece", "Plan", "build", "plan"]

_GLOBAL: Mapping[str, type[ScipyOptimizer]] = {
    wrapper.spec.name: wrapper
    for wrapper in (
        BasinHoppingWrapper,
        BruteWrapper,
        DifferentialEvolutionWrapper,
        DirectWrapper,
        DualAnnealingWrapper,
        SHGOWrapper,
    )
}


@dataclass(frozen=True)
class Piece:
    """A part of a call: Python code, in which `problem` is the Problem, and its value."""

    code: str
    value: Any


@dataclass(frozen=True)
class Plan:
    """wrapper(*arguments, **keywords), then step(closure)."""

    wrapper: type[ScipyOptimizer]
    arguments: tuple[Piece, ...]
    keywords: Mapping[str, Piece]
    closure: Piece


def plan(call: Call, problem: Problem) -> Plan:
    """How a call is made on a problem: wrapper, arguments and closure, each as a value and as code.

    Parameters
    ----------
    call : Call
        The run.
    problem : Problem
        The problem, as ``call.make()`` makes it.

    Returns
    -------
    Plan
        ``wrapper``, ``arguments``, ``keywords`` and ``closure``.

    Raises
    ------
    ArgumentError
        If the problem lacks what the method needs.

    Examples
    --------
    >>> call = Call("Rosenbrock", "BFGS", max_evaluations=50)
    >>> made = plan(call, call.make())
    >>> made.wrapper.__name__, {name: piece.code for name, piece in made.keywords.items()}
    ('MinimizeWrapper', {'max_evaluations': '50'})
    """
    return _PLANS[call.entry.kind](call, problem)


@shares_parameters(Common)
@shows_keywords(COMMON)
def build(
    call: Call, problem: Problem | None = None, **common: Unpack[Common]
) -> tuple[ScipyOptimizer, Callable[[], torch.Tensor]]:
    """The optimizer and the closure of a call.

    Parameters
    ----------
    call : Call
        The run.
    problem : Problem or None, optional
        The problem. Default: a new one.
    {shared}

    Returns
    -------
    optimizer : ScipyOptimizer
        A wrapper, such as `MinimizeWrapper`.
    closure : callable
        What its ``step`` takes.

    Raises
    ------
    ArgumentError
        If the problem lacks what the method needs, and what the constructor of the wrapper raises.

    Examples
    --------
    >>> optimizer, closure = build(Call("Rosenbrock", "BFGS"))
    >>> optimizer.step(closure).item() < 1e-8
    True
    """
    made = plan(call, call.make() if problem is None else problem)
    keywords = {name: piece.value for name, piece in made.keywords.items()}
    callbacks = [*_listed(keywords.pop("callbacks", ())), *_listed(common.pop("callbacks", ()))]
    construct: Any = made.wrapper  # each wrapper has another signature
    optimizer = construct(*(piece.value for piece in made.arguments), callbacks=callbacks, **keywords, **common)
    return optimizer, made.closure.value


def _listed(callbacks: Any) -> list[Any]:
    return [callbacks] if callable(callbacks) else list(callbacks)


def _local(call: Call, problem: Problem) -> Plan:
    options = _literal({**call.options, **_limit(call)})
    parts: dict[str, Piece] = {"method": _literal(call.entry.name)}
    if options.value:
        parts["options"] = options
    if call.tol is not None:
        parts["tol"] = _literal(call.tol)
    if call.constraints and problem.constraints:
        parts["constraints"] = Piece("problem.constraints", problem.constraints)
    arguments = (_parameters(call, problem), _keywords(parts) if len(parts) > 1 else parts["method"])
    return Plan(MinimizeWrapper, arguments, {**_engine(call), **_budgets(call)}, _closure(problem))


def _least_squares(call: Call, problem: Problem) -> Plan:
    if problem.residuals is None:
        raise ArgumentError(f"{call.method} needs residuals, and {call.title} has none; choose a method for a loss")
    parts = {"method": _literal(call.entry.name)} | {name: _literal(value) for name, value in call.options.items()}
    arguments = (_parameters(call, problem), _keywords(parts) if len(parts) > 1 else parts["method"])
    keywords = {**_engine(call), **_budgets(call)}
    return Plan(LeastSquaresWrapper, arguments, keywords, Piece("problem.residuals", problem.residuals))


def _global(call: Call, problem: Problem) -> Plan:
    entry, spec = call.entry, cast("GlobalSpec", call.entry.spec)
    wrapper = _GLOBAL[entry.name]
    parts = {name: _literal(value) for name, value in {**call.options, **_limit(call)}.items()}
    if spec.stochastic and not {"rng", "seed"} & set(call.options):
        parts["rng"] = _literal(call.seed)
    if entry.needs_bounds and problem.bounds is None and problem.window is not None:
        parts["bounds"] = Piece("list(problem.window)", list(problem.window))
    keywords = _budgets(call)
    if call.constraints and problem.constraints:
        if not spec.constraints:
            able = ", ".join(each.name for each in GLOBAL_METHODS.values() if each.constraints)
            raise ArgumentError(f"{entry.name} does not accept constraints; switch them off, or choose one of {able}")
        constraints = Piece("problem.constraints", problem.constraints)
        if "constraints" in spec.options:
            parts["constraints"] = constraints
        else:
            keywords["minimizer_args"] = _keywords({"constraints": constraints})
    if parts:
        keywords["search_args"] = _keywords(parts)
    return Plan(wrapper, (_parameters(call, problem),), keywords, _closure(problem))


_PLANS: Mapping[str, Callable[[Call, Problem], Plan]] = {
    LOCAL: _local,
    LEAST_SQUARES: _least_squares,
    GLOBAL: _global,
}


def _parameters(call: Call, problem: Problem) -> Piece:
    if not call.bounds or problem.bounds is None:
        return Piece("problem.parameters", list(problem.parameters))
    group = {"params": list(problem.parameters), "bounds": problem.bounds}
    return Piece('[{"params": problem.parameters, "bounds": problem.bounds}]', [group])


def _closure(problem: Problem) -> Piece:
    return Piece("problem.closure", problem.closure)


def _engine(call: Call) -> dict[str, Piece]:
    return {} if call.engine is None else {"engine": _literal(call.engine)}


def _limit(call: Call) -> dict[str, int]:
    """The budget of iterations as the method's option, if it has one; the smaller of the two."""
    name = call.entry.limit
    if call.max_iterations is None or name is None:
        return {}
    maxiter = call.options.get(name)
    return {name: call.max_iterations if maxiter is None else min(maxiter, call.max_iterations)}


def _budgets(call: Call) -> dict[str, Piece]:
    limits = {"max_evaluations": call.max_evaluations, "max_seconds": call.max_seconds}
    budgets = {name: _literal(value) for name, value in limits.items() if value is not None}
    limit = call.max_iterations
    if limit is not None and call.entry.limit is None:
        code = f"lambda iteration: iteration.index >= {limit}"
        budgets["callbacks"] = Piece(code, lambda iteration: iteration.index >= limit)
    return budgets


def _literal(value: Any) -> Piece:
    return Piece(literal(value), value)


def _keywords(parts: Mapping[str, Piece]) -> Piece:
    code = ", ".join(f"{name}={piece.code}" for name, piece in parts.items())
    return Piece(f"dict({code})", {name: piece.value for name, piece in parts.items()})
