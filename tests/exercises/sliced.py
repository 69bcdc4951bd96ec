"""An exercise, run without the rest of its notebook: only the statements that it depends on.

The lines before the exercise are followed backwards from the names that it uses. Kept are those that bind a needed
name and those that call something on one, so that `optimizer.step(closure)` stays and a picture does not.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import torch
from nbformat import NotebookNode

from notebooks.student import student_copy

__all__ = ["Exercise", "exercises"]

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
_SEED = re.compile(r"^SEED = \d+$", re.MULTILINE)


def exercises() -> list[Path]:
    """The notebooks that have an exercise."""
    return [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if any(map(_has_seed, _book(path).cells))]


class Exercise:
    """The exercise of one notebook; what it needs of the cells before it runs once, and is shared by all IDs."""

    def __init__(self, path: Path):
        self.name = path.stem
        self.book = _book(path)
        self.before, self.cells = _split(self.book)
        self.needed = _slice([cell.source for cell in self.before], [cell.source for cell in self.cells])
        self._shared: dict[str, Any] | None = None

    def solve(self, student: str, *, solution: str | None = None) -> None:
        """Run seed, solution and the packed check as a student's copy has them; raises what they raise.

        solution: in place of the reference solution.
        """
        if self._shared is None:
            self._shared = {"__name__": "__main__"}
            with _quiet():
                exec(compile(self.needed, f"<{self.name}>", "exec"), self._shared)
        names = dict(self._shared)
        copied = _split(student_copy(self.book, self.name, student))[1]
        with _quiet():
            for own, stored in zip(copied, self.cells, strict=True):
                source = own.source
                if _tagged(stored, "solution"):
                    source = stored.source if solution is None else solution
                exec(compile(source, f"<{self.name}>", "exec"), names)

    @property
    def solution(self) -> str:
        """The reference solution."""
        return "\n".join(cell.source for cell in self.cells if _tagged(cell, "solution"))

    @property
    def text(self) -> str:
        """The words of the task."""
        section = []
        for cell in self.book.cells:
            if cell.cell_type == "markdown":
                if cell.source.lstrip().startswith("## ") and section:
                    break
                if "## Exercise" in cell.source:
                    section = [cell.source[cell.source.index("## Exercise") :]]
                elif section:
                    section.append(cell.source)
        return "\n\n".join(section)


def _book(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def _has_seed(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and bool(_SEED.search(cell.source))


def _tagged(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def _split(book: NotebookNode) -> tuple[list[NotebookNode], list[NotebookNode]]:
    """The code cells before the exercise, and its own, to the next section."""
    first = next(index for index, cell in enumerate(book.cells) if _has_seed(cell))
    last = next(
        (
            index
            for index, cell in enumerate(book.cells)
            if index > first and cell.cell_type == "markdown" and cell.source.lstrip().startswith("## ")
        ),
        len(book.cells),
    )
    code = [(index, cell) for index, cell in enumerate(book.cells) if cell.cell_type == "code"]
    return [cell for index, cell in code if index < first], [cell for index, cell in code if first <= index < last]


def _slice(before: list[str], exercise: list[str]) -> ast.Module:
    """The first cell, with the imports, and of the others the statements that the exercise depends on."""
    needed = set().union(*(_names(ast.parse(source)) for source in exercise))
    kept: list[ast.stmt] = []
    head = ast.parse(before[0]).body
    rest = [statement for source in before[1:] for statement in ast.parse(source).body]
    for statement in reversed(rest):
        if isinstance(statement, ast.Assert):
            continue
        if isinstance(statement, ast.Expr):
            touched = {name for name in _names(statement.value) if _is_callee(statement.value, name)}
        else:
            touched = set(_bound(statement))
        if touched & needed:
            kept.insert(0, statement)
            needed |= _names(statement)
    return ast.Module(body=[*head, *kept], type_ignores=[])


def _is_callee(expression: ast.expr, name: str) -> bool:
    """Whether the expression is a call of a method of `name`, which may change it."""
    if not (isinstance(expression, ast.Call) and isinstance(expression.func, ast.Attribute)):
        return False
    root: ast.expr = expression.func.value
    while isinstance(root, (ast.Attribute, ast.Subscript)):
        root = root.value
    return isinstance(root, ast.Name) and root.id == name


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement binds at top level, or changes through an attribute, an item or a method's call."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
            yield from _names(node)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing printed, warnings as a notebook has them (not errors), torch's threads as they were afterwards."""
    threads = torch.get_num_threads()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), contextlib.chdir(NOTEBOOKS):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.set_num_threads(threads)
