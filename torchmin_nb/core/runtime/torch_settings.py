"""Settings of torch that decide the result of a run, held for a while: its threads and its default dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["torch_settings"]


@contextmanager
def torch_settings(*, threads: int, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Hold torch at this number of threads and this default dtype; None for the present one."""
    before = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype or before[1])
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_default_dtype(before[1])
