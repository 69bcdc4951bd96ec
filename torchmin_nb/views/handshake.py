"""The handshake with a front end: whether a live widget is seen there, which no kernel is told."""

from __future__ import annotations

from collections.abc import Callable

from .frontend import LIVE, asked_client
from .main_thread import FreeTime, main_thread
from .weak_methods import weakly

__all__ = ["DEAF", "SILENT", "Handshake"]

_PATIENCE = 3.0
"""Seconds in which the main thread is free: whatever a page sent while cells ran has been heard after them."""
SILENT = "This front end did not load the live widget"
DEAF = "This front end does not show what the kernel sends between cells"


class Handshake:
    """Asks the client that sent the present request, unless it is known.

    gave_up(why): called in the main thread if the client does not answer; came_back(): if it answers after all. The
    verdict holds for the client's next displays.
    """

    def __init__(self, gave_up: Callable[[str], None], came_back: Callable[[], None]):
        self._gave_up, self._came_back = gave_up, came_back
        self._client = asked_client()
        self._lives: bool | None = None
        self._loaded = self._over = False
        self._quiet: FreeTime | None = None
        main = main_thread()
        if main is not None and self._client is not None and self._client not in LIVE:
            self._quiet = FreeTime(main, _PATIENCE, weakly(self._nothing_came))

    def loaded(self) -> None:
        """The widget's script runs in a page. Whether that gets what threads send is not known yet."""
        self._loaded = True
        if self._over and not self._lives:
            self._settle(None)

    def heard(self) -> None:
        """A page got what a thread had sent."""
        late = self._lives is False
        self._settle(True)
        if late:
            self._came_back()

    def end(self) -> None:
        """Nothing more is sent: if the script is loaded, the next display asks for the rest."""
        self._over = True
        if self._loaded and self._lives is None:
            self._settle(None)

    def cancel(self) -> None:
        """The widget is closed, so that no page can answer."""
        if self._quiet is not None:
            self._quiet.cancel()

    def _settle(self, lives: bool | None) -> None:
        self._lives = lives
        self.cancel()
        if self._client is None:
            return
        if lives is None:
            LIVE.pop(self._client, None)
        else:
            LIVE[self._client] = lives

    def _nothing_came(self) -> None:
        if LIVE.get(self._client or ""):  # another display was answered
            return
        self._settle(False)
        self._gave_up(DEAF if self._loaded else SILENT)
