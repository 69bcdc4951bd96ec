"""Rules about the shape of the loss: saddles, plateaus, scales, condition, flat directions, sums of squares."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..ending import iterations_missing
from ..examination import Examination
from ..finding import Evidence, Rule, measured, number
from ..remedy import Change, Remedy, changed_call, first_fitting
from ..slopes import sizes_of
from ..symmetry import told_apart

__all__ = [
    "BADLY_SCALED",
    "FLAT",
    "ILL_CONDITIONED",
    "NO_MINIMUM",
    "SADDLE",
    "SEPARABLE",
    "SMALL_MEMORY",
    "SUM_OF_SQUARES",
    "TAIL",
    "UNIDENTIFIABLE",
    "UNSETTLED",
]

_NOCEDAL = "J. Nocedal, S. J. Wright, Numerical Optimization (2006)"
_SHOWN = 4
_SECOND_ORDER = ("trust-exact", "trust-krylov", "trust-ncg", "TNC", "trust-constr")
_MANY = 50
"""Iterations after which a slow run is not a short one. A few products see only a part of a large condition number."""
_HUGE = 1e8
"""With a condition number like this, as many iterations as variables are no short run, whatever its pace was."""
_ENDLESS = 1e10
"""A loss this many times below its first one, and below 0, has no bound."""
_NOTHING = 1e-10
"""A loss that changes by less than this over the size of the point is flat, whatever its own size."""
_QUASI_NEWTON = ("SSBroyden", "BFGS", "L-BFGS-B", "trust-krylov")


def _kappa(e: Examination) -> Evidence:
    curvature = e.curvature
    assert curvature is not None
    sure = "" if curvature.whole else "at least "
    text = sure + number(curvature.condition)
    return measured("condition number κ", curvature.condition, "largest over smallest curvature", text=text)


# Saddle


def _saddle(e: Examination) -> list[Evidence] | None:
    if not e.here.finite or not (e.saddle or e.degenerate or e.alike):
        return None
    if e.alike:
        assert e.curvature is not None
        tensors = e.subject.flat.tensors
        return [
            *(
                measured(e.subject.tensor_name(index), len(tensors[index]), "units with the same weights in and out")
                for index in e.alike
            ),
            measured("gradient norm", e.slope, "the same for each of these units"),
            measured("lowest eigenvalue", e.curvature.lowest, f"of the Hessian; highest {e.curvature.highest:.3g}"),
        ]
    if e.degenerate and e.lower_nearby is not None:
        fall, distance = e.lower_nearby
        return [
            measured("gradient norm", e.slope, "so small that methods take the point for a minimum"),
            measured("decrease", fall, f"of the loss at a point {distance:.3g} away: it is no minimum"),
        ]
    curvature, gain = e.curvature, e.gain_downhill
    assert curvature is not None
    assert gain is not None
    return [
        measured("lowest eigenvalue", curvature.lowest, f"of the Hessian; highest {curvature.highest:.3g}"),
        measured("gradient norm", e.slope, "so small that methods take the point for a minimum"),
        measured("decrease", gain[0], f"of the loss at a distance of {abs(gain[1]):.3g} along that direction"),
    ]


def _saddle_verdict(e: Examination) -> str:
    ignores = "" if e.subject.curved else f", which {e.subject.method or 'the method'} does not see"
    values = e.subject.views(e.subject.x)
    zero = [e.subject.tensor_name(i) for i, t in enumerate(values) if t.dim() > 1 and not bool(t.any())]
    are = "is" if len(zero) == 1 else "are"
    flat = f" The start is flat: {', '.join(zero[:_SHOWN])} {are} all zero." if zero else ""
    if e.alike:
        names = ", ".join(e.subject.tensor_name(index) for index in e.alike)
        return (
            f"The run stands at a saddle point of symmetry: all units of {names} are alike, so they get the same "
            f"gradient, and no method tells them apart.{flat}"
        )
    if e.degenerate:
        return f"The run stands at a degenerate saddle point: gradient and curvature are 0, it falls nearby.{flat}"
    return f"The run stands at a saddle point: the Hessian is indefinite, with a negative eigenvalue{ignores}.{flat}"


def _saddle_remedies(e: Examination) -> list[Remedy]:
    curvature, gain, subject = e.curvature, e.gain_downhill, e.subject
    if e.alike:
        start = told_apart(subject, e.alike)
        return [changed_call(subject, "Draw these weights at random, so that the units differ.", Change(start=start))]
    if gain is None or curvature is None or e.degenerate:
        random = np.random.default_rng(5).choice([-0.02, 0.02], e.lab.z.size)
        beside = subject.variables.to_user(e.lab.inside(e.lab.z + random * sizes_of(e.lab)))
        return [changed_call(subject, "Start a little beside this point.", Change(start=beside))]
    start = subject.variables.to_user(e.lab.inside(e.lab.z + gain[1] * curvature.direction))
    other = first_fitting(subject, *_SECOND_ORDER)
    remedies = [changed_call(subject, "Step along the direction of negative curvature and go on.", Change(start=start))]
    if other is not None and not subject.residuals:
        what = "Step along it, and use a method that follows negative curvature."
        remedies.insert(0, changed_call(subject, what, Change(method=other, start=start)))
    return remedies


SADDLE = Rule("saddle", _saddle, _saddle_verdict, _saddle_remedies, f"{_NOCEDAL}, section 2.1 and theorem 4.1")


# Plateau


def _flat(e: Examination) -> list[Evidence] | None:
    curvature = e.curvature
    if not e.here.finite or curvature is None or e.gradient is None:
        return None
    reach = 1 + float(np.linalg.norm(e.lab.z))
    bend = max(abs(curvature.highest), abs(curvature.lowest)) * reach**2 + e.slope * reach
    level = bend <= 1e-6 * abs(e.here.loss) and e.flat_far is not None and e.flat_far <= 1e-6
    if not (level or _vanishes(e, bend)):
        return None
    return [
        measured("gradient norm", e.slope, "almost nothing says where to go"),
        measured("largest curvature", curvature.highest, "and nothing bends"),
        measured("change of the loss", e.flat_far, "relative, when each variable moves by a tenth of its size"),
    ]


def _vanishes(e: Examination, bend: float) -> bool:
    """Whether the loss is the end of an exponential: almost 0, and much lower a little nearer to where it is not."""
    if bend > _NOTHING or e.ending.fell > 1e-3 * abs(e.ending.first) or not e.far_changes:
        return False
    return -_NOTHING < min(e.far_changes) < -100 * abs(e.here.loss) < 0


FLAT = Rule(
    "flat start",
    _flat,
    lambda e: (
        "The start is flat: the run stands on a plateau, where the loss does not change and the gradient vanishes."
    ),
    lambda e: [
        Remedy(
            "Start somewhere else, nearer to the solution; several starts show where the loss falls.",
            "multistart(optimizer, closure, 20)",
            "it needs a region in which to start",
        )
    ],
    f"{_NOCEDAL}, section 2.2",
)


# Scales


def _badly_scaled(e: Examination) -> list[Evidence] | None:
    curvature = e.curvature
    if not e.here.finite or e.converged or curvature is None or not curvature.highest > 0 or e.tolerance_is_why:
        return None
    if curvature.condition < (1e6 if e.ending.kind == "limit" else 1e4):
        return None
    scaling = e.scaling
    if scaling is None or not scaling.after <= scaling.before / 100 or np.ptp(np.log10(scaling.sizes)) < 2:
        return None
    names, order = e.subject.entry_names(), np.argsort(scaling.sizes)
    ends = f"{scaling.sizes[order[0]]:.1g} for {names[order[0]]}, {scaling.sizes[order[-1]]:.1g} for {names[order[-1]]}"
    return [
        _kappa(e),
        measured("κ after scaling", scaling.after, "if each variable is divided by its own typical size"),
        measured(
            "typical sizes",
            (float(scaling.sizes.min()), float(scaling.sizes.max())),
            "by the curvature along each variable",
            text=ends,
        ),
    ]


def _scale_remedies(e: Examination) -> list[Remedy]:
    scaling, subject = e.scaling, e.subject
    assert scaling is not None
    variables = subject.variables
    free = variables.direction_to_user(scaling.sizes)
    sizes = np.where(free > 0, free, 1.0)
    powers = np.asarray(10.0 ** np.round(np.log10(sizes)), dtype=np.float64)
    return [changed_call(subject, "Give each parameter its typical size.", Change(sizes=powers))]


BADLY_SCALED = Rule(
    "badly scaled parameters",
    _badly_scaled,
    lambda e: (
        "The parameters are badly scaled: their typical sizes differ by "
        f"{10 ** float(np.ptp(np.log10(e.scaling.sizes))):.0e}, which makes the problem ill-conditioned; "  # type: ignore[union-attr]
        "scaling mends it."
    ),
    _scale_remedies,
    f"{_NOCEDAL}, section 2.2 (scaling)",
)


# Condition


def _small_memory(e: Examination) -> list[Evidence] | None:
    name = next((each for each in ("maxcor", "history_size") if e.subject.option(each) is not None), None)
    slow = e.ending.kind in ("limit", "stalled")
    if name is None or not slow or not e.here.finite or e.converged or e.curvature is None:
        return None
    memory, n = int(e.subject.option(name)), e.subject.variables.n
    if memory >= min(n, 10) or e.curvature.condition < 100:
        return None
    return [
        measured(f"memory m ({name})", memory, f"remembered steps, for {n} variables"),
        _kappa(e),
    ]


def _memory_remedies(e: Examination) -> list[Remedy]:
    name = "maxcor" if e.subject.option("maxcor") is not None else "history_size"
    more = max(30, 3 * int(e.subject.option(name)))
    if e.subject.spec is None:
        change = Change(method="L-BFGS-B", options={"maxcor": more}, engine="torch")
        return [changed_call(e.subject, "Remember more steps.", change)]
    return [changed_call(e.subject, "Remember more steps.", Change(options={name: more}))]


SMALL_MEMORY = Rule(
    "memory too small",
    _small_memory,
    lambda e: (
        "The memory of the method is too small: L-BFGS with so few remembered steps (m) is slow on such curvatures."
    ),
    _memory_remedies,
    f"{_NOCEDAL}, section 7.2",
)


def _ill_conditioned(e: Examination) -> list[Evidence] | None:
    curvature = e.curvature
    if not e.here.finite or e.converged or curvature is None or not curvature.highest > 0 or e.unsettled is not None:
        return None
    missing, done = iterations_missing(e.subject, e.predicted or 0.0), e.ending.iterations
    hopeless = curvature.whole and not e.layered and curvature.condition >= _HUGE and done >= e.subject.variables.n
    slow = e.ending.kind != "limit" or missing is None or missing > (done if done >= _MANY else 5 * done) or hopeless
    long, large = (min(20, e.subject.variables.n), 1e5) if curvature.whole else (_MANY, 1e3)
    if e.subject.spec is None and e.subject.option("history_size") is None:
        large = 1e3  # steps down the gradient need as many iterations
    if curvature.condition < large or done < long or not slow or e.ending.kind == "none":
        return None
    return [
        _kappa(e),
        measured("predicted decrease", e.predicted, "of a Newton step: the loss could still fall by this"),
        measured("iterations", e.ending.iterations, "done so far"),
    ]


def _unsettled(e: Examination) -> list[Evidence] | None:
    if not e.here.finite or e.unsettled is None:
        return None
    return [
        _kappa(e),
        measured("step left", e.unsettled, "of a Newton step along a flat direction, relative to the parameters"),
        measured("gradient norm", e.slope, "satisfies the tolerances, as the loss is flat there"),
        measured("predicted decrease", e.predicted, "of a Newton step: little of the loss, much of the parameters"),
    ]


def _stronger(e: Examination) -> list[Remedy]:
    """A method with more memory of curvature, or with exact curvature."""
    subject, remedies = e.subject, []
    other = first_fitting(subject, *_QUASI_NEWTON)
    if subject.residuals:
        what = "Another method of least squares."
        return [] if other is None else [changed_call(subject, what, Change(other))]
    if other is not None:
        engine = "torch" if other.startswith("SS") else None
        remedies.append(
            changed_call(subject, "A quasi-Newton method with a full matrix.", Change(other, engine=engine))
        )
    second = first_fitting(subject, *_SECOND_ORDER)
    if second is not None and not subject.curved:
        remedies.append(changed_call(subject, "A method with exact curvature.", Change(second)))
    return remedies + _as_residuals(e)


ILL_CONDITIONED = Rule(
    "ill-conditioned",
    _ill_conditioned,
    lambda e: (
        f"The problem is ill-conditioned: the condition number κ of the Hessian is about {e.curvature.condition:.0e}, "  # type: ignore[union-attr]
        f"and {e.subject.method or 'the method'} moves slowly along the flat directions."
        + (" The loss is a sum of squares: least squares would do better." if e.squares else "")
    ),
    _stronger,
    f"{_NOCEDAL}, sections 3.3 and 6.4",
)


UNSETTLED = Rule(
    ILL_CONDITIONED.name,
    _unsettled,
    lambda e: (
        f"The problem is ill-conditioned: the condition number κ of the Hessian is about {e.curvature.condition:.0e}. "  # type: ignore[union-attr]
        f"The method reports success, but along the flat directions the parameters are still {_percent(e.unsettled)} "
        "from the minimum."
    ),
    lambda e: [*_tighter(e), *_stronger(e)],
    ILL_CONDITIONED.source,
)


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0.0):.0f} %"


def _tighter(e: Examination) -> list[Remedy]:
    rows = e.subject.spec.options.values() if e.subject.spec is not None else ()
    tight = {row.name: 1e-12 for row in rows if row.tolerance and row.kind == "float"}
    return [changed_call(e.subject, "Use smaller tolerances.", Change(options=tight))] if tight else []


# Sums of squares


def _as_residuals(e: Examination) -> list[Remedy]:
    if not e.squares or e.subject.constraints:
        return []
    method = "trf" if e.subject.bounded else "lm"
    return [
        Remedy(
            "Least squares, which sees each residual: let the closure return the residuals in place of their squares.",
            f"def residuals():\n    return model(inputs) - targets\n\n"
            f'LeastSquaresWrapper(model.parameters(), "{method}").step(residuals)',
            "the closure returns the sum of squares, not the residuals",
        )
    ]


def _sum_of_squares(e: Examination) -> list[Evidence] | None:
    """A fit whose residuals are not linear in the parameters: of linear ones, the condition number says all."""
    if not e.here.finite or e.converged or not _as_residuals(e) or e.ending.kind not in ("limit", "search", "stalled"):
        return None
    missing = iterations_missing(e.subject, e.predicted or 0.0)
    quick = missing is not None and missing < e.ending.iterations
    small = e.subject.flat.n <= 50 and not e.subject.gradient_free
    if e.ending.iterations < _MANY or quick or not small or e.quadratic is not False:
        return None
    return [
        Evidence("graph of the loss", "a sum of squares", "its residuals say more than their sum"),
        measured("iterations", e.ending.iterations, "were not enough for this method"),
        *([_kappa(e)] if e.curvature is not None else []),
    ]


SUM_OF_SQUARES = Rule(
    "sum of squares",
    _sum_of_squares,
    lambda e: (
        "The loss is a sum of squares, and the method sees only the sum: least squares would do with fewer steps."
    ),
    lambda e: _as_residuals(e) + _stronger(e)[:1],
    f"{_NOCEDAL}, chapter 10",
)


# Flat directions


def _unidentifiable(e: Examination) -> list[Evidence] | None:
    if not e.here.finite or not e.converged or e.subject.constraints or e.layered or e.unmoved or e.runaway is not None:
        return None
    directions = e.flat_directions
    if directions is None or not len(directions) or (e.watch.softmax and _shifts_all_classes(e, directions)):
        return None
    return [
        measured("flat directions", len(directions), f"of {e.subject.variables.n}: the Hessian is zero along them"),
        *(
            measured(
                f"direction {i + 1}",
                tuple(row.tolist()),
                "the loss stays the same along it, also far away",
                text=_mix(e, row),
            )
            for i, row in enumerate(directions[:3])
        ),
    ]


def _shifts_all_classes(e: Examination, directions: Any) -> bool:
    """Whether every direction adds the same to all classes, which a softmax does not see.

    Classes are the rows of a layer's weight, and the columns of a matrix that is multiplied from the right.
    """
    for row in directions:
        for part in e.subject.views(e.subject.variables.direction_to_user(row)):
            columns = part.reshape(part.shape[0] if part.dim() else 1, -1)
            if all(float((columns - columns.mean(axis, keepdim=True)).abs().max()) > 1e-4 for axis in (0, 1)):
                return False
    return True


def _mix(e: Examination, row: Any) -> str:
    names, order = e.subject.entry_names(), np.argsort(-np.abs(row), kind="stable")
    largest = float(np.abs(row[order[0]]))
    kept = [i for i in order[:_SHOWN] if abs(row[i]) > 0.05 * largest]
    return " ".join(f"{row[i] / largest * math.copysign(1, row[order[0]]):+.2g}·{names[i]}" for i in kept)


def _undetermined(e: Examination) -> str:
    directions = e.flat_directions
    assert directions is not None
    names, weight = e.subject.entry_names(), np.abs(directions).max(0)
    order = np.argsort(-weight, kind="stable")
    kept = [names[i] for i in order[:_SHOWN] if weight[i] > 0.05 * weight.max()]
    return ", ".join(kept) + (", ..." if int((weight > 0.05 * weight.max()).sum()) > _SHOWN else "")


UNIDENTIFIABLE = Rule(
    "unidentifiable parameters",
    _unidentifiable,
    lambda e: (
        f"Converged, but parameters are unidentifiable: the Hessian has a null space, and the loss does not determine "
        f"{_undetermined(e)}, which can move together without a change."
    ),
    lambda e: [
        Remedy(
            "Fix one of them, combine them into one parameter, add data that tells them apart, or a small penalty.",
            "return loss + 1e-6 * sum(p.square().sum() for p in model.parameters())",
            "it needs a decision about the model",
        )
    ],
    "A. Raue et al., Structural and practical identifiability analysis (Bioinformatics 2009)",
)


# No minimum


def _endless(e: Examination) -> list[Evidence] | None:
    """A loss that falls faster and faster the further away."""
    if e.ending.kind in ("none", "paused", "stopped") or e.subject.constraints or not e.here.finite:
        return None
    if e.here.loss < -_ENDLESS * (1 + abs(e.ending.first)) or _falls_steadily(e):
        return [measured("loss", e.here.loss, f"from {e.ending.first:.3g}: it falls without end")]
    if e.runaway is None:
        return None
    _, near, far = e.runaway
    return _away(e) if near - far > 5 * (e.here.loss - near) else None


def _falls_steadily(e: Examination) -> bool:
    """Whether a long run ended far below 0 at its limit, and fell as fast at last as before."""
    losses = np.asarray(e.subject.history.loss, dtype=float)
    far = e.here.loss < -10 * (1 + abs(e.ending.first))
    if e.ending.kind != "limit" or len(losses) < 2 * _MANY or not far or not np.isfinite(losses).all():
        return False
    middle, late, last = losses[[len(losses) // 2, 3 * len(losses) // 4, -1]]
    return bool(late - last >= 0.8 * (middle - late) > 0)


def _away(e: Examination) -> list[Evidence] | None:
    if e.runaway is None or e.subject.constraints:
        return None
    length, near, far = e.runaway
    size = float(np.linalg.norm(e.lab.z))
    losses = (e.here.loss, near, far)
    return [
        measured("losses further away", losses, "here and on a straight way outwards", joined=", then "),
        measured("length of that way", length, f"the parameters here have the length {size:.3g}"),
    ]


NO_MINIMUM = Rule(
    "no finite minimum",
    _endless,
    lambda e: (
        "The loss has no finite minimum on this way: it falls further and further while the parameters run away to "
        "infinity."
    ),
    lambda e: [
        Remedy(
            "Add what holds the parameters: a penalty, bounds, or data that contradict; check the sign of each term.",
            "return loss + 1e-4 * sum(p.square().sum() for p in model.parameters())",
            "it needs a decision about the loss",
        )
    ],
    f"{_NOCEDAL}, section 2.1 (existence of minimizers); A. Albert, J. A. Anderson (1984) for separable data",
)


def _tail(e: Examination) -> list[Evidence] | None:
    """A loss that falls less and less: the method is satisfied, and the parameters mean nothing."""
    if not e.by_itself or e.subject.constraints or e.layered or _endless(e) is not None or e.tail is None:
        return None
    assert e.curvature is not None
    length, losses = e.tail
    stride = float(np.linalg.norm(e.curvature.stride))
    return [
        measured("losses further away", losses, "here and on a straight way outwards", joined=", then "),
        measured("length of that way", length, f"the parameters here have the length {np.linalg.norm(e.lab.z):.3g}"),
        measured("Newton step", stride, "along it: it does not become shorter, as it would near a minimum"),
    ]


TAIL = Rule(
    NO_MINIMUM.name,
    _tail,
    lambda e: (
        "The loss has no finite minimum: further away it is lower still, and the parameters would grow for ever, "
        "although each step gains less than the one before."
    ),
    NO_MINIMUM.remedies,
    NO_MINIMUM.source,
)

SEPARABLE = Rule(
    NO_MINIMUM.name,
    lambda e: _away(e) if e.by_itself and _endless(e) is None and _tail(e) is None else None,
    lambda e: (
        "Further away the loss is lower still: it has no finite minimum, and the parameters grow with every iteration."
    ),
    NO_MINIMUM.remedies,
    NO_MINIMUM.source,
)
"""The same for a loss that falls less and less: the run may well have gained almost all that there is."""
