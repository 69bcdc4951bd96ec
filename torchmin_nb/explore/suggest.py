"""Which method to try first on a problem, and why: a table of rules about its traits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.optimizers.device_run import EngineName
from .catalogue import catalogue
from .fit import fit
from .traits import Traits

__all__ = ["FASTER_ON_TORCH", "RULES", "Advice", "EngineRule", "Rule", "Suggestion", "suggest"]

_PATIENCE = 60.0
"""Acceptable seconds for a search of all minima."""
_HESSIAN_PATIENCE = 5.0
"""Acceptable seconds for thirty Hessians."""
_ASSUMED = 1e-3
"""Assumed seconds of a closure call without a measurement."""


@dataclass(frozen=True)
class Rule:
    """Suggest `method` if `when` holds; why: a sentence. options: better than the method's defaults here."""

    method: str
    when: Callable[[Traits], bool]
    why: Callable[[Traits], str]
    options: Callable[[Traits], Mapping[str, Any]] = lambda traits: {}


@dataclass(frozen=True)
class EngineRule:
    """If `when` holds, the solver on the device is faster for `method`; why: a sentence."""

    method: str
    when: Callable[[Traits], bool]
    why: Callable[[Traits], str]


@dataclass(frozen=True)
class Suggestion:
    """A method to try, with the reasons for it.

    Attributes
    ----------
    method : str
        Name of the method.
    reasons : tuple of str
        Why, in sentences.
    options : dict
        Options to set; empty for the defaults.
    cautions : tuple of str
        What to expect, in words.
    engine : {"scipy", "torch", "auto"} or None
        The engine to choose; None for the default.

    See Also
    --------
    suggest : makes it, and has an example.
    """

    method: str
    reasons: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    engine: EngineName | None = None


@dataclass(frozen=True)
class Advice:
    """The method to try first, and others to try next.

    Attributes
    ----------
    best : Suggestion or None
        The first one; None if nothing fits.
    others : tuple of Suggestion
        The next ones.

    See Also
    --------
    suggest : makes it, and has an example.
    """

    best: Suggestion | None
    others: tuple[Suggestion, ...] = ()


def suggest(traits: Traits, *, others: int = 2) -> Advice:
    """Which method to try first on a problem, and why. Only the traits decide; measured times are among them.

    The first rules that hold, and whose methods fit, are taken.

    Parameters
    ----------
    traits : Traits
        The problem.
    others : int, optional
        Largest number of further suggestions. Default 2.

    Returns
    -------
    Advice
        The suggestions with their reasons.

    Examples
    --------
    >>> suggest(Traits(n=50_000, seconds_per_call=0.01, seconds_per_product=0.02)).best.method
    'trust-ncg'
    """
    suggestions: dict[str, Suggestion] = {}
    entries = catalogue()
    for rule in RULES:
        if rule.method in suggestions or not rule.when(traits):
            continue
        faster = next((each for each in FASTER_ON_TORCH if each.method == rule.method and each.when(traits)), None)
        engine: EngineName | None = None if faster is None else "torch"
        fits = fit(entries[rule.method].on(engine), traits)
        if fits:
            reasons = (rule.why(traits), "" if faster is None else faster.why(traits), _times(traits))
            suggestions[rule.method] = Suggestion(
                rule.method, tuple(filter(None, reasons)), rule.options(traits), fits.cautions, engine
            )
        if len(suggestions) > others:
            break
    best, *rest = suggestions.values() if suggestions else (None,)
    return Advice(best, tuple(each for each in rest if each is not None))


def _times(traits: Traits) -> str:
    if traits.seconds_per_call is None:
        return ""
    product = traits.seconds_per_product
    known = "" if product is None else f", a Hessian-vector product {_short(product)}"
    return f"a closure call takes {_short(traits.seconds_per_call)}{known}"


