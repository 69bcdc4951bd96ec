"""Rules about how the run ended: precision, noise, tolerances, budgets, success."""

from __future__ import annotations

import math

import numpy as np
import torch

from ...core.execution.optimality import tolerances_in_words
from ...core.methods.local import METHODS
from ..ending import iterations_missing
from ..examination import Examination
from ..finding import Evidence, Rule, measured, number
from ..remedy import Change, Remedy, changed_call, first_fitting

__all__ = ["BUDGET", "CONVERGED", "FLOAT32", "NOISE", "NOTHING", "STOPPED", "TOLERANCE"]

_TIGHT = {"maxcor": 50, "ftol": 0.0, "gtol": 1e-12}
_COARSE = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
"""Coarse dtypes, the coarsest first."""
_APART = 4
"""Sizes of variables differ by so many powers of ten."""
_MISSED = 10
"""Slopes this many times above a tolerance have missed it."""
_SHARE, _SHARE_OF_A_NETWORK = 1e-6, 1e-5
"""A predicted decrease that counts, as a part of all that can be gained; and of a network."""
_CONSTANT = 1e3
"""A loss this many times larger than what it can change by is mostly a constant."""
_USUAL, _LEAST = 1e-5, 1e-7
"""The usual tolerance of a gradient; and the smallest one at which float32 may be expected to end."""
_MORE_HAGER = "J. J. Moré, S. M. Wild (2011); W. W. Hager, H. Zhang (2005)"


def _left(e: Examination) -> Evidence:
    return measured("predicted decrease", e.predicted, "of a Newton step: the loss could still fall by this")


# float32


def _float32(e: Examination) -> list[Evidence] | None:
    subject = e.subject
    coarse = subject.single or e.eps > subject.flat.eps
    if not e.here.finite or not coarse or e.curvature is None or not _gave_up(e):
        return None
    double = e.double if e.double is not None and e.double.known else None
    hoped = double.predicted if double is not None else e.curvature.hidden
    most = hoped >= 1e-4 * abs(e.here.loss) and (double is None or double.step > 100 * e.eps)
    deep = most and hoped <= 1e-3 * (e.ending.fell + hoped)
    if not (deep or _misses_the_tolerance(e) or (most and (e.noise or 0.0) >= 1e-2 * hoped)) or _scale_is_why(e):
        return None
    evidence = [
        measured("precision", e.eps, f"machine epsilon of {_coarse(e)}, in which the closure computes"),
        measured("loss", e.here.loss, f"from {e.ending.first:.3g}; the last iterations changed nothing"),
        measured("rounding", e.rounding, "of this loss: smaller decreases cannot be seen"),
        measured("predicted decrease", e.curvature.predicted, f"of a Newton step, as far as {_coarse(e)} can see it"),
    ]
    if double is not None:
        evidence += [
            measured("predicted in float64", double.predicted, "the loss would go on falling"),
            measured("step left in float64", double.step, "of a Newton step, relative to the parameters"),
            measured("gradient in float64", double.slope, f"its largest entry; {_wanted_slope(e):.3g} was wanted"),
        ]
    if e.double is not None and not e.double.follows:
        evidence.append(Evidence("float64", "not followed", f"the closure stays in {_coarse(e)}: {e.double.reason}"))
    return evidence


def _scale_is_why(e: Examination) -> bool:
    """Whether a scale of the variables would let float32 go on: their sizes differ by more than it has digits for."""
    if e.layered or e.converged or e.scaling is None:
        return False
    apart = float(np.ptp(np.log10(e.scaling.sizes)))
    return apart >= _APART and e.scaling.after <= e.scaling.before / 100


def _coarse(e: Examination) -> str:
    """Name of the coarsest dtype in the loss."""
    return next((name for name, dtype in _COARSE.items() if torch.finfo(dtype).eps <= e.eps * 1.01), "float32")


def _misses_the_tolerance(e: Examination) -> bool:
    """Whether float64 sees a gradient far above the method's tolerance, and parameters that are off by what counts.

    Rounding of a loss that is no larger than its changes leaves relative errors of √eps in the parameters, and slopes
    near the usual tolerances. A constant beside it, or a large condition number, leaves more. A decrease that counts
    beside what the run has gained says the same. Of a network, whose
    parameters nobody wants to know, the decrease must count. Of float64 parameters in a coarser loss, the derivatives
    say it themselves.
    """
    seen = _in_float64(e)
    if seen is None or not seen[0] >= _MISSED * _wanted_slope(e):
        return False
    slope, predicted, step = seen
    if e.layered:
        return predicted >= _SHARE_OF_A_NETWORK * (e.ending.fell + predicted)
    times, off = slope / _wanted_slope(e), step / math.sqrt(torch.finfo(torch.float32).eps)
    gained = predicted >= _SHARE * (e.ending.fell + predicted)
    return (off >= 1 and off * times >= _MISSED**2) or (gained and times >= _MISSED**2)


