"""BLAS threads. torch's OpenMP threads and SciPy's BLAS threads fight over the cores.

SciPy's linear algebra on small vectors gains nothing from threads and loses much to spinning ones, so a run
limits the BLAS of NumPy and SciPy to one thread, unless its method factorises large dense matrices. torch's
own libraries are left alone. The limit is process-wide: it is counted, and lifted when the last run lets go.
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
"""From this many variables on, a dense factorisation is faster with BLAS threads than without."""

_lock = threading.Lock()
_holders: list[int] = []
_found: dict[int, int] = {}
_controllers: list[Any] = []


@contextmanager
def blas_threads(limit: int | None) -> Iterator[None]:
    """Hold NumPy's and SciPy's BLAS at `limit` threads; None changes nothing.

    Of several holders at once the smallest limit is in force; what was found is restored by the last.
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
    """Set the count from whichever thread this is.

    threadpoolctl 3.8 heeds only the first thread that ever set OpenBLAS's, in silence. Here holders are counted over
    all threads, so that guard would lose limits and leave others in force.
    """
    clear_owner = getattr(library, "clear_controlling_thread", lambda force: None)
    clear_owner(force=True)
    library.set_num_threads(count)
    clear_owner(force=True)
