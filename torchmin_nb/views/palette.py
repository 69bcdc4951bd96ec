"""Colours and marks that hold in light and dark themes and for colour-blind eyes, and what all figures share."""

from __future__ import annotations

from typing import Any

__all__ = [
    "CLEAR",
    "DASHES",
    "GRID",
    "HIDDEN_BUTTONS",
    "INK",
    "LOOK",
    "MARKED",
    "MARKERS",
    "RUNS",
    "WARNING",
    "style",
]

# Okabe & Ito (2008), without black and yellow, which vanish on one of the two themes.
RUNS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "pentagon", "star")
WARNING = "#D55E00"
INK = "#7a7a7a"
"""Text: contrast of 4.3:1 on white and of 4.4:1 on the dark theme's near-black."""
GRID = "rgba(128, 128, 128, 0.25)"
CLEAR = "rgba(0,0,0,0)"
MARKED = 60
"""Up to so many points of a curve, each is marked."""
HIDDEN_BUTTONS = ("lasso2d", "select2d", "autoScale2d", "sendChartToCloud")
"""Plotly's buttons that serve nothing here; the last would upload the figure and its data."""
LOOK: dict[str, Any] = {
    "autosize": True,
    "uirevision": "keep",
    "paper_bgcolor": CLEAR,
    "plot_bgcolor": CLEAR,
    "font": {"color": INK, "size": 12},
    "hoverlabel": {"bgcolor": "rgba(40,40,40,0.92)", "font": {"color": "#f2f2f2"}},
}
"""Of the layout of every Plotly figure."""


def style(index: int) -> tuple[str, str, str]:
    """Colour, dash and marker of a run in all figures.

    From the seventh run on, the colours come again with other dashes and markers. They can be distinguished on light
    and dark themes and by colour-blind eyes.

    Parameters
    ----------
    index : int
        Number of the run, from 0.

    Returns
    -------
    tuple of (str, str, str)
        Colour as "#rrggbb", one of the dashes, one of the markers of `Mark`.

    References
    ----------
    M. Okabe, K. Ito, "Color universal design" (2008).

    Examples
    --------
    >>> style(0), style(6)
    (('#0072B2', 'solid', 'circle'), ('#0072B2', 'dash', 'square'))
    """
    turn, place = divmod(index, len(RUNS))
    return RUNS[place], DASHES[(place + turn) % len(DASHES)], MARKERS[(place + turn) % len(MARKERS)]
