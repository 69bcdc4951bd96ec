"""`make dist`: sdist and wheel, into dist/; then the wheel alone, in an empty environment, outside of this folder.

Fails if the wheel lacks a file of the package, has any other, or is large; if twine finds a mistake in the metadata;
if the demo or `smoke.py` fails where only the wheel and what it needs is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]
LARGEST = 1_000_000
"""Bytes of a wheel."""


def package_files() -> set[str]:
    """What a wheel must contain, and nothing else."""
    found = (path for path in (ROOT / "torchmin_nb").rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    return {path.relative_to(ROOT).as_posix() for path in found}


def mistakes(names: Iterable[str], size: int) -> Iterator[str]:
    """What is wrong with a wheel that contains these names and has this number of bytes."""
    if size > LARGEST:
        yield f"it has {size:,} bytes; at most {LARGEST:,} are allowed"
    wanted = package_files()
    found = {name for name in names if ".dist-info/" not in name}
    yield from (f"missing: {name}" for name in sorted(wanted - found))
    yield from (f"not of the package: {name}" for name in sorted(found - wanted))


def build(folder: Path) -> Path:
    """Write sdist and wheel, the wheel from the sdist. Returns the wheel. Raises SystemExit for a bad one."""
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT))
    files = sorted(folder.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, files))
    for path in files:
        print(f"{path.name}: {path.stat().st_size:,} bytes")
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as contents:
        wrong = list(mistakes(contents.namelist(), wheel.stat().st_size))
    if wrong:
        raise SystemExit("\n".join([f"{wheel.name}:", *wrong]))
    return wheel


def try_out(wheel: Path, folder: Path) -> None:
    """Install the wheel into an empty environment in the folder, and use it there."""
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python")
    constraints = str(ROOT / "constraints.txt")
    run(python, "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[notebook]", folder=folder)
    shutil.copy(ROOT / "tests" / "wheel" / "smoke.py", folder)
    run(python, "-W", "error", "smoke.py", folder=folder)
    run(python, "-m", "torchmin_nb", "env", folder=folder)
    run(python, "-m", "torchmin_nb", "demo", folder=folder)
    assert (folder / "demo.html").is_file()


def run(*command: str, folder: Path = ROOT) -> None:
    """Run a command there, without the environment's paths of modules. Raises CalledProcessError."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=folder, env=environment, check=True)


if __name__ == "__main__":
    wheel = build(ROOT / "dist")
    with TemporaryDirectory() as folder:
        try_out(wheel, Path(folder))
    print(f"{wheel.name} works.")
