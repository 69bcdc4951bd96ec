"""`Report.rescue`: each remedy gets a small budget where the run stood; the best one goes on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.execution.run import Run
from ..core.history.history import History
from ..core.optimizers.device_optimizer import DeviceOptimizer
from ..core.optimizers.least_squares import LeastSquaresWrapper
from ..core.optimizers.minimize import MinimizeWrapper
from ..core.validation import count
from ..errors import ArgumentError, BusyError, RescueError, described
from .feasibility import FEASIBLE, violation_of
from .laboratory import Laboratory, OutOfBudget, left_as_it_was
from .remedy import Change, Remedy
from .subject import Subject

__all__ = ["Trial", "rescue"]

_LEAST = 20
_LEAST_TO_GO_ON = 1000


@dataclass(frozen=True, eq=False)
class Trial:
    """What a remedy did with its share of the budget.

    Attributes
    ----------
    remedy : Remedy
        The remedy.
    history : History
        The iterations of its run.
    before : float
        The loss where the run stood.
    loss : float
        The lowest loss of the trial.
    error : str
        What was raised; empty if nothing was.
    helped : bool
        Whether it lowered the loss by more than rounding; where constraints were violated, whether it lowered the
        violation.
    violation : float
        The largest violation of the constraints at the end of the trial; 0 without constraints.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> closure = lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> optimizer = MinimizeWrapper([x], dict(method="BFGS", options=dict(maxiter=5)))
    >>> loss = optimizer.step(closure)
    >>> report = optimizer.diagnose(closure)
    >>> end = report.rescue(most=1).wait()
    >>> [trial.helped for trial in report.trials]
    [True]
    """

    remedy: Remedy
    history: History
    before: float
    loss: float
    error: str
    helped: bool
    violation: float = 0.0

    def row(self) -> tuple[str, str, str, str]:
        """What was tried, the loss, the calls, and whether it helped, in words.

        Returns
        -------
        tuple of str
            Four cells of a table.
        """
        totals = self.history.totals
        calls = "–" if totals is None else f"{totals.nfev + totals.nhvp:,}"
        words = self.error or (f"helped: from {self.before:.3g}" if self.helped else "did not help")
        words += f", violation {self.violation:.1g}" if self.violation > FEASIBLE else ""
        return self.remedy.what, f"{self.loss:.4g}", calls, words


@dataclass(eq=False)
class _State:
    """A point of the model: the tensors' memory and dtype, and the values."""

    held: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]]

    @classmethod
    def now(cls, tensors: list[torch.Tensor]) -> _State:
        return cls([(each, each.data, each.detach().clone(), each.grad) for each in tensors])

    def put_back(self) -> None:
        """The same memory with the same values."""
        for tensor, data, values, gradient in self.held:
            if tensor.data_ptr() != data.data_ptr() or tensor.dtype is not data.dtype:
                tensor.grad = None
                tensor.data = data
            with torch.no_grad():
                tensor.copy_(values)
            tensor.grad = gradient


@dataclass(eq=False)
class _Attempt:
    """A remedy that is tried: its optimizer, and the state of the model at the end of its share."""

    trial: Trial
    optimizer: DeviceOptimizer
    end: _State


def rescue(
    subject: Subject,
    remedies: Sequence[Remedy],
    *,
    share: float,
    most: int,
    callbacks: Any,
    told: Callable[[tuple[Trial, ...]], object],
) -> Run:
    """See Report.rescue. told: called with the trials, before the best goes on."""
    if subject.run is not None and not subject.run._ended.is_set():
        raise BusyError("the run still holds the parameters: call run.stop() and run.wait() before report.rescue()")
    chosen = [each for each in remedies if each.change is not None][: count("most", most)]
    if not chosen:
        reasons = "; ".join(f"{each.what} ({each.not_tried})" for each in remedies) or "nothing is to be changed"
        raise ArgumentError(f"there is no remedy to try: {reasons}")
    state = _State.now(subject.flat.tensors)
    calls = max(_LEAST, math.ceil(share * subject.spent))
    before = _Worth(violation_of(subject, subject.x), _loss(subject))
    attempts, trials = [], []
    try:
        for remedy in chosen:
            attempt = _attempt(remedy, subject, calls, before)
            trials.append(attempt.trial if isinstance(attempt, _Attempt) else attempt)
            if isinstance(attempt, _Attempt) and attempt.trial.helped:
                attempts.append(attempt)
            state.put_back()
    except BaseException:
        state.put_back()
        raise
    told(tuple(trials))
    if not attempts:
        raise RescueError(
            "no remedy lowered the loss: " + "; ".join(f"{each.remedy.what} ({each.row()[3]})" for each in trials)
        )
    return _go_on(min(attempts, key=lambda each: _Worth(each.trial.violation, each.trial.loss).key), subject, callbacks)


class _Worth(NamedTuple):
    """How good a point is: first its violation of the constraints, then its loss."""

    violation: float
    loss: float

    @property
    def key(self) -> tuple[float, float]:
        return max(self.violation, FEASIBLE), self.loss

    def better_than(self, other: _Worth, eps: float) -> bool:
        """By more than rounding."""
        if not (math.isfinite(self.loss) and math.isfinite(self.violation)):
            return False
        if other.violation > FEASIBLE:
            return self.violation < 0.9 * other.violation
        return self.violation <= FEASIBLE and not self.loss >= other.loss - 10 * eps * abs(other.loss)


