"""plotly.js from the plotly package, compressed: what a page that has none yet is sent once."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

__all__ = ["plotly_js", "plotly_version"]


@cache
def plotly_version() -> str:
    """The version of plotly.js that the plotly package has; empty where it does not say."""
    with _source().open("rb") as file:
        head = file.read(200).decode(errors="replace")
    return head.partition("plotly.js v")[2].split()[0] if "plotly.js v" in head else "unknown"


@cache
def plotly_js() -> bytes:
    """The script, gzipped: about 1.5 MB."""
    return gzip.compress(_source().read_bytes(), 6)


def _source() -> Traversable:
    return files("plotly") / "package_data" / "plotly.min.js"
