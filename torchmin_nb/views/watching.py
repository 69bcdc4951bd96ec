"""A cell that watches a run: it draws in the main thread, and needs neither widgets nor other threads."""

from __future__ import annotations

from ..core.execution.run import PAUSED, Run
from .frontend import HEADLESS, TERMINAL, front_end
from .live_panel.sources import RunSource
from .progress import ProgressLine
from .scene import Scene
from .screens import PictureScreen, Screen, StaticScreen
from .session import scene_at

__all__ = ["watch_run"]

_PATIENCE = 10.0
"""Seconds that an interrupted cell waits for the run to stand still: a closure call may be long."""


def watch_run(run: Run, interval: float) -> None:
    """Draw the run every `interval` seconds until it pauses or ends; an interrupt pauses it."""
    where = front_end()
    if where == TERMINAL:
        _watch_in_terminal(run, interval)
        return
    source = RunSource(run, run.history.method or "run", {})
    screen: Screen = PictureScreen() if where == HEADLESS else StaticScreen()
    moment = source.moment()
    screen.open(scene_at(Scene({}), moment))
    drawn = moment.key()
    try:
        while not moment.over and moment.header.badge != PAUSED:
            run.wait_until_paused(interval)
            moment = source.moment()
            if moment.key() != drawn:
                screen.draw(scene_at(Scene({}), moment))
                drawn = moment.key()
    except KeyboardInterrupt:
        _pause(run)
    screen.end(scene_at(Scene({}), source.moment()))


def _watch_in_terminal(run: Run, interval: float) -> None:
    line = ProgressLine()
    line.on_start(run.history)
    try:
        while run.wait_until_paused(interval) is False and run.history.message is None and run.exception is None:
            if len(run.history):
                line(run.history[-1])
    except KeyboardInterrupt:
        _pause(run)
    line.on_end(run.history)


def _pause(run: Run) -> None:
    run.pause()
    run.wait_until_paused(_PATIENCE)
