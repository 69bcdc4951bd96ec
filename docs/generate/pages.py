"""The pages that are made: methods from their rows, the reference from the public names, the course from the notebooks.

`pages()` has the text of each; `write_pages(folder)` writes them. Git ignores them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from docs.generate.course import course_pages
from docs.generate.methods import method_pages
from docs.generate.reference import reference_pages

__all__ = ["GENERATED", "pages", "write_pages"]

ROOT = Path(__file__).parents[2]
GENERATED = ("course", "methods", "reference")
"""The folders that contain nothing else."""


def pages() -> dict[str, str]:
    """The text of each page, by its path below docs/."""
    return dict([*method_pages(), *reference_pages(), *course_pages(), *_records()])


def write_pages(folder: Path) -> None:
    """Write the pages that have changed, and remove those that are made no more."""
    made = pages()
    for name in GENERATED:
        for path in (folder / name).glob("*"):
            if path.relative_to(folder).as_posix() not in made:
                path.unlink()
    for name, text in made.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _records() -> Iterator[tuple[str, str]]:
    record = (ROOT / "tests" / "benchmarks" / "README.md").read_text(encoding="utf-8")
    yield "benchmarks.md", record.replace("](pictures/", "](../tests/benchmarks/pictures/")
    yield "changelog.md", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    yield "security.md", (ROOT / "SECURITY.md").read_text(encoding="utf-8").replace("(docs/", "(")