def _loss(subject: Subject) -> float:
    with left_as_it_was(subject.flat):
        try:
            return Laboratory(subject, 1).sample(level="value").loss
        except OutOfBudget:
            return math.nan


def _attempt(remedy: Remedy, subject: Subject, calls: int, before: _Worth) -> _Attempt | Trial:
    assert remedy.change is not None
    try:
        _place(subject, remedy.change)
        optimizer = _optimizer(subject, remedy.change, calls)
        with warnings.catch_warnings(action="ignore"):
            optimizer.start(subject.given).wait()
    except Exception as error:
        return Trial(remedy, History(subject.method), before.loss, math.nan, described(error), helped=False)
    final = optimizer.history.final_loss
    found = _Worth(violation_of(subject, subject.flat.read()), math.nan if final is None else final)
    helped = found.better_than(before, subject.flat.eps)
    trial = Trial(remedy, optimizer.history, before.loss, found.loss, "", helped=helped, violation=found.violation)
    return _Attempt(trial, optimizer, _State.now(subject.flat.tensors))


def _place(subject: Subject, change: Change) -> None:
    """The start and the dtype of the remedy."""
    if change.double:
        for tensor in subject.flat.tensors:
            tensor.grad = None
            tensor.data = tensor.data.double()
    _begin_at(subject, subject.x if change.start is None else change.start)


def _begin_at(subject: Subject, x: NDArray[np.float64]) -> None:
    """x inside the bounds, from which some methods stray a little."""
    variables = subject.variables
    if variables.bounds is not None:
        z = np.clip(variables.to_solver(x), variables.bounds.lb, variables.bounds.ub)
        x = np.ascontiguousarray(variables.to_user(z))
    subject.flat.write_final(x)


def _optimizer(subject: Subject, change: Change, calls: int) -> DeviceOptimizer:
    keywords: dict[str, Any] = {"max_evaluations": calls, "start_check": False}
    if change.loss_scale is not None:
        keywords["loss_scale"] = change.loss_scale
    engine = change.engine or (subject.engine if change.method is None and subject.spec is not None else None)
    if engine is not None:
        keywords["engine"] = engine
    kept = {} if change.method is not None else _own_options(subject)
    method = change.method or (subject.method if subject.spec is not None else "L-BFGS-B")
    groups = _groups(subject, change)
    options = {**kept, **change.options}
    optimizer: DeviceOptimizer
    if subject.residuals:
        optimizer = LeastSquaresWrapper(groups, {"method": method, **options}, **keywords)
    else:
        arguments = {**subject.arguments, "method": method, "options": options}
        if any(group.get("bounds") is not None for group in groups):
            arguments.pop("bounds", None)
        optimizer = MinimizeWrapper(groups, arguments, **keywords)
    optimizer._budgets["max_work"] = calls
    optimizer._goes_on = True
    return optimizer


def _own_options(subject: Subject) -> dict[str, Any]:
    """The options of the run, without its limits: the budget of a remedy is of closure calls."""
    limits = ("maxiter", "maxfev", "maxfun", "max_nfev", "max_iter")
    known = subject.spec.options if subject.spec is not None else {}
    return {name: value for name, value in subject.options.items() if name in known and name not in limits}


def _groups(subject: Subject, change: Change) -> list[dict[str, Any]]:
    """The param groups; with sizes, one group for each tensor."""
    if change.sizes is None:
        return [dict(group) for group in subject.groups]
    bounds = {id(t): group.get("bounds") for group in subject.groups for t in group["params"]}
    groups: list[dict[str, Any]] = []
    begin = 0
    for tensor in subject.flat.tensors:
        part = change.sizes[begin : begin + tensor.numel()].reshape(tuple(tensor.shape))
        begin += tensor.numel()
        group: dict[str, Any] = {"params": [tensor], "scale": torch.tensor(part, dtype=torch.float64)}
        if bounds[id(tensor)] is not None:
            group["bounds"] = bounds[id(tensor)]
        groups.append(group)
    return groups


def _go_on(best: _Attempt, subject: Subject, callbacks: Any) -> Run:
    """The run of the winner, from the end of its trial, with the budget of the run that was examined."""
    assert best.trial.remedy.change is not None
    best.end.put_back()
    _begin_at(subject, subject.flat.read())
    given: Mapping[str, float] = subject.limits
    own = int(best.trial.remedy.change.factor * max(subject.spent, _LEAST_TO_GO_ON))
    change, optimizer = best.trial.remedy.change, best.optimizer
    again = _optimizer(subject, change, own)
    if getattr(again, "engine", "") == "torch":  # SciPy's methods would begin anew, with a warning for what is lost
        again.load_state_dict(optimizer.state_dict())
    if "max_seconds" in given:
        again._budgets["max_seconds"] = given["max_seconds"]
    again.callbacks = list(subject.callbacks) if callbacks is None else _listed(callbacks)
    with warnings.catch_warnings(action="ignore"):
        run = again.start(subject.given)
    run.origin = subject.run
    return run


def _listed(callbacks: Any) -> list[Any]:
    return [callbacks] if callable(callbacks) else list(callbacks)