def _in_float64(e: Examination) -> tuple[float, float, float] | None:
    """The largest slope, the decrease of a Newton step, and its length; None where float64 was not seen."""
    if e.subject.single:
        trial = e.double
        return None if trial is None or not trial.known else (trial.slope, trial.predicted, trial.step)
    if e.gradient is None or e.curvature is None:
        return None
    return float(np.abs(e.gradient[e.free]).max(initial=0.0)), e.curvature.predicted, e.curvature.step


def _wanted_slope(e: Examination) -> float:
    """The method's tolerance of the gradient, or a usual one."""
    named = (e.subject.option(name) for name in ("gtol", "tolerance_grad"))
    given = e.subject.arguments.get("tol") if "gtol" not in e.subject.options else None
    wanted = given or next((each for each in named if each is not None and each > 0), _USUAL)
    return max(float(wanted), _LEAST) * e.subject.loss_scale


def _gave_up(e: Examination) -> bool:
    """Whether the method found no better point, or called a loss that rounding holds a success."""
    if e.ending.kind in ("search", "stalled", "floor", "other"):
        return True
    if e.ending.kind == "success":
        ends_by_slope = e.subject.option("gtol") is not None or e.subject.option("tolerance_grad") is not None
        return ends_by_slope and e.slope > _MISSED * _wanted_slope(e)
    return e.ending.stands_still


def _float32_remedies(e: Examination) -> list[Remedy]:
    subject = e.subject
    other = first_fitting(subject, "SSBroyden", "L-BFGS-B") or subject.method
    engine = "torch" if other.startswith("SS") else None
    tight = (
        {name: value for name, value in _TIGHT.items() if name in METHODS[other].options} if other in METHODS else {}
    )
    change = Change(method=other, options=tight, engine=engine, double=True)
    remedy = changed_call(subject, "Go on in float64, with a method that remembers the whole curvature.", change)
    if e.double is not None and e.double.follows:
        same = Change(double=True) if subject.spec is not None else Change("L-BFGS-B", _TIGHT, double=True)
        return [remedy, changed_call(subject, "Go on in float64 with the same method.", same)]
    code = f"inputs, targets = inputs.double(), targets.double()\n{remedy.code}"
    needs = "the data in the closure would have to be float64 too"
    return [Remedy(remedy.what, code, needs)]


FLOAT32 = Rule(
    "float32 floor",
    _float32,
    lambda e: (
        f"The run has reached the floor of {_coarse(e)}: rounding hides further decreases of the loss, while float64 "
        "would go on."
    ),
    _float32_remedies,
    "P. Rathore et al., Challenges in training PINNs (2024); " + _MORE_HAGER,
)


# Noise


def _noise(e: Examination) -> list[Evidence] | None:
    if not e.here.finite or not e.by_itself or not _gave_up(e) or e.predicted is None:
        return None
    if e.subject.gradient_free and e.ending.claims_success:
        return None
    if e.kink is not None and not e.kink.leaps:
        return None
    if e.at_floor or e.mismatch is not None or e.noise is None or not e.noisy or e.noise < 1e-3 * e.predicted:
        return None
    return [
        measured("noise of the loss", e.noise, "standard deviation of its error, near the end point"),
        measured("rounding", e.rounding, f"of a loss of {e.here.loss:.3g}: the noise is more than that"),
        _left(e),
        *([Evidence("operations", ", ".join(e.watch.steps), "of the closure have steps")] if e.watch.steps else []),
    ]


NOISE = Rule(
    "noise",
    _noise,
    lambda e: (
        f"{'The run ended' if e.ending.claims_success else 'The line search failed'} because of noise: the gradient is "
        f"right, but the loss has a computational noise of {number(e.noise)}, which hides the decreases that are left."
    ),
    lambda e: [
        Remedy(
            "Compute the loss more exactly: float64 throughout, tighter tolerances of inner solvers, no float() casts.",
            "closure = closure_in_float64",
            "it needs a change of the closure",
        ),
        *(
            [changed_call(e.subject, "A line search that knows the noise.", Change(e.subject.method, engine="torch"))]
            if e.subject.spec is not None and "torch" in e.subject.spec.engines and e.subject.engine != "torch"
            else []
        ),
    ],
    _MORE_HAGER,
)


