"""What the panel says of a problem, a method, a suggestion and an error, as HTML; pure functions."""

from __future__ import annotations

from ...core.display.html import Html, html, joined
from ...core.history.history import History
from ...core.methods.options import OptionSpec
from ...core.runtime.memory import readable_bytes
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
    "sentence",
    "subject_card",
    "suggestion_card",
]


def problem_card(spec: ProblemSpec, traits: Traits) -> Html:
    """What makes it hard, its known answer, and its size."""
    form = "{hard}<br><b>Answer</b> {answer} · {size}"
    return html(form, hard=sentence(spec.hard), answer=spec.answer, size=_size(traits))


def subject_card(subject: Subject, traits: Traits) -> Html:
    """Of a problem of the user's own."""
    what = "Your function" if subject.function is not None else "Your model and closure"
    form = "{what}, <b>{name}</b>: the answer is not known.<br>{size}"
    return html(form, what=what, name=subject.name, size=_size(traits))


def _size(traits: Traits) -> str:
    limits = [
        "bounds" if traits.bounds else "",
        "constraints" if traits.constraints else "",
        f"{traits.residuals:,} residuals" if traits.residuals else "",
    ]
    return " · ".join([f"N = {traits.n:,}", *filter(None, limits), traits.dtype])


def method_card(entry: Entry, fit: Fit, traits: Traits) -> Html:
    """When to use it, what it needs, and what it costs on this very problem."""
    calls, memory = entry.calls(traits.n), readable_bytes(entry.bytes(traits.n, traits.residuals or 0))
    here = f"first iteration about {_plural(calls, 'closure call')}, {memory}"
    form = "{when}<br><b>Needs</b> {needs} · <b>runs on</b> {engines} · <b>costs</b> {cost}; here {here}"
    engines = " or ".join({"scipy": "SciPy", "torch": "torch"}[engine] for engine in entry.engines)
    lines = [html(form, when=entry.when, needs=entry.needs, engines=engines, cost=entry.cost, here=here)]
    if not fit:
        lines.append(html('<span class="tm-wrong">Does not fit: {reason}</span>', reason=fit.reason))
    lines += [html("<b>Note</b> {caution}", caution=caution) for caution in fit.cautions]
    return joined(lines, "<br>")


def suggestion_card(advice: Advice, traits: Traits) -> Html:
    """What to try first and next, with the reasons and the measured times."""
    if advice.best is None:
        return Html("No method fits this problem with these settings.")
    items = joined(html("<li>{text}</li>", text=_suggested(each)) for each in advice.others)
    return html(
        "<p>Try first: {best}</p>{others}<p>{measured}</p>",
        best=_suggested(advice.best),
        others=html("Or try:<ul>{items}</ul>", items=items) if items else "",
        measured=_measured(traits),
    )


def _suggested(suggestion: Suggestion) -> Html:
    engine = {} if suggestion.engine is None else {"engine": suggestion.engine}
    options = ", ".join(f"{name} = {value}" for name, value in {**engine, **suggestion.options}.items())
    reasons = (reason for reason in suggestion.reasons if not reason.startswith("a closure call takes"))
    return html(
        "<b>{method}</b>{options}: {reasons}.{cautions}",
        method=suggestion.method,
        options=html(" with <code>{options}</code>", options=options) if options else "",
        reasons="; ".join(reasons),
        cautions=joined(html(" <i>Expect: {caution}.</i>", caution=caution) for caution in suggestion.cautions),
    )


def _measured(traits: Traits) -> str:
    if traits.seconds_per_call is None:
        return "No times were measured on this problem."
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


def default_words(option: OptionSpec, message: str = "") -> Html:
    """What stands beside an option: its default and help, or what is wrong with the value."""
    if message:
        return html('<span class="tm-wrong" role="alert">{message}</span>', message=message)
    default = "SciPy chooses" if option.default is None else f"default {option.default}"
    single = "" if option.float32 is None else f" (float32: {option.float32:g})"
    return html("<small>{default}{single} · {help}</small>", default=default, single=single, help=option.help)


def outcome(history: History, solved: bool | None) -> str:
    """Whether a run that has ended found the known answer; empty where none is known."""
    if solved is None or not len(history):
        return ""
    return "solved" if solved else "not solved"


def alert(message: str) -> Html:
    """A message that a screen reader reads out at once; empty for none."""
    return html('<div class="tm-alert" role="alert">{message}</div>', message=message) if message else Html()


def explained(error: BaseException) -> str:
    """An error in words. Errors of this package name their remedy; others are said to come from the closure."""
    text = " ".join(text_of(error).split()) or type(error).__name__
    if isinstance(error, TorchminError):
        return text
    return (
        f"The closure raised {type(error).__name__}: {text}. Call it once yourself at the start, and make it return a "
        f"scalar loss; then run again."
    )


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _plural(count: float, noun: str) -> str:
    return f"{count:,.0f} {noun}{'' if round(count) == 1 else 's'}"
