"""The spectrum of a Hessian, drawn by Plotly or by matplotlib: the density of all eigenvalues, and the extreme ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..analysis.spectrum import Spectrum
from ..errors import ArgumentError
from .chart import Axis, Chart, Mark
from .palette import INK, RUNS

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .chart_picture import Picture

__all__ = ["spectrum_chart", "spectrum_figure", "spectrum_picture"]

_BELOW_ONE = 1 / 30
"""Densities are drawn down to this share of the peak of one eigenvalue."""
_DECADES = 1e-9


def spectrum_figure(spectrum: Spectrum, *, title: str = "Spectrum of the Hessian") -> go.Figure:
    """The density of all eigenvalues on a logarithmic scale, with the extreme ones marked, as a Plotly figure.

    Parameters
    ----------
    spectrum : Spectrum
        With its density.
    title : str, optional
        Title. Default "Spectrum of the Hessian".

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.

    Raises
    ------
    ArgumentError
        If the spectrum has no density.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
    >>> found = spectrum(lambda: (torch.linspace(-1, 5, 50) * x**2).sum(), [x])
    >>> spectrum_figure(found).layout.xaxis.title.text
    'eigenvalue'
    """
    from .chart_figure import chart_figure

    return chart_figure(spectrum_chart(spectrum, title))


def spectrum_picture(spectrum: Spectrum, *, title: str = "Spectrum of the Hessian") -> Picture:
    """The density of all eigenvalues on a logarithmic scale, with the extreme ones marked, by matplotlib.

    Parameters
    ----------
    spectrum : Spectrum
        With its density.
    title : str, optional
        Title. Default "Spectrum of the Hessian".

    Returns
    -------
    Picture
        A matplotlib Figure.

    Raises
    ------
    ArgumentError
        If the spectrum has no density.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
    >>> found = spectrum(lambda: (torch.linspace(-1, 5, 50) * x**2).sum(), [x])
    >>> spectrum_picture(found).axes[0].get_ylabel()
    'density'
    """
    from .chart_picture import chart_picture

    return chart_picture(spectrum_chart(spectrum, title))


def spectrum_chart(spectrum: Spectrum, title: str = "") -> Chart:
    """What is drawn, without a drawing library."""
    density = spectrum.density
    if density is None:
        raise ArgumentError("this spectrum has no density to draw; compute it with spectrum(..., density=True)")
    single = 1 / (spectrum.n * density.width * np.sqrt(2 * np.pi))
    highest = float(density.values.max())
    floor = max(_BELOW_ONE * single, _DECADES * highest)
    drawn = np.where(density.values > floor, density.values, floor)
    texts = tuple(f"eigenvalue {x:.4g}\ndensity {y:.3g}" for x, y in zip(density.grid, density.values, strict=True))
    extreme = tuple(
        f"eigenvalue {value:.5g} ± {error:.1g}\n{', '.join(_where(spectrum, index))}"
        for index, (value, error) in enumerate(zip(spectrum.values, spectrum.residuals, strict=True))
    )
    marks = (
        Mark(np.zeros(2), np.array([floor, 2 * highest]), "", INK, "dot", 1),
        Mark(density.grid, drawn, "density of all eigenvalues", RUNS[0], width=2, texts=texts),
        Mark(
            spectrum.values,
            np.full(spectrum.values.size, single),
            "lowest and highest, one each",
            RUNS[1],
            "",
            marker="diamond",
            size=8,
            texts=extreme,
        ),
    )
    how = "all unit vectors, exact" if density.exact else f"{len(density.nodes)} random vectors"
    negative = density.share(-np.inf, -spectrum.rounding)
    note = f"{spectrum.n:,} eigenvalues, {negative.value:.1%} of them negative; density from {how}"
    return Chart(marks, Axis("eigenvalue"), Axis("density", log=True, range=(floor, 2 * highest)), title, (note,))


def _where(spectrum: Spectrum, index: int) -> list[str]:
    """The two parameters in which an eigenvector mostly is."""
    shares = sorted(spectrum.shares(index).items(), key=lambda pair: -pair[1])
    return [f"{name} {share:.0%}" for name, share in shares[:2]]
