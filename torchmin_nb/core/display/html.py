"""Builds the HTML of every page, table and HTML widget of this package.

Names, messages and errors come from outside. All text is escaped, except HTML that this module made.
"""

from __future__ import annotations

import html as _html
from collections.abc import Iterable, Sequence

__all__ = ["Html", "escaped", "html", "html_page", "html_table", "joined"]

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


_CELL = '<td style="text-align:{side};padding:2px 8px;border-bottom:1px solid rgba(128,128,128,.35)">{cell}</td>'


class Html(str):
    """HTML, made by this module or known to be safe. Any other str is text."""

    __slots__ = ()


def escaped(text: object) -> Html:
    """Text as HTML, for an element or a quoted attribute; Html is not changed."""
    return text if isinstance(text, Html) else Html(_html.escape(str(text)))


def html(form: str, /, **parts: object) -> Html:
    """`form`, a literal with tags, with every {part} escaped.

    >>> html("<b>{name}</b>", name="a < b")
    '<b>a &lt; b</b>'
    """
    return Html(form.format(**{name: escaped(part) for name, part in parts.items()}))


def joined(parts: Iterable[object], between: str = "") -> Html:
    """The parts escaped, side by side; `between` is HTML."""
    return Html(between.join(map(escaped, parts)))


def html_table(rows: Sequence[Sequence[object]], sides: Sequence[str]) -> Html:
    """A table: the headings, then the other rows. sides: "left" or "right", for each column."""

    def line(form: str, cells: Sequence[object]) -> Html:
        pairs = zip(cells, sides, strict=True)
        return html("<tr>{cells}</tr>", cells=joined(html(form, cell=cell, side=side) for cell, side in pairs))

    head, *others = rows
    return html(
        "<table style='border-collapse:collapse'><thead>{head}</thead><tbody>{body}</tbody></table>",
        head=line(_CELL.replace("td", "th"), head),
        body=joined(line(_CELL, row) for row in others),
    )


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
