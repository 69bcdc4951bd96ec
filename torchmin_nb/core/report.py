"""Histories as text and HTML tables. Needs neither Plotly nor widgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .events import Iteration
from .html import Html, html, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .events import History

__all__ = [
    "animated_by",
    "animated_page",
    "comparison_rows",
    "comparison_text",
    "history_html",
    "history_page",
    "html_page",
    "text_table",
]

Column = tuple[str, Callable[["History"], str]]
_BARS = "▁▂▃▄▅▆▇█"
_SHOWN_ROWS = 5
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .5rem 0; }
th, td { text-align: right; padding: 2px 8px; }
tr.pinned { font-weight: 600; }
tr.failed { opacity: .75; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid rgba(128,128,128,.35); border-radius: 4px; }
figure { margin: 1rem 0; }
.wide { overflow-x: auto; }
"""
_animate: Callable[..., str] | None = None


def comparison_rows(histories: Mapping[str, History], extra: Sequence[Column] = ()) -> list[tuple[str, ...]]:
    """A header and one row a run: method, loss, gradient norm, iterations, closure calls, HVPs, seconds."""
    columns: list[Column] = [
        ("loss", lambda h: _number(_last(h).loss if h.final_loss is None else h.final_loss, ".6f")),
        ("gradient norm", lambda h: _number(_last(h).grad_norm, ".1e")),
        ("iterations", lambda h: str(_last(h).index)),
        ("closure calls", lambda h: str(h.totals.nfev if h.totals else _last(h).nfev)),
        ("HVPs", lambda h: str(h.totals.nhvp if h.totals else _last(h).nhvp)),
        ("seconds", lambda h: f"{h.totals.seconds if h.totals else _last(h).elapsed:.2f}"),
        *extra,
    ]
    head = ("method", *(name for name, _ in columns))
    return [head, *((name, *(cell(history) for _, cell in columns)) for name, history in histories.items())]


def _last(history: History) -> Iteration:
    """The last iteration; of a run that never began, one without a loss."""
    return history[-1] if len(history) else Iteration(0, math.nan)


def comparison_text(histories: Mapping[str, History], extra: Sequence[Column] = ()) -> str:
    """The comparison as an aligned table."""
    return text_table(comparison_rows(histories, extra))


def text_table(rows: Sequence[Sequence[str]], *, align: str | None = None) -> str:
    """Aligned columns under a ruled header; `align` has < or > for each column, numbers right by default."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = align or "<" + ">" * (len(widths) - 1)
    lines = [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)) for row in rows
    ]
    rule = "  ".join("─" * width for width in widths)
    return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:]))


def sparkline(values: NDArray[np.float64], width: int = 40) -> str:
    """A row of block characters, on a log scale where all values are positive."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    picked = finite[np.linspace(0, finite.size - 1, min(width, finite.size)).astype(int)]
    heights = np.log10(picked) if (picked > 0).all() else picked
    span = float(np.ptp(heights)) or 1.0
    levels = ((heights - heights.min()) / span * (len(_BARS) - 1)).round().astype(int)
    return "".join(_BARS[level] for level in levels)


def history_html(history: History) -> Html:
    """The summary, a sparkline of the loss, and the first and last iterations."""
    title = html("<b>{summary}</b>", summary=history.summary())
    if not len(history):
        return html("<div>{title}</div>", title=title)
    spark = html(
        '<span title="loss, log scale" style="font-family:monospace">{bars}</span>', bars=sparkline(history.loss)
    )
    return html(
        "<div>{title}<br>{spark}{iterations}</div>", title=title, spark=spark, iterations=_iterations_html(history)
    )


def history_page(history: History) -> Html:
    """The same as a whole HTML page."""
    return html_page(history.method or "run", html('<div class="wide">{body}</div>', body=history_html(history)))


def animated_by(render: Callable[..., str]) -> None:
    """Say how a history becomes an animated page; this package knows no views."""
    global _animate
    _animate = render


def animated_page(history: History, **shown: Any) -> str:
    """The history as an animated HTML page, by whatever `animated_by` was told."""
    if _animate is None:
        raise ImportError("animated pages need plotly: pip install 'torchmin-nb[notebook]'")
    return _animate(history, **shown)


def html_page(title: str, body: Html) -> Html:
    """A whole HTML page around a body. Colours are the browser's own, light or dark."""
    return html(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>\n'
        "<body>{body}</body></html>\n",
        title=title,
        style=Html(_STYLE),
        body=body,
    )


def _iterations_html(history: History) -> Html:
    names = [name for name in _TABLE if not np.isnan(history.column(name).astype(float)).all()]
    head = joined(html("<th>{heading}</th>", heading=_TABLE[name]) for name in names)
    body = joined(_iteration_html(history, index, names) for index in _ends(len(history)))
    return html("<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", head=head, body=body)


def _iteration_html(history: History, index: int | None, names: Sequence[str]) -> Html:
    if index is None:
        return Html("<tr><td colspan='99' style='text-align:center'>…</td></tr>")
    cells = joined(html("<td>{cell}</td>", cell=_cell(getattr(history[index], name))) for name in names)
    return html("<tr>{cells}</tr>", cells=cells)


_TABLE = {
    "index": "iteration",
    "loss": "loss",
    "grad_norm": "gradient norm",
    "step_norm": "step norm",
    "trust_radius": "trust radius",
    "reduction_ratio": "reduction ratio",
    "constraint_violation": "constraint violation",
    "nfev": "closure calls",
    "nhvp": "HVPs",
    "elapsed": "seconds",
}


def _ends(length: int) -> list[int | None]:
    if length <= 2 * _SHOWN_ROWS:
        return list(range(length))
    return [*range(_SHOWN_ROWS), None, *range(length - _SHOWN_ROWS, length)]


def _cell(value: float | int | None) -> str:
    return str(value) if isinstance(value, int) else _number(value, ".4g")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:{form}}"