# Tolerances


def _tolerance(e: Examination) -> list[Evidence] | None:
    """A success far from the minimum: whatever the shape of the loss, the method would go on with other tolerances."""
    if not e.here.finite or e.ending.kind != "success" or e.converged or e.share_left is None or e.curvature is None:
        return None
    if e.saddle or e.degenerate:
        return None
    subject = e.subject
    words = (
        ""
        if subject.spec is None
        else tolerances_in_words(subject.spec.options, subject.options, subject.arguments.get("tol"))
    )
    return [
        measured("loss", e.here.loss, f"from {e.ending.first:.3g}"),
        measured("gradient norm", e.slope, f"satisfies the tolerances{': ' + words if words else ''}"),
        measured("share left", e.share_left, "of the decrease that was possible is still left", text=_percent(e)),
        _left(e),
        measured("step left", e.curvature.step, "of a Newton step, relative to the parameters"),
    ]


def _percent(e: Examination) -> str:
    assert e.share_left is not None
    return f"{100 * e.share_left:.3g} %"


def _tolerance_remedies(e: Examination) -> list[Remedy]:
    subject, remedies = e.subject, []
    if subject.spec is None:
        return [changed_call(subject, "Use smaller tolerances.", Change("L-BFGS-B", {"gtol": 1e-12, "ftol": 0.0}))]
    size = max(e.predicted or 0.0, min(e.ending.fell, 1e3 * abs(e.here.loss)), abs(e.here.loss))
    if 0 < size < subject.loss_scale:
        scale = 10.0 ** math.floor(math.log10(size))
        remedies.append(changed_call(subject, "Scale the loss to a size of about 1.", Change(loss_scale=scale)))
    if _mostly_constant(e):
        remedies.append(
            Remedy(
                "Subtract the constant from the loss, in the closure.",
                f"return loss - ({number(e.here.loss)})",
                "it needs a change of the closure",
            )
        )
    tight = {row.name: 1e-12 for row in subject.spec.options.values() if row.tolerance and row.kind == "float"}
    if tight:
        remedies.append(changed_call(subject, "Use smaller tolerances.", Change(options=tight)))
    return remedies


def _which_tolerance(e: Examination) -> str:
    if e.loose:
        return "a tolerance that is too large"
    if max(abs(e.here.loss), e.predicted or 0.0) < 1e-3 * e.subject.loss_scale:
        return "a tolerance that the scale of the loss makes meaningless"
    if _mostly_constant(e):
        return "a tolerance relative to the loss, most of which is a constant"
    return "a tolerance that is too large for this loss, which is flat around here"


def _mostly_constant(e: Examination) -> bool:
    """Whether a tolerance is relative to a loss that has hardly changed in the run, and has not much left to fall."""
    options = {} if e.subject.spec is None else e.subject.spec.options
    relative = any(row.tolerance and row.name == "ftol" and not row.loss_power for row in options.values())
    return relative and abs(e.here.loss) > _CONSTANT * max(e.predicted or 0.0, e.ending.fell)


TOLERANCE = Rule(
    "tolerance too large for the loss",
    _tolerance,
    lambda e: (
        f"The run was stopped by {_which_tolerance(e)}: the method reports success, although the loss "
        f"({number(e.here.loss)}) would still fall."
    ),
    _tolerance_remedies,
    "SciPy: ftol, gtol and xtol are absolute or of a fixed size",
)


# Budgets


def _budget(e: Examination) -> list[Evidence] | None:
    if not e.here.finite or e.ending.kind != "limit" or e.converged:
        return None
    missing = iterations_missing(e.subject, e.predicted or 0.0)
    evidence = [measured("iterations", e.ending.iterations, f"then the run ended: {e.ending.words}")]
    if e.predicted is not None:
        evidence.append(_left(e))
    if missing is not None:
        meaning = "at the pace of the last half of the run"
        evidence.append(measured("iterations missing", missing, meaning, text=f"about {missing:,}"))
    return evidence


def _budget_verdict(e: Examination) -> str:
    missing = iterations_missing(e.subject, e.predicted or 0.0)
    forecast = f"; about {missing:,} more iterations are missing" if missing is not None else ""
    squares = " The loss is a sum of squares: least squares would need fewer." if e.squares else ""
    return f"The budget is too small: the run ended at its limit while the loss was still falling{forecast}.{squares}"


