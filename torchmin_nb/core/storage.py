"""Files that keep a run: what can be refused before any work, and writing so that a reader never sees half a file."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import StorageError, StorageWarning, text_of

__all__ = ["dropped", "replacing", "require_writable"]


def require_writable(path: Path) -> None:
    """Refuse a path that cannot be written, by trying: StorageError. Nothing is left behind, nothing changed."""
    try:
        if path.exists():
            path.open("ab").close()
        with _part(path) as trial:
            trial.write(b"\n")
    except OSError as error:
        raise StorageError(
            f"{str(path)!r} cannot be written: {error.strerror or error}; give a file in a folder that exists and "
            f"may be written"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when it is whole and on the disk; on any error `path` is as it was."""
    with _part(path) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
        file.close()  # before the replacement: Windows wants it so
        os.replace(file.name, path)


def dropped(what: str, error: Exception, remedy: str, *, stacklevel: int = 3) -> None:
    """Warn that what kept the run has failed."""
    warnings.warn(
        f"{what} was dropped, the run goes on: {type(error).__name__}: {text_of(error)}; {remedy}",
        StorageWarning,
        stacklevel=stacklevel,
    )


@contextmanager
def _part(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path`, of a name that no other process or thread has; gone at the end, unless renamed."""
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            yield file
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
