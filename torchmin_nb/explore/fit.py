"""Does a method fit a problem? If not, why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..core.runtime.memory import readable_bytes
from .catalogue import GLOBAL, LEAST_SQUARES, Entry
from .traits import Traits

__all__ = ["MANY_CALLS", "Fit", "fit"]

MANY_CALLS = 5000
"""A method without gradients is useless if its first iteration needs more closure calls than this."""
_DIRECT_SOLVE = 3000
"""A factorisation of this size takes about a second in every iteration."""


@dataclass(frozen=True)
class Fit:
    """Whether a method fits a problem. Its truth value is `fits`.

    Attributes
    ----------
    fits : bool
        Whether it fits.
    reason : str
        Why not, in words; empty if it fits.
    cautions : tuple of str
        What to expect if it fits, in words.

    See Also
    --------
    fit : makes it, and has an example.
    """

    fits: bool
    reason: str = ""
    cautions: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.fits


def fit(entry: Entry, traits: Traits) -> Fit:
    """Whether a method fits a problem: the first reason why it cannot, or should not, be run; cautions if it can.

    Parameters
    ----------
    entry : Entry
        The method.
    traits : Traits
        The problem.

    Returns
    -------
    Fit
        The answer, with its reason.

    Examples
    --------
    >>> fit(entry("BFGS"), Traits(n=2, bounds=True)).reason
    'takes no bounds'
    >>> bool(fit(entry("L-BFGS-B"), Traits(n=2, bounds=True)))
    True
    """
    for refuse in _REFUSALS:
        reason = refuse(entry, traits)
        if reason:
            return Fit(fits=False, reason=reason)
    return Fit(fits=True, cautions=tuple(filter(None, (warn(entry, traits) for warn in _CAUTIONS))))


def _takes_no_bounds(entry: Entry, traits: Traits) -> str:
    return "takes no bounds" if traits.bounds and not entry.bounds else ""


def _needs_bounds(entry: Entry, traits: Traits) -> str:
    return "needs finite bounds on every parameter" if entry.needs_bounds and not traits.box else ""


def _takes_no_constraints(entry: Entry, traits: Traits) -> str:
    return "takes no constraints" if traits.constraints and not entry.constraints else ""


def _needs_residuals(entry: Entry, traits: Traits) -> str:
    missing = entry.kind == LEAST_SQUARES and traits.residuals is None
    return "needs residuals: the loss is not known as a sum of squares" if missing else ""


def _too_few_residuals(entry: Entry, traits: Traits) -> str:
    few = traits.residuals is not None and traits.residuals < traits.n
    return (
        f"needs as many residuals as parameters: {traits.residuals} < {traits.n}"
        if entry.overdetermined and few
        else ""
    )


def _too_large(entry: Entry, traits: Traits) -> str:
    size = entry.bytes(traits.n, traits.residuals or 0)
    if size <= traits.memory:
        return ""
    return f"N×N = {readable_bytes(8.0 * traits.n**2)}: {readable_bytes(size)} in all do not fit into memory"


def _too_many_calls(entry: Entry, traits: Traits) -> str:
    calls = entry.calls(traits.n)
    if entry.gradient or entry.kind == GLOBAL or calls <= MANY_CALLS:
        return ""
    return f"gradient-free at N = {traits.n:,}: ~{calls:,.0f} closure calls in the first iteration"


def _too_many_variables(entry: Entry, traits: Traits) -> str:
    many = entry.most is not None and traits.n > entry.most
    return f"searches at most {entry.most:,} variables in a reasonable time, here N = {traits.n:,}" if many else ""


_REFUSALS: tuple[Callable[[Entry, Traits], str], ...] = (
    _takes_no_constraints,
    _takes_no_bounds,
    _needs_bounds,
    _needs_residuals,
    _too_few_residuals,
    _too_large,
    _too_many_variables,
    _too_many_calls,
)


def _not_smooth(entry: Entry, traits: Traits) -> str:
    return (
        "uses second derivatives of a loss that is not smooth"
        if entry.curvature != "none" and not traits.smooth
        else ""
    )


def _slow_factorisation(entry: Entry, traits: Traits) -> str:
    cubic = entry.curvature == "dense" and traits.n >= _DIRECT_SOLVE
    return f"factorises a {traits.n:,}×{traits.n:,} matrix each iteration" if cubic else ""


def _local_only(entry: Entry, traits: Traits) -> str:
    return "ends at the nearest of several minima" if traits.many_minima and entry.kind != GLOBAL else ""


def _single_precision(entry: Entry, traits: Traits) -> str:
    short = "float32" in traits.dtype and entry.gradient
    return "float32 rounds the loss: the method may end before its tolerances are met" if short else ""


_CAUTIONS: tuple[Callable[[Entry, Traits], str], ...] = (
    _not_smooth,
    _slow_factorisation,
    _local_only,
    _single_precision,
)
