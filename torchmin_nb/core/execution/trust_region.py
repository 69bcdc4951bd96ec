"""SciPy's trust radius and reduction ratio, observed.

The four methods of `scipy.optimize._trustregion`, and trf and dogbox of `least_squares`, do not report them. They are
read from the local variables of SciPy's loop, at the callback or at the Jacobian of an accepted point. Nothing is
replaced, and only SciPy's public functions are called. If SciPy renames these variables, nothing is reported.
trust-constr passes its radius to the callback.
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
"""SciPy's loops by name, and their names for the radius and the ratio."""


class TrustRegion(NamedTuple):
    """radius: after the update of this iteration. ratio: actual over predicted reduction."""

    radius: float | None
    ratio: float | None


NOT_REPORTED = TrustRegion(None, None)
Probe = Callable[[Any], TrustRegion]


def unreported(state: Any) -> TrustRegion:
    """For methods without a trust region."""
    return NOT_REPORTED


def from_state(state: Any) -> TrustRegion:
    """From the state that trust-constr passes to its callback."""
    return TrustRegion(_number(getattr(state, "tr_radius", None)), None)


def from_loop(state: Any) -> TrustRegion:
    """From the frame of SciPy's trust-region loop on the call stack."""
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
