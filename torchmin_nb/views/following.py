"""follow: the live panel of a run in another process, from the HistoryFile that it writes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal

from ..core.history.history import History
from .frontend import HEADLESS, STATIC, TERMINAL, cell, front_end
from .live_panel.sources import FileSource
from .panels import AUTO, PanelName, XAxis
from .scene import Scene, ViewScale
from .screens import PanelScreen, PictureScreen, Screen, StaticScreen
from .session import Session

__all__ = ["Follower", "follow"]

_Path = str | os.PathLike[str]


def follow(
    paths: _Path | Sequence[_Path],
    *,
    x: XAxis = "iteration",
    panels: Literal["auto"] | PanelName | Sequence[str] = AUTO,
    scale: ViewScale = "log",
    height: int | None = None,
) -> Follower:
    """Show the live panel of a run in another process, from the `HistoryFile` that it writes, while it grows.

    A training script under torchrun, or on a machine whose disk is mounted here, can so be watched from a notebook. Of
    each file the last run is shown; the curves of several files are drawn over each other. A file that is not there
    yet is waited for, and a line that is half written is read when it is whole. When all runs have ended, a static
    figure takes the panel's place. In a terminal a line a file is printed.

    Parameters
    ----------
    paths : path or sequence of paths
        What `HistoryFile(path)` writes.
    x : {"iteration", "closure calls", "seconds"}
        What the x axis shows at first.
    panels : "auto" or names of panels
        As for `Dashboard`.
    scale : {"log", "linear", "loss - best"}
        Of the y axes, at first.
    height : int, optional
        Pixels of the figure at least.

    Returns
    -------
    Follower
        `histories` is what was read so far, by the files' names; `close()` ends it.

    Raises
    ------
    HistoryError
        A file is something else, or has lines missing.
    ArgumentError
        A choice is not known, or there is no path.

    Examples
    --------
    In the script: `MinimizeWrapper(params, "L-BFGS-B", callbacks=[HistoryFile("run.jsonl")])`. In the notebook:

    >>> watched = follow("run.jsonl")  # doctest: +SKIP
    >>> watched.histories["run"].loss[-1]  # doctest: +SKIP
    0.0123
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    scene = Scene({}, x=x, panels=panels, scale=scale, height=height)
    return Follower(FileSource(several), scene)


class Follower:
    """History files that are watched: what `follow` returns. As the last line of another cell it is shown there."""

    def __init__(self, source: FileSource, scene: Scene):
        self._source = source
        self._scene = scene
        self._session: Session | None = None
        self._cell: int | None = None
        self._open()

    @property
    def histories(self) -> Mapping[str, History]:
        """What was read so far, by the files' names: the last run of each."""
        return self._source.histories

    def close(self) -> None:
        """Leave a static figure, and read no more."""
        session, self._session = self._session, None
        if session is not None:
            session.free()

    def _open(self) -> None:
        where = front_end()
        if where == TERMINAL:
            print(*self._lines(), sep="\n")
            return
        self._cell = cell()
        self._session = Session(self._source, self._scene, lambda session: _screen(where, session), rate=5.0)
        self._session.open()
        if where == HEADLESS:
            self._session.settle()
        else:
            self._session.watch()

    def _lines(self) -> list[str]:
        lines = [f"{name}: {history.summary()}" for name, history in self.histories.items()]
        return lines or [self._source.moment().header.line()]

    def _ipython_display_(self) -> None:
        if front_end() == TERMINAL:
            print(*self._lines(), sep="\n")
        elif cell() != self._cell:
            if self._session is not None:
                self._scene = self._session.scene
            self.close()
            self._open()

    def __repr__(self) -> str:
        return f"<Follower of {self._source.moment().header.line()}>"


def _screen(where: str, session: Session) -> Screen:
    if where == HEADLESS:
        return PictureScreen()
    return StaticScreen() if where == STATIC else PanelScreen(session)
