"""Rules about constraints and bounds: infeasible, dependent gradients (LICQ), a bound with a wrong multiplier."""

from __future__ import annotations

import numpy as np

from ...core.execution.optimality import tolerances_in_words
from ..examination import KKT, Examination
from ..feasibility import wrong_bounds
from ..finding import Evidence, Rule, measured
from ..remedy import Change, Remedy, changed_call, first_fitting

__all__ = ["DEPENDENT", "INFEASIBLE", "NOT_STATIONARY", "REDUNDANT", "ROUGHLY_STATIONARY", "WRONG_BOUND"]

_FEASIBLE, _NEARLY = 1e-5, 1e-3
_LARGE = 100.0
"""Multipliers of this size, for gradients of length 1, are a sign that there are none."""
_METHODS = ("SLSQP", "trust-constr", "COBYQA")


def _infeasible(e: Examination) -> list[Evidence] | None:
    found = e.feasibility
    if found is None or found.violation <= _FEASIBLE or _stops_a_feasible_run(e):
        return None
    meaning = (
        "the least that was reached: the constraints contradict each other near here"
        if found.least > _FEASIBLE
        else "was reached from here, so there are points that satisfy all constraints"
    )
    return [
        measured("constraint violation", found.violation, "at the end point; 0 is feasible"),
        measured("smallest violation", found.least, meaning),
    ]


def _contradictory(e: Examination) -> bool:
    """Whether no point near the end satisfies the constraints."""
    return e.feasibility is not None and e.feasibility.least > _FEASIBLE


def _stops_a_feasible_run(e: Examination) -> bool:
    """Whether gradients that depend on each other ended a run that could have become feasible."""
    found = e.feasibility
    if found is None or found.least > _FEASIBLE or found.rank >= found.active:
        return False
    return e.ending.kind == "constraints" or found.violation <= _NEARLY


def _infeasible_verdict(e: Examination) -> str:
    if _contradictory(e):
        return "The problem is infeasible: no point near the end satisfies all constraints; they contradict each other."
    return "The run ended at an infeasible point, although there are points that satisfy all constraints."


def _infeasible_remedies(e: Examination) -> list[Remedy]:
    found, subject = e.feasibility, e.subject
    loosen = Remedy(
        "Loosen or drop the constraints that contradict each other, or add their violation to the loss as a penalty.",
        "Constraint(function, lower=-0.1, upper=0.1)",
        "it needs a decision about the problem",
    )
    if found is None or found.least > _FEASIBLE or found.z_feasible is None:
        return [loosen]
    start = subject.variables.to_user(found.z_feasible)
    other = first_fitting(subject, *_METHODS)
    return [
        changed_call(subject, "Start at the feasible point that was found.", Change(start=start)),
        changed_call(subject, "And use another method.", Change(method=other, start=start)),
    ]


INFEASIBLE = Rule(
    "infeasible",
    _infeasible,
    _infeasible_verdict,
    _infeasible_remedies,
    "J. Nocedal, S. J. Wright, Numerical Optimization (2006), section 15.4",
)


def _dependent(e: Examination) -> list[Evidence] | None:
    return None if _is_harmless(e) else _dependence(e)


def _redundant(e: Examination) -> list[Evidence] | None:
    return _dependence(e) if _is_harmless(e) else None


def _is_harmless(e: Examination) -> bool:
    """Whether the method has converged nevertheless, with multipliers of a usual size."""
    return e.feasibility is None or (e.converged and e.feasibility.multiplier < _LARGE)


def _dependence(e: Examination) -> list[Evidence] | None:
    found = e.feasibility
    if found is None or found.rank >= found.active or _contradictory(e):
        return None
    return [
        measured("active constraints", found.active, "with the bounds that hold"),
        measured("rank of their gradients", found.rank, "smaller: multipliers are not unique, or do not exist"),
        measured("size of the multipliers", found.multiplier, "for gradients of length 1"),
    ]


def _independent(e: Examination) -> Remedy:
    return Remedy(
        "Drop constraints that say the same twice, and write squared ones, c(x)² = 0, as c(x) = 0.",
        "constraints=[Constraint(function, lower=0, upper=0)]",
        "it needs a decision about the problem",
    )


