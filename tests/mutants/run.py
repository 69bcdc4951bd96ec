"""Run the mutations, list the survivors, and keep the record: `python -m tests.mutants.run [beginnings of names]`.

With names, only the mutations of these notebooks run, and their rows of the record are replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from tests.mutants.session import noticed
from tests.mutants.table import MUTANTS

__all__ = ["RECORD", "SURVIVED", "main", "recorded"]

RECORD = Path(__file__).with_name("record.txt")
SURVIVED = "SURVIVED"
_ARROW = " ⇒ "


def recorded() -> dict[str, str]:
    """By mutation, as text: where it was noticed, or SURVIVED."""
    lines = RECORD.read_text().splitlines() if RECORD.exists() else []
    return dict(line.rsplit(_ARROW, 1) for line in lines)  # type: ignore[misc]


def main(names: Sequence[str]) -> int:
    """Run, print and record; returns 1 if a mutation survived, else 0."""
    survivors = []
    for notebook, rows in groupby(MUTANTS, key=attrgetter("notebook")):
        if names and not notebook.startswith(tuple(names)):
            continue
        mutants = list(rows)
        for mutant, where in zip(mutants, noticed(mutants), strict=True):
            print(f"{mutant}{_ARROW}{where or SURVIVED}", flush=True)
            _record(str(mutant), where or SURVIVED)
            survivors += [] if where else [mutant]
    print(f"{len(survivors)} survived", *survivors, sep="\n")
    return int(bool(survivors))


def _record(mutant: str, where: str) -> None:
    rows = recorded() | {mutant: where}
    known = [str(each) for each in MUTANTS]
    RECORD.write_text("".join(f"{each}{_ARROW}{rows[each]}\n" for each in known if each in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
