"""PROBLEMS: one row for each problem."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .classic import CLASSIC
from .curves import CURVES
from .gaussian_process import GAUSSIAN_PROCESS
from .learning import LEARNING
from .limited import LIMITED
from .oscillation import SOUTHERN_OSCILLATION
from .pinn import PINN, POISSON
from .problem import ProblemSpec

__all__ = ["PROBLEMS"]

_ROWS = (*CLASSIC, *LIMITED, *CURVES, SOUTHERN_OSCILLATION, *LEARNING, GAUSSIAN_PROCESS, PINN, POISSON)

PROBLEMS: Mapping[str, ProblemSpec] = MappingProxyType({spec.name: spec for spec in _ROWS})
"""The problems by name, in groups."""
