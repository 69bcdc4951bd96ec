"""Rules about the closure: errors, NaN, noise, wrong gradients, kinks, dead layers, unused parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import described
from ..examination import Examination
from ..finding import Evidence, Rule, measured
from ..layers import FirstNonFinite, Layer
from ..remedy import Change, Remedy, changed_call, first_fitting

__all__ = [
    "DEAD_LAYER",
    "ERROR",
    "KINK",
    "NONFINITE",
    "NONFINITE_TRIALS",
    "RANDOM_STEPS",
    "STOCHASTIC",
    "UNUSED",
    "WRONG_CURVATURE",
    "WRONG_GRADIENT",
]

_DEAD, _WHOLLY = 0.9, 0.99
_STILL = 1e-3
"""A run whose loss fell by less than this part of its first value stood still from the start."""
_STARVED = 0.1
"""Parameters before a dead layer have less than this part of the whole gradient."""
_SHOWN = 4
_FEW = 5
"""Number of steps over which a random loss is averaged, at least."""


# The closure raised


def _error(e: Examination) -> list[Evidence] | None:
    error = e.here.error or (e.subject.exception if e.here.finite else None)
    if error is None and not (e.ending.kind == "error" and e.here.finite):
        return None
    text = e.ending.message if error is None else described(error)
    return [Evidence("error", text, "what ended the run; its traceback names the line")]


ERROR = Rule(
    "error",
    _error,
    lambda e: "The closure or a callback raised an error, which ended the run.",
    lambda e: [
        Remedy(
            "Correct the line that raised. If the loss is not defined there, name the error, to reject the trial.",
            "MinimizeWrapper(..., nonfinite_errors=(TheError,))",
            "it needs a decision about the closure",
        )
    ],
    "Status.FAILED",
)


# NaN


def _nonfinite(e: Examination) -> list[Evidence] | None:
    if e.here.error is not None or (e.here.finite and e.ending.kind != "nonfinite"):
        return None
    found, evidence = e.nonfinite, []
    if e.here.finite:
        ahead = e.nonfinite_ahead
        if ahead is None:
            return [Evidence("ending", e.ending.message, "no point that is not finite was found again near the end")]
        length, found = ahead
        evidence = [measured("distance", length, "a step this long down the gradient is not finite any more")]
    else:
        evidence = [measured("loss", e.here.loss, "at the point where the run stood")]
        names = _nan_parameters(e)
        if names:
            evidence.append(Evidence("parameters", names, "have values, or gradients, that are NaN or infinite"))
    for kind, (operation, shape) in sorted(found.first.items()) if found is not None else ():
        evidence.append(
            Evidence(f"first {kind}", f"{operation}, result of shape {shape}", "the operation that made it")
        )
    return evidence


def _nonfinite_trials(e: Examination) -> list[Evidence] | None:
    """A line search that failed far from the minimum, where steps of a usual length leave the loss's domain."""
    if e.ending.kind != "search" or not e.here.finite or e.converged or e.undefined_beside is None:
        return None
    length, found = e.undefined_beside
    seen = sorted(found.first.items())
    return [
        measured("distance", length, "the loss is not finite this far away, where steps lead"),
        measured("gradient norm", e.slope, "the loss would still fall"),
        *(Evidence(f"first {kind}", f"{name}, result of shape {shape}", "made it") for kind, (name, shape) in seen),
    ]


def _nan_parameters(e: Examination) -> str:
    subject, wrong = e.subject, []
    for index, values in enumerate(subject.views(subject.x)):
        part = e.here.parts[index] if e.here.parts else None
        bad = not bool(values.isfinite().all()) or (part is not None and not bool(part.isfinite().all()))
        wrong += [subject.tensor_name(index)] * bad
    return ", ".join(wrong[:_SHOWN]) + (", ..." if len(wrong) > _SHOWN else "")


def _nonfinite_verdict(e: Examination) -> str:
    where = (
        "at the point where the run stood" if not e.here.finite else "a step away from the point where the run stood"
    )
    ahead = e.nonfinite_ahead if e.here.finite else None
    names = "" if e.here.finite else _nan_parameters(e)
    whose = f" (parameters: {names})" if names else ""
    return f"The loss or its gradient is NaN or infinite {where}{whose}{_maker(e.nonfinite or (ahead and ahead[1]))}."


def _maker(found: FirstNonFinite | None) -> str:
    if found is None or not found.operation:
        return ""
    given = ", which was given data that are not finite" if found.was_given else ""
    return f"; the first operation that made it is {found.operation}{given}"


