"""Inside one step, drawn by Plotly or by matplotlib: the line search, the model in its region, or the simplex."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..analysis.line_search import LineStep
from ..analysis.simplex import SimplexStep
from ..analysis.step import Step, step_data
from ..analysis.surface import Surface, contour_levels, sample, window_around
from ..analysis.trust_region_step import RegionStep
from ..core.history.history import History
from ..core.signatures import shares_parameters, shows_keywords
from ..errors import ArgumentError
from .chart import Axis, Chart, Layer, Mark
from .landscape import surface_layers
from .palette import INK, RUNS, WARNING

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .chart_picture import Picture

__all__ = ["step_chart", "step_figure", "step_picture"]

_BLUE, _RED, _GREEN, _PINK, _SKY, _ORANGE = RUNS
_CIRCLE = np.linspace(0, 2 * np.pi, 121)
_HEADROOM = 1.5


@shares_parameters(step_data)
@shows_keywords(step_data)
def step_figure(loss: Callable[..., Any], history: History, k: int, **options: Any) -> go.Figure:
    """Inside the step from iterate k to iterate k + 1, as a Plotly figure.

    Parameters
    ----------
    loss : callable
        A function of x, shape (n,), float64. Or a closure; then give its `parameters`. A simplex is drawn on the
        contours of its loss and needs a function of two variables, (..., 2) -> (...).
    {shared}

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.

    Raises
    ------
    ArgumentError
        If k is out of range, if the method finds its steps in another way, or for a simplex in more than two
        dimensions.
    HistoryError
        If the history has not kept enough.

    Examples
    --------
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> x0 = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    >>> history = minimize(rosenbrock, x0, "BFGS", keep_parameters=True, keep_evaluations=True).history
    >>> [trace.name for trace in step_figure(rosenbrock, history, 3).data][1]
    'φ(α), the loss along the step'
    """
    from .chart_figure import chart_figure

    return chart_figure(step_chart(step_data(loss, history, k, **options), history.method, loss))


@shares_parameters(step_data)
@shows_keywords(step_data)
def step_picture(loss: Callable[..., Any], history: History, k: int, **options: Any) -> Picture:
    """Inside the step from iterate k to iterate k + 1, by matplotlib.

    Parameters
    ----------
    loss : callable
        A function of x, shape (n,), float64. Or a closure; then give its `parameters`. A simplex is drawn on the
        contours of its loss and needs a function of two variables, (..., 2) -> (...).
    {shared}

    Returns
    -------
    Picture
        A matplotlib Figure.

    Raises
    ------
    ArgumentError
        If k is out of range, if the method finds its steps in another way, or for a simplex in more than two
        dimensions.
    HistoryError
        If the history has not kept enough.

    Examples
    --------
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> x0 = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    >>> history = minimize(rosenbrock, x0, "BFGS", keep_parameters=True, keep_evaluations=True).history
    >>> len(step_picture(rosenbrock, history, 3).axes)
    1
    """
    from .chart_picture import chart_picture

    return chart_picture(step_chart(step_data(loss, history, k, **options), history.method, loss))


def step_chart(step: Step, method: str, loss: Callable[..., Any]) -> Chart:
    """What is drawn, without a drawing library. loss: drawn under a simplex only."""
    title = f"{method}, step {step.iteration - 1} → {step.iteration}"
    if isinstance(step, LineStep):
        return _line_chart(step, title)
    return _region_chart(step, title) if isinstance(step, RegionStep) else _simplex_chart(step, title, loss)


# A line search


def _line_chart(step: LineStep, title: str) -> Chart:
    low, high = _height(step)
    (phi0, slope0), (phi1, _) = step.start, step.accepted
    admissible = np.where(step.admissible, step.phi, np.nan)
    reach = 0.5 * min(1.0, (high - phi0) / max(abs(slope0), 1e-300)) if slope0 else 0.5
    tangent = np.array([-reach * 0.2, reach])
    layers = [
        Mark(step.alpha, admissible, "both conditions hold", "#8fd3bd", width=11),
        Mark(step.alpha, step.phi, "φ(α), the loss along the step", _BLUE, texts=_values("φ", step.alpha, step.phi)),
        Mark(step.alpha, step.armijo, f"sufficient decrease, c₁ = {step.c1:g}", _RED, "dash", 1.6),
        Mark(tangent, phi0 + slope0 * tangent, "slope φ′(0)", INK, "dot", 1.6),
        *_trial_marks(step, high),
        Mark(np.zeros(1), np.array([phi0]), "iterate", INK, "", 2, "circle", 11, hollow=True),
        Mark(np.ones(1), np.array([phi1]), "step taken", INK, "", 2, "square", 12, hollow=True),
    ]
    return Chart(
        tuple(layers),
        Axis("α, in steps taken (α = 1)", range=(float(step.alpha[0]), float(step.alpha[-1]))),
        Axis("loss", range=(low, high)),
        title,
        step.words,
    )


def _height(step: LineStep) -> tuple[float, float]:
    """The part of the loss where the search takes place: a trial far up would flatten it."""
    phi0, lowest = step.start[0], float(np.nanmin(step.phi))
    depth = max(phi0 - lowest, 1e-12 * max(1.0, abs(phi0)))
    return lowest - 0.12 * depth, phi0 + _HEADROOM * depth


def _trial_marks(step: LineStep, high: float) -> list[Mark]:
    if not len(step.trials):
        return []
    losses = np.where(np.isfinite(step.trial_losses), step.trial_losses, np.inf)
    texts = tuple(
        f"trial {number}\nα {alpha:.4g}\nloss {loss:.5g}"
        for number, (alpha, loss) in enumerate(zip(step.trials, step.trial_losses, strict=True), 1)
    )
    above = losses > high
    marks = [
        Mark(step.trials[~above], losses[~above], "trial", _ORANGE, "", 2, "diamond", 9, texts=_kept(texts, ~above))
    ]
    if above.any():
        edge = np.full(int(above.sum()), high - 0.03 * (high - _height(step)[0]))
        name = "trial far above"
        marks.append(Mark(step.trials[above], edge, name, _ORANGE, "", 2, "triangle-up", 11, texts=_kept(texts, above)))
    return [mark for mark in marks if len(mark.x)]


def _kept(texts: tuple[str, ...], chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(text for text, keep in zip(texts, chosen, strict=True) if keep)


def _values(name: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[str, ...]:
    return tuple(f"α {a:.4g}\n{name} {b:.5g}" for a, b in zip(x, y, strict=True))


# A trust region


def _region_chart(step: RegionStep, title: str) -> Chart:
    circle = step.radius * np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], axis=1)
    shown = float(step.model.x[-1])
    newton = step.newton if (np.abs(step.newton) <= shown).all() else step.newton[:0]
    taken = "step taken" if step.accepted is not False else "step tried, rejected"
    layers: list[Layer] = [
        *surface_layers(step.model, contour_levels(step.model.loss), "model of the loss"),
        _points(circle, f"trust region, radius {step.radius:.4g}", INK, "dash"),
        _arrow(step.taken, taken, step.accepted),
        _points(step.dogleg, "dogleg path", _BLUE, "longdash", "circle", 5),
        _points(step.steihaug, "CG–Steihaug path", _GREEN, "solid", "circle", 5),
        _points(step.cauchy, "Cauchy point", _PINK, "", "diamond", 10),
        _points(newton, "Newton point", _ORANGE, "", "star", 14),
        _points(np.zeros((1, 2)), "iterate", INK, "", "circle", 11, hollow=True),
    ]
    return Chart(
        tuple(layer for layer in layers if not isinstance(layer, Mark) or len(layer.x)),
        Axis(step.axes[0], range=(-shown, shown)),
        Axis(step.axes[1], range=(-shown, shown)),
        title,
        (*step.words, *_newton_words(step, len(newton) > 0)),
        square=True,
    )


def _newton_words(step: RegionStep, drawn: bool) -> tuple[str, ...]:
    if drawn:
        return ()
    if not len(step.newton):
        return ("The Hessian is not positive definite here: the model has no minimum, so there is no Newton point.",)
    length = float(np.linalg.norm(step.newton))
    return (f"The Newton point is outside the figure, {length / step.radius:.3g} radii away.",)


def _arrow(taken: NDArray[np.float64], name: str, accepted: bool | None) -> Mark:
    path = np.concatenate([np.zeros((1, 2)), taken]) if len(taken) else taken
    colour = WARNING if accepted is False else INK
    return _points(path, name, colour, "solid", "x" if accepted is False else "square", 11)._replace(width=5)


def _points(
    points: NDArray[np.float64],
    name: str,
    colour: str,
    dash: str = "solid",
    marker: str = "",
    size: float = 6,
    *,
    hollow: bool = False,
) -> Mark:
    texts = tuple(f"{name}\n{x:.4g}, {y:.4g}" for x, y in points) if marker else ()
    return Mark(points[:, 0], points[:, 1], name, colour, dash, 2, marker, size, hollow, texts=texts)


# A simplex


def _simplex_chart(step: SimplexStep, title: str, loss: Callable[..., Any]) -> Chart:
    if step.before.shape[1] != 2:
        raise ArgumentError(
            f"this simplex has {step.before.shape[1]} dimensions, only two can be drawn; use step_data for the others"
        )
    window = window_around(np.concatenate([step.before, step.after, step.trials]))
    surface: Surface = sample(loss, window, 121)
    layers = [
        *surface_layers(surface, contour_levels(surface.loss)),
        _triangle(step.before, "simplex before", INK, "dash"),
        _triangle(step.after, "simplex after", _BLUE, "solid"),
        *_moves(step),
    ]
    return Chart(
        tuple(layers), Axis("x₁", range=window[0]), Axis("x₂", range=window[1]), title, step.words, square=True
    )


def _triangle(simplex: NDArray[np.float64], name: str, colour: str, dash: str) -> Mark:
    closed = np.concatenate([simplex, simplex[:1]])
    fill = "rgba(0,114,178,0.10)" if dash == "solid" else ""
    return Mark(closed[:, 0], closed[:, 1], name, colour, dash, 2, "circle", 6, fill=fill)


_MOVES = {
    "reflection": (_ORANGE, "diamond"),
    "expansion": (_GREEN, "star"),
    "outside contraction": (_PINK, "square"),
    "inside contraction": (_PINK, "square"),
    "shrunk vertex": (_SKY, "pentagon"),
}


def _moves(step: SimplexStep) -> list[Mark]:
    marks = []
    for name in dict.fromkeys(step.moves):
        chosen = np.array([move == name for move in step.moves])
        texts = tuple(f"{name}\nloss {loss:.5g}" for loss in step.losses[chosen])
        colour, marker = _MOVES[name]
        x, y = step.trials[chosen].T
        marks.append(Mark(x, y, name, colour, "", 2, marker, 11, texts=texts))
    return marks
