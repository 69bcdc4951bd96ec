"""What a run has spent: closure calls, and Hessian-vector products at a price."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .history import History

__all__ = ["is_priced", "priced", "priced_values"]

_CALLS = "closure calls + "


def priced(price: float) -> str:
    """The name of the x axis of what was spent, if a product costs so many closure calls."""
    return f"{_CALLS}{price:g} × products"


def is_priced(x: str) -> bool:
    """Whether this is the name of such an axis."""
    return x.startswith(_CALLS)


def priced_values(history: History, x: str) -> NDArray[np.float64]:
    """What each iteration has spent, by the name of the axis; of a branch, with what led to it."""
    calls, products = (history.column(name).astype(np.float64) for name in ("nfev", "nhvp"))
    size = min(calls.size, products.size)
    price, left = float(x.removeprefix(_CALLS).split(" ")[0]), history.origin
    before = 0.0 if left is None else left.nfev + price * left.nhvp
    return before + calls[:size] + price * products[:size]
