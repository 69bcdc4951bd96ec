"""SciPy's trust radius and reduction ratio, observed.

Neither the four methods of `scipy.optimize._trustregion` nor trf and dogbox of `least_squares` report them. They are
read, at the callback or at the Jacobian of an accepted point, from the local variables of the loop that called it:
nothing is replaced and the public call path is kept. Where the names have moved, nothing is reported. trust-constr
hands its radius to the callback itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

__all__ = ["NOT_REPORTED", "PROBES", "Probe", "TrustRegion", "from_loop", "from_state", "unreported"]

_LOOPS = {
    "_minimize_trust_region": ("trust_radius", "rho"),
    "trf_bounds": ("Delta", "ratio"),
    "trf_no_bounds": ("Delta", "ratio"),
    "dogbox": ("Delta", "ratio"),
}
"""SciPy's loops by name, and what they call the radius and the ratio."""


class TrustRegion(NamedTuple):
    """radius: in force after this iteration's update. ratio: actual over predicted reduction."""

    radius: float | None
    ratio: float | None


NOT_REPORTED = TrustRegion(None, None)
Probe = Callable[[Any], TrustRegion]


def unreported(state: Any) -> TrustRegion:
    """For methods without a trust region."""
    return NOT_REPORTED


def from_state(state: Any) -> TrustRegion:
    """From the state that trust-constr gives its callback."""
    return TrustRegion(_number(getattr(state, "tr_radius", None)), None)


def from_loop(state: Any) -> TrustRegion:
    """From the frame of SciPy's trust-region loop, found among the callers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name not in _LOOPS:
        frame = frame.f_back
    if frame is None:
        return NOT_REPORTED
    radius, ratio = _LOOPS[frame.f_code.co_name]
    names = frame.f_locals
    return TrustRegion(_number(names.get(radius)), _number(names.get(ratio)))


PROBES: dict[str, Probe] = {"none": unreported, "loop": from_loop, "state": from_state}


def _number(value: Any) -> float | None:
    """A finite or infinite float, None for what is not a number."""
    if not isinstance(value, (int, float, np.number)) or np.isnan(value):
        return None
    return float(value)
