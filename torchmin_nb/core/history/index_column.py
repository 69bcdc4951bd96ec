"""The `index` of a History: a column, and also the method `index` that every sequence has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["IndexColumn"]


class IndexColumn(np.ndarray[Any, np.dtype[np.int64]]):
    """Indices, shape (k,), int64. `history.index(iteration)` is the position of an iteration of the same values."""

    _search: Callable[..., int] | None = None

    @classmethod
    def of(cls, indices: NDArray[np.int64], search: Callable[..., int]) -> IndexColumn:
        """The column, with the search of its history."""
        column = indices.view(cls)
        column._search = search
        return column

    def __call__(self, value: object, start: int = 0, stop: int | None = None) -> int:
        """The first position of a value in [start, stop). Raises ValueError if there is none, like a list."""
        if self._search is None:
            raise TypeError("this is a part of a history's index; call history.index(iteration) on the history")
        return self._search(value, start, stop)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """Results computed from the column are plain arrays or scalars."""
        return np.asarray(array)[()]

    def __repr__(self) -> str:
        return repr(np.asarray(self))

    def __reduce__(self) -> str | tuple[Any, ...]:
        """A pickle or a copy is the plain column."""
        return np.asarray(self).__reduce__()
