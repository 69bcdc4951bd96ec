"""A PanelState as messages: the whole of it, or what is new since the last one, with arrays as binary buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..axes import Axis
from .state import Columns, PanelState, Sketch

__all__ = ["Buffers", "delta", "whole"]

Buffers = list[bytes]


def whole(state: PanelState) -> dict[str, Any]:
    """All of a state, ready to be synced: JSON, with bytes for arrays: of each curve one for each x axis, and y."""
    return {
        **_head(state),
        **_look(state),
        "best": state.best,
        "columns": [_arrays(columns, 0) for columns in state.columns],
        "picture": None if state.picture is None else _packed(state.picture._asdict(), lambda data: data),
    }


def delta(old: PanelState, new: PanelState) -> tuple[dict[str, Any], Buffers]:
    """What turns the old state into the new one.

    Of each curve of "points" the first `keep` points stay, and those in its buffers follow: one buffer for each x axis,
    and one for y. "looks" comes with all curves anew, and "picture" with the first `keep` of its traces as they were.
    Arrays in the picture name their buffer by its number.
    """
    head, before = _head(new), _head(old)
    message: dict[str, Any] = {name: value for name, value in head.items() if value != before[name]}
    message["best"] = new.best
    same = new.looks == old.looks and set(new.y_axes) == set(old.y_axes)
    if same:
        message |= {"layout": new.layout} if new.layout != old.layout else {}
        message["x_axes"] = _axes(_changed(old.x_axes, new.x_axes))
        message["y_axes"] = {name: _axes(_changed(old.y_axes[name], axes)) for name, axes in new.y_axes.items()}
    else:
        message |= _look(new)
    points, buffers = [], Buffers()
    for curve, columns in enumerate(new.columns):
        keep = _same(old.columns[curve], columns) if same else 0
        if not same or keep < max(old.columns[curve].rows.size, columns.rows.size):
            points.append({"curve": curve, "keep": keep})
            buffers.extend(_arrays(columns, keep))
    return {**message, "points": points, **_redrawn(old.picture, new.picture, buffers)}, buffers


def _head(state: PanelState) -> dict[str, Any]:
    header = state.header
    return {
        "header": {**header._asdict(), "facts": [list(fact) for fact in header.facts], "line": header.line()},
        "buttons": [button._asdict() for button in state.buttons],
        "legend": [entry._asdict() for entry in state.legend],
        "hint": state.hint,
        "cursor": state.cursor,
    }


def _look(state: PanelState) -> dict[str, Any]:
    return {
        "layout": state.layout,
        "looks": list(state.looks),
        "x_axes": _axes(state.x_axes),
        "y_axes": {name: _axes(axes) for name, axes in state.y_axes.items()},
    }


def _axes(axes: Mapping[str, Axis]) -> dict[str, Any]:
    return {
        name: {"log": axis.log, "range": list(axis.range), "ticks": list(axis.ticks), "labels": list(axis.labels)}
        for name, axis in axes.items()
    }


def _changed(old: Mapping[str, Axis], new: Mapping[str, Axis]) -> dict[str, Axis]:
    return {name: axis for name, axis in new.items() if old.get(name) != axis}


def _arrays(columns: Columns, start: int) -> Buffers:
    arrays: Sequence[Any] = (columns.iteration, columns.calls, columns.seconds, columns.y, columns.priced)
    return [np.ascontiguousarray(array[start:]).tobytes() for array in arrays if array is not None]


def _same(old: Columns, new: Columns) -> int:
    """How many points at the beginning are the same."""
    common = min(old.rows.size, new.rows.size)
    differ = (old.rows[:common] != new.rows[:common]) | (old.y[:common] != new.y[:common])
    return int(np.argmax(differ)) if differ.any() else common


# The picture beside the curves


def _redrawn(old: Sketch | None, new: Sketch | None, buffers: Buffers) -> dict[str, Any]:
    """What of the picture is new; its arrays are put behind those of the curves."""
    if new is None:
        return {} if old is None else {"picture": None}
    shown = () if old is None else old.traces
    keep = next((place for place, pair in enumerate(zip(shown, new.traces, strict=False)) if not _equal(*pair)), None)
    keep = min(len(shown), len(new.traces)) if keep is None else keep
    same = old is not None and _equal(old._replace(traces=()), new._replace(traces=()))
    if same and keep == len(shown) == len(new.traces):
        return {}

    def stored(data: bytes) -> int:
        buffers.append(data)
        return len(buffers) - 1

    fresh = new._replace(traces=new.traces[keep:])
    return {"picture": {"keep": keep, **_packed(fresh._asdict(), stored)}}


def _packed(value: Any, stored: Callable[[bytes], Any]) -> Any:
    """A part of a figure as JSON; `stored` says what stands for the bytes of an array."""
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.name, "shape": value.shape, "bytes": stored(np.ascontiguousarray(value).tobytes())}
    if isinstance(value, Mapping):
        return {name: _packed(part, stored) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(part, stored) for part in value]
    return value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return type(one) is type(other) and bool(one == other)
