"""One mutation of the course, and how it is written: into a cell of a notebook, or into a module of the package."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import nbformat

__all__ = ["KINDS", "PACKAGE", "ROOT", "Mutant", "code_cells"]

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "torchmin_nb"
KINDS = ("text", "constant", "library", "picture")


class Mutant(NamedTuple):
    """In the code of a notebook, `find` becomes `replace`; or in `module` of the package, and the notebook stays.

    kind, one of KINDS: what the code says or does; a number in it; the library; the data that a picture shows.
    """

    notebook: str
    kind: str
    find: str
    replace: str
    module: str = ""

    def __str__(self) -> str:
        place = f"{self.notebook}, {self.module}" if self.module else self.notebook
        return f"{place}: {' '.join(self.find.split())} → {' '.join(self.replace.split())}"

    @property
    def source(self) -> str:
        """The text in which `find` stands: the module, or the code cells of the notebook."""
        if self.module:
            return (PACKAGE / self.module).read_text()
        return "\n\n".join(cell.source for _, cell in code_cells(self.notebook))

    @property
    def cell(self) -> int:
        """The index of the notebook's cell that is mutated; 0 where it is the library."""
        return next((index for index, cell in code_cells(self.notebook) if self.find in cell.source), 0)

    def mutated(self, source: str) -> str:
        """The source with the mutation. Raises ValueError unless `find` stands there exactly once."""
        if source.count(self.find) != 1:
            raise ValueError(f"{self}: stands {source.count(self.find)} times in the source, not once")
        return source.replace(self.find, self.replace)


def code_cells(notebook: str) -> list[tuple[int, nbformat.NotebookNode]]:
    """The code cells of a notebook, with their indices among all its cells."""
    book = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4)
    return [(index, cell) for index, cell in enumerate(book.cells) if cell.cell_type == "code"]
