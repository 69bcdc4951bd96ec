"""Files of a run: checks before any work, and atomic writes, so that a reader never sees an incomplete file."""

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
"""Errors that reading a file or a text from elsewhere can raise."""


@contextmanager
def open_regular_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """An ordinary file, open for reading. OSError for a folder, pipe or device: opening a pipe can block for ever."""
    name = os.fspath(path)  # a number would be the descriptor of an open file
    _require_regular(name)
    with open(name, "rb") as file:
        yield file


def _require_regular(path: str | bytes | os.PathLike[str]) -> None:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is not an ordinary file")


def as_path(path: object) -> Path:
    """The user's path, absolute. Raises ArgumentTypeError for other values."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise ArgumentTypeError(f"a path must be a str or an os.PathLike of one, got {path!r}")
    return Path(path).absolute()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write the text to a file, in UTF-8, atomically. Raises StorageError, ArgumentTypeError.

    Half of a surrogate pair, which UTF-8 cannot represent, becomes a question mark.
    """
    whole = as_path(path)
    require_writable(whole)
    with atomic_replacement(whole) as file:
        file.write(text.encode("utf-8", errors="replace"))


def require_writable(path: Path) -> None:
    """Raise StorageError for a path that cannot be written. Tries it, and changes nothing.

    Temporary files of this path that a killed process left behind are removed.
    """
    try:
        if os.path.lexists(path) and path.exists():
            _require_regular(path)
            path.open("ab").close()
        remove_stale_parts(path)
        with _part(path) as trial:
            trial.write(b"\n")
    except (
        OSError,
        ValueError,
    ) as error:  # ValueError: a character that file names cannot have
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"{str(path)!r} cannot be written: {reason}; choose a file in an existing folder with write permission"
        ) from error


def remove_stale_parts(path: Path) -> None:
    """Remove temporary files of this path that no process holds: a killed process left them."""
    part = re.compile(re.escape(path.name) + _PART)
    with suppress(OSError), os.scandir(path.parent) as entries:  # a folder may be writable but not readable
        for each in entries:
            if part.fullmatch(each.name) and each.is_file(follow_symlinks=False):
                _remove_if_unlocked(Path(each.path))


@contextmanager
def atomic_replacement(path: Path) -> Iterator[BinaryIO]:
    """A file that replaces `path` when it is complete and on the disk; after an error `path` is unchanged."""
    with _part(path) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
        if not _LOCKS:
            file.close()  # Windows requires it before the replacement; elsewhere the lock is held until then
        os.replace(file.name, path)


def warn_dropped(what: str, error: Exception, remedy: str, *, stacklevel: int = 3) -> None:
    """Warn that a callback that stores the run has failed."""
    warnings.warn(
        f"{what} was dropped, the run continues: {type(error).__name__}: {text_of(error)}; {remedy}",
        StorageWarning,
        stacklevel=stacklevel,
    )


_PART = r"\.(?:[0-9a-f]{32}|\d+-\d{9,})\.part"
"""The names of temporary files; earlier releases used the numbers of a process and a thread."""


@contextmanager
def _part(path: Path) -> Iterator[BinaryIO]:
    """A new file in the folder of `path`, held by this process and removed at the end, unless renamed."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with _locked_part(part) as file:
            yield file
    finally:
        with suppress(OSError, ValueError):
            part.unlink(missing_ok=True)


def _locked_part(part: Path) -> BinaryIO:
    """A new file under a lock, which the system releases when the process dies; created again if it was removed."""
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
        if os.path.samestat(os.fstat(file.fileno()), os.stat(part)):  # a new file of the same name
            part.unlink()


def _lock(file: BinaryIO, *, wait: bool) -> None:
    """Raise OSError if another process holds the lock. Windows needs no lock: open files cannot be removed there."""
    if _LOCKS:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
