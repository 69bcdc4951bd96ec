"""Text as Plotly takes it: it reads tags, entities, mathematics between dollar signs, and %{…} in hover templates."""

from __future__ import annotations

import html

__all__ = ["plotly_text"]

_MARKS = {"$": "&#36;", "%{": "&#37;{", "\n": "<br>"}
"""As entities, `$` begins no formula and `%{` no placeholder; Plotly turns them back when it draws."""


def plotly_text(text: str) -> str:
    """Text that is drawn as it is, whatever is in it; a line break is one."""
    shown = html.escape(text, quote=False)
    for mark, written in _MARKS.items():
        shown = shown.replace(mark, written)
    return shown
