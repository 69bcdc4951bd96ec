"""Where text becomes HTML: every page, table and HTML widget of this package is put together here.

Names, messages and errors come from outside. Text is escaped when it is put into HTML; only what was made here is not.
"""

from __future__ import annotations

import html as _html
from collections.abc import Iterable

__all__ = ["Html", "escaped", "html", "joined"]


class Html(str):
    """HTML, made by this module or known to be safe. Any other str is text."""

    __slots__ = ()


def escaped(text: object) -> Html:
    """Text as HTML, in an element or between quotes; Html as it is."""
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