def _nonfinite_remedies(e: Examination) -> list[Remedy]:
    guarded = Remedy(
        "Keep the arguments of that operation inside its domain (clamp, softplus, bounds), and check the data for NaN.",
        'optimizer = MinimizeWrapper([{"params": [rate], "bounds": (1e-6, None)}, ...], "L-BFGS-B")',
        "it needs knowledge about the loss",
    )
    other = first_fitting(e.subject, "L-BFGS-B", "trust-constr")
    if not e.here.finite or other is None or e.subject.spec is not None:
        return [guarded]
    return [guarded, changed_call(e.subject, "Use a method that rejects trials that are NaN.", Change(method=other))]


NONFINITE = Rule("NaN or infinite", _nonfinite, _nonfinite_verdict, _nonfinite_remedies, "torch.autograd.anomaly_mode")

NONFINITE_TRIALS = Rule(
    NONFINITE.name,
    _nonfinite_trials,
    lambda e: (
        "The line search failed because its trials are NaN or infinite, a step away from the point where the run stood"
        f"{_maker(e.undefined_beside and e.undefined_beside[1])}."
    ),
    _nonfinite_remedies,
    NONFINITE.source,
)


# Randomness


def _random_steps(e: Examination) -> list[Evidence] | None:
    """For methods of random gradients, which end by their number of steps: whether the loss fell in them."""
    found, losses = _randomness(e) if _tolerates_noise(e) else None, np.asarray(e.subject.history.loss, dtype=float)
    if found is None or len(losses) < 2 * _FEW or not _fell(losses):
        return None
    part = max(_FEW, len(losses) // 10)
    means = float(losses[:part].mean()), float(losses[-part:].mean())
    return [*found, measured("mean loss", means, "of the first and of the last steps", joined=", then ")]


def _fell(losses: NDArray[np.float64]) -> bool:
    part = max(_FEW, len(losses) // 10)
    return bool(np.isfinite(losses).all() and losses[-part:].mean() < losses[:part].mean())


def _tolerates_noise(e: Examination) -> bool:
    return e.subject.spec is None and "line_search_fn" not in e.subject.options


def _randomness(e: Examination) -> list[Evidence] | None:
    if e.deterministic or e.repeated is None:
        return None
    two = (e.here.loss, e.repeated)
    shown = f"{e.here.loss:.10g}, then {e.repeated:.10g}"
    return [
        measured("loss", two, "two calls at the same parameters", text=shown),
        measured("difference", abs(e.here.loss - e.repeated), "a line search takes it for a decrease"),
    ]


def _made_deterministic(e: Examination) -> Remedy:
    return Remedy(
        "Make it deterministic: model.eval() for dropout, one batch or full_batch, a seed inside the closure.",
        "model.eval()\nclosure = full_batch(lambda batch: loss(model(batch[0]), batch[1]), loader)",
        "it needs a change of the closure",
    )


STOCHASTIC = Rule(
    "stochastic closure",
    _randomness,
    lambda e: (
        "The closure is stochastic: it is not deterministic, two calls at the same parameters give different losses."
    ),
    lambda e: [
        _made_deterministic(e),
        *(
            [
                Remedy(
                    "Or use a method for random gradients.",
                    "observe(torch.optim.Adam(model.parameters(), lr=0.001), closure, steps=1000)",
                    "it never ends by itself",
                )
            ]
            if not _tolerates_noise(e)
            else []
        ),
    ],
    "J. J. Moré, S. M. Wild, Estimating computational noise (2011)",
    last=True,
)
"""First: all other measurements would compare different losses."""

RANDOM_STEPS = Rule(
    "random steps",
    _random_steps,
    lambda e: (
        "The steps are done, and the loss fell in them. It is stochastic, so whether it has converged cannot be "
        "measured: look at its mean over many steps, or at a deterministic loss."
    ),
    lambda e: [],
    STOCHASTIC.source,
    healthy=True,
    last=True,
)


# The gradient


def _wrong_gradient(e: Examination) -> list[Evidence] | None:
    wrong = None if e.subject.gradient_free else e.mismatch
    if wrong is None or e.watch.steps:
        return None
    evidence = [
        measured("slope of the loss", wrong.slope, "by central differences along one direction"),
        measured("slope by the gradient", wrong.claimed, "along the same direction; the two should be equal"),
    ]
    for name, slope, claimed in _wrong_parts(e):
        evidence.append(measured(name, (slope, claimed), "its part of both slopes differs"))
    return evidence


def _wrong_parts(e: Examination) -> list[tuple[str, float, float]]:
    """Names of tensors, or of single entries where they are known, with both slopes."""
    assert e.mismatch is not None
    if e.mismatch.entries:
        names = e.subject.entry_names()
        return [(names[index], slope, claimed) for index, slope, claimed in e.mismatch.entries]
    return [(e.subject.tensor_name(index), slope, claimed) for index, slope, claimed in e.mismatch.tensors]


def _wrong_names(e: Examination) -> str:
    names = [name for name, _, _ in _wrong_parts(e)]
    return f": that of {', '.join(names[:_SHOWN])}" if names else ""


WRONG_GRADIENT = Rule(
    "wrong gradient",
    _wrong_gradient,
    lambda e: f"The gradient is wrong: it is not the derivative of the loss{_wrong_names(e)}.",
    lambda e: [
        Remedy(
            "Return the loss on which backward() was called, and leave out .detach(), .item(), torch.no_grad(), "
            "clipping and hooks that change the gradient; check the backward of your own autograd.Function.",
            "print(optimizer.check(closure))",
            "it needs a change of the closure",
        )
        if e.subject.jac is None
        else Remedy(
            "Leave out `jac`: autograd differentiates the closure.",
            f"optimizer = MinimizeWrapper(model.parameters(), {e.subject.method!r})\noptimizer.step(closure)",
            change=Change(),
        ),
        *_differences(e),
    ],
    "P. E. Gill, W. Murray, M. H. Wright, Practical Optimization (1981), section 8.6",
)


def _differences(e: Examination) -> list[Remedy]:
    other = first_fitting(e.subject, "COBYQA", "Nelder-Mead", "COBYLA")
    if other is None or e.subject.flat.n > 50:
        return []
    return [changed_call(e.subject, "Until then, a method that needs no gradient.", Change(method=other))]


# Second derivatives


def _wrong_curvature(e: Examination) -> list[Evidence] | None:
    bend = e.bend if e.here.finite and e.ending.kind != "target" else None
    if bend is None:
        return None
    return [
        measured("change of the gradient", bend.measured, "its length along one direction, by central differences"),
        measured("by the Hessian", bend.claimed, "the length of the product along it; the two should be equal"),
        measured("difference", bend.apart, "of the two vectors"),
    ]


def _curvature_remedies(e: Examination) -> list[Remedy]:
    if e.subject.products is not None:
        what = "Leave out `hess` and `hessp`: autograd makes the products from the closure."
        return [changed_call(e.subject, what, Change())]
    differences = Remedy(
        "Correct the double backward of your own autograd.Function: its backward must itself be differentiable. Until "
        "then, take differences of the gradient.",
        'optimizer = MinimizeWrapper(model.parameters(), "trust-ncg", curvature="finite-difference")',
        "it needs a change of the closure",
    )
    other = first_fitting(e.subject, "BFGS", "L-BFGS-B")
    first = [] if other is None else [changed_call(e.subject, "A method without second derivatives.", Change(other))]
    return [*first, differences]


WRONG_CURVATURE = Rule(
    "wrong second derivatives",
    _wrong_curvature,
    lambda e: (
        f"The second derivatives are wrong: the Hessian that {e.subject.method or 'the method'} gets is not that of "
        "the loss, while its gradient is right."
    ),
    _curvature_remedies,
    "P. E. Gill, W. Murray, M. H. Wright, Practical Optimization (1981), section 8.6",
)


# Kinks


def _kink(e: Examination) -> list[Evidence] | None:
    operations = [*e.watch.steps, *e.watch.kinks]
    seen = [Evidence("operations", ", ".join(operations[:_SHOWN]), "of the closure have no derivative somewhere")]
    if e.subject.gradient_free and e.ending.claims_success:
        return None
    if e.mismatch is not None and e.watch.steps:
        slopes = (e.mismatch.slope, e.mismatch.claimed)
        return [measured("slopes", slopes, "of the loss, and by the gradient"), *seen]
    if e.watch.steps and e.here.finite and e.slope == 0 and (e.flat_far or 0.0) > 1e-6:
        return [
            measured("gradient norm", 0, "exactly: these operations pass no gradient"),
            measured("change of the loss", e.flat_far, "relative, a tenth of the variables' size away"),
            *seen,
        ]
    if not e.here.finite or (e.ending.claims_success and e.converged) or e.kink is None:
        return None
    kink = e.kink
    if kink.leaps and not operations:
        return None
    names = e.subject.entry_names()
    order = np.argsort(-np.abs(kink.entries))[:_SHOWN]
    strongest = [names[i] for i in order if abs(kink.entries[i]) > 0.1 * np.abs(kink.entries).max()]
    return [
        measured("jump of the gradient", kink.jump, f"between two points that are {kink.apart:.1g} apart"),
        measured("gradient there", kink.size, "its length; the jump is a part of it that does not shrink"),
        Evidence("entries", ", ".join(strongest), "of the gradient that jump"),
        *(seen if operations else []),
    ]


def _kink_remedies(e: Examination) -> list[Remedy]:
    smooth = Remedy(
        "Make the loss smooth: Huber or sqrt(x² + ε²) for abs, softplus for relu, logsumexp for max.",
        "torch.nn.functional.huber_loss(prediction, target)",
        "it needs a change of the closure",
    )
    other = first_fitting(e.subject, "COBYQA", "Nelder-Mead", "COBYLA") if e.subject.flat.n <= 50 else None
    free = (
        Remedy("", "") if other is None else changed_call(e.subject, "A method that needs no gradient.", Change(other))
    )
    return [smooth] if other is None else [smooth, free]


def _kink_verdict(e: Examination) -> str:
    steps = ", ".join(e.watch.steps)
    if steps and e.slope == 0:
        return f"The loss is not differentiable: it has steps ({steps}), between which the gradient is 0."
    if steps and e.mismatch is not None:
        return f"The loss is not differentiable: it has steps ({steps}), which its gradient does not show."
    return "The run stands at a kink: the loss is not differentiable there, and its gradient jumps."


KINK = Rule(
    "kink",
    _kink,
    _kink_verdict,
    _kink_remedies,
    "A. S. Lewis, M. L. Overton, Nonsmooth optimization via quasi-Newton methods (2013)",
)


# Dead and saturated layers


def _ended(layer: Layer) -> float:
    """The share of a layer that is at an end of its range: of its units, or of the outputs of tanh and sigmoid."""
    return layer.ended if _rectifies(layer.function) else layer.outputs


def _dead_layers(e: Examination) -> list[Layer]:
    """Layers in their flat part, if the run stood still from the start, or no gradient comes to what is before them.

    A fit that is done may well use the ends of the range; one that is not may do so with some of its units only.
    """
    layers = e.watch.layers if e.here.finite else []
    dead = [layer for layer in layers if layer.hidden and layer.units > 1 and _ended(layer) >= _DEAD]
    if not dead or e.ending.fell <= _STILL * abs(e.ending.first):
        return dead
    if min(map(_ended, dead)) >= _WHOLLY and not e.converged:
        return dead
    shares = e.starved or {}
    return [layer for layer in dead if max((shares.get(name, 1.0) for name in layer.after), default=1.0) < _STARVED]


def _dead_layer(e: Examination) -> list[Evidence] | None:
    dead = _dead_layers(e)
    return [
        measured(
            f"{layer.function} after {layer.place}",
            _ended(layer),
            f"of {layer.units} units are zero on every sample: no gradient passes them"
            if _rectifies(layer.function)
            else "of the outputs are at an end of the range: almost no gradient passes them",
            text=f"{100 * _ended(layer):.0f} %",
        )
        for layer in dead
    ] or None


def _rectifies(function: str) -> bool:
    return function not in ("tanh", "sigmoid")


def _dead_verdict(e: Examination) -> str:
    layer = _dead_layers(e)[0]
    state = "dead" if _rectifies(layer.function) else "saturated"
    return (
        f"A layer of the network is {state}: {layer.function} after {layer.place} is in its flat part, "
        f"so the start is flat for what comes before it."
    )


DEAD_LAYER = Rule(
    "dead or saturated layer",
    _dead_layer,
    _dead_verdict,
    lambda e: [
        Remedy(
            "Draw the weights anew with a scale that fits the layer, scale the inputs to a size of about 1, or use an "
            "activation without a flat part.",
            "torch.nn.init.xavier_normal_(layer.weight)  # kaiming_normal_ before relu\n"
            "torch.nn.init.zeros_(layer.bias)",
            "it begins anew, and you may want another start",
        )
    ],
    "X. Glorot, Y. Bengio, Understanding the difficulty of training deep feedforward neural networks (2010)",
)


# Unused parameters


def _unused(e: Examination) -> list[Evidence] | None:
    silent = e.unmoved if e.here.finite and not e.subject.constraints else None
    if not silent:
        return None
    names = ", ".join(map(e.subject.tensor_name, silent[:_SHOWN])) + (", ..." if len(silent) > _SHOWN else "")
    return [
        Evidence("parameters without gradient", names, "here and at another point"),
        measured("change of the loss", 0, "when these parameters are moved by about their size"),
    ]


def _unused_verdict(e: Examination) -> str:
    names = ", ".join(map(e.subject.tensor_name, (e.unmoved or [])[:_SHOWN]))
    return f"Parameters are unused: the loss does not depend on {names}, so no method can fit them."


UNUSED = Rule(
    "unused parameters",
    _unused,
    _unused_verdict,
    lambda e: [
        Remedy(
            "Use them in the closure, from the same tensors that were passed to the optimizer; or leave them out.",
            "parameter.requires_grad_(False)",
            "it needs a change of the closure",
        )
    ],
    "torchmin_nb: the start check warns of them",
)
