"""Files that keep a run: what can be refused before any work, and writing so that a reader never sees half a file."""

from __future__ import annotations

import errno
import os
import re
import stat
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ...errors import ArgumentTypeError, StorageError, StorageWarning, text_of

_LOCKS: bool = os.name == "posix"
if _LOCKS:
    import fcntl

__all__ = [
    "UNREADABLE",
    "as_path",
    "atomic_replacement",
    "open_regular_file",
    "remove_stale_parts",
    "require_writable",
    "warn_dropped",
    "write_text",
]

UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)
"""What reading a file, or a text, that somebody else has written can lead to."""


@contextmanager
def open_regular_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """An ordinary file, open to be read. OSError for a folder, a pipe or a device: to open one can block for good."""
    name = os.fspath(path)  # a number would be a file that is open already
    _require_regular(name)
    with open(name, "rb") as file:
        yield file


def _require_regular(path: str | bytes | os.PathLike[str]) -> None:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file")


def as_path(path: object) -> Path:
    """A path of the user's, absolute. Raises ArgumentTypeError for what is none."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise ArgumentTypeError(f"a path must be a str or an os.PathLike of one, got {path!r}")
    return Path(path).absolute()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Put the text into a file of this name, in UTF-8, as a whole. Raises StorageError, ArgumentTypeError.

    What UTF-8 does not have, half of a surrogate pair, becomes a question mark.
    """
    whole = as_path(path)
    require_writable(whole)
    with atomic_replacement(whole) as file:
        file.write(text.encode("utf-8", errors="replace"))


def require_writable(path: Path) -> None:
    """Refuse a path that cannot be written, by trying: StorageError. Nothing is left behind, nothing changed.

    What a killed process left beside it, of this path, is removed.
    """
    try:
        if os.path.lexists(path) and path.exists():
            _require_regular(path)
            path.open("ab").close()
        remove_stale_parts(path)
        with _part(path) as trial:
            trial.write(b"\n")
    except (OSError, ValueError) as error:  # ValueError: a null character, or one that no file name can have
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"{str(path)!r} cannot be written: {reason}; give a file in a folder that exists and may be written"
        ) from error


def remove_stale_parts(path: Path) -> None:
    """Remove the parts of this path that no process holds any more: those of one that was killed."""
    part = re.compile(re.escape(path.name) + _PART)
    with suppress(OSError), os.scandir(path.parent) as entries:  # a folder may be writable and yet not be listed
        for each in entries:
            if part.fullmatch(each.name) and each.is_file(follow_symlinks=False):
                _remove_if_unlocked(Path(each.path))


@contextmanager
def atomic_replacement(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when it is whole and on the disk; on any error `path` is as it was."""
    with _part(path) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
        if not _LOCKS:
            file.close()  # before the replacement: Windows wants it so; elsewhere the lock is held until then
        os.replace(file.name, path)


def warn_dropped(what: str, error: Exception, remedy: str, *, stacklevel: int = 3) -> None:
    """Warn that what kept the run has failed."""
    warnings.warn(
        f"{what} was dropped, the run goes on: {type(error).__name__}: {text_of(error)}; {remedy}",
        StorageWarning,
        stacklevel=stacklevel,
    )


_PART = r"\.(?:[0-9a-f]{32}|\d+-\d{9,})\.part"
"""The names of parts, and those that earlier releases gave: of a process and a thread."""


@contextmanager
def _part(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path`, held by this process and gone at the end, unless renamed."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with _locked_part(part) as file:
            yield file
    finally:
        with suppress(OSError, ValueError):
            part.unlink(missing_ok=True)


def _locked_part(part: Path) -> BinaryIO:
    """A new file under a lock, which the system lets go when the process dies; made again if it was swept before."""
    while True:
        file = part.open("wb")
        with suppress(OSError):  # a file system without locks
            _lock(file, wait=True)
        if part.exists():
            return file
        file.close()


def _remove_if_unlocked(part: Path) -> None:
    with suppress(OSError), part.open("rb") as file:
        _lock(file, wait=False)
        if os.path.samestat(os.fstat(file.fileno()), os.stat(part)):  # not a new file of the same name
            part.unlink()


def _lock(file: BinaryIO, *, wait: bool) -> None:
    """OSError where another holds it. Windows needs none: there, a file that is open cannot be removed."""
    if _LOCKS:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
