"""What the remedies of a report did: their curves side by side, and a table."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from ..core.history.history import History
from ..doctor import Report
from .bundle import show
from .frontend import TERMINAL, front_end

__all__ = ["show_rescue"]

_LONGEST = 34
"""Letters of a remedy in the legend; the table below it has the whole sentence."""


def show_rescue(histories: Mapping[str, History], report: Report) -> None:
    """Show the curves by closure calls, and the table of trials, in the cell that is running; nothing in a terminal."""
    if front_end() == TERMINAL:
        return
    from IPython.display import HTML, display

    short = {name: textwrap.shorten(name, _LONGEST, placeholder=" …") for name in histories}
    if len(set(short.values())) < len(short):
        short = {name: name for name in histories}
    drawn = {short[name]: history for name, history in histories.items() if len(history)}
    if drawn:
        show(drawn, x="closure calls", panels=("loss", "gradient norm"), title="Remedies, side by side")
    display(HTML(report.trials_html()))