def _budget_remedies(e: Examination) -> list[Remedy]:
    subject = e.subject
    missing = iterations_missing(subject, e.predicted or 0.0) or 2 * max(e.ending.iterations, 1)
    factor = min(max(2.0, 2 * missing / max(e.ending.iterations, 1)), 100.0)
    rows = {} if subject.spec is None else subject.spec.options
    limit = {"maxiter": int(2 * (e.ending.iterations + missing))} if "maxiter" in rows else {}
    method = None if subject.spec is not None else "L-BFGS-B"
    remedies = [changed_call(subject, "Give it a larger budget.", Change(method, limit, factor=factor))]
    other = first_fitting(subject, "SSBroyden", "L-BFGS-B", "SLSQP")
    if other is not None and not subject.curved:
        engine = "torch" if other.startswith("SS") else None
        remedies.append(changed_call(subject, "Or a method that is quicker.", Change(other, engine=engine)))
    return remedies


BUDGET = Rule("budget too small", _budget, _budget_verdict, _budget_remedies, "torchmin_nb: the pace of the history")


# Success


def _converged(e: Examination) -> list[Evidence] | None:
    unseen = e.predicted is None and _unseen(e) and e.ending.kind != "target" and not e.subject.constraints
    if not e.converged or unseen:
        return None
    evidence = [measured("loss", e.here.loss, f"from {e.ending.first:.3g} in {e.ending.iterations} iterations")]
    if not math.isnan(e.slope):
        evidence.append(measured("gradient norm", e.slope, "at the end point, without what bounds hold"))
    if e.predicted is not None:
        evidence.append(_left(e))
        evidence.append(measured("rounding", e.rounding, "the least change that the dtype can show"))
    return evidence


def _converged_verdict(e: Examination) -> str:
    if e.ending.kind == "target":
        return "The target loss has been reached; nothing is wrong."
    if not e.trusts_slopes:
        return "Converged, by what the method reports, where the gradient of the loss is of no use."
    if e.at_floor:
        return "Converged as far as the dtype allows: what a Newton step could still gain is below rounding."
    return "Converged: the end point is a minimum within the tolerances; nothing is wrong."


CONVERGED = Rule(
    "converged",
    _converged,
    _converged_verdict,
    lambda e: [],
    "J. Nocedal, S. J. Wright (2006), chapter 2",
    healthy=True,
)


def _stopped(e: Examination) -> list[Evidence] | None:
    if e.ending.kind not in ("stopped", "paused", "none") or not e.here.finite:
        return None
    return [measured("iterations", e.ending.iterations, e.ending.words or "no run yet"), _left(e)]


def _go_on(e: Examination) -> list[Remedy]:
    if e.ending.kind == "paused":
        return [Remedy("Go on.", "run.resume()", "the run itself can go on")]
    return [changed_call(e.subject, "Go on.", Change())] if e.subject.spec is not None else []


STOPPED = Rule(
    "stopped",
    _stopped,
    lambda e: {
        "stopped": "The run was stopped on request, before the method had converged.",
        "paused": "The run is paused; the loss can still fall.",
        "none": "There has been no run; the loss can fall from here.",
    }[e.ending.kind],
    _go_on,
    "Status.STOPPED",
)


def _unseen(e: Examination) -> bool:
    """Whether the budget left open what a success is."""
    return e.cut and e.ending.claims_success


def _nothing_remedies(e: Examination) -> list[Remedy]:
    if e.cut:
        more = Remedy("Allow the diagnosis more evaluations.", "run.diagnose(budget=100)", "it is no change of the run")
        return [more]
    other = first_fitting(e.subject, "SSBroyden", "L-BFGS-B", "SLSQP", "COBYQA")
    if other is None or not e.here.finite:
        return []
    engine = "torch" if other.startswith("SS") else None
    return [changed_call(e.subject, "Try another method from here.", Change(other, engine=engine))]


NOTHING = Rule(
    "nothing found",
    lambda e: [Evidence("ending", e.ending.words or e.ending.kind, "what the method reported"), _left(e)],
    lambda e: (
        "The method reports success; the budget of the diagnosis was too small to tell a minimum from a saddle point."
        if _unseen(e)
        else "No rule explains the ending; the numbers below are what was measured."
    ),
    _nothing_remedies,
    "–",
)
