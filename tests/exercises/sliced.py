"""An exercise, run without the rest of its notebook: only the statements that it depends on.

The lines before the exercise are followed backwards from the names that it uses. Kept are those that bind a needed
name and those that call something on one, so that `optimizer.step(closure)` stays and a picture does not.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
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

    def seed_cell(self, student: str) -> str:
        """The first cell of the exercise in a student's copy."""
        source: str = _split(student_copy(self.book, self.name, student))[1][0].source
        return source


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
    head = ast.parse(before[0]).body
    rest = [statement for source in before[1:] for statement in ast.parse(source).body]
    imported = {
        name for statement in head if isinstance(statement, (ast.Import, ast.ImportFrom)) for name in _bound(statement)
    }
    late: set[str] = set()  # what functions use: looked up when they are called, perhaps after they were defined
    defined: set[str] = set()
    for statement in (each for source in exercise for each in ast.parse(source).body):
        late |= _names(statement) - defined
        defined |= set(_replaced(statement))
    while True:
        needed, kept, more = late - imported, [], set()
        for statement in reversed(rest):
            if isinstance(statement, ast.Assert) or not (set(_bound(statement)) & needed):
                continue
            kept.insert(0, statement)
            needed -= set(_replaced(statement))
            needed |= _names(statement) - imported
            if any(isinstance(inner, (ast.FunctionDef, ast.Lambda)) for inner in ast.walk(statement)):
                more |= _names(statement) - imported
        if more <= late:
            return ast.Module(body=[*head, *kept], type_ignores=[])
        late |= more


def _replaced(statement: ast.stmt) -> Iterator[str]:
    """Names to which a statement gives a new value, whatever they had before."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name) and _stores(node))


def _stores(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _names(statement: ast.stmt) -> set[str]:
    """The global names that a statement, with the functions in it, looks up."""
    return _looked_up(compile(ast.Module(body=[statement], type_ignores=[]), "<statement>", "exec"))


def _looked_up(code: CodeType) -> set[str]:
    own = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_NAME", "LOAD_GLOBAL")}
    return own.union(*(_looked_up(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement binds at top level, or changes through an attribute, an item or a call of a method."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and _stores(node):
            yield node.id
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
            yield from _root(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from _root(node.func.value)


def _root(expression: ast.expr) -> Iterator[str]:
    while isinstance(expression, (ast.Attribute, ast.Subscript)):
        expression = expression.value
    if isinstance(expression, ast.Name):
        yield expression.id


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
