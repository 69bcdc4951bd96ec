"""What a rule returns: a verdict with its evidence and remedies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .remedy import Remedy

if TYPE_CHECKING:
    from .examination import Examination

__all__ = ["Evidence", "Finding", "Rule", "measured", "number"]


@dataclass(frozen=True)
class Evidence:
    """A number that was measured, with what it means.

    Attributes
    ----------
    name : str
        What was measured.
    value : str
        The number, rounded, or what was seen, as text.
    meaning : str
        What it means, in words.
    number : float, tuple of float or None
        The number itself; two that belong together are a tuple. None if what was seen is no number.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> closure = lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> optimizer = MinimizeWrapper([x], dict(method="BFGS", options=dict(maxiter=5)))
    >>> loss = optimizer.step(closure)
    >>> first = optimizer.diagnose(closure).evidence[0]
    >>> first.name, first.value, first.number
    ('iterations', '5', 5)
    """

    name: str
    value: str
    meaning: str
    number: float | tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class Finding:
    """What one rule has found.

    Attributes
    ----------
    rule : str
        Name of the rule.
    verdict : str
        What is wrong, in a sentence.
    healthy : bool
        Whether the run ended as it should.
    evidence : tuple of Evidence
        The numbers.
    remedies : tuple of Remedy
        What to change, best first.
    source : str
        Where the rule comes from.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    >>> optimizer = MinimizeWrapper([x], "BFGS")
    >>> loss = optimizer.step(lambda: ((x - 3) ** 2).sum())
    >>> finding = optimizer.diagnose(lambda: ((x - 3) ** 2).sum()).findings[0]
    >>> finding.rule, finding.healthy
    ('converged', True)
    """

    rule: str
    verdict: str
    healthy: bool
    evidence: tuple[Evidence, ...]
    remedies: tuple[Remedy, ...]
    source: str


@dataclass(frozen=True, eq=False)
class Rule:
    """A row of the table: signal → verdict → remedy.

    signal: the evidence if the rule holds, else None. verdict: the sentence. remedies: best first. source: where the
    rule comes from. healthy: whether the run ended as it should. last: whether no more can be measured if it holds.
    """

    name: str
    signal: Callable[[Examination], list[Evidence] | None]
    verdict: Callable[[Examination], str]
    remedies: Callable[[Examination], list[Remedy]]
    source: str
    healthy: bool = False
    last: bool = False

    def ask(self, examination: Examination) -> Finding | None:
        """The finding, if the rule holds."""
        evidence = self.signal(examination)
        if evidence is None:
            return None
        return Finding(
            self.name,
            self.verdict(examination),
            self.healthy,
            tuple(evidence),
            tuple(self.remedies(examination)),
            self.source,
        )


def number(value: float | None) -> str:
    """A number as text."""
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def measured(
    name: str,
    value: float | tuple[float, ...] | None,
    meaning: str,
    *,
    text: str | None = None,
    joined: str = " against ",
) -> Evidence:
    """Evidence with its number. text: in place of the rounded number. joined: between the numbers of a tuple."""
    values = value if isinstance(value, tuple) else (value,)
    return Evidence(name, joined.join(map(number, values)) if text is None else text, meaning, value)
