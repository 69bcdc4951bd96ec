"""A notebook in a process of its own, checked cell by cell as nbval does: no error, and the output that is stored."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbformat import NotebookNode

from tests.mutants.mutation import PACKAGE, ROOT, Mutant, code_cells

__all__ = ["noticed"]

_IMPORTED_ONCE = ["torch", "scipy.optimize", "plotly.graph_objects", "matplotlib.figure", "ipywidgets", __name__]
_NOT_COMPARED = {"image/png", "image/jpeg"}
_LIMIT = 300
Cells = Sequence[tuple[int, NotebookNode]]


def noticed(mutants: Sequence[Mutant]) -> list[str | None]:
    """Where each of these mutations of one notebook is noticed, as "cell 7: AssertionError"; None where nowhere.

    The cells before a mutation run once, unchanged; from there on each mutation runs in a fork. One of the library runs
    from the start. Raises RuntimeError if the notebook fails without a mutation.
    """
    (notebook,) = {mutant.notebook for mutant in mutants}
    servers = multiprocessing.get_context("forkserver")
    servers.set_forkserver_preload(_IMPORTED_ONCE)
    found: dict[Mutant, str | None] = {}
    for mutant in mutants:
        if mutant.module:
            found[mutant] = _outcome(servers, _with_library, mutant)
    in_cells = [mutant for mutant in mutants if not mutant.module]
    if in_cells:
        found |= _answer(servers, _with_cells, notebook, in_cells)
    return [found[mutant] for mutant in mutants]


def _outcome(context: BaseContext, function: Callable[..., str | None], *args: Any) -> str | None:
    """Of a mutation, in a process of its own: a run that hangs or dies is noticed too."""
    try:
        where: str | None = _answer(context, function, *args, seconds=_LIMIT)
    except TimeoutError:
        return f"no end in {_LIMIT} seconds"
    except EOFError:
        return "the process died"
    return where


def _answer(context: BaseContext, function: Callable[..., Any], *args: Any, seconds: float | None = None) -> Any:
    """What a function returns in a process of its own. Raises what it raises, TimeoutError, or EOFError if it dies."""
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(writer, function, args))  # type: ignore[attr-defined]
    process.start()
    writer.close()
    try:
        if not reader.poll(seconds):
            raise TimeoutError
        answer = reader.recv()
    finally:
        process.kill()
        process.join()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _send(writer: Any, function: Callable[..., Any], args: Sequence[Any]) -> None:
    try:
        writer.send(function(*args))
    except Exception as error:
        writer.send(error)


def _with_library(mutant: Mutant) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PACKAGE.name
        shutil.copytree(PACKAGE, copy)
        (copy / mutant.module).write_text(mutant.mutated(mutant.source))
        return _failure(_shell(copy.parent), code_cells(mutant.notebook))


def _with_cells(notebook: str, mutants: Sequence[Mutant]) -> dict[Mutant, str | None]:
    shell, cells = _shell(ROOT), code_cells(notebook)
    forks = multiprocessing.get_context("fork")
    found = {}
    for place, (index, _) in enumerate(cells):
        for mutant in mutants:
            if mutant.cell == index:
                found[mutant] = _outcome(forks, _failure, shell, _changed(cells[place:], mutant))
        if len(found) == len(mutants):
            break
        if failure := _failure(shell, cells[place : place + 1]):
            raise RuntimeError(f"{notebook} fails without a mutation: {failure}")
    return found


def _changed(cells: Cells, mutant: Mutant) -> Cells:
    (index, first), *others = cells
    return [(index, NotebookNode(first, source=mutant.mutated(first.source))), *others]


def _shell(package: Path) -> InteractiveShell:
    """IPython in the folder of the notebooks, with the package that this folder holds.

    The fork server may have imported another one, for the tests of ranks.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE.name]:
        del sys.modules[name]
    sys.path.insert(0, str(package))
    os.chdir(ROOT / "notebooks")
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    return shell


def _failure(shell: InteractiveShell, cells: Cells) -> str | None:
    """The first cell that raises or prints something else than is stored, and why."""
    for index, cell in cells:
        with capture_output() as captured:
            result = shell.run_cell(cell.source)
        if error := result.error_before_exec or result.error_in_exec:
            return f"cell {index}: {type(error).__name__}"
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            continue
        shown = [output.data for output in captured.outputs]
        if _compared(captured.stdout, shown) != _compared(*_stored(cell)):
            return f"cell {index}: the output"
    return None


def _stored(cell: NotebookNode) -> tuple[str, list[dict[str, Any]]]:
    printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    return printed, [output.data for output in cell.outputs if "data" in output]


def _compared(printed: str, shown: Iterable[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    return printed, [{kind: text for kind, text in data.items() if kind not in _NOT_COMPARED} for data in shown]
