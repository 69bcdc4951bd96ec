"""A PanelState as messages: the whole of it, or what is new since the last one, with arrays as binary buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..axes import Axis
from .state import Columns, PanelState

__all__ = ["Buffers", "delta", "whole"]

Buffers = list[bytes]


def whole(state: PanelState) -> dict[str, Any]:
    """All of a state, ready to be synced: JSON, and one list of four arrays as bytes for each curve."""
    return {
        **_head(state),
        "layout": state.layout,
        "x_axes": _axes(state.x_axes),
        "y_axes": {name: _axes(axes) for name, axes in state.y_axes.items()},
        "looks": list(state.looks),
        "best": state.best,
        "columns": [_arrays(columns, 0) for columns in state.columns],
    }


def delta(old: PanelState, new: PanelState) -> tuple[dict[str, Any], Buffers] | None:
    """What turns the old state into the new one; None where more has changed than points, axes and words.

    Of each curve of "points" the first `keep` points stay, and those in its four buffers follow.
    """
    if new.layout != old.layout or new.looks != old.looks or set(new.y_axes) != set(old.y_axes):
        return None
    head, before = _head(new), _head(old)
    message: dict[str, Any] = {name: value for name, value in head.items() if value != before[name]}
    message["x_axes"] = _axes(_changed(old.x_axes, new.x_axes))
    message["y_axes"] = {name: _axes(_changed(old.y_axes[name], axes)) for name, axes in new.y_axes.items()}
    message["best"] = new.best
    points, buffers = [], Buffers()
    for curve, (shown, columns) in enumerate(zip(old.columns, new.columns, strict=True)):
        keep = _same(shown, columns)
        if keep < max(shown.rows.size, columns.rows.size):
            points.append({"curve": curve, "keep": keep})
            buffers.extend(_arrays(columns, keep))
    return {**message, "points": points}, buffers


def _head(state: PanelState) -> dict[str, Any]:
    header = state.header
    return {
        "header": {**header._asdict(), "facts": [list(fact) for fact in header.facts], "line": header.line()},
        "buttons": [button._asdict() for button in state.buttons],
        "legend": [entry._asdict() for entry in state.legend],
    }


def _axes(axes: Mapping[str, Axis]) -> dict[str, Any]:
    return {
        name: {"log": axis.log, "range": list(axis.range), "ticks": list(axis.ticks), "labels": list(axis.labels)}
        for name, axis in axes.items()
    }


def _changed(old: Mapping[str, Axis], new: Mapping[str, Axis]) -> dict[str, Axis]:
    return {name: axis for name, axis in new.items() if old.get(name) != axis}


def _arrays(columns: Columns, start: int) -> Buffers:
    arrays: Sequence[Any] = (columns.iteration, columns.calls, columns.seconds, columns.y)
    return [np.ascontiguousarray(array[start:]).tobytes() for array in arrays]


def _same(old: Columns, new: Columns) -> int:
    """How many points at the beginning are the same."""
    common = min(old.rows.size, new.rows.size)
    differ = (old.rows[:common] != new.rows[:common]) | (old.y[:common] != new.y[:common])
    return int(np.argmax(differ)) if differ.any() else common
