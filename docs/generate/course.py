"""The course: the stored notebooks, with pictures and figures as the site shows them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from docs.generate.markdown import toctree

__all__ = ["course_pages", "taught"]

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("[0-9]*.ipynb"))
PLOTLY = "application/vnd.plotly.v1+json"


@cache
def taught() -> Mapping[str, str]:
    """A link to its notebook for each method: the one that has it in its title."""
    titles = {path: json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"] for path in NOTEBOOKS}
    first = {path: "".join(source).strip().splitlines()[0].removeprefix("# ") for path, source in titles.items()}
    return {
        name: f"[{title}](../course/{path.name})"
        for path, title in first.items()
        for name in re.findall(r"`([^`]+)`", title)
    }


def course_pages() -> Iterator[tuple[str, str]]:
    """The notebooks as they are stored; the first leads to all others."""
    for path in NOTEBOOKS:
        book = json.loads(path.read_text(encoding="utf-8"))
        for cell in book["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = [_shown(output) for output in cell["outputs"]]
            else:
                cell["source"] = _links("".join(cell["source"]))
        download = f"{{download}}`Download this notebook <../../notebooks/{path.name}>`"
        book["cells"].insert(1, _markdown("download", download))
        if path == NOTEBOOKS[0]:
            book["cells"].append(_markdown("contents", toctree([each.stem for each in NOTEBOOKS[1:]])))
        yield f"course/{path.name}", json.dumps(book, ensure_ascii=False)


def _links(source: str) -> str:
    """Links as this site has them: headings in lower case, pictures of this folder."""
    lowered = re.sub(r"\]\(#[^)]+\)", lambda found: found[0].lower(), source)
    return lowered.replace("../docs/", "../")


def _markdown(name: str, source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": source}


def _shown(output: dict[str, Any]) -> dict[str, Any]:
    """A picture with its words; of a Plotly figure also the data, which figures.js draws in place of the picture."""
    data = output.get("data", {})
    if "image/png" not in data:
        return output
    words = output["metadata"]["image/png"]["alt"]
    source = "".join(data["image/png"]).replace("\n", "")
    shown = f'<img class="dark-light" alt="{html.escape(words)}" src="data:image/png;base64,{source}">'
    if PLOTLY in data:
        figure = json.dumps(data[PLOTLY], ensure_ascii=False).replace("</", r"<\/")
        shown = f'<div class="stored-figure">{shown}<script type="application/json">{figure}</script></div>'
    return {**output, "data": {"text/html": shown}, "metadata": {}}