def _short(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _call(traits: Traits) -> float:
    return traits.seconds_per_call or _ASSUMED


def _searchable(traits: Traits, calls: float) -> bool:
    """Several minima, and this many closure calls are affordable."""
    return traits.many_minima and calls * _call(traits) <= _PATIENCE


def _hessian_is_cheap(traits: Traits) -> bool:
    """N products in each of about thirty iterations are affordable."""
    return (
        traits.smooth and traits.n <= 300 and 30 * traits.n * traits.product_cost * _call(traits) <= _HESSIAN_PATIENCE
    )


def _squares(traits: Traits) -> str:
    return (
        f"the loss is half a sum of {traits.residuals:,} squares: a least-squares method uses each residual, and so "
        f"learns much more from one step"
    )


RULES: tuple[Rule, ...] = (
    # Sums of squares.
    Rule(
        "gauss-newton",
        lambda t: t.n > 50 and t.many_minima and t.smooth,
        lambda t: (
            f"a sum of {t.residuals:,} squares with many minima and N = {t.n}, as of a network: its Jacobian is nearly "
            f"singular, and steps of least norm change only the parameters that it determines"
        ),
        lambda t: {"max_iter": 200},  # the loss of a network decreases for thousands of iterations
    ),
    Rule("lm", lambda t: t.n <= 500 and t.smooth, _squares),
    Rule("trf", lambda t: True, _squares),
    # Several minima: a global search, if there is time.
    Rule(
        "dual_annealing",
        lambda t: t.box and not t.constraints and t.n <= 20 and _searchable(t, 4000.0 * t.n),
        lambda t: f"several minima in a box of N = {t.n} parameters: a local method ends in the nearest",
    ),
    Rule(
        "differential_evolution",
        lambda t: t.box and t.n <= 20 and _searchable(t, 4000.0 * t.n),
        lambda t: "several minima in a box: a population searches the whole box",
    ),
    Rule(
        "basinhopping",
        lambda t: t.n <= 50 and _searchable(t, 5000.0),
        lambda t: "several minima: hops from one to the next, and needs no box",
    ),
    # Constraints.
    Rule(
        "SLSQP",
        lambda t: t.constraints and t.smooth and t.n <= 500,
        lambda t: f"constraints on N = {t.n} parameters: few enough for its dense subproblems",
    ),
    Rule(
        "trust-constr",
        lambda t: t.constraints and t.smooth,
        lambda t: "constraints: an interior-point method that needs only products, for any size",
    ),
    Rule(
        "COBYQA",
        lambda t: t.constraints and t.n <= 100,
        lambda t: "constraints without derivatives: it uses models of the loss",
    ),
    # A loss with kinks.
    Rule(
        "Nelder-Mead",
        lambda t: not t.smooth and t.n <= 10,
        lambda t: f"the loss has kinks and N = {t.n} is small: a simplex uses no derivatives",
        lambda t: {"maxiter": 1000 * t.n, "maxfev": 2000 * t.n},
    ),
    Rule(
        "BFGS",
        lambda t: not t.smooth and t.n <= 1000,
        lambda t: "the loss has kinks: quasi-Newton steps work well at them (Lewis and Overton 2013)",
    ),
    Rule(
        "Powell",
        lambda t: not t.smooth and t.n <= 50,
        lambda t: "the loss has kinks: line searches without derivatives",
    ),
    # Smooth, without limits.
    Rule(
        "trust-exact",
        lambda t: not t.constraints and _hessian_is_cheap(t),
        lambda t: f"smooth with N = {t.n}: the whole Hessian costs {t.n} products, and leads to the fewest iterations",
        # Newton's steps double the digits: a small gradient needs one or two more iterations; SciPy's 1e-4 is coarse.
        lambda t: {} if "float32" in t.dtype else {"gtol": 1e-8},
    ),
    Rule(
        "trust-ncg",
        lambda t: t.smooth and t.n > 1000 and t.product_cost <= 5,
        lambda t: (
            f"smooth with N = {t.n:,}, and a product costs {t.product_cost:.1f} closure calls: curvature is cheap, an "
            f"N×N array is not"
        ),
    ),
    Rule(
        "BFGS",
        lambda t: t.n <= 1000,
        lambda t: f"N = {t.n:,}: its N×N array is small, and it learns the curvature from gradients",
    ),
    Rule(
        "L-BFGS-B",
        lambda t: True,
        lambda t: (
            "bounds and gradients: a few vectors of memory, one closure call an iteration"
            if t.bounds
            else f"N = {t.n:,}: a few vectors of memory, one closure call an iteration"
        ),
    ),
    Rule(
        "trust-constr",
        lambda t: t.bounds and t.smooth,
        lambda t: "bounds with curvature: fewer iterations where the valley is narrow",
    ),
    Rule(
        "trust-krylov",
        lambda t: t.smooth and t.n > 300,
        lambda t: "products solve the subproblem nearly exactly: fewer iterations",
    ),
    Rule("TNC", lambda t: t.bounds, lambda t: "bounds with truncated Newton steps"),
    Rule("CG", lambda t: True, lambda t: "three vectors of memory, for very many parameters"),
)
"""Tried in this order."""

FASTER_ON_TORCH: tuple[EngineRule, ...] = (
    EngineRule(
        "BFGS",
        lambda t: t.n >= 300,
        lambda t: 'engine="torch": an update of its N×N array takes N² arithmetic; SciPy multiplies N×N matrices, N³',
    ),
    EngineRule(
        "L-BFGS-B",
        lambda t: t.n >= 100_000 and t.dtype == "float32" and not t.bounds,
        lambda t: 'engine="torch": its vectors stay float32 on the device; SciPy copies each to float64 on the CPU',
    ),
)
"""Where a suggestion names engine="torch"."""
