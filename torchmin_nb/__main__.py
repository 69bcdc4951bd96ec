"""python -m torchmin_nb demo | methods | env"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from pathlib import Path

from .core.display.tables import text_table
from .core.methods.tables import method_tables
from .environment import environment_text

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="torchmin-nb", description="SciPy's optimizers for PyTorch.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="fit 4,000 handwritten digits with five methods")
    demo.add_argument("--output", type=Path, default=Path("demo.html"), help="the page of curves (default: demo.html)")
    demo.add_argument("--iterations", type=_count, default=60, help="iterations a method (default: 60)")
    commands.add_parser("methods", help="print the table of methods")
    commands.add_parser("env", help="print versions, devices and threads, for a bug report")
    chosen = parser.parse_args(arguments)
    if chosen.command == "methods":
        print(_methods())
        return 0
    if chosen.command == "env":
        print(environment_text())
        return 0
    return _demo(chosen.output, chosen.iterations)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {count}")
    return count


def _methods() -> str:
    """The tables; below each table, one sentence for each method, wrapped to the width of the terminal."""
    return "\n\n".join(f"{title}\n\n{_table(rows)}" for title, rows in method_tables().items())


def _table(rows: list[tuple[str, ...]]) -> str:
    width = max(60, shutil.get_terminal_size().columns)
    name = max(len(row[0]) for row in rows) + 2
    uses = [textwrap.fill(f"{row[0]:<{name}}{row[-1]}", width, subsequent_indent=" " * name) for row in rows[1:]]
    return "\n".join([text_table([row[:-1] for row in rows], align="<" * (len(rows[0]) - 1)), "", *uses])


def _demo(output: Path, iterations: int) -> int:
    try:
        from .demo import run_demo

        run_demo(output, iterations)
    except ImportError as error:
        print(f"the demo needs the [notebook] extra: pip install 'torchmin-nb[notebook]' ({error})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
