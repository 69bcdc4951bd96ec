"""MethodRow: the columns that the tables of methods share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .options import OptionSpec

__all__ = ["MethodRow", "option_rows"]


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One method of METHODS, LEAST_SQUARES_METHODS or GLOBAL_METHODS.

    name: as SciPy spells it. summary: when to use it, in a sentence. reference: the page or paper that describes it.
    options: by name. family: the heading under which it is listed. bounds, constraints: whether it accepts them. cost:
    the cost of an iteration, in words. engines: what can run it: "scipy", and "torch" for a solver on the device.
    """

    name: str
    summary: str
    reference: str
    options: Mapping[str, OptionSpec]
    family: str = field(default="", kw_only=True)
    bounds: bool = field(default=False, kw_only=True)
    constraints: bool = field(default=False, kw_only=True)
    cost: str = field(default="", kw_only=True)
    engines: tuple[str, ...] = field(default=("scipy",), kw_only=True)

    @property
    def needs(self) -> str:
        """Its requirements, in words."""
        raise NotImplementedError


def option_rows(*options: OptionSpec) -> Mapping[str, OptionSpec]:
    """The options of a method, by name."""
    return MappingProxyType({option.name: option for option in options})
