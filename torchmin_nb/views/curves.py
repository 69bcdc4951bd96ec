"""Several curves on one pair of axes: the look that most pictures of the course have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from .chart import Axis, Chart, Mark
from .chart_picture import Picture, chart_picture
from .palette import style

__all__ = ["curves_picture"]

_MANY = 40
"""A curve of so many points has no markers."""


def curves_picture(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    x: Axis,
    y: Axis,
    title: str = "",
    *,
    alt: str = "",
    width: float = 6.4,
    height: float = 3.4,
) -> Picture:
    """Curves by name, each with a colour, a dash and a marker of its own.

    Parameters
    ----------
    curves : dict of str to (array_like of shape (k,), array_like of shape (k,))
        x and y of each curve. An empty name has no place in the legend.
    x : Axis
        The x axis.
    y : Axis
        The y axis.
    title : str, optional
        Title.
    alt : str, optional
        What is to be seen, in words. Default: the title.
    width : float, optional
        Width in inches. Default 6.4.
    height : float, optional
        Height in inches. Default 3.4.

    Returns
    -------
    Picture
        The figure.

    Examples
    --------
    >>> curves = {"CG": ([0, 1, 2], [1.0, 0.5, 0.2]), "BFGS": ([0, 1], [1.0, 0.1])}
    >>> picture = curves_picture(curves, Axis("iteration"), Axis("loss", log=True))
    >>> [line.get_label() for line in picture.axes[0].lines]
    ['CG', 'BFGS']
    """
    marks = []
    for index, (name, (across, up)) in enumerate(curves.items()):
        places, values = np.asarray(across, dtype=np.float64), np.asarray(up, dtype=np.float64)
        colour, dash, marker = style(index)
        marks.append(Mark(places, values, name, colour, dash, marker=marker if len(places) < _MANY else ""))
    picture = chart_picture(Chart(tuple(marks), x, y, title), width=width, height=height)
    picture.alt = alt or title
    return picture
