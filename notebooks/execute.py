"""Re-execute every notebook and store it: executed, without widget state, without machine or timing metadata."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def execute(path: Path) -> None:
    """Run one notebook in a fresh kernel and overwrite it with what it printed."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        store_widget_state=False,
        record_timing=False,
    )
    client.execute()
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        _tidy(cell)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def _tidy(cell: nbformat.NotebookNode) -> None:
    """Outputs are kept but for what belongs to one session: widgets and display ids."""
    outputs = cell.get("outputs", [])
    outputs[:] = [output for output in outputs if WIDGET not in output.get("data", {})]
    for output in outputs:
        output.get("metadata", {}).clear()
        output.pop("transient", None)
        if "image/png" in output.get("data", {}):
            output.metadata["image/png"] = {"alt": output.data.get("text/plain", "picture").strip("'")}


def main(names: list[str]) -> None:
    """The named notebooks, or all."""
    paths = [HERE / name for name in names] or sorted(HERE.glob("*.ipynb"))
    for path in paths:
        execute(path)


if __name__ == "__main__":
    main(sys.argv[1:])
