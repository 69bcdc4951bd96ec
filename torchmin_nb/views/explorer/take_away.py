"""What a person carries away: code, tables, histories, a report and an animated page."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...errors import ArgumentError
from ...explore import Call, RunTable, report_html, script
from ...explore.literal import comment
from .words import explained

__all__ = ["FILES", "code_of", "made_file"]

FILES = (
    {"key": "csv", "text": "Table as CSV"},
    {"key": "histories", "text": "Histories as CSV"},
    {"key": "json", "text": "All as JSON"},
    {"key": "report", "text": "HTML report"},
    {"key": "animation", "text": "Animated page"},
)


def code_of(call: Call) -> str:
    """The script of a call; a comment with the reason where there is none."""
    try:
        return script(call)
    except Exception as error:
        return f"# This run has no script: {comment(explained(error))}\n"


def made_file(key: str, table: RunTable) -> tuple[str, str, str]:
    """File name, MIME type and text of a file of FILES. Raises ArgumentError where no run is shown."""
    if not table.shown:
        raise ArgumentError("There is no run to save yet; press Run.")
    name, kind, make = _MAKERS[key]
    return name, kind, make(table)


def _report(table: RunTable) -> str:
    from ..figures import convergence_figure

    figure = convergence_figure(table.histories)
    return report_html(table, title="Runs", figure=figure.to_html(full_html=False, include_plotlyjs=True))


def _animation(table: RunTable) -> str:
    from ..animate import animated_html

    return str(animated_html(table.histories))


_MAKERS: Mapping[str, tuple[str, str, Callable[[RunTable], str]]] = {
    "csv": ("runs.csv", "text/csv", lambda table: table.to_csv()),
    "histories": ("histories.csv", "text/csv", lambda table: table.histories_to_csv()),
    "json": ("runs.json", "application/json", lambda table: table.to_json()),
    "report": ("runs.html", "text/html", _report),
    "animation": ("runs-animated.html", "text/html", _animation),
}
