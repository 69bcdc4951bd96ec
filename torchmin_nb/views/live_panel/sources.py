"""What a panel shows: a run here, a minimisation that blocks its cell, or files that other processes write."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ...core.callbacks.history_file import HistoryTail
from ...core.display.html import html
from ...core.execution.run import FAILED, FINISHED, PAUSED, PENDING, STOPPED, Run
from ...core.history.history import History
from ...core.optimizers.multistart.result import MultiStart, StartRun
from ...core.runtime.control import Status
from ...errors import ArgumentError, text_of
from ..words import status_line
from .header import WAITING, WHY, Button, Fact, Header, buttons_of, header_of

__all__ = ["BlockingSource", "FileSource", "Moment", "RunSource", "Source", "StartsSource"]

_OVER = (STOPPED, FINISHED, FAILED)
_NOTHING = History()


class Moment(NamedTuple):
    """What there is to show now. title: of the figure that stays. notes: what the legend says of runs. over: whether
    nothing new will come. below: HTML that is shown below the figure.
    """

    histories: Mapping[str, History]
    header: Header
    title: str
    buttons: tuple[Button, ...] = ()
    notes: Mapping[str, str] = {}
    over: bool = False
    below: str = ""

    def key(self) -> object:
        """Equal where nothing is new."""
        return [len(history) for history in self.histories.values()], self.header, self.buttons, self.notes, self.below


class Source(Protocol):
    """Where a panel looks, from a thread of its own."""

    def moment(self) -> Moment:
        """What there is now."""

    def press(self, action: str, count: int) -> None:
        """A button was pressed."""


class RunSource:
    """A run in a thread, and beside a branch the run that it left. name: of its curves. beside: other histories."""

    def __init__(self, run: Run, name: str, beside: Mapping[str, History]):
        self.run = run
        self._name = name
        self._beside = dict(beside)
        self._examining: threading.Thread | None = None
        self._below: str = ""

    def moment(self) -> Moment:
        run = self.run
        state: str | None = run.state
        over = state in _OVER
        history, error = run.history, run.exception
        if not over and history.message is not None:
            state = None  # it has ended, but for its callbacks
        # A run that waits for its start is paused, to a reader.
        shown = PAUSED if state == PENDING and run.wait_until_paused(0) else state
        raised = "" if error is None else f"{type(error).__name__}: {text_of(error)}"
        header = header_of(history, shown, run.limits, f"{raised}. run.wait() raises it." if raised else "")
        title = status_line(history, shown)
        if raised and history.message is None:  # it failed before the first closure call
            title = f"{history.method} · ended: Failed: {raised}"
        if over and self._leaves_a_question():
            title += " · run.diagnose() says why"
        histories = {**self._others(), self._name: history}
        busy = self._examining is not None and self._examining.is_alive()
        buttons = buttons_of(state)
        if run.can_be_diagnosed and len(history):
            buttons = *buttons, WHY
        if busy:
            buttons = tuple(button._replace(enabled=False) for button in buttons)
        return Moment(histories, header, title, buttons, over=over and not busy, below=self._below)

    def press(self, action: str, count: int) -> None:
        """Steer the run: an action of a Button."""
        if action == "pause":
            self.run.pause()
        elif action == "resume":
            self.run.resume()
        elif action == "stop":
            self.run.stop()
        elif action in ("step", "many") and self.run.state in (PAUSED, PENDING):
            self.run.advance(count if action == "many" else 1)
        elif action == "why" and self.run.can_be_diagnosed:
            self._below = html("<p>Examining the loss where the run stands …</p>")
            self._examining = threading.Thread(target=self._examine, name="torchmin_nb why", daemon=True)
            self._examining.start()

    def _examine(self) -> None:
        """In a thread: a diagnosis takes fifty closure calls, and the kernel goes on meanwhile."""
        try:
            self._below = self.run.diagnose()._repr_html_()
        except Exception as error:
            self._below = html("<p>{name}: {text}</p>", name=type(error).__name__, text=text_of(error))

    def _leaves_a_question(self) -> bool:
        """Whether it ended without success, nobody asked for that, and it can be asked why."""
        history = self.run.history
        known = history.success or history.status in (Status.STOPPED, Status.INTERRUPTED) or self._below
        return not known and self.run.can_be_diagnosed and len(history) > 0

    def _others(self) -> Mapping[str, History]:
        origin = self.run.origin
        if origin is None or any(history is origin.history for history in self._beside.values()):
            return self._beside
        return {**self._beside, f"first run: {origin.history.method}": origin.history}


class BlockingSource:
    """A minimisation that blocks its cell, which hears no button."""

    def __init__(self, history: History, name: str, beside: Mapping[str, History]):
        self.history = history
        self._name = name
        self._beside = dict(beside)

    def moment(self) -> Moment:
        histories = {**self._beside, self._name: self.history}
        over = self.history.message is not None
        return Moment(histories, header_of(self.history), status_line(self.history), over=over)

    def press(self, action: str, count: int) -> None:
        """There are no buttons."""


class FileSource:
    """The last run of each of these history files, while they grow. Raises HistoryError for what is no such file, and
    ArgumentError without any.
    """

    _POLL = 0.5
    """Seconds between two looks at the files."""
    _QUIET = 60.0
    """Seconds without a new line after which the header says so."""

    def __init__(self, paths: Sequence[str | os.PathLike[str]]):
        if not paths:
            raise ArgumentError("there is no path to follow; give that of a HistoryFile")
        self._tails = dict(zip(_names(paths), map(HistoryTail, paths), strict=True))
        self._histories: dict[str, History] = {}
        self._due = 0.0
        self._poll()

    @property
    def histories(self) -> Mapping[str, History]:
        """What was read so far, by the files' names."""
        return {name: self._histories[name] for name in self._tails if name in self._histories}

    def moment(self) -> Moment:
        if time.monotonic() >= self._due:
            self._poll()
        headers = {name: header_of(history) for name, history in self.histories.items()}
        notes = {name: _note(headers[name]) if name in headers else "not there yet" for name in self._tails}
        over = len(headers) == len(self._tails) and all(h.message is not None for h in self._histories.values())
        header = self._header(headers)
        # All files from the start, so that each has its colour for good.
        histories = {name: self._histories.get(name, _NOTHING) for name in self._tails}
        return Moment(histories, header, header.line(), notes=notes, over=over)

    def press(self, action: str, count: int) -> None:
        """There are no buttons: the runs are not in this process."""

    def _poll(self) -> None:
        self._due = time.monotonic() + self._POLL
        for name, tail in self._tails.items():
            if tail.poll():
                self._histories[name] = tail.histories()[-1]

    def _header(self, headers: Mapping[str, Header]) -> Header:
        files = ", ".join(tail.path.name for tail in self._tails.values())
        if not headers:
            return Header(WAITING, files, verdict="The file is not there yet.")
        if len(self._tails) == 1:
            (header,) = headers.values()
            return self._with_age(header._replace(method=f"{header.method} · {files}"))
        counts = {badge: sum(header.badge == badge for header in headers.values()) for badge in _badges(headers)}
        missing = len(self._tails) - len(headers)
        words = [f"{count} {badge}" for badge, count in counts.items()] + (
            [f"{missing} not there yet"] if missing else []
        )
        badge = next(
            (badge for badge in ("running", WAITING) if badge in counts or (badge == WAITING and missing)), "finished"
        )
        return self._with_age(Header(badge, f"{len(self._tails)} files", verdict=", ".join(words)))

    def _with_age(self, header: Header) -> Header:
        """A process that was killed leaves no ending: then the age of the file tells."""
        quiet = min((time.time() - _written(tail.path) for tail in self._tails.values()), default=0.0)
        if header.badge not in ("running", WAITING) or quiet < self._QUIET:
            return header
        return header._replace(verdict=f"Nothing was written for {quiet / 60:.0f} min: it works on, or was killed.")


