"""The iterations of a run as an HTML table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..display.html import Html, html, joined
from ..display.tables import number_text, sparkline
from .records import Iteration

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["history_html"]

_SHOWN_ROWS = 5


def history_html(summary: str, iterations: Sequence[Iteration], column: Callable[[str], NDArray[Any]]) -> Html:
    """The summary, a sparkline of the loss, and the first and last iterations. column: one field of all iterations."""
    title = html("<b>{summary}</b>", summary=summary)
    if not len(iterations):
        return html("<div>{title}</div>", title=title)
    spark = html(
        '<span title="loss, log scale" style="font-family:monospace">{bars}</span>', bars=sparkline(column("loss"))
    )
    names = [name for name in _TABLE if not np.isnan(column(name).astype(float)).all()]
    head = joined(html("<th>{heading}</th>", heading=_TABLE[name]) for name in names)
    body = joined(_row_html(iterations, index, names) for index in _ends(len(iterations)))
    return html(
        "<div>{title}<br>{spark}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>",
        title=title,
        spark=spark,
        head=head,
        body=body,
    )


def _row_html(iterations: Sequence[Iteration], index: int | None, names: Sequence[str]) -> Html:
    if index is None:
        return Html("<tr><td colspan='99' style='text-align:center'>…</td></tr>")
    cells = joined(html("<td>{cell}</td>", cell=_cell(getattr(iterations[index], name))) for name in names)
    return html("<tr>{cells}</tr>", cells=cells)


_TABLE = {
    "index": "iteration",
    "loss": "loss",
    "grad_norm": "gradient norm",
    "step_norm": "step norm",
    "trust_radius": "trust radius",
    "reduction_ratio": "reduction ratio",
    "constraint_violation": "constraint violation",
    "kkt_residual": "KKT residual",
    "nfev": "closure calls",
    "nhvp": "HVPs",
    "elapsed": "seconds",
}


def _ends(length: int) -> list[int | None]:
    if length <= 2 * _SHOWN_ROWS:
        return list(range(length))
    return [*range(_SHOWN_ROWS), None, *range(length - _SHOWN_ROWS, length)]


def _cell(value: float | int | None) -> str:
    return str(value) if isinstance(value, int) else number_text(value, ".4g")
