"""What the panel says of a problem, a method, a suggestion and an error, as HTML; pure functions."""

from __future__ import annotations

from html import escape

from ...core.events import History
from ...core.memory import readable_bytes
from ...core.methods import OptionSpec
from ...errors import TorchminError, text_of
from ...explore import Advice, Entry, Fit, Subject, Suggestion, Traits
from ...problems import ProblemSpec

__all__ = [
    "alert",
    "default_words",
    "explained",
    "method_card",
    "outcome",
    "problem_card",
    "seconds_words",
    "subject_card",
    "suggestion_card",
]


def problem_card(spec: ProblemSpec, traits: Traits) -> str:
    """What makes it hard, its known answer, and its size."""
    return f"{_sentence(spec.hard)}<br><b>Answer</b> {escape(spec.answer)} · {_size(traits)}"


def subject_card(subject: Subject, traits: Traits) -> str:
    """Of a problem of the user's own."""
    what = "Your function" if subject.function is not None else "Your model and closure"
    return f"{what}, <b>{escape(subject.name)}</b>: the answer is not known.<br>{_size(traits)}"


def _size(traits: Traits) -> str:
    limits = [
        "bounds" if traits.bounds else "",
        "constraints" if traits.constraints else "",
        f"{traits.residuals:,} residuals" if traits.residuals else "",
    ]
    return escape(" · ".join([f"N = {traits.n:,}", *filter(None, limits), traits.dtype]))


def method_card(entry: Entry, fit: Fit, traits: Traits) -> str:
    """When to use it, what it needs, and what it costs on this very problem."""
    calls, memory = entry.calls(traits.n), readable_bytes(entry.bytes(traits.n, traits.residuals or 0))
    here = f"first iteration about {_plural(calls, 'closure call')}, {memory}"
    lines = [
        f"{escape(entry.when)}<br><b>Needs</b> {escape(entry.needs)} · <b>costs</b> {escape(entry.cost)}; "
        f"here {escape(here)}"
    ]
    if not fit:
        lines.append(f'<span class="tm-wrong">Does not fit: {escape(fit.reason)}</span>')
    lines += [f"<b>Note</b> {escape(caution)}" for caution in fit.cautions]
    return "<br>".join(lines)


def suggestion_card(advice: Advice, traits: Traits) -> str:
    """What to try first and next, with the reasons and the measured times."""
    if advice.best is None:
        return "No method fits this problem as it is set up."
    items = "".join(f"<li>{_suggested(each)}</li>" for each in advice.others)
    others = f"Or try:<ul>{items}</ul>" if items else ""
    return f"<p>Try first: {_suggested(advice.best)}</p>{others}<p>{_measured(traits)}</p>"


def _suggested(suggestion: Suggestion) -> str:
    options = ", ".join(f"{name} = {value}" for name, value in suggestion.options.items())
    told = f" with <code>{escape(options)}</code>" if options else ""
    reasons = escape(
        "; ".join(reason for reason in suggestion.reasons if not reason.startswith("a closure call takes"))
    )
    cautions = "".join(f" <i>Expect: {escape(caution)}.</i>" for caution in suggestion.cautions)
    return f"<b>{escape(suggestion.method)}</b>{told}: {reasons}.{cautions}"


def _measured(traits: Traits) -> str:
    if traits.seconds_per_call is None:
        return "Nothing was measured on this problem."
    product = traits.seconds_per_product
    known = "" if product is None else f", one Hessian-vector product {seconds_words(product)}"
    call = seconds_words(traits.seconds_per_call)
    return f"Measured on this problem: one closure call with its gradient takes {call}{known}."


def seconds_words(seconds: float) -> str:
    """'3.2 ms', '1.4 s', '40 µs'."""
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def default_words(option: OptionSpec, message: str = "") -> str:
    """What stands beside an option: its default and help, or what is wrong with the value."""
    if message:
        return f'<span class="tm-wrong" role="alert">{escape(message)}</span>'
    default = "SciPy chooses" if option.default is None else f"default {option.default}"
    single = "" if option.float32 is None else f" (float32: {option.float32:g})"
    return f"<small>{escape(default)}{single} · {escape(option.help)}</small>"


def outcome(history: History, solved: bool | None) -> str:
    """Whether a run that has ended found the known answer; empty where none is known."""
    if solved is None or not len(history):
        return ""
    return "solved" if solved else "not solved"


def alert(message: str) -> str:
    """A message that a screen reader reads out at once; empty for none."""
    return f'<div class="tm-alert" role="alert">{escape(message)}</div>' if message else ""


def explained(error: BaseException) -> str:
    """An error in words. Errors of this package name their remedy; others are said to come from the closure."""
    text = " ".join(text_of(error).split()) or type(error).__name__
    if isinstance(error, TorchminError):
        return text
    return (
        f"The closure raised {type(error).__name__}: {text}. Call it once by hand at the start, until it returns a "
        f"scalar loss; then run again."
    )


def _sentence(text: str) -> str:
    return escape(text[:1].upper() + text[1:]) + ("" if text.endswith(".") else ".")


def _plural(count: float, noun: str) -> str:
    return f"{count:,.0f} {noun}{'' if round(count) == 1 else 's'}"
