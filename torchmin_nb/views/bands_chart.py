"""Predictions with their bands, and the data, drawn by Plotly or by matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.covariance.estimates import Bands
from ..errors import ArgumentError
from .chart import Axis, Chart, Mark
from .palette import INK, RUNS

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .chart_picture import Picture

__all__ = ["bands_chart", "bands_figure", "bands_picture"]

_NEW, _CONFIDENCE = "rgba(0,114,178,0.13)", "rgba(0,114,178,0.32)"


def bands_figure(bands: Bands, data: tuple[Any, Any] | None = None, *, title: str = "") -> go.Figure:
    """A prediction with its confidence band, the interval for new data if it is known, and the data, by Plotly.

    Parameters
    ----------
    bands : Bands
        With an x of numbers.
    data : (array_like, array_like) or None, optional
        x and y of the data. Default None.
    title : str, optional
        Title. Default none.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.

    Raises
    ------
    ArgumentError
        If x is not one number for each prediction, or the data are not.

    Examples
    --------
    >>> t = torch.linspace(0, 4, 30, dtype=torch.float64)
    >>> y = 2.5 * torch.exp(-1.3 * t) + 0.05 * torch.cos(40 * t)
    >>> fit = curve_fit(lambda t, a, rate: a * torch.exp(-rate * t), t, y, [1.0, 1.0])
    >>> [trace.name for trace in bands_figure(fit.bands(t), (t, y)).data]
    ['95 % of new data', '95 % confidence band', 'prediction', 'data']
    """
    from .chart_figure import chart_figure

    return chart_figure(bands_chart(bands, data, title))


def bands_picture(bands: Bands, data: tuple[Any, Any] | None = None, *, title: str = "") -> Picture:
    """A prediction with its confidence band, the interval for new data if it is known, and the data, by matplotlib.

    Parameters
    ----------
    bands : Bands
        With an x of numbers.
    data : (array_like, array_like) or None, optional
        x and y of the data. Default None.
    title : str, optional
        Title. Default none.

    Returns
    -------
    Picture
        A matplotlib Figure.

    Raises
    ------
    ArgumentError
        If x is not one number for each prediction, or the data are not.

    Examples
    --------
    >>> t = torch.linspace(0, 4, 30, dtype=torch.float64)
    >>> y = 2.5 * torch.exp(-1.3 * t) + 0.05 * torch.cos(40 * t)
    >>> fit = curve_fit(lambda t, a, rate: a * torch.exp(-rate * t), t, y, [1.0, 1.0])
    >>> len(bands_picture(fit.bands(t), (t, y)).axes)
    1
    """
    from .chart_picture import chart_picture

    return chart_picture(bands_chart(bands, data, title))


def bands_chart(bands: Bands, data: tuple[Any, Any] | None = None, title: str = "") -> Chart:
    """What is drawn, without a drawing library."""
    y = bands.value.numpy().reshape(-1)
    x = _numbers(bands.x)
    if x.size != y.size:
        raise ArgumentError(
            f"{y.size} predictions at an x of {x.size} numbers: only a prediction of one number x can be drawn; plot "
            f"bands.value, bands.low and bands.high against a number of your choice"
        )
    order = np.argsort(x, kind="stable")
    percent = f"{100 * bands.level:.4g} %"
    marks = []
    if bands.new_low is not None and bands.new_high is not None:
        marks.append(_area(x, bands.new_low, bands.new_high, order, f"{percent} of new data", "dot", _NEW))
    marks.append(_area(x, bands.low, bands.high, order, f"{percent} confidence band", "solid", _CONFIDENCE))
    texts = tuple(
        f"{where:.4g}: {value:.5g} ± {error:.2g}"
        for where, value, error in zip(x[order], y[order], bands.standard_error.numpy().reshape(-1)[order], strict=True)
    )
    marks.append(Mark(x[order], y[order], "prediction", RUNS[0], width=2, texts=texts))
    if data is not None:
        marks.append(_data(data))
    return Chart(tuple(marks), Axis("x"), Axis("y"), title)


def _area(
    x: NDArray[np.float64],
    low: torch.Tensor,
    high: torch.Tensor,
    order: NDArray[np.intp],
    name: str,
    dash: str,
    fill: str,
) -> Mark:
    """Where both ends are finite: a closed line around the area."""
    ends = [end.numpy().reshape(-1)[order] for end in (low, high)]
    known = np.isfinite(ends[0]) & np.isfinite(ends[1])
    around = np.concatenate([x[order][known], x[order][known][::-1]])
    return Mark(around, np.concatenate([ends[0][known], ends[1][known][::-1]]), name, RUNS[0], dash, 0.8, fill=fill)


def _data(data: tuple[Any, Any]) -> Mark:
    x, y = map(_numbers, data)
    if x.size != y.size:
        raise ArgumentError(f"the data have {x.size} x and {y.size} y; pass one y for each x")
    return Mark(x, y, "data", INK, "", marker="circle", size=5)


def _numbers(values: Any) -> NDArray[np.float64]:
    if isinstance(values, tuple):
        values = torch.cat([torch.as_tensor(part).reshape(-1) for part in values])
    return torch.as_tensor(values).detach().to("cpu", torch.float64).numpy().reshape(-1)
