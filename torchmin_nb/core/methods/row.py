"""MethodRow: the columns that the tables of methods share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .options import OptionSpec

__all__ = ["MethodRow", "option_rows"]


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One method of METHODS, LEAST_SQUARES_METHODS or GLOBAL_METHODS: the columns that all three have.

    Attributes
    ----------
    name : str
        Name of the method, as SciPy spells it.
    summary : str
        When to use it, in a sentence.
    reference : str
        The page or paper that describes it.
    options : dict of str to OptionSpec
        Its options, by name.
    family : str
        The heading under which it is listed.
    bounds : bool
        Whether it takes bounds; in GLOBAL_METHODS, whether it needs finite bounds on every variable.
    constraints : bool
        Whether it takes constraints.
    cost : str
        The cost of an iteration, in words.
    engines : tuple of str
        What can run it: "scipy", and "torch" for a solver on the device.
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
