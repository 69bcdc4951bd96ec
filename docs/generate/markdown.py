"""Parts of Markdown pages."""

from __future__ import annotations

__all__ = ["table", "toctree"]


def table(rows: list[tuple[str, ...]]) -> str:
    """A table; the first row is its header."""
    header, *body = ([cell.replace("|", r"\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *body))


def toctree(entries: list[str]) -> str:
    """The pages below this one, for the navigation; the text of the page names them itself."""
    return "\n".join(["```{toctree}", ":hidden:", "", *entries, "```"])