DEPENDENT = Rule(
    "dependent constraints (LICQ)",
    _dependent,
    lambda e: (
        "The Jacobian of the constraints is rank-deficient: the gradients of the active constraints are linearly "
        "dependent there (LICQ does not hold), so multipliers may not exist."
    ),
    lambda e: [
        _independent(e),
        *(
            [changed_call(e.subject, "A method that needs no independent gradients.", Change(method=other))]
            if (other := first_fitting(e.subject, "COBYQA", "trust-constr"))
            else []
        ),
    ],
    "J. Nocedal, S. J. Wright, Numerical Optimization (2006), section 12.2",
)

REDUNDANT = Rule(
    DEPENDENT.name,
    _redundant,
    lambda e: (
        "The gradients of the active constraints are linearly dependent at the end point (LICQ does not hold): the "
        "multipliers are not unique."
    ),
    lambda e: [_independent(e)],
    DEPENDENT.source,
)
"""The same beside a run that has converged, so after that verdict."""


def _not_stationary(e: Examination) -> list[Evidence] | None:
    return None if e.converged else _off_by(e)


def _roughly_stationary(e: Examination) -> list[Evidence] | None:
    return _off_by(e) if e.converged else None


def _off_by(e: Examination) -> list[Evidence] | None:
    residual = e.subject.end.get("kkt_residual")
    if not e.subject.constraints or not e.here.finite or residual is None or residual <= KKT or _contradictory(e):
        return None
    if e.ending.kind not in ("success", "search", "constraints", "other"):
        return None
    rows = {} if e.subject.spec is None else e.subject.spec.options
    words = tolerances_in_words(rows, e.subject.options, e.subject.arguments.get("tol"))
    return [
        measured("KKT residual", float(residual), "relative to gradient and loss; 0 at a solution"),
        measured("gradient norm", e.slope, f"of the loss; tolerances: {words or 'those of the method'}"),
    ]


def _exact_remedies(e: Examination) -> list[Remedy]:
    subject = e.subject
    rows = {} if subject.spec is None else subject.spec.options
    tight = {row.name: 1e-10 for row in rows.values() if row.tolerance and row.kind == "float"}
    remedies = [changed_call(subject, "Use smaller tolerances.", Change(options=tight))] if tight else []
    other = first_fitting(subject, "SLSQP", "trust-constr")
    if other is not None:
        remedies.append(changed_call(subject, "Continue from here with another method.", Change(other)))
    return remedies


NOT_STATIONARY = Rule(
    "not stationary (KKT)",
    _not_stationary,
    lambda e: (
        "The conditions of a constrained minimum (KKT) do not hold at the end point, "
        + ("although the method reports success: " if e.ending.claims_success else "where the method gave up: ")
        + "no multipliers of the constraints balance the gradient of the loss."
    ),
    _exact_remedies,
    "J. Nocedal, S. J. Wright, Numerical Optimization (2006), theorem 12.1",
)

ROUGHLY_STATIONARY = Rule(
    NOT_STATIONARY.name,
    _roughly_stationary,
    lambda e: "The end point is near a constrained minimum (KKT), but only roughly: the method's tolerances are wide.",
    _exact_remedies,
    NOT_STATIONARY.source,
)
"""The same beside a run that has converged, so after that verdict."""


def _wrong_bound(e: Examination) -> list[Evidence] | None:
    passing = e.ending.kind in ("limit", "stopped", "paused", "none")
    if e.gradient is None or e.subject.constraints or not e.here.finite or passing:
        return None
    indices, slopes = wrong_bounds(e.lab, e.gradient)
    if not len(indices) or float(np.abs(slopes).max()) < 0.3 * e.slope or e.converged:
        return None
    order = np.argsort(-np.abs(slopes))[:4]
    names = e.subject.entry_names()
    return [
        measured(names[indices[i]], float(slopes[i]), "its slope at the bound: the loss falls away from the bound")
        for i in order
    ]


WRONG_BOUND = Rule(
    "bound with a wrong multiplier",
    _wrong_bound,
    lambda e: (
        "A bound is active with a wrong multiplier: the loss falls away from the bound, yet the variable stays there."
    ),
    lambda e: [
        changed_call(
            e.subject,
            "Continue from here with a method that leaves bounds again.",
            Change(method=first_fitting(e.subject, "L-BFGS-B", "TNC", "trust-constr")),
        )
    ],
    "J. Nocedal, S. J. Wright, Numerical Optimization (2006), section 12.3",
)
