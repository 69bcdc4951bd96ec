"""BLAS threads. torch's OpenMP threads and SciPy's BLAS threads compete for the cores.

Threads do not help SciPy's linear algebra on small vectors, and waiting threads slow it down. So a run limits
the BLAS of NumPy and SciPy to one thread, unless its method factorises large dense matrices. torch's
own libraries keep their threads. The limit is process-wide: it is counted, and removed after the last run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import threadpoolctl
import torch

__all__ = ["LARGE_DENSE", "blas_threads"]

LARGE_DENSE = 1000
"""With at least this many variables, a dense factorisation is faster with BLAS threads than without."""

_lock = threading.Lock()
_holders: list[int] = []
_found: dict[int, int] = {}
_controllers: list[Any] = []


@contextmanager
def blas_threads(limit: int | None) -> Iterator[None]:
    """Hold NumPy's and SciPy's BLAS at `limit` threads; None changes nothing.

    With several holders at the same time, the smallest limit applies; the last holder restores the original value.
    """
    if limit is None:
        yield
        return
    with _lock:
        if not _holders:
            _remember()
        _holders.append(limit)
        _apply(min(_holders))
    try:
        yield
    finally:
        with _lock:
            _holders.remove(limit)
            _apply(min(_holders)) if _holders else _restore()


def _remember() -> None:
    torch_home = Path(torch.__file__).parent
    _controllers[:] = [
        library
        for library in threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
        if torch_home not in Path(library.filepath).parents
    ]
    _found.update({index: library.num_threads for index, library in enumerate(_controllers)})


def _apply(limit: int) -> None:
    for index, library in enumerate(_controllers):
        _set(library, min(limit, _found[index]))


def _restore() -> None:
    for index, library in enumerate(_controllers):
        _set(library, _found[index])
    _found.clear()


def _set(library: Any, count: int) -> None:
    """Set the number of threads from any thread.

    threadpoolctl 3.8 silently ignores all threads but the first that set OpenBLAS's number. Here holders are counted
    over all threads, so with that guard limits would be lost, or would remain.
    """
    clear_owner = getattr(library, "clear_controlling_thread", lambda force: None)
    clear_owner(force=True)
    library.set_num_threads(count)
    clear_owner(force=True)