class StartsSource:
    """The runs of `multistart` so far. total: number of starts. shown: so many of the best are drawn."""

    def __init__(self, total: int, shown: int):
        self.found: MultiStart | None = None
        self._total = total
        self._shown = shown
        self._over = False

    def end(self, found: MultiStart) -> None:
        """Nothing more will come."""
        self.found, self._over = found, True

    def moment(self) -> Moment:
        found, over = self.found, self._over
        best = [run for run in found or () if len(run.history)][: self._shown]
        histories = {run.name: run.history for run in best}
        notes = {run.name: _of_start(run, found) for run in best if found is not None}
        if not over:  # the legend has its room from the start, so that nothing moves as runs arrive
            empty = [f"place {place}" for place in range(len(best) + 1, min(self._shown, self._total) + 1)]
            histories |= dict.fromkeys(empty, _NOTHING)
            notes |= dict.fromkeys(empty, "not there yet")
        header = self._header(found, over) if found else self._without_runs(found)
        title = f"{header.method} · {found.summary()}" if found else header.line()
        return Moment(histories, header, title, notes=notes, over=over)

    def press(self, action: str, count: int) -> None:
        """There are no buttons: the cell blocks, and an interrupt of the kernel ends the runs."""

    def _without_runs(self, found: MultiStart | None) -> Header:
        if found is None:
            return Header(WAITING, f"{self._total} starts", verdict="The first runs are under way.")
        return Header(STOPPED, "", verdict=found.summary(), tone="warning")

    def _header(self, found: MultiStart, over: bool) -> Header:
        best = found.best
        facts = [
            Fact("starts", f"{len(found)} / {self._total}"),
            *([] if best.failed else [Fact("best loss", f"{best.loss:.6g}")]),
            Fact("distinct minima", str(len(found.minima))),
            *([Fact("failed", str(len(found.failed)))] if found.failed else []),
        ]
        badge = "running" if not over else STOPPED if found.ended else FINISHED
        shown = f"The {self._shown} best runs are drawn." if len(found) > self._shown else ""
        ending = f"It ended early: {found.ended}." if found.ended else f"The best run is {best.name}." if over else ""
        verdict = " ".join(filter(None, [ending, shown]))
        tone = "" if not over else "warning" if found.ended else "good"
        return Header(badge, best.history.method, tuple(facts), len(found) / self._total, verdict, tone=tone)


def _of_start(run: StartRun, found: MultiStart) -> str:
    minimum = found.minimum_of(run)
    where = "failed" if run.failed else "without success" if minimum is None else f"minimum {minimum}"
    return f"loss {run.loss:.6g} · {where}"


def _names(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Of the files, with their folders where they are needed to tell them apart."""
    places = [Path(path) for path in paths]
    stems = [place.stem for place in places]
    return stems if len(set(stems)) == len(stems) else [str(place) for place in places]


def _badges(headers: Mapping[str, Header]) -> list[str]:
    return list(dict.fromkeys(header.badge for header in headers.values()))


def _note(header: Header) -> str:
    loss = [f"loss {fact.text}" for fact in header.facts if fact.name == "loss"]
    return " · ".join([header.method, *loss, header.badge])


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
