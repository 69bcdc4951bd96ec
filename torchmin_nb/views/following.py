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

__all__ = ["Follower", "follow", "screen_of"]

_Path = str | os.PathLike[str]


def follow(
    paths: _Path | Sequence[_Path],
    *,
    x: XAxis = "iteration",
    panels: Literal["auto"] | PanelName | Sequence[str] = AUTO,
    scale: ViewScale = "log",
    height: int | None = None,
) -> Follower:
    """Show the live panel of a run in another process, from the file of its `HistoryFile`, while the file grows.

    So a notebook can watch a training script under torchrun, or one on another machine whose disk is mounted here. The
    last run of each file is shown; the curves of several files are drawn over each other. A file that does not exist
    yet is waited for, and a line that is half written is read when it is complete. When all runs have ended, a static
    figure takes the panel's place. In a terminal one line a file is printed.

    Parameters
    ----------
    paths : str, os.PathLike or sequence of them
        The files that `HistoryFile` writes.
    x : {"iteration", "closure calls", "seconds"}, optional
        What the x axis shows at first. Default "iteration".
    panels : "auto", str or sequence of str, optional
        As for `Dashboard`. Default "auto": what the runs report.
    scale : {"log", "linear", "loss - best"}, optional
        Scale of the y axes at first. Default "log".
    height : int or None, optional
        Least height of the figure in pixels. Default None: what the panels need.

    Returns
    -------
    Follower
        ``histories`` is a dict of the runs read so far, by the names of the files; ``close()`` ends the watching and
        leaves a static figure.

    Raises
    ------
    ArgumentError
        If x, panels or scale is not known, or there is no path.
    HistoryError
        If a file is not a history file, or has lines missing.

    Examples
    --------
    The script adds a `HistoryFile` to its callbacks, and the notebook follows the file:

    >>> result = minimize(lambda x: (x**2).sum(), [3.0, 4.0], "BFGS", callbacks=[HistoryFile("run.jsonl")])
    >>> watched = follow("run.jsonl")  # doctest: +ELLIPSIS
    run: BFGS: 3 iterations, loss ...
    >>> watched.histories["run"] == result.history
    True
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
        self._session = Session(self._source, self._scene, lambda session: screen_of(where, session), rate=5.0)
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


def screen_of(where: str, session: Session) -> Screen:
    """The screen of a session in this front end."""
    if where == HEADLESS:
        return PictureScreen()
    return StaticScreen() if where == STATIC else PanelScreen(session)
