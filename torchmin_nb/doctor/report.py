"""Report: the verdict on a run, with evidence and remedies, as text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.display.hooks import show_rescue
from ..core.display.html import Html, html, html_table, joined
from ..core.display.tables import text_table
from ..core.execution.run import Run
from ..errors import ArgumentError
from .finding import Evidence, Finding
from .remedy import Remedy
from .rescue import Trial, rescue
from .subject import Subject

__all__ = ["Report"]


class Report:
    """Why a run ended where it did: one verdict, its evidence, and what to change. Shown, it is a page in words.

    Attributes
    ----------
    findings : tuple of Finding
        What the rules have found, the most serious first. The first one is the verdict.
    rule : str
        Name of the first rule that holds.
    verdict : str
        What is wrong, in a sentence; or that nothing is.
    healthy : bool
        Whether the run ended as it should.
    evidence : tuple of Evidence
        The numbers behind the verdict, each with its meaning.
    remedy : Remedy or None
        What to change; None if nothing is to be changed.
    alternatives : tuple of Remedy
        Other remedies, best first.
    evaluations : int
        Closure calls that the diagnosis took.
    products : int
        Hessian-vector products that it took.
    trials : tuple of Trial
        What `rescue` has tried; empty before.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> closure = lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> optimizer = MinimizeWrapper([x], dict(method="BFGS", options=dict(maxiter=5)))
    >>> loss = optimizer.step(closure)
    >>> report = optimizer.diagnose(closure)
    >>> report.rule, report.healthy, report.evaluations + report.products <= 50
    ('budget too small', False, True)
    >>> print(report.remedy.what)
    Give it a larger budget.
    """

    def __init__(self, subject: Subject, findings: Sequence[Finding], evaluations: int, products: int):
        self._subject = subject
        self.findings = tuple(findings)
        self.evaluations, self.products = evaluations, products
        self.trials: tuple[Trial, ...] = ()

    @property
    def _first(self) -> Finding:
        return self.findings[0]

    @property
    def rule(self) -> str:
        """Name of the first rule that holds."""
        return self._first.rule

    @property
    def verdict(self) -> str:
        """What is wrong, in a sentence; or that nothing is."""
        return self._first.verdict

    @property
    def healthy(self) -> bool:
        """Whether the run ended as it should."""
        return self._first.healthy

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The numbers behind the verdict."""
        return self._first.evidence

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """All remedies, best first: those of the verdict, then those of what else was found; each code once."""
        found = [remedy for finding in self.findings if not finding.healthy for remedy in finding.remedies]
        return tuple({remedy.code: remedy for remedy in reversed(found)}.values())[::-1]

    @property
    def remedy(self) -> Remedy | None:
        """What to change first; None if nothing is to be changed."""
        return self.remedies[0] if self.remedies else None

    @property
    def alternatives(self) -> tuple[Remedy, ...]:
        """The other remedies, best first."""
        return self.remedies[1:]

    def rescue(self, *, share: float = 0.05, most: int = 4, callbacks: Any = None) -> Run:
        """Try the remedies where the run stood, and let the best one go on.

        Each remedy that needs nothing from you gets `share` of the run's closure calls and products. The one with the
        lowest loss goes on with the run's own budget. `trials` then says what helped and what did not; in a notebook
        its curves are shown side by side.

        Parameters
        ----------
        share : float, optional
            The part of the run's budget that each remedy gets, at least 20 calls. Default 0.05.
        most : int, optional
            Largest number of remedies that are tried. Default 4.
        callbacks : callable, list of callables or None, optional
            Of the run that goes on. Default: those of the run.

        Returns
        -------
        Run
            The run that goes on, under way. Its `origin` is the run that was examined, if there is one.

        Raises
        ------
        ArgumentError
            If there is no remedy that can be tried, or an argument has a value that is not allowed.
        BusyError
            If the run that was examined has not ended.
        RescueError
            If no remedy lowered the loss. The parameters are then as they were.

        Notes
        -----
        A remedy in float64 changes the parameters' dtype: if it wins, they stay in float64. Otherwise the parameters
        are restored after each trial.

        Examples
        --------
        >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
        >>> closure = lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        >>> optimizer = MinimizeWrapper([x], dict(method="BFGS", options=dict(maxiter=5)))
        >>> loss = optimizer.step(closure)
        >>> run = optimizer.diagnose(closure).rescue()
        >>> run.wait().fun < 1e-8
        True
        """
        if not 0 < share <= 1:
            raise ArgumentError(f"share must be above 0 and at most 1, the part of the budget for each, got {share!r}")
        chosen = {"share": share, "most": most, "callbacks": callbacks}
        return rescue(self._subject, self.remedies, **chosen, told=self._show_trials)

    def _show_trials(self, trials: tuple[Trial, ...]) -> None:
        self.trials = trials
        show_rescue({each.remedy.what: each.history for each in trials}, self)

    def __repr__(self) -> str:
        head = f"<Report on {self._subject.method or 'a closure'}: {self.rule}>"
        rows = [("measured", "value", "meaning"), *((each.name, each.value, each.meaning) for each in self.evidence)]
        parts = [f"{head}\n{self.verdict}", text_table(rows, align="<<<")]
        parts += [_remedy_text(i, remedy) for i, remedy in enumerate(self.remedies)]
        parts += [f"Also: {finding.verdict}" for finding in self.findings[1:] if not finding.healthy]
        if self.trials:
            parts.append(text_table(self._trial_rows(), align="<>><"))
        parts.append(self._cost())
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        rows = [("measured", "value", "meaning"), *((each.name, each.value, each.meaning) for each in self.evidence)]
        also = [finding.verdict for finding in self.findings[1:] if not finding.healthy]
        return html(
            "<div style='padding:0 8px'><p><b>{verdict}</b></p><div style='overflow-x:auto'>{table}</div>{remedies}"
            "{also}{trials}<p style='opacity:.75'>{cost}</p></div>",
            verdict=self.verdict,
            table=html_table(rows, ["left", "left", "left"]),
            remedies=joined(_remedy_html(i, remedy) for i, remedy in enumerate(self.remedies)),
            also=joined(html("<p>Also: {words}</p>", words=words) for words in also),
            trials=self.trials_html(),
            cost=self._cost(),
        )

    def trials_html(self) -> str:
        """The table of trials as HTML; empty before `rescue`."""
        return html_table(self._trial_rows(), ["left", "right", "right", "left"]) if self.trials else html("")

    def _trial_rows(self) -> list[tuple[str, str, str, str]]:
        head = ("tried", "loss", "calls", "")
        return [head, *(trial.row() for trial in self.trials)]

    def _cost(self) -> str:
        spent = f"{self.evaluations} closure calls and {self.products} products"
        return f"Measured with {spent}. Rule: {self.rule} ({self._first.source})."


def _remedy_text(index: int, remedy: Remedy) -> str:
    head = "Remedy" if not index else f"Alternative {index}"
    code = "\n".join(f"    {line}" for line in remedy.code.splitlines())
    tried = f"\n    # not tried by rescue(): {remedy.not_tried}" if remedy.not_tried else ""
    return f"{head}: {remedy.what}\n{code}{tried}"


def _remedy_html(index: int, remedy: Remedy) -> Html:
    tried = f"not tried by rescue(): {remedy.not_tried}" if remedy.not_tried else ""
    return html(
        "<p><b>{head}:</b> {what} <span style='opacity:.75'>{tried}</span></p>"
        "<pre style='overflow-x:auto;padding:.5rem;border:1px solid rgba(128,128,128,.35);border-radius:4px'>"
        "<code>{code}</code></pre>",
        head="Remedy" if not index else f"Alternative {index}",
        what=remedy.what,
        tried=tried,
        code=remedy.code,
    )
