"""Buttons that a static figure carries in itself: scale and x axis can be changed wherever it is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.history.history import History
from .palette import GRID, INK, POWERS
from .panels import X_AXES, RunCurves, x_column

__all__ = ["MENU_HEIGHT", "menus"]

MENU_HEIGHT = 44
"""Pixels that the buttons add below the figure."""
_EXCESS = "loss − best"


def menus(
    look: Mapping[str, Any], histories: Mapping[str, History], runs: Sequence[RunCurves], panels: Sequence[str], x: str
) -> dict[str, Any]:
    """What to add to the layout `look` for buttons below the panels for scale and x axis, as plain JSON.

    Plotly copies and checks each number of a button several times: a figure that is only stored is better off without.
    panels, x: what the figure shows now.
    """
    bottom = {"y": 0, "yanchor": "top", "pad": {"t": 40}, "type": "buttons", "direction": "right", "showactive": True}
    dress = {"bgcolor": "rgba(0,0,0,0)", "bordercolor": GRID, "font": {"color": INK, "size": 11}}
    axes = list(X_AXES)
    return {
        "updatemenus": [
            {**bottom, **dress, "x": 0, "xanchor": "left", "buttons": _scales(look, runs, panels)},
            {
                **bottom,
                **dress,
                "x": 1,
                "xanchor": "right",
                "type": "dropdown",  # beside three buttons there is no room for three more on a narrow page
                "direction": "up",
                "active": axes.index(x),
                "buttons": [_x_axis(name, histories, runs) for name in axes],
            },
        ],
        "height": look["height"] + MENU_HEIGHT,
        "margin": {**look["margin"], "b": look["margin"]["b"] + MENU_HEIGHT},
    }


def _scales(look: Mapping[str, Any], runs: Sequence[RunCurves], panels: Sequence[str]) -> list[dict[str, Any]]:
    axes = ["yaxis" if place == 0 else f"yaxis{place + 1}" for place in range(len(panels))]
    as_drawn: dict[str, Any] = {}
    linear: dict[str, Any] = {}
    for axis in axes:
        drawn = look[axis] | {"tickfont.size": look[axis]["tickfont"]["size"], "autorange": True}
        straight = {"type": "linear", "dtick": None, "tickfont.size": None, "autorange": True}
        as_drawn |= {f"{axis}.{part}": drawn[part] for part in straight}
        linear |= {f"{axis}.{part}": value for part, value in straight.items()}
    losses = [(place, curve) for place, curve in enumerate(_curves(runs)) if curve.panel == "loss"]
    drawn_as_log = any(look[axis]["type"] == "log" for axis in axes)
    buttons = [_button("linear", {}, linear)]
    if drawn_as_log:
        buttons.insert(0, _button("log", {}, as_drawn))
    if losses:
        places = [place for place, _ in losses]
        lowest = min((float(curve.y.min()) for _, curve in losses if curve.y.size), default=0.0)
        title = f"{axes[panels.index('loss')]}.title.text"
        plain = {"y": [_numbers(curve.y) for _, curve in losses]}
        for button in buttons:
            button["args"] = [plain, button["args"][1] | {title: "loss"}, places]
        excess = {"y": [_numbers(np.where(curve.y > lowest, curve.y - lowest, np.nan)) for _, curve in losses]}
        axis = axes[panels.index("loss")]
        shape = {"type": "log", "dtick": None, "tickfont.size": POWERS, "autorange": True, "title.text": _EXCESS}
        relayout = as_drawn | {f"{axis}.{part}": value for part, value in shape.items()}
        buttons.append({"label": _EXCESS, "method": "update", "args": [excess, relayout, places]})
    return buttons


def _x_axis(name: str, histories: Mapping[str, History], runs: Sequence[RunCurves]) -> dict[str, Any]:
    columns = [histories[run.name].column(x_column(name)) for run in runs]
    values = [_numbers(column[curve.rows]) for run, column in zip(runs, columns, strict=True) for curve in run.curves]
    return _button(name, {"x": values}, {"xaxis.title.text": name, "xaxis.autorange": True})


def _button(label: str, restyle: dict[str, Any], relayout: dict[str, Any]) -> dict[str, Any]:
    return {"label": label, "method": "update", "args": [restyle, relayout]}


def _curves(runs: Sequence[RunCurves]) -> list[Any]:
    return [curve for run in runs for curve in run.curves]


def _numbers(values: NDArray[Any]) -> list[float | int | None]:
    """Plain numbers of six digits: buttons carry no binary arrays."""
    if values.dtype.kind == "i":
        return [int(value) for value in values]
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]
