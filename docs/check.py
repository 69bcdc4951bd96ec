"""`python docs/check.py FOLDER` reads the built site.

Broken links, pictures without words, and anything fetched from outside fail it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["mistakes"]

FETCHED = {"script": "src", "img": "src", "source": "src", "iframe": "src"}
"""What a browser fetches by itself, with <link>."""
RELATIONS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload"}


class Page(HTMLParser):
    """The ids, links, pictures and fetched files of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.without_words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "link" and RELATIONS & set(given.get("rel", "").split()):
            self.fetched.append(given.get("href", ""))
        if given.get(FETCHED.get(tag, "")):
            self.fetched.append(given["src"])
        if tag == "img" and not given.get("alt", "").strip():
            self.without_words.append(given.get("src", "")[:60])


def mistakes(folder: Path) -> Iterator[str]:
    """One line for each mistake of the pages below the folder."""
    pages = sorted(path for path in folder.rglob("*.html") if "_static" not in path.relative_to(folder).parts)
    for path in pages:
        page = read(path)
        name = path.relative_to(folder).as_posix()
        yield from (f"{name}: a picture without words: {source}" for source in page.without_words)
        yield from (f"{name}: fetched from outside: {link}" for link in page.fetched if is_foreign(link))
        inside = {link for link in [*page.links, *page.fetched] if not is_outside(link)}
        yield from (f"{name}: leads nowhere: {link}" for link in sorted(inside) if not leads_somewhere(path, link))
    for path in sorted((folder / "_static").glob("*.css")):
        for link in re.findall(r"url\([\"']?(https?:[^)\"']+)", path.read_text(encoding="utf-8")):
            yield f"{path.name}: fetched from outside: {link}"


@cache
def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def is_outside(link: str) -> bool:
    return bool(urlsplit(link).scheme not in ("", "file") or link.startswith("//"))


def is_foreign(link: str) -> bool:
    return is_outside(link) and not link.startswith("data:")


def leads_somewhere(page: Path, link: str) -> bool:
    parts = urlsplit(link)
    path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if path.is_dir():
        path /= "index.html"
    if not path.is_file():
        return False
    return path.suffix != ".html" or not parts.fragment or unquote(parts.fragment) in {*read(path).ids, "top"}


if __name__ == "__main__":
    found = list(mistakes(Path(sys.argv[1]).resolve()))
    print("\n".join(found) or "no broken link, no picture without words, nothing from outside")
    sys.exit(bool(found))
