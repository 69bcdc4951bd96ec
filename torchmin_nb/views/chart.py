"""What a picture shows, described without a drawing library: layers on two axes. Plotly and matplotlib draw the same.

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
    """One axis of a `Chart`.

    Attributes
    ----------
    title : str
        What it shows.
    log : bool
        Whether it is logarithmic.
    range : tuple of (float, float) or None
        (low, high) in units of the data; None for all of it.

    See Also
    --------
    Chart : has one for x and one for y, and has an example.
    """

    title: str
    log: bool = False
    range: tuple[float, float] | None = None


class Mark(NamedTuple):
    """A line, or markers, through the points x, y. A NaN breaks the line.

    Attributes
    ----------
    x : ndarray of shape (k,)
        Positions.
    y : ndarray of shape (k,)
        Positions.
    name : str
        Name in the legend; empty for none.
    colour : str
        Colour as "#rrggbb" or "rgba(...)".
    dash : str
        "solid", "dash", "dot", "dashdot", "longdash", "longdashdot", or "" for no line.
    width : float
        Width of the line, in pixels.
    marker : str
        "circle", "square", "diamond", "triangle-up", "pentagon", "star", "x", "cross", or "" for none.
    size : float
        Size of the marker, in pixels.
    hollow : bool
        Whether only the outline of the marker is drawn.
    fill : str
        Colour inside a closed line; empty for none.
    steps : str
        "hv" for a step function, else empty.
    texts : tuple of str
        Text of each point that is shown under the mouse.
    group : str
        Legend entries with the same group are switched together.

    See Also
    --------
    Chart : is made of them, and has an example.
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
    """Filled contours of z at equally spaced levels.

    Attributes
    ----------
    x : ndarray of shape (nx,)
        Grid.
    y : ndarray of shape (ny,)
        Grid.
    z : ndarray of shape (ny, nx)
        What is drawn.
    levels : ndarray of shape (k,)
        The levels.
    labels : tuple of str
        Names of the levels.
    title : str
        What z stands for.
    value : ndarray of shape (ny, nx)
        What is shown under the mouse.

    See Also
    --------
    landscape_chart : draws a loss with them, and has an example.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    levels: NDArray[np.float64]
    labels: tuple[str, ...]
    title: str
    value: NDArray[np.float64]


class Region(NamedTuple):
    """The line z = 0, and the shaded side where z < 0.

    Attributes
    ----------
    x : ndarray of shape (nx,)
        Grid.
    y : ndarray of shape (ny,)
        Grid.
    z : ndarray of shape (ny, nx)
        Negative on the shaded side.
    name : str
        Name in the legend.
    colour : str
        Colour as "#rrggbb".
    shade : bool
        Whether the side is shaded.

    See Also
    --------
    landscape_chart : draws constraints with them, and has an example.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    name: str
    colour: str
    shade: bool = True


Layer = Mark | Contours | Region


class Chart(NamedTuple):
    """A picture without a drawing library: `chart_figure` draws it by Plotly, `chart_picture` by matplotlib.

    Attributes
    ----------
    layers : tuple of Mark, Contours or Region
        What is drawn, from back to front.
    x : Axis
        The horizontal axis.
    y : Axis
        The vertical axis.
    title : str
        Title; plain text.
    notes : tuple of str
        Sentences below the title.
    square : bool
        Whether one unit is as long on both axes.

    Examples
    --------
    >>> parabola = Mark(np.arange(4.0), np.arange(4.0) ** 2, "parabola")
    >>> chart = Chart((parabola,), Axis("k"), Axis("k²"), title="Squares")
    >>> chart.marks("parabola")[0].y
    array([0., 1., 4., 9.])
    """

    layers: tuple[Layer, ...]
    x: Axis
    y: Axis
    title: str = ""
    notes: tuple[str, ...] = ()
    square: bool = False

    def contours(self) -> list[Contours]:
        """The layers that are Contours, as a list."""
        return [layer for layer in self.layers if isinstance(layer, Contours)]

    def marks(self, name: str) -> list[Mark]:
        """The marks with this name in the legend.

        Parameters
        ----------
        name : str
            The name.

        Returns
        -------
        list of Mark
            The marks.
        """
        return [layer for layer in self.layers if isinstance(layer, Mark) and layer.name == name]


def wrapped_lines(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` characters."""
    return textwrap.wrap(text, width) or []


def superscript(number: Any) -> str:
    """An integer as superscript digits, for powers of ten in plain text."""
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
