"""What a picture shows, told without a drawing library: layers on two axes. Plotly and matplotlib draw the same.

All text is plain: each draw step keeps tags and formulas in it from being read as such.
"""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .palette import INK

__all__ = ["FEW_DECADES", "Axis", "Chart", "Contours", "Layer", "Mark", "Region", "superscript", "wrapped_lines"]

FEW_DECADES = 2.5
"""A logarithmic axis of fewer is written out, with 1, 2 and 5 of each."""


class Axis(NamedTuple):
    """One axis. range: (low, high) in data units, or None. ticks: positions and texts, or None."""

    title: str
    log: bool = False
    range: tuple[float, float] | None = None


class Mark(NamedTuple):
    """A line, or markers, through x and y, shape (k,); NaN breaks a line.

    name: in the legend, where not empty; group: legend entries that are switched together. dash: one of
    palette.DASHES, "" for no line. marker: one of palette.MARKERS, "x", "cross" or "star", "" for none; hollow: its
    outline only. fill: the colour inside a closed line. steps: "hv" for a step function. texts: one hover text a
    point, in lines.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    name: str = ""
    colour: str = INK
    dash: str = "solid"
    width: float = 2
    marker: str = ""
    size: float = 6
    hollow: bool = False
    fill: str = ""
    steps: str = ""
    texts: tuple[str, ...] = ()
    group: str = ""


class Contours(NamedTuple):
    """Filled contours of z (ny, nx) at equally spaced levels (k,); labels name the levels, title what z stands for.

    value (ny, nx) is what hovering shows.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    levels: NDArray[np.float64]
    labels: tuple[str, ...]
    title: str
    value: NDArray[np.float64]


class Region(NamedTuple):
    """The line z = 0 of z (ny, nx), and, with shade, the side where z < 0 shaded."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    name: str
    colour: str
    shade: bool = True


Layer = Mark | Contours | Region


class Chart(NamedTuple):
    """One picture. square: one unit is as long on both axes. notes: sentences under the title."""

    layers: tuple[Layer, ...]
    x: Axis
    y: Axis
    title: str = ""
    notes: tuple[str, ...] = ()
    square: bool = False

    def contours(self) -> list[Contours]:
        """The contour layers."""
        return [layer for layer in self.layers if isinstance(layer, Contours)]

    def marks(self, name: str) -> list[Mark]:
        """The marks that go by this name in the legend."""
        return [layer for layer in self.layers if isinstance(layer, Mark) and layer.name == name]


def wrapped_lines(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` characters."""
    return textwrap.wrap(text, width) or []


def superscript(number: Any) -> str:
    """An integer as superscript digits, for powers of ten in plain text."""
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
