"""Runs as one self-contained HTML page: the table, a figure, and the code of each run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.display.html import Html, html, html_page, joined
from ..core.storage.atomic_files import write_text
from .literal import comment
from .script import script
from .table import RunRow, RunTable

__all__ = ["report_html"]


def report_html(
    table: RunTable, *, title: str = "Runs", figure: str = "", notes: str = "", path: str | Path | None = None
) -> str:
    """Runs as a whole HTML page: the table, a figure, and the code of each run.

    Parameters
    ----------
    table : RunTable
        The runs; hidden rows are left out.
    title : str, optional
        Title of the page. Default "Runs".
    figure : str, optional
        HTML of a figure, put in as it is. For a page that needs no network it must bring its scripts, as
        ``figure.to_html(full_html=False, include_plotlyjs=True)`` does.
    notes : str, optional
        Text; blank lines separate paragraphs.
    path : str, Path or None, optional
        File that the page is also written to.

    Returns
    -------
    str
        The page.

    Examples
    --------
    >>> table = RunTable().add(run(Call("Rosenbrock", "BFGS")))
    >>> page = report_html(table, title="One run", path="report.html")
    >>> "One run" in page, "from torchmin_nb import MinimizeWrapper" in page
    (True, True)
    """
    parts = [
        html("<h1>{title}</h1>", title=title),
        *(html("<p>{part}</p>", part=part.strip()) for part in notes.split("\n\n") if part.strip()),
        html('<div class="wide">{table}</div>', table=table.to_html(title)),
        html("<figure>{figure}</figure>", figure=Html(figure)) if figure else "",
        _scripts(table.shown),
    ]
    text = html_page(title, joined(filter(None, parts), "\n"))
    if path is not None:
        write_text(path, text)
    return text


def _scripts(rows: Sequence[RunRow]) -> Html:
    if not rows:
        return Html()
    form = "<details><summary>{name}</summary><pre><code>{code}</code></pre></details>"
    return html("<h2>Code</h2>{blocks}", blocks=joined(html(form, name=row.name, code=_code(row)) for row in rows))


def _code(row: RunRow) -> str:
    """The run's script, or the reason why there is none."""
    try:
        return script(row.call)
    except Exception as error:
        return f"# This run has no script: {comment(str(error))}"
