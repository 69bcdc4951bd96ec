"""The order of convergence, drawn by Plotly or by matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis.landscape import Runs
from ..analysis.order import Order, order_data
from ..core.signatures import shares_parameters, shows_keywords
from .chart import Axis, Chart, Mark
from .palette import INK, style

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .chart_picture import Picture

__all__ = ["order_chart", "order_figure", "order_picture"]


@shares_parameters(order_data)
@shows_keywords(order_data)
def order_figure(histories: Runs, *, title: str = "Order of convergence", **options: Any) -> go.Figure:
    """log e(k+1) against log e(k) of one or several runs, with the fitted slopes, as a Plotly figure.

    Parameters
    ----------
    histories : History or dict of str to History
        The runs by name.
    title : str, optional
        Title. Default "Order of convergence".
    {shared}

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.

    Raises
    ------
    ArgumentError
        If `minimizer` and `best_loss` are both given or both missing, or the minimizer has a wrong size.
    HistoryError
        If a minimizer is given and a run has kept no points.

    Examples
    --------
    >>> history = minimize(lambda x: (x**4).sum(), [3.0, 4.0], "Newton-CG").history
    >>> order_figure(history, best_loss=0.0).layout.xaxis.title.text
    'loss above its minimum, iterate k'
    """
    from .chart_figure import chart_figure

    return chart_figure(order_chart(order_data(histories, **options), title))


@shares_parameters(order_data)
@shows_keywords(order_data)
def order_picture(histories: Runs, *, title: str = "Order of convergence", **options: Any) -> Picture:
    """log e(k+1) against log e(k) of one or several runs, with the fitted slopes, by matplotlib.

    Parameters
    ----------
    histories : History or dict of str to History
        The runs by name.
    title : str, optional
        Title. Default "Order of convergence".
    {shared}

    Returns
    -------
    Picture
        A matplotlib Figure.

    Raises
    ------
    ArgumentError
        If `minimizer` and `best_loss` are both given or both missing, or the minimizer has a wrong size.
    HistoryError
        If a minimizer is given and a run has kept no points.

    Examples
    --------
    >>> history = minimize(lambda x: (x**4).sum(), [3.0, 4.0], "Newton-CG").history
    >>> order_picture(history, best_loss=0.0).axes[0].get_xlabel()
    'loss above its minimum, iterate k'
    """
    from .chart_picture import chart_picture

    return chart_picture(order_chart(order_data(histories, **options), title))


def order_chart(orders: list[Order], title: str = "") -> Chart:
    """What is drawn, without a drawing library."""
    marks = [mark for index, order in enumerate(orders) for mark in _run(order, index)]
    measure = orders[0].measure if orders else "error"
    log = any(order.before.size for order in orders)
    return Chart(
        (*_references(orders), *marks),
        Axis(f"{measure}, iterate k", log=log),
        Axis(f"{measure}, iterate k + 1", log=log),
        title,
        tuple(order.words for order in orders),
    )


def _run(order: Order, index: int) -> list[Mark]:
    colour, dash, marker = style(index)
    texts = tuple(f"{order.name}\n{a:.3g} → {b:.3g}" for a, b in zip(order.before, order.after, strict=True))
    hollow = Mark(order.before, order.after, order.name, colour, "", 2, marker, 7, hollow=True, texts=texts)
    chosen = Mark(order.before[order.fitted], order.after[order.fitted], "", colour, "", 2, marker, 8, group=order.name)
    if order.order is None or order.intercept is None:
        return [hollow]
    ends = np.array([order.before[order.fitted].max(), order.before[order.fitted].min()])
    line = 10 ** (order.order * np.log10(ends) + order.intercept)
    return [hollow, chosen, Mark(ends, line, f"{order.name}: slope {order.order:.2f}", colour, dash, 2.5)]


def _references(orders: list[Order]) -> list[Mark]:
    """Lines of order 1 and 2 through the corner of the largest error, and the floor of rounding."""
    errors = np.concatenate([np.concatenate([order.before, order.after]) for order in orders] or [np.empty(0)])
    if not errors.size:
        return []
    low, high = float(errors.min()), float(errors.max())
    line = np.array([low, high])
    second = np.array([np.sqrt(low * high), high])
    marks = [
        Mark(line, line, "no progress", INK, "solid", 1),
        Mark(line, 0.1 * line, "order 1 (a tenth a step)", INK, "dash", 1.2),
        Mark(second, second**2 / high, "order 2", INK, "dot", 1.6),
    ]
    floor = max(order.floor for order in orders)
    return [*marks, Mark(line, np.full(2, floor), "rounding below", INK, "longdashdot", 1)] if low < floor else marks
