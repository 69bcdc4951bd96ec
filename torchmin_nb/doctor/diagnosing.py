"""`diagnose`: asks the rules, one after the other, about a run."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from ..core.execution.run import Run, exclusive_parameters
from ..core.optimizers.several_processes import has_ranks
from ..core.validation import positive
from ..errors import DistributedError
from .examination import Examination
from .finding import Finding, Rule
from .laboratory import Laboratory, left_as_it_was
from .report import Report
from .rules import LAST, RULES
from .subject import Subject, subject_of

__all__ = ["diagnose"]

_LEAST = 50
_SHARE = 0.05


def diagnose(
    optimizer: Any, closure: Callable[[], Any], *, run: Run | None = None, budget: int | None = None
) -> Report:
    """Why a run ended where it did. ``optimizer.diagnose(closure)`` and ``run.diagnose()`` call it.

    Parameters
    ----------
    optimizer : ScipyOptimizer
        A wrapper, or what a run of `observe` steers.
    closure : callable
        The closure of the run.
    run : Run or None, optional
        The run. Default: the last run of the optimizer.
    budget : int or None, optional
        Largest number of closure calls and Hessian-vector products. Default: 5 % of the run's, at least 50.

    Returns
    -------
    Report
        The verdict, its evidence and the remedies.

    Raises
    ------
    ArgumentError
        If the budget is not positive.
    DistributedError
        If the closure is one of several processes.

    Examples
    --------
    >>> from torchmin_nb.doctor import diagnose
    >>> x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    >>> optimizer = MinimizeWrapper([x], "BFGS")
    >>> closure = lambda: (x**2).sum() + torch.rand(())
    >>> print(diagnose(optimizer, closure).rule)
    stochastic closure
    """
    if has_ranks(closure):
        raise DistributedError("diagnose takes a closure of one process; call it on one rank with its own batches")
    given = positive("budget", budget, Integral)
    subject = subject_of(optimizer, closure, run)
    budget = max(int(_SHARE * subject.spent), _LEAST) if given is None else int(given)
    if subject.under_way:  # the run holds the parameters, and stands still
        return _examined(subject, budget)
    with exclusive_parameters(subject.flat.tensors):
        return _examined(subject, budget)


def _examined(subject: Subject, budget: int) -> Report:
    lab = Laboratory(subject, budget)
    with left_as_it_was(subject.flat), _quiet():
        examination = Examination(subject, lab)
        try:
            findings = _findings(RULES, examination) or _findings(LAST, examination)[:1]
        finally:
            lab.close()
    return Report(subject, findings, lab.calls, lab.products)


def _findings(rules: Sequence[Rule], examination: Examination) -> list[Finding]:
    """What the rules find, up to one after which nothing more can be measured."""
    found = []
    for rule in rules:
        finding = rule.ask(examination)
        if finding is not None:
            found.append(finding)
            if rule.last:
                break
    return found


def _quiet() -> warnings.catch_warnings[Any]:
    """Without the warnings of probes, in the main thread: the list of filters is not of one thread."""
    quiet = warnings.catch_warnings(action="ignore") if threading.current_thread() is threading.main_thread() else None
    return quiet or warnings.catch_warnings()
